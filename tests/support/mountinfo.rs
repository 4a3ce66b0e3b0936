//! The mounts this process sees.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug)]
pub struct MountEntry {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type of the file system, with its subtype.
    pub fs_type: String,
    /// Minor device number; names the connection of a FUSE mount.
    pub minor: u32,
}

/// Every mount.
pub fn all() -> Vec<MountEntry> {
    let text = fs::read("/proc/self/mountinfo").expect("/proc is mounted");
    text.split(|&b| b == b'\n').filter_map(parse).collect()
}

/// The topmost mount at exactly `point`.
pub fn at(point: &Path) -> Option<MountEntry> {
    all().into_iter().rfind(|entry| entry.point == point)
}

/// Whether a FUSE mount has this minor device number.
pub fn shows(minor: u32) -> bool {
    let mut all = all().into_iter();
    all.any(|entry| entry.minor == minor && entry.fs_type.starts_with("fuse"))
}

fn parse(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let dash = fields.iter().position(|&f| f == b"-")?;
    let device = std::str::from_utf8(fields.get(2)?).ok()?;
    Some(MountEntry {
        point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        fs_type: String::from_utf8_lossy(fields.get(dash + 1)?).into_owned(),
        minor: device.split_once(':')?.1.parse().ok()?,
    })
}

/// Blanks and the like are written as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        if *first == b'\\' && tail.len() >= 3 {
            let digit = |i: usize| tail[i].wrapping_sub(b'0');
            out.push(
                digit(0)
                    .wrapping_mul(64)
                    .wrapping_add(digit(1) * 8)
                    .wrapping_add(digit(2)),
            );
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}
