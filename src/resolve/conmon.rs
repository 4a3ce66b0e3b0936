//! Podman containers of ordinary users, for root: root's Podman does not know them, but each has a monitor, conmon, whose
//! arguments name it and whose child is its first process.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{Answer, Engine, Found, process};

/// Ids are matched by their start from this length on.
const SHORTEST: usize = 4;

/// Those that are called `name`, by name, id or start of an id.
pub fn find(name: &str) -> Answer {
    let all = list();
    let is_called = |one: &&Found| one.name == name || one.id == name;
    let by_start = |one: &&Found| name.len() >= SHORTEST && one.id.starts_with(name);
    let mut found: Vec<Found> = all.iter().filter(is_called).cloned().collect();
    if found.is_empty() {
        found.extend(all.iter().filter(by_start).cloned());
    }
    if found.is_empty() {
        Answer::Unknown
    } else {
        Answer::Found(found)
    }
}

/// All there are; none for others than root, whose own Podman tells.
pub fn list() -> Vec<Found> {
    if !nix::unistd::geteuid().is_root() {
        return Vec::new();
    }
    process::all().filter_map(container_of).collect()
}

/// The container that the process `monitor` monitors, if it does that for an ordinary user.
fn container_of(monitor: i32) -> Option<Found> {
    let line = fs::read(format!("/proc/{monitor}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).into_owned();
    let (id, name) = monitored(&line)?;
    let owner = fs::metadata(format!("/proc/{monitor}")).ok()?.uid();
    if owner == 0 {
        return None;
    }
    let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).ok()?;
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let own = namespace(monitor);
    let mut children = children
        .split_ascii_whitespace()
        .filter_map(|child| child.parse().ok());
    let first = children.find(|child| namespace(*child) != own)?;
    Some(Found::new(Engine::Podman, name, first).id(id))
}

/// The id and name in the command line of a monitor; none if it is another program's, or monitors what was executed in a
/// container that runs already.
fn monitored(line: &str) -> Option<(&str, &str)> {
    let mut arguments = line.split('\0');
    let program = arguments.next()?;
    if program.rsplit('/').next() != Some("conmon") {
        return None;
    }
    let (mut id, mut name) = (None, None);
    while let Some(argument) = arguments.next() {
        match argument {
            "-u" | "--cuuid" => id = arguments.next(),
            "-n" | "--name" => name = arguments.next(),
            "-e" | "--exec" | "--exec-process-spec" => return None,
            _ => {}
        }
    }
    Some((id?, name?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_of_monitors() {
        let line = |text: &str| text.replace(' ', "\0");
        let monitor = line(
            "/usr/bin/conmon --api-version 1 -c fd63 -u fd63 -r /usr/bin/crun -b /home/a/userdata -p /run/pidfile -n web --exit-dir /run",
        );
        assert_eq!(monitored(&monitor), Some(("fd63", "web")));
        for other in [
            "/usr/bin/conmon --api-version 1 -c fd63 -u 1234 -n web -e --exec-attach",
            "/usr/bin/conmon --version",
            "/bin/sh -c fd63 -u fd63 -n web",
            "",
        ] {
            assert_eq!(monitored(&line(other)), None, "{other}");
        }
    }
}
