//! Relations of namespaces, by the ioctls of their descriptors; see ioctl_ns(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `_IO(0xb7, 1)`.
const NS_GET_USERNS: libc::c_ulong = 0xb701;

/// `_IO(0xb7, 2)`.
const NS_GET_PARENT: libc::c_ulong = 0xb702;

/// Runs one of the ioctls that give another namespace.
fn related(namespace: BorrowedFd<'_>, command: libc::c_ulong) -> io::Result<OwnedFd> {
    // SAFETY: neither of the two commands takes an argument.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), command as libc::Ioctl) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call has just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The user namespace that owns `namespace`: whose capabilities count there.
///
/// # Errors
/// `EPERM` if it is not the caller's own or one below that.
pub fn owner(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    related(namespace, NS_GET_USERNS)
}

/// The parent of a user or pid namespace.
///
/// # Errors
/// `EPERM` if it is neither the caller's own nor one below that; `EINVAL` for other kinds of namespaces.
pub fn parent(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    related(namespace, NS_GET_PARENT)
}
