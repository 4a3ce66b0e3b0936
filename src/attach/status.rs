//! What `/proc/PID/status`, `/proc/PID/limits` and the id maps say about a process.

use std::fmt;
use std::str::FromStr;

use nix::sys::resource::Resource;

use crate::sys::capability::CapSet;

/// The parts of `/proc/PID/status` a session takes over. Ids are those of the reader's user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// One letter: R, S, D, Z, T...
    pub state: char,
    /// Real, effective, saved and file system user id.
    pub uids: [u32; 4],
    /// Real, effective, saved and file system group id.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Pid in each nested pid namespace, the outermost first.
    pub pids: Vec<i32>,
    /// Inheritable capabilities.
    pub inheritable: CapSet,
    /// Permitted capabilities.
    pub permitted: CapSet,
    /// Effective capabilities.
    pub effective: CapSet,
    /// Bounding set.
    pub bounding: CapSet,
    /// Ambient capabilities.
    pub ambient: CapSet,
    /// Whether exec can never give privileges.
    pub no_new_privs: bool,
    /// How seccomp restricts it.
    pub seccomp: Seccomp,
    /// File mode creation mask.
    pub umask: u32,
}

fn numbers<T: FromStr>(text: &str) -> Option<Vec<T>> {
    text.split_ascii_whitespace()
        .map(|word| word.parse().ok())
        .collect()
}

impl Status {
    /// Reads the text of the file. None if a line that every supported kernel has is missing or odd.
    #[must_use]
    pub fn parse(text: &str) -> Option<Status> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let caps = |name| u64::from_str_radix(field(name)?, 16).ok().map(CapSet);
        Some(Status {
            state: field("State")?.chars().next()?,
            uids: numbers(field("Uid")?)?.try_into().ok()?,
            gids: numbers(field("Gid")?)?.try_into().ok()?,
            groups: numbers(field("Groups")?)?,
            pids: field("NSpid").and_then(numbers).unwrap_or_default(),
            inheritable: caps("CapInh")?,
            permitted: caps("CapPrm")?,
            effective: caps("CapEff")?,
            bounding: caps("CapBnd")?,
            ambient: caps("CapAmb").unwrap_or_default(),
            no_new_privs: field("NoNewPrivs") == Some("1"),
            seccomp: Seccomp::new(
                field("Seccomp").unwrap_or("0"),
                field("Seccomp_filters").and_then(|count| count.parse().ok()),
            ),
            umask: field("Umask")
                .and_then(|mask| u32::from_str_radix(mask, 8).ok())
                .unwrap_or(0o022),
        })
    }
}

impl Status {
    /// The same process as another user, as container engines have it: user id 0 (in the container, which `root` says) has
    /// all capabilities of the bounding set, others have none. Ids are those of the reader's user namespace.
    pub fn become_user(&mut self, uid: u32, gid: u32, groups: Vec<u32>, root: bool) {
        self.uids = [uid; 4];
        self.gids = [gid; 4];
        self.groups = groups;
        let held = if root {
            self.bounding
        } else {
            CapSet::default()
        };
        self.permitted = held;
        self.effective = held;
        self.inheritable = CapSet::default();
        self.ambient = CapSet::default();
    }
}

/// What seccomp(2) does to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// Nothing.
    Off,
    /// It may read, write, return and exit (mode 1).
    Strict,
    /// Programs decide about each of its system calls (mode 2); how many, from Linux 5.9 on.
    Filter(Option<u32>),
}

impl Seccomp {
    fn new(mode: &str, filters: Option<u32>) -> Seccomp {
        match mode {
            "1" => Seccomp::Strict,
            "2" => Seccomp::Filter(filters),
            _ => Seccomp::Off,
        }
    }
}

impl fmt::Display for Seccomp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seccomp::Off => out.write_str("the target has no seccomp filter"),
            Seccomp::Strict => out.write_str(
                "the target's strict mode of seccomp (mode 1) is not taken over: nothing could be executed",
            ),
            Seccomp::Filter(count) => {
                let count = match count {
                    None => String::new(),
                    Some(1) => ", 1 filter".to_owned(),
                    Some(count) => format!(", {count} filters"),
                };
                write!(
                    out,
                    "the target's seccomp filter (mode 2{count}) is not taken over: the kernel has no way to copy one"
                )
            }
        }
    }
}

/// One line of a `uid_map` or `gid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Reads a `uid_map` or `gid_map`; lines that are none are left out.
#[must_use]
pub fn parse_id_map(text: &str) -> Vec<Extent> {
    text.lines()
        .filter_map(|line| match numbers::<u32>(line)?[..] {
            [inside, outside, count] => Some(Extent {
                inside,
                outside,
                count,
            }),
            _ => None,
        })
        .collect()
}

/// The id inside that `outside` is, if it is mapped.
#[must_use]
pub fn to_inside(map: &[Extent], outside: u32) -> Option<u32> {
    map.iter().find_map(|extent| {
        let offset = outside.checked_sub(extent.outside)?;
        (offset < extent.count).then(|| extent.inside.checked_add(offset))?
    })
}

/// The id outside that `inside` is, if it is mapped.
#[must_use]
pub fn to_outside(map: &[Extent], inside: u32) -> Option<u32> {
    map.iter().find_map(|extent| {
        let offset = inside.checked_sub(extent.inside)?;
        (offset < extent.count).then(|| extent.outside.checked_add(offset))?
    })
}

/// A resource limit: soft and hard; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name as in the file.
    pub name: &'static str,
    /// The resource.
    pub resource: Resource,
    /// In force.
    pub soft: u64,
    /// How far the soft limit may be raised.
    pub hard: u64,
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: u64| {
            if value == u64::MAX {
                "unlimited".to_owned()
            } else {
                value.to_string()
            }
        };
        let name = self.name.strip_prefix("Max ").unwrap_or(self.name);
        write!(out, "{name} {}", value(self.soft))?;
        if self.hard != self.soft {
            write!(out, " of {}", value(self.hard))?;
        }
        Ok(())
    }
}

const RESOURCES: &[(&str, Resource)] = &[
    ("Max cpu time", Resource::RLIMIT_CPU),
    ("Max file size", Resource::RLIMIT_FSIZE),
    ("Max data size", Resource::RLIMIT_DATA),
    ("Max stack size", Resource::RLIMIT_STACK),
    ("Max core file size", Resource::RLIMIT_CORE),
    ("Max resident set", Resource::RLIMIT_RSS),
    ("Max processes", Resource::RLIMIT_NPROC),
    ("Max open files", Resource::RLIMIT_NOFILE),
    ("Max locked memory", Resource::RLIMIT_MEMLOCK),
    ("Max address space", Resource::RLIMIT_AS),
    ("Max file locks", Resource::RLIMIT_LOCKS),
    ("Max pending signals", Resource::RLIMIT_SIGPENDING),
    ("Max msgqueue size", Resource::RLIMIT_MSGQUEUE),
    ("Max nice priority", Resource::RLIMIT_NICE),
    ("Max realtime priority", Resource::RLIMIT_RTPRIO),
    ("Max realtime timeout", Resource::RLIMIT_RTTIME),
];

/// Reads `/proc/PID/limits`.
#[must_use]
pub fn parse_limits(text: &str) -> Vec<Limit> {
    let value = |word: &str| {
        if word == "unlimited" {
            Some(u64::MAX)
        } else {
            word.parse().ok()
        }
    };
    let limit = |&(name, resource): &(&'static str, Resource)| {
        let mut words = text
            .lines()
            .find_map(|line| line.strip_prefix(name))?
            .split_ascii_whitespace();
        Some(Limit {
            name,
            resource,
            soft: value(words.next()?)?,
            hard: value(words.next()?)?,
        })
    };
    RESOURCES.iter().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_parses() {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let status = Status::parse(&text).unwrap();
        assert_eq!(status.uids[1], nix::unistd::geteuid().as_raw());
        assert_eq!(*status.pids.last().unwrap(), nix::unistd::getpid().as_raw());
        let limits = parse_limits(&std::fs::read_to_string("/proc/self/limits").unwrap());
        assert_eq!(limits.len(), 16);
        let files = limits
            .iter()
            .find(|limit| limit.name == "Max open files")
            .unwrap();
        let (soft, hard) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((files.soft, files.hard), (soft, hard));
    }

    #[test]
    fn seccomp_and_limits_are_said() {
        for (mode, filters, expected) in [
            ("0", Some(0), "no seccomp filter"),
            ("1", None, "(mode 1)"),
            ("2", None, "(mode 2)"),
            ("2", Some(1), "(mode 2, 1 filter)"),
            ("2", Some(3), "(mode 2, 3 filters)"),
        ] {
            let text = Seccomp::new(mode, filters).to_string();
            assert!(text.contains(expected), "{text}");
        }
        let limits = parse_limits(
            "Max open files            100                  200                  files\n\
             Max core file size        unlimited            unlimited            bytes\n",
        );
        let said: Vec<String> = limits.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["core file size unlimited", "open files 100 of 200"]);
    }

    #[test]
    fn ids_map_both_ways_through_several_extents() {
        let map = parse_id_map(
            "         0     100000       1000\n      1000       5000          1\n  1001 101001 64535\n",
        );
        assert_eq!(map.len(), 3);
        assert_eq!(to_inside(&map, 100_000), Some(0));
        assert_eq!(to_inside(&map, 5000), Some(1000));
        assert_eq!(to_inside(&map, 0), None);
        assert_eq!(to_outside(&map, 1000), Some(5000));
        assert_eq!(to_outside(&map, 65_536), None);
        let full = parse_id_map("0 0 4294967295");
        assert_eq!(to_inside(&full, 4_294_967_294), Some(4_294_967_294));
    }
}
