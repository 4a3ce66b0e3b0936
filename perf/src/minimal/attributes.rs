//! What fstat(2) says, for the kernel.

use std::fs::File;

use cntr::engine::Result;
use fuse_proto::fuse_attr;
use rustix::fs::{Stat, makedev};

use super::host;

/// Asks the host about `file`.
pub fn of(file: &File) -> Result<Stat> {
    host(rustix::fs::fstat(file))
}

/// `stat` as the kernel takes it.
pub fn present(stat: &Stat) -> fuse_attr {
    fuse_attr {
        ino: stat.st_ino,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: stat.st_atime as u64,
        mtime: stat.st_mtime as u64,
        ctime: stat.st_ctime as u64,
        atimensec: stat.st_atime_nsec as u32,
        mtimensec: stat.st_mtime_nsec as u32,
        ctimensec: stat.st_ctime_nsec as u32,
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: encode_device(stat.st_rdev),
        blksize: stat.st_blksize as u32,
        flags: 0,
    }
}

/// A device number in the kernel's 32-bit encoding.
fn encode_device(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

/// The other way round.
pub fn decode_device(encoded: u32) -> u64 {
    let (major, minor) = (
        encoded >> 8 & 0xfff,
        (encoded & 0xff) | (encoded >> 12 & !0xff),
    );
    makedev(major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_come_back() {
        for (major, minor) in [(0, 0), (8, 1), (259, 7), (0xfff, 0xf_ffff), (1, 0x12345)] {
            let device = makedev(major, minor);
            assert_eq!(decode_device(encode_device(device)), device);
        }
    }

    #[test]
    fn what_the_host_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "seven b").unwrap();
        let file = File::open(&path).unwrap();
        let attr = present(&of(&file).unwrap());
        assert_eq!((attr.size, attr.nlink), (7, 1));
        assert_eq!(attr.mode & 0o170_000, 0o100_000);
        let stat = rustix::fs::fstat(&file).unwrap();
        assert_eq!((attr.ino, attr.mtime), (stat.st_ino, stat.st_mtime as u64));
    }
}
