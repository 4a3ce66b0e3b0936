//! A minimal `/dev`: a tmpfs with the devices every program expects, an own devpts, `shm`.
//!
//! For `cntr run`, and for sessions whose container has no usable `/dev`. Device nodes are made where that is allowed and
//! bound from the host's `/dev` where it is not (in a user namespace).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmodat, makedev, mkdirat, mknodat};
use nix::unistd::symlinkat;

use crate::sys::mount::{self, FsContext, MountAttr, Submounts};

/// Devices: name, major and minor number.
const NODES: &[(&str, u64, u64)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The file systems of a minimal `/dev`, attached nowhere yet.
pub struct Devices {
    tree: OwnedFd,
    pts: OwnedFd,
    bound: Vec<(&'static str, OwnedFd)>,
}

impl Devices {
    /// Makes the file systems. Must be called where the host's `/dev` is still visible.
    ///
    /// # Errors
    /// What was being made, and why it could not be.
    pub fn new() -> Result<Devices, (String, io::Error)> {
        let at = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| (what, error)
        };
        let context = FsContext::open(c"tmpfs").map_err(at("tmpfs"))?;
        for (key, value) in [
            (c"source", c"cntr-dev"),
            (c"mode", c"755"),
            (c"size", c"65536k"),
        ] {
            context.set(key, value).map_err(at("tmpfs"))?;
        }
        let tree = context
            .mount(MountAttr::NOSUID | MountAttr::NOEXEC)
            .map_err(at("tmpfs"))?;
        let mut bound = Vec::new();
        for &(name, major, minor) in NODES {
            let mode = Mode::from_bits_truncate(0o666);
            match mknodat(&tree, name, SFlag::S_IFCHR, mode, makedev(major, minor)) {
                Ok(()) => chmod(tree.as_fd(), name, 0o666).map_err(at(name))?,
                Err(nix::errno::Errno::EPERM) => {
                    mknodat(&tree, name, SFlag::S_IFREG, mode, 0)
                        .map_err(|error| at(name)(error.into()))?;
                    let path = CString::new(format!("/dev/{name}")).expect("names have no NUL");
                    let root = open_path("/").map_err(at(name))?;
                    bound.push((
                        name,
                        mount::clone_tree(root.as_fd(), &path, Submounts::Leave)
                            .map_err(at(name))?,
                    ));
                }
                Err(error) => return Err(at(name)(error.into())),
            }
        }
        for &(name, target) in LINKS {
            symlinkat(target, &tree, name).map_err(|error| at(name)(error.into()))?;
        }
        for (name, mode) in [("pts", 0o755), ("shm", 0o1777)] {
            mkdirat(&tree, name, Mode::from_bits_truncate(mode))
                .map_err(|error| at(name)(error.into()))?;
            chmod(tree.as_fd(), name, mode).map_err(at(name))?;
        }
        let context = FsContext::open(c"devpts").map_err(at("devpts"))?;
        for (key, value) in [
            (c"source", c"cntr-pts"),
            (c"ptmxmode", c"666"),
            (c"mode", c"620"),
        ] {
            context.set(key, value).map_err(at("devpts"))?;
        }
        let pts = context
            .mount(MountAttr::NOSUID | MountAttr::NOEXEC)
            .map_err(at("devpts"))?;
        Ok(Devices { tree, pts, bound })
    }

    /// Attaches everything at the directory `path` below `dir`.
    ///
    /// # Errors
    /// What could not be attached, and why.
    pub fn attach(
        &self,
        dir: BorrowedFd<'_>,
        path: &std::ffi::CStr,
    ) -> Result<(), (String, io::Error)> {
        mount::attach(self.tree.as_fd(), dir, path).map_err(|error| ("/dev".to_owned(), error))?;
        mount::attach(self.pts.as_fd(), self.tree.as_fd(), c"pts")
            .map_err(|error| ("/dev/pts".to_owned(), error))?;
        for (name, device) in &self.bound {
            let target = CString::new(*name).expect("names have no NUL");
            mount::attach(device.as_fd(), self.tree.as_fd(), &target)
                .map_err(|error| (format!("/dev/{name}"), error))?;
        }
        Ok(())
    }
}

/// Opens `path` without access to its contents.
fn open_path(path: &str) -> io::Result<OwnedFd> {
    Ok(openat(
        nix::fcntl::AT_FDCWD,
        path,
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

/// The umask must not decide who may write to `/dev/null`.
fn chmod(dir: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(mode);
    Ok(fchmodat(
        dir,
        name,
        mode,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )?)
}
