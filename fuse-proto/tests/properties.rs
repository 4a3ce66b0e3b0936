//! What is encoded comes back when decoded, in every dialect and in both forms of a request.

mod support;

use std::ffi::CString;

use fuse_proto::notify::{self, Notification};
use fuse_proto::reply;
use fuse_proto::*;
use proptest::collection::vec;
use proptest::prelude::*;
use support::as_known_to;
use zerocopy::IntoBytes;

/// A path component.
fn name() -> impl Strategy<Value = CString> {
    vec(prop_oneof![1_u8..=46, 48..=255_u8], 1..60).prop_map(|bytes| CString::new(bytes).unwrap())
}

fn dialect() -> impl Strategy<Value = Dialect> {
    proptest::sample::select(support::dialects())
}

/// A structure of any contents.
fn wire<T: Wire + std::fmt::Debug>() -> impl Strategy<Value = T> {
    vec(any::<u8>(), size_of::<T>()).prop_map(|bytes| T::read_from_bytes(&bytes).unwrap())
}

/// The operations that are one structure, with any contents: `seed` has 128 bytes.
fn plain(seed: &[u8]) -> Vec<Operation<'static>> {
    fn read<T: Wire>(seed: &[u8]) -> T {
        T::read_from_prefix(seed).unwrap().0
    }
    vec![
        Operation::Forget(read(seed)),
        Operation::Getattr(read(seed)),
        Operation::Setattr(read(seed)),
        Operation::Open(read(seed)),
        Operation::Read(read(seed)),
        Operation::Release(read(seed)),
        Operation::Fsync(read(seed)),
        Operation::Listxattr(read(seed)),
        Operation::Flush(read(seed)),
        Operation::Opendir(read(seed)),
        Operation::Readdir(read(seed)),
        Operation::Releasedir(read(seed)),
        Operation::Fsyncdir(read(seed)),
        Operation::Getlk(read(seed)),
        Operation::Setlk(read(seed)),
        Operation::Setlkw(read(seed)),
        Operation::Access(read(seed)),
        Operation::Interrupt(read(seed)),
        Operation::Bmap(read(seed)),
        Operation::Poll(read(seed)),
        Operation::Fallocate(read(seed)),
        Operation::Readdirplus(read(seed)),
        Operation::Lseek(read(seed)),
        Operation::CopyFileRange(read(seed)),
        Operation::CopyFileRange64(read(seed)),
        Operation::Setupmapping(read(seed)),
        Operation::Syncfs(read(seed)),
        Operation::Statx(read(seed)),
        Operation::CuseInit(read(seed)),
    ]
}

/// Both forms of the request, at an odd address, with left-over bytes where a ring entry has them.
fn round_trip(operation: &Operation<'_>, ids: fuse_in_header, d: Dialect) {
    let fuse_in_header {
        unique,
        nodeid,
        uid,
        gid,
        pid,
        ..
    } = ids;
    let expected = as_known_to(operation, d);

    let mut message = Vec::new();
    operation.encode_contiguous(unique, nodeid, uid, gid, pid, d, &mut message);
    let shifted = [&[0xaa], &message[..]].concat();
    let request = Request::contiguous(&shifted[1..], d).unwrap();
    assert_eq!(request.operation, expected);
    assert_eq!(
        (request.header.unique, request.header.nodeid),
        (unique, nodeid)
    );
    assert_eq!(
        (request.header.uid, request.header.gid, request.header.pid),
        (uid, gid, pid)
    );
    assert_eq!(request.header.len as usize, message.len());

    let (mut op_in, mut payload) = (Vec::new(), Vec::new());
    let header = operation.encode_split(unique, nodeid, uid, gid, pid, d, &mut op_in, &mut payload);
    assert_eq!(header, request.header);
    assert!(op_in.len() <= 128);
    op_in.resize(128, 0x5a);
    let split = Request::split(header.as_bytes(), &op_in, &payload, d).unwrap();
    if !matches!(operation, Operation::Init(_)) {
        assert_eq!(split.operation, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests(
        name in name(),
        data in vec(any::<u8>(), 0..300),
        groups in vec(any::<u32>(), 0..6),
        label in proptest::option::of(vec(any::<u8>(), 0..40)),
        elements in vec(any::<[u8; 16]>(), 0..9),
        ids in wire::<fuse_in_header>(),
        d in dialect(),
    ) {
        let mut bytes = Vec::new();
        let label_name = CString::new("security.selinux").unwrap();
        if d.flags.contains(InitFlags::SECURITY_CTX) {
            let contexts: Vec<_> =
                label.iter().map(|label| (label_name.as_c_str(), &label[..])).collect();
            Extensions::encode_security_contexts(&contexts, &mut bytes);
            Extensions::encode_supplementary_groups(&groups, &mut bytes);
        }
        let ext = Extensions::parse(&bytes).unwrap();
        if !ext.is_empty() {
            let labels: Vec<&[u8]> = ext.security_contexts().map(|(_, label)| label).collect();
            prop_assert_eq!(labels, label.iter().map(|label| &label[..]).collect::<Vec<_>>());
            prop_assert_eq!(ext.supplementary_groups().collect::<Vec<_>>(), groups);
        }
        for operation in support::samples(&name, &data, ext, &elements.concat()) {
            round_trip(&operation, ids, d);
        }
    }

    #[test]
    fn requests_of_one_structure(
        seed in vec(any::<u8>(), 128),
        ids in wire::<fuse_in_header>(),
        d in dialect(),
    ) {
        for operation in plain(&seed) {
            round_trip(&operation, ids, d);
        }
    }

    #[test]
    fn several_security_contexts(labels in vec((name(), vec(any::<u8>(), 0..20)), 0..31)) {
        let contexts: Vec<_> =
            labels.iter().map(|(name, label)| (name.as_c_str(), &label[..])).collect();
        let mut bytes = Vec::new();
        Extensions::encode_security_contexts(&contexts, &mut bytes);
        let ext = Extensions::parse(&bytes).unwrap();
        prop_assert_eq!(ext.security_contexts().collect::<Vec<_>>(), contexts);
        prop_assert_eq!(ext.as_bytes().len() % 8, 0);
    }

    #[test]
    fn replies(
        entry in wire::<fuse_entry_out>(),
        attr in wire::<fuse_attr_out>(),
        open in wire::<fuse_open_out>(),
        statfs in wire::<fuse_statfs_out>(),
        statx in wire::<fuse_statx_out>(),
        init in wire::<fuse_init_out>(),
        minor in 3_u32..47,
    ) {
        let d = Dialect::new(minor, InitFlags::empty());
        let mut buf = [0xaa; 320];
        let mut encode = |f: &dyn Fn(ReplyWriter<'_>) -> Result<usize, EncodeError>| {
            buf.fill(0xaa);
            let len = f(ReplyWriter::new(&mut buf, d)).unwrap();
            assert!(buf[len..].iter().all(|&byte| byte == 0xaa), "wrote more than it says");
            let payload = buf[..len].to_vec();
            // One byte less is too small, and says by how much.
            match f(ReplyWriter::new(&mut buf[..len - 1], d)) {
                Err(EncodeError::NoRoom { needed, room, .. }) => {
                    assert_eq!((needed, room), (len, len - 1));
                }
                other => panic!("{other:?}"),
            }
            payload
        };
        // What an older dialect leaves out reads as zeroes.
        let old_attr = |attr: fuse_attr| fuse_attr { blksize: 0, flags: 0, ..attr };
        let known = |attr: fuse_attr| if minor < 9 { old_attr(attr) } else { attr };
        let known_entry = fuse_entry_out { attr: known(entry.attr), ..entry };

        let payload = encode(&|w| w.entry(&entry));
        prop_assert_eq!(payload.len(), if minor < 9 { 120 } else { 128 });
        prop_assert_eq!(reply::decode_entry(&payload, d), Ok(known_entry));
        let payload = encode(&|w| w.attr(&attr));
        prop_assert_eq!(payload.len(), if minor < 9 { 96 } else { 104 });
        let expected = fuse_attr_out { attr: known(attr.attr), ..attr };
        prop_assert_eq!(reply::decode_attr(&payload, d), Ok(expected));
        let payload = encode(&|w| w.create(&entry, &open));
        prop_assert_eq!(reply::decode_create(&payload, d), Ok((known_entry, open)));
        let payload = encode(&|w| w.open(&open));
        prop_assert_eq!(reply::decode_open(&payload), Ok(open));
        let payload = encode(&|w| w.statfs(&statfs));
        prop_assert_eq!(payload.len(), if minor < 4 { 48 } else { 80 });
        if minor >= 4 {
            prop_assert_eq!(reply::decode_statfs(&payload, d), Ok(statfs));
        }
        let payload = encode(&|w| w.statx(&statx));
        prop_assert_eq!(reply::decode(&payload), Ok(statx));
        let payload = encode(&|w| w.init(&init));
        let decoded = reply::decode_init(&payload, d).unwrap();
        prop_assert_eq!((decoded.major, decoded.minor), (init.major, init.minor));
        if minor >= 23 {
            prop_assert_eq!(decoded, init);
        }
    }

    #[test]
    fn directories(
        entries in vec((any::<u64>(), any::<u64>(), 0_u32..16, name()), 0..20),
        size in 0_usize..2000,
        inode in wire::<fuse_entry_out>(),
    ) {
        let mut buf = vec![0xaa; size];
        let mut writer = DirentWriter::new(&mut buf);
        let fitted = entries
            .iter()
            .take_while(|(ino, off, typ, name)| {
                writer.push(*ino, *off, *typ, name.as_bytes()).is_ok()
            })
            .count();
        let len = writer.len();
        prop_assert_eq!(len % 8, 0);
        prop_assert!(buf[len..].iter().all(|&byte| byte == 0xaa));
        let mut read = Dirents::new(&buf[..len]);
        for (ino, off, typ, name) in &entries[..fitted] {
            let expected = Dirent { ino: *ino, off: *off, typ: *typ, name: name.as_bytes() };
            prop_assert_eq!(read.next(), Some(expected));
        }
        prop_assert_eq!((read.next(), read.rest().len()), (None, 0));

        let mut writer = DirentPlusWriter::new(&mut buf);
        let fitted = entries
            .iter()
            .take_while(|(ino, off, typ, name)| {
                writer.push(&inode, *ino, *off, *typ, name.as_bytes()).is_ok()
            })
            .count();
        let len = writer.len();
        let read: Vec<_> = DirentsPlus::new(&buf[..len]).collect();
        prop_assert_eq!(read.len(), fitted);
        for (record, (ino, .., name)) in read.iter().zip(&entries) {
            prop_assert_eq!(record.entry, inode);
            prop_assert_eq!((record.dirent.ino, record.dirent.name), (*ino, name.as_bytes()));
        }
    }

    #[test]
    fn notifications(
        a in any::<u64>(),
        b in any::<u64>(),
        off in any::<i64>(),
        len in any::<i64>(),
        size in any::<u32>(),
        name in name(),
        data in vec(any::<u8>(), 0..200),
        ids in vec(any::<u64>(), 0..20),
    ) {
        let mut buf = [0; 400];
        let bytes = name.as_bytes();
        let flags = ExpireFlags::EXPIRE_ONLY;
        let check = |len: Result<usize, EncodeError>, buf: &[u8], expected: Notification<'_>| {
            let len = len.unwrap();
            assert_eq!(Notification::decode(&buf[..len]), Ok(expected));
            assert!(Notification::decode(&buf[..len - 1]).is_err());
            assert!(Notification::decode(&buf[..len + 1]).is_err());
        };
        let written = notify::encode_poll(a, &mut buf);
        check(written, &buf, Notification::Poll { kh: a });
        let written = notify::encode_inval_inode(a, off, len, &mut buf);
        check(written, &buf, Notification::InvalInode { nodeid: a, off, len });
        let written = notify::encode_inval_entry(a, bytes, flags, &mut buf);
        check(written, &buf, Notification::InvalEntry { parent: a, name: &name, flags });
        let written = notify::encode_delete(a, b, bytes, &mut buf);
        check(written, &buf, Notification::Delete { parent: a, child: b, name: &name });
        let written = notify::encode_store(a, b, &data, &mut buf);
        check(written, &buf, Notification::Store { nodeid: a, offset: b, data: &data });
        let written = notify::encode_retrieve(a, b, a, size, &mut buf);
        let expected = Notification::Retrieve { notify_unique: a, nodeid: b, offset: a, size };
        check(written, &buf, expected);
        let written = notify::encode_prune(&ids, &mut buf).unwrap();
        match Notification::decode(&buf[..written]) {
            Ok(Notification::Prune { nodeids }) => {
                prop_assert_eq!(nodeids.collect::<Vec<_>>(), ids);
            }
            other => panic!("{other:?}"),
        }
    }
}
