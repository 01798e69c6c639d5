//! The command line of `bench`.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// One unit of work on one execution stack
///
/// `cpu` and `kernel` do the same work: they add 1 to every 32-bit word of an array, `--iters` times.
/// `alloc` allocates and frees one buffer of the same size as often.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) model: Model,
}

/// Who executes the work.
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// No GPU runtime: the increments are a loop on the CPU
    Cpu(WorkOptions),
    /// A GPU runtime, bookkeeping only: allocate a buffer and free it
    Alloc(RuntimeOptions),
    /// A GPU runtime executes a kernel that does the increments
    Kernel(RuntimeOptions),
}

/// How much work.
#[derive(Clone, Debug, Args)]
pub(crate) struct WorkOptions {
    /// Size of the array or buffer: a number with K, M, G (powers of 1,024) or kB, MB, GB (of 1,000)
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size)]
    pub(crate) bytes: usize,
    /// How often the unit of work is issued; 0 does everything but the timed work
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) iters: u64,
    /// Untimed units of work before
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) warmup: u64,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// How much work, and on what.
#[derive(Clone, Debug, Args)]
pub(crate) struct RuntimeOptions {
    #[command(flatten)]
    pub(crate) work: WorkOptions,
    /// The runtime; auto takes the first that works and says which
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    pub(crate) backend: BackendChoice,
}

/// The execution stacks, in the order in which `auto` tries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendChoice {
    /// The first that works
    Auto,
    /// NVIDIA's driver API
    Cuda,
    /// Any OpenCL platform
    Opencl,
}

fn size(text: &str) -> Result<usize, String> {
    // `64M` means what it means to `dd` and `fio`; `64MB` and `64MiB` are what their authors say.
    let bytes = parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; write a size such as 4096, 64K, 1M or 2GiB"))?;
    usize::try_from(bytes).map_err(|_| "more than this machine can address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(size("0").unwrap(), 0);
        assert_eq!(size("4096").unwrap(), 4096);
        assert_eq!(size("64K").unwrap(), 65_536);
        assert_eq!(size("1M").unwrap(), 1 << 20);
        assert_eq!(size("2GiB").unwrap(), 2 << 30);
        assert!(size("-1").is_err() && size("many").is_err() && size("").is_err());
        assert!(size("99999999999G").is_err());
    }
}
