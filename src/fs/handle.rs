//! Open files and directories.
//!
//! A file handle is a slot and its generation, as a node id is: the kernel's number is looked up, never believed.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::dir::DirStream;
use super::inode::{HeldFd, Inode};
use super::shares::Claim;
use crate::engine::{BackingFile, Errno, FileHandle, Medium, Result};

const SHARD_BITS: u32 = 4;
const INDEX_BITS: u32 = 28;

/// What is open.
pub enum Object {
    /// A regular file.
    File {
        /// The host's open file. Shared with transports that read from it. One that is only read, by the kernel
        /// itself, is opened when it is needed for something else.
        file: OnceLock<Arc<File>>,
        /// `O_*` flags of the host's open file, without those that are only for opening.
        flags: i32,
        /// Whether `O_APPEND` is set on the host's open file.
        append: AtomicBool,
        /// What the kernel reads and writes by itself; must stay as long as it has that open.
        _through: Option<Arc<BackingFile>>,
    },
    /// A directory.
    Directory {
        /// The host's open directory. Shared with what syncs it beside the queues.
        file: Arc<File>,
        /// Where reading it stands.
        stream: Mutex<DirStream>,
    },
    /// A synthetic file or directory.
    Synthetic,
}

/// An open file or directory.
pub struct Handle {
    /// The inode; none for synthetic ones.
    pub inode: Option<Arc<Inode>>,
    /// What is open.
    pub object: Object,
    /// The inode's descriptor, where it could not be found again once it is deleted.
    pub held: Option<Arc<HeldFd>>,
    /// The right to the other descriptors that it keeps.
    pub claim: Claim,
}

impl Handle {
    /// A descriptor of the open file or directory, `O_PATH` maybe.
    ///
    /// # Errors
    /// `EBADF` for a synthetic one, and for a file that needs none.
    pub fn any(&self) -> Result<BorrowedFd<'_>> {
        match &self.object {
            Object::File { file, .. } => match (file.get(), &self.held) {
                (Some(file), _) => Ok(file.as_fd()),
                (None, Some(held)) => Ok(held.as_fd()),
                (None, None) => Err(Errno::EBADF),
            },
            Object::Directory { file, .. } => Ok(file.as_fd()),
            Object::Synthetic => Err(Errno::EBADF),
        }
    }

    /// Where the contents of the file are.
    pub fn medium(&self) -> Medium {
        self.inode
            .as_ref()
            .map_or(Medium::Memory, |inode| inode.mount.medium)
    }

    /// The host's open file, if it was opened.
    pub fn opened(&self) -> Option<&Arc<File>> {
        match &self.object {
            Object::File { file, .. } => file.get(),
            _ => None,
        }
    }

    /// The host's open file if it can be written to.
    pub fn writable(&self) -> Option<&Arc<File>> {
        match &self.object {
            Object::File { file, flags, .. } if flags & libc::O_ACCMODE != libc::O_RDONLY => {
                file.get()
            }
            _ => None,
        }
    }
}

#[derive(Default)]
struct Shard {
    slots: Vec<(u32, Option<Arc<Handle>>)>,
    free: Vec<u32>,
}

/// All that is open.
pub struct Handles {
    shards: [Mutex<Shard>; 1 << SHARD_BITS],
    next: AtomicUsize,
    open: AtomicUsize,
}

impl Handles {
    /// Nothing is open.
    pub fn new() -> Handles {
        Handles {
            shards: Default::default(),
            next: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        }
    }

    /// Adds `handle`.
    pub fn insert(&self, handle: Handle) -> FileHandle {
        let index = self.next.fetch_add(1, Ordering::Relaxed) & ((1 << SHARD_BITS) - 1);
        let mut shard = self.shards[index].lock();
        let slot = shard.free.pop().unwrap_or_else(|| {
            shard.slots.push((1, None));
            (shard.slots.len() - 1) as u32
        });
        let (generation, place) = &mut shard.slots[slot as usize];
        *place = Some(Arc::new(handle));
        self.open.fetch_add(1, Ordering::Relaxed);
        FileHandle(
            index as u64
                | u64::from(slot) << SHARD_BITS
                | u64::from(*generation) << (SHARD_BITS + INDEX_BITS),
        )
    }

    /// The open file `fh`.
    ///
    /// # Errors
    /// `EBADF` if it is not open.
    pub fn get(&self, fh: FileHandle) -> Result<Arc<Handle>> {
        let (shard, slot, generation) = split(fh);
        match self.shards[shard].lock().slots.get(slot) {
            Some((current, Some(handle))) if *current == generation => Ok(Arc::clone(handle)),
            _ => Err(Errno::EBADF),
        }
    }

    /// Removes `fh`; gives it back if it was open.
    pub fn remove(&self, fh: FileHandle) -> Option<Arc<Handle>> {
        let (shard, slot, generation) = split(fh);
        let mut shard = self.shards[shard].lock();
        let (current, handle) = shard.slots.get_mut(slot)?;
        if *current != generation {
            return None;
        }
        let handle = handle.take()?;
        // Never 0: the handle 0 is that of what was not opened.
        *current = current.wrapping_add(1).max(1);
        shard.free.push(slot as u32);
        self.open.fetch_sub(1, Ordering::Relaxed);
        Some(handle)
    }

    /// Number of open files and directories.
    pub fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

fn split(fh: FileHandle) -> (usize, usize, u32) {
    (
        (fh.0 & ((1 << SHARD_BITS) - 1)) as usize,
        (fh.0 >> SHARD_BITS & ((1 << INDEX_BITS) - 1)) as usize,
        (fh.0 >> (SHARD_BITS + INDEX_BITS)) as u32,
    )
}
