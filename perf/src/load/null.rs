//! The null server: a FUSE file system that answers from memory and does nothing else.
//!
//! It is laid out as `perf load fstat --existing --files 1` wants it: a directory for each client, a file in each. The
//! kernel may remember nothing about them, so that each question for attributes is asked: the time of one is that of a
//! round trip through our engine, the limit of any operation that is not cached.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cntr::engine::{
    Attributes, Config, Context, Entry, Errno, FileHandle, FileSystem, NodeId, Result,
};
use fuse_proto::fuse_attr;
use nix::sys::stat::SFlag;

use crate::served::{self, Served};

/// Mount a FUSE server that answers from memory: the limit of what a server can reach
#[derive(clap::Args, Clone, Debug)]
pub struct NullArgs {
    /// Directory to mount it on
    pub mount_point: PathBuf,
    /// Threads that fetch requests [default: one per CPU]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
}

/// The file system. Client K has the directory 2 + 2 K, and its file the node after that.
struct NullFs;

impl NullFs {
    fn attr(node: NodeId) -> fuse_attr {
        let (mode, nlink) = match node {
            NodeId(odd) if odd % 2 == 1 && node != NodeId::ROOT => {
                (SFlag::S_IFREG.bits() | 0o644, 1)
            }
            _ => (SFlag::S_IFDIR.bits() | 0o755, 2),
        };
        fuse_attr {
            ino: node.0,
            mode,
            nlink,
            blksize: 4096,
            ..Default::default()
        }
    }
}

impl FileSystem for NullFs {
    fn lookup(&self, _cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<Entry> {
        let node = if parent == NodeId::ROOT {
            let client = name.to_str().and_then(|name| name.strip_prefix("client-"));
            let client = client.and_then(|number| number.parse::<u32>().ok());
            2 + 2 * u64::from(client.ok_or(Errno::ENOENT)?)
        } else {
            parent.0 + 1
        };
        Ok(Entry {
            node: NodeId(node),
            generation: 0,
            attr: NullFs::attr(NodeId(node)),
            entry_ttl: Duration::ZERO,
            attr_ttl: Duration::ZERO,
        })
    }

    fn forget(&self, _node: NodeId, _lookups: u64) {}

    fn getattr(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        _fh: Option<FileHandle>,
    ) -> Result<Attributes> {
        Ok(Attributes {
            attr: NullFs::attr(node),
            ttl: Duration::ZERO,
        })
    }

    fn release(&self, _node: NodeId, _fh: FileHandle, _flock_owner: Option<u64>) {}

    fn releasedir(&self, _node: NodeId, _fh: FileHandle) {}
}

/// Mounts it and serves on threads of this process, which must not fork from now on.
///
/// # Errors
/// It cannot be mounted.
pub fn start(mount_point: &Path, workers: Option<usize>) -> anyhow::Result<Served> {
    let config = Config {
        workers,
        ..Config::default()
    };
    Served::start(NullFs, "null", config, mount_point)
}

/// Runs `perf null`: serves until it is unmounted or a signal asks for the end.
///
/// # Errors
/// It cannot be mounted.
pub fn run(args: &NullArgs) -> anyhow::Result<ExitCode> {
    served::until_the_end(&args.mount_point, |mount_point| {
        start(mount_point, args.workers)
    })
}
