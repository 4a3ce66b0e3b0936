//! Makes a FUSE mount that is attached nowhere yet.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::base::Root;
use super::landmark::Landmark;
use crate::sys::mount::{self, FsContext, MountAttr, Submounts};

/// Options of a FUSE mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// First field of `/proc/mounts`.
    pub source: String,
    /// The type shown is `fuse.SUBTYPE`, or `fuse` without.
    pub subtype: Option<String>,
    /// Users other than the mounter may use the mount.
    pub allow_other: bool,
    /// The kernel checks permissions by mode and ACL.
    pub default_permissions: bool,
    /// Mount attributes.
    pub attr: MountAttr,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            source: "cntr".to_owned(),
            subtype: None,
            allow_other: true,
            default_permissions: true,
            attr: MountAttr::empty(),
        }
    }
}

/// Why a mount could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// `/dev/fuse` cannot be opened.
    #[error("cannot open /dev/fuse")]
    Device(#[source] io::Error),
    /// The kernel refused a step.
    #[error("cannot make a FUSE mount: {step}{}", message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// What the kernel said about it.
        message: Option<String>,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The mount cannot be attached.
    #[error("cannot mount on {}", path.display())]
    Attach {
        /// The mount point.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        let (errno, remedies): (_, &[(i32, &'static str)]) = match self {
            MountError::Device(error) => (error.raw_os_error()?, DEVICE),
            MountError::Kernel { source, .. } => (source.raw_os_error()?, KERNEL),
            MountError::Attach { .. } => return None,
        };
        let known = remedies.iter().find(|(known, _)| *known == errno);
        known.map(|(_, remedy)| *remedy)
    }
}

/// What keeps `/dev/fuse` from being opened.
const DEVICE: &[(i32, &str)] = &[
    (libc::ENOENT, "mknod /dev/fuse c 10 229"),
    (
        libc::ENODEV,
        "modprobe fuse, or a kernel with CONFIG_FUSE_FS",
    ),
    (
        libc::ENXIO,
        "modprobe fuse, or a kernel with CONFIG_FUSE_FS",
    ),
    (
        libc::EPERM,
        "the devices cgroup forbids it: allow 'c 10:229 rwm'",
    ),
    (
        libc::EACCES,
        "ordinary users may not open it here: chmod 666 /dev/fuse, as root",
    ),
];

/// What keeps a mount from being made.
const KERNEL: &[(i32, &str)] = &[(
    libc::EPERM,
    "mounting needs root; `cntr mount` works in a user and mount namespace of your own, too: unshare -Urm",
)];

/// A FUSE mount attached nowhere; it goes away when the last descriptor of it is closed.
pub struct DetachedMount {
    /// The connection to the kernel: the server's end, for [`Session::start`](super::Session::start).
    pub device: OwnedFd,
    /// The mount. Nothing can be looked up through it before the session was started; only [`Self::tree`] makes of it what
    /// can be attached.
    pub mount: OwnedFd,
    /// What its root will be, for [`Config`](super::Config).
    pub root: Root,
    /// The engine's own file in it, for [`Config`](super::Config); to be set by another process than the server.
    pub landmark: Landmark,
    /// Number of the connection under `/sys/fs/fuse/connections`.
    pub connection: u32,
}

impl DetachedMount {
    /// Opens `/dev/fuse` and makes a mount whose superblock belongs to the caller's user namespace.
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn new(options: &MountOptions) -> Result<DetachedMount, MountError> {
        let device: OwnedFd = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open("/dev/fuse")
            .map_err(MountError::Device)?
            .into();
        let context = FsContext::open(c"fuse").map_err(|source| MountError::Kernel {
            step: "fsopen(\"fuse\")",
            message: None,
            source,
        })?;
        let kernel = |step: &'static str| {
            let context = &context;
            move |source| MountError::Kernel {
                step,
                message: context.message(),
                source,
            }
        };
        let text = |value: &str| CString::new(value.replace('\0', "")).expect("no NUL is left");
        context
            .set(c"source", &text(&options.source))
            .map_err(kernel("source"))?;
        if let Some(subtype) = &options.subtype {
            context
                .set(c"subtype", &text(subtype))
                .map_err(kernel("subtype"))?;
        }
        context
            .set(c"fd", &text(&device.as_raw_fd().to_string()))
            .map_err(kernel("fd"))?;
        context
            .set(c"rootmode", c"40000")
            .map_err(kernel("rootmode"))?;
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        context
            .set(c"user_id", &text(&uid.to_string()))
            .map_err(kernel("user_id"))?;
        context
            .set(c"group_id", &text(&gid.to_string()))
            .map_err(kernel("group_id"))?;
        if options.allow_other {
            context
                .set_flag(c"allow_other")
                .map_err(kernel("allow_other"))?;
        }
        if options.default_permissions {
            context
                .set_flag(c"default_permissions")
                .map_err(kernel("default_permissions"))?;
        }
        if options.attr.contains(MountAttr::RDONLY) {
            context.set_flag(c"ro").map_err(kernel("ro"))?;
        }
        let mount = context.mount(options.attr).map_err(kernel("fsmount"))?;
        let connection = crate::sys::fuse::connection(mount.as_fd()).map_err(kernel("statx"))?;
        // Tells whether a mount that is attached nowhere can be cloned; without a path this asks the server nothing.
        let root = match mount::clone_tree(mount.as_fd(), c"", Submounts::Leave) {
            Ok(_) => Root::Based,
            Err(_) => Root::Plain,
        };
        Ok(DetachedMount {
            device,
            mount,
            root,
            landmark: Landmark::new(),
            connection,
        })
    }

    /// What can be attached of `mount`, once a session serves it with `root`.
    ///
    /// # Errors
    /// [`MountError::Kernel`].
    pub fn tree(mount: OwnedFd, root: Root) -> Result<OwnedFd, MountError> {
        match root {
            Root::Plain => Ok(mount),
            Root::Based => mount::clone_tree(mount.as_fd(), super::base::NAME, Submounts::Leave)
                .map_err(|source| MountError::Kernel {
                    step: "open_tree",
                    message: None,
                    source,
                }),
        }
    }

    /// Attaches `mount` at `path`.
    ///
    /// # Errors
    /// [`MountError::Attach`].
    pub fn attach_at(mount: BorrowedFd<'_>, path: &Path) -> Result<(), MountError> {
        let failed = |source| MountError::Attach {
            path: path.to_owned(),
            source,
        };
        let target = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
            .open(path)
            .map_err(failed)?;
        mount::attach(mount, target.as_fd(), c"").map_err(failed)
    }
}
