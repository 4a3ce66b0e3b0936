//! Bytes written down by hand from the protocol's description, for what an installed header may not have yet, and for
//! a few whole messages as the kernel sends or wants them.
#![cfg(target_endian = "little")]

use std::mem::offset_of;

use fuse_proto::ioctl::*;
use fuse_proto::notify::*;
use fuse_proto::uring::*;
use fuse_proto::*;
use zerocopy::IntoBytes;

/// Bytes from hexadecimal digits; blanks are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// `count` zero bytes, in hexadecimal.
fn zeroes(count: usize) -> String {
    "00".repeat(count)
}

#[test]
fn init_of_linux_6_18() {
    let message = hex(&format!(
        "68000000 1a000000 0200000000000000 0000000000000000 00000000 00000000 00000000 0000 0000
         07000000 2d000000 00000200 fbffff73 fd070000 {}",
        zeroes(44)
    ));
    let request = Request::contiguous(&message, Dialect::default()).unwrap();
    let Operation::Init(init) = request.operation else {
        panic!("{:?}", request.operation)
    };
    assert_eq!(
        (init.major, init.minor, init.max_readahead),
        (7, 45, 131_072)
    );
    let flags = init.init_flags();
    assert_eq!(flags.bits(), 0x7fd_73ff_fffb);
    assert!(flags.contains(InitFlags::PASSTHROUGH | InitFlags::OVER_IO_URING));
    assert!(!flags.intersects(InitFlags::FILE_OPS | InitFlags::SUBMOUNTS));
}

#[test]
fn init_of_linux_5_4_is_short() {
    let message = hex(
        "38000000 1a000000 0200000000000000 0000000000000000 00000000 00000000 00000000 00000000
         07000000 1f000000 00000200 fbffff03",
    );
    let request = Request::contiguous(&message, Dialect::default()).unwrap();
    let expected = fuse_init_in {
        major: 7,
        minor: 31,
        max_readahead: 131_072,
        flags: 0x03ff_fffb,
        ..Default::default()
    };
    assert_eq!(request.operation, Operation::Init(expected));
}

#[test]
fn init_reply() {
    let mut out = fuse_init_out {
        major: 7,
        minor: 45,
        max_readahead: 0x0002_0000,
        max_background: 0x0140,
        congestion_threshold: 0x00f0,
        max_write: 0x0004_0000,
        time_gran: 1,
        max_pages: 64,
        max_stack_depth: 2,
        request_timeout: 60,
        ..Default::default()
    };
    out.set_init_flags(InitFlags::ASYNC_READ | InitFlags::PASSTHROUGH | InitFlags::REQUEST_TIMEOUT);
    let mut payload = [0xaa; 80];
    let len = ReplyWriter::new(&mut payload, Dialect::default())
        .init(&out)
        .unwrap();
    let expected = hex(&format!(
        "07000000 2d000000 00000200 01000040 4001 f000 00000400 01000000 4000 0000
         20040000 02000000 3c00 {}",
        zeroes(22)
    ));
    assert_eq!(payload[..len], expected);
    assert_eq!(payload[len..], [0xaa; 16]);

    // Older kernels want less of it.
    for (minor, len) in [(4, 8), (5, 24), (22, 24), (23, 64)] {
        let d = Dialect::new(minor, InitFlags::empty());
        assert_eq!(
            ReplyWriter::new(&mut payload, d).init(&out),
            Ok(len),
            "7.{minor}"
        );
        assert_eq!(payload[..len], expected[..len]);
    }
}

#[test]
fn create_with_label_and_group() {
    // The context takes 8 + 17 + 5 bytes, padded to 32, after a header of 8; the group 8 + 4 + 4.
    let message = hex(
        "79000000 23000000 0400000000000000 0100000000000000 e8030000 e9030000 2a000000 0700 0000
         42800000 a4810000 12000000 00000000
         6e65775f66696c6500
         28000000 01000000
         05000000 00000000 73656375726974792e73656c696e757800 615f6c626c 0000
         10000000 20000000 01000000 92100000",
    );
    let request = Request::contiguous(&message, Dialect::default()).unwrap();
    assert_eq!(request.header.total_extlen, 7);
    let Operation::Create { arg, name, ext } = request.operation else {
        panic!("{:?}", request.operation)
    };
    assert_eq!((arg.flags, arg.mode, arg.umask), (0x8042, 0o100_644, 0o22));
    assert_eq!(name, c"new_file");
    let contexts: Vec<_> = ext.security_contexts().collect();
    assert_eq!(contexts, [(c"security.selinux", &b"a_lbl"[..])]);
    assert_eq!(ext.supplementary_groups().collect::<Vec<_>>(), [4242]);
}

/// Without a security module there is still a record for the context, an empty one.
#[test]
fn mkdir_of_linux_6_18() {
    let message = hex(
        "4f000000 09000000 5001000000000000 0100000000000000 63000000 63000000 a6750000 0300 0000
         ff010000 12000000
         6e6f6469723300
         08000000 00000000
         10000000 20000000 01000000 d2040000",
    );
    let d = Dialect::default();
    let request = Request::contiguous(&message, d).unwrap();
    assert_eq!((request.header.uid, request.header.pid), (99, 0x75a6));
    let Operation::Mkdir { arg, name, ext } = request.operation else {
        panic!("{:?}", request.operation)
    };
    assert_eq!((arg.mode, arg.umask, name), (0o777, 0o22, c"nodir3"));
    assert_eq!(ext.security_contexts().count(), 0);
    assert_eq!(ext.supplementary_groups().collect::<Vec<_>>(), [1234]);

    let mut extensions = Vec::new();
    Extensions::encode_security_contexts(&[], &mut extensions);
    Extensions::encode_supplementary_groups(&[1234], &mut extensions);
    assert_eq!(ext.as_bytes(), extensions);
}

#[test]
fn statx() {
    assert_eq!(size_of::<fuse_statx_in>(), 24);
    assert_eq!(offset_of!(fuse_statx_in, sx_flags), 16);
    assert_eq!(offset_of!(fuse_statx_in, sx_mask), 20);
    assert_eq!(size_of::<fuse_statx_out>(), 288);
    assert_eq!(offset_of!(fuse_statx_out, stat), 32);
    // The offsets of struct statx, statx(2).
    assert_eq!(size_of::<fuse_statx>(), 256);
    for (offset, expected) in [
        (offset_of!(fuse_statx, nlink), 0x10),
        (offset_of!(fuse_statx, mode), 0x1c),
        (offset_of!(fuse_statx, ino), 0x20),
        (offset_of!(fuse_statx, attributes_mask), 0x38),
        (offset_of!(fuse_statx, atime), 0x40),
        (offset_of!(fuse_statx, btime), 0x50),
        (offset_of!(fuse_statx, ctime), 0x60),
        (offset_of!(fuse_statx, mtime), 0x70),
        (offset_of!(fuse_statx, rdev_major), 0x80),
        (offset_of!(fuse_statx, dev_minor), 0x8c),
    ] {
        assert_eq!(offset, expected);
    }
    let time = fuse_sx_time {
        tv_sec: -2,
        tv_nsec: 5,
        __reserved: 0,
    };
    assert_eq!(time.as_bytes(), hex("feffffffffffffff 05000000 00000000"));
}

#[test]
fn passthrough_open() {
    let flags = OpenFlags::PASSTHROUGH | OpenFlags::NOFLUSH;
    let open = fuse_open_out {
        fh: 0x0102,
        open_flags: flags.bits(),
        backing_id: 3,
    };
    assert_eq!(open.as_bytes(), hex("0201000000000000 a0000000 03000000"));
    assert_eq!(OpenFlags::IO_URING_ZERO_COPY.bits(), 0x100);
}

#[test]
fn copy_file_range_64() {
    let arg = fuse_copy_file_range_in {
        fh_in: 1,
        off_in: 2,
        nodeid_out: 3,
        fh_out: 4,
        off_out: 5,
        len: 6,
        flags: 0,
    };
    let mut message = Vec::new();
    let d = Dialect::default();
    Operation::CopyFileRange64(arg).encode_contiguous(8, 9, 10, 11, 12, d, &mut message);
    let expected = hex(
        "60000000 35000000 0800000000000000 0900000000000000 0a000000 0b000000 0c000000 0000 0000
         0100000000000000 0200000000000000 0300000000000000 0400000000000000
         0500000000000000 0600000000000000 0000000000000000",
    );
    assert_eq!(message, expected);
    let mut payload = [0; 8];
    let out = fuse_copy_file_range_out {
        bytes_copied: 0x0102_0304_0506,
    };
    assert_eq!(
        ReplyWriter::new(&mut payload, d).copy_file_range_64(&out),
        Ok(8)
    );
    assert_eq!(payload[..], hex("0605040302010000"));
}

#[test]
fn notifications() {
    let mut buf = [0; 64];
    let len = encode_inval_entry(1, b"ab", ExpireFlags::EXPIRE_ONLY, &mut buf).unwrap();
    assert_eq!(
        buf[..len],
        hex("23000000 03000000 0000000000000000 0100000000000000 02000000 01000000 616200")
    );
    let len = encode_inval_inode(7, -1, 0, &mut buf).unwrap();
    assert_eq!(
        buf[..len],
        hex(
            "28000000 02000000 0000000000000000 0700000000000000 ffffffffffffffff 0000000000000000"
        )
    );
    let len = encode_delete(1, 2, b"x", &mut buf).unwrap();
    assert_eq!(
        buf[..len],
        hex(
            "2a000000 06000000 0000000000000000 0100000000000000 0200000000000000 01000000 00000000 7800"
        )
    );
    let len = encode_resend(&mut buf).unwrap();
    assert_eq!(buf[..len], hex("10000000 07000000 0000000000000000"));
    let len = encode_inc_epoch(&mut buf).unwrap();
    assert_eq!(buf[..len], hex("10000000 08000000 0000000000000000"));
    let len = encode_prune(&[5, 6], &mut buf).unwrap();
    assert_eq!(
        buf[..len],
        hex(
            "30000000 09000000 0000000000000000 02000000 00000000 0000000000000000
             0500000000000000 0600000000000000"
        )
    );
    let error = encode_prune(&[5, 6], &mut buf[..47]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "prune notification needs 48 bytes, the buffer has 47"
    );
}

#[test]
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
fn ioctl_numbers() {
    assert_eq!(FUSE_DEV_IOC_CLONE, 0x8004_e500);
    assert_eq!(FUSE_DEV_IOC_BACKING_OPEN, 0x4010_e501);
    assert_eq!(FUSE_DEV_IOC_BACKING_CLOSE, 0x4004_e502);
    assert_eq!(FUSE_DEV_IOC_SYNC_INIT, 0x0000_e503);
    let map = fuse_backing_map {
        fd: 5,
        flags: 0,
        padding: 0,
    };
    assert_eq!(map.as_bytes(), hex("05000000 00000000 0000000000000000"));
}

#[test]
fn ring_entries() {
    assert_eq!(size_of::<fuse_uring_req_header>(), 288);
    assert_eq!(offset_of!(fuse_uring_req_header, op_in), 128);
    assert_eq!(offset_of!(fuse_uring_req_header, ring_ent_in_out), 256);
    let state = fuse_uring_ent_in_out {
        flags: FUSE_URING_ENT_ZERO_COPY,
        commit_id: 0x22,
        payload_sz: 0x33,
        offset: 0x44,
        reserved: 0,
    };
    let expected = "0100000000000000 2200000000000000 33000000 44000000 0000000000000000";
    assert_eq!(state.as_bytes(), hex(expected));

    // A GETATTR as delivered, with bytes of an earlier request after its argument, and the reply to it.
    let mut header = fuse_uring_req_header::default();
    header.op_in.fill(0x5a);
    let (mut op_in, mut payload) = (Vec::new(), Vec::new());
    let arg = fuse_getattr_in {
        getattr_flags: 1,
        dummy: 0,
        fh: 99,
    };
    let d = Dialect::default();
    let sent = Operation::Getattr(arg).encode_split(4, 1, 0, 0, 1, d, &mut op_in, &mut payload);
    header.in_out[..40].copy_from_slice(sent.as_bytes());
    header.op_in[..16].copy_from_slice(&op_in);
    assert_eq!(header.request_header(), sent);
    let request = Request::split(&header.in_out, &header.op_in, &payload, d).unwrap();
    assert_eq!(
        request,
        Request {
            header: sent,
            operation: Operation::Getattr(arg)
        }
    );
    header.set_reply(&out_header(104, 0, 4), 104);
    assert_eq!(
        header.in_out[..16],
        hex("78000000 00000000 0400000000000000")
    );
    assert_eq!(header.ring_ent_in_out.payload_sz, 104);
}

#[test]
fn ring_commands() {
    let tail = zeroes(56);
    let register = fuse_uring_cmd_req::register(3).command_area();
    assert_eq!(
        register[..],
        hex(&format!(
            "0000000000000000 0000000000000000 0300 000000000000 {tail}"
        ))
    );
    let commit = fuse_uring_cmd_req::commit(1, 0x0102).command_area();
    assert_eq!(
        commit[..],
        hex(&format!(
            "0000000000000000 0201000000000000 0100 000000000000 {tail}"
        ))
    );
    let queue = fuse_uring_cmd_req::add_queue(2, true);
    assert_eq!(
        queue.as_bytes(),
        hex("0100000000000000 0000000000000000 0200 000000000000")
    );
    let pool = fuse_uring_bufpool {
        uaddr: 0x7000,
        len: 0x10_0000,
        reserved: 0,
    };
    let area = fuse_uring_cmd_req::add_queue(2, false).command_area_with_bufpool(&pool);
    let tail = zeroes(40);
    assert_eq!(
        area[16..],
        hex(&format!(
            "0200 000000000000 0070000000000000 00001000 00000000 {tail}"
        ))
    );
    let area = fuse_uring_cmd_req::register(2).command_area_with_zero_copy(0x0405);
    assert_eq!(area[24..28], hex("05040000"));
    for raw in 0..5 {
        assert_eq!(UringCmd::from_raw(raw).map(UringCmd::raw), Some(raw));
    }
    assert_eq!(UringCmd::from_raw(5), None);
}

#[test]
fn directory_records() {
    let mut buf = [0xaa; 64];
    let mut records = DirentWriter::new(&mut buf);
    assert!(records.is_empty());
    assert_eq!(records.push(2, 1, 4, b".."), Ok(()));
    assert_eq!(records.push(3, 2, 8, b"12345678"), Ok(()));
    assert_eq!(records.push(4, 3, 8, b"x"), Err(Full));
    assert_eq!(records.len(), 64);
    assert_eq!(
        buf[..],
        hex(
            "0200000000000000 0100000000000000 02000000 04000000 2e2e000000000000
             0300000000000000 0200000000000000 08000000 08000000 3132333435363738"
        )
    );
}
