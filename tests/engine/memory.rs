//! A tiny file system in memory: one directory of files. It knows nothing of any host file system, and so shows
//! that the engine does not either.
//!
//! Some names behave badly when they are read: `wait` until it is interrupted or released, saying so; `stuck` ignores
//! interrupts for [`stuck`], or until it is released, without saying anything; `panic` panics.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cntr::engine::{
    Attributes, Context, Creation, Data, Entry, Errno, FileHandle, FileSystem, NodeId, Opened,
    Payload, ReadRequest, Result, SetAttr, WriteRequest,
};
use fuse_proto::dirent::DirentWriter;
use fuse_proto::flags::{InitFlags, OpenFlags};
use fuse_proto::fuse_attr;

use crate::parameter::patience;

/// How long `stuck` is stuck at most.
pub fn stuck() -> Duration {
    Duration::from_secs(3) * patience()
}

const TTL: Duration = Duration::ZERO;

#[derive(Default)]
struct Files {
    names: BTreeMap<OsString, u64>,
    contents: BTreeMap<u64, Vec<u8>>,
}

/// The file system.
pub struct MemoryFs {
    files: Mutex<Files>,
    next: AtomicU64,
    released: Mutex<bool>,
    release: Condvar,
    /// Requests of `wait` in service.
    pub waiting: AtomicI64,
    /// Lookups handed out and not taken back.
    pub lookups: AtomicI64,
    /// Opens handed out and not taken back.
    pub opens: AtomicI64,
    /// `destroy` was called.
    pub destroyed: AtomicBool,
}

impl MemoryFs {
    pub fn new(names: &[&str]) -> MemoryFs {
        let fs = MemoryFs {
            files: Mutex::default(),
            next: AtomicU64::new(2),
            released: Mutex::new(false),
            release: Condvar::new(),
            waiting: AtomicI64::new(0),
            lookups: AtomicI64::new(0),
            opens: AtomicI64::new(0),
            destroyed: AtomicBool::new(false),
        };
        for name in names {
            fs.add(OsStr::new(name));
        }
        fs
    }

    fn add(&self, name: &OsStr) -> u64 {
        let node = self.next.fetch_add(1, Ordering::Relaxed);
        let mut files = self.files.lock().unwrap();
        files.names.insert(name.to_owned(), node);
        files.contents.insert(node, Vec::new());
        node
    }

    /// Lets all requests of `wait` go on.
    #[allow(dead_code, reason = "not every test waits")]
    pub fn release_all(&self) {
        *self.released.lock().unwrap() = true;
        self.release.notify_all();
    }

    /// From now on requests of `wait` and `stuck` wait again.
    #[allow(dead_code, reason = "not every test waits")]
    pub fn hold_again(&self) {
        *self.released.lock().unwrap() = false;
    }

    fn attr(&self, node: NodeId) -> Result<fuse_attr> {
        if node == NodeId::ROOT {
            return Ok(fuse_attr {
                ino: 1,
                mode: libc::S_IFDIR | 0o755,
                nlink: 2,
                blksize: 4096,
                ..Default::default()
            });
        }
        let files = self.files.lock().unwrap();
        let size = files.contents.get(&node.0).ok_or(Errno::ENOENT)?.len() as u64;
        Ok(fuse_attr {
            ino: node.0,
            size,
            blocks: size.div_ceil(512),
            mode: libc::S_IFREG | 0o644,
            nlink: 1,
            blksize: 4096,
            ..Default::default()
        })
    }

    fn entry(&self, node: u64) -> Result<Entry> {
        let attr = self.attr(NodeId(node))?;
        self.lookups.fetch_add(1, Ordering::Relaxed);
        Ok(Entry {
            node: NodeId(node),
            generation: 0,
            attr,
            entry_ttl: TTL,
            attr_ttl: TTL,
        })
    }

    fn opened(&self) -> Opened {
        self.opens.fetch_add(1, Ordering::Relaxed);
        Opened {
            fh: FileHandle(7),
            flags: OpenFlags::DIRECT_IO,
            backing_id: 0,
        }
    }

    fn wait(&self, cx: &Context<'_>) -> Result<Data> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let result = cx.wait_in_place(|| {
            let mut released = self.released.lock().unwrap();
            while !*released {
                if cx.interrupted() {
                    return Err(Errno::EINTR);
                }
                released = self
                    .release
                    .wait_timeout(released, Duration::from_millis(1))
                    .unwrap()
                    .0;
            }
            Ok(Data::Bytes(Bytes::from_static(b"released")))
        });
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

impl FileSystem for MemoryFs {
    fn capabilities(&self) -> InitFlags {
        InitFlags::PARALLEL_DIROPS | InitFlags::ATOMIC_O_TRUNC
    }

    fn lookup(&self, _cx: &Context<'_>, parent: NodeId, name: &OsStr) -> Result<Entry> {
        assert_eq!(parent, NodeId::ROOT);
        let node = *self
            .files
            .lock()
            .unwrap()
            .names
            .get(name)
            .ok_or(Errno::ENOENT)?;
        self.entry(node)
    }

    fn forget(&self, _node: NodeId, lookups: u64) {
        self.lookups.fetch_sub(lookups as i64, Ordering::Relaxed);
    }

    fn getattr(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        _fh: Option<FileHandle>,
    ) -> Result<Attributes> {
        Ok(Attributes {
            attr: self.attr(node)?,
            ttl: TTL,
        })
    }

    fn setattr(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        _fh: Option<FileHandle>,
        set: &SetAttr,
    ) -> Result<Attributes> {
        if let Some(size) = set.size {
            let mut files = self.files.lock().unwrap();
            files
                .contents
                .get_mut(&node.0)
                .ok_or(Errno::ENOENT)?
                .resize(size as usize, 0);
        }
        Ok(Attributes {
            attr: self.attr(node)?,
            ttl: TTL,
        })
    }

    fn unlink(&self, _cx: &Context<'_>, _parent: NodeId, name: &OsStr) -> Result<()> {
        self.files
            .lock()
            .unwrap()
            .names
            .remove(name)
            .map(drop)
            .ok_or(Errno::ENOENT)
    }

    fn open(
        &self,
        _cx: &Context<'_>,
        _node: NodeId,
        _flags: u32,
        _kill_suidgid: bool,
    ) -> Result<Opened> {
        Ok(self.opened())
    }

    fn create(
        &self,
        _cx: &Context<'_>,
        _parent: NodeId,
        name: &OsStr,
        _flags: u32,
        _creation: &Creation<'_>,
    ) -> Result<(Entry, Opened)> {
        let node = self.add(name);
        Ok((self.entry(node)?, self.opened()))
    }

    fn read(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        _fh: FileHandle,
        read: &ReadRequest,
    ) -> Result<Data> {
        let files = self.files.lock().unwrap();
        let name = files
            .names
            .iter()
            .find(|(_, other)| **other == node.0)
            .map(|(name, _)| name.clone());
        let content = files.contents.get(&node.0).ok_or(Errno::ENOENT)?.clone();
        drop(files);
        match name.as_ref().and_then(|name| name.to_str()) {
            Some("wait") => self.wait(cx),
            Some("stuck") => {
                let end = Instant::now() + stuck();
                let mut released = self.released.lock().unwrap();
                while !*released && let Some(left) = end.checked_duration_since(Instant::now()) {
                    released = self.release.wait_timeout(released, left).unwrap().0;
                }
                Ok(Data::Bytes(Bytes::from_static(b"late")))
            }
            Some("panic") => panic!("as the test wants it"),
            _ => {
                let start = content.len().min(read.offset as usize);
                let end = content.len().min(start + read.size as usize);
                Ok(Data::Bytes(Bytes::copy_from_slice(&content[start..end])))
            }
        }
    }

    fn write(
        &self,
        _cx: &Context<'_>,
        node: NodeId,
        _fh: FileHandle,
        write: &WriteRequest,
        payload: Payload<'_>,
    ) -> Result<u32> {
        let Payload::Bytes(bytes) = payload else {
            return Err(Errno::EIO);
        };
        let mut files = self.files.lock().unwrap();
        let content = files.contents.get_mut(&node.0).ok_or(Errno::ENOENT)?;
        let end = write.offset as usize + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[write.offset as usize..end].copy_from_slice(bytes);
        Ok(bytes.len() as u32)
    }

    fn release(&self, _node: NodeId, _fh: FileHandle, _flock_owner: Option<u64>) {
        self.opens.fetch_sub(1, Ordering::Relaxed);
    }

    fn opendir(&self, _cx: &Context<'_>, _node: NodeId, _flags: u32) -> Result<Opened> {
        Ok(Opened {
            fh: FileHandle(0),
            flags: OpenFlags::empty(),
            backing_id: 0,
        })
    }

    fn readdir(
        &self,
        _cx: &Context<'_>,
        _node: NodeId,
        _fh: FileHandle,
        offset: u64,
        out: &mut DirentWriter<'_>,
    ) -> Result<()> {
        let files = self.files.lock().unwrap();
        for (index, (name, node)) in files.names.iter().enumerate().skip(offset as usize) {
            if out
                .push(
                    *node,
                    index as u64 + 1,
                    u32::from(libc::DT_REG),
                    name.as_bytes(),
                )
                .is_err()
            {
                break;
            }
        }
        Ok(())
    }

    fn releasedir(&self, _node: NodeId, _fh: FileHandle) {}

    fn destroy(&self) {
        self.destroyed.store(true, Ordering::SeqCst);
    }
}
