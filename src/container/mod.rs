//! A minimal container: namespaces, an own root with `/proc`, `/sys` and `/dev`, limits by cgroups.
//!
//! It exists so that there is something to attach to on a machine without a container engine, and so that the tests have
//! containers of every shape. It is not an engine: no images, no layers, no seccomp filter, no network but loopback.
//!
//! The first process is forked with the new namespaces and waits until cntr has written its id maps and put it into
//! its cgroups. What was made outside (cgroups, missing mount points) is removed by the process that started it, or if
//! that is killed by one that waits for its end.

mod cgroup;
mod first;
pub mod nameplate;
mod refusal;
mod remains;
mod root;
mod spec;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use self::refusal::Refusal;
pub use self::spec::{Limits, Network, Privileges, Program, Spec, Volume};

use self::cgroup::Cgroups;
use self::first::{Say, be_first};
use self::nameplate::{Board, Name, NameError, Nameplate};
use self::remains::Remains;
use self::root::MountPoints;
use crate::attach::handshake::Deadline;
use crate::attach::status::Extent;
use crate::attach::supervise::{Exit, Signals, Terminal, supervise};
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, Parenthood, fork, wait};

/// How long the set-up may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No hierarchy has the controller of a limit.
    #[error(
        "no cgroup hierarchy of this machine has the {controller} controller, so that limit cannot be set"
    )]
    NoController {
        /// The controller.
        controller: &'static str,
    },
    /// A controller cannot be switched on for child groups.
    #[error("cannot switch the {controller} controller on in {}: a v2 group with processes of its own has no limits \
             for groups below it; start cntr in a group of its own", path.display())]
    Controller {
        /// The controller.
        controller: &'static str,
        /// The file that switches it.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A cgroup cannot be made or joined.
    #[error("cannot use cgroup {}", path.display())]
    Cgroup {
        /// Its path.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A limit was refused.
    #[error("cannot set {} to {value}", path.display())]
    Limit {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The first process cannot be started.
    #[error("cannot {step}")]
    Start {
        /// What was being done.
        step: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The first process cannot be what it should.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be called what it should.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The first process ended or stopped responding before it was set up.
    #[error("the container's first process {0} before it was set up")]
    Died(&'static str),
}

/// A running container, whose first process is a child of the caller.
pub struct Container {
    pid: Pid,
    terminal: Option<OwnedFd>,
    /// Its name, which is gone before its remains are.
    nameplate: Option<Nameplate>,
    remains: Remains,
}

fn starting(step: &'static str) -> impl Fn(io::Error) -> ContainerError {
    move |source| ContainerError::Start { step, source }
}

impl Container {
    /// Starts a container. The calling process must have a single thread. If the caller dies the container does too.
    ///
    /// # Errors
    /// See [`ContainerError`]; nothing is left then.
    pub fn start(spec: &Spec, signals: &Signals) -> Result<Container, ContainerError> {
        let name = format!("cntr-{}", nix::unistd::getpid());
        let cgroups = Cgroups::new(&name, &spec.limits)?;
        let remains = Remains::new(cgroups, MountPoints::make(spec))
            .map_err(starting("have the container cleaned up after"))?;
        let (ours, theirs) = Channel::pair().map_err(starting("make a channel"))?;
        let mut namespaces =
            libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWPID;
        if spec.network == Network::None {
            namespaces |= libc::CLONE_NEWNET;
        }
        if spec.user_namespace.is_some() {
            namespaces |= libc::CLONE_NEWUSER;
        }
        let pid =
            match fork(Parenthood::Caller, namespaces).map_err(starting("make the namespaces"))? {
                Fork::Child => {
                    drop(ours);
                    remains.disown();
                    be_first(spec, theirs, signals.before())
                }
                Fork::Parent(pid) => pid,
            };
        drop(theirs);
        let mut container = Container {
            pid,
            terminal: None,
            nameplate: None,
            remains,
        };
        match container.admit(spec, &ours, signals) {
            Ok(()) => Ok(container),
            Err(error) => {
                container.kill();
                Err(error)
            }
        }
    }

    fn admit(
        &mut self,
        spec: &Spec,
        channel: &Channel,
        signals: &Signals,
    ) -> Result<(), ContainerError> {
        if let Some((uids, gids)) = &spec.user_namespace {
            write_map(self.pid, "uid_map", uids).map_err(starting("write the user id map"))?;
            if !nix::unistd::geteuid().is_root() {
                std::fs::write(format!("/proc/{}/setgroups", self.pid), "deny")
                    .map_err(starting("deny setgroups"))?;
            }
            write_map(self.pid, "gid_map", gids).map_err(starting("write the group id map"))?;
        }
        self.remains.admit(self.pid)?;
        self.nameplate = self.put_name(spec)?;
        channel
            .send(b"go", None)
            .map_err(starting("start the first process"))?;
        let deadline = Deadline::after(DEADLINE);
        let mut ready = false;
        while let Some((message, descriptor)) = first::hear(channel, deadline, signals)? {
            match message {
                Say::Terminal => self.terminal = descriptor,
                Say::Ready => ready = true,
                Say::Refused(refusal) => return Err(refusal.into()),
            }
        }
        if ready {
            match &mut self.nameplate {
                Some(nameplate) => Ok(nameplate.announce()?),
                None => Ok(()),
            }
        } else {
            Err(ContainerError::Died("ended"))
        }
    }

    /// Writes its name down. It has to have the one it was given; that nobody finds it by another one harms nobody.
    fn put_name(&self, spec: &Spec) -> Result<Option<Nameplate>, NameError> {
        let default = || Name::default_of(nix::unistd::getpid());
        let name = spec.name.clone().unwrap_or_else(default);
        let put = Board::own().and_then(|board| board.put(&name, self.pid, &spec.root));
        match put {
            Ok(nameplate) => Ok(Some(nameplate)),
            Err(error) if spec.name.is_some() => Err(error),
            Err(error) => {
                tracing::info!("the container has no name: {error}");
                Ok(None)
            }
        }
    }

    /// The container's first process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for the end of the first process, and with it of the container; serves its terminal meanwhile.
    ///
    /// # Errors
    /// The terminal fails.
    pub fn wait(mut self, signals: &Signals) -> Result<Exit, ContainerError> {
        let terminal = self.terminal.take().map(Terminal::new).transpose();
        let result =
            terminal.and_then(|terminal| supervise(self.pid, terminal, signals, |_, _| {}));
        if result.is_err() {
            self.kill();
        }
        result.map_err(starting("wait for the container"))
    }

    /// Kills it and waits for its end.
    fn kill(&self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = wait(Some(self.pid), crate::sys::process::Patience::Wait);
    }
}

fn write_map(pid: Pid, file: &str, map: &[Extent]) -> io::Result<()> {
    let line = |extent: &Extent| format!("{} {} {}\n", extent.inside, extent.outside, extent.count);
    std::fs::write(
        format!("/proc/{pid}/{file}"),
        map.iter().map(line).collect::<String>(),
    )
}
