//! `gpuos-trace ioctls`: commands of drivers are found by word, by number and for a version. No GPU, no root.

use std::process::Command;

/// What it prints, and whether it found anything.
fn ioctls(words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gpuos-trace")).arg("ioctls").args(words).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_command_is_found_by_any_of_its_numbers() {
    for (number, name) in [
        // As a dump of `ioctl` prints it, as the table has it, as uvm_ioctl.h writes it.
        ("0xc020462a", "NV_ESC_RM_CONTROL"),
        ("0x2a", "NV_ESC_RM_CONTROL"),
        ("33", "UVM_MAP_EXTERNAL_ALLOCATION"),
        ("0x4b0c", "AMDKFD_IOC_WAIT_EVENTS"),
        ("0xc0184b0c", "AMDKFD_IOC_WAIT_EVENTS"),
        ("0x20800102", "NV2080_CTRL_CMD_GPU_GET_INFO_V2"),
    ] {
        let (found, text) = ioctls(&[number]);
        assert!(found && text.contains(&format!(" {name} ")), "{number}: {text}");
    }
    let (found, text) = ioctls(&["0x20808159"]);
    assert!(!found && text.contains("it is opaque 0x20808159 (class 0x2080"), "{text}");
    let (found, text) = ioctls(&["nonsense"]);
    assert!(!found && text.contains("no command matches `nonsense`") && text.contains("hint: "), "{text}");
}

#[test]
fn versions_between_and_after_those_of_the_tables_are_like_the_one_before() {
    // The last source of that branch that was read is 580.142.
    for (version, name) in [
        ("580.159.04", "FIFO_BIND_ENGINES"),
        ("580", "FIFO_BIND_ENGINES"),
        ("595.71.05", "UVM_FREE"),
        ("600", "UVM_FREE"),
    ] {
        let (found, text) = ioctls(&["--driver", version, name]);
        assert!(found && text.contains(name), "{version}: {text}");
    }
    // Blackwell came years later.
    let (found, text) = ioctls(&["--driver", "515.43.04", "--table", "nvidia-class", "BLACKWELL"]);
    assert!(!found, "{text}");
    assert!(ioctls(&["--driver", "580", "--table", "nvidia-class", "BLACKWELL"]).0);
}
