//! Terminals: the ioctls that no library wraps.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Size of a terminal in characters and, where known, pixels.
pub type Size = libc::winsize;

fn unit(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Unlocks the pty whose master is `master` (unlockpt(3)).
///
/// # Errors
/// `ENOTTY` if it is no master.
pub fn unlock(master: BorrowedFd<'_>) -> io::Result<()> {
    let unlocked: libc::c_int = 0;
    // SAFETY: `TIOCSPTLCK` reads one int, which outlives the call.
    unit(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })
}

/// Opens the other end of the pty whose master is `master`, whatever is mounted where; it does not become the
/// controlling terminal.
///
/// # Errors
/// `EIO` if it is locked, `ENOTTY` before Linux 4.13.
pub fn open_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: `TIOCGPTPEER` takes open flags by value.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    unit(fd)?;
    // SAFETY: the kernel has just opened this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `terminal` the controlling terminal of the calling session leader.
///
/// # Errors
/// `EPERM` if the caller leads no session or has a terminal already.
pub fn control(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `TIOCSCTTY` takes an int by value.
    unit(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })
}

/// The size of `terminal`.
///
/// # Errors
/// `ENOTTY` if it is no terminal.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<Size> {
    let mut size = Size {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: `TIOCGWINSZ` writes one `winsize`, which outlives the call.
    unit(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(size)
}

/// Sets the size of `terminal`; its foreground process group gets SIGWINCH if that changes it.
///
/// # Errors
/// `ENOTTY` if it is no terminal.
pub fn set_size(terminal: BorrowedFd<'_>, size: &Size) -> io::Result<()> {
    // SAFETY: `TIOCSWINSZ` reads one `winsize`, which outlives the call.
    unit(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const *size) })
}
