//! OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR.
//!
//! A host directory is read by getdents64(2), and the position the host gives each entry is handed out as it is: a
//! program can come back to it at any time. A directory with synthetic entries is read as a whole when it is rewound, and
//! positions count entries: that way no position of the host can collide with one of ours, and every name is there once.
//!
//! With coherent caches the kernel is told that it need not open directories at all (`ENOSYS`): walking a tree again then
//! asks for nothing. It keeps every listing until the time of the directory's last change is another one, so a
//! listing of which the host does not tell changes is taken back as soon as it is complete.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuse_proto::dirent::{DirentPlusWriter, DirentWriter};
use fuse_proto::flags::{InitFlags, OpenFlags};
use fuse_proto::fuse_entry_out;
use nix::fcntl::OFlag;
use nix::unistd::{Whence, lseek64};
use parking_lot::Mutex;

use super::PassthroughFs;
use super::descriptors::kept_by_open;
use super::handle::{Handle, Object};
use super::inode::Inode;
use super::lookup::Node;
use super::policy::SyntheticKind;
use super::streams::{Stream, UNOPENED};
use crate::engine::{Context, Durability, Entry, Errno, FileHandle, NodeId, Opened, Result};
use crate::sys::stat::Automount;
use crate::sys::{clock, file};

/// Bytes of directory records read at a time.
const BUFFER: usize = 32 * 1024;

/// Minor version of the protocol of the first kernel on which a position in a directory of a tmpfs stays what it is when
/// names before it are removed (Linux 6.6).
const STABLE_POSITIONS: u32 = 39;

/// Fixed part of `struct linux_dirent64`.
const HEAD: usize = 19;

/// An entry of a directory, with the host's inode number.
struct Record<'a> {
    ino: u64,
    /// Position after it.
    off: u64,
    kind: u32,
    name: &'a [u8],
}

/// Where reading a directory stands.
#[derive(Default)]
pub struct DirStream {
    buffer: Vec<u8>,
    /// What of the buffer was not handed out yet.
    rest: std::ops::Range<usize>,
    /// The position of the first record that was not handed out yet.
    position: u64,
    /// All entries, if there are synthetic ones among them.
    listing: Option<Vec<Listed>>,
}

/// An entry of a directory that was read as a whole; `ino` is as presented.
struct Listed {
    ino: u64,
    kind: u32,
    name: Box<[u8]>,
    synthetic: Option<usize>,
}

/// The record at the start of `bytes`, and its length.
fn parse(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let field = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let len = usize::from(u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?));
    let name = bytes.get(HEAD..len)?;
    let end = name.iter().position(|&byte| byte == 0)?;
    let record = Record {
        ino: field(0)?,
        off: field(8)?,
        kind: u32::from(bytes[18]),
        name: &name[..end],
    };
    Some((record, len))
}

impl DirStream {
    /// Goes to `position`.
    fn seek(&mut self, dir: &File, position: u64) -> Result<()> {
        if position != self.position || position == 0 {
            let position = i64::try_from(position).map_err(|_| Errno::EINVAL)?;
            lseek64(dir, position, Whence::SeekSet)?;
            self.rest = 0..0;
        }
        self.position = position;
        Ok(())
    }

    /// Hands out entries from the current position on until `emit` takes no more.
    fn read(
        &mut self,
        dir: &File,
        mut emit: impl FnMut(&Record<'_>) -> Result<bool>,
    ) -> Result<()> {
        loop {
            if self.rest.is_empty() {
                self.buffer.resize(BUFFER, 0);
                let len = file::read_dir(dir, &mut self.buffer)?;
                self.rest = 0..len;
                if len == 0 {
                    self.buffer = Vec::new();
                    return Ok(());
                }
            }
            let (record, len) = parse(&self.buffer[self.rest.clone()]).ok_or(Errno::EIO)?;
            if !emit(&record)? {
                return Ok(());
            }
            self.position = record.off;
            self.rest.start += len;
        }
    }
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

impl PassthroughFs {
    pub(super) fn do_opendir(&self, cx: &Context<'_>, node: NodeId, flags: u32) -> Result<Opened> {
        let unneeded = InitFlags::NO_OPENDIR_SUPPORT | InitFlags::AUTO_INVAL_DATA;
        if cx.negotiated.flags.contains(unneeded) && cx.negotiated.minor >= STABLE_POSITIONS {
            return Err(Errno::ENOSYS);
        }
        let handle = match self.node(node)? {
            Node::Synthetic(index) if self.overlay.kind(index) == SyntheticKind::File => {
                return Err(Errno::ENOTDIR);
            }
            Node::Synthetic(_) => Handle {
                inode: None,
                object: Object::Synthetic,
                held: None,
                claim: self.descriptors.claim_nothing(),
            },
            Node::Host(inode) => {
                if !inode.is_dir() {
                    return Err(Errno::ENOTDIR);
                }
                let (claim, held) = (self.descriptors.claim(1)?, self.fd(&inode)?);
                let noatime = OFlag::from_bits_truncate(flags as i32) & OFlag::O_NOATIME;
                let file =
                    self.open_host(&inode, OFlag::O_RDONLY | OFlag::O_DIRECTORY | noatime)?;
                let object = Object::Directory {
                    file: Arc::new(file.into()),
                    stream: Mutex::default(),
                };
                Handle {
                    held: kept_by_open(&inode, held),
                    inode: Some(inode),
                    object,
                    claim,
                }
            }
        };
        Ok(Opened {
            fh: self.handles.insert(handle),
            flags: OpenFlags::empty(),
            backing_id: 0,
        })
    }

    pub(super) fn do_readdir(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        offset: u64,
        out: &mut DirentWriter<'_>,
    ) -> Result<()> {
        let mut full = false;
        self.list(cx, node, fh, offset, |place, synthetic, entry| {
            if let (Some((dir, file)), None) = (place, synthetic)
                && self.hides_entry(dir, file, entry.name)
            {
                return Ok(true);
            }
            full = out
                .push(entry.ino, entry.off, entry.kind, entry.name)
                .is_err();
            Ok(!full)
        })?;
        if full && out.is_empty() {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    }

    pub(super) fn do_readdirplus(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        offset: u64,
        out: &mut DirentPlusWriter<'_>,
    ) -> Result<()> {
        let mut full = false;
        self.list(cx, node, fh, offset, |place, synthetic, record| {
            let name = OsStr::from_bytes(record.name);
            let entry = match (synthetic, place) {
                _ if is_dots(record.name) => None,
                (Some(index), _) => Some(self.overlay.entry(index)),
                (None, Some((parent, dir))) => match self.walk(parent, dir, name, Automount::Leave)
                {
                    Ok((inode, stat)) => Some(self.entry(parent, &inode, &stat)),
                    // Gone since the directory was read.
                    Err(Errno::ENOENT) => return Ok(true),
                    Err(_) => None,
                },
                (None, None) => None,
            };
            let ino = entry.map_or(record.ino, |entry| entry.attr.ino);
            let wire = entry.as_ref().map(entry_out).unwrap_or_default();
            full = out
                .push(&wire, ino, record.off, record.kind, record.name)
                .is_err();
            if full && let Some(entry) = entry {
                self.do_forget(entry.node, 1);
            }
            Ok(!full)
        })?;
        if full && out.is_empty() {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    }

    /// Hands out the entries of a directory from `offset` on, with presented inode numbers: the host directory they
    /// are in, the synthetic inode an entry is, the entry.
    fn list(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        offset: u64,
        emit: impl FnMut(Option<(&Arc<Inode>, &File)>, Option<usize>, &Record<'_>) -> Result<bool>,
    ) -> Result<()> {
        if fh == UNOPENED {
            return match self.node(node)? {
                Node::Synthetic(_) => self.list_synthetic(node, offset, emit),
                Node::Host(inode) => self.list_unopened(cx, &inode, offset, emit),
            };
        }
        let handle = self.handles.get(fh)?;
        let (inode, file, stream) = match (&handle.inode, &handle.object) {
            (Some(inode), Object::Directory { file, stream }) => (inode, file, stream),
            (None, Object::Synthetic) => return self.list_synthetic(node, offset, emit),
            _ => return Err(Errno::EBADF),
        };
        self.list_host(inode, file, &mut stream.lock(), offset, emit)
    }

    /// Hands out the entries of a directory that the kernel has opened without asking.
    fn list_unopened(
        &self,
        cx: &Context<'_>,
        inode: &Arc<Inode>,
        offset: u64,
        mut emit: impl FnMut(Option<(&Arc<Inode>, &File)>, Option<usize>, &Record<'_>) -> Result<bool>,
    ) -> Result<()> {
        let mut stream = match self.streams.take(inode.node, offset) {
            Some(stream) => stream,
            None => self.open_stream(inode)?,
        };
        let mut reached = None;
        let Stream {
            file, stream: at, ..
        } = &mut stream;
        self.list_host(inode, file, at, offset, |place, synthetic, record| {
            let goes_on = emit(place, synthetic, record)?;
            if goes_on {
                reached = Some(record.off);
            }
            Ok(goes_on)
        })?;
        match reached {
            Some(position) => self.streams.put(inode.node, position, stream),
            // Now that all is read the kernel keeps it.
            None if !stream.watched => cx.notifier.invalidate_inode(inode.node, 0, 0),
            None => (),
        }
        Ok(())
    }

    fn open_stream(&self, inode: &Arc<Inode>) -> Result<Stream> {
        if !inode.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let watched = inode.mount.is_covered();
        let file = self.open_host(inode, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        Ok(Stream {
            file: Arc::new(file.into()),
            stream: DirStream::default(),
            watched,
        })
    }

    fn list_host(
        &self,
        inode: &Arc<Inode>,
        file: &File,
        stream: &mut DirStream,
        offset: u64,
        mut emit: impl FnMut(Option<(&Arc<Inode>, &File)>, Option<usize>, &Record<'_>) -> Result<bool>,
    ) -> Result<()> {
        inode.answered(clock::now());
        if inode.overlay == 0 {
            stream.seek(file, offset)?;
            return stream.read(file, |record| {
                let ino = self.entry_number(inode, record);
                emit(Some((inode, file)), None, &Record { ino, ..*record })
            });
        }
        if offset == 0 || stream.listing.is_none() {
            stream.listing = None;
            let listing = self.listing(inode, file, stream)?;
            stream.listing = Some(listing);
        }
        let listing = stream.listing.as_deref().unwrap_or_default();
        let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        for (index, listed) in listing.iter().enumerate().skip(start) {
            let Listed {
                ino,
                kind,
                name,
                synthetic,
            } = listed;
            let record = Record {
                ino: *ino,
                off: index as u64 + 1,
                kind: *kind,
                name,
            };
            if !emit(Some((inode, file)), *synthetic, &record)? {
                break;
            }
        }
        Ok(())
    }

    /// The presented inode number of an entry of `dir`.
    fn entry_number(&self, dir: &Arc<Inode>, record: &Record<'_>) -> u64 {
        if record.name == b".." && dir.node == NodeId::ROOT {
            // What is above the root is nobody's business.
            return self.numbers.present(dir.key.dev, dir.key.ino);
        }
        self.numbers.present(dir.key.dev, record.ino)
    }

    /// All entries of `dir`, with synthetic ones in place of those they hide.
    fn listing(
        &self,
        dir: &Arc<Inode>,
        file: &File,
        stream: &mut DirStream,
    ) -> Result<Vec<Listed>> {
        let synthetic = self.overlay.in_host_all(dir.overlay);
        let mut listing = Vec::new();
        stream.seek(file, 0)?;
        stream.read(file, |record| {
            if !synthetic
                .iter()
                .any(|(name, _)| name.as_bytes() == record.name)
            {
                let ino = self.entry_number(dir, record);
                listing.push(Listed {
                    ino,
                    kind: record.kind,
                    name: record.name.into(),
                    synthetic: None,
                });
            }
            Ok(true)
        })?;
        listing.extend(
            synthetic
                .iter()
                .map(|(name, index)| self.listed(name.as_bytes(), *index)),
        );
        Ok(listing)
    }

    fn listed(&self, name: &[u8], index: usize) -> Listed {
        let attr = self.overlay.attr(index);
        Listed {
            ino: attr.ino,
            kind: attr.mode >> 12,
            name: name.into(),
            synthetic: Some(index),
        }
    }

    fn list_synthetic(
        &self,
        node: NodeId,
        offset: u64,
        mut emit: impl FnMut(Option<(&Arc<Inode>, &File)>, Option<usize>, &Record<'_>) -> Result<bool>,
    ) -> Result<()> {
        let index = self.overlay.index(node).ok_or(Errno::EBADF)?;
        let parent = self.overlay.parent(index).unwrap_or(index);
        let dots = [(&b"."[..], index), (b"..", parent)];
        let names = self
            .overlay
            .in_synthetic_all(index)
            .iter()
            .map(|(name, child)| (name.as_bytes(), *child));
        let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        for (position, (name, child)) in dots.into_iter().chain(names).enumerate().skip(start) {
            let Listed { ino, kind, .. } = self.listed(name, child);
            if !emit(
                None,
                Some(child),
                &Record {
                    ino,
                    off: position as u64 + 1,
                    kind,
                    name,
                },
            )? {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn do_releasedir(&self, fh: FileHandle) {
        drop(self.handles.remove(fh));
    }

    pub(super) fn do_fsyncdir(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        fh: FileHandle,
        datasync: bool,
    ) -> Result<()> {
        let (directory, medium) = if fh == UNOPENED {
            let Node::Host(inode) = self.node(node)? else {
                return Ok(());
            };
            (self.open_stream(&inode)?.file, inode.mount.medium)
        } else {
            let handle = self.handles.get(fh)?;
            let Object::Directory { file, .. } = &handle.object else {
                return Ok(());
            };
            (Arc::clone(file), handle.medium())
        };
        cx.sync(&directory, Durability::of(datasync), medium)
    }

    /// There is no command of io_uring for this: the thread waits itself, and another one takes its place.
    pub(super) fn do_syncfs(&self, cx: &Context<'_>, node: NodeId) -> Result<()> {
        let Node::Host(inode) = self.node(node)? else {
            return Ok(());
        };
        if !inode.is_dir() && inode.kind != libc::S_IFREG {
            return Ok(());
        }
        let file = self.open_host(&inode, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
        Ok(cx.block_in_place(|| nix::unistd::syncfs(&file))?)
    }
}

/// `entry` on the wire.
fn entry_out(entry: &Entry) -> fuse_entry_out {
    fuse_entry_out {
        nodeid: entry.node.0,
        generation: entry.generation,
        entry_valid: entry.entry_ttl.as_secs(),
        attr_valid: entry.attr_ttl.as_secs(),
        entry_valid_nsec: entry.entry_ttl.subsec_nanos(),
        attr_valid_nsec: entry.attr_ttl.subsec_nanos(),
        attr: entry.attr,
    }
}
