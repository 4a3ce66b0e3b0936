//! The null server: a FUSE file system that answers from memory and does nothing else.
//!
//! It is laid out as `perf load fstat --existing --files 1` wants it: a directory for each client, a file in each. The
//! kernel may remember nothing about them, so that each question for attributes is asked: the time of one is that of a
//! round trip through our engine, the limit of any operation that is not cached.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cntr::engine::mount::{DetachedMount, MountOptions};
use cntr::engine::{
    Attributes, Config, Context, Entry, Errno, FileHandle, FileSystem, NodeId, Result, Session,
};
use fuse_proto::fuse_attr;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::SFlag;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What the server prints once it serves.
pub const READY: &str = "ready";

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

/// A mounted null server; unmounted when dropped.
pub struct NullServer {
    session: Option<Session>,
    mount_point: PathBuf,
}

impl NullServer {
    /// Mounts it and serves on threads of this process, which must not fork from now on.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn start(mount_point: &Path, workers: Option<usize>) -> anyhow::Result<NullServer> {
        let options = MountOptions {
            source: "null".to_owned(),
            subtype: Some("perf-null".to_owned()),
            ..MountOptions::default()
        };
        let detached = DetachedMount::new(&options)?;
        let config = Config {
            root: detached.root,
            workers,
            ..Config::default()
        };
        let session = Session::start(Arc::new(NullFs), detached.device, &config)?;
        session.settle(detached.mount.as_fd())?;
        let mount = DetachedMount::tree(detached.mount, detached.root)?;
        DetachedMount::attach_at(mount.as_fd(), mount_point)?;
        Ok(NullServer {
            session: Some(session),
            mount_point: mount_point.to_owned(),
        })
    }

    /// Something to read what it has served with.
    pub fn monitor(&self) -> Option<cntr::engine::Monitor> {
        self.session.as_ref().map(Session::monitor)
    }

    /// Waits until somebody has unmounted it.
    ///
    /// # Errors
    /// Threads are stuck.
    pub fn join(mut self) -> anyhow::Result<()> {
        match self.session.take() {
            Some(session) => session.join().context("the null server did not end well"),
            None => Ok(()),
        }
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = umount2(&self.mount_point, MntFlags::MNT_DETACH);
            let _ = session.join();
        }
    }
}

/// Runs `perf null`: serves until it is unmounted or a signal asks for the end.
///
/// # Errors
/// It cannot be mounted.
pub fn run(args: &NullArgs) -> anyhow::Result<ExitCode> {
    let mount_point = args
        .mount_point
        .canonicalize()
        .with_context(|| format!("mount point {}", args.mount_point.display()))?;
    if !mount_point.is_dir() {
        bail!("mount point {} is not a directory", mount_point.display());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
    let server = NullServer::start(&mount_point, args.workers)?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = umount2(&mount_point, MntFlags::MNT_DETACH);
        }
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}")
        .and_then(|()| stdout.flush())
        .context("cannot tell that it is mounted")?;
    server.join()?;
    Ok(ExitCode::SUCCESS)
}
