//! A file of roles, and the filters and names that are looked up in it.

#![no_main]

use gpuos_decode::roles::Roles;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As `Roles::read` does, which refuses other bytes.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(roles) = Roles::parse(text) else { return };
    for number in [0, 202, u32::MAX] {
        let _ = (roles.role(number), roles.category(number));
    }
    let words: Vec<String> = text.split(['"', '\n', ' ']).take(3).map(str::to_owned).collect();
    for word in words {
        let _ = roles.select(&[word]);
    }
});
