//! Reading directories.

use std::collections::BTreeSet;
use std::fs;

use fuse_proto::dirent::{Dirents, DirentsPlus};

use super::*;
use crate::engine::Errno;

#[test]
fn every_name_is_listed_once_whatever_the_buffer() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    let mut expected = BTreeSet::from([".".to_owned(), "..".to_owned()]);
    for index in 0..500 {
        let name = format!("{}{index}", "n".repeat(index % 60));
        fs::write(served.host(&name), "").unwrap();
        expected.insert(name);
    }
    let names = served.names(NodeId::ROOT);
    assert_eq!(names.len(), expected.len());
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn a_position_can_be_returned_to() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    for index in 0..100 {
        fs::write(served.host(&format!("file{index}")), "").unwrap();
    }
    let (cx, root) = (served.cx(), NodeId::ROOT);
    let opened = served.fs.opendir(&cx, root, 0).unwrap();
    let read = |offset| {
        let mut buffer = [0; 400];
        let mut out = DirentWriter::new(&mut buffer);
        served
            .fs
            .readdir(&cx, root, opened.fh, offset, &mut out)
            .unwrap();
        let len = out.len();
        let list = Dirents::new(&buffer[..len]).map(|dirent| (dirent.off, dirent.name.to_vec()));
        list.collect::<Vec<_>>()
    };
    let first = read(0);
    let second = read(first.last().unwrap().0);
    assert_eq!(read(first[2].0)[0], first[3]);
    assert_eq!(read(first.last().unwrap().0), second);
    assert_eq!(read(0), first);
}

#[test]
fn entries_with_attributes_count_as_lookups() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    for index in 0..30 {
        fs::write(served.host(&format!("file{index}")), "").unwrap();
    }
    let (cx, root) = (served.cx(), NodeId::ROOT);
    let opened = served.fs.opendir(&cx, root, 0).unwrap();
    let (mut offset, mut nodes) = (0, Vec::new());
    loop {
        let mut buffer = [0; 1000];
        let mut out = DirentPlusWriter::new(&mut buffer);
        served
            .fs
            .readdirplus(&cx, root, opened.fh, offset, &mut out)
            .unwrap();
        let len = out.len();
        if len == 0 {
            break;
        }
        for plus in DirentsPlus::new(&buffer[..len]) {
            offset = plus.dirent.off;
            let dots = plus.dirent.name.starts_with(b".");
            assert_eq!(plus.entry.nodeid == 0, dots);
            if !dots {
                assert_eq!(plus.entry.attr.ino, plus.dirent.ino);
                nodes.push(NodeId(plus.entry.nodeid));
            }
        }
    }
    assert_eq!(nodes.len(), 30);
    assert_eq!(
        served.fs.statistics().inodes,
        30,
        "what did not fit is not counted"
    );
    for node in nodes {
        served.fs.forget(node, 1);
    }
    assert_eq!(served.fs.statistics().inodes, 0);
}

/// Names from `offset` on that fit into a small buffer, and where they end; read without having opened the directory.
fn unopened(served: &Served, node: NodeId, offset: u64) -> (Vec<String>, u64) {
    let mut buffer = [0; 300];
    let mut out = DirentWriter::new(&mut buffer);
    let result = served
        .fs
        .readdir(&served.cx(), node, FileHandle(0), offset, &mut out);
    result.unwrap();
    let len = out.len();
    let (mut names, mut end) = (Vec::new(), offset);
    for dirent in Dirents::new(&buffer[..len]) {
        names.push(String::from_utf8_lossy(dirent.name).into_owned());
        end = dirent.off;
    }
    (names, end)
}

#[test]
fn the_kernel_is_told_that_it_need_not_open_directories() {
    for (cache, unneeded) in [
        (CachePolicy::Coherent, true),
        (CachePolicy::Ttl(std::time::Duration::from_secs(1)), false),
        (CachePolicy::Strict, false),
    ] {
        let mut served = Served::new(tempfile::tempdir().unwrap(), |options| {
            options.cache = cache
        });
        served.detached = Detached::of(45, served.fs.capabilities());
        let opened = served.fs.opendir(&served.cx(), NodeId::ROOT, 0);
        assert_eq!(opened.err() == Some(Errno::ENOSYS), unneeded, "{cache:?}");
    }
}

#[test]
fn many_read_a_directory_that_nobody_has_opened() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    for index in 0..200 {
        fs::write(served.host(&format!("file{index}")), "").unwrap();
    }
    fs::create_dir(served.host("other")).unwrap();
    fs::write(served.host("other/alone"), "").unwrap();
    // Each goes on from where it was, in turn.
    let mut readers = vec![(BTreeSet::new(), 0, false); 5];
    while readers.iter().any(|(_, _, done)| !done) {
        for (names, offset, done) in readers.iter_mut().filter(|(_, _, done)| !done) {
            let (some, end) = unopened(&served, NodeId::ROOT, *offset);
            *done = some.is_empty();
            *offset = end;
            for name in some {
                assert!(names.insert(name.clone()), "{name} twice");
            }
        }
    }
    assert!(readers.iter().all(|(names, _, _)| names.len() == 203));
    let other = served.node("other");
    let (mut names, end) = unopened(&served, other, 0);
    names.sort();
    assert_eq!(names, [".", "..", "alone"]);
    assert!(unopened(&served, other, end).0.is_empty());
    assert_eq!(unopened(&served, other, 0).0.len(), 3, "from the start");
    served
        .fs
        .fsyncdir(&served.cx(), other, FileHandle(0), false)
        .unwrap();
    // One was left in the middle, and is closed when nobody has come back to it for a while.
    assert_eq!(served.fs.statistics().handles, 1);
    served.fs.tend(served.detached.notifier());
    assert_eq!(served.fs.statistics().handles, 1);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    served.fs.tend(served.detached.notifier());
    assert_eq!(served.fs.statistics().handles, 0);
}

#[test]
fn a_file_is_no_directory_without_opening_it_either() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    fs::write(served.host("file"), "").unwrap();
    let (node, mut buffer) = (served.node("file"), [0; 300]);
    let mut out = DirentWriter::new(&mut buffer);
    let result = served
        .fs
        .readdir(&served.cx(), node, FileHandle(0), 0, &mut out);
    assert_eq!(result, Err(Errno::ENOTDIR));
}

#[test]
fn a_listing_nobody_watches_is_taken_back_when_it_is_complete() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    let told = || {
        let queued = served.detached.notifier().take_queued();
        queued.contains(&(NodeId::ROOT, Some(0), None))
    };
    let (names, end) = unopened(&served, NodeId::ROOT, 0);
    assert_eq!((names.len(), told()), (2, false));
    assert!(unopened(&served, NodeId::ROOT, end).0.is_empty());
    assert!(told());
}
