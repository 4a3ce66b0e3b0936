//! Calls on files and directories that no library wraps, or only with a copy or an allocation.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::aio::Durability;

/// Turns the result of a system call into a length.
fn length(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Turns the result of a system call into nothing.
fn unit(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Reads the target of the symbolic link `link` (an `O_PATH` descriptor of it) into `out`; returns its length, cut off at that
/// of `out`.
///
/// # Errors
/// Those of readlinkat(2).
pub fn read_link(link: &impl AsFd, out: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the path is NUL-terminated, the pointer and the length are those of `out`.
    length(unsafe {
        libc::readlinkat(
            link.as_fd().as_raw_fd(),
            c"".as_ptr(),
            out.as_mut_ptr().cast(),
            out.len(),
        )
    })
}

/// Reads raw directory records (`struct linux_dirent64`) into `out`; returns their length, 0 at the end.
///
/// # Errors
/// Those of getdents64(2).
pub fn read_dir(dir: &impl AsFd, out: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of `out`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            dir.as_fd().as_raw_fd(),
            out.as_mut_ptr(),
            out.len(),
        )
    };
    length(result as isize)
}

/// Sets the permission bits of the inode behind `fd`, which may be an `O_PATH` descriptor.
///
/// # Errors
/// `ENOSYS` before Linux 6.6; those of fchmodat2(2).
pub fn change_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    const SYS_FCHMODAT2: libc::c_long = 452;
    static MISSING: AtomicBool = AtomicBool::new(false);
    if MISSING.load(Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    // SAFETY: the path is NUL-terminated and outlives the call.
    let result = unsafe {
        libc::syscall(
            SYS_FCHMODAT2,
            fd.as_raw_fd(),
            c"".as_ptr(),
            mode,
            libc::AT_EMPTY_PATH,
        )
    };
    let result = unit(result as libc::c_int);
    if matches!(&result, Err(error) if error.raw_os_error() == Some(libc::ENOSYS)) {
        MISSING.store(true, Ordering::Relaxed);
    }
    result
}

/// Sets access and modification time of the inode behind `fd`, which may be an `O_PATH` descriptor. Nanoseconds may be
/// `UTIME_NOW` and `UTIME_OMIT`.
///
/// # Errors
/// Those of utimensat(2).
pub fn change_times(fd: BorrowedFd<'_>, times: &[libc::timespec; 2]) -> io::Result<()> {
    // SAFETY: the path is NUL-terminated, `times` are two `struct timespec`; both outlive the call.
    unit(unsafe {
        libc::utimensat(
            fd.as_raw_fd(),
            c"".as_ptr(),
            times.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    })
}

/// Moves up to `len` bytes from `pipe` to `file` at `offset`.
///
/// # Errors
/// Those of splice(2), `EINVAL` for a file with `O_APPEND`.
pub fn splice_to(
    pipe: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    mut offset: i64,
    len: usize,
) -> io::Result<usize> {
    // SAFETY: the offset outlives the call, the other offset is null as it must be for a pipe.
    length(unsafe {
        libc::splice(
            pipe.as_raw_fd(),
            std::ptr::null_mut(),
            file.as_raw_fd(),
            &raw mut offset,
            len,
            0,
        )
    })
}

/// Reads what is in memory of `file` at `offset` into `out`, as much as there is without waiting; 0 at the end.
///
/// # Errors
/// `EAGAIN` if the first byte is not in memory, and at the end of the file on kernels that call everything that is not in
/// memory the end; `EOPNOTSUPP` if the file system does not tell; those of preadv2(2).
pub fn read_cached(file: BorrowedFd<'_>, out: &mut [u8], offset: u64) -> io::Result<usize> {
    let vector = libc::iovec {
        iov_base: out.as_mut_ptr().cast(),
        iov_len: out.len(),
    };
    let offset = i64::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the vector is one, of the pointer and the length of `out`; it outlives the call.
    let read = length(unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            &raw const vector,
            1,
            offset,
            libc::RWF_NOWAIT,
        )
    });
    match read {
        Ok(0) if *END_IS_ANYWHERE => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        read => read,
    }
}

/// Linux 5.9 and 5.10 read 0 bytes where the first one would have to be waited for (preadv2(2), "BUGS").
static END_IS_ANYWHERE: LazyLock<bool> = LazyLock::new(|| {
    let known = nix::sys::utsname::uname();
    known.is_ok_and(|system| finds_no_end(&system.release().to_string_lossy()))
});

/// Whether the kernel of this release is one of them.
fn finds_no_end(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    numbers.next() == Some("5") && matches!(numbers.next(), Some("9" | "10"))
}

/// Brings `file` to the disk.
///
/// # Errors
/// Those of fsync(2) and fdatasync(2).
pub fn sync(file: impl AsFd, what: Durability) -> io::Result<()> {
    let done = match what {
        Durability::Everything => nix::unistd::fsync(file),
        Durability::Contents => nix::unistd::fdatasync(file),
    };
    done.map_err(io::Error::from)
}

/// Takes or gives up a lock of flock(2); `operation` is `LOCK_SH`, `LOCK_EX` or `LOCK_UN`, with `LOCK_NB` or without.
///
/// # Errors
/// Those of flock(2).
pub fn flock(file: BorrowedFd<'_>, operation: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    unit(unsafe { libc::flock(file.as_raw_fd(), operation) })
}

/// Runs the ioctl `command`, whose argument is the `_IOC_SIZE` bytes the command number tells, in place in `argument`.
///
/// # Errors
/// `EINVAL` if `argument` is too small for the command; those of ioctl(2).
pub fn ioctl(file: BorrowedFd<'_>, command: u32, argument: &mut [u64]) -> io::Result<i32> {
    let size = (command >> 16 & 0x3fff) as usize;
    if size > size_of_val(argument) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the argument has room for the size the command announces, is aligned for 64-bit fields and outlives
    // the call.
    let result = unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            libc::c_ulong::from(command),
            argument.as_mut_ptr(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// What of a file is in the page cache, in pages; `struct cachestat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CacheState {
    /// Cached.
    pub cached: u64,
    /// Cached and not yet on their way to the disk.
    pub dirty: u64,
    /// On their way to the disk.
    pub writeback: u64,
    /// Evicted.
    pub evicted: u64,
    /// Evicted so recently that reading them again would count as memory pressure.
    pub recently_evicted: u64,
}

/// Tells how much of `file` is in the page cache and how much of that is not on the disk yet. The caller must own the
/// file or be able to write to it.
///
/// # Errors
/// `ENOSYS` before Linux 6.5; those of cachestat(2).
pub fn cache_state(file: BorrowedFd<'_>) -> io::Result<CacheState> {
    const SYS_CACHESTAT: libc::c_long = 451;
    // `struct cachestat_range`: offset and length, of which 0 means up to the end.
    let range = [0_u64; 2];
    let mut state = CacheState::default();
    // SAFETY: `range` is laid out as the kernel's range of two 64-bit numbers and `state` as its five; both outlive the
    // call.
    let result = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            &raw mut state,
            0,
        )
    };
    unit(result as libc::c_int)?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn kernels_that_find_no_end_are_known_by_their_release() {
        for release in ["5.9.0", "5.10.223", "5.10.0-32-amd64", "5.10-rc1"] {
            assert!(finds_no_end(release), "{release}");
        }
        for release in [
            "5.8.18", "5.11.0", "5.100.1", "6.10.3", "6.18.5-1", "15.10", "",
        ] {
            assert!(!finds_no_end(release), "{release}");
        }
    }

    #[test]
    fn what_is_written_is_dirty_until_it_is_synced() {
        // Beside the program: the temporary directory may be a tmpfs, which has nothing to write back to.
        let program = std::env::current_exe().expect("a program");
        let directory = program.parent().expect("a directory");
        let mut file = tempfile::tempfile_in(directory).expect("a file");
        file.write_all(&[7; 1 << 20]).expect("a mebibyte");
        let before = match cache_state(file.as_fd()) {
            Ok(state) => state,
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                eprintln!("skipped: cachestat(2) needs Linux 6.5");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        file.sync_all().expect("synced");
        let after = cache_state(file.as_fd()).expect("as before");
        assert_eq!((after.dirty, after.writeback), (0, 0), "{after:?}");
        let kind = nix::sys::statfs::fstatfs(&file).expect("a file system");
        if kind.filesystem_type() == nix::sys::statfs::EXT4_SUPER_MAGIC {
            let pages = (1 << 20) / 4096;
            assert_eq!(before.cached, pages, "{before:?}");
            assert_eq!(before.dirty + before.writeback, pages, "{before:?}");
        } else {
            eprintln!("only half tested: not every file system has its pages here, ext4 does");
        }
    }

    #[test]
    fn a_descriptor_that_cannot_read_is_refused() {
        let directory = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open("/")
            .expect("a directory");
        let error = cache_state(directory.as_fd()).expect_err("not open");
        assert!(
            matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOSYS)),
            "{error}"
        );
    }
}
