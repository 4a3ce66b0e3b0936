//! Ioctls of `/dev/fuse`.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Opens another descriptor of the connection `device` belongs to. Requests read from it are answered on it; the
/// queue of pending requests is shared by all descriptors of a connection.
///
/// # Errors
/// `EINVAL` if `device` is not part of a connection; those of opening `/dev/fuse`.
pub fn clone_device(device: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let clone: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open("/dev/fuse")?
        .into();
    let source = device.as_raw_fd().cast_unsigned();
    // SAFETY: FUSE_DEV_IOC_CLONE reads one u32 from the pointer, which points to one.
    let result = unsafe {
        libc::ioctl(
            clone.as_raw_fd(),
            fuse_proto::ioctl::FUSE_DEV_IOC_CLONE as libc::Ioctl,
            &raw const source,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(clone)
    }
}
