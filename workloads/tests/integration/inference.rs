//! `bench infer` with what `cargo xtask models` fetched; without it the errors say what to do.
#![cfg(feature = "infer")]

use std::{path::PathBuf, process::Command};

use serde_json::Value;

fn infer(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.arg("infer").args(line.split(' ')).env_remove("ORT_DYLIB_PATH").env_remove("GPUOS_MODELS");
    command
}

/// What was fetched, from where this program lies.
fn models() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().parent().unwrap().parent().unwrap().join("models")
}

#[test]
fn both_models_give_what_pytorch_gives() {
    if !models().join("libonnxruntime.so").exists() {
        let required = std::env::var("GPUOS_REQUIRE_BACKENDS").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "infer"), "nothing in {}", models().display());
        eprintln!("SKIP: nothing in {}; `cargo xtask models` fetches it", models().display());
        return;
    }
    // It keeps no diary.
    let home = tempfile::tempdir().unwrap();
    let output = infer("--model resnet18 --iters 0 --json").env("HOME", home.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "ONNX Runtime wrote into the home folder");
    for line in [
        "--model resnet18 --iters 2 --warmup 1",
        "--model minilm --batch 5 --iters 3 --threads 1",
        "--model minilm --iters 0",
        "--model resnet34 --iters 1 --warmup 0",
        "--model distilbert --batch 2 --iters 1 --warmup 0",
    ] {
        let output = infer(&format!("{line} --json")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["error"].as_f64().unwrap() <= 1e-4, "{line}: {report}");
        assert_eq!(report["iters"] == 0, report["latency"].is_null(), "{line}");
        assert!(report["runtime"].as_str().unwrap().starts_with("ONNX Runtime 1."), "{report}");
    }
    let output = infer("--model minilm --backend cuda").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() || error.contains("cannot execute on CUDA") && error.contains("onnxruntime-gpu"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_named_with_the_command_that_fetches_it() {
    let complaint = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let nowhere = complaint(infer("--model minilm").env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so"));
    assert!(nowhere.contains("/nowhere/libonnxruntime.so") && nowhere.contains("cargo xtask models"), "{nowhere}");
    let foreign = complaint(infer("--model minilm").env("ORT_DYLIB_PATH", "libm.so.6"));
    assert!(foreign.contains("does not export `OrtGetApiBase`"), "{foreign}");
    if models().join("libonnxruntime.so").exists() {
        let empty = tempfile::tempdir().unwrap();
        let library = models().join("libonnxruntime.so");
        let none = complaint(infer("--model minilm").env("ORT_DYLIB_PATH", &library).env("GPUOS_MODELS", empty.path()));
        assert!(none.contains("no models") && none.contains("GPUOS_MODELS"), "{none}");
        let damaged = empty.path().join("minilm");
        std::fs::create_dir(&damaged).unwrap();
        std::fs::write(damaged.join("tokenizer.json"), "{}").unwrap();
        let broken =
            complaint(infer("--model minilm").env("ORT_DYLIB_PATH", &library).env("GPUOS_MODELS", empty.path()));
        assert!(broken.contains("cannot use") && broken.contains("tokenizer.json"), "{broken}");
    }
}
