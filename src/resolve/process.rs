//! Processes by number and by command line.

use std::fs;
use std::path::PathBuf;

use nix::unistd::Pid;

use super::{Answer, Engine, Found, Unresolved};
use crate::sys::pinned::{Moment, PinError, Pinned};

/// What is looked at of a command line, in bytes.
const LONGEST: usize = 32 << 10;

/// What is shown of one.
const SHOWN: usize = 40;

/// The process whose number `text` is, or whose thread has that number; none if it is no number, or of nothing.
///
/// # Errors
/// The process cannot be held.
pub fn by_number(text: &str) -> Result<Option<(Found, Pinned)>, Unresolved> {
    // An id may be of digits only, with zeros at its start.
    let number = text.parse().ok().filter(|pid: &i32| *pid > 0);
    let Some(pid) = number.filter(|pid| pid.to_string() == text) else {
        return Ok(None);
    };
    let opened = match Pinned::open(Pid::from_raw(pid)) {
        Err(PinError::Thread(process)) => Pinned::open(process),
        opened => opened,
    };
    match opened {
        Ok(process) => {
            let found = Found::new(Engine::ProcessId, pid.to_string(), process.pid().as_raw());
            Ok(Some((found, process)))
        }
        Err(PinError::System(error)) => Err(Unresolved::Unavailable {
            engine: Engine::ProcessId,
            reason: format!("process {pid} cannot be held: {error}"),
        }),
        Err(_) => Ok(None),
    }
}

/// Which processes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Those that have a namespace of their own.
    InContainers,
    /// All.
    Everywhere,
}

/// The processes whose command line, its arguments joined by spaces, has `part` in it. Not those of cntr, nor what has started
/// this one: they have the part in theirs as well.
pub fn by_command(part: &str, place: Where) -> Answer {
    let ancestors = ancestors();
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let cntr = program("self");
    let mut found = Vec::new();
    for pid in all().filter(|pid| !ancestors.contains(pid)) {
        let Some(line) = command_line(pid).filter(|line| line.contains(part)) else {
            continue;
        };
        if cntr.is_some() && program(&pid.to_string()) == cntr {
            continue;
        }
        let shown: String = line.chars().take(SHOWN).collect();
        found.push(Found::new(Engine::Command, shown, pid));
    }
    let own = namespaces(std::process::id().cast_signed());
    // Each with its parent and its namespaces.
    let lineage: Vec<_> = found
        .iter()
        .map(|one| one.pid.as_raw())
        .map(|pid| (pid, parent(pid), namespaces(pid)))
        .collect();
    let mut each = lineage.iter();
    found.retain(|_| {
        let Some((pid, above, here)) = each.next() else {
            return false;
        };
        // A child often has the command line of its parent: the parent is meant.
        let repeats = lineage
            .iter()
            .any(|(other, _, there)| Some(*other) == *above && there == here);
        // What starts something in a container has its command line at the end of its own: the container is meant.
        let starts = *here == own
            && lineage
                .iter()
                .any(|(_, parent, there)| *parent == Some(*pid) && there != here);
        let outside = place == Where::InContainers && *here == own;
        !repeats && !starts && !outside
    });
    if found.is_empty() {
        Answer::Unknown
    } else {
        Answer::Found(found)
    }
}

/// All processes that are to be seen.
pub(super) fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process that has been longest in a cgroup whose path `wanted` takes; controllers of the hierarchy come first.
pub(super) fn first_in_cgroup(wanted: impl Fn(&str, &str) -> bool) -> Option<i32> {
    let inside = |pid: &i32| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroups.lines().any(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next(), fields.next());
            controllers
                .zip(path)
                .is_some_and(|(controllers, path)| wanted(controllers, path))
        })
    };
    all()
        .filter(inside)
        .min_by_key(|pid| (Moment::of_start(Pid::from_raw(*pid)), *pid))
}

/// The command line of `pid`; none for threads of the kernel, and for processes that are out of sight.
fn command_line(pid: i32) -> Option<String> {
    let mut bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    bytes.truncate(LONGEST);
    let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
    Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())
}

/// The namespaces of `pid`, as far as they may be looked at.
fn namespaces(pid: i32) -> Vec<Option<PathBuf>> {
    let namespace = |kind: &&str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let kinds = ["mnt", "pid", "uts", "ipc", "net", "user"];
    kinds.iter().map(namespace).collect()
}

/// This process, the one that has started it, and so on.
pub(super) fn ancestors() -> Vec<i32> {
    let mut known = vec![std::process::id().cast_signed()];
    while let Some(next) = known.last().and_then(|pid| parent(*pid)) {
        known.push(next);
    }
    known
}

pub(super) fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?.parse().ok()?;
    (parent > 0).then_some(parent)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn numbers() {
        let own = std::process::id();
        let (found, process) = by_number(&own.to_string()).unwrap().unwrap();
        assert_eq!(found.pid.as_raw(), own.cast_signed());
        assert_eq!(process.pid(), found.pid);
        // A thread's is its process's.
        let thread = std::thread::spawn(|| {
            let id = nix::unistd::gettid();
            (id, by_number(&id.to_string()).unwrap().unwrap())
        });
        let (id, (found, _)) = thread.join().unwrap();
        assert_eq!(found.pid.as_raw(), own.cast_signed());
        assert_eq!(found.name, id.to_string());
        assert!(by_number(&format!("0{own}")).unwrap().is_none());
        for nobody in ["0", "-1", "x", "", "2147483647", "12x"] {
            assert!(by_number(nobody).unwrap().is_none(), "{nobody}");
        }
    }

    #[test]
    fn command_lines() {
        // An argument that no other process has.
        let mark = format!("30.{}{}", std::process::id(), fastrand::u32(..));
        let sleeping = || {
            Command::new("sleep")
                .arg(&mark)
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        };
        let mut first = sleeping();
        let part = format!("sleep {mark}");
        let looked = || loop {
            // Right after the fork it still has the command line of its parent.
            match by_command(&part, Where::Everywhere) {
                Answer::Unknown => std::thread::yield_now(),
                answer => return answer,
            }
        };
        let Answer::Found(found) = looked() else {
            panic!("nothing was found");
        };
        assert_eq!(by_command(&part, Where::InContainers), Answer::Unknown);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pid.as_raw(), first.id().cast_signed());
        first.kill().unwrap();
        first.wait().unwrap();
        assert_eq!(by_command(&part, Where::Everywhere), Answer::Unknown);
        // The test itself has its own name in its command line, and is not found by it.
        let own = command_line(std::process::id().cast_signed()).unwrap();
        let own: String = own.split(' ').next().unwrap().to_owned();
        if let Answer::Found(found) = by_command(&own, Where::Everywhere) {
            let pid = std::process::id().cast_signed();
            assert!(found.iter().all(|one| one.pid.as_raw() != pid), "{found:?}");
        }
    }
}
