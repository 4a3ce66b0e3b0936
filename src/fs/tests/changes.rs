//! Changes to files: attributes, contents, set-user-id bits, the read-only view.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::engine::{Errno, SetTime};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn write(
    served: &Served,
    node: NodeId,
    opened: Opened,
    request: WriteRequest,
    bytes: &[u8],
) -> u32 {
    served
        .fs
        .write(
            &served.cx(),
            node,
            opened.fh,
            &request,
            Payload::Bytes(bytes),
        )
        .unwrap()
}

fn at(offset: u64, flags: i32) -> WriteRequest {
    WriteRequest {
        offset,
        flags: flags as u32,
        kill_suidgid: false,
        from_cache: false,
    }
}

#[test]
fn set_user_id_bits_go_exactly_when_asked_for() {
    if not_root() {
        return;
    }
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    let path = served.host("file");
    fs::write(&path, "12345").unwrap();
    let node = served.node("file");
    let cx = served.cx();
    let opened = served
        .fs
        .open(&cx, node, libc::O_RDWR as u32, false)
        .unwrap();
    set_mode(&path, 0o6777);
    write(&served, node, opened, at(0, libc::O_RDWR), b"x");
    assert_eq!(mode(&path), 0o6777);
    let request = WriteRequest {
        kill_suidgid: true,
        ..at(0, libc::O_RDWR)
    };
    write(&served, node, opened, request, b"x");
    assert_eq!(mode(&path), 0o777);
    set_mode(&path, 0o6777);
    let shorter = SetAttr {
        size: Some(1),
        ..SetAttr::default()
    };
    served
        .fs
        .setattr(&cx, node, Some(opened.fh), &shorter)
        .unwrap();
    assert_eq!(mode(&path), 0o6777);
    served
        .fs
        .setattr(
            &cx,
            node,
            None,
            &SetAttr {
                kill_suidgid: true,
                size: Some(0),
                ..shorter
            },
        )
        .unwrap();
    assert_eq!(mode(&path), 0o777);
    set_mode(&path, 0o6767);
    served
        .fs
        .setattr(&cx, node, None, &SetAttr::default())
        .unwrap();
    assert_eq!(
        mode(&path),
        0o2767,
        "without group execution set-group-id means something else"
    );
    served
        .fs
        .open(&cx, node, (libc::O_WRONLY | libc::O_TRUNC) as u32, true)
        .unwrap();
    set_mode(&path, 0o2777);
    let set = SetAttr {
        mode: Some(0o2755),
        ..SetAttr::default()
    };
    assert_eq!(
        served.fs.setattr(&cx, node, None, &set).unwrap().attr.mode & 0o7777,
        0o2755
    );
}

#[test]
fn set_id_bits_go_unasked_on_kernels_that_do_not_ask() {
    if not_root() {
        return;
    }
    let mut served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    served.detached = Detached::of(32, InitFlags::POSIX_ACL);
    let path = served.host("file");
    fs::write(&path, "12345").unwrap();
    let node = served.node("file");
    let open = |flags: i32| served.fs.open(&served.cx(), node, flags as u32, false);
    let opened = open(libc::O_RDWR).unwrap();
    let shorter = SetAttr {
        size: Some(1),
        ..SetAttr::default()
    };
    for (uid, left) in [(0, 0o6777), (1000, 0o777)] {
        let cx = served.detached.context(uid, uid);
        set_mode(&path, 0o6777);
        let payload = Payload::Bytes(b"x");
        let request = at(0, libc::O_RDWR);
        let written = served.fs.write(&cx, node, opened.fh, &request, payload);
        assert_eq!((written.unwrap(), mode(&path)), (1, left));
        set_mode(&path, 0o6777);
        served.fs.setattr(&cx, node, None, &shorter).unwrap();
        assert_eq!(mode(&path), left);
        set_mode(&path, 0o6777);
        let flags = (libc::O_WRONLY | libc::O_TRUNC) as u32;
        served.fs.open(&cx, node, flags, false).unwrap();
        assert_eq!(mode(&path), left);
    }
    // Pages of a mapping come from nobody in particular.
    set_mode(&path, 0o6777);
    let request = WriteRequest {
        from_cache: true,
        ..at(0, libc::O_RDWR)
    };
    let cx = served.detached.context(1000, 1000);
    let payload = Payload::Bytes(b"x");
    served
        .fs
        .write(&cx, node, opened.fh, &request, payload)
        .unwrap();
    assert_eq!(mode(&path), 0o6777);
}

#[test]
fn flags_belong_to_the_owner_also_on_kernels_that_do_not_check() {
    const GET: u32 = 0x8008_6601;
    const SET: u32 = 0x4008_6602;
    const NODUMP: u32 = 0x40;
    const IMMUTABLE: u32 = 0x10;
    if not_root() {
        return;
    }
    // Beside the program: the temporary directory may be a tmpfs, which has no flags on old kernels.
    let program = std::env::current_exe().unwrap();
    let dir = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let mut served = Served::new(dir, |_| ());
    let path = served.host("file");
    fs::write(&path, "").unwrap();
    std::os::unix::fs::chown(&path, Some(1000), Some(1000)).unwrap();
    let node = served.node("file");
    let opened = served
        .fs
        .open(&served.cx(), node, libc::O_RDONLY as u32, false)
        .unwrap();
    let ioctl = |served: &Served, uid, command, flags: u32| {
        let mut input = [0; 8];
        input[..4].copy_from_slice(&flags.to_ne_bytes());
        let request = IoctlRequest {
            command,
            argument: 0,
            input: &input,
            directory: false,
            compat: false,
        };
        let mut out = [0; 8];
        let cx = served.detached.context(uid, uid);
        let result = served.fs.ioctl(&cx, node, opened.fh, &request, &mut out);
        result.map(|_| u32::from_ne_bytes([out[0], out[1], out[2], out[3]]))
    };
    let Ok(flags) = ioctl(&served, 0, GET, 0) else {
        eprintln!("skipped: the file system has no inode flags");
        return;
    };
    // A kernel that asks has checked.
    ioctl(&served, 2000, SET, flags | NODUMP).unwrap();
    served.detached = Detached::of(33, InitFlags::POSIX_ACL);
    assert_eq!(ioctl(&served, 2000, SET, flags), Err(Errno::EACCES));
    assert_eq!(
        ioctl(&served, 1000, SET, flags | IMMUTABLE),
        Err(Errno::EPERM)
    );
    ioctl(&served, 1000, SET, flags).unwrap();
    assert_eq!(ioctl(&served, 2000, GET, 0), Ok(flags));
}

#[test]
fn appends_and_write_back_of_the_same_descriptor() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    let path = served.host("log");
    fs::write(&path, "one\n").unwrap();
    let node = served.node("log");
    let opened = served
        .fs
        .open(
            &served.cx(),
            node,
            (libc::O_WRONLY | libc::O_APPEND) as u32,
            false,
        )
        .unwrap();
    // The kernel does not know yet what the host has appended.
    fs::write(&path, "one\nhost\n").unwrap();
    write(
        &served,
        node,
        opened,
        at(4, libc::O_WRONLY | libc::O_APPEND),
        b"two\n",
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\nhost\ntwo\n");
    let page = WriteRequest {
        from_cache: true,
        ..at(0, 0)
    };
    write(&served, node, opened, page, b"ONE");
    assert_eq!(fs::read_to_string(&path).unwrap(), "ONE\nhost\ntwo\n");
    // O_APPEND was taken away by fcntl(2).
    write(&served, node, opened, at(4, libc::O_WRONLY), b"HOST");
    assert_eq!(fs::read_to_string(&path).unwrap(), "ONE\nHOST\ntwo\n");
    let (read, mut end) = nix::unistd::pipe().unwrap();
    std::io::Write::write_all(&mut fs::File::from(end.try_clone().unwrap()), b"piped").unwrap();
    let payload = || Payload::Pipe(std::os::fd::AsFd::as_fd(&read), 5);
    let flags = libc::O_WRONLY | libc::O_APPEND;
    served
        .fs
        .write(&served.cx(), node, opened.fh, &at(0, flags), payload())
        .unwrap();
    end = nix::unistd::dup(&end).unwrap();
    std::io::Write::write_all(&mut fs::File::from(end), b"PIPED").unwrap();
    served
        .fs
        .write(
            &served.cx(),
            node,
            opened.fh,
            &at(0, libc::O_WRONLY),
            payload(),
        )
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "PIPEDOST\ntwo\npiped");
}

#[test]
fn cached_data_is_kept_only_if_nothing_has_changed() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    let path = served.host("file");
    fs::write(&path, "x").unwrap();
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(10);
    let node = served.node("file");
    let keeps = || {
        let opened = served.fs.open(&served.cx(), node, 0, false).unwrap();
        served.fs.release(node, opened.fh, None);
        opened
            .flags
            .contains(fuse_proto::flags::OpenFlags::KEEP_CACHE)
    };
    assert!(!keeps(), "never seen");
    assert!(!keeps(), "changed only just now");
    let settled = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as i64
            - stat::of(&fs::File::open(&path).unwrap()).unwrap().changed()
            > 25_000_000
    };
    while !settled() {
        std::thread::yield_now();
    }
    assert!(!keeps(), "nothing to compare with");
    assert!(keeps());
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(past)
        .unwrap();
    assert!(!keeps());
}

#[test]
fn times_and_sizes() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    std::os::unix::fs::symlink("nowhere", served.host("link")).unwrap();
    let node = served.node("link");
    let set = SetAttr {
        atime: Some(SetTime::At(-2, 500)),
        mtime: Some(SetTime::At(5, 7)),
        ..SetAttr::default()
    };
    let attr = served
        .fs
        .setattr(&served.cx(), node, None, &set)
        .unwrap()
        .attr;
    assert_eq!(
        (
            attr.atime as i64,
            attr.atimensec,
            attr.mtime,
            attr.mtimensec
        ),
        (-2, 500, 5, 7)
    );
    let size = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    assert_eq!(
        served.fs.setattr(&served.cx(), node, None, &size).err(),
        Some(Errno::EINVAL)
    );
    let mut target = [0; 64];
    assert_eq!(served.fs.readlink(&served.cx(), node, &mut target), Ok(7));
    assert_eq!(&target[..7], b"nowhere");
}

#[test]
fn special_files_are_never_opened() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    nix::unistd::mkfifo(&served.host("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(served.host("socket")).unwrap();
    for name in ["fifo", "socket"] {
        let node = served.node(name);
        assert_eq!(
            served.fs.open(&served.cx(), node, 0, false).err(),
            Some(Errno::ENXIO)
        );
        assert_eq!(
            served.fs.opendir(&served.cx(), node, 0).err(),
            Some(Errno::ENOTDIR)
        );
        let set = SetAttr {
            mode: Some(0o711),
            ..SetAttr::default()
        };
        served.fs.setattr(&served.cx(), node, None, &set).unwrap();
        assert_eq!(mode(&served.host(name)), 0o711);
    }
}

#[test]
fn a_read_only_view_cannot_be_changed() {
    let served = Served::new(tempfile::tempdir().unwrap(), |options| {
        options.access = Access::ReadOnly
    });
    fs::write(served.host("file"), "x").unwrap();
    let (cx, root, name) = (served.cx(), NodeId::ROOT, OsStr::new("new"));
    let (fs, node, new) = (&served.fs, served.node("file"), creation(0o777, 0));
    let flags = libc::O_RDWR as u32;
    let outcomes = [
        fs.mkdir(&cx, root, name, &new).err(),
        fs.mknod(&cx, root, name, &new).err(),
        fs.symlink(&cx, root, name, c"x", &new).err(),
        fs.create(&cx, root, name, flags, &new).err(),
        fs.tmpfile(&cx, root, flags, &new).err(),
        fs.link(&cx, node, root, name).err(),
        fs.unlink(&cx, root, OsStr::new("file")).err(),
        fs.rmdir(&cx, root, name).err(),
        fs.rename(&cx, (root, OsStr::new("file")), (root, name), 0)
            .err(),
        fs.setattr(&cx, node, None, &SetAttr::default()).err(),
        fs.setxattr(&cx, node, c"user.x", b"", 0, false).err(),
        fs.removexattr(&cx, node, c"user.x").err(),
        fs.open(&cx, node, flags, false).err(),
        fs.open(&cx, node, libc::O_TRUNC as u32, false).err(),
    ];
    assert_eq!(outcomes, [Some(Errno::EROFS); 14]);
    assert!(fs.open(&cx, node, 0, false).is_ok());
}

#[test]
fn only_single_names_are_looked_up() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    for name in ["", ".", "..", "a/b", "/", "a\0b"] {
        let found = served
            .fs
            .lookup(&served.cx(), NodeId::ROOT, OsStr::new(name));
        assert_eq!(found.err(), Some(Errno::EINVAL), "{name:?}");
    }
    for node in [0, 2, 77, u64::MAX, 1 << 63] {
        assert_eq!(
            served.fs.getattr(&served.cx(), NodeId(node), None).err(),
            Some(Errno::ESTALE)
        );
        assert_eq!(
            served
                .fs
                .read(
                    &served.cx(),
                    NodeId(1),
                    FileHandle(node),
                    &ReadRequest {
                        offset: 0,
                        size: 1,
                        flags: 0
                    }
                )
                .err(),
            Some(Errno::EBADF)
        );
    }
}
