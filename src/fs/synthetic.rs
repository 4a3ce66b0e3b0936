//! Entries that exist whatever the host has there, so that something can be mounted on them.
//!
//! Each is an inode of its own, an empty directory or file of the root's owner that cannot be changed and is never forgotten: its
//! lookup always gives the same node, so the kernel never detaches a mount on it. Where the path of one leads
//! through host directories they are the ordinary ones (symbolic links resolved inside of the view, as a program would), with the entry added
//! and whatever the host has under that name hidden; parents the host does not have are synthetic as well.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use fuse_proto::{fuse_attr, fuse_statx, fuse_sx_time};
use nix::errno::Errno as Sys;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::idmap::IdMap;
use super::inode::Key;
use super::numbers::Numbers;
use super::policy::{Error, Synthetic, SyntheticKind};
use super::table::SYNTHETIC;
use crate::engine::{Entry, NodeId};
use crate::sys::stat;

/// How long the kernel may cache what never changes.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Names and the synthetic inodes they lead to, in the order they were given.
type Names = Vec<(OsString, usize)>;

/// A synthetic inode.
struct Node {
    kind: SyntheticKind,
    names: Names,
    parent: Option<usize>,
}

/// A host directory that has synthetic entries.
pub struct HostParent {
    /// The directory.
    pub fd: OwnedFd,
    names: Names,
}

/// All synthetic entries.
pub struct Overlay {
    nodes: Vec<Node>,
    /// By the number in [`Inode::overlay`](super::inode::Inode::overlay), less one.
    parents: Vec<Names>,
    owner: (u32, u32),
    /// Seconds since 1970.
    born: u64,
}

/// Host directories on the way to synthetic entries.
#[derive(Default)]
struct HostParents {
    list: Vec<HostParent>,
    known: HashMap<Key, usize>,
}

impl HostParents {
    /// The place of the directory `fd` in the list, at its end if it is new.
    fn index(&mut self, fd: OwnedFd) -> std::io::Result<usize> {
        let index = *self
            .known
            .entry(Key::of(&stat::of(&fd)?))
            .or_insert(self.list.len());
        if index == self.list.len() {
            self.list.push(HostParent {
                fd,
                names: Names::new(),
            });
        }
        Ok(index)
    }
}

/// Where a path has led so far.
enum Cursor {
    Host(usize),
    Synthetic(usize),
}

/// Opens the directory `path` of the view, symbolic links resolved inside of it.
fn open_dir(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Sys> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = path.strip_prefix("/").unwrap_or(path);
    match openat2(
        root,
        if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        },
        how,
    ) {
        Ok(fd) => Ok(Some(fd)),
        Err(Sys::ENOENT | Sys::ENOTDIR | Sys::ELOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The names of an absolute path.
fn names(path: &Path) -> Option<Vec<&OsStr>> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    let names: Option<Vec<_>> = components
        .map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    names.filter(|names| !names.is_empty())
}

impl Overlay {
    /// The entries `wanted` in the view of `root`, and the host directories they are in, in the order of their numbers.
    pub fn new(
        wanted: &[Synthetic],
        root: &OwnedFd,
        ids: &IdMap,
    ) -> Result<(Overlay, Vec<HostParent>), Error> {
        let born = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let found = stat::of(root).map_err(Error::Root)?;
        let (uid, gid) = (found.raw().stx_uid, found.raw().stx_gid);
        let owner = (ids.uids.present(uid), ids.gids.present(gid));
        let mut overlay = Overlay {
            nodes: Vec::new(),
            parents: Vec::new(),
            owner,
            born,
        };
        let mut parents = HostParents::default();
        // Shorter paths first, so that a path below another one finds it.
        let mut wanted: Vec<&Synthetic> = wanted.iter().collect();
        wanted.sort_by_key(|synthetic| synthetic.path.components().count());
        for synthetic in wanted {
            let path = &synthetic.path;
            let names = names(path).ok_or_else(|| Error::SyntheticPath(path.clone()))?;
            let failed = |source: std::io::Error| Error::SyntheticParent {
                path: path.clone(),
                source,
            };
            let fd = open_dir(root, Path::new("/")).map_err(|errno| failed(errno.into()))?;
            let fd = fd.ok_or_else(|| failed(Sys::ENOTDIR.into()))?;
            let mut cursor = Cursor::Host(parents.index(fd).map_err(failed)?);
            let mut prefix = PathBuf::from("/");
            for (depth, name) in names.iter().enumerate() {
                let last = depth + 1 == names.len();
                prefix.push(name);
                let siblings = match cursor {
                    Cursor::Host(index) => &parents.list[index].names,
                    Cursor::Synthetic(index) => &overlay.nodes[index].names,
                };
                if let Some(child) = find(siblings, name) {
                    if overlay.nodes[child].kind == SyntheticKind::File && !last {
                        return Err(Error::BelowFile(path.clone()));
                    }
                    cursor = Cursor::Synthetic(child);
                    continue;
                }
                if let (Cursor::Host(_), false) = (&cursor, last)
                    && let Some(fd) =
                        open_dir(root, &prefix).map_err(|errno| failed(errno.into()))?
                {
                    cursor = Cursor::Host(parents.index(fd).map_err(failed)?);
                    continue;
                }
                let kind = if last {
                    synthetic.kind
                } else {
                    SyntheticKind::Directory
                };
                let parent = match cursor {
                    Cursor::Host(_) => None,
                    Cursor::Synthetic(index) => Some(index),
                };
                let child = overlay.nodes.len();
                overlay.nodes.push(Node {
                    kind,
                    names: Names::new(),
                    parent,
                });
                match cursor {
                    Cursor::Host(index) => {
                        parents.list[index].names.push(((*name).to_owned(), child))
                    }
                    Cursor::Synthetic(index) => {
                        overlay.nodes[index].names.push(((*name).to_owned(), child))
                    }
                }
                cursor = Cursor::Synthetic(child);
            }
        }
        let mut parents = parents.list;
        parents.retain(|parent| !parent.names.is_empty());
        overlay.parents = parents.iter().map(|parent| parent.names.clone()).collect();
        Ok((overlay, parents))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The synthetic inode `name` in the host directory with the number `overlay`.
    pub fn in_host(&self, overlay: u32, name: &OsStr) -> Option<usize> {
        find(self.in_host_all(overlay), name)
    }

    /// All synthetic entries of the host directory with the number `overlay`.
    pub fn in_host_all(&self, overlay: u32) -> &[(OsString, usize)] {
        match (overlay as usize).checked_sub(1) {
            Some(index) => self.parents.get(index).map_or(&[], |names| names),
            None => &[],
        }
    }

    /// The synthetic inode `name` in the synthetic directory `index`.
    pub fn in_synthetic(&self, index: usize, name: &OsStr) -> Option<usize> {
        find(&self.nodes[index].names, name)
    }

    /// All entries of the synthetic directory `index`.
    pub fn in_synthetic_all(&self, index: usize) -> &[(OsString, usize)] {
        &self.nodes[index].names
    }

    /// The synthetic directory that `index` is in; none if that is a host directory.
    pub fn parent(&self, index: usize) -> Option<usize> {
        self.nodes[index].parent
    }

    /// The synthetic inode that `node` names.
    pub fn index(&self, node: NodeId) -> Option<usize> {
        let index = (node.0 & !SYNTHETIC) as usize;
        (node.0 & SYNTHETIC != 0 && index < self.nodes.len()).then_some(index)
    }

    /// What `index` is.
    pub fn kind(&self, index: usize) -> SyntheticKind {
        self.nodes[index].kind
    }

    /// The attributes of `index`.
    pub fn attr(&self, index: usize) -> fuse_attr {
        let node = &self.nodes[index];
        let directories = node
            .names
            .iter()
            .filter(|(_, child)| self.nodes[*child].kind == SyntheticKind::Directory);
        let (mode, nlink) = match node.kind {
            SyntheticKind::Directory => (libc::S_IFDIR | 0o755, 2 + directories.count() as u32),
            SyntheticKind::File => (libc::S_IFREG | 0o644, 1),
        };
        fuse_attr {
            ino: Numbers::synthetic(index),
            atime: self.born,
            mtime: self.born,
            ctime: self.born,
            mode,
            nlink,
            uid: self.owner.0,
            gid: self.owner.1,
            blksize: 4096,
            ..fuse_attr::default()
        }
    }

    /// The answer to statx(2) for `index`.
    pub fn statx(&self, index: usize) -> fuse_statx {
        let attr = self.attr(index);
        let time = fuse_sx_time {
            tv_sec: self.born as i64,
            tv_nsec: 0,
            __reserved: 0,
        };
        fuse_statx {
            mask: libc::STATX_BASIC_STATS | libc::STATX_BTIME,
            blksize: attr.blksize,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            mode: attr.mode as u16,
            ino: attr.ino,
            atime: time,
            btime: time,
            ctime: time,
            mtime: time,
            ..fuse_statx::default()
        }
    }

    /// The answer to a lookup of `index`.
    pub fn entry(&self, index: usize) -> Entry {
        Entry {
            node: NodeId(SYNTHETIC | index as u64),
            generation: 0,
            attr: self.attr(index),
            entry_ttl: FOREVER,
            attr_ttl: FOREVER,
        }
    }

    /// How long the attributes may be cached.
    pub fn ttl() -> Duration {
        FOREVER
    }
}

fn find(names: &[(OsString, usize)], name: &OsStr) -> Option<usize> {
    names
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, index)| *index)
}
