//! From the file handles of events to what inodes are found by.
//!
//! A handle names the same inode for good, so what was found out stays true; when the inode is gone it only
//! takes up room. Where the number is in the handle nobody has to look ([`numbers`](super::numbers)); elsewhere most events of a busy host are about files nobody here has looked at, so the answer is kept for those
//! as well.

use std::collections::HashMap;
use std::sync::Arc;

use super::Shown;
use crate::fs::descriptors::HOLD;
use crate::fs::inode::{Inode, Key};
use crate::fs::mounts::Mount;
use crate::sys::fanotify::FileId;
use crate::sys::handle::Handle;
use crate::sys::stat;

/// Handles that are remembered, twice: the older half goes when the younger one is full.
const HALF: usize = 16 * 1024;

/// Device and inode number; none if the inode is gone.
type Found = Option<(u64, u64)>;

/// Remembers what handles lead to.
#[derive(Default)]
pub struct Resolver {
    young: HashMap<Box<[u8]>, Found>,
    old: HashMap<Box<[u8]>, Found>,
}

impl Resolver {
    /// Device and inode number of `file` on a file system.
    pub(in crate::fs) fn find(&mut self, file: FileId<'_>, shown: &Shown) -> Found {
        let device = shown.device;
        let number = shown
            .numbers
            .and_then(|numbers| numbers.read(&file.handle()));
        if let Some(number) = number {
            return Some((device, number));
        }
        // Two file systems may have the same id.
        let mut key = [0_u8; 8 + 16 + 128];
        let len = 8 + file.bytes().len();
        key.get_mut(..8)?.copy_from_slice(&device.to_ne_bytes());
        key.get_mut(8..len)?.copy_from_slice(file.bytes());
        let key = &key[..len];
        if let Some(found) = self.young.get(key) {
            return *found;
        }
        let found = match self.old.remove(key) {
            Some(found) => found,
            None => look(file, &shown.mounts)?,
        };
        self.remember(key.into(), found);
        found
    }

    /// Takes up where the handle of `inode` leads to, which is on the file system that events call `file_system`: that costs
    /// less than to follow the handle.
    pub fn learn(&mut self, file_system: [u8; 8], inode: &Inode) {
        let Some(fd) = inode.ways.lock().fd.clone() else {
            return;
        };
        if let Ok(handle) = Handle::of(&*fd) {
            let Key { dev, ino, .. } = inode.key;
            let file = FileId::encode(file_system, &handle);
            let key = [&dev.to_ne_bytes(), &*file].concat();
            self.remember(key.into(), Some((dev, ino)));
        }
    }

    fn remember(&mut self, key: Box<[u8]>, found: Found) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, found);
    }
}

/// What the host says; none if it cannot say it now.
fn look(file: FileId<'_>, mounts: &[Arc<Mount>]) -> Option<Found> {
    let handle = file.handle();
    let mount = mounts.first()?;
    match mount.open(&handle, HOLD.bits()) {
        Ok(fd) => {
            let stat = stat::of(&fd).ok()?;
            Some(Some((stat.dev(), stat.ino())))
        }
        Err(error) if error.raw_os_error() == Some(libc::ESTALE) => Some(None),
        Err(_) => None,
    }
}
