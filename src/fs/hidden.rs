//! Paths that are not there, whichever way somebody comes at them.
//!
//! What is hidden is a name in a directory, and the inode it leads to. The name alone would not do: a hard link, a bind
//! mount or a rename of a directory above gives the inode another path. Nor would the inode: a file that is replaced by
//! `rename(2)`, as editors and passwd(1) do, is another one. So both are remembered, more of them as the host changes, and
//! nothing that was hidden once is shown again. A hidden inode never gets a node id, so nothing in it, no `..`, no open file
//! and no cache of the kernel can lead to it.
//!
//! A mount whose root is *below* something hidden (`mount --bind hidden/dir elsewhere`) is recognized where a name leads
//! to another mount: the mount table tells where in its file system the mount begins, and the way there is followed on
//! another mount of that file system.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;
use parking_lot::RwLock;

use super::PassthroughFs;
use super::descriptors::HOLD;
use super::inode::Inode;
use super::mounts::Nature;
use super::policy::{Error, MountTable};
use super::watch::unescape;
use crate::engine::{Errno, NodeId, Result};
use crate::sys::handle::Handle;
use crate::sys::stat::{self, Automount, Stat};

/// Device and inode number.
type Number = (u64, u64);

fn number(stat: &Stat) -> Number {
    (stat.dev(), stat.ino())
}

/// What has been found hidden so far.
#[derive(Default)]
struct Seen {
    /// Inodes, by number. A number is reused when a file is gone; a handle tells that, where there are any.
    inodes: HashMap<Number, Vec<Option<Handle>>>,
    /// Names in directories.
    names: HashMap<OsString, HashSet<Number>>,
}

/// The hidden paths of a view.
pub struct Hidden {
    root: OwnedFd,
    table: MountTable,
    /// Directory and name of each.
    paths: Vec<(PathBuf, OsString)>,
    seen: RwLock<Seen>,
}

/// How `path` of the view is opened: as by a process whose root the view is.
fn open_in(root: &OwnedFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

/// The path of `fd` below `root`.
fn path_of(root: &OwnedFd, fd: &OwnedFd) -> Option<PathBuf> {
    let link = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
    let below = link(fd)?.strip_prefix(link(root)?).ok()?.to_owned();
    Some(Path::new("/").join(below))
}

fn parent_and_name(path: &Path) -> Option<(PathBuf, OsString)> {
    Some((path.parent()?.to_owned(), path.file_name()?.to_owned()))
}

impl Hidden {
    /// Hides `paths` of the view of `root`. What is not there yet is hidden when it comes.
    ///
    /// # Errors
    /// One of them is not absolute, has `..` in it, or is the root.
    pub fn new(
        paths: &[PathBuf],
        root: &OwnedFd,
        table: MountTable,
    ) -> std::result::Result<Hidden, Error> {
        let split = |path: &PathBuf| {
            let plain = |part: Component<'_>| part != Component::ParentDir;
            let fine = path.is_absolute() && path.components().all(plain);
            let split = parent_and_name(path).filter(|_| fine);
            split.ok_or_else(|| Error::HiddenPath(path.clone()))
        };
        let hidden = Hidden {
            root: root.try_clone().map_err(Error::Root)?,
            table,
            paths: paths
                .iter()
                .map(split)
                .collect::<std::result::Result<_, _>>()?,
            seen: RwLock::default(),
        };
        hidden.refresh();
        Ok(hidden)
    }

    /// Looks at the paths again; gives what is new among the inodes they lead to.
    pub fn refresh(&self) -> Vec<Stat> {
        let mut new = Vec::new();
        for (parent, name) in &self.paths {
            let Some(dir) = self.see_name(parent, name) else {
                continue;
            };
            let Ok(found) = openat(&dir, name.as_os_str(), HOLD, Mode::empty()) else {
                continue;
            };
            let is_link = stat::of(&found).is_ok_and(|stat| stat.kind() == libc::S_IFLNK);
            new.extend(self.see_inode(&found));
            if !is_link {
                continue;
            }
            // A link, and what it leads to.
            let Ok(target) = open_in(&self.root, &parent.join(name), OFlag::empty()) else {
                continue;
            };
            new.extend(self.see_inode(&target));
            let path = path_of(&self.root, &target);
            if let Some((parent, name)) = path.as_deref().and_then(parent_and_name) {
                self.see_name(&parent, &name);
            }
        }
        new
    }

    /// Remembers that `name` is hidden in the directory `parent`; gives that back if it is there.
    fn see_name(&self, parent: &Path, name: &OsStr) -> Option<OwnedFd> {
        let dir = open_in(&self.root, parent, OFlag::O_DIRECTORY).ok()?;
        let number = number(&stat::of(&dir).ok()?);
        let seen = self.seen.read();
        let known = seen
            .names
            .get(name)
            .is_some_and(|dirs| dirs.contains(&number));
        drop(seen);
        if !known {
            let mut seen = self.seen.write();
            seen.names
                .entry(name.to_owned())
                .or_default()
                .insert(number);
        }
        Some(dir)
    }

    /// Remembers that the inode behind `fd` is hidden; gives it back if it is new.
    fn see_inode(&self, fd: &OwnedFd) -> Option<Stat> {
        let stat = stat::of(fd).ok()?;
        let handle = Handle::of(fd).ok();
        let number = number(&stat);
        let seen = self.seen.read();
        let known = seen.inodes.get(&number);
        if known.is_some_and(|handles| handles.contains(&handle)) {
            return None;
        }
        drop(seen);
        let mut seen = self.seen.write();
        seen.inodes.entry(number).or_default().push(handle);
        Some(stat)
    }

    /// Whether `name` is hidden in the directory `dir`.
    fn has_name(&self, dir: Number, name: &OsStr) -> bool {
        let seen = self.seen.read();
        let known = seen.names.get(name);
        if known.is_some_and(|dirs| dirs.contains(&dir)) {
            return true;
        }
        drop(seen);
        let alike = |other: &OsStr| other.as_bytes().eq_ignore_ascii_case(name.as_bytes());
        if !self.paths.iter().any(|(_, other)| alike(other)) {
            return false;
        }
        // The path may lead to another directory now; and where case means nothing the inode must be known.
        self.refresh();
        let seen = self.seen.read();
        seen.names.get(name).is_some_and(|dirs| dirs.contains(&dir))
    }

    /// Whether the inode of `stat`, which `open` opens, is hidden.
    fn has_inode(&self, stat: &Stat, open: impl Fn() -> Option<OwnedFd>) -> bool {
        let Some(handles) = self.seen.read().inodes.get(&number(stat)).cloned() else {
            return false;
        };
        // What has no handle to compare is taken for the same.
        match open().and_then(|fd| Handle::of(&fd).ok()) {
            Some(handle) => {
                handles.iter().flatten().any(|other| *other == handle) || handles.contains(&None)
            }
            None => true,
        }
    }

    /// Whether what a name of `dir` leads to, which `open` opens, is hidden.
    fn has(&self, dir: &Inode, stat: &Stat, open: impl Fn() -> Option<OwnedFd>) -> bool {
        if self.has_inode(stat, &open) {
            return true;
        }
        // It may have got the hidden name just now.
        if stat.kind() != libc::S_IFDIR && stat.nlink() > 1 {
            let new = self.refresh();
            if !new.is_empty() && self.has_inode(stat, &open) {
                return true;
            }
        }
        stat.mount() != dir.mount.id && self.has_root(stat, open)
    }

    /// Whether the mount whose root `stat` is about begins below something hidden.
    fn has_root(&self, stat: &Stat, open: impl Fn() -> Option<OwnedFd>) -> bool {
        let id = open().and_then(|fd| stat::mount_number(&fd).ok());
        let (Some(id), Ok(mounts)) = (id, read(&self.table)) else {
            return true;
        };
        // One that is not in the table was unmounted just now.
        let Some(this) = mounts.iter().find(|mount| mount.id == id) else {
            return true;
        };
        let mut others: Vec<(&Mounted, &Path)> = mounts
            .iter()
            .filter(|other| other.device == this.device && other.root != this.root)
            .filter_map(|other| Some((other, this.root.strip_prefix(&other.root).ok()?)))
            .collect();
        if others.is_empty() {
            return false;
        }
        self.refresh();
        others.sort_by_key(|(other, _)| other.root.components().count());
        for (other, way) in others {
            match self.follow(other, way, stat) {
                Some(is_hidden) => return is_hidden,
                // Something is mounted in between.
                None => continue,
            }
        }
        false
    }

    /// Whether something on the `way` through `mount` to the inode of `end` is hidden; none if it does not lead there.
    fn follow(&self, mount: &Mounted, way: &Path, end: &Stat) -> Option<bool> {
        let mut current = open_in(&self.table.root, &mount.point, OFlag::O_DIRECTORY).ok()?;
        let mut here = stat::of(&current).ok()?;
        for name in way.iter() {
            if stat::mount_number(&current).ok()? != mount.id {
                return None;
            }
            if self.has_inode(&here, || current.try_clone().ok())
                || self.has_name(number(&here), name)
            {
                return Some(true);
            }
            let next = openat(&current, name, HOLD, Mode::empty()).ok()?;
            here = stat::of(&next).ok()?;
            current = next;
        }
        (number(&here) == number(end)).then_some(false)
    }
}

/// A line of a mount table.
struct Mounted {
    id: u64,
    device: Box<[u8]>,
    /// Where in its file system it begins.
    root: PathBuf,
    point: PathBuf,
}

fn read(table: &MountTable) -> io::Result<Vec<Mounted>> {
    /// The file with its own position: others read it, too.
    struct From<'a>(&'a std::fs::File, u64);
    impl Read for From<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.0.read_at(buffer, self.1)?;
            self.1 += len as u64;
            Ok(len)
        }
    }
    let mut text = Vec::new();
    From(&table.file, 0).read_to_end(&mut text)?;
    Ok(text
        .split(|&byte| byte == b'\n')
        .filter_map(parse)
        .collect())
}

/// A line: id, parent, device, root, mount point, ...
fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?.into();
    let root = PathBuf::from(unescape(fields.next()?));
    let point = PathBuf::from(unescape(fields.next()?));
    Some(Mounted {
        id,
        device,
        root,
        point,
    })
}

impl PassthroughFs {
    /// Whether `name` is hidden in `dir`, whatever it leads to.
    pub(super) fn hides_name(&self, dir: &Inode, name: &OsStr) -> bool {
        let hidden = self.hidden.as_ref();
        hidden.is_some_and(|hidden| hidden.has_name((dir.key.dev, dir.key.ino), name))
    }

    /// Whether what `name` leads to in `dir`, `stat` says what that is, is hidden. `fd` is the inode, if it is open.
    pub(super) fn hides(
        &self,
        dir: &Inode,
        at: &impl AsFd,
        name: &OsStr,
        stat: &Stat,
        fd: Option<&OwnedFd>,
    ) -> bool {
        let Some(hidden) = &self.hidden else {
            return false;
        };
        hidden.has(dir, stat, || match fd {
            Some(fd) => fd.try_clone().ok(),
            None => {
                let fd = self.descriptors.open_held(at, name).ok()?;
                // Another one may have come in its place.
                stat::of(&fd)
                    .is_ok_and(|now| number(&now) == number(stat))
                    .then_some(fd)
            }
        })
    }

    /// Whether an entry of the listing of `dir`, open as `at`, is hidden.
    pub(super) fn hides_entry(&self, dir: &Inode, at: &impl AsFd, name: &[u8]) -> bool {
        if self.hidden.is_none() || name == b"." || name == b".." {
            return false;
        }
        let name = OsStr::from_bytes(name);
        if self.hides_name(dir, name) {
            return true;
        }
        // What a network file system shows is not asked for each name; looking it up will.
        dir.mount.nature == Nature::Local
            && stat::at(at, name, Automount::Leave)
                .is_ok_and(|stat| self.hides(dir, at, name, &stat, None))
    }

    /// Refuses with `errno` to touch what is hidden as `name` in `dir`.
    pub(super) fn refuse_hidden(&self, dir: &Arc<Inode>, name: &OsStr, errno: Errno) -> Result<()> {
        if self.hidden.is_none() {
            return Ok(());
        }
        let hides = self.hides_name(dir, name) || {
            let at = self.fd(dir)?;
            stat::at(&*at, name, Automount::Leave)
                .is_ok_and(|stat| self.hides(dir, &*at, name, &stat, None))
        };
        if hides { Err(errno) } else { Ok(()) }
    }

    /// Looks at the hidden paths again; what they lead to now and the kernel knows already.
    pub(super) fn newly_hidden(&self) -> Vec<NodeId> {
        let Some(hidden) = &self.hidden else {
            return Vec::new();
        };
        let new = hidden.refresh();
        let known = |stat: &Stat| Some(self.table.peek(&super::inode::Key::of(stat))?.node);
        new.iter().filter_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_tables_say_where_mounts_begin() {
        let mounted = parse(b"30 22 8:1 /a\\040b /mnt rw shared:5 - ext4 /dev/sda rw").unwrap();
        assert_eq!((mounted.id, &*mounted.device), (30, &b"8:1"[..]));
        assert_eq!(mounted.root, Path::new("/a b"));
        assert_eq!(mounted.point, Path::new("/mnt"));
        assert!(parse(b"30 22 8:1").is_none());
        let own = MountTable::own().unwrap();
        let (once, again) = (read(&own).unwrap().len(), read(&own).unwrap().len());
        assert!(once > 0 && once == again);
    }
}
