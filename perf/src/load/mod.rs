//! The load generator.
//!
//! A program of its own inside this one: workloads start it by its command line, so that it can run in a session.
//!
//! | file | what it is |
//! |---|---|
//! | `arguments` | the command line |
//! | `operation` | what can be measured |
//! | `pace` | closed and open loops, latencies |
//! | `gate` | all clients start at the same moment |
//! | `tree` | the names that are worked on |
//! | `caches` | makes the kernel forget names |
//! | `client` | one client of metadata operations |
//! | `metadata` | metadata operations, on threads |
//! | `data`, `uring`, `threads` | data operations, by io_uring or on threads |
//! | `outcome` | what it brought |
//! | `null` | a FUSE server that answers from memory: the limit of what a server can reach |

mod arguments;
pub mod caches;
mod client;
mod data;
mod gate;
mod metadata;
pub mod null;
mod operation;
mod outcome;
mod pace;
mod threads;
pub mod tree;
mod uring;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use arguments::{Arrivals, EngineChoice, LoadArgs};
pub use data::make_files;
pub use metadata::make_trees;
pub use operation::{Effect, Item, Operation};
pub use outcome::{Engine, Kept, Outcome};

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An operation failed.
    #[error("{operation} of {path} failed")]
    Operation {
        /// The operation.
        operation: Operation,
        /// What it was done to.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The files to work on cannot be made, or are not there.
    #[error("cannot prepare {path}")]
    Prepare {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Names cannot be dropped.
    #[error(
        "cannot make the kernel forget names through /proc/sys/vm/drop_caches: run it as root, or drop them outside and use --no-drop"
    )]
    Drop(#[source] io::Error),
    /// There is no ring.
    #[error(
        "io_uring cannot be used (is kernel.io_uring_disabled set, or seccomp in the way?); --engine threads does without"
    )]
    Ring(#[source] io::Error),
    /// Arguments that do not fit together.
    #[error("{0}")]
    Arguments(&'static str),
}

/// Runs `perf load`.
///
/// # Errors
/// See [`LoadError`]; or the outcome cannot be printed.
pub fn run(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let outcome = measure(args)?;
    let text = if args.json {
        serde_json::to_string(&outcome).context("cannot print the outcome")?
    } else {
        outcome.table().trim_fmt()
    };
    writeln!(io::stdout(), "{text}").context("cannot print the outcome")?;
    Ok(ExitCode::SUCCESS)
}

/// Generates the load and measures it.
///
/// # Errors
/// See [`LoadError`].
pub fn measure(args: &LoadArgs) -> Result<Outcome, LoadError> {
    check(args)?;
    // A directory that is mistyped is not to be made.
    let found = fs::metadata(&args.dir).and_then(|found| match found.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    found.map_err(|source| LoadError::Prepare {
        path: args.dir.clone(),
        source,
    })?;
    // Each client may have files open; the soft limit protects programs that use select(2), which this one does not.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let result = if args.operation.is_data() {
        data::measure(args)
    } else {
        metadata::measure(args)
    };
    if args.keep || args.existing {
        return result;
    }
    // A failure of the measurement itself is told first.
    let removed = remove(args);
    result.and_then(|outcome| removed.map(|()| outcome))
}

/// Removes what the clients have made, all of it that can be removed.
fn remove(args: &LoadArgs) -> Result<(), LoadError> {
    let mut result = Ok(());
    for client in 0..args.clients {
        let path = tree::client_dir(&args.dir, client);
        let removed = fs::remove_dir_all(&path);
        result = result.and(removed.map_err(|source| LoadError::Prepare { path, source }));
    }
    result
}

fn check(args: &LoadArgs) -> Result<(), LoadError> {
    let operation = args.operation;
    let wrong = |condition: bool, message| match condition {
        true => Err(LoadError::Arguments(message)),
        false => Ok(()),
    };
    wrong(
        operation.is_data() && args.rate.is_some(),
        "--rate is for metadata operations: --depth says how much is in flight for data",
    )?;
    wrong(
        args.fsync.is_some() && !operation.writes(),
        "--fsync is for operations that write data",
    )?;
    wrong(
        operation == Operation::Readdir && args.per_directory > 0,
        "--per-directory is not for readdir: it reads one directory",
    )?;
    wrong(
        args.no_drop && operation != Operation::Lookup,
        "--no-drop is for lookup",
    )?;
    wrong(
        args.no_drop && args.warm_up > 0.0,
        "--no-drop does not go with --warm-up: the names would be known after it",
    )?;
    wrong(
        args.existing && matches!(operation.effect(), Effect::Makes | Effect::Removes),
        "--existing is not for operations that make or remove names",
    )
}

/// Seconds to measure; none if only the number of operations ends it.
fn seconds(args: &LoadArgs) -> Option<f64> {
    match (args.seconds, args.operations) {
        (None, None) => Some(1.0),
        (seconds, _) => seconds,
    }
}

/// The part of `total` that belongs to one of `clients`.
fn share(total: u64, clients: u32, client: u32) -> u64 {
    let clients = u64::from(clients);
    total / clients + u64::from(u64::from(client) < total % clients)
}

/// Adds the cost of a further stretch of time.
fn add_usage(sum: &mut crate::result::Usage, more: &crate::result::Usage) {
    sum.seconds += more.seconds;
    sum.cpu_total += more.cpu_total;
    sum.switches_total += more.switches_total;
    sum.cpu_server =
        Some(sum.cpu_server.unwrap_or(0.0)).and_then(|sum| Some(sum + more.cpu_server?));
    sum.switches_server =
        Some(sum.switches_server.unwrap_or(0)).and_then(|sum| Some(sum + more.switches_server?));
}
