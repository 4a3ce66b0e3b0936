//! An inode of the host: its descriptors.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

use cntr::engine::{BackingFile, Backings, Errno, Result};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::path::DecInt;

use super::host;

/// What tells inodes apart, as long as they are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    dev: u64,
    /// The inode number.
    pub ino: u64,
}

/// An inode that the kernel knows. All that is opened here stays open until it is forgotten.
pub struct Node {
    /// What holds it: open itself if it was made here, else `O_PATH`.
    held: Arc<File>,
    key: Key,
    kind: FileType,
    reader: OnceLock<Arc<File>>,
    writer: OnceLock<Arc<File>>,
    /// What the kernel reads and writes by itself; nothing if it may not. All opens have to be of one kind.
    backing: OnceLock<Option<BackingFile>>,
}

impl Node {
    /// One that was found: `held` is an `O_PATH` descriptor.
    pub fn found(held: File, stat: &Stat) -> Node {
        Node {
            held: Arc::new(held),
            key: Key {
                dev: stat.st_dev,
                ino: stat.st_ino,
            },
            kind: FileType::from_raw_mode(stat.st_mode),
            reader: OnceLock::new(),
            writer: OnceLock::new(),
            backing: OnceLock::new(),
        }
    }

    /// One that was made: `file` is open for reading and writing.
    pub fn made(file: File, stat: &Stat) -> Node {
        let node = Node::found(file, stat);
        Node {
            reader: OnceLock::from(Arc::clone(&node.held)),
            writer: OnceLock::from(Arc::clone(&node.held)),
            ..node
        }
    }

    /// The descriptor that holds it, `O_PATH` maybe.
    pub fn held(&self) -> &File {
        &self.held
    }

    /// What tells it from others.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Whether it can be opened without effects.
    pub fn is_plain(&self) -> bool {
        matches!(self.kind, FileType::RegularFile | FileType::Directory)
    }

    /// It, open for reading. `proc` is an open `/proc/self/fd`.
    ///
    /// # Errors
    /// Those of open(2); `EINVAL` if it is neither file nor directory.
    pub fn reader(&self, proc: BorrowedFd<'_>) -> Result<&Arc<File>> {
        self.open(&self.reader, OFlags::RDONLY, proc)
    }

    /// The regular file, open for writing, too.
    ///
    /// # Errors
    /// As [`reader`](Self::reader); `EISDIR`.
    pub fn writer(&self, proc: BorrowedFd<'_>) -> Result<&Arc<File>> {
        self.open(&self.writer, OFlags::RDWR, proc)
    }

    fn open<'a>(
        &self,
        place: &'a OnceLock<Arc<File>>,
        flags: OFlags,
        proc: BorrowedFd<'_>,
    ) -> Result<&'a Arc<File>> {
        if let Some(file) = place.get() {
            return Ok(file);
        }
        if !self.is_plain() {
            return Err(Errno::EINVAL);
        }
        let name = DecInt::new(self.held.as_raw_fd());
        let flags = flags | OFlags::CLOEXEC;
        let opened = host(rustix::fs::openat(proc, name, flags, Mode::empty()))?;
        // Somebody else may have been faster.
        Ok(place.get_or_init(|| Arc::new(opened.into())))
    }

    /// What the kernel reads and writes by itself, as it was decided when it was first opened.
    pub fn backing(&self, backings: Option<&Arc<Backings>>) -> Option<&BackingFile> {
        let register = || backings?.register(self.held.as_fd()).ok();
        self.backing.get_or_init(register).as_ref()
    }
}
