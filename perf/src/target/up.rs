//! A target that is ready to be measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::arena::Arena;
use super::connection::Connection;
use super::error::TargetError;
use super::mount::{Mounted, START};
use super::session::Session;
use super::{Target, mountinfo};
use crate::job::{Command, Control, Place, Size};
use crate::result::TargetKind;

/// Time for a program that only has to say something.
pub(super) const SHORT: Duration = Duration::from_secs(5);

/// A target that is ready; taken down when dropped.
#[derive(Debug)]
pub struct Up {
    target: String,
    kind: TargetKind,
    host: PathBuf,
    way: Way,
    parameters: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Way {
    /// At least one.
    Mounts(Vec<Mounted>),
    Session(Session),
}

impl Target {
    /// Shows `host` through this target, at `instances` mount points of their own; a session has one instance, however
    /// many are asked for. `host` lies in the arena's backing directory.
    ///
    /// # Errors
    /// It is not available, cannot be started, or does not answer in ten seconds. Nothing is left behind.
    pub fn up(
        &self,
        arena: &Arena,
        host: &Path,
        instances: usize,
        control: &Control,
    ) -> Result<Up, TargetError> {
        if let Some(reason) = self.unavailable() {
            return Err(TargetError::Unavailable {
                target: self.name().to_owned(),
                reason,
            });
        }
        let host = host.canonicalize().map_err(|source| TargetError::Scratch {
            path: host.to_owned(),
            source,
        })?;
        let way = if self.kind() == TargetKind::Session {
            Way::Session(Session::new(self, arena, &host)?)
        } else {
            let mounts = (0..instances.max(1)).map(|_| Mounted::new(self, arena, &host, control));
            Way::Mounts(mounts.collect::<Result<_, _>>()?)
        };
        let up = Up {
            target: self.name().to_owned(),
            kind: self.kind(),
            host,
            way,
            parameters: self.spec.parameters(),
        };
        if self.kind() == TargetKind::Session {
            up.probe(control)?;
        }
        Ok(up)
    }
}

impl Up {
    /// Where jobs of that size work, until the deadline of `control`.
    pub fn place(&self, size: Size, control: Control) -> Place {
        let connections = self.connections().map(Connection::number).collect();
        let (dir, others, enter) = match &self.way {
            Way::Session(session) => {
                let enter = session.enter().to_vec();
                (session.dir().to_owned(), Vec::new(), enter)
            }
            Way::Mounts(mounts) => {
                let mut points = mounts.iter().map(|mount| mount.point().to_owned());
                let first = points.next().expect("at least one");
                (first, points.collect(), Vec::new())
            }
        };
        Place {
            dir,
            host: self.host.clone(),
            others,
            enter,
            servers: self.servers(),
            connections,
            size,
            control,
        }
    }

    /// What kind of target it is.
    pub fn kind(&self) -> TargetKind {
        self.kind
    }

    /// What is set or was found: threads, timeouts, max_background, transport.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    pub(super) fn note(&mut self, name: &str, value: impl Into<String>) {
        self.parameters.insert(name.to_owned(), value.into());
    }

    /// How a server ended, if one did although it should serve.
    pub fn died(&mut self) -> Option<String> {
        match &mut self.way {
            Way::Mounts(mounts) => mounts.iter_mut().find_map(Mounted::died),
            Way::Session(_) => None,
        }
    }

    /// Takes it down.
    ///
    /// # Errors
    /// It is down, but something had to be forced, or a server had ended by itself.
    pub fn down(mut self) -> Result<(), TargetError> {
        let complaints = match &mut self.way {
            // Other instances of the same server may hold what the first shows.
            Way::Mounts(mounts) => mounts.iter_mut().rev().flat_map(Mounted::close).collect(),
            Way::Session(session) => session.close(),
        };
        if complaints.is_empty() {
            return Ok(());
        }
        Err(TargetError::Left {
            target: self.target.clone(),
            complaints,
        })
    }

    /// The first mount; none for a session.
    pub(super) fn mount(&self) -> Option<&Mounted> {
        match &self.way {
            Way::Mounts(mounts) => mounts.first(),
            Way::Session(_) => None,
        }
    }

    /// The session, if it is one.
    pub(super) fn session(&self) -> Option<&Session> {
        match &self.way {
            Way::Mounts(_) => None,
            Way::Session(session) => Some(session),
        }
    }

    fn servers(&self) -> Vec<Pid> {
        match &self.way {
            Way::Mounts(mounts) => mounts.iter().flat_map(Mounted::pids).collect(),
            Way::Session(_) => Vec::new(),
        }
    }

    fn connections(&self) -> impl Iterator<Item = Connection> {
        let mounts: &[Mounted] = match &self.way {
            Way::Mounts(mounts) => mounts,
            Way::Session(_) => &[],
        };
        mounts.iter().filter_map(Mounted::connection)
    }

    /// A place for what the target itself has to do.
    pub(super) fn workshop(&self, time: Duration) -> Place {
        let size = Size {
            scale: 1.0,
            seconds: 1.0,
        };
        self.place(size, Control::none().with_deadline(time))
    }

    /// Whether jobs can run in a session, and find the directory.
    fn probe(&self, control: &Control) -> Result<(), TargetError> {
        let time = START.min(control.remaining().unwrap_or(START));
        let probe = self.workshop(time).command("true").run();
        probe.map(drop).map_err(|source| TargetError::Enter {
            target: self.target.clone(),
            source,
        })
    }

    /// Adds to the parameters what shows only while the target is up; this takes a while.
    pub(super) fn inspect(&mut self, target: &Target) {
        if let Some(session) = self.session() {
            let engine = session.container().engine();
            self.note("container", engine);
        }
        let connection = self.connections().next();
        if let Some(connection) = connection {
            for name in ["max_background", "congestion_threshold"] {
                if let Ok(value) = fs::read_to_string(connection.file(name)) {
                    self.note(name, value.trim());
                }
            }
            let read_ahead = format!("/sys/class/bdi/0:{}/read_ahead_kb", connection.number());
            if let Ok(value) = fs::read_to_string(read_ahead) {
                self.note("read_ahead_kb", value.trim());
            }
        }
        if let Some(entry) = self.mount().and_then(|mount| mountinfo::at(mount.point())) {
            self.note("mount_options", entry.all_options());
            self.note("file_system", entry.kind);
        }
        let servers: Vec<Pid> = self.mount().map(Mounted::pids).unwrap_or_default();
        if !servers.is_empty() {
            let threads =
                |pid: &Pid| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            let threads: usize = servers.iter().map(threads).sum();
            self.note("threads", threads.to_string());
        }
        if target.spec.ours() {
            self.ask_server(target);
        }
    }

    /// What our own server says of itself.
    fn ask_server(&mut self, target: &Target) {
        let Some((program, arguments)) = target.cntr.split_first() else {
            return;
        };
        let control = Control::none().with_deadline(SHORT);
        let ask = |what: &Path| -> Option<serde_json::Value> {
            let answer = Command::on_host(program, &control)
                .args(arguments)
                .args(["--json", "stat"])
                .arg(what)
                .run()
                .ok()?;
            serde_json::from_str(&answer.stdout).ok()
        };
        let answer = match &self.way {
            Way::Mounts(mounts) => ask(mounts[0].point()),
            Way::Session(session) => {
                let container = PathBuf::from(session.container().pid().to_string());
                let seconds = SHORT.as_secs().to_string();
                // The server lives as long as its command. Ended early, the command has failed, which does not matter.
                let Ok(command) = self.workshop(SHORT).command("sleep").arg(seconds).spawn() else {
                    return;
                };
                let begun = Instant::now();
                loop {
                    let answer = ask(&container);
                    if answer.is_some() || command.ended() || begun.elapsed() >= SHORT {
                        break answer;
                    }
                }
            }
        };
        let Some(answer) = answer else { return };
        for name in ["transport", "protocol", "max_write", "capabilities"] {
            let text = match &answer[name] {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Array(words) => {
                    let words: Vec<&str> = words.iter().filter_map(|word| word.as_str()).collect();
                    words.join(" ")
                }
                other => other.to_string(),
            };
            self.note(name, text);
        }
    }
}
