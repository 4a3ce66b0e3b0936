//! Mutated requests: whatever the bytes are, the decoders return, and what they accept is consistent.
//!
//! Deterministic, so that a failure can be repeated; the fuzz target goes further.

mod support;

use std::ffi::CString;

use fuse_proto::notify::Notification;
use fuse_proto::*;

/// Cases to try; fewer without optimisation.
const CASES: u32 = if cfg!(debug_assertions) {
    30_000
} else {
    200_000
};

/// xorshift64*, enough to spread mutations.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

/// Values that sit on the edges of lengths and counts.
const EDGES: [u32; 10] = [0, 1, 7, 8, 31, 32, 33, 0xffff, i32::MAX as u32, u32::MAX];

fn mutate(message: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let len = message.len();
        match random.below(6) {
            0 if len > 0 => {
                let at = random.below(len);
                message[at] ^= 1 << random.below(8);
            }
            1 if len > 0 => {
                let at = random.below(len);
                message[at] = random.next().to_le_bytes()[0];
            }
            2 if len >= 4 => {
                let at = random.below(len / 4) * 4;
                let edge = EDGES[random.below(EDGES.len())];
                message[at..at + 4].copy_from_slice(&edge.to_ne_bytes());
            }
            3 => message.truncate(random.below(len + 1)),
            4 => message.extend((0..random.below(40)).map(|_| random.next().to_le_bytes()[0])),
            _ if len >= 40 => {
                // Another operation over the same bytes.
                let raw = Opcode::ALL[random.below(Opcode::COUNT)].raw();
                message[4..8].copy_from_slice(&raw.to_ne_bytes());
            }
            _ => {}
        }
    }
    // Most mutations would end at the length check.
    if message.len() >= 4 && random.below(8) != 0 {
        let len = u32::try_from(message.len()).unwrap();
        message[..4].copy_from_slice(&len.to_ne_bytes());
    }
}

/// Walks everything that was decoded, and checks that it survives encoding.
fn check(request: &Request<'_>, d: Dialect) {
    let _ = format!("{:?}", request.operation.opcode());
    match &request.operation {
        Operation::BatchForget(forgets) => assert_eq!(forgets.clone().count(), forgets.len()),
        Operation::Symlink { ext, .. }
        | Operation::Mknod { ext, .. }
        | Operation::Mkdir { ext, .. }
        | Operation::Create { ext, .. }
        | Operation::Tmpfile { ext, .. } => {
            assert!(ext.security_contexts().count() * 8 <= ext.as_bytes().len());
            assert!(ext.supplementary_groups().count() * 4 <= ext.as_bytes().len());
        }
        // Its length depends on the kernel, not on the dialect.
        Operation::Init(_) => return,
        _ => {}
    }
    let header = request.header;
    let mut message = Vec::new();
    request.operation.encode_contiguous(
        header.unique,
        header.nodeid,
        header.uid,
        header.gid,
        header.pid,
        d,
        &mut message,
    );
    let again = Request::contiguous(&message, d).expect("an encoded request");
    assert_eq!(again.operation, request.operation);
}

#[test]
fn no_request_panics_or_decodes_inconsistently() {
    let name = CString::new("name").unwrap();
    let data: Vec<u8> = (0..100).collect();
    let elements: Vec<u8> = (0..64).collect();
    let ext = support::extension_bytes();
    let dialects = support::dialects();
    let seeds: Vec<(Dialect, Vec<u8>)> = dialects
        .iter()
        .flat_map(|&d| {
            let with_ext = d.flags.contains(InitFlags::SECURITY_CTX);
            let ext = if with_ext { &ext[..] } else { &[] };
            let ext = Extensions::parse(ext).unwrap();
            support::samples(&name, &data, ext, &elements)
                .into_iter()
                .map(move |operation| {
                    let mut message = Vec::new();
                    operation.encode_contiguous(2, 1, 0, 0, 1, d, &mut message);
                    (d, message)
                })
        })
        .collect();

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut refused) = (0, 0);
    let mut buf = Vec::new();
    for _ in 0..CASES {
        let (d, seed) = &seeds[random.below(seeds.len())];
        buf.clear();
        buf.extend_from_slice(seed);
        mutate(&mut buf, &mut random);
        match Request::contiguous(&buf, *d) {
            Ok(request) => {
                check(&request, *d);
                accepted += 1;
            }
            Err(error) => {
                assert_eq!(error.unique().is_some(), buf.len() >= 40);
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
        if let Some((header, rest)) = buf.split_at_checked(40) {
            let (op_in, payload) = rest.split_at(rest.len().min(random.below(129)));
            if let Ok(request) = Request::split(header, op_in, payload, *d) {
                check(&request, *d);
            }
        }
        let _ = Notification::decode(&buf);
        Dirents::new(&buf).for_each(drop);
        DirentsPlus::new(&buf).for_each(drop);
    }
    println!("{accepted} of {CASES} mutated requests accepted, {refused} refused");
    assert!(
        accepted > CASES / 20 && refused > CASES / 20,
        "the mutations are lopsided"
    );
}
