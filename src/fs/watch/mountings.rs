//! Names that lead elsewhere because something was mounted on them, or unmounted.
//!
//! No event of a file system tells that, but `/proc/self/mountinfo` can be waited for, and read again. Directories are
//! looked up by path, which must not ask a server that may hang: below a network or FUSE mount nothing is
//! looked up, as nothing there is cached for long either.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::fs::inode::Key;
use crate::fs::policy::MountTable;
use crate::sys::stat;

/// Types of file systems a look at which may hang.
const ASKING: &[&[u8]] = &[
    b"fuse",
    b"nfs",
    b"cifs",
    b"smb",
    b"9p",
    b"ceph",
    b"afs",
    b"autofs",
    b"lustre",
    b"gfs",
    b"ocfs",
    b"coda",
    b"virtiofs",
    b"beegfs",
    b"gpfs",
    b"orangefs",
    b"glusterfs",
];

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mounting {
    point: PathBuf,
    /// It asks a server.
    asks: bool,
}

/// What is mounted where, by mount id.
type Mountings = HashMap<u64, Mounting>;

/// A mount table.
pub struct Table {
    file: File,
    root: OwnedFd,
    mountings: Mountings,
}

impl Table {
    /// Reads `table`.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn new(table: MountTable) -> io::Result<Table> {
        let MountTable { mut file, root } = table;
        let mountings = read(&mut file)?;
        Ok(Table {
            file,
            root,
            mountings,
        })
    }

    /// Reads it again; gives the directories in which a name leads elsewhere now, and the name.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn changed(&mut self) -> io::Result<Vec<(Key, OsString)>> {
        let now = read(&mut self.file)?;
        let before = std::mem::replace(&mut self.mountings, now);
        let points = differences(&before, &self.mountings);
        let found = points.iter().filter_map(|point| {
            let (parent, name) = (point.parent()?, point.file_name()?);
            let asks = |mounting: &Mounting| mounting.asks && parent.starts_with(&mounting.point);
            if self.mountings.values().any(asks) {
                return None;
            }
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            let parent = openat2(&self.root, parent, how).ok()?;
            Some((Key::of(&stat::of(&parent).ok()?), name.to_owned()))
        });
        Ok(found.collect())
    }
}

impl AsFd for Table {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn read(file: &mut File) -> io::Result<Mountings> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text)?;
    Ok(text
        .split(|&byte| byte == b'\n')
        .filter_map(parse)
        .collect())
}

/// A line: id, parent, device, root, mount point, options, fields up to `-`, type, ...
fn parse(line: &[u8]) -> Option<(u64, Mounting)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = PathBuf::from(unescape(fields.nth(3)?));
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let asks = ASKING.iter().any(|asking| kind.starts_with(asking));
    Some((id, Mounting { point, asks }))
}

/// Spaces and the like are written as a backslash and three octal digits.
pub fn unescape(text: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, others @ ..] = rest {
        rest = others;
        let digits = others
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                plain.push(byte);
                rest = &others[3..];
            }
            _ => plain.push(*first),
        }
    }
    OsString::from_vec(plain)
}

/// Where something was mounted, unmounted or moved.
fn differences(before: &Mountings, now: &Mountings) -> Vec<PathBuf> {
    let missing = |from: &Mountings, other: &Mountings| -> Vec<PathBuf> {
        let elsewhere = |id: &u64, mounting: &Mounting| {
            other
                .get(id)
                .is_none_or(|other| other.point != mounting.point)
        };
        from.iter()
            .filter(|(id, mounting)| elsewhere(id, mounting))
            .map(|(_, mounting)| without_mark(&mounting.point).to_owned())
            .collect()
    };
    let mut points = missing(before, now);
    points.extend(missing(now, before));
    points.sort();
    points.dedup();
    points
}

/// The path of a mount point whose directory was removed has a mark at its end.
fn without_mark(point: &Path) -> &Path {
    let bytes = point.as_os_str().as_bytes();
    Path::new(OsStr::from_bytes(
        bytes.strip_suffix(b"//deleted").unwrap_or(bytes),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:5 / /proc rw - proc proc rw
31 22 0:6 / /with\\040space rw shared:5 master:2 - fuse.sshfs host rw
garbage
32 22";

    fn table(text: &[u8]) -> Mountings {
        text.split(|&byte| byte == b'\n')
            .filter_map(parse)
            .collect()
    }

    #[test]
    fn reads_a_table() {
        let mountings = table(TABLE);
        assert_eq!(mountings.len(), 3);
        assert_eq!(mountings[&22].point, Path::new("/"));
        assert!(!mountings[&22].asks && mountings[&31].asks);
        assert_eq!(mountings[&31].point, Path::new("/with space"));
        assert_eq!(unescape(b"a\\"), "a\\");
        assert_eq!(unescape(b"a\\9\\134b"), "a\\9\\b");
    }

    #[test]
    fn finds_what_was_mounted_unmounted_and_moved() {
        let before = table(b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a rw - tmpfs a rw\n3 1 0:3 / /b rw - tmpfs a rw");
        let now = table(b"1 0 0:1 / / ro - ext4 a rw\n2 1 0:2 / /c rw - tmpfs a rw\n4 1 0:4 / /d//deleted rw - tmpfs a rw");
        let points = differences(&before, &now);
        assert_eq!(points, ["/a", "/b", "/c", "/d"].map(PathBuf::from));
        assert!(differences(&now, &now).is_empty());
    }
}
