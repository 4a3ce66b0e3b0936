//! One mount of a target, and its end.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::unistd::Pid;

use super::arena::Arena;
use super::connection::{Connection, within};
use super::error::TargetError;
use super::server::Server;
use super::{Target, mountinfo};
use crate::job::Control;
use crate::result::TargetKind;

/// Time that a server has to mount.
pub const START: Duration = Duration::from_secs(10);

/// Time to wait for the last user of a mount: closing a file takes effect a moment after close(2) has returned.
const BUSY: Duration = Duration::from_secs(5);

/// Time that unmounting may take before the server is taken for dead.
const UNMOUNT: Duration = Duration::from_secs(30);

/// One mount with its server.
#[derive(Debug)]
pub struct Mounted {
    target: String,
    point: PathBuf,
    /// Directories that the server uses besides.
    scratch: Vec<PathBuf>,
    server: Option<Server>,
    connection: Option<Connection>,
    closed: bool,
}

impl Mounted {
    /// Mounts `host` once more.
    pub fn new(
        target: &Target,
        arena: &Arena,
        host: &Path,
        control: &Control,
    ) -> Result<Mounted, TargetError> {
        let mut mounted = Mounted {
            target: target.name().to_owned(),
            point: arena.mount_point()?,
            scratch: Vec::new(),
            server: None,
            connection: None,
            closed: false,
        };
        // From here on, dropping it cleans up.
        match target.kind() {
            TargetKind::Native => mounted.bind(host)?,
            _ => mounted.serve(target, arena, host, control)?,
        }
        Ok(mounted)
    }

    fn bind(&self, host: &Path) -> Result<(), TargetError> {
        let none = None::<&str>;
        nix::mount::mount(Some(host), &self.point, none, MsFlags::MS_BIND, none).map_err(|source| {
            TargetError::Mount {
                what: host.display().to_string(),
                path: self.point.clone(),
                source,
            }
        })
    }

    fn serve(
        &mut self,
        target: &Target,
        arena: &Arena,
        host: &Path,
        control: &Control,
    ) -> Result<(), TargetError> {
        let names: Vec<&str> = ["scratch", "empty"]
            .into_iter()
            .filter(|name| target.spec.uses(name))
            .collect();
        for _ in &names {
            self.scratch.push(arena.beside()?);
        }
        let mut values: Vec<(&str, &OsStr)> = vec![
            ("source", host.as_os_str()),
            ("mountpoint", self.point.as_os_str()),
        ];
        values.extend(
            names
                .into_iter()
                .zip(self.scratch.iter().map(|path| path.as_os_str())),
        );
        let line = target.command(&values);
        let foreground = target.spec.foreground;
        let server = self
            .server
            .insert(Server::start(&self.target, &line, foreground, control)?);
        let begun = Instant::now();
        let end = begun + START.min(control.remaining().unwrap_or(START));
        let entry = loop {
            // In this order: a server that has mounted and goes into the background may end in between.
            let ended = server.ended();
            if let Some(entry) = mountinfo::at(&self.point)
                && server.settled()
            {
                break entry;
            }
            if let Some(words) = ended {
                return Err(TargetError::Ended {
                    target: self.target.clone(),
                    words,
                });
            }
            if control.interrupted().is_some() {
                return Err(TargetError::Interrupted);
            }
            if Instant::now() >= end {
                return Err(TargetError::Late {
                    target: self.target.clone(),
                    seconds: begun.elapsed().as_secs_f64(),
                    words: server.words(),
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.connection = entry.connection().map(Connection::new);
        let time = end.saturating_duration_since(Instant::now());
        self.guarded(time, || fs::metadata(&self.point))
            .map_err(|error| TargetError::Mute {
                target: self.target.clone(),
                words: match self.words() {
                    words if words.is_empty() => error.to_string(),
                    words => words,
                },
            })?;
        Ok(())
    }

    /// Does something that may need the server to answer.
    pub fn guarded<T>(&self, time: Duration, work: impl FnOnce() -> T) -> T {
        within(self.connection, time, work)
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Its FUSE connection.
    pub fn connection(&self) -> Option<Connection> {
        self.connection
    }

    /// Processes of its server.
    pub fn pids(&self) -> Vec<Pid> {
        self.server.as_ref().map(Server::pids).unwrap_or_default()
    }

    /// How its server ended, if it did although it should serve.
    pub fn died(&mut self) -> Option<String> {
        self.connection?;
        self.server.as_mut()?.ended()
    }

    fn words(&self) -> String {
        self.server.as_ref().map(Server::words).unwrap_or_default()
    }

    /// Unmounts, ends the server, removes the directories; returns what should not have happened.
    pub fn close(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        if std::mem::replace(&mut self.closed, true) {
            return complaints;
        }
        let target = self.target.clone();
        if let Some(words) = self.died() {
            complaints.push(format!(
                "the server of {target} had ended by itself ({words})"
            ));
        }
        let mounted = mountinfo::at(&self.point).is_some();
        complaints.extend(unmount(&self.point, self.connection));
        if let Some(server) = self.server.take() {
            // One that never mounted has no reason to end by itself.
            complaints.extend(if mounted {
                server.end(&target, self.connection)
            } else {
                server.kill(&target, self.connection)
            });
            // It may have mounted meanwhile.
            complaints.extend(unmount(&self.point, self.connection));
        }
        if let Some(connection) = self.connection
            && !connection.gone()
        {
            complaints.push(format!(
                "FUSE connection {} of {target} still exists: somebody uses it, or another mount namespace has a copy of the mount",
                connection.number()
            ));
        }
        for path in self.scratch.drain(..) {
            complaints.extend(remove(&path, fs::remove_dir_all(&path)));
        }
        complaints.extend(remove(&self.point, fs::remove_dir(&self.point)));
        complaints
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for complaint in self.close() {
            eprintln!("perf: {complaint}");
        }
    }
}

/// What to say if a directory was not removed although it is there.
pub fn remove(path: &Path, result: std::io::Result<()>) -> Option<String> {
    let error = result.err()?;
    (error.kind() != ErrorKind::NotFound)
        .then(|| format!("cannot remove {}: {error}", path.display()))
}

/// Unmounts all that is mounted at `point`; returns what should not have been necessary.
pub fn unmount(point: &Path, connection: Option<Connection>) -> Vec<String> {
    let mut complaints = Vec::new();
    let end = Instant::now() + BUSY;
    while mountinfo::at(point).is_some() {
        let result = within(connection, UNMOUNT, || {
            umount2(point, MntFlags::UMOUNT_NOFOLLOW)
        });
        match result {
            Ok(()) => {}
            Err(Errno::EBUSY) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            // Somebody else, its server for one, was faster.
            Err(Errno::EINVAL) if mountinfo::at(point).is_none() => {}
            Err(error) => {
                complaints.push(format!(
                    "{} could only be detached: {}{}",
                    point.display(),
                    error.desc(),
                    users(point)
                ));
                let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
                if let Err(error) = umount2(point, flags) {
                    complaints.push(format!(
                        "cannot detach {}: {}",
                        point.display(),
                        error.desc()
                    ));
                    break;
                }
            }
        }
    }
    complaints
}

/// Processes with their working directory or an open file below `point`.
fn users(point: &Path) -> String {
    let mut users = Vec::new();
    for process in procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten()
    {
        let below = |link: &Path| fs::read_link(link).is_ok_and(|path| path.starts_with(point));
        let base = PathBuf::from(format!("/proc/{}", process.pid()));
        let files = fs::read_dir(base.join("fd"));
        let open = || {
            files
                .into_iter()
                .flatten()
                .flatten()
                .any(|file| below(&file.path()))
        };
        if below(&base.join("cwd")) || open() {
            let name = fs::read_to_string(base.join("comm")).unwrap_or_default();
            users.push(format!("{} {}", process.pid(), name.trim()));
        }
    }
    match users.as_slice() {
        [] => String::new(),
        users => format!(", used by process {}", users.join(", ")),
    }
}
