//! The command line of `perf load`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::operation::Operation;

/// Generate load in a directory and measure it
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LoadArgs {
    /// What to do
    #[arg(value_enum)]
    pub operation: Operation,
    /// Directory to work in; each client makes a subdirectory of its own
    pub dir: PathBuf,
    /// Clients that work at once, each a thread
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub clients: u32,
    /// Names that each client works on, or that it makes or removes before the next batch is prepared
    #[arg(long, short, value_parser = clap::value_parser!(u64).range(1..))]
    pub files: Option<u64>,
    /// Spread the names over directories of this many; 0 puts all into one
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub per_directory: u64,
    /// Time to measure, without what is prepared in between [default: 1 unless --operations is given]
    #[arg(long, short, value_parser = positive)]
    pub seconds: Option<f64>,
    /// Operations of all clients together; ends earlier if --seconds is given, too
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub operations: Option<u64>,
    /// Time to work before the measurement
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS", value_parser = not_negative)]
    pub warm_up: f64,
    /// Open loop: start this many operations a second, of all clients together, whether or not earlier ones have
    /// ended. Latency counts from the time at which an operation was due. Not for data
    #[arg(long, value_name = "OPS_PER_SECOND", value_parser = positive)]
    pub rate: Option<f64>,
    /// When the operations of an open loop are due
    #[arg(long, value_enum, default_value_t = Arrivals::Even)]
    pub arrivals: Arrivals,
    /// Open loop: time to watch the clock before an operation is due rather than sleep, in microseconds
    #[arg(long, default_value_t = 50, value_name = "US")]
    pub spin: u64,
    /// Start of all random numbers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Bytes of one read or write
    #[arg(long, short, default_value_t = 4096, value_name = "BYTES", value_parser = bytes)]
    pub block: u64,
    /// Data: operations that each client has in flight
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub depth: u32,
    /// Data: bytes of each client's file
    #[arg(long, default_value = "64M", value_name = "BYTES", value_parser = bytes)]
    pub size: u64,
    /// Data: past the page cache (O_DIRECT)
    #[arg(long)]
    pub direct: bool,
    /// Data: make every Nth write durable (fsync); the time counts for that write
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub fsync: Option<u64>,
    /// Data: how operations are given to the kernel
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub engine: EngineChoice,
    /// The files are there, from an earlier run with --keep: neither make nor remove them
    #[arg(long)]
    pub existing: bool,
    /// Leave the files
    #[arg(long)]
    pub keep: bool,
    /// Lookup: the names are not known already, do not drop them; ends after one pass
    #[arg(long)]
    pub no_drop: bool,
    /// Meter these processes, too: the servers
    #[arg(long, value_name = "PID")]
    pub meter_pid: Vec<i32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  perf load create --clients 2 --seconds 3 /mnt/dir
  perf load read-small --rate 2000 /mnt/dir                   open loop: no coordinated omission
  perf load read-random --direct --depth 16 --size 1G /mnt/dir
  perf load write-random --fsync 1 --json /mnt/dir            every write durable";

/// When operations of an open loop are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// At equal distances
    Even,
    /// At random and independent of each other
    Poisson,
}

/// How operations on data are to be given to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// By io_uring, or by threads where the kernel does not allow it
    Auto,
    /// By io_uring
    IoUring,
    /// By threads with pread and pwrite
    Threads,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("not a number above 0".to_owned()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("not a number of 0 or more".to_owned()),
    }
}

/// Bytes, with K, M or G for powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']) {
        digits if digits.len() == text.len() => (digits, 0),
        digits => match text[digits.len()..].to_ascii_lowercase().as_str() {
            "k" => (digits, 10),
            "m" => (digits, 20),
            "g" => (digits, 30),
            _ => return Err("not a size: write 4096, 4K, 64M or 1G".to_owned()),
        },
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|value| value.checked_mul(1 << shift))
        .filter(|value| *value > 0)
        .ok_or_else(|| "not a size: write 4096, 4K, 64M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("4k"), Ok(4096));
        assert_eq!(bytes("64M"), Ok(64 << 20));
        for bad in ["", "0", "M", "4KK", "1T", "99999999999G", "-1"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_finite() {
        assert_eq!(positive("0.5"), Ok(0.5));
        for bad in ["0", "-1", "inf", "NaN", "x"] {
            assert!(positive(bad).is_err(), "{bad}");
        }
        assert_eq!(not_negative("0"), Ok(0.0));
    }
}
