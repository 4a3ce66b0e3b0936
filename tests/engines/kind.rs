//! The kinds of containers that are tested.

use std::sync::{Mutex, MutexGuard, OnceLock};

use anyhow::{Result, anyhow};

use crate::command::Skip;
use crate::container::Container;
use crate::{bubblewrap, by_hand, containerd, docker, lxc, lxd, nspawn, oci, own, podman};

/// How often an engine may fail to start a container.
const ATTEMPTS: u32 = 3;

/// One way to have a container.
pub struct Kind {
    pub engine: &'static str,
    pub name: &'static str,
    pub start: fn() -> Result<Container>,
    /// What `cntr exec` does otherwise than the engine's own exec: the beginnings of lines of `checks::targets`.
    pub exec_differs: &'static [&'static str],
}

const fn kind(engine: &'static str, name: &'static str, start: fn() -> Result<Container>) -> Kind {
    Kind {
        engine,
        name,
        start,
        exec_differs: &[],
    }
}

/// It leaves a variable out that it has set for the first process.
const PODMAN_EXEC: &[&str] = &["variable HOSTNAME="];

/// It has a v2 cgroup of its own for those who attach, no `HOME`, and a `PATH` of its own.
const LXC_EXEC: &[&str] = &["cgroup 0::", "variable HOME=", "variable PATH="];

/// As LXC; and its commands start at home, with what someone who logs in has.
const LXD_EXEC: &[&str] = &[
    "cgroup 0::",
    "directory ",
    "variable HOME=",
    "variable LANG=",
    "variable PATH=",
    "variable PWD=",
    "variable USER=",
];

/// It does not set what the specification says for the first process.
const CRUN_EXEC: &[&str] = &["status NoNewPrivs:"];

/// All of them.
pub const KINDS: &[Kind] = &[
    kind("docker", "default", docker::default),
    kind("docker", "strict", docker::strict),
    kind("docker", "userns_remap", docker::userns_remap),
    kind("podman", "root", podman::root).but(PODMAN_EXEC),
    kind("podman", "user", podman::user).but(PODMAN_EXEC),
    kind("podman", "keep_id", podman::keep_id).but(PODMAN_EXEC),
    kind("lxc", "privileged", lxc::privileged).but(LXC_EXEC),
    kind("lxc", "shifted", lxc::shifted).but(LXC_EXEC),
    kind("lxc", "id_mapped", lxc::id_mapped).but(LXC_EXEC),
    kind("lxc", "user", lxc::user).but(LXC_EXEC),
    kind("lxd", "unprivileged", lxd::unprivileged).but(LXD_EXEC),
    kind("lxd", "privileged", lxd::privileged).but(LXD_EXEC),
    kind("nspawn", "plain", nspawn::plain),
    kind("nspawn", "private_users", nspawn::private_users),
    kind("nspawn", "booted", nspawn::booted),
    kind("containerd", "default", containerd::default),
    kind("containerd", "other_namespace", containerd::other_namespace),
    kind("runc", "plain", oci::runc),
    kind("runc", "user_namespace", oci::runc_with_user_namespace),
    kind("crun", "plain", oci::crun).but(CRUN_EXEC),
    kind("crun", "user_namespace", oci::crun_with_user_namespace).but(CRUN_EXEC),
    kind("cntr run", "plain", own::plain),
    kind("cntr run", "user_namespace", own::user_namespace),
    kind("bubblewrap", "root", bubblewrap::root),
    kind("bubblewrap", "user", bubblewrap::user),
    kind("unshare", "root", by_hand::unshare),
    kind("unshare", "single_id", by_hand::unshare_single_id),
    kind("unshare", "map_auto", by_hand::unshare_map_auto),
    kind("chroot", "root", by_hand::chroot),
    kind("chroot", "user", by_hand::chroot_user),
    kind("netns", "exec", by_hand::netns),
];

impl Kind {
    const fn but(mut self, exec_differs: &'static [&'static str]) -> Kind {
        self.exec_differs = exec_differs;
        self
    }

    /// A container of this kind. Engines fail now and then on a machine that is busy.
    pub fn start(&self) -> Result<Container> {
        let mut attempt = 1;
        loop {
            match (self.start)() {
                Ok(container) => return Ok(container),
                Err(error) if error.is::<Skip>() => return Err(error),
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Skip::because(format!("cannot be started: {error:#}")),
            }
        }
    }

    pub fn title(&self) -> String {
        format!("{}::{}", self.engine.replace(' ', "_"), self.name)
    }
}

/// A kind with its container, which all checks share that do not end it.
pub struct Sample {
    pub kind: &'static Kind,
    container: OnceLock<Result<Container, String>>,
    turn: Mutex<()>,
}

impl Sample {
    pub fn new(kind: &'static Kind) -> Sample {
        Sample {
            kind,
            container: OnceLock::new(),
            turn: Mutex::new(()),
        }
    }

    /// Its container, for one check at a time.
    pub fn container(&self) -> Result<(&Container, MutexGuard<'_, ()>)> {
        let turn = self.turn.lock().map_err(|error| anyhow!("{error}"))?;
        let container = self
            .container
            .get_or_init(|| self.kind.start().map_err(|error| format!("{error:#}")));
        match container {
            Ok(container) => Ok((container, turn)),
            Err(reason) => Skip::because(reason.lines().collect::<Vec<_>>().join(" ")),
        }
    }
}
