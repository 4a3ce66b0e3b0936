//! The minimal server: it shows a directory with the least that a FUSE server can do, and is no example of a good one.
//!
//! Its time for an operation is the limit that other servers are measured against: the round trip, the native operation, and
//! the system calls without which the kernel's answer could not be given - most often one: `unlinkat` for UNLINK, `openat` and
//! `fstat` for LOOKUP and CREATE. It runs on our engine. What it leaves out, and why:
//!
//! * **A table of what is known.** A node is a descriptor, its number that of the descriptor, and an array leads from one to the
//!   other; only the number of an inode is looked up. It knows as many nodes as it may have descriptors.
//! * **READDIRPLUS.** The workloads whose limit this is list directories that the kernel knows.
//! * **Watching the host.** Names and attributes are believed as long as our server lets them be believed, so that the kernel asks as
//!   often; but here nobody takes them back when the host changes something.
//! * **Callers.** Whatever is made belongs to root, and set-user-id bits stay. The kernel checks permissions by mode.
//! * **Open files.** A file is opened on the host once, when it is first read or written, and stays open until it is forgotten. An
//!   OPEN that does not truncate asks the host for nothing else; O_SYNC and O_APPEND are the kernel's.
//! * **Passthrough**, unless it is asked for: to register a file costs more than to make it.
//! * **Locks, fallocate, ioctl, ACLs** and whatever else is not needed for the workloads: `ENOSYS`, which is asked once.
//!
//! | file | what it is |
//! |---|---|
//! | `node` | an inode of the host: its descriptors |
//! | `nodes` | all of them |
//! | `attributes` | what fstat(2) says, for the kernel |
//! | `listing` | reads directories |
//! | `filesystem` | answers requests |

mod attributes;
mod filesystem;
mod listing;
mod node;
mod nodes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use cntr::engine::{Config, Errno, Result, Splicing, Transport};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

use crate::served::{self, Served};
use filesystem::MinimalFs;

/// Descriptors that are enough for any workload; each has a place in the array.
const MOST: u64 = 1 << 20;

/// How requests travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// FUSE over io_uring where it can be had
    #[default]
    Auto,
    /// FUSE over io_uring, or not at all
    Uring,
    /// Reads and writes of /dev/fuse
    Classic,
}

impl Way {
    fn transport(self) -> Transport {
        match self {
            Way::Auto => Transport::Auto,
            Way::Uring => Transport::IoUring,
            Way::Classic => Transport::Classic,
        }
    }
}

/// Serve a directory with the least that a FUSE server can do: what other servers are measured against
#[derive(clap::Args, Clone, Debug)]
pub struct MinimalArgs {
    /// Directory to show
    pub source: PathBuf,
    /// Directory to mount it on
    pub mount_point: PathBuf,
    /// How requests travel
    #[arg(long, value_enum, default_value_t)]
    pub transport: Way,
    /// Let the kernel read and write regular files by itself
    #[arg(long)]
    pub passthrough: bool,
    /// Threads that fetch requests [default: one per CPU]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
}

/// Runs `perf minimal`: serves until it is unmounted or a signal asks for the end.
///
/// # Errors
/// The directory cannot be opened or mounted.
pub fn run(args: &MinimalArgs) -> anyhow::Result<ExitCode> {
    // The kernel has applied the caller's.
    umask(Mode::empty());
    let descriptors = raise_limit()?;
    served::until_the_end(&args.mount_point, |mount_point| {
        start(args, mount_point, descriptors)
    })
}

fn start(args: &MinimalArgs, mount_point: &Path, descriptors: usize) -> anyhow::Result<Served> {
    let fs = MinimalFs::new(&args.source, descriptors, args.passthrough)
        .with_context(|| format!("cannot serve {}", args.source.display()))?;
    let config = Config {
        transport: args.transport.transport(),
        // Data is not what it is for.
        splicing: Splicing::Never,
        workers: args.workers,
        ..Config::default()
    };
    Served::start(fs, "minimal", config, mount_point)
}

/// Raises the limit on descriptors as far as it goes; returns how many there may be.
fn raise_limit() -> anyhow::Result<usize> {
    let failed = "cannot tell the limit on descriptors";
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context(failed)?;
    let allowed = fs::read_to_string("/proc/sys/fs/nr_open")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .map_or(hard, |allowed| allowed.min(MOST));
    // Beyond the hard limit only with CAP_SYS_RESOURCE.
    let raised = setrlimit(Resource::RLIMIT_NOFILE, allowed, allowed.max(hard))
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard.min(MOST), hard));
    raised.context("cannot raise the limit on descriptors")?;
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).context(failed)?;
    usize::try_from(soft).context(failed)
}

/// The outcome of a system call as the kernel is told it.
fn host<T>(outcome: rustix::io::Result<T>) -> Result<T> {
    outcome.map_err(|errno| Errno::new(errno.raw_os_error()))
}
