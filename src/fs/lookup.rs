//! LOOKUP and FORGET: from names to node ids and back to nothing.
//!
//! A lookup of a known inode is one statx(2): if the number it gives is in the table and that inode is held by a
//! descriptor, the number cannot have been reused. Everything else is opened first and identified by the descriptor.
//!
//! Only single names are looked up, symbolic links are never followed and `..` only goes up to the root, so nothing
//! outside of the tree can be reached.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use fuse_proto::fuse_attr;
use nix::fcntl::OFlag;
use parking_lot::Mutex;

use super::PassthroughFs;
use super::attr::attr_ttl;
use super::creds::acting_as_server;
use super::inode::{Inode, Key, Place, Ways};
use super::mounts::{Mount, Nature};
use crate::engine::metrics::CacheEvent;
use crate::engine::{Context, Entry, Errno, NodeId, Result};
use crate::sys::clock;
use crate::sys::stat::{self, Automount, Stat};

/// What a node id leads to.
pub enum Node {
    /// An inode of the host.
    Host(Arc<Inode>),
    /// A synthetic inode.
    Synthetic(usize),
}

/// Refuses everything but a single name.
pub fn check_name(name: &OsStr) -> Result<()> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(Errno::EINVAL),
        bytes if bytes.contains(&b'/') || bytes.contains(&0) => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

impl PassthroughFs {
    /// What `node` leads to.
    ///
    /// # Errors
    /// `ESTALE` if it was forgotten or never handed out.
    pub(super) fn node(&self, node: NodeId) -> Result<Node> {
        let inode = if node == NodeId::ROOT {
            Arc::clone(&self.root)
        } else if let Some(index) = self.overlay.index(node) {
            return Ok(Node::Synthetic(index));
        } else {
            self.table.get(node).ok_or(Errno::ESTALE)?
        };
        if inode.mount.nature == Nature::Remote {
            acting_as_server()?;
        }
        Ok(Node::Host(inode))
    }

    /// The host inode of `node`.
    ///
    /// # Errors
    /// `EPERM` for a synthetic one.
    pub(super) fn host(&self, node: NodeId) -> Result<Arc<Inode>> {
        match self.node(node)? {
            Node::Host(inode) => Ok(inode),
            Node::Synthetic(_) => Err(Errno::EPERM),
        }
    }

    pub(super) fn do_lookup(
        &self,
        cx: &Context<'_>,
        parent: NodeId,
        name: &OsStr,
    ) -> Result<Entry> {
        let inode = match self.node(parent)? {
            Node::Synthetic(index) => {
                let child = self
                    .overlay
                    .in_synthetic(index, name)
                    .ok_or(Errno::ENOENT)?;
                return Ok(self.overlay.entry(child));
            }
            Node::Host(inode) => inode,
        };
        if self.remembered.is_enabled() {
            match name.as_bytes() {
                b"." => return self.itself(&inode),
                b".." => return self.above(&inode),
                _ => (),
            }
        }
        check_name(name)?;
        if let Some(child) = self.overlay.in_host(inode.overlay, name) {
            return Ok(self.overlay.entry(child));
        }
        let dir = self.fd(&inode)?;
        let asked = clock::now();
        inode.answered(asked);
        match self.find(&inode, &*dir, name, Automount::Trigger, asked) {
            Ok((child, stat, event)) => {
                cx.count(event);
                Ok(self.entry(&inode, &child, &stat))
            }
            Err(Errno::ENOENT) => {
                let ttl = self.ttl(&inode, asked);
                if ttl.is_zero() {
                    Err(Errno::ENOENT)
                } else {
                    Ok(no_entry(ttl))
                }
            }
            Err(errno) => Err(errno),
        }
    }

    /// The answer that hands out `inode`, a name in `parent`.
    pub(super) fn entry(&self, parent: &Inode, inode: &Inode, stat: &Stat) -> Entry {
        let own = self.ttl(inode, stat.asked());
        // The name is the parent's, and where it leads to something that is not cached, neither is it.
        let of_name = if Arc::ptr_eq(&parent.mount, &inode.mount) {
            own
        } else {
            own.min(self.ttl(parent, stat.asked()))
        };
        Entry {
            node: inode.node,
            generation: 0,
            attr: self.attr(stat),
            entry_ttl: of_name,
            attr_ttl: attr_ttl(inode, own),
        }
    }

    /// Looks up `name` in `parent`, whose descriptor is `dir`, and counts it.
    pub(super) fn walk(
        &self,
        parent: &Arc<Inode>,
        dir: &impl AsFd,
        name: &OsStr,
        automount: Automount,
    ) -> Result<(Arc<Inode>, Stat)> {
        let (inode, found, _) = self.find(parent, dir, name, automount, clock::now())?;
        Ok((inode, found))
    }

    /// The same at the time `asked`, with whether the kernel knew the inode already.
    fn find(
        &self,
        parent: &Arc<Inode>,
        dir: &impl AsFd,
        name: &OsStr,
        automount: Automount,
        asked: u64,
    ) -> Result<(Arc<Inode>, Stat, CacheEvent)> {
        if self.hides_name(parent, name) {
            return Err(Errno::ENOENT);
        }
        if parent.opens_first.load(Ordering::Relaxed) {
            let fd = self.descriptors.open_held(dir, name)?;
            let found = stat::of_since(&fd, asked)?;
            // Opening it like this does not mount what it waits for.
            if automount == Automount::Leave || !found.is_automount() {
                if self.hides(parent, dir, name, &found, Some(&fd)) {
                    return Err(Errno::ENOENT);
                }
                let (inode, event) = self.identify(fd, &found, Some((parent, name)))?;
                if event == CacheEvent::RepeatedLookup {
                    parent.opens_first.store(false, Ordering::Relaxed);
                }
                return Ok((inode, found, event));
            }
        }
        let found = stat::at_since(dir, name, automount, asked)?;
        if self.hides(parent, dir, name, &found, None) {
            return Err(Errno::ENOENT);
        }
        let key = Key::of(&found);
        let known = self.table.acquire(&key, |inode| {
            inode.referenced.store(true, Ordering::Relaxed);
            inode.answered(found.asked());
            inode.resembles(&found) && inode.ways.lock().fd.is_some()
        });
        if let Some(inode) = known {
            if !inode.mount.has_handles() {
                refresh_place(&inode, parent, name);
            }
            return Ok((inode, found, CacheEvent::RepeatedLookup));
        }
        let fd = self.descriptors.open_held(dir, name)?;
        let again = stat::of(&fd)?;
        // What has come in its place meanwhile may be hidden.
        if Key::of(&again) != key && self.hides(parent, dir, name, &again, Some(&fd)) {
            return Err(Errno::ENOENT);
        }
        let found = again;
        let (inode, event) = self.identify(fd, &found, Some((parent, name)))?;
        if event == CacheEvent::FirstLookup {
            parent.opens_first.store(true, Ordering::Relaxed);
        }
        Ok((inode, found, event))
    }

    /// The inode that `fd` is open on, counted once more.
    pub(super) fn intern(
        &self,
        fd: OwnedFd,
        stat: &Stat,
        place: Option<(&Arc<Inode>, &OsStr)>,
    ) -> Result<Arc<Inode>> {
        self.identify(fd, stat, place).map(|(inode, _)| inode)
    }

    /// The same, with whether the kernel knew the inode already.
    fn identify(
        &self,
        mut fd: OwnedFd,
        stat: &Stat,
        place: Option<(&Arc<Inode>, &OsStr)>,
    ) -> Result<(Arc<Inode>, CacheEvent)> {
        let key = Key::of(stat);
        // Another inode that had this number, and is to be replaced.
        let mut expected = None;
        loop {
            let mount = self.mount_of(&fd, stat)?;
            let place = place
                .filter(|_| !mount.has_handles())
                .map(|(parent, name)| {
                    Box::new(Place {
                        parent: Arc::clone(parent),
                        name: name.into(),
                    })
                });
            let held = self.descriptors.hold(fd);
            let ways = Ways {
                fd: Some(Arc::clone(&held)),
                place,
                ..Ways::default()
            };
            let make = |node| new_inode(node, stat, mount, 0, ways);
            let known = match self.table.insert(&key, expected, make) {
                Ok(inode) => {
                    drop(held);
                    self.descriptors.enroll(&inode);
                    return Ok((inode, CacheEvent::FirstLookup));
                }
                Err((known, make)) => {
                    drop(make);
                    known
                }
            };
            known.answered(stat.asked());
            match self.adopt(&known, held, stat) {
                Ok(()) if self.table.retain(known.node) => {
                    return Ok((known, CacheEvent::RepeatedLookup));
                }
                // Forgotten just now; what was adopted goes with it.
                Ok(()) => {
                    expected = None;
                    fd = self.fd(&known)?.as_fd().try_clone_to_owned()?;
                }
                Err(held) => {
                    expected = Some(known.node);
                    fd = held.as_fd().try_clone_to_owned()?;
                }
            }
        }
    }

    /// The mount of the inode behind `fd`.
    pub(super) fn mount_of(&self, fd: &OwnedFd, stat: &Stat) -> Result<Arc<Mount>> {
        let reopen = |fd: &OwnedFd, flags: i32| {
            let flags = OFlag::from_bits_truncate(flags);
            Ok(self.descriptors.reopen(fd.as_fd(), flags)?)
        };
        Ok(self.mounts.of(fd, stat, reopen)?)
    }

    pub(super) fn do_forget(&self, node: NodeId, lookups: u64) {
        if node != NodeId::ROOT && self.overlay.index(node).is_none() {
            let remembered = self
                .remembered
                .is_enabled()
                .then(|| self.remember(node))
                .flatten();
            // Dropped here, without a lock of the table: closing a descriptor may take its time.
            if let Some(inode) = self.table.forget(node, lookups) {
                // Nothing is looked for below what the kernel has forgotten; and two directories that the host has
                // turned around may hold each other.
                let place = inode.ways.lock().place.take();
                drop(place);
            }
            if let Some(inode) = remembered {
                self.let_go(&inode);
            }
        }
    }
}

/// Says that a name does not exist, and for how long to believe it.
fn no_entry(ttl: Duration) -> Entry {
    Entry {
        node: NodeId(0),
        generation: 0,
        attr: fuse_attr::default(),
        entry_ttl: ttl,
        attr_ttl: Duration::ZERO,
    }
}

/// Remembers where `inode` was seen last: the host may have moved it.
fn refresh_place(inode: &Arc<Inode>, parent: &Arc<Inode>, name: &OsStr) {
    let mut ways = inode.ways.lock();
    let same = |place: &Place| Arc::ptr_eq(&place.parent, parent) && *place.name == *name;
    if !ways.place.as_deref().is_some_and(same) {
        let place = Box::new(Place {
            parent: Arc::clone(parent),
            name: name.into(),
        });
        let before = ways.place.replace(place);
        // Without the lock: it may hold the last reference to a directory.
        drop(ways);
        drop(before);
    }
}

/// The inode that `stat` is about.
pub fn new_inode(node: NodeId, stat: &Stat, mount: Arc<Mount>, overlay: u32, ways: Ways) -> Inode {
    Inode {
        node,
        key: Key::of(stat),
        birth: stat.birth(),
        kind: stat.kind(),
        overlay,
        mount,
        referenced: AtomicBool::new(true),
        asked: AtomicU64::new(stat.asked()),
        writers: AtomicU32::new(0),
        muted: AtomicBool::new(false),
        fresh: AtomicBool::new(false),
        opens_first: AtomicBool::new(false),
        ways: Mutex::new(ways),
    }
}
