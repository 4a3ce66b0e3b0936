//! What is compared of a file.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, CWD, SeekFrom, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use crate::op::Name;
use crate::support::kernel;

/// Bytes, without keeping them all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digest {
    len: usize,
    head: String,
    hash: u64,
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Digest {
            len: bytes.len(),
            head: bytes[..bytes.len().min(24)].escape_ascii().to_string(),
            hash: hasher.finish(),
        }
    }
}

/// A time, as far as it is the same on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stamp {
    /// That of an operation of the test.
    Recent,
    /// One that was set.
    At(i64, u32),
}

/// Attributes that are the same on both sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meta {
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub size: u64,
    pub device: (u32, u32),
    pub block: u32,
    pub atime: Stamp,
    pub mtime: Stamp,
}

impl Meta {
    /// Takes over the access time of `mount` if this, the plain directory's, is that of a read. A read the kernel answers
    /// from the page cache of the mount, or knows to be past the end, never reaches the host, so there the access time
    /// may be older; it must not be newer.
    pub fn allow_older_atime(&mut self, mount: &Meta) {
        if self.atime == Stamp::Recent {
            self.atime = mount.atime;
        }
    }
}

/// All attributes of a file, some of which only mean something on one side.
#[derive(Clone)]
pub struct Seen(Statx);

impl Seen {
    /// Of a name; a symbolic link is not followed.
    pub fn path(path: &Name) -> Result<Seen, Errno> {
        fs::statx(CWD, &path.0, AtFlags::SYMLINK_NOFOLLOW, wanted()).map(Seen)
    }

    /// Of an open file.
    pub fn open(fd: BorrowedFd<'_>) -> Result<Seen, Errno> {
        fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted()).map(Seen)
    }

    /// What is compared with the other side.
    pub fn meta(&self) -> Meta {
        let stat = &self.0;
        Meta {
            mode: format!("{:o}", stat.stx_mode),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            nlink: stat.stx_nlink,
            // Linux 5.10 shows the size that a removed directory had; 6.1 does not any more.
            size: if stat.stx_nlink == 0 && !kernel::is_at_least(6, 1) && self.is_directory() {
                0
            } else {
                stat.stx_size
            },
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            block: stat.stx_blksize,
            atime: stamp(stat.stx_atime),
            mtime: stamp(stat.stx_mtime),
        }
    }

    /// Whether mtime and ctime differ; nothing if it is another file.
    pub fn touched(&self, later: &Seen) -> Option<(bool, bool)> {
        let moment = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
        (self.0.stx_ino == later.0.stx_ino).then(|| {
            (
                moment(self.0.stx_mtime) != moment(later.0.stx_mtime),
                moment(self.0.stx_ctime) != moment(later.0.stx_ctime),
            )
        })
    }

    fn is_directory(&self) -> bool {
        self.mode() & libc::S_IFMT == libc::S_IFDIR
    }

    /// The inode number.
    pub fn inode(&self) -> u64 {
        self.0.stx_ino
    }

    /// Type and permissions.
    pub fn mode(&self) -> u32 {
        u32::from(self.0.stx_mode)
    }

    /// Everything, to compare a file of the mount with the same file on the host.
    pub fn exact(&self) -> Vec<(&'static str, i128)> {
        let stat = &self.0;
        let moment = |time: StatxTimestamp| {
            i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
        };
        // FUSE cannot ask for it before Linux 6.6.
        let born = if stat.stx_mask & StatxFlags::BTIME.bits() == 0 || !kernel::is_at_least(6, 6) {
            -1
        } else {
            moment(stat.stx_btime)
        };
        vec![
            ("ino", stat.stx_ino.into()),
            ("mode", stat.stx_mode.into()),
            ("uid", stat.stx_uid.into()),
            ("gid", stat.stx_gid.into()),
            ("nlink", stat.stx_nlink.into()),
            ("size", stat.stx_size.into()),
            ("blocks", stat.stx_blocks.into()),
            ("rdev major", stat.stx_rdev_major.into()),
            ("rdev minor", stat.stx_rdev_minor.into()),
            ("atime", moment(stat.stx_atime)),
            ("mtime", moment(stat.stx_mtime)),
            ("ctime", moment(stat.stx_ctime)),
            ("btime", born),
        ]
    }
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

/// Nothing sets a time within an hour of the test; operations do.
fn stamp(time: StatxTimestamp) -> Stamp {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs().cast_signed());
    if (now - time.tv_sec).abs() < 3600 {
        Stamp::Recent
    } else {
        Stamp::At(time.tv_sec, time.tv_nsec)
    }
}

/// The ranges of a file that hold data.
pub fn extents(fd: BorrowedFd<'_>) -> Result<Vec<(u64, u64)>, Errno> {
    let before = fs::seek(fd, SeekFrom::Current(0))?;
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        let start = match fs::seek(fd, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        at = fs::seek(fd, SeekFrom::Hole(start))?;
        ranges.push((start, at));
    }
    fs::seek(fd, SeekFrom::Start(before))?;
    Ok(ranges)
}

/// Whether a change right after a look always gives a new time here. Without fine-grained times (before Linux 6.13,
/// and on some file systems) two changes within a tick of the clock look like one, and which times changed cannot be
/// compared.
pub fn fine_grained(directory: &Path) -> std::io::Result<bool> {
    let name = |path: &Path| Name::new(path.as_os_str().as_encoded_bytes());
    let (file, link) = (directory.join("probe"), directory.join("probe-link"));
    std::fs::write(&file, "")?;
    let mut fine = true;
    for round in 0..100_u8 {
        let before = [Seen::path(&name(directory))?, Seen::path(&name(&file))?];
        std::fs::write(&file, [round])?;
        std::fs::hard_link(&file, &link)?;
        let after = [Seen::path(&name(directory))?, Seen::path(&name(&file))?];
        fine &= before
            .iter()
            .zip(&after)
            .all(|(before, after)| before.touched(after) == Some((true, true)));
        std::fs::remove_file(&link)?;
        // tmpfs gives the directory the time of the file, which nobody has looked at.
        std::os::unix::fs::symlink("nowhere", &link)?;
        let before = Seen::path(&name(directory))?;
        std::fs::remove_file(&link)?;
        fine &= before.touched(&Seen::path(&name(directory))?) == Some((true, true));
    }
    std::fs::remove_file(&file)?;
    Ok(fine)
}
