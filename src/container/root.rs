//! The container's mounts: its root directory, `/proc`, `/sys`, `/dev`, volumes, and the change of root.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::refusal::{At, Refusal};
use super::spec::{Network, Spec};
use crate::attach::devices::Devices;
use crate::attach::mounts::open_in;
use crate::sys::mount::{self, FsContext, MountAttr, Propagation, Submounts};

/// Mount points that every container has.
const POINTS: [&str; 3] = ["proc", "sys", "dev"];

/// Mount points made in the container's root directory because they were missing; removed when dropped.
///
/// They are made and removed as seen from inside: a symbolic link in the root directory must not lead to the host.
#[derive(Debug)]
pub struct MountPoints {
    root: PathBuf,
    made: Vec<PathBuf>,
}

impl MountPoints {
    /// Makes those that `spec` needs and that are missing, as far as that is possible: a mount onto one that is still
    /// missing says so later.
    #[must_use]
    pub fn make(spec: &Spec) -> MountPoints {
        let mut points = MountPoints {
            root: spec.root.clone(),
            made: Vec::new(),
        };
        let volumes = spec.volumes.iter().filter_map(|volume| {
            let target = volume.target.strip_prefix("/").ok()?;
            volume.source.is_dir().then(|| target.to_owned())
        });
        for point in POINTS.iter().map(PathBuf::from).chain(volumes) {
            let mut path = PathBuf::new();
            for part in point.components() {
                path.push(part);
                let make = |parent: &OwnedFd, name: &OsStr| {
                    mkdirat(parent, name, Mode::from_bits_truncate(0o755))
                };
                if points.at(&path, make).is_ok() {
                    points.made.push(path.clone());
                }
            }
        }
        points
    }

    /// Whether none was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Does something to the name that ends `path`, in the directory it is in.
    fn at(
        &self,
        path: &Path,
        action: impl FnOnce(&OwnedFd, &OsStr) -> nix::Result<()>,
    ) -> io::Result<()> {
        let root = open_path(&self.root)?;
        let parent = match path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            Some(parent) => open_in(root.as_fd(), parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?,
            None => root,
        };
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(action(&parent, name)?)
    }
}

impl Drop for MountPoints {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            // What the container put there meanwhile stays.
            let _ = self.at(path, |parent, name| {
                unlinkat(parent, name, UnlinkatFlags::RemoveDir)
            });
        }
    }
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn path_of(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("paths from the command line have no NUL")
}

/// Makes the container's mounts and changes the root. Called in the container's new namespaces.
///
/// # Errors
/// What could not be done.
pub fn enter(spec: &Spec) -> Result<(), Refusal> {
    let top = open_path(Path::new("/")).at("open", "/")?;
    let none = MountAttr::empty();
    mount::set_attr(
        top.as_fd(),
        c"",
        Submounts::Clone,
        none,
        Some(Propagation::Private),
    )
    .at("make the mounts private", "/")?;
    let directory = open_path(&spec.root).at("open", &spec.root)?;
    let tree = mount::clone_tree(directory.as_fd(), c"", Submounts::Clone)
        .at("clone the mounts of", &spec.root)?;
    mount::attach(tree.as_fd(), directory.as_fd(), c"").at("mount", &spec.root)?;

    let restricted = MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
    let proc = FsContext::open(c"proc")
        .and_then(|context| context.mount(restricted))
        .at("make", "/proc")?;
    mount::attach(proc.as_fd(), tree.as_fd(), c"proc").at("mount", "/proc")?;
    let sys = make_sys(spec, restricted).at("make", "/sys")?;
    mount::attach(sys.as_fd(), tree.as_fd(), c"sys").at("mount", "/sys")?;
    let devices =
        Devices::new().map_err(|(what, error)| Refusal::new("make /dev", &what, &error))?;
    devices
        .attach(tree.as_fd(), c"dev")
        .map_err(|(what, error)| Refusal::new("mount", &what, &error))?;
    for volume in &spec.volumes {
        let source = mount::clone_tree(top.as_fd(), &path_of(&volume.source), Submounts::Clone)
            .at("clone the mounts of", &volume.source)?;
        if volume.read_only {
            mount::set_attr(
                source.as_fd(),
                c"",
                Submounts::Clone,
                MountAttr::RDONLY,
                None,
            )
            .at("make read-only", &volume.source)?;
        }
        let inside = volume.target.strip_prefix("/").unwrap_or(&volume.target);
        let target = open_in(tree.as_fd(), inside, OFlag::O_PATH)
            .at("find the mount point", &volume.target)?;
        mount::attach(source.as_fd(), target.as_fd(), c"").at("mount", &volume.target)?;
    }
    if spec.read_only {
        mount::set_attr(tree.as_fd(), c"", Submounts::Leave, MountAttr::RDONLY, None)
            .at("make read-only", &spec.root)?;
    }
    let change = || -> nix::Result<()> {
        nix::unistd::fchdir(&tree)?;
        nix::unistd::pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        nix::unistd::chdir("/")
    };
    change()
        .map_err(io::Error::from)
        .at("change the root to", &spec.root)
}

/// A sysfs of the container's network namespace; with the host's network only the host's own can be had.
fn make_sys(spec: &Spec, restricted: MountAttr) -> io::Result<OwnedFd> {
    let read_only = restricted | MountAttr::RDONLY;
    if spec.network == Network::None {
        return FsContext::open(c"sysfs")?.mount(read_only);
    }
    let host = open_path(Path::new("/sys"))?;
    let tree = mount::clone_tree(host.as_fd(), c"", Submounts::Clone)?;
    mount::set_attr(tree.as_fd(), c"", Submounts::Clone, read_only, None)?;
    Ok(tree)
}
