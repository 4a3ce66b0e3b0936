//! File handles: names of inodes that outlive their descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `MAX_HANDLE_SZ`.
const MAX: usize = 128;

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct RawHandle {
    len: u32,
    kind: i32,
    bytes: [u8; MAX],
}

/// A file handle. Two are equal exactly if they name the same inode of a file system, also when its number was reused.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Handle {
    kind: i32,
    bytes: Box<[u8]>,
}

impl Handle {
    /// A handle that came another way; longer ones than there can be are cut off, and name nothing.
    #[must_use]
    pub fn new(kind: i32, bytes: &[u8]) -> Handle {
        let bytes = bytes[..bytes.len().min(MAX)].into();
        Handle { kind, bytes }
    }

    /// The handle of the inode behind `fd`, which may be an `O_PATH` descriptor.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if the file system has none that can be opened again.
    pub fn of(fd: &impl AsFd) -> io::Result<Handle> {
        let mut raw = RawHandle {
            len: MAX as u32,
            kind: 0,
            bytes: [0; MAX],
        };
        let mut mount = 0;
        // SAFETY: the path is NUL-terminated, `raw` has room for the `len` bytes it announces; all outlive the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                fd.as_fd().as_raw_fd(),
                c"".as_ptr(),
                &raw mut raw,
                &raw mut mount,
                libc::AT_EMPTY_PATH,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let len = (raw.len as usize).min(MAX);
        Ok(Handle {
            kind: raw.kind,
            bytes: raw.bytes[..len].into(),
        })
    }

    /// Opens the inode again, with the `O_*` flags `flags`. `mount` is any object of the mount it is on, not opened
    /// with `O_PATH`.
    ///
    /// # Errors
    /// `ESTALE` if the inode is gone, `EPERM` without `CAP_DAC_READ_SEARCH`.
    pub fn open(&self, mount: &impl AsFd, flags: i32) -> io::Result<OwnedFd> {
        let mut raw = RawHandle {
            len: self.bytes.len() as u32,
            kind: self.kind,
            bytes: [0; MAX],
        };
        raw.bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
        // SAFETY: `raw` holds the `len` bytes it announces and outlives the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                mount.as_fd().as_raw_fd(),
                &raw mut raw,
                flags | libc::O_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the system call has just returned this descriptor, nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// Bytes it takes on the heap.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        self.bytes.len()
    }
}
