//! Random operations. Few names and short sequences of open files, so that operations meet.

use fastrand::Rng;
use rustix::fs::{FallocateFlags, OFlags, RenameFlags};

use crate::support::backing::Kind;
use crate::support::kernel;
use crate::support::rootless;
use crate::support::server::{Peer, peer};

use crate::op::{Name, Op, SLOTS, Step, Target, Time};

const ACCESS_ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";
const XATTRS: [&str; 9] = [
    "user.a",
    "user.b",
    "user.a",
    "trusted.t",
    "security.capability",
    ACCESS_ACL,
    DEFAULT_ACL,
    DEFAULT_ACL,
    "unknown.x",
];

/// The sequence of a seed, without what cannot be the same on `kind`.
pub fn sequence(kind: Kind, seed: u64, len: usize) -> Vec<Step> {
    let mut random = Rng::with_seed(seed);
    (0..len).map(|_| adapt(kind, step(&mut random))).collect()
}

/// Replaces what the kernel itself does differently on a FUSE mount.
fn adapt(kind: Kind, mut step: Step) -> Step {
    if let Op::Fallocate { mode, .. } = &mut step.op {
        // Refused by the kernel before the server is asked (EOPNOTSUPP).
        let mut refused = FallocateFlags::COLLAPSE_RANGE | FallocateFlags::INSERT_RANGE;
        refused.set(FallocateFlags::ZERO_RANGE, !kernel::is_at_least(5, 14));
        if peer() != Peer::Bind && FallocateFlags::from_bits_retain(*mode).intersects(refused) {
            *mode = FallocateFlags::empty().bits();
        }
        // Before Linux 6.14 a hole that ext4 is to punch behind the end leaves set-id bits and file capabilities alone.
        if [Kind::Ext4, Kind::Overlay].contains(&kind)
            && !kernel::is_at_least(6, 14)
            && FallocateFlags::from_bits_retain(*mode).contains(FallocateFlags::PUNCH_HOLE)
        {
            *mode = FallocateFlags::empty().bits();
        }
        // tmpfs alone keeps set-id bits when an ordinary user calls fallocate; before Linux 5.11 the mount keeps some.
        if kind == Kind::Tmpfs || !kernel::is_at_least(5, 11) {
            step.user = 0;
        }
        // Root of a user namespace is one there: what no file system knows.
        if kind == Kind::Tmpfs && rootless::is_inside() {
            *mode = u32::MAX;
        }
    }
    // And file capabilities, whoever calls it.
    if kind == Kind::Tmpfs
        && let Op::SetXattr { name, .. } = &mut step.op
        && *name == "security.capability"
    {
        *name = "user.a";
    }
    let without = match &step.op {
        // A direct read of btrfs itself leaves the access time alone; the server reads through the page cache.
        Op::DirectRead { path, .. } if kind == Kind::Btrfs => Some(path),
        // tmpfs itself has no direct I/O before Linux 6.6.
        Op::DirectRead { path, .. } if kind == Kind::Tmpfs && !kernel::is_at_least(6, 6) => {
            Some(path)
        }
        // FUSE has no unnamed files before Linux 6.1.
        Op::Open { path, flags, .. }
            if flags.contains(OFlags::TMPFILE) && !kernel::is_at_least(6, 1) =>
        {
            Some(path)
        }
        _ => None,
    };
    if let Some(path) = without {
        step.op = Op::Stat {
            path: path.clone(),
            follow: true,
        };
    }
    step
}

fn step(random: &mut Rng) -> Step {
    let user = if random.u8(0..10) < 5 {
        0
    } else {
        random.usize(1..crate::op::USERS.len())
    };
    Step {
        user,
        op: op(random),
    }
}

fn pick<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(0..from.len())]
}

fn component(random: &mut Rng) -> Vec<u8> {
    match random.u8(0..40) {
        0..=9 => format!("d{}", random.u8(0..3)).into_bytes(),
        10..=29 => format!("f{}", random.u8(0..6)).into_bytes(),
        30..=33 => format!("l{}", random.u8(0..2)).into_bytes(),
        34 | 35 => b"p0".to_vec(),
        36 => vec![b'n'; 255],
        37 => b"caf\xe9 \xff\n".to_vec(),
        38 => vec![b'n'; 256],
        _ => b"f0/".to_vec(),
    }
}

fn path(random: &mut Rng) -> Name {
    let mut bytes = Vec::new();
    for _ in 0..*pick(random, &[0, 0, 0, 1, 1, 2]) {
        bytes.extend(match random.u8(0..20) {
            0 => b"l0/".to_vec(),
            1 => b"./".to_vec(),
            2 => b"f0/".to_vec(),
            _ => format!("d{}/", random.u8(0..3)).into_bytes(),
        });
    }
    bytes.extend(component(random));
    Name::new(bytes)
}

fn directory(random: &mut Rng) -> Name {
    match random.u8(0..8) {
        0 | 1 => Name::new("."),
        2..=5 => Name::new(format!("d{}", random.u8(0..3))),
        6 => Name::new(format!("d{}/d{}", random.u8(0..3), random.u8(0..3))),
        _ => path(random),
    }
}

fn slot(random: &mut Rng) -> usize {
    random.usize(0..SLOTS)
}

fn target(random: &mut Rng) -> Target {
    if random.u8(0..3) == 0 {
        Target::Slot(slot(random))
    } else {
        Target::Path(path(random))
    }
}

fn mode(random: &mut Rng) -> u32 {
    *pick(
        random,
        &[
            0o644, 0o755, 0o600, 0o777, 0o666, 0o4755, 0o2755, 0o6777, 0o1777, 0o2775, 0, 0o444,
            0o070,
        ],
    )
}

fn offset(random: &mut Rng) -> u64 {
    match random.u8(0..12) {
        0..=3 => random.u64(0..10_000),
        4..=6 => random.u64(0..20) * 4096,
        7..=9 => random.u64(0..300_000),
        10 => 0,
        _ => (1 << 32) + random.u64(0..5000),
    }
}

fn length(random: &mut Rng) -> usize {
    match random.u8(0..10) {
        0 => 0,
        1..=4 => random.usize(1..200),
        5..=7 => random.usize(1..20_000),
        8 => random.usize(1..10) * 4096,
        _ => random.usize(1..300_000),
    }
}

fn time(random: &mut Rng) -> Time {
    match random.u8(0..8) {
        0 | 1 => Time::Now,
        2 => Time::Omit,
        3 => Time::At(-1, 500_000_000),
        4 => Time::At(-1_000_000_000, 1),
        5 => Time::At(0, 0),
        6 => Time::At(random.i64(1..1_500_000_000), random.i64(0..1_000_000_000)),
        _ => Time::At(2_000_000_000, 999_999_999),
    }
}

fn open_flags(random: &mut Rng) -> OFlags {
    let mut flags = *pick(
        random,
        &[
            OFlags::RDONLY,
            OFlags::RDWR,
            OFlags::RDWR,
            OFlags::RDWR,
            OFlags::WRONLY,
        ],
    );
    let mut maybe = |flag, chance| {
        if random.u8(0..100) < chance {
            flags |= flag;
        }
    };
    maybe(OFlags::CREATE, 60);
    maybe(OFlags::EXCL, 15);
    maybe(OFlags::TRUNC, 15);
    maybe(OFlags::APPEND, 15);
    maybe(OFlags::NOFOLLOW, 15);
    maybe(OFlags::DIRECTORY, 8);
    maybe(OFlags::NOATIME, 3);
    maybe(OFlags::SYNC, 2);
    maybe(OFlags::PATH, 3);
    // What would block (a FIFO) gives an error instead, on both sides.
    flags | OFlags::NONBLOCK | OFlags::CLOEXEC
}

/// An ACL as the kernel stores it: version 2, then tag, permissions and id of each entry.
fn acl(random: &mut Rng) -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let mut entries: Vec<(u16, u16, u32)> = vec![(1, random.u16(0..8), NO_ID)];
    for uid in [1000_u32, 1001] {
        if random.bool() {
            entries.push((2, random.u16(0..8), uid));
        }
    }
    entries.push((4, random.u16(0..8), NO_ID));
    if random.bool() {
        entries.push((8, random.u16(0..8), 2000));
    }
    if entries.len() > 2 {
        entries.push((0x10, random.u16(0..8), NO_ID));
    }
    entries.push((0x20, random.u16(0..8), NO_ID));
    if random.u8(0..20) == 0 {
        entries.swap_remove(0);
    }
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// A file capability as the kernel stores it, revision 2: CAP_NET_BIND_SERVICE permitted.
fn capability() -> Vec<u8> {
    let words: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn set_xattr(random: &mut Rng) -> Op {
    let name = *pick(random, &XATTRS);
    let value = match name {
        ACCESS_ACL | DEFAULT_ACL => acl(random),
        "security.capability" => capability(),
        _ => vec![b'v'; *pick(random, &[0, 1, 5, 40, 200, 1500])],
    };
    Op::SetXattr {
        target: target(random),
        name,
        value,
        flags: *pick(random, &[0, 0, 0, 1, 2]),
    }
}

fn fallocate_mode(random: &mut Rng) -> u32 {
    pick(
        random,
        &[
            FallocateFlags::empty(),
            FallocateFlags::KEEP_SIZE,
            FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE,
            FallocateFlags::ZERO_RANGE,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::COLLAPSE_RANGE,
            FallocateFlags::INSERT_RANGE,
            FallocateFlags::PUNCH_HOLE,
        ],
    )
    .bits()
}

fn rename_flags(random: &mut Rng) -> u32 {
    match random.u8(0..20) {
        0..=8 => RenameFlags::empty(),
        9..=12 => RenameFlags::NOREPLACE,
        13..=17 => RenameFlags::EXCHANGE,
        // What it leaves is a device, and a mount of a user namespace has none that could be opened.
        18 if !rootless::is_inside() => RenameFlags::WHITEOUT,
        _ => RenameFlags::EXCHANGE | RenameFlags::NOREPLACE,
    }
    .bits()
}

fn symlink_target(random: &mut Rng) -> Name {
    // Nothing absolute: it would leave the tree and mean the same file on both sides.
    Name::new(match random.u8(0..8) {
        0..=2 => format!("f{}", random.u8(0..6)),
        3..=5 => format!("d{}", random.u8(0..3)),
        6 => format!("../f{}", random.u8(0..6)),
        _ => "l0".to_owned(),
    })
}

fn op(random: &mut Rng) -> Op {
    let weight = random.u16(0..1000);
    match weight {
        0..=139 => {
            let flags = open_flags(random);
            Op::Open {
                slot: slot(random),
                path: path(random),
                flags,
                mode: mode(random),
            }
        }
        140..=149 => {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let flags = if random.u8(0..4) == 0 {
                flags | OFlags::EXCL
            } else {
                flags
            };
            Op::Open {
                slot: slot(random),
                path: directory(random),
                flags,
                mode: mode(random),
            }
        }
        150..=169 => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Op::Open {
                slot: slot(random),
                path: directory(random),
                flags,
                mode: 0,
            }
        }
        170..=199 => Op::Close { slot: slot(random) },
        200..=206 => Op::Dup {
            from: slot(random),
            to: slot(random),
        },
        207..=229 => Op::Read {
            slot: slot(random),
            len: length(random),
        },
        230..=249 => Op::Pread {
            slot: slot(random),
            offset: offset(random),
            len: length(random),
        },
        250..=289 => Op::Write {
            slot: slot(random),
            len: length(random),
            byte: random.u8(1..),
        },
        290..=329 => Op::Pwrite {
            slot: slot(random),
            offset: offset(random),
            len: length(random),
            byte: random.u8(1..),
        },
        330..=339 => Op::DirectRead {
            path: path(random),
            offset: random.u64(0..8) * 4096,
            len: 4096 * random.usize(1..8),
        },
        340..=354 => {
            let offset = offset(random).cast_signed() * if random.u8(0..4) == 0 { -1 } else { 1 };
            Op::Seek {
                slot: slot(random),
                offset,
                whence: random.u8(0..3),
            }
        }
        355..=364 => Op::Extents { slot: slot(random) },
        365..=394 => {
            let len = if random.u8(0..60) == 0 {
                1 << 62
            } else {
                offset(random)
            };
            Op::Truncate {
                target: target(random),
                len,
            }
        }
        395..=424 => Op::Fallocate {
            slot: slot(random),
            mode: fallocate_mode(random),
            offset: if random.bool() {
                random.u64(0..30) * 4096
            } else {
                offset(random)
            },
            len: if random.bool() {
                random.u64(0..10) * 4096
            } else {
                length(random) as u64
            },
        },
        425..=439 => Op::CopyRange {
            from: slot(random),
            to: slot(random),
            offset_in: offset(random),
            offset_out: offset(random),
            len: length(random),
        },
        440..=446 => Op::Sendfile {
            from: slot(random),
            to: slot(random),
            len: length(random),
        },
        447..=456 => Op::MapWrite {
            slot: slot(random),
            offset: offset(random),
            len: length(random),
            byte: random.u8(1..),
        },
        457..=463 => Op::MapRead {
            slot: slot(random),
            offset: offset(random),
            len: length(random),
        },
        464..=473 => Op::Fsync {
            slot: slot(random),
            data: random.bool(),
        },
        474..=523 => Op::Mkdir {
            path: if random.bool() {
                directory(random)
            } else {
                path(random)
            },
            mode: mode(random),
        },
        524..=539 => Op::Rmdir {
            path: directory(random),
        },
        540..=584 => Op::Unlink { path: path(random) },
        585..=639 => Op::Rename {
            from: path(random),
            to: path(random),
            flags: rename_flags(random),
        },
        640..=664 => Op::Link {
            from: path(random),
            to: path(random),
            follow: random.u8(0..4) == 0,
        },
        665..=671 => Op::LinkOpen {
            slot: slot(random),
            to: path(random),
        },
        672..=696 => Op::Symlink {
            target: symlink_target(random),
            path: path(random),
        },
        697..=704 => Op::Readlink { path: path(random) },
        705..=719 => {
            const KINDS: [u32; 5] = [
                libc::S_IFIFO,
                libc::S_IFSOCK,
                libc::S_IFCHR,
                libc::S_IFREG,
                libc::S_IFDIR,
            ];
            Op::Mknod {
                path: path(random),
                kind: *pick(random, &KINDS),
                mode: mode(random),
            }
        }
        720..=759 => Op::Chmod {
            target: target(random),
            mode: mode(random),
        },
        760..=784 => Op::Chown {
            target: target(random),
            uid: *pick(random, &[None, Some(0), Some(1000), Some(1001), Some(1002)]),
            gid: *pick(random, &[None, Some(0), Some(1000), Some(2000), Some(2000)]),
            follow: random.bool(),
        },
        785..=809 => Op::Utimens {
            target: target(random),
            atime: time(random),
            mtime: time(random),
            follow: random.bool(),
        },
        810..=844 => set_xattr(random),
        845..=859 => Op::GetXattr {
            target: target(random),
            name: pick::<&str>(random, &XATTRS),
            room: *pick(random, &[0, 3, 4096]),
        },
        860..=869 => Op::ListXattr {
            target: target(random),
        },
        870..=884 => Op::RemoveXattr {
            target: target(random),
            name: pick::<&str>(random, &XATTRS),
        },
        885..=899 => Op::ReadDir {
            path: directory(random),
            from: random.usize(0..12),
        },
        900..=909 => Op::ReadDirSlot {
            slot: slot(random),
            limit: random.usize(1..20),
        },
        910..=929 => Op::Stat {
            path: path(random),
            follow: random.bool(),
        },
        930..=944 => Op::Access {
            path: path(random),
            mode: random.u8(0..8),
        },
        945..=949 => Op::StatFs { path: path(random) },
        950..=964 => Op::Flock {
            slot: slot(random),
            operation: random.u8(0..3),
        },
        965..=979 => Op::RecordLock {
            slot: slot(random),
            kind: random.u8(0..3),
            start: random.i64(0..100),
            len: random.i64(0..50),
        },
        980..=987 => Op::GetFlags { path: path(random) },
        988..=997 => {
            const APPEND: u32 = 0x20;
            const IMMUTABLE: u32 = 0x10;
            const NODUMP: u32 = 0x40;
            Op::SetFlags {
                path: path(random),
                flags: *pick(random, &[0, 0, 0, 0, APPEND, IMMUTABLE, NODUMP]),
            }
        }
        _ => Op::Populate {
            path: directory(random),
            count: random.usize(1..250),
        },
    }
}
