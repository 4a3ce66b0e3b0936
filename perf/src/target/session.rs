//! A way into the container.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Target;
use super::arena::Arena;
use super::container::Container;
use super::error::TargetError;
use super::mount::remove;

/// A way into the container, as long as it is used.
#[derive(Debug)]
pub struct Session {
    container: Arc<Container>,
    enter: Vec<OsString>,
    dir: PathBuf,
    /// For its temporary files.
    scratch: Option<PathBuf>,
    /// Directories that were not there, but may be when it ends.
    leaves: Vec<PathBuf>,
    closed: bool,
}

impl Session {
    /// How `host` is reached in the container.
    pub fn new(target: &Target, arena: &Arena, host: &Path) -> Result<Session, TargetError> {
        let container = arena.container()?;
        if target.spec.uses("container") && container.name().is_none() {
            return Err(TargetError::Unavailable {
                target: target.name().to_owned(),
                reason: "the container was made without an engine".to_owned(),
            });
        }
        let pid = container.pid().to_string();
        let root = format!("/proc/{pid}/root");
        let scratch = match target.spec.uses("scratch") {
            true => Some(arena.mount_point()?),
            false => None,
        };
        let mut values = vec![
            ("pid", OsStr::new(&pid)),
            (
                "container",
                OsStr::new(container.name().unwrap_or_default()),
            ),
            ("root", OsStr::new(&root)),
        ];
        if let Some(scratch) = &scratch {
            values.push(("scratch", scratch.as_os_str()));
        }
        let prefix = &target.spec.path_prefix;
        let dir = if prefix.as_os_str().is_empty() {
            host.to_owned()
        } else {
            prefix.join(host.strip_prefix("/").unwrap_or(host))
        };
        Ok(Session {
            enter: target.command(&values),
            container,
            dir,
            leaves: target
                .spec
                .leaves
                .iter()
                .filter(|path| !path.exists())
                .cloned()
                .collect(),
            scratch,
            closed: false,
        })
    }

    /// The command line that goes before that of a job.
    pub fn enter(&self) -> &[OsString] {
        &self.enter
    }

    /// The directory, as it is called inside.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Ends what still runs in the container; returns what would not end.
    pub fn close(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.closed, true) {
            return Vec::new();
        }
        let mut complaints = Vec::new();
        let left = self.container.clear();
        if left > 0 {
            complaints.push(format!(
                "{left} processes in the container cannot be killed"
            ));
        }
        if let Some(scratch) = self.scratch.take() {
            complaints.extend(remove(&scratch, fs::remove_dir_all(&scratch)));
        }
        for path in self.leaves.drain(..) {
            complaints.extend(remove(&path, fs::remove_dir(&path)));
        }
        complaints
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for complaint in self.close() {
            eprintln!("perf: {complaint}");
        }
    }
}
