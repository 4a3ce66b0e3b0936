//! One request of every operation, and the dialects that differ in the shape of requests.
#![allow(dead_code)] // Each test file uses a part of it.

use std::ffi::CString;

use fuse_proto::*;

/// Every dialect band of requests.
pub fn dialects() -> Vec<Dialect> {
    let ext = InitFlags::INIT_EXT | InitFlags::SETXATTR_EXT;
    let create = ext | InitFlags::SECURITY_CTX | InitFlags::CREATE_SUPP_GROUP;
    vec![
        Dialect::default(),
        Dialect::new(45, create),
        Dialect::new(37, create),
        Dialect::new(31, InitFlags::empty()),
        Dialect::new(11, InitFlags::empty()),
        Dialect::new(8, InitFlags::empty()),
    ]
}

/// Extensions as a kernel with SELinux and supplementary groups sends them.
pub fn extension_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    Extensions::encode_security_contexts(&[(c"security.selinux", b"u:r:t:s0\0")], &mut bytes);
    Extensions::encode_supplementary_groups(&[4242], &mut bytes);
    bytes
}

/// One request of every operation; names, data and extensions as given.
pub fn samples<'a>(
    name: &'a CString,
    data: &'a [u8],
    ext: Extensions<'a>,
    elements: &'a [u8],
) -> Vec<Operation<'a>> {
    let size = u32::try_from(data.len()).unwrap();
    let read = fuse_read_in {
        fh: 3,
        offset: 4096,
        size: 512,
        read_flags: 2,
        lock_owner: 9,
        flags: 0o2,
        padding: 0,
    };
    let open = fuse_open_in {
        flags: 0o1002,
        open_flags: 1,
    };
    let release = fuse_release_in {
        fh: 3,
        flags: 1,
        release_flags: 1,
        lock_owner: 77,
    };
    let fsync = fuse_fsync_in {
        fh: 3,
        fsync_flags: 1,
        padding: 0,
    };
    let lock = fuse_lk_in {
        fh: 3,
        owner: 5,
        lk: fuse_file_lock {
            start: 0,
            end: u64::MAX >> 1,
            r#type: 1,
            pid: 12,
        },
        lk_flags: 1,
        padding: 0,
    };
    let copy = fuse_copy_file_range_in {
        fh_in: 1,
        nodeid_out: 2,
        len: 3,
        ..Default::default()
    };
    let getxattr = fuse_getxattr_in {
        size: 64,
        padding: 0,
    };
    let create = fuse_create_in {
        flags: 0o102,
        mode: 0o100_644,
        umask: 0o22,
        open_flags: 0,
    };
    vec![
        Operation::Lookup { name },
        Operation::Forget(fuse_forget_in { nlookup: 2 }),
        Operation::Getattr(fuse_getattr_in {
            getattr_flags: 1,
            dummy: 0,
            fh: 3,
        }),
        Operation::Setattr(fuse_setattr_in {
            valid: 8,
            size: 10,
            ..Default::default()
        }),
        Operation::Readlink,
        Operation::Symlink {
            name,
            target: c"../a/b",
            ext,
        },
        Operation::Mknod {
            arg: fuse_mknod_in {
                mode: 0o10_600,
                rdev: 0,
                umask: 0o22,
                padding: 0,
            },
            name,
            ext,
        },
        Operation::Mkdir {
            arg: fuse_mkdir_in {
                mode: 0o755,
                umask: 0o22,
            },
            name,
            ext,
        },
        Operation::Unlink { name },
        Operation::Rmdir { name },
        Operation::Rename {
            newdir: 8,
            flags: 0,
            name,
            newname: c"new",
        },
        Operation::Rename {
            newdir: 8,
            flags: 2,
            name,
            newname: c"new",
        },
        Operation::Link { oldnodeid: 8, name },
        Operation::Open(open),
        Operation::Read(read),
        Operation::Write {
            arg: fuse_write_in {
                fh: 3,
                size,
                write_flags: 4,
                ..Default::default()
            },
            data,
        },
        Operation::Statfs,
        Operation::Release(release),
        Operation::Fsync(fsync),
        Operation::Setxattr {
            arg: fuse_setxattr_in {
                size,
                flags: 1,
                setxattr_flags: 1,
                padding: 0,
            },
            name,
            value: data,
        },
        Operation::Getxattr {
            arg: getxattr,
            name,
        },
        Operation::Listxattr(getxattr),
        Operation::Removexattr { name },
        Operation::Flush(fuse_flush_in {
            fh: 3,
            lock_owner: 5,
            ..Default::default()
        }),
        Operation::Init(fuse_init_in {
            major: 7,
            minor: 45,
            max_readahead: 131_072,
            flags: InitFlags::all().low(),
            flags2: InitFlags::all().high(),
            unused: [0; 11],
        }),
        Operation::Opendir(open),
        Operation::Readdir(read),
        Operation::Releasedir(release),
        Operation::Fsyncdir(fsync),
        Operation::Getlk(lock),
        Operation::Setlk(lock),
        Operation::Setlkw(lock),
        Operation::Access(fuse_access_in {
            mask: 4,
            padding: 0,
        }),
        Operation::Create {
            arg: create,
            name,
            ext,
        },
        Operation::Interrupt(fuse_interrupt_in { unique: 6 }),
        Operation::Bmap(fuse_bmap_in {
            block: 1,
            blocksize: 4096,
            padding: 0,
        }),
        Operation::Destroy,
        Operation::Ioctl {
            arg: fuse_ioctl_in {
                fh: 3,
                cmd: 0x8004_6601,
                in_size: size,
                ..Default::default()
            },
            data,
        },
        Operation::Poll(fuse_poll_in {
            fh: 3,
            kh: 4,
            flags: 1,
            events: 5,
        }),
        Operation::NotifyReply {
            arg: fuse_notify_retrieve_in {
                offset: 1,
                size,
                ..Default::default()
            },
            data,
        },
        Operation::BatchForget(Forgets::new(elements)),
        Operation::Fallocate(fuse_fallocate_in {
            fh: 3,
            length: 100,
            ..Default::default()
        }),
        Operation::Readdirplus(read),
        Operation::Lseek(fuse_lseek_in {
            fh: 3,
            offset: 0,
            whence: 3,
            padding: 0,
        }),
        Operation::CopyFileRange(copy),
        Operation::CopyFileRange64(copy),
        Operation::Setupmapping(fuse_setupmapping_in {
            fh: 3,
            len: 4096,
            ..Default::default()
        }),
        Operation::Removemapping(Removals::new(elements)),
        Operation::Syncfs(fuse_syncfs_in { padding: 0 }),
        Operation::Tmpfile {
            arg: create,
            name: c"/",
            ext,
        },
        Operation::Statx(fuse_statx_in {
            sx_mask: 0xfff,
            ..Default::default()
        }),
        Operation::CuseInit(cuse_init_in {
            major: 7,
            minor: 45,
            unused: 0,
            flags: 1,
        }),
    ]
}

/// What is left of an operation in a dialect that does not know all of its arguments.
pub fn as_known_to<'a>(operation: &Operation<'a>, d: Dialect) -> Operation<'a> {
    let mut known = operation.clone();
    match &mut known {
        Operation::Write { arg, .. } if d.minor < 9 => {
            (arg.lock_owner, arg.flags, arg.padding) = (0, 0, 0);
        }
        Operation::Mknod { arg, .. } if d.minor < 12 => (arg.umask, arg.padding) = (0, 0),
        Operation::Create { arg, .. } if d.minor < 12 => (arg.umask, arg.open_flags) = (0, 0),
        Operation::Setxattr { arg, .. } if !d.flags.contains(InitFlags::SETXATTR_EXT) => {
            (arg.setxattr_flags, arg.padding) = (0, 0);
        }
        _ => {}
    }
    known
}

/// A message of the operation, with ids that are easy to tell apart.
pub fn encode(operation: &Operation<'_>, d: Dialect) -> Vec<u8> {
    let mut message = Vec::new();
    operation.encode_contiguous(0x10, 0x11, 0x12, 0x13, 0x14, d, &mut message);
    message
}
