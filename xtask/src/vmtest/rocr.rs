//! AMD's runtimes, ROCr and HIP, for the guests: Debian's packages, unpacked and never installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::kernels::{Apt, Archive};
use crate::checksum::sha256;

/// ROCr 5.2.3: it runs with the C library of Debian 12 and later, which the guests get from this machine.
const SUITE: [(Archive, &str); 1] = [(Archive::Main, "bookworm")];

const PACKAGES: [&str; 10] = [
    "libamdhip64-5",
    "libhsa-runtime64-1",
    "libhsakmt1",
    "libelf1",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libdrm2",
    "libdrm-amdgpu1",
    "libnuma1",
];

/// What the runtimes load, without the C library and without the compiler that HIP loads for kernels.
const LIBRARIES: [&str; 10] = [
    "libamdhip64.so.5",
    "libhsa-runtime64.so.1",
    "libhsakmt.so.1",
    "libelf.so.1",
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libz.so.1",
    "libdrm.so.2",
    "libdrm_amdgpu.so.1",
    "libnuma.so.1",
];

/// Paths in the guest, in the folder `/rocr`, and here.
pub(super) fn files(cache: &Path) -> Result<Vec<(String, PathBuf)>> {
    // Another list of packages: another folder.
    let folder = cache.join(format!("rocr-{}", &sha256(PACKAGES.join(" ").as_bytes())[..12]));
    if !folder.exists() {
        let unpacked = cache.join("rocr.part");
        let _ = fs::remove_dir_all(&unpacked);
        let apt = Apt::new(&SUITE, &cache.join("apt/rocr"))?;
        apt.update()?;
        apt.unpack("ROCr", &PACKAGES, &unpacked)?;
        fs::rename(&unpacked, &folder)?;
    }
    let find = |name: &&str| {
        let places = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|place| folder.join(place).join(name));
        let path = places.into_iter().find(|path| path.exists());
        let path = path.with_context(|| {
            format!("no {name} in {}\n  hint: `rm -r target/vmtest/rocr*` has it fetched again", folder.display())
        })?;
        Ok((format!("/rocr/{name}"), fs::canonicalize(path)?))
    };
    LIBRARIES.iter().map(find).collect()
}
