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

/// Registers `file` as a backing file with the connection of `device`.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` or where passthrough was not negotiated, `ELOOP` for a file system that is stacked
/// too high, `EINVAL` for anything but a regular file.
pub fn open_backing(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<i32> {
    let map = fuse_proto::ioctl::fuse_backing_map {
        fd: file.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: FUSE_DEV_IOC_BACKING_OPEN reads one `struct fuse_backing_map`, which the pointer points to.
    let id = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            fuse_proto::ioctl::FUSE_DEV_IOC_BACKING_OPEN as libc::Ioctl,
            &raw const map,
        )
    };
    if id < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(id)
    }
}

/// Lets the backing file `id` of the connection of `device` go; open files that use it keep it.
///
/// # Errors
/// `ENOENT` if there is none.
pub fn close_backing(device: BorrowedFd<'_>, id: i32) -> io::Result<()> {
    let id = id.cast_unsigned();
    // SAFETY: FUSE_DEV_IOC_BACKING_CLOSE reads one u32 from the pointer, which points to one.
    let result = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            fuse_proto::ioctl::FUSE_DEV_IOC_BACKING_CLOSE as libc::Ioctl,
            &raw const id,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Device number of the file system `file` is on, as its minor number: for a FUSE file system the number of its
/// connection under `/sys/fs/fuse/connections`. Does not ask the server.
///
/// # Errors
/// Those of statx(2).
pub fn connection(file: BorrowedFd<'_>) -> io::Result<u32> {
    let mut stat = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a NUL-terminated string and `stat` has room for one `struct statx`; both outlive the call.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
            0,
            stat.as_mut_ptr(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all bytes were zeroed, which is a valid value of the plain structure, and the call filled it in.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.stx_dev_minor)
}
