//! What the programs say of their work, for who looks for a fault in them: `cargo xtask build-ebpf --log`. The released
//! object has none of it.

/// Says something with the feature `log`: a level (`warn`, `debug`), a text with `{}`, values.
macro_rules! say {
    ($level:ident, $($word:tt)+) => {{
        #[cfg(feature = "log")]
        ::aya_log_ebpf::$level!((), $($word)+);
    }};
}
pub(crate) use say;
