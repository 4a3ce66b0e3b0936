//! The session's mounts: the host view as `/`, the container below it, the container's special files over the host's.
//!
//! Everything is attached in a mount namespace of the session's own, from detached mounts, onto mount points that the
//! view itself provides: nothing is made in the container nor on the host, and nothing is left when the session's last
//! process ends.
//!
//! * The container's tree is cloned *before* the namespace is copied (afterwards its descriptor would belong to another
//!   namespace: EINVAL) and made a slave: what is mounted in the container later shows up in the session, never the
//!   other way round. The rest of the session's namespace is private.
//! * `/` becomes the view by pivot_root(2), and the old root is unmounted: the session's mount table then has the view
//!   and the container once each, and there is no old root to escape to, neither by a second chroot(2) nor by joining
//!   the mount namespace again. Where pivot_root is refused (the root is the initial ramfs), chroot(2) has to do.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::bind::{self, Bind};
use super::devices::Devices;
use super::handshake::{Failure, Reporter};
use super::step::Step;
use crate::sys::mount::{self, FsContext, MountAttr, Propagation, Submounts};

/// What a mount point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// A directory.
    Directory,
    /// A file that is no directory.
    File,
}

/// A mount point the view must provide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Absolute path in the session.
    pub path: PathBuf,
    /// What it is.
    pub kind: PointKind,
}

/// What becomes the session's `/dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevSource {
    /// The container's.
    Container,
    /// A minimal one: the container's has no `/dev/null`.
    Minimal,
}

/// The files of the container that replace the host's, below `/etc`.
const FILES: &[&str] = &[
    "etc/passwd",
    "etc/group",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/localtime",
    "etc/timezone",
];

/// What will be mounted where, decided by a look at the container's root before anything is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the container appears in the session.
    pub base: PathBuf,
    /// The container's files over the host's, relative to the root.
    pub files: Vec<&'static str>,
    /// Whether the container has a `/sys`.
    pub sys: bool,
    /// What becomes `/dev`.
    pub dev: DevSource,
}

/// Opens `path` in `root` as a process with that root would: symbolic links cannot leave it.
///
/// # Errors
/// Those of openat2(2).
pub fn open_in(root: BorrowedFd<'_>, path: impl AsRef<Path>, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(root, path.as_ref(), how) {
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// The path that `fd` has below `root`; none if it is outside of it.
#[must_use]
pub fn path_in(root: BorrowedFd<'_>, fd: &impl AsFd) -> Option<PathBuf> {
    let path =
        |fd: BorrowedFd<'_>| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
    let below = path(fd.as_fd())?.strip_prefix(path(root)?).ok()?.to_owned();
    // Joining nothing would append a slash.
    Some(match below.as_os_str().is_empty() {
        true => PathBuf::from("/"),
        false => Path::new("/").join(below),
    })
}

fn kind_in(root: BorrowedFd<'_>, path: &str) -> Option<SFlag> {
    let stat = fstat(open_in(root, path, OFlag::O_PATH).ok()?).ok()?;
    Some(SFlag::from_bits_truncate(
        stat.st_mode & SFlag::S_IFMT.bits(),
    ))
}

impl Plan {
    /// Looks at the container's root.
    #[must_use]
    pub fn new(root: BorrowedFd<'_>, base: PathBuf) -> Plan {
        let files = FILES
            .iter()
            .copied()
            .filter(|path| kind_in(root, path) == Some(SFlag::S_IFREG))
            .collect();
        let usable = kind_in(root, "dev/null") == Some(SFlag::S_IFCHR);
        Plan {
            base,
            files,
            sys: kind_in(root, "sys") == Some(SFlag::S_IFDIR),
            dev: if usable {
                DevSource::Container
            } else {
                DevSource::Minimal
            },
        }
    }

    /// The mount points the view has to provide.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        let directory = |path: &Path| Point {
            path: path.to_owned(),
            kind: PointKind::Directory,
        };
        let mut points = vec![
            directory(&self.base),
            directory(Path::new("/proc")),
            directory(Path::new("/dev")),
        ];
        if self.sys {
            points.push(directory(Path::new("/sys")));
        }
        let file = |path: &&str| Point {
            path: Path::new("/").join(path),
            kind: PointKind::File,
        };
        points.extend(self.files.iter().map(file));
        points
    }

    /// Whether the container says which time zone it is in.
    #[must_use]
    pub fn has_localtime(&self) -> bool {
        self.files.contains(&"etc/localtime")
    }
}

/// `path` as the kernel wants it.
pub(super) fn path_of(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("paths of the plan have no NUL")
}

fn open_directory(path: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(nix::fcntl::AT_FDCWD, path, flags, Mode::empty())?)
}

/// Clones the container's tree and copies the mount namespace the caller is in; the copy is private. To be called in the
/// container's mount namespace.
///
/// # Errors
/// The step that failed.
pub fn isolate(root: BorrowedFd<'_>, reporter: &Reporter) -> Result<OwnedFd, Failure> {
    reporter.step(Step::CloneContainer)?;
    let failed = |step| move |error: io::Error| Failure::system(step, "", error);
    let tree =
        mount::clone_tree(root, c"", Submounts::Clone).map_err(failed(Step::CloneContainer))?;
    reporter.step(Step::UnshareMount)?;
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| Failure::system(Step::UnshareMount, "", error))?;
    reporter.step(Step::IsolateMounts)?;
    let top = open_directory(OsStr::new("/")).map_err(failed(Step::IsolateMounts))?;
    let none = MountAttr::empty();
    mount::set_attr(
        top.as_fd(),
        c"",
        Submounts::Clone,
        none,
        Some(Propagation::Private),
    )
    .map_err(failed(Step::IsolateMounts))?;
    mount::set_attr(
        tree.as_fd(),
        c"",
        Submounts::Clone,
        none,
        Some(Propagation::Slave),
    )
    .map_err(failed(Step::IsolateMounts))?;
    Ok(tree)
}

/// Makes `view` the root of the calling process and of its mount namespace.
///
/// # Errors
/// The step that failed.
pub fn enter(view: BorrowedFd<'_>, reporter: &Reporter) -> Result<(), Failure> {
    reporter.step(Step::MountView)?;
    let failed = |step| move |error: io::Error| Failure::system(step, "/", error);
    let top = open_directory(OsStr::new("/")).map_err(failed(Step::MountView))?;
    mount::attach(view, top.as_fd(), c"").map_err(failed(Step::MountView))?;
    reporter.step(Step::ChangeRoot)?;
    let change = || -> nix::Result<()> {
        nix::unistd::fchdir(view)?;
        match nix::unistd::pivot_root(".", ".") {
            // The old root is on top of the new one now; "." leads to it.
            Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
            Err(nix::errno::Errno::EINVAL) => nix::unistd::chroot(".")?,
            Err(error) => return Err(error),
        }
        nix::unistd::chdir("/")
    };
    change().map_err(|error| Failure::system(Step::ChangeRoot, "", error))
}

/// Mounts the container, its special files and `binds` in the session. The caller's root is the view.
///
/// # Errors
/// The step and the path that failed.
pub fn populate(
    plan: &Plan,
    tree: BorrowedFd<'_>,
    devices: Option<&Devices>,
    binds: &[Bind],
    reporter: &Reporter,
) -> Result<(), Failure> {
    reporter.step(Step::MountContainer)?;
    let top = open_directory(OsStr::new("/"))
        .map_err(|error| Failure::system(Step::MountContainer, "/", error))?;
    let failed = |step, path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| Failure::system(step, path, error)
    };
    mount::attach(tree, top.as_fd(), &path_of(&plan.base))
        .map_err(failed(Step::MountContainer, &plan.base))?;
    reporter.step(Step::MountSpecial)?;
    let bind = |path: &'static str, submounts| -> Result<(), Failure> {
        let target = Path::new("/").join(path);
        let source =
            open_in(tree, path, OFlag::O_PATH).map_err(failed(Step::MountSpecial, &target))?;
        let clone = mount::clone_tree(source.as_fd(), c"", submounts)
            .map_err(failed(Step::MountSpecial, &target))?;
        mount::attach(clone.as_fd(), top.as_fd(), &path_of(&target))
            .map_err(failed(Step::MountSpecial, &target))
    };
    if plan.sys {
        bind("sys", Submounts::Clone)?;
    }
    match devices {
        None => bind("dev", Submounts::Clone)?,
        Some(devices) => devices
            .attach(top.as_fd(), c"/dev")
            .map_err(|(what, error)| Failure::system(Step::MountSpecial, what, error))?,
    }
    for path in &plan.files {
        // A file that vanished since the plan was made leaves an empty one: better to say so.
        if let Err(failure) = bind(path, Submounts::Leave) {
            reporter.warn(failure.to_string());
        }
    }
    bind::attach_all(binds, plan, tree, top.as_fd(), reporter)
}

/// Gives the session its `/proc`: the container's if that shows the pid namespace of the caller, else a new one. To be
/// called in the session's pid namespace, before privileges are given up.
///
/// `hosts` is that of the host, for a cntr that is root of a user namespace only: the kernel lets that mount a new one only
/// where it can see one already.
///
/// # Errors
/// The new one could not be mounted.
pub fn mount_proc(
    container: BorrowedFd<'_>,
    hosts: Option<BorrowedFd<'_>>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    reporter.step(Step::MountProc)?;
    let failed = |error: io::Error| Failure::system(Step::MountProc, "/proc", error);
    let top = open_directory(OsStr::new("/")).map_err(failed)?;
    let theirs = open_in(container, "proc", OFlag::O_PATH | OFlag::O_DIRECTORY)
        .ok()
        .filter(|fd| fstatfs(fd).is_ok_and(|stat| stat.filesystem_type() == PROC_SUPER_MAGIC))
        .filter(|fd| shows_caller(fd.as_fd()));
    if let Some(theirs) = theirs {
        let proc = mount::clone_tree(theirs.as_fd(), c"", Submounts::Clone).map_err(failed)?;
        return mount::attach(proc.as_fd(), top.as_fd(), c"/proc").map_err(failed);
    }
    let new = || -> io::Result<OwnedFd> {
        let attr = MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
        FsContext::open(c"proc")?.mount(attr)
    };
    let Some(hosts) = hosts else {
        reporter.note(
            "the container has no /proc of its pid namespace: the session has one of its own",
        );
        let proc = new().map_err(failed)?;
        return mount::attach(proc.as_fd(), top.as_fd(), c"/proc").map_err(failed);
    };
    mount::attach(hosts, top.as_fd(), c"/proc").map_err(failed)?;
    if shows_caller(hosts) {
        reporter.note("the container has no /proc: the session has the host's");
        return Ok(());
    }
    let made = new();
    umount2("/proc", MntFlags::MNT_DETACH).map_err(|error| failed(error.into()))?;
    match made {
        Ok(proc) => {
            reporter.note(
                "the container has no /proc of its pid namespace: the session has one of its own",
            );
            mount::attach(proc.as_fd(), top.as_fd(), c"/proc").map_err(failed)
        }
        Err(error) => {
            reporter.warn(format!(
                "the container has no /proc of its pid namespace, and none can be mounted for it ({}): the session has \
                 none; that takes CAP_SYS_ADMIN on the host",
                failed(error).reason
            ));
            Ok(())
        }
    }
}

/// Whether the file system of processes `proc` is of the caller's pid namespace.
fn shows_caller(proc: BorrowedFd<'_>) -> bool {
    let own = nix::fcntl::readlinkat(proc, "self").ok();
    own.is_some_and(|pid| pid.to_str() == Some(nix::unistd::getpid().to_string().as_str()))
}

/// The `/proc` that the caller sees.
///
/// # Errors
/// Those of openat(2).
pub fn open_proc() -> io::Result<OwnedFd> {
    open_directory(OsStr::new("/proc"))
}

/// The mount namespace of the caller; `proc` shows its pid namespace.
///
/// # Errors
/// Those of openat(2).
pub fn own_namespace(proc: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    Ok(openat(proc, "self/ns/mnt", flags, Mode::empty())?)
}

/// A copy of the `/proc` that the caller sees, attached nowhere.
///
/// # Errors
/// Those of open_tree(2).
pub fn clone_proc() -> io::Result<OwnedFd> {
    let proc = open_directory(OsStr::new("/proc"))?;
    mount::clone_tree(proc.as_fd(), c"", Submounts::Clone)
}
