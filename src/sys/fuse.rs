//! Ioctls of `/dev/fuse`.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use fuse_proto::ioctl::{
    FUSE_DEV_IOC_BACKING_CLOSE, FUSE_DEV_IOC_BACKING_OPEN, FUSE_DEV_IOC_CLONE, fuse_backing_map,
};

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
    // SAFETY: FUSE_DEV_IOC_CLONE reads one u32.
    unsafe { ioctl(clone.as_fd(), FUSE_DEV_IOC_CLONE, &source) }?;
    Ok(clone)
}

/// Runs the ioctl `command` of `device`; gives its result.
///
/// # Safety
/// `command` reads what `argument` is, and writes nothing.
unsafe fn ioctl<T>(device: BorrowedFd<'_>, command: u32, argument: &T) -> io::Result<i32> {
    // SAFETY: the caller says that the kernel reads one T, which the reference points to.
    let result = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            command as libc::Ioctl,
            std::ptr::from_ref(argument),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Registers `file` as a backing file with the connection of `device`.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` or where passthrough was not negotiated, `ELOOP` for a file system that is stacked
/// too high, `EINVAL` for anything but a regular file.
pub fn open_backing(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<i32> {
    let map = fuse_backing_map {
        fd: file.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: FUSE_DEV_IOC_BACKING_OPEN reads one `struct fuse_backing_map`.
    unsafe { ioctl(device, FUSE_DEV_IOC_BACKING_OPEN, &map) }
}

/// Lets the backing file `id` of the connection of `device` go; open files that use it keep it.
///
/// # Errors
/// `ENOENT` if there is none.
pub fn close_backing(device: BorrowedFd<'_>, id: i32) -> io::Result<()> {
    // SAFETY: FUSE_DEV_IOC_BACKING_CLOSE reads one u32.
    unsafe { ioctl(device, FUSE_DEV_IOC_BACKING_CLOSE, &id.cast_unsigned()) }.map(drop)
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
