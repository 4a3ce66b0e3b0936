//! Who knows containers.

use std::fmt;

use super::{Answer, containerd, docker, lxc, machine, oci};

/// Where containers can be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Engine {
    /// Docker, by name, id or the start of an id
    Docker,
    /// Podman, by name, id or the start of an id
    Podman,
    /// LXC, by name, or by directory and name (/srv/lxc/web)
    Lxc,
    /// systemd-nspawn and other machines of machinectl, by name
    #[value(alias = "nspawn", alias = "machinectl")]
    Machine,
    /// containerd, by id, in every namespace
    #[value(alias = "ctr")]
    Containerd,
    /// runc, by id, or by root directory and id
    Runc,
    /// crun, by id, or by root directory and id
    Crun,
    /// A process, by its number
    #[value(alias = "process-id", alias = "pid")]
    ProcessId,
    /// A process, by a part of its command line; without being asked for only processes in containers
    Command,
}

impl Engine {
    /// All of them, those first that know most of a container that several know.
    pub(super) const ALL: [Engine; 9] = [
        Engine::Docker,
        Engine::Podman,
        Engine::Lxc,
        Engine::Machine,
        Engine::Containerd,
        Engine::Runc,
        Engine::Crun,
        Engine::ProcessId,
        Engine::Command,
    ];

    /// What it is called in `scheme://name`.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
            Engine::Lxc => "lxc",
            Engine::Machine => "machine",
            Engine::Containerd => "containerd",
            Engine::Runc => "runc",
            Engine::Crun => "crun",
            Engine::ProcessId => "process_id",
            Engine::Command => "command",
        }
    }

    pub(super) fn of_scheme(scheme: &str) -> Option<Engine> {
        clap::ValueEnum::from_str(scheme, true).ok()
    }

    /// What to ask it about `name`; none if it is not asked. Or what is known without asking.
    pub(super) fn begin(self, name: &str) -> Option<Answer> {
        match self {
            Engine::Docker | Engine::Podman => Some(docker::begin(self, name)),
            Engine::Lxc => Some(lxc::begin(name)),
            Engine::Machine => Some(machine::begin(name)),
            Engine::Containerd => Some(containerd::begin()),
            Engine::Runc | Engine::Crun => Some(oci::begin(self, name)),
            Engine::ProcessId | Engine::Command => None,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.scheme())
    }
}
