//! Tests of the requests, without a kernel in between: what it would ask for is called directly.

mod bounds;
mod changes;
mod creation;
mod directories;
mod hidden;
mod locks;
mod shadows;
mod watch;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fuse_proto::dirent::{DirentPlusWriter, DirentWriter};
use fuse_proto::flags::InitFlags;
use fuse_proto::fuse_file_lock;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::*;
use crate::engine::{
    Context, Creation, Data, Detached, Entry, FileHandle, FileSystem, IoctlRequest, LockRequest,
    Opened, Payload, ReadRequest, Result, SetAttr, WriteRequest,
};
use crate::sys::stat;

/// Says why a test did not run; true if it has to be skipped.
fn not_root() -> bool {
    let skip = !nix::unistd::geteuid().is_root();
    if skip {
        eprintln!("skipped: needs root");
    }
    skip
}

/// Gives the calling thread a mount namespace: what is mounted in it goes away with the thread.
fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
}

fn mount_tmpfs(path: &Path) {
    mount(
        Some("test"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
}

fn open_root(path: &Path) -> OwnedFd {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .unwrap()
        .into()
}

/// A file system over a temporary directory.
struct Served {
    fs: PassthroughFs,
    detached: Detached,
    path: PathBuf,
    _dir: Option<TempDir>,
}

impl Served {
    fn new(dir: TempDir, change: impl FnOnce(&mut Options)) -> Served {
        let mut served = Served::over(dir.path(), change);
        served._dir = Some(dir);
        served
    }

    fn over(path: &Path, change: impl FnOnce(&mut Options)) -> Served {
        let mut options = Options::new(open_root(path));
        change(&mut options);
        let fs = PassthroughFs::new(options).unwrap();
        Served {
            fs,
            detached: Detached::new(),
            path: path.to_owned(),
            _dir: None,
        }
    }

    fn cx(&self) -> Context<'_> {
        self.detached.context(0, 0)
    }

    fn host(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// Looks up all names of `path`; only the last one stays counted.
    fn lookup(&self, path: &str) -> Result<Entry> {
        let mut parent = NodeId::ROOT;
        let mut names = path.split('/').peekable();
        loop {
            let entry = self
                .fs
                .lookup(&self.cx(), parent, OsStr::new(names.next().unwrap()))?;
            if parent != NodeId::ROOT {
                self.fs.forget(parent, 1);
            }
            if names.peek().is_none() || entry.node == NodeId(0) {
                return Ok(entry);
            }
            parent = entry.node;
        }
    }

    fn node(&self, path: &str) -> NodeId {
        self.lookup(path).unwrap().node
    }

    fn names(&self, node: NodeId) -> Vec<String> {
        let opened = self.fs.opendir(&self.cx(), node, 0).unwrap();
        let mut names = Vec::new();
        let mut offset = 0;
        loop {
            let mut buffer = [0; 256];
            let mut out = DirentWriter::new(&mut buffer);
            self.fs
                .readdir(&self.cx(), node, opened.fh, offset, &mut out)
                .unwrap();
            let len = out.len();
            if len == 0 {
                break;
            }
            for dirent in fuse_proto::dirent::Dirents::new(&buffer[..len]) {
                names.push(String::from_utf8_lossy(dirent.name).into_owned());
                offset = dirent.off;
            }
        }
        self.fs.releasedir(node, opened.fh);
        names
    }
}

fn creation(mode: u32, umask: u32) -> Creation<'static> {
    Creation {
        mode,
        umask,
        rdev: 0,
        kill_suidgid: false,
        extensions: Default::default(),
    }
}
