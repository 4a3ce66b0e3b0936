//! The session process: puts itself into the container, makes the session's mounts, and forks the command.
//!
//! It is a fork of cntr that ends as soon as the command's process exists. That one is cntr's child, not its own
//! (`CLONE_PARENT`), so that cntr can wait for it; it is a fork because a pid namespace takes effect for children only.

use std::os::fd::{AsFd, OwnedFd};

use super::bind::Bind;
use super::cgroup::Cgroups;
use super::command::{Command, Container, become_command};
use super::devices::Devices;
use super::handshake::{Failure, Message, Reporter};
use super::mounts::{self, DevSource, Plan};
use super::namespaces::{Kind, Namespaces};
use super::step::Step;
use super::target::Target;
use crate::sys::process::{Fork, Parenthood, exit_now, fork};

/// What the session's root is.
pub enum Root {
    /// The view of the host, with the container mounted in it.
    View {
        /// The view, attached nowhere yet.
        mount: OwnedFd,
        /// What to mount in it.
        plan: Plan,
        /// What to bind in it.
        binds: Vec<Bind>,
    },
    /// The container's own, as for `cntr exec`.
    Container,
}

/// Everything the session process needs.
pub struct Session {
    /// The process to be like.
    pub target: Target,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Its cgroups.
    pub cgroups: Cgroups,
    /// The root.
    pub root: Root,
    /// What to execute.
    pub command: Command,
}

impl Session {
    /// Sets the session up. Called in a process forked for it, which ends here.
    pub fn run(self, reporter: &Reporter) -> ! {
        let Err(failure) = self.set_up(reporter);
        reporter.say(&Message::Failed(failure));
        exit_now(125);
    }

    fn set_up(self, reporter: &Reporter) -> Result<std::convert::Infallible, Failure> {
        reporter.step(Step::OomScore)?;
        let score = "/proc/self/oom_score_adj";
        if std::fs::write(score, &self.target.oom_score_adj).is_err()
            && std::fs::read_to_string(score)
                .map_or(true, |own| own.trim() != self.target.oom_score_adj)
        {
            reporter.note(format!(
                "the target's OOM score {} is not taken over: that takes CAP_SYS_RESOURCE",
                self.target.oom_score_adj
            ));
        }
        // A process of the container must not trace this one before it has given up the host's privileges; exec
        // makes the command traceable again.
        let _ = nix::sys::prctl::set_dumpable(false);
        // To be found without a /proc in the session: who may look into this process is for cntr to say.
        let proc = mounts::open_proc().ok();
        let container = match &self.root {
            Root::View { mount, plan, binds } => {
                let devices = make_devices(plan, reporter)?;
                let hosts_proc = self
                    .namespaces
                    .entered()
                    .then(mounts::clone_proc)
                    .transpose()
                    .map_err(|error| Failure::system(Step::MakeDevices, "/proc", error))?;
                reporter.step(Step::JoinMount)?;
                self.namespaces.join_mount()?;
                let tree = mounts::isolate(self.target.root.as_fd(), reporter)?;
                mounts::enter(mount.as_fd(), reporter)?;
                mounts::populate(plan, tree.as_fd(), devices.as_ref(), binds, reporter)?;
                Some(Container { tree, hosts_proc })
            }
            Root::Container => {
                reporter.step(Step::JoinMount)?;
                self.namespaces.join_mount()?;
                reporter.step(Step::ChangeRoot)?;
                nix::unistd::fchdir(&self.target.root)
                    .and_then(|()| nix::unistd::chroot("."))
                    .map_err(|error| {
                        Failure::system(Step::ChangeRoot, "the container's root", error)
                    })?;
                None
            }
        };
        reporter.step(Step::JoinNamespaces)?;
        let mut joined = vec!["mnt"];
        for kind in [Kind::Uts, Kind::Ipc, Kind::Net, Kind::Time, Kind::Pid] {
            if self.namespaces.join(kind, Step::JoinNamespaces)? {
                joined.push(kind.name());
            }
        }
        reporter.note(format!("joined namespaces: {}", joined.join(", ")));
        reporter.step(Step::ForkCommand)?;
        let failed = |error| Failure::system(Step::ForkCommand, "", error);
        match fork(Parenthood::Sibling, 0).map_err(failed)? {
            Fork::Parent(pid) => {
                // Out of reach it only costs time at the end.
                let mounts = proc.and_then(|proc| mounts::own_namespace(proc.as_fd()).ok());
                let mounts = mounts.as_ref().map(AsFd::as_fd);
                reporter.say_with(&Message::Command(pid.as_raw()), mounts);
                exit_now(0)
            }
            Fork::Child => {
                // If cntr dies there is nobody to report to, and the next report ends this process.
                let container = container.as_ref();
                Err(become_command(
                    self.command,
                    &self.target,
                    &self.namespaces,
                    self.cgroups,
                    container,
                    reporter,
                ))
            }
        }
    }
}

fn make_devices(plan: &Plan, reporter: &Reporter) -> Result<Option<Devices>, Failure> {
    reporter.step(Step::MakeDevices)?;
    if plan.dev == DevSource::Container {
        return Ok(None);
    }
    reporter.note("the container has no /dev/null: the session has a minimal /dev of its own");
    Devices::new()
        .map(Some)
        .map_err(|(what, error)| Failure::system(Step::MakeDevices, what, error))
}
