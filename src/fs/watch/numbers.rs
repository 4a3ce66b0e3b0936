//! Inode numbers that file handles have in them.
//!
//! To the kernel's users a handle is opaque, but it is stored by NFS clients, so its form never changes: where it is known,
//! an event tells the number of its inode without a look at that. A number that was reused meanwhile costs a
//! notification too many.

use std::os::fd::AsFd;

use crate::sys::handle::Handle;
use crate::sys::stat;

/// `FILEID_INO32_GEN`.
const INO32_GEN: i32 = 1;

/// The same with `XFS_FILEID_TYPE_64FLAG`.
const XFS_INO64_GEN: i32 = 0x81;

/// Where the number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// 32 bits, and a generation.
    Ext,
    /// The same, or 64 bits.
    Xfs,
    /// A generation, and 64 bits.
    Tmpfs,
}

impl Numbers {
    /// That of the handles of the file system `object` is on, whose `f_type` of statfs(2) is `magic`; none if it is not
    /// known.
    pub fn of(magic: i64, object: &impl AsFd) -> Option<Numbers> {
        let numbers = match magic {
            0xef53 => Numbers::Ext,
            0x5846_5342 => Numbers::Xfs,
            0x0102_1994 => Numbers::Tmpfs,
            _ => return None,
        };
        // Who knows what calls itself so one day.
        let read = numbers.read(&Handle::of(object).ok()?)?;
        let real = stat::of(object).ok()?.ino();
        (read == real).then_some(numbers)
    }

    /// The number in `handle`.
    pub fn read(self, handle: &Handle) -> Option<u64> {
        let (kind, bytes) = handle.parts();
        let word = |index: usize| {
            let bytes = bytes.get(4 * index..4 * index + 4)?;
            Some(u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)))
        };
        let long = |index: usize| {
            let bytes = bytes.get(4 * index..4 * index + 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        match (self, kind, bytes.len()) {
            (Numbers::Ext | Numbers::Xfs, INO32_GEN, 8) => word(0),
            (Numbers::Xfs, XFS_INO64_GEN, 12) => long(0),
            (Numbers::Tmpfs, INO32_GEN, 12) => Some(word(1)? | word(2)? << 32),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::fs::mounts::magic;

    #[test]
    fn numbers_are_where_the_kernel_has_them() {
        let number = 0x1234_5678_9abc_def0_u64;
        let xfs = [&number.to_ne_bytes()[..], &7_u32.to_ne_bytes()].concat();
        let short = [5_u32.to_ne_bytes(), 7_u32.to_ne_bytes()].concat();
        let tmpfs = [7_u32, 0x9abc_def0, 0x1234_5678]
            .map(u32::to_ne_bytes)
            .concat();
        for (numbers, kind, bytes, read) in [
            (Numbers::Ext, 1, &short, Some(5)),
            (Numbers::Xfs, 1, &short, Some(5)),
            (Numbers::Xfs, 0x81, &xfs, Some(number)),
            (Numbers::Tmpfs, 1, &tmpfs, Some(number)),
            (Numbers::Ext, 0x81, &xfs, None),
            (Numbers::Tmpfs, 1, &short, None),
            (Numbers::Ext, 2, &short, None),
        ] {
            let handle = Handle::new(kind, bytes);
            assert_eq!(numbers.read(&handle), read, "{numbers:?} {kind:#x}");
        }
    }

    #[test]
    fn this_machines_are_understood() {
        for path in ["/", "/tmp", "/dev/shm", "/run"] {
            let Ok(dir) = File::open(path) else { continue };
            let magic = magic(&dir).unwrap();
            if matches!(magic, 0xef53 | 0x5846_5342 | 0x0102_1994) && Handle::of(&dir).is_ok() {
                assert!(Numbers::of(magic, &dir).is_some(), "{path}");
            }
        }
    }
}
