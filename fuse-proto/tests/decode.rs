//! What the decoder refuses, what it says about it, and the shapes of older dialects.

mod support;

use std::ffi::CString;

use fuse_proto::*;
use support::encode;
use zerocopy::IntoBytes;

/// A message with the given bytes after the header.
fn message(opcode: Opcode, args: &[&[u8]]) -> Vec<u8> {
    let args = args.concat();
    let header = fuse_in_header {
        len: u32::try_from(40 + args.len()).unwrap(),
        opcode: opcode.raw(),
        unique: 6,
        nodeid: 1,
        ..Default::default()
    };
    [header.as_bytes(), &args].concat()
}

fn refusal(message: &[u8]) -> DecodeError {
    Request::contiguous(message, Dialect::default()).expect_err("a malformed request")
}

#[test]
fn headers() {
    let error = refusal(&[0; 39]);
    assert_eq!(
        error,
        DecodeError::ShortHeader {
            needed: 40,
            got: 39
        }
    );
    assert_eq!((error.unique(), error.opcode()), (None, None));
    assert_eq!(
        peek_header(&[]),
        Err(DecodeError::ShortHeader { needed: 40, got: 0 })
    );

    let mut long = message(Opcode::Statfs, &[]);
    long.push(0);
    let error = refusal(&long);
    assert_eq!(
        error,
        DecodeError::Length {
            opcode: 17,
            unique: 6,
            declared: 40,
            got: 41
        }
    );
    assert_eq!(
        error.to_string(),
        "request 6 (opcode 17) says it has 40 bytes, 41 were read"
    );

    let mut unknown = message(Opcode::Statfs, &[]);
    unknown[4..8].copy_from_slice(&54_u32.to_ne_bytes());
    let error = refusal(&unknown);
    assert_eq!(
        error,
        DecodeError::UnknownOpcode {
            opcode: 54,
            unique: 6
        }
    );
    assert_eq!((error.unique(), error.opcode()), (Some(6), Some(54)));
    assert_eq!(peek_header(&unknown).unwrap().opcode, 54);
}

#[test]
fn short_arguments() {
    for (message, expected) in [
        (
            message(Opcode::Open, &[&[0; 7]]),
            "OPEN request 6: fuse_open_in needs 8 bytes, 7 left",
        ),
        (
            message(
                Opcode::Write,
                &[
                    fuse_write_in {
                        size: 9,
                        ..Default::default()
                    }
                    .as_bytes(),
                    b"12345678",
                ],
            ),
            "WRITE request 6: data needs 9 bytes, 8 left",
        ),
        (
            message(Opcode::BatchForget, &[&u32::MAX.to_ne_bytes(), &[0; 20]]),
            "BATCH_FORGET request 6: elements needs 68719476720 bytes, 16 left",
        ),
        (
            message(
                Opcode::Ioctl,
                &[fuse_ioctl_in {
                    in_size: 1,
                    ..Default::default()
                }
                .as_bytes()],
            ),
            "IOCTL request 6: data needs 1 bytes, 0 left",
        ),
        (
            message(Opcode::Lookup, &[]),
            "LOOKUP request 6: name is not terminated",
        ),
        (
            message(Opcode::Lookup, &[b"x"]),
            "LOOKUP request 6: name is not terminated",
        ),
        (
            message(Opcode::Lookup, &[b"\0"]),
            "LOOKUP request 6: name is empty",
        ),
        (
            message(Opcode::Lookup, &[b"a/b\0"]),
            "LOOKUP request 6: name has a slash in it",
        ),
        (
            message(Opcode::Rename, &[&[0; 8], b"a\0", b"/\0"]),
            "RENAME request 6: newname has a slash in it",
        ),
        (
            message(Opcode::Symlink, &[b"a\0", b"b"]),
            "SYMLINK request 6: target is not terminated",
        ),
        (
            message(Opcode::Removexattr, &[b"\0"]),
            "REMOVEXATTR request 6: name is empty",
        ),
        (
            message(Opcode::Unlink, &[b"a\0b\0"]),
            "UNLINK request 6: 2 bytes after the last field",
        ),
        (
            message(Opcode::Readlink, &[b"\0"]),
            "READLINK request 6: 1 bytes after the last field",
        ),
    ] {
        let error = refusal(&message);
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.unique(), Some(6));
    }
}

#[test]
fn names_that_are_passed_on() {
    for name in [c".", c"..", c"\xff\xfe", c"a b"] {
        let message = encode(&Operation::Lookup { name }, Dialect::default());
        let request = Request::contiguous(&message, Dialect::default()).unwrap();
        assert_eq!(request.operation, Operation::Lookup { name });
    }
    // Linux sends the name "/" with TMPFILE; the target of a link is any text.
    let d = Dialect::default();
    for operation in [
        Operation::Tmpfile {
            arg: fuse_create_in::default(),
            name: c"/",
            ext: Extensions::default(),
        },
        Operation::Symlink {
            name: c"l",
            target: c"/etc/passwd",
            ext: Extensions::default(),
        },
        Operation::Getxattr {
            arg: fuse_getxattr_in::default(),
            name: c"user.a/b",
        },
    ] {
        assert_eq!(
            Request::contiguous(&encode(&operation, d), d)
                .unwrap()
                .operation,
            operation
        );
    }
}

/// Decodes a MKDIR with these extensions.
fn mkdir(units: u16, extensions: &[u8], d: Dialect) -> Result<usize, DecodeError> {
    let mut message = message(Opcode::Mkdir, &[&[0; 8], b"d\0", extensions]);
    message[36..38].copy_from_slice(&units.to_ne_bytes());
    let request = Request::contiguous(&message, d)?;
    match request.operation {
        Operation::Mkdir { ext, .. } => Ok(ext.security_contexts().count()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn extensions() {
    let d = Dialect::default();
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect::<Vec<u8>>()
    };
    assert_eq!(mkdir(0, &[], d), Ok(0));
    // No security module: a header without contexts.
    assert_eq!(mkdir(1, &words(&[8, 0]), d), Ok(0));
    // A kind of extension that is not known is passed over.
    assert_eq!(mkdir(2, &words(&[12, 99, 7, 0]), d), Ok(0));
    for (units, bytes, expected) in [
        (
            2,
            words(&[8, 0]),
            "MKDIR request 6: extensions needs 16 bytes, 8 left",
        ),
        (
            1,
            words(&[7, 0]),
            "MKDIR request 6: extensions: extension of 7 bytes is shorter than its header",
        ),
        (
            1,
            words(&[16, 0]),
            "MKDIR request 6: extensions: extension needs 16 bytes, 8 left",
        ),
        (
            1,
            words(&[8, 1]),
            "MKDIR request 6: extensions: fuse_secctx needs 8 bytes, 0 left",
        ),
        (
            3,
            words(&[24, 1, 9, 0, 0x6161_6161, 0]),
            "MKDIR request 6: extensions: security label needs 9 bytes, 3 left",
        ),
        (
            3,
            words(&[24, 1, 0, 0, 0x6161_6161, 0x6161_6161]),
            "MKDIR request 6: extensions: name of a security context is not terminated",
        ),
        (
            2,
            words(&[16, 32, 2, 7]),
            "MKDIR request 6: extensions: group ids needs 8 bytes, 4 left",
        ),
        (
            0,
            words(&[8, 0]),
            "MKDIR request 6: 8 bytes after the last field",
        ),
    ] {
        let error = mkdir(units, &bytes, d).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
    // 7.36 and 7.37 do not announce the length of the context.
    let old = Dialect::new(37, InitFlags::SECURITY_CTX);
    let mut context = Vec::new();
    Extensions::encode_security_contexts(&[(c"security.selinux", b"label")], &mut context);
    assert_eq!(mkdir(0, &context, old), Ok(1));
    assert_eq!(mkdir(0, &[], old), Ok(0));
}

#[test]
fn older_dialects_have_shorter_arguments() {
    let minor = |minor| Dialect::new(minor, InitFlags::empty());
    let name = CString::new("n").unwrap();
    // (opcode, dialect, length of the argument, what follows it)
    let cases: [(Opcode, Dialect, usize, &[u8]); 11] = [
        (Opcode::Getattr, minor(8), 0, b""),
        (Opcode::Getattr, minor(8), 16, b""),
        (Opcode::Getattr, minor(9), 16, b""),
        (Opcode::Read, minor(8), 24, b""),
        (Opcode::Read, minor(8), 40, b""),
        (Opcode::Setlk, minor(8), 40, b""),
        (Opcode::Write, minor(8), 24, b""),
        (Opcode::Mknod, minor(11), 8, b"n\0"),
        (Opcode::Create, minor(11), 8, b"n\0"),
        (Opcode::Setxattr, minor(45), 8, b"n\0"),
        (Opcode::Setxattr, Dialect::default(), 16, b"n\0"),
    ];
    for (opcode, d, len, rest) in cases {
        let bytes = message(opcode, &[&vec![0; len], rest]);
        let request = Request::contiguous(&bytes, d).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(request.operation.opcode(), opcode);
        if let Operation::Setxattr { name: got, .. } = request.operation {
            assert_eq!(got, name.as_c_str());
        }
    }
    for (opcode, d, len) in [
        (Opcode::Getattr, minor(9), 0),
        (Opcode::Read, minor(9), 24),
        (Opcode::Setlk, minor(9), 40),
        (Opcode::Write, minor(9), 24),
    ] {
        let bytes = message(opcode, &[&vec![0; len]]);
        let error = Request::contiguous(&bytes, d).expect_err("too short for 7.9");
        assert!(
            matches!(error, DecodeError::Short { got, .. } if got == len),
            "{error}"
        );
    }
}

#[test]
fn every_operation_is_tied_to_its_length() {
    let name = CString::new("name").unwrap();
    let extensions = support::extension_bytes();
    let ext = Extensions::parse(&extensions).unwrap();
    let d = Dialect::default();
    let samples = support::samples(&name, b"some data", ext, &[1; 48]);
    let covered: std::collections::BTreeSet<_> = samples.iter().map(Operation::opcode).collect();
    assert_eq!(covered.len(), Opcode::COUNT, "an operation has no sample");
    for operation in &samples {
        let whole = encode(operation, d);
        assert_eq!(
            Request::contiguous(&whole, d).unwrap().operation,
            *operation
        );
        let open_ended = matches!(operation.opcode(), Opcode::Init | Opcode::CuseInit);
        for len in 40..whole.len() + 1 {
            let mut bytes = whole[..len].to_vec();
            if len == whole.len() {
                bytes.push(1);
            }
            let len = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            let result = Request::contiguous(&bytes, d);
            assert!(
                result.is_err() || open_ended && len >= 48,
                "{} of {len}",
                operation.opcode()
            );
        }
    }
}
