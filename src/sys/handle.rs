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

/// How long handles are that need no memory of their own: those of ext4, XFS and tmpfs.
const SHORT: usize = 16;

/// A file handle. Two are equal exactly if they name the same inode of a file system, also when its number was reused.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Handle(Form);

/// A handle of at most [`SHORT`] bytes, zeros after it, or a longer one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Form {
    Short {
        len: u8,
        kind: i32,
        bytes: [u8; SHORT],
    },
    Long {
        kind: i32,
        bytes: Box<[u8]>,
    },
}

const _: () = assert!(size_of::<Option<Handle>>() == 24);

impl Handle {
    /// A handle that came another way; longer ones than there can be are cut off, and name nothing.
    #[must_use]
    pub fn new(kind: i32, bytes: &[u8]) -> Handle {
        let bytes = &bytes[..bytes.len().min(MAX)];
        let mut short = [0; SHORT];
        Handle(match short.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Form::Short {
                    len: bytes.len() as u8,
                    kind,
                    bytes: short,
                }
            }
            None => Form::Long {
                kind,
                bytes: bytes.into(),
            },
        })
    }

    /// Its type and its bytes.
    #[must_use]
    pub fn parts(&self) -> (i32, &[u8]) {
        match &self.0 {
            Form::Short { len, kind, bytes } => (*kind, &bytes[..usize::from(*len)]),
            Form::Long { kind, bytes } => (*kind, bytes),
        }
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
        Ok(Handle::new(raw.kind, &raw.bytes[..len]))
    }

    /// Opens the inode again, with the `O_*` flags `flags`. `mount` is any object of the mount it is on, not opened
    /// with `O_PATH`.
    ///
    /// # Errors
    /// `ESTALE` if the inode is gone, `EPERM` without `CAP_DAC_READ_SEARCH`.
    pub fn open(&self, mount: &impl AsFd, flags: i32) -> io::Result<OwnedFd> {
        let (kind, bytes) = self.parts();
        let mut raw = RawHandle {
            len: bytes.len() as u32,
            kind,
            bytes: [0; MAX],
        };
        raw.bytes[..bytes.len()].copy_from_slice(bytes);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_of_all_lengths_are_told_apart() {
        let bytes: Vec<u8> = (1..=MAX as u8).collect();
        for len in 0..=MAX {
            let handle = Handle::new(0x81, &bytes[..len]);
            assert_eq!(handle.parts(), (0x81, &bytes[..len]));
            assert_eq!(handle, Handle::new(0x81, &bytes[..len]));
            assert_ne!(handle, Handle::new(0x82, &bytes[..len]));
        }
        // A zero at its end is a part of it.
        assert_ne!(Handle::new(1, b"a"), Handle::new(1, b"a\0"));
        assert_eq!(Handle::new(1, &[7; MAX + 1]), Handle::new(1, &[7; MAX]));
    }

    #[test]
    fn a_file_is_opened_again() -> io::Result<()> {
        let dir = tempfile::tempdir_in("/dev/shm")?;
        let file = std::fs::File::create(dir.path().join("file"))?;
        let mount = std::fs::File::open(dir.path())?;
        let again = std::fs::File::from(Handle::of(&file)?.open(&mount, libc::O_PATH)?);
        let number = |file: &std::fs::File| {
            file.metadata()
                .map(|found| std::os::unix::fs::MetadataExt::ino(&found))
        };
        assert_eq!(number(&again)?, number(&file)?);
        Ok(())
    }
}
