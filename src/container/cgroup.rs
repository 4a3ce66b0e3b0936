//! Limits of a container: one new cgroup in each hierarchy that is needed, on v1, v2 or both.
//!
//! They are made below cntr's own cgroups, so that limits of cntr hold for the container too; on v2, where a group with
//! processes has none with limits below it, beside them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::ContainerError;
use super::spec::Limits;
use crate::attach::cgroup::{Membership, locate, parse_memberships, parse_mounts};

/// Length of the period CPU time is shared out in.
const PERIOD_US: u64 = 100_000;

/// How long removal may take: the kernel lets go of a cgroup a moment after its last process was waited for.
const REMOVAL: Duration = Duration::from_secs(2);

/// The cgroups of one container; removed when dropped.
#[derive(Debug, Default)]
pub struct Cgroups {
    directories: Vec<PathBuf>,
}

/// A limit: the controller, and the file and value for v1 and for v2.
struct Setting {
    controller: &'static str,
    v1: Vec<(&'static str, String)>,
    v2: (&'static str, String),
}

fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory {
        settings.push(Setting {
            controller: "memory",
            v1: vec![("memory.limit_in_bytes", bytes.to_string())],
            v2: ("memory.max", bytes.to_string()),
        });
    }
    if let Some(count) = limits.pids {
        settings.push(Setting {
            controller: "pids",
            v1: vec![("pids.max", count.to_string())],
            v2: ("pids.max", count.to_string()),
        });
    }
    if let Some(cpus) = limits.cpus {
        let quota = (cpus * PERIOD_US as f64).round().max(1000.0) as u64;
        settings.push(Setting {
            controller: "cpu",
            v1: vec![
                ("cpu.cfs_period_us", PERIOD_US.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ],
            v2: ("cpu.max", format!("{quota} {PERIOD_US}")),
        });
    }
    settings
}

/// The v2 group that can have groups with limits of `controller` below it: `own`, if need be by switching the controller
/// on, which the kernel refuses for a group that has processes itself; else the nearest one above.
fn v2_parent(own: &Path, controller: &'static str) -> Result<PathBuf, ContainerError> {
    let has = |group: &Path, file: &str| {
        let names = fs::read_to_string(group.join(file)).unwrap_or_default();
        names
            .split_ascii_whitespace()
            .any(|name| name == controller)
    };
    if !has(own, "cgroup.controllers") {
        // It may still be there higher up, for siblings of the group.
        return nearest(own, &has).ok_or(ContainerError::NoController { controller });
    }
    let path = own.join("cgroup.subtree_control");
    if has(own, "cgroup.subtree_control") {
        return Ok(own.to_owned());
    }
    match fs::write(&path, format!("+{controller}")) {
        Ok(()) => Ok(own.to_owned()),
        Err(source) => nearest(own, &has).ok_or(ContainerError::Controller {
            controller,
            path,
            source,
        }),
    }
}

/// The nearest group above `own` with the controller of `has` on for groups below it.
fn nearest(own: &Path, has: &dyn Fn(&Path, &str) -> bool) -> Option<PathBuf> {
    let mut above = own.ancestors().skip(1);
    above
        .find(|group| has(group, "cgroup.subtree_control"))
        .map(Path::to_owned)
}

impl Cgroups {
    /// Makes the cgroups `name` for `limits`; none without limits.
    ///
    /// # Errors
    /// A limit that cannot be set, with the reason.
    pub fn new(name: &str, limits: &Limits) -> Result<Cgroups, ContainerError> {
        let own = parse_memberships(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
        let mounts = parse_mounts(&fs::read("/proc/self/mountinfo").unwrap_or_default());
        let find = |wanted: &dyn Fn(&Membership) -> bool| {
            own.iter()
                .find(|membership| wanted(membership))
                .and_then(|membership| locate(&mounts, membership))
        };
        let mut cgroups = Cgroups::default();
        for setting in settings(limits) {
            let controller = setting.controller;
            let v1 = find(&|membership| {
                membership
                    .controllers
                    .split(',')
                    .any(|name| name == controller)
            });
            let (directory, values) = match v1 {
                Some(parent) => (cgroups.make(parent.join(name))?, setting.v1),
                None => {
                    let own = find(&|membership| membership.controllers.is_empty())
                        .ok_or(ContainerError::NoController { controller })?;
                    let parent = v2_parent(&own, controller)?;
                    (cgroups.make(parent.join(name))?, vec![setting.v2])
                }
            };
            for (file, value) in values {
                let path = directory.join(file);
                fs::write(&path, &value).map_err(|source| ContainerError::Limit {
                    path,
                    value,
                    source,
                })?;
            }
        }
        Ok(cgroups)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    fn make(&mut self, directory: PathBuf) -> Result<PathBuf, ContainerError> {
        if !self.directories.contains(&directory) {
            fs::create_dir(&directory).map_err(|source| ContainerError::Cgroup {
                path: directory.clone(),
                source,
            })?;
            self.directories.push(directory.clone());
        }
        Ok(directory)
    }

    /// Moves the process `pid` into them.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn admit(&self, pid: Pid) -> Result<(), ContainerError> {
        for directory in &self.directories {
            let path = directory.join("cgroup.procs");
            fs::write(&path, pid.to_string())
                .map_err(|source| ContainerError::Cgroup { path, source })?;
        }
        Ok(())
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let start = Instant::now();
        for directory in &self.directories {
            while let Err(error) = fs::remove_dir(directory) {
                if error.kind() == io::ErrorKind::NotFound || start.elapsed() > REMOVAL {
                    break;
                }
                let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(5_u8));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v2_group_with_processes_is_passed_over() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("slice/scope");
        fs::create_dir_all(&own).unwrap();
        let set = |group: &Path, file: &str, text: &str| fs::write(group.join(file), text).unwrap();
        set(&own, "cgroup.controllers", "cpu memory");
        set(&own, "cgroup.subtree_control", "");
        // As in the root group: it can be switched on.
        assert_eq!(v2_parent(&own, "memory").unwrap(), own);
        assert_eq!(
            fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(),
            "+memory"
        );
        // It cannot, but a group above has it on.
        fs::remove_file(own.join("cgroup.subtree_control")).unwrap();
        fs::create_dir(own.join("cgroup.subtree_control")).unwrap();
        assert!(matches!(
            v2_parent(&own, "memory"),
            Err(ContainerError::Controller { .. })
        ));
        set(
            &top.path().join("slice"),
            "cgroup.subtree_control",
            "cpu memory",
        );
        assert_eq!(v2_parent(&own, "memory").unwrap(), top.path().join("slice"));
        assert!(matches!(
            v2_parent(&own, "pids"),
            Err(ContainerError::NoController { .. })
        ));
    }
}
