//! Who knows containers.

use std::fmt;

use super::{Answer, containerd, cri, docker, kubernetes, lxc, lxd, machine, oci, own, rkt, unit};

/// Where containers can be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Engine {
    /// Containers of `cntr run`, by name
    Cntr,
    /// Docker, by name, id or the start of an id
    Docker,
    /// Podman, by name, id or the start of an id
    Podman,
    /// LXC, by name, or by directory and name (/srv/lxc/web)
    Lxc,
    /// LXD, by name, or by project and name (web/db1)
    Lxd,
    /// Incus, by name, or by project and name (web/db1)
    Incus,
    /// systemd-nspawn and other machines of machinectl, by name
    #[value(alias = "nspawn", alias = "machinectl")]
    Machine,
    /// Kubernetes, by NAMESPACE/POD/CONTAINER, NAMESPACE/POD or POD; the pod has to run on this machine
    #[value(alias = "k8s", alias = "kubectl")]
    Kubernetes,
    /// What a kubelet has started here, by id, name, POD, NAMESPACE/POD or NAMESPACE/POD/CONTAINER, without its API server
    #[value(alias = "crictl")]
    Cri,
    /// containerd, by id, in every namespace
    #[value(alias = "ctr")]
    Containerd,
    /// runc, by id, or by root directory and id
    Runc,
    /// crun, by id, or by root directory and id
    Crun,
    /// rkt, by the start of a pod's UUID
    Rkt,
    /// A unit of systemd, by name
    #[value(alias = "unit", alias = "systemctl")]
    Systemd,
    /// A process in a network namespace of ip-netns(8), by the name of that
    Netns,
    /// A process, by its number
    #[value(alias = "process-id", alias = "pid")]
    ProcessId,
    /// A process, by a part of its command line; without being asked for only processes in containers
    Command,
}

impl Engine {
    /// All of them, those first that know most of a container that several know.
    pub(super) const ALL: [Engine; 17] = [
        Engine::Cntr,
        Engine::Docker,
        Engine::Podman,
        Engine::Lxc,
        Engine::Lxd,
        Engine::Incus,
        Engine::Machine,
        Engine::Kubernetes,
        Engine::Cri,
        Engine::Containerd,
        Engine::Runc,
        Engine::Crun,
        Engine::Rkt,
        Engine::Systemd,
        Engine::Netns,
        Engine::ProcessId,
        Engine::Command,
    ];

    /// What it is called in `scheme://name`.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Engine::Cntr => "cntr",
            Engine::Docker => "docker",
            Engine::Podman => "podman",
            Engine::Lxc => "lxc",
            Engine::Lxd => "lxd",
            Engine::Incus => "incus",
            Engine::Machine => "machine",
            Engine::Kubernetes => "kubernetes",
            Engine::Cri => "cri",
            Engine::Containerd => "containerd",
            Engine::Runc => "runc",
            Engine::Crun => "crun",
            Engine::Rkt => "rkt",
            Engine::Systemd => "systemd",
            Engine::Netns => "netns",
            Engine::ProcessId => "process_id",
            Engine::Command => "command",
        }
    }

    /// Whether all its containers have mounts of their own.
    pub(super) fn always_has_mounts(self) -> bool {
        match self {
            Engine::Docker
            | Engine::Podman
            | Engine::Lxc
            | Engine::Lxd
            | Engine::Incus
            | Engine::Machine
            | Engine::Kubernetes
            | Engine::Cri
            | Engine::Containerd => true,
            Engine::Cntr
            | Engine::Runc
            | Engine::Crun
            | Engine::Rkt
            | Engine::Systemd
            | Engine::Netns
            | Engine::ProcessId
            | Engine::Command => false,
        }
    }

    pub(super) fn of_scheme(scheme: &str) -> Option<Engine> {
        clap::ValueEnum::from_str(scheme, true).ok()
    }

    /// What to ask it about `name`; none if it is not asked, at least not without being `asked_for`. Or what is known without
    /// asking.
    pub(super) fn begin(self, name: &str, asked_for: bool) -> Option<Answer> {
        match self {
            Engine::Cntr => Some(own::find(name)),
            Engine::Docker | Engine::Podman => Some(docker::begin(self, name)),
            Engine::Lxc => Some(lxc::begin(name)),
            Engine::Lxd | Engine::Incus => Some(lxd::begin(self)),
            Engine::Machine => Some(machine::begin(name)),
            // Its servers are elsewhere, and may want to know who asks.
            Engine::Kubernetes if asked_for || kubernetes::is_path(name) => {
                Some(kubernetes::begin(name))
            }
            Engine::Cri => Some(cri::begin()),
            Engine::Containerd => Some(containerd::begin()),
            Engine::Runc | Engine::Crun => Some(oci::begin(self, name)),
            Engine::Rkt => Some(rkt::begin(name)),
            // Many a unit is called like the container it starts.
            Engine::Systemd if asked_for || unit::is_whole_name(name) => Some(unit::begin(name)),
            Engine::Kubernetes
            | Engine::Systemd
            | Engine::Netns
            | Engine::ProcessId
            | Engine::Command => None,
        }
    }

    /// What to ask it for all its containers; none if that is not asked. Or what is known without asking.
    pub(super) fn begin_list(self) -> Option<Answer> {
        match self {
            Engine::Cntr => Some(own::list()),
            Engine::Docker | Engine::Podman => Some(docker::begin_list(self)),
            Engine::Lxc => Some(lxc::begin_list()),
            Engine::Lxd | Engine::Incus => Some(lxd::begin_list(self)),
            Engine::Machine => Some(machine::begin_list()),
            Engine::Cri => Some(cri::begin_list()),
            Engine::Containerd => Some(containerd::begin_list()),
            Engine::Runc | Engine::Crun => Some(oci::begin_list(self)),
            Engine::Rkt => Some(rkt::begin_list()),
            // Its containers of this machine are the runtime's.
            Engine::Kubernetes
            // Most of these are no containers.
            | Engine::Systemd
            | Engine::Netns
            | Engine::ProcessId
            | Engine::Command => None,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.scheme())
    }
}
