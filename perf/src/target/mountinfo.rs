//! The mounts that a process sees.
//!
//! Not from the procfs crate: it leaves blanks in names escaped, and one name that is not UTF-8 makes it refuse them all.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

/// One line of `/proc/PID/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Where it is mounted, as seen from the root directory of the process.
    pub point: PathBuf,
    /// Type of the file system with its subtype: `fuse.cntr`.
    pub kind: String,
    /// What is mounted: a device, a directory, a name.
    pub source: String,
    /// Options of the mount.
    pub options: String,
    /// Options of the file system.
    pub super_options: String,
    /// Major and minor device number.
    pub device: (u32, u32),
}

impl MountEntry {
    /// Whether a FUSE server is behind it; the control file system of FUSE is something else.
    pub fn fuse(&self) -> bool {
        matches!(self.kind.as_str(), "fuse" | "fuseblk")
            || self.kind.starts_with("fuse.")
            || self.kind.starts_with("fuseblk.")
    }

    /// Options of the mount and of the file system, each once.
    pub fn all_options(&self) -> String {
        let mut all: Vec<&str> = self.options.split(',').collect();
        for option in self.super_options.split(',') {
            if !all.contains(&option) {
                all.push(option);
            }
        }
        all.join(",")
    }

    /// Number of its FUSE connection.
    pub fn connection(&self) -> Option<u32> {
        Some(self.device.1).filter(|_| self.fuse())
    }
}

/// What this process sees; nothing without /proc.
pub fn all() -> Vec<MountEntry> {
    read(Path::new("/proc/self/mountinfo"))
}

/// What another process sees; nothing if it has ended.
pub fn of(pid: Pid) -> Vec<MountEntry> {
    read(Path::new(&format!("/proc/{pid}/mountinfo")))
}

fn read(path: &Path) -> Vec<MountEntry> {
    parse_all(&fs::read(path).unwrap_or_default())
}

/// The mounts in the text of such a file.
pub fn parse_all(text: &[u8]) -> Vec<MountEntry> {
    text.split(|&byte| byte == b'\n')
        .filter_map(parse)
        .collect()
}

/// The topmost mount at exactly `point`.
pub fn at(point: &Path) -> Option<MountEntry> {
    all().into_iter().rfind(|entry| entry.point == point)
}

/// The mount that `path` lies on.
pub fn holding(path: &Path) -> Option<MountEntry> {
    holding_in(&all(), path).cloned()
}

/// The mount of these that `path` lies on.
pub fn holding_in<'a>(mounts: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    // Of several at the same point, the last covers the others.
    mounts
        .iter()
        .filter(|entry| path.starts_with(&entry.point))
        .max_by_key(|entry| entry.point.components().count())
}

fn parse(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let dash = fields.iter().position(|&field| field == b"-")?;
    let text = |index: usize| {
        let field = fields.get(index)?;
        Some(String::from_utf8_lossy(&unescape(field)).into_owned())
    };
    let device = text(2)?;
    let (major, minor) = device.split_once(':')?;
    Some(MountEntry {
        point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        kind: text(dash + 1)?,
        source: text(dash + 2)?,
        options: text(5)?,
        super_options: text(dash + 3)?,
        device: (major.parse().ok()?, minor.parse().ok()?),
    })
}

/// Blanks and the like are written as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = b"101 27 0:57 / /tmp/a\\040b rw,nosuid shared:5 - fuse.cntr /srv rw,user_id=0,allow_other";
        let entry = parse(line).unwrap();
        assert_eq!(entry.point, Path::new("/tmp/a b"));
        assert_eq!(entry.kind, "fuse.cntr");
        assert_eq!(entry.source, "/srv");
        assert_eq!(entry.connection(), Some(57));
        assert_eq!(entry.super_options, "rw,user_id=0,allow_other");
        assert_eq!(entry.all_options(), "rw,nosuid,user_id=0,allow_other");
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn the_control_file_system_is_not_a_server() {
        let line = b"101 27 0:57 / /sys/fs/fuse/connections rw - fusectl none rw";
        assert_eq!(parse(line).unwrap().connection(), None);
    }

    #[test]
    fn a_backslash_without_digits_stays() {
        assert_eq!(unescape(b"a\\x\\040\\777"), b"a\\x \\777");
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(at(Path::new("/proc")).is_some());
        assert!(holding(Path::new("/proc/self/status")).is_some_and(|entry| entry.kind == "proc"));
    }
}
