//! Comparing whole trees.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::observe::{Digest, Meta, Seen, extents};
use crate::op::Name;
use crate::side::{Side, xattr_names};

/// What is compared of each name.
#[derive(PartialEq, Eq, Debug)]
struct Node {
    meta: Meta,
    xattrs: Vec<(String, Digest)>,
    content: Option<Digest>,
}

/// Differences between the mount and the plain directory, and between the mount and the host's view of it.
pub fn compare(mount: &Side, plain: &Side) -> Vec<String> {
    let mut problems = Vec::new();
    let got = walk(mount, &mut problems);
    let mut expected = walk(plain, &mut problems);
    for (name, node) in &mut expected {
        if let Some(got) = got.get(name) {
            node.meta.allow_older_atime(&got.meta);
        }
    }
    for (name, node) in &expected {
        match got.get(name) {
            None => problems.push(format!("{name}: missing")),
            Some(other) if other != node => {
                problems.push(format!("{name}: expected {node:?}\n    got {other:?}"))
            }
            Some(_) => {}
        }
    }
    for name in got.keys().filter(|name| !expected.contains_key(*name)) {
        problems.push(format!("{name}: should not exist"));
    }
    problems
}

fn walk(side: &Side, problems: &mut Vec<String>) -> BTreeMap<String, Node> {
    side.enter();
    let mut nodes = BTreeMap::new();
    let mut todo = vec![Name::new(".")];
    while let Some(directory) = todo.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match fs::openat(CWD, &directory.0, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(error) => {
                problems.push(format!("{directory:?} cannot be opened: {error}"));
                continue;
            }
        };
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 32768];
        let mut entries = RawDir::new(&fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    problems.push(format!("{directory:?} cannot be read: {error}"));
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = Name::new([directory.bytes(), b"/", name].concat());
            let seen = match Seen::path(&path) {
                Ok(seen) => seen,
                Err(error) => {
                    problems.push(format!("{path:?} is listed, but: {error}"));
                    continue;
                }
            };
            if seen.inode() != entry.ino() {
                problems.push(format!(
                    "{path:?}: d_ino {}, st_ino {}",
                    entry.ino(),
                    seen.inode()
                ));
            }
            if entry.file_type() != rustix::fs::FileType::from_raw_mode(seen.mode()) {
                problems.push(format!(
                    "{path:?}: d_type {:?}, mode {:o}",
                    entry.file_type(),
                    seen.mode()
                ));
            }
            against_host(side, &path, problems);
            if seen.mode() & libc::S_IFMT == libc::S_IFDIR {
                todo.push(path.clone());
            }
            match node(&path, &seen) {
                Ok(node) => {
                    nodes.insert(path.bytes().escape_ascii().to_string(), node);
                }
                Err(error) => problems.push(format!("{path:?} cannot be looked at: {error}")),
            }
        }
    }
    nodes
}

/// The mount shows exactly the host's attributes.
fn against_host(side: &Side, path: &Name, problems: &mut Vec<String>) {
    let Some(host) = side.host() else { return };
    let mut different = Vec::new();
    // Writing back changes the number of blocks at any time, so one difference proves nothing.
    for _ in 0..3 {
        let name = [host.as_os_str().as_encoded_bytes(), b"/", path.bytes()].concat();
        let (Ok(got), Ok(expected)) = (Seen::path(path), Seen::path(&Name::new(name))) else {
            problems.push(format!("{path:?} is not on both the mount and the host"));
            return;
        };
        different = got
            .exact()
            .into_iter()
            .zip(expected.exact())
            .filter(|(got, expected)| got != expected)
            .collect();
        if different.is_empty() {
            return;
        }
    }
    for ((what, got), (_, expected)) in different {
        problems.push(format!("{path:?}: {what} is {got}, on the host {expected}"));
    }
}

fn node(path: &Name, seen: &Seen) -> Result<Node, Errno> {
    let mut list = vec![0_u8; 65536];
    let len = fs::llistxattr(&path.0, list.as_mut_slice())?;
    let mut xattrs = Vec::new();
    for name in xattr_names(&list[..len]) {
        let mut value = vec![0_u8; 65536];
        let len = fs::lgetxattr(&path.0, &name, value.as_mut_slice())?;
        xattrs.push((name, Digest::of(&value[..len])));
    }
    let content = match seen.mode() & libc::S_IFMT {
        libc::S_IFREG => Some(content(path)?),
        libc::S_IFLNK => Some(Digest::of(
            fs::readlinkat(CWD, &path.0, Vec::new())?.as_bytes(),
        )),
        _ => None,
    };
    Ok(Node {
        meta: seen.meta(),
        xattrs,
        content,
    })
}

/// The bytes of a file; only those with data of a large one.
fn content(path: &Name) -> Result<Digest, Errno> {
    const LARGE: u64 = 4 << 20;
    let file = File::from(fs::openat(
        CWD,
        &path.0,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    let size = fs::fstat(&file)?.st_size.cast_unsigned();
    if size <= LARGE {
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, 0).map_err(|_| Errno::IO)?;
        return Ok(Digest::of(&bytes));
    }
    let ranges = extents(file.as_fd())?;
    let mut bytes = size.to_le_bytes().to_vec();
    for (start, end) in ranges {
        let mut buffer = vec![0; usize::try_from(end - start).unwrap_or(0).min(8 << 20)];
        file.read_exact_at(&mut buffer, start)
            .map_err(|_| Errno::IO)?;
        // Zeros are the same whether they are stored or not.
        bytes.extend(
            buffer
                .into_iter()
                .enumerate()
                .filter(|(_, byte)| *byte != 0)
                .flat_map(|(at, byte)| {
                    let mut record = (start + at as u64).to_le_bytes().to_vec();
                    record.push(byte);
                    record
                }),
        );
    }
    Ok(Digest::of(&bytes))
}

/// Removes what a run left, marked as immutable or not.
pub fn remove(side: &Side) {
    let path = side.host().unwrap_or(side.path());
    if let Some(run) = path.parent() {
        let _ = crate::support::backing::remove(run);
    }
    let _ = fs::unlinkat(CWD, path, AtFlags::REMOVEDIR);
}
