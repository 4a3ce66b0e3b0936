//! The mount API of Linux 5.2: file system contexts, detached mounts, moving them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use bitflags::bitflags;

bitflags! {
    /// Attributes of a mount, `MOUNT_ATTR_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MountAttr: u64 {
        /// No writes through this mount.
        const RDONLY = 0x1;
        /// Set-user-id and file capabilities are ignored.
        const NOSUID = 0x2;
        /// Device nodes cannot be opened.
        const NODEV = 0x4;
        /// Nothing can be executed.
        const NOEXEC = 0x8;
        /// Reading does not change access times.
        const NOATIME = 0x10;
        /// Reading always changes access times.
        const STRICTATIME = 0x20;
        /// Listing directories does not change their access times.
        const NODIRATIME = 0x80;
    }
}

/// How mount events travel between copies of a mount; `MS_*` of mount(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Neither sent nor received.
    Private,
    /// Received only.
    Slave,
}

/// Reads the result of a raw system call that returns a descriptor.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the system call has just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads the result of a raw system call that returns 0.
fn unit(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A file system being configured; made by fsopen(2).
pub struct FsContext(OwnedFd);

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

impl FsContext {
    /// Starts to configure a file system of type `name`.
    ///
    /// # Errors
    /// `ENODEV` for an unknown type, `EPERM` without `CAP_SYS_ADMIN`, `ENOSYS` before Linux 5.2.
    pub fn open(name: &CStr) -> io::Result<FsContext> {
        const FSOPEN_CLOEXEC: libc::c_uint = 1;
        // SAFETY: `name` is a NUL-terminated string that outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })
            .map(FsContext)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
    ) -> io::Result<()> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: both pointers are null or NUL-terminated strings that outlive the call.
        unit(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        })
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// `EINVAL` for an unknown key or a bad value.
    pub fn set(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        self.config(FSCONFIG_SET_STRING, Some(key), Some(value))
    }

    /// Sets the flag `key`.
    ///
    /// # Errors
    /// `EINVAL` for an unknown flag.
    pub fn set_flag(&self, key: &CStr) -> io::Result<()> {
        self.config(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// Makes the file system and a mount of it that is attached nowhere.
    ///
    /// # Errors
    /// Those of mount(2).
    pub fn mount(&self, attr: MountAttr) -> io::Result<OwnedFd> {
        const FSMOUNT_CLOEXEC: libc::c_uint = 1;
        self.config(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: takes no pointers.
        owned(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attr.bits(),
            )
        })
    }

    /// What the kernel said about the last failure, if it said anything.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let mut text = [0_u8; 512];
        let len = nix::unistd::read(&self.0, &mut text).ok()?;
        Some(String::from_utf8_lossy(&text[..len]).trim_end().to_owned())
    }
}

/// Whether a clone takes the mounts below along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submounts {
    /// Only the mount itself.
    Leave,
    /// The mounts below as well.
    Clone,
}

/// Clones the mount at `path` below `dir` (an empty path: `dir` itself), attached nowhere.
///
/// # Errors
/// `EINVAL` if the mount is not in the caller's mount namespace.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, submounts: Submounts) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let mut flags =
        OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
    if submounts == Submounts::Clone {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// Attaches the detached mount `mount` at `path` below `dir` (an empty path: `dir` itself). Symbolic links at the end
/// of `path` are not followed.
///
/// # Errors
/// Those of move_mount(2).
pub fn attach(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
    const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
    // SAFETY: both paths are NUL-terminated strings that outlive the call.
    unit(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            dir.as_raw_fd(),
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct RawMountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    submounts: Submounts,
    attr: &RawMountAttr,
) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH as libc::c_uint;
    if submounts == Submounts::Clone {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: `path` is a NUL-terminated string and `attr` a `struct mount_attr` of the size given; both outlive the call.
    unit(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<RawMountAttr>(),
        )
    })
}

/// Shows the files of the mount `mount`, attached nowhere yet, with the ids of the user namespace `users`: what belongs
/// to its id 0 on the file system belongs to its root.
///
/// # Errors
/// `EINVAL` if the file system cannot do that, `EPERM` if the mount is shown so already.
pub fn map_ids(
    mount: BorrowedFd<'_>,
    submounts: Submounts,
    users: BorrowedFd<'_>,
) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let attr = RawMountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd() as u64,
    };
    setattr(mount, c"", submounts, &attr)
}

/// Sets attributes and, if given, the propagation of the mount at `path` below `dir` (an empty path: `dir` itself).
///
/// # Errors
/// Those of mount_setattr(2), `ENOSYS` before Linux 5.12.
pub fn set_attr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    submounts: Submounts,
    set: MountAttr,
    propagation: Option<Propagation>,
) -> io::Result<()> {
    let attr = RawMountAttr {
        attr_set: set.bits(),
        attr_clr: 0,
        propagation: match propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Slave) => libc::MS_SLAVE,
        },
        userns_fd: 0,
    };
    setattr(dir, path, submounts, &attr)
}
