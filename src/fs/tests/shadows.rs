//! Synthetic entries.

use std::fs;

use super::*;
use crate::engine::Errno;

fn with(paths: &[(&str, SyntheticKind)]) -> impl FnOnce(&mut Options) {
    let synthetic = paths
        .iter()
        .map(|&(path, kind)| Synthetic {
            path: path.into(),
            kind,
        })
        .collect();
    |options| options.synthetic = synthetic
}

use SyntheticKind::{Directory, File as Regular};

#[test]
fn what_the_host_has_is_hidden_and_the_rest_is_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("var/lib")).unwrap();
    std::os::unix::fs::symlink("/var/lib", dir.path().join("alias")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("var/lib/conf")).unwrap();
    fs::write(dir.path().join("var/lib/host"), "").unwrap();
    let paths = [
        ("/var/lib/cntr", Directory),
        ("/alias/conf", Regular),
        ("/a/b/c", Directory),
        ("/a/b", Directory),
    ];
    let served = Served::new(dir, with(&paths));
    let conf = served.lookup("var/lib/conf").unwrap();
    assert_eq!(
        conf.attr.mode,
        libc::S_IFREG | 0o644,
        "the host's link is hidden"
    );
    assert_eq!(served.node("a/b/c"), served.node("a/b/c"));
    assert_eq!(
        served.lookup("var/lib/cntr").unwrap().attr.mode,
        libc::S_IFDIR | 0o755
    );
    let mut names = served.names(served.node("var/lib"));
    names.sort();
    assert_eq!(names, [".", "..", "cntr", "conf", "host"]);
    assert_eq!(served.names(served.node("a")), [".", "..", "b"]);
    let cx = served.cx();
    let opened = served.fs.open(&cx, conf.node, 0, false).unwrap();
    let read = ReadRequest {
        offset: 0,
        size: 10,
        flags: 0,
    };
    assert!(
        matches!(served.fs.read(&cx, conf.node, opened.fh, &read), Ok(Data::Bytes(bytes)) if bytes.is_empty())
    );
}

#[test]
fn they_cannot_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/host"), "").unwrap();
    let served = Served::new(dir, with(&[("/d/s", Directory), ("/f", Regular)]));
    let (cx, root, d) = (served.cx(), NodeId::ROOT, served.node("d"));
    let (s, f) = (OsStr::new("s"), OsStr::new("f"));
    let new = creation(0o755, 0);
    assert_eq!(served.fs.rmdir(&cx, d, s).err(), Some(Errno::EBUSY));
    assert_eq!(served.fs.unlink(&cx, root, f).err(), Some(Errno::EBUSY));
    assert_eq!(
        served.fs.rename(&cx, (root, f), (root, s), 0).err(),
        Some(Errno::EBUSY)
    );
    assert_eq!(
        served
            .fs
            .rename(&cx, (d, OsStr::new("host")), (d, s), 0)
            .err(),
        Some(Errno::EBUSY)
    );
    assert_eq!(served.fs.mkdir(&cx, d, s, &new).err(), Some(Errno::EEXIST));
    assert_eq!(
        served.fs.mkdir(&cx, served.node("d/s"), f, &new).err(),
        Some(Errno::EROFS)
    );
    assert_eq!(
        served
            .fs
            .open(&cx, served.node("f"), libc::O_RDWR as u32, false)
            .err(),
        Some(Errno::EROFS)
    );
    fs::remove_file(served.host("d/host")).unwrap();
    assert_eq!(
        served.fs.rmdir(&cx, root, OsStr::new("d")).err(),
        Some(Errno::ENOTEMPTY)
    );
}

#[test]
fn bad_paths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["relative", "/", "/a/../b", ""] {
        let mut options = Options::new(open_root(dir.path()));
        with(&[(path, Directory)])(&mut options);
        assert!(
            matches!(PassthroughFs::new(options), Err(Error::SyntheticPath(_))),
            "{path:?}"
        );
    }
    let mut options = Options::new(open_root(dir.path()));
    with(&[("/f", Regular), ("/f/g", Regular)])(&mut options);
    assert!(matches!(
        PassthroughFs::new(options),
        Err(Error::BelowFile(_))
    ));
}
