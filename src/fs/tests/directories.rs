//! Reading directories.

use std::collections::BTreeSet;
use std::fs;

use fuse_proto::dirent::{Dirents, DirentsPlus};

use super::*;

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
