//! Extended attributes of whatever an `O_PATH` descriptor names, symbolic links included.
//!
//! No call takes such a descriptor itself (those of Linux 6.13 treat `AT_EMPTY_PATH` as `fgetxattr(2)`, which refuses it), so all
//! go through `/proc/self/fd`: the link there leads to the inode itself, also if that is a symbolic link. With
//! Linux 6.13 the link is looked up in an open `/proc/self/fd`, before it by its path.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;
const SYS_REMOVEXATTRAT: libc::c_long = 466;

/// Cleared when the kernel turns out to be older than 6.13.
static HAS_XATTRAT: AtomicBool = AtomicBool::new(true);

/// `struct xattr_args`.
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

const PREFIX: &str = "/proc/self/fd/";

/// The path of a descriptor below `/proc`, without allocating.
struct ProcPath([u8; 32]);

impl ProcPath {
    fn new(fd: BorrowedFd<'_>) -> ProcPath {
        use io::Write;
        let mut path = [0_u8; 32];
        // The longest number fits: 14 + 10 bytes and a NUL.
        let _ = write!(&mut path[..31], "{PREFIX}{}", fd.as_raw_fd());
        ProcPath(path)
    }

    fn path(&self) -> *const libc::c_char {
        self.0.as_ptr().cast()
    }

    /// The last component.
    fn name(&self) -> *const libc::c_char {
        self.0[PREFIX.len()..].as_ptr().cast()
    }
}

/// Runs `new` unless the kernel lacks it, else `old`.
fn either(
    new: impl FnOnce() -> libc::c_long,
    old: impl FnOnce() -> libc::c_long,
) -> io::Result<usize> {
    if HAS_XATTRAT.load(Ordering::Relaxed) {
        let result = new();
        if let Ok(len) = usize::try_from(result) {
            return Ok(len);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOSYS) {
            return Err(error);
        }
        HAS_XATTRAT.store(false, Ordering::Relaxed);
    }
    usize::try_from(old()).map_err(|_| io::Error::last_os_error())
}

/// Reads the value of `name` of the inode behind `fd` into `out` and returns its length; with an empty `out` only the length.
/// `proc` is an open `/proc/self/fd`, here and below.
///
/// # Errors
/// Those of getxattr(2).
pub fn get(
    proc: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    name: &CStr,
    out: &mut [u8],
) -> io::Result<usize> {
    let path = ProcPath::new(fd);
    let mut args = XattrArgs {
        value: if out.is_empty() {
            0
        } else {
            out.as_mut_ptr() as u64
        },
        size: u32::try_from(out.len()).unwrap_or(u32::MAX),
        flags: 0,
    };
    let (pointer, len) = (out.as_mut_ptr(), out.len());
    either(
        // SAFETY: the strings are NUL-terminated; `args` names `out` with its length; all outlive the call.
        || unsafe {
            libc::syscall(
                SYS_GETXATTRAT,
                proc.as_raw_fd(),
                path.name(),
                0,
                name.as_ptr(),
                &raw mut args,
                size_of::<XattrArgs>(),
            )
        },
        || {
            // SAFETY: the strings are NUL-terminated, `pointer` and `len` are those of `out`; all outlive the call.
            unsafe {
                libc::getxattr(path.path(), name.as_ptr(), pointer.cast(), len) as libc::c_long
            }
        },
    )
}

/// Sets `name` to `value`; `flags` are `XATTR_CREATE` and `XATTR_REPLACE`.
///
/// # Errors
/// Those of setxattr(2).
pub fn set(
    proc: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    name: &CStr,
    value: &[u8],
    flags: u32,
) -> io::Result<()> {
    let path = ProcPath::new(fd);
    let args = XattrArgs {
        value: value.as_ptr() as u64,
        size: u32::try_from(value.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        flags,
    };
    either(
        // SAFETY: the strings are NUL-terminated; `args` names `value` with its length; all outlive the call.
        || unsafe {
            libc::syscall(
                SYS_SETXATTRAT,
                proc.as_raw_fd(),
                path.name(),
                0,
                name.as_ptr(),
                &raw const args,
                size_of::<XattrArgs>(),
            )
        },
        || {
            // SAFETY: the strings are NUL-terminated, the pointer and the length are those of `value`.
            unsafe {
                libc::setxattr(
                    path.path(),
                    name.as_ptr(),
                    value.as_ptr().cast(),
                    value.len(),
                    flags as i32,
                ) as libc::c_long
            }
        },
    )
    .map(drop)
}

/// Reads the names, each ended by a NUL, into `out` and returns their length; with an empty `out` only the length.
///
/// # Errors
/// Those of listxattr(2).
pub fn list(proc: BorrowedFd<'_>, fd: BorrowedFd<'_>, out: &mut [u8]) -> io::Result<usize> {
    let path = ProcPath::new(fd);
    let (pointer, len) = (out.as_mut_ptr(), out.len());
    either(
        // SAFETY: the path is NUL-terminated, the pointer and the length are those of `out`.
        || unsafe {
            libc::syscall(
                SYS_LISTXATTRAT,
                proc.as_raw_fd(),
                path.name(),
                0,
                pointer,
                len,
            )
        },
        || {
            // SAFETY: the path is NUL-terminated, the pointer and the length are those of `out`.
            unsafe { libc::listxattr(path.path(), pointer.cast(), len) as libc::c_long }
        },
    )
}

/// Removes `name`.
///
/// # Errors
/// Those of removexattr(2).
pub fn remove(proc: BorrowedFd<'_>, fd: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let path = ProcPath::new(fd);
    either(
        // SAFETY: the strings are NUL-terminated and outlive the call.
        || unsafe {
            libc::syscall(
                SYS_REMOVEXATTRAT,
                proc.as_raw_fd(),
                path.name(),
                0,
                name.as_ptr(),
            )
        },
        || {
            // SAFETY: the strings are NUL-terminated and outlive the call.
            unsafe { libc::c_long::from(libc::removexattr(path.path(), name.as_ptr())) }
        },
    )
    .map(drop)
}
