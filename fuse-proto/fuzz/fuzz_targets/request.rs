//! Requests, replies, directory records and notifications from arbitrary bytes.
#![no_main]

use fuse_proto::notify::Notification;
use fuse_proto::{
    DecodeError, Dialect, Dirents, DirentsPlus, InitFlags, Operation, Request, fuse_in_header,
};
use libfuzzer_sys::fuzz_target;

/// A few dialects that differ in the shape of requests.
fn dialect(choice: u8) -> Dialect {
    let all = InitFlags::INIT_EXT
        .union(InitFlags::SETXATTR_EXT)
        .union(InitFlags::SECURITY_CTX)
        .union(InitFlags::CREATE_SUPP_GROUP);
    match choice % 5 {
        0 => Dialect::default(),
        1 => Dialect::new(45, all),
        2 => Dialect::new(36, all),
        3 => Dialect::new(31, InitFlags::empty()),
        _ => Dialect::new(8, InitFlags::empty()),
    }
}

/// Whatever was decoded comes out the same after encoding and decoding.
fn round_trip(request: &Request<'_>, d: Dialect) {
    if matches!(request.operation, Operation::Init(_)) {
        return; // Its length depends on the kernel, not on the dialect.
    }
    let ids = request.header;
    let mut message = Vec::new();
    request.operation.encode_contiguous(
        ids.unique, ids.nodeid, ids.uid, ids.gid, ids.pid, d, &mut message,
    );
    let again = Request::contiguous(&message, d).expect("encoded request");
    assert_eq!(again.operation, request.operation);
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let d = dialect(choice);
    match Request::contiguous(bytes, d) {
        Ok(request) => round_trip(&request, d),
        Err(DecodeError::Length { .. }) if bytes.len() >= size_of::<fuse_in_header>() => {
            // Get past the length check, which a mutation rarely satisfies.
            let mut mended = bytes.to_vec();
            mended[..4].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
            if let Ok(request) = Request::contiguous(&mended, d) {
                round_trip(&request, d);
            }
        }
        Err(error) => drop(error.to_string()),
    }
    if let Some((header, rest)) = bytes.split_at_checked(size_of::<fuse_in_header>()) {
        let (op_in, payload) = rest.split_at(rest.len().min(128));
        let _ = Request::split(header, op_in, payload, d);
    }
    let _ = Notification::decode(bytes);
    Dirents::new(bytes).for_each(drop);
    DirentsPlus::new(bytes).for_each(drop);
});
