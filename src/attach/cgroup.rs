//! The target's cgroups: v1, v2 and both at once.
//!
//! `/proc/PID/cgroup` names a path per hierarchy, relative to the root of the reader's cgroup namespace;
//! `/proc/self/mountinfo` says where a hierarchy, or a part of it, is mounted. Both are read in cntr's own namespaces, so
//! that they fit together. The `cgroup.procs` files are opened before anything is joined and written by the command's
//! process itself: a migration never fails for the limit of processes, a fork inside the cgroup would.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A hierarchy as `/proc/PID/cgroup` names it: its controllers joined by commas, empty for v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Controllers, e.g. `cpu,cpuacct` or `name=systemd`; empty for v2.
    pub controllers: String,
    /// Path in the hierarchy.
    pub path: PathBuf,
}

/// A place where (a part of) a hierarchy is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// Which part of the hierarchy.
    pub root: PathBuf,
    /// Where.
    pub mount_point: PathBuf,
    /// Options of the file system, which name the controllers; `None` for v2.
    pub controllers: Option<Vec<String>>,
}

/// Reads `/proc/PID/cgroup`.
#[must_use]
pub fn parse_memberships(text: &str) -> Vec<Membership> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?.to_owned();
            Some(Membership {
                controllers,
                path: PathBuf::from(fields.next()?),
            })
        })
        .collect()
}

/// Undoes the escapes of mountinfo: a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| {
            digits.iter().try_fold(0_u32, |value, digit| {
                char::from(*digit).to_digit(8).map(|d| value * 8 + d)
            })
        });
        match octal.and_then(|value| u8::try_from(value).ok()) {
            Some(value) => {
                out.push(value);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&out))
}

/// Finds the cgroup mounts in a mountinfo, whatever number of optional fields its lines have.
#[must_use]
pub fn parse_mounts(mountinfo: &[u8]) -> Vec<CgroupMount> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            // The optional fields start at 6 and end with a lone dash; the type, source and options follow.
            let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
            let controllers = match *fields.get(dash + 1)? {
                b"cgroup2" => None,
                b"cgroup" => {
                    let options = String::from_utf8_lossy(fields.get(dash + 3)?).into_owned();
                    Some(options.split(',').map(str::to_owned).collect())
                }
                _ => return None,
            };
            Some(CgroupMount {
                root: unescape(fields[3]),
                mount_point: unescape(fields[4]),
                controllers,
            })
        })
        .collect()
}

/// Where the cgroup of `membership` is found, if a mount shows it.
#[must_use]
pub fn locate(mounts: &[CgroupMount], membership: &Membership) -> Option<PathBuf> {
    if membership
        .path
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return None; // Outside of our cgroup namespace.
    }
    mounts.iter().find_map(|mount| {
        let same = match &mount.controllers {
            None => membership.controllers.is_empty(),
            Some(options) => {
                !membership.controllers.is_empty()
                    && membership
                        .controllers
                        .split(',')
                        .all(|name| options.iter().any(|option| option == name))
            }
        };
        let below = membership
            .path
            .strip_prefix(&mount.root)
            .ok()
            .filter(|_| same)?;
        Some(if below.as_os_str().is_empty() {
            mount.mount_point.clone()
        } else {
            mount.mount_point.join(below)
        })
    })
}

/// The cgroups to join, open.
#[derive(Default)]
pub struct Cgroups {
    files: Vec<(String, File)>,
    /// Those that cannot be joined, with the reason.
    pub refused: Vec<String>,
    /// One whose processes do not run; a process that joined it would not either.
    pub frozen: Option<String>,
}

/// Whether the freezer of a cgroup, v1 or v2, has its processes stopped.
fn is_frozen(directory: &Path) -> bool {
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap_or_default();
    matches!(read("freezer.state").trim(), "FROZEN" | "FREEZING")
        || read("cgroup.events").lines().any(|line| line == "frozen 1")
        || read("cgroup.freeze").trim() == "1"
}

fn label(membership: &Membership) -> String {
    let hierarchy = if membership.controllers.is_empty() {
        "v2"
    } else {
        &membership.controllers
    };
    format!("{hierarchy}:{}", membership.path.display())
}

impl Cgroups {
    /// Opens the cgroups in `theirs` (a `/proc/PID/cgroup`) that are not cntr's own.
    #[must_use]
    pub fn open(theirs: &str) -> Cgroups {
        let own =
            parse_memberships(&std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
        let mounts = parse_mounts(&std::fs::read("/proc/self/mountinfo").unwrap_or_default());
        let mut cgroups = Cgroups::default();
        for membership in parse_memberships(theirs)
            .into_iter()
            .filter(|membership| !own.contains(membership))
        {
            let name = label(&membership);
            let Some(directory) = locate(&mounts, &membership) else {
                cgroups
                    .refused
                    .push(format!("{name}: not below any cgroup mount of the host"));
                continue;
            };
            if is_frozen(&directory) {
                cgroups.frozen = Some(name.clone());
            }
            match OpenOptions::new()
                .write(true)
                .open(directory.join("cgroup.procs"))
            {
                Ok(file) => cgroups.files.push((name, file)),
                Err(error) => cgroups.refused.push(format!(
                    "{name}: {}: {}",
                    directory.display(),
                    reason(&error)
                )),
            }
        }
        cgroups
    }

    /// What they are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    /// Moves the calling process into them. Returns what was joined and what was refused, with the reason.
    pub fn join(self) -> (Vec<String>, Vec<String>) {
        let mut joined = Vec::new();
        let mut refused = self.refused;
        for (name, mut file) in self.files {
            match file.write_all(b"0") {
                Ok(()) => joined.push(name),
                Err(error) => refused.push(format!("{name}: {}", reason(&error))),
            }
        }
        (joined, refused)
    }
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => {
            "it has child groups with controllers, so it may hold no process".to_owned()
        }
        Some(libc::EACCES | libc::EPERM) => {
            "that takes CAP_DAC_OVERRIDE on the host (sudo), or a delegated cgroup \
             above it and the caller's (systemd-run --user --scope cntr ...)"
                .to_owned()
        }
        Some(libc::ENODEV) => "the cgroup is being removed".to_owned(),
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct\n\
        37 31 0:34 /docker /mnt/with\\040space rw - cgroup none rw,pids\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw unbindable - cgroup systemd rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw shared:3 - cgroup2 what ever rw\n\n";

    fn find(line: &str) -> Option<String> {
        let mounts = parse_mounts(MOUNTS);
        locate(&mounts, &parse_memberships(line)[0]).map(|path| path.display().to_string())
    }

    #[test]
    fn hierarchies_are_found_whatever_the_optional_fields() {
        assert_eq!(
            find("3:cpu,cpuacct:/a/b").as_deref(),
            Some("/sys/fs/cgroup/cpu,cpuacct/a/b")
        );
        assert_eq!(
            find("3:cpuacct,cpu:/").as_deref(),
            Some("/sys/fs/cgroup/cpu,cpuacct")
        );
        assert_eq!(
            find("9:name=systemd:/x:y").as_deref(),
            Some("/sys/fs/cgroup/systemd/x:y")
        );
        assert_eq!(
            find("0::/user.slice").as_deref(),
            Some("/sys/fs/cgroup/unified/user.slice")
        );
    }

    #[test]
    fn a_partial_mount_shows_only_its_part() {
        assert_eq!(
            find("5:pids:/docker/abc").as_deref(),
            Some("/mnt/with space/abc")
        );
        assert_eq!(find("5:pids:/lxc/abc"), None);
        assert_eq!(find("0::/../outside"), None);
        assert_eq!(find("7:memory:/docker"), None);
    }
}
