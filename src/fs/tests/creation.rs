//! New files belong to who made them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::*;
use crate::engine::Errno;

/// u::rwx g::rwx o::r-x, as a default ACL.
const DEFAULT_ACL: [u8; 28] = [
    2, 0, 0, 0, //
    0x01, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, //
    0x04, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, //
    0x20, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
];

fn owner_and_mode(path: &Path) -> (u32, u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

#[test]
fn everything_belongs_to_the_caller() {
    if not_root() {
        return;
    }
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    let cx = served.detached.context(1000, 1001);
    let (fs, root, name) = (&served.fs, NodeId::ROOT, |name: &'static str| {
        OsStr::new(name)
    });
    fs.mkdir(&cx, root, name("dir"), &creation(0o777, 0o027))
        .unwrap();
    fs.mknod(
        &cx,
        root,
        name("fifo"),
        &creation(libc::S_IFIFO | 0o666, 0o027),
    )
    .unwrap();
    fs.symlink(&cx, root, name("link"), c"target", &creation(0o777, 0o027))
        .unwrap();
    let (_, opened) = fs
        .create(
            &cx,
            root,
            name("file"),
            libc::O_RDWR as u32,
            &creation(0o6666, 0o027),
        )
        .unwrap();
    fs.release(root, opened.fh, None);
    assert_eq!(owner_and_mode(&served.host("dir")), (1000, 1001, 0o750));
    assert_eq!(owner_and_mode(&served.host("fifo")), (1000, 1001, 0o640));
    assert!(
        std::fs::metadata(served.host("fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert_eq!(owner_and_mode(&served.host("link")), (1000, 1001, 0o777));
    assert_eq!(owner_and_mode(&served.host("file")), (1000, 1001, 0o6640));
    // The next request is of somebody else.
    fs.mkdir(&served.cx(), root, name("roots"), &creation(0o777, 0))
        .unwrap();
    assert_eq!(owner_and_mode(&served.host("roots")), (0, 0, 0o777));
    let (entry, opened) = fs
        .tmpfile(&cx, root, libc::O_RDWR as u32, &creation(0o666, 0o022))
        .unwrap();
    assert_eq!(
        (entry.attr.uid, entry.attr.gid, entry.attr.mode & 0o7777),
        (1000, 1001, 0o644)
    );
    assert_eq!(entry.attr.nlink, 0);
    assert_eq!(
        fs.link(&cx, entry.node, root, name("linked"))
            .unwrap()
            .attr
            .nlink,
        1
    );
    fs.release(entry.node, opened.fh, None);
    assert_eq!(owner_and_mode(&served.host("linked")), (1000, 1001, 0o644));
}

#[test]
fn a_setgid_directory_hands_down_its_group() {
    if not_root() {
        return;
    }
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    std::fs::create_dir(served.host("dir")).unwrap();
    std::os::unix::fs::chown(served.host("dir"), None, Some(2000)).unwrap();
    std::fs::set_permissions(served.host("dir"), std::fs::Permissions::from_mode(0o2777)).unwrap();
    let dir = served.node("dir");
    let cx = served.detached.context(1000, 1001);
    served
        .fs
        .mkdir(&cx, dir, OsStr::new("sub"), &creation(0o755, 0))
        .unwrap();
    served
        .fs
        .mknod(
            &cx,
            dir,
            OsStr::new("file"),
            &creation(libc::S_IFREG | 0o644, 0),
        )
        .unwrap();
    assert_eq!(
        owner_and_mode(&served.host("dir/sub")),
        (1000, 2000, 0o2755)
    );
    assert_eq!(
        owner_and_mode(&served.host("dir/file")),
        (1000, 2000, 0o644)
    );
}

#[test]
fn a_default_acl_takes_the_place_of_the_umask() {
    if not_root() {
        return;
    }
    private_mounts();
    let dir = tempfile::tempdir().unwrap();
    mount_tmpfs(dir.path());
    let served = Served::over(dir.path(), |_| ());
    let cx = served.detached.context(1000, 1000);
    served
        .fs
        .mkdir(&cx, NodeId::ROOT, OsStr::new("dir"), &creation(0o777, 0))
        .unwrap();
    let dir = served.node("dir");
    match served.fs.setxattr(
        &cx,
        dir,
        c"system.posix_acl_default",
        &DEFAULT_ACL,
        0,
        false,
    ) {
        Err(Errno::EOPNOTSUPP) => {
            assert_eq!(
                served
                    .fs
                    .getxattr(&cx, dir, c"system.posix_acl_access", &mut [0; 64]),
                Err(Errno::ENODATA)
            );
            eprintln!("skipped: tmpfs has no ACLs here");
            return;
        }
        result => result.unwrap(),
    }
    served
        .fs
        .mknod(
            &cx,
            dir,
            OsStr::new("file"),
            &creation(libc::S_IFREG | 0o666, 0o077),
        )
        .unwrap();
    assert_eq!(
        owner_and_mode(&served.host("dir/file")),
        (1000, 1000, 0o664)
    );
    served
        .fs
        .mknod(
            &cx,
            NodeId::ROOT,
            OsStr::new("file"),
            &creation(libc::S_IFREG | 0o666, 0o077),
        )
        .unwrap();
    assert_eq!(owner_and_mode(&served.host("file")), (1000, 1000, 0o600));
}

#[test]
fn ids_are_mapped_both_ways() {
    if not_root() {
        return;
    }
    let served = Served::new(tempfile::tempdir().unwrap(), |options| {
        let extent = Extent {
            inside: 0,
            outside: 100_000,
            count: 1000,
        };
        options.id_map = IdMap::new(vec![extent], vec![extent]).unwrap();
    });
    let cx = served.detached.context(100_005, 100_006);
    let entry = served
        .fs
        .mkdir(&cx, NodeId::ROOT, OsStr::new("dir"), &creation(0o755, 0))
        .unwrap();
    assert_eq!((entry.attr.uid, entry.attr.gid), (100_005, 100_006));
    assert_eq!(owner_and_mode(&served.host("dir")), (5, 6, 0o755));
    let stranger = served.detached.context(1, 100_000);
    let refused = served.fs.mkdir(
        &stranger,
        NodeId::ROOT,
        OsStr::new("no"),
        &creation(0o755, 0),
    );
    assert_eq!(refused.err(), Some(Errno::EOVERFLOW));
    std::os::unix::fs::chown(served.host("dir"), Some(5000), None).unwrap();
    let attr = served.fs.getattr(&cx, entry.node, None).unwrap().attr;
    assert_eq!((attr.uid, attr.gid), (UNMAPPED, 100_006));
    let give = |uid| SetAttr {
        uid: Some(uid),
        ..SetAttr::default()
    };
    assert_eq!(
        served.fs.setattr(&cx, entry.node, None, &give(7)).err(),
        Some(Errno::EINVAL)
    );
    served
        .fs
        .setattr(&cx, entry.node, None, &give(100_007))
        .unwrap();
    assert_eq!(owner_and_mode(&served.host("dir")).0, 7);
}
