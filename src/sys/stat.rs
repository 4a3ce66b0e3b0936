//! statx(2) with everything it can tell: birth time, mount id, attributes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use nix::NixPath;

use super::clock;

/// `STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID`.
const MASK: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME | STATX_MNT_ID;
/// Mount id as in `/proc/self/mountinfo`; reused after an unmount. Linux 5.8.
pub const STATX_MNT_ID: u32 = 0x1000;
/// Mount id that is never reused. Linux 6.8.
pub const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// Whether looking at a directory may mount what autofs would put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Automount {
    /// Mount it and look at that.
    Trigger,
    /// Look at what is there now.
    Leave,
}

/// What statx(2) says about an inode.
#[derive(Clone, Copy)]
pub struct Stat {
    raw: libc::statx,
    asked: u64,
}

impl Stat {
    /// All of it.
    #[must_use]
    pub fn raw(&self) -> &libc::statx {
        &self.raw
    }

    /// When this was asked for, as of [`clock::now`]: it was true at that time or later.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// `st_mode`: file type and permission bits.
    #[must_use]
    pub fn mode(&self) -> u32 {
        u32::from(self.raw.stx_mode)
    }

    /// File type (`S_IFMT` bits).
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.mode() & libc::S_IFMT
    }

    /// Inode number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.raw.stx_ino
    }

    /// Device number, major in the upper half.
    #[must_use]
    pub fn dev(&self) -> u64 {
        u64::from(self.raw.stx_dev_major) << 32 | u64::from(self.raw.stx_dev_minor)
    }

    /// Id of the mount, 0 before Linux 5.8.
    #[must_use]
    pub fn mount(&self) -> u64 {
        if self.raw.stx_mask & (STATX_MNT_ID | STATX_MNT_ID_UNIQUE) == 0 {
            0
        } else {
            self.raw.stx_mnt_id
        }
    }

    /// Birth time in nanoseconds since 1970, 0 if the file system has none.
    #[must_use]
    pub fn birth(&self) -> i64 {
        if self.raw.stx_mask & libc::STATX_BTIME == 0 {
            0
        } else {
            nanoseconds(&self.raw.stx_btime)
        }
    }

    /// Whether something is mounted here once it is used (autofs).
    #[must_use]
    pub fn is_automount(&self) -> bool {
        self.raw.stx_attributes & libc::STATX_ATTR_AUTOMOUNT as u64 != 0
    }

    /// Number of hard links.
    #[must_use]
    pub fn nlink(&self) -> u32 {
        self.raw.stx_nlink
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.raw.stx_size
    }

    /// Time of the last change of the contents, in nanoseconds since 1970.
    #[must_use]
    pub fn modified(&self) -> i64 {
        nanoseconds(&self.raw.stx_mtime)
    }

    /// Time of the last change of the inode, in nanoseconds since 1970.
    #[must_use]
    pub fn changed(&self) -> i64 {
        nanoseconds(&self.raw.stx_ctime)
    }
}

/// Wraps around outside of the years 1678 to 2262, which is fine for comparing.
fn nanoseconds(time: &libc::statx_timestamp) -> i64 {
    time.tv_sec
        .wrapping_mul(1_000_000_000)
        .wrapping_add(i64::from(time.tv_nsec))
}

fn statx(
    dir: &impl AsFd,
    name: &std::ffi::CStr,
    flags: i32,
    mask: u32,
    asked: u64,
) -> io::Result<Stat> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `name` is NUL-terminated and `stat` has the size of `struct statx`; both outlive the call.
    let result = unsafe {
        libc::statx(
            dir.as_fd().as_raw_fd(),
            name.as_ptr(),
            flags,
            mask,
            stat.as_mut_ptr(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed above, and every bit pattern is a valid `struct statx`.
    let raw = unsafe { stat.assume_init() };
    Ok(Stat { raw, asked })
}

/// The id that `/proc/self/mountinfo` has for the mount that `fd` is on, 0 before Linux 5.8; another number than
/// [`Stat::mount`] from Linux 6.8 on.
///
/// # Errors
/// Those of statx(2).
pub fn mount_number(fd: &impl AsFd) -> io::Result<u64> {
    let stat = statx(fd, c"", libc::AT_EMPTY_PATH, STATX_MNT_ID, clock::now())?;
    let has_one = stat.raw.stx_mask & STATX_MNT_ID != 0;
    Ok(if has_one { stat.raw.stx_mnt_id } else { 0 })
}

/// The inode behind `fd`, which may be an `O_PATH` descriptor.
///
/// # Errors
/// Those of statx(2).
pub fn of(fd: &impl AsFd) -> io::Result<Stat> {
    of_since(fd, clock::now())
}

/// As [`of`], asked for at the time `asked`, which has passed.
///
/// # Errors
/// Those of statx(2).
pub fn of_since(fd: &impl AsFd, asked: u64) -> io::Result<Stat> {
    statx(
        fd,
        c"",
        libc::AT_EMPTY_PATH,
        MASK | STATX_MNT_ID_UNIQUE,
        asked,
    )
}

/// As [`of`], with the `AT_STATX_*` flags `flags`, for the fields in `mask` at least.
///
/// # Errors
/// Those of statx(2).
pub fn of_with(fd: &impl AsFd, flags: u32, mask: u32) -> io::Result<Stat> {
    let sync =
        i32::try_from(flags).unwrap_or(0) & (libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC);
    statx(
        fd,
        c"",
        libc::AT_EMPTY_PATH | sync,
        mask & !0x8000_0000,
        clock::now(),
    )
}

/// The inode `name` in `dir`; a symbolic link itself.
///
/// # Errors
/// Those of statx(2).
pub fn at<P: NixPath + ?Sized>(
    dir: &impl AsFd,
    name: &P,
    automount: Automount,
) -> io::Result<Stat> {
    at_since(dir, name, automount, clock::now())
}

/// As [`at`], asked for at the time `asked`, which has passed.
///
/// # Errors
/// Those of statx(2).
pub fn at_since<P: NixPath + ?Sized>(
    dir: &impl AsFd,
    name: &P,
    automount: Automount,
    asked: u64,
) -> io::Result<Stat> {
    let mut flags = libc::AT_SYMLINK_NOFOLLOW;
    if automount == Automount::Leave {
        flags |= libc::AT_NO_AUTOMOUNT;
    }
    name.with_nix_path(|name| statx(dir, name, flags, MASK | STATX_MNT_ID_UNIQUE, asked))?
}
