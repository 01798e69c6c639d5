//! The compiled BPF object, committed beside its sources, and what it says of itself.

use gpuos_tracer_abi::{ABI_SECTION, ABI_VERSION, FINGERPRINT_SECTION};
use object::{Object as _, ObjectSection as _};

use super::error::LoadError;

/// The object that `cargo xtask build-ebpf` made, aligned as aya needs it.
#[cfg(not(feature = "bpf-log"))]
pub static BYTES: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer-ebpf/bytecode/gpuos-trace.bpf.o"));

#[cfg(no_log_object)]
compile_error!(
    "the feature `bpf-log` needs an object that is not committed: run `cargo xtask setup --bpf`, then `cargo xtask build-ebpf --log`"
);

/// Nothing: the error above says why.
#[cfg(no_log_object)]
pub static BYTES: &[u8] = &[];

/// The one that `cargo xtask build-ebpf --log` made.
#[cfg(all(feature = "bpf-log", not(no_log_object)))]
pub static BYTES: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer-ebpf/bytecode/gpuos-trace-log.bpf.o"));

fn section<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    object::File::parse(object).ok()?.section_by_name(name)?.data().ok()
}

/// Refuses an object that was built for another contract.
///
/// # Errors
/// [`LoadError::ForeignObject`] when the section is missing or names another version.
pub fn check_abi(object: &[u8]) -> Result<(), LoadError> {
    let found = section(object, ABI_SECTION).and_then(|data| data.try_into().ok()).map(u32::from_le_bytes);
    if found == Some(ABI_VERSION) { Ok(()) } else { Err(LoadError::ForeignObject { found }) }
}

/// SHA-256 (hex) of the sources that the object was built from, `None` when it says nothing.
#[must_use]
pub fn fingerprint(object: &[u8]) -> Option<&str> {
    std::str::from_utf8(section(object, FINGERPRINT_SECTION)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_is_ours() {
        check_abi(BYTES).unwrap();
        assert_eq!(fingerprint(BYTES).unwrap().len(), 64);
        let has_log = memchr::memmem::find(BYTES, b"AYA_LOGS").is_some();
        assert_eq!(has_log, cfg!(feature = "bpf-log"));
    }

    #[test]
    fn another_abi_is_refused() {
        let mut foreign = BYTES.to_vec();
        let at = section(BYTES, ABI_SECTION).unwrap().as_ptr() as usize - BYTES.as_ptr() as usize;
        foreign[at..at + 4].copy_from_slice(&(ABI_VERSION + 1).to_le_bytes());
        let error = check_abi(&foreign).unwrap_err();
        assert!(matches!(error, LoadError::ForeignObject { found: Some(v) } if v == ABI_VERSION + 1));
        assert!(check_abi(b"not an object").is_err());
    }
}
