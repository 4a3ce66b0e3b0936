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

const PLAIN: Kind = Kind {
    engine: "",
    name: "",
    start: || Skip::because("there is no such kind"),
    exec_differs: &[],
};

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
    Kind {
        engine: "docker",
        name: "default",
        start: docker::default,
        ..PLAIN
    },
    Kind {
        engine: "docker",
        name: "strict",
        start: docker::strict,
        ..PLAIN
    },
    Kind {
        engine: "docker",
        name: "userns_remap",
        start: docker::userns_remap,
        ..PLAIN
    },
    Kind {
        engine: "podman",
        name: "root",
        start: podman::root,
        exec_differs: PODMAN_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "podman",
        name: "user",
        start: podman::user,
        exec_differs: PODMAN_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "podman",
        name: "keep_id",
        start: podman::keep_id,
        exec_differs: PODMAN_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "lxc",
        name: "privileged",
        start: lxc::privileged,
        exec_differs: LXC_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "lxc",
        name: "shifted",
        start: lxc::shifted,
        exec_differs: LXC_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "lxc",
        name: "id_mapped",
        start: lxc::id_mapped,
        exec_differs: LXC_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "lxc",
        name: "user",
        start: lxc::user,
        exec_differs: LXC_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "lxd",
        name: "unprivileged",
        start: lxd::unprivileged,
        exec_differs: LXD_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "lxd",
        name: "privileged",
        start: lxd::privileged,
        exec_differs: LXD_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "nspawn",
        name: "plain",
        start: nspawn::plain,
        ..PLAIN
    },
    Kind {
        engine: "nspawn",
        name: "private_users",
        start: nspawn::private_users,
        ..PLAIN
    },
    Kind {
        engine: "nspawn",
        name: "booted",
        start: nspawn::booted,
        ..PLAIN
    },
    Kind {
        engine: "containerd",
        name: "default",
        start: containerd::default,
        ..PLAIN
    },
    Kind {
        engine: "containerd",
        name: "other_namespace",
        start: containerd::other_namespace,
        ..PLAIN
    },
    Kind {
        engine: "runc",
        name: "plain",
        start: oci::runc,
        ..PLAIN
    },
    Kind {
        engine: "runc",
        name: "user_namespace",
        start: oci::runc_with_user_namespace,
        ..PLAIN
    },
    Kind {
        engine: "crun",
        name: "plain",
        start: oci::crun,
        exec_differs: CRUN_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "crun",
        name: "user_namespace",
        start: oci::crun_with_user_namespace,
        exec_differs: CRUN_EXEC,
        ..PLAIN
    },
    Kind {
        engine: "cntr run",
        name: "plain",
        start: own::plain,
        ..PLAIN
    },
    Kind {
        engine: "cntr run",
        name: "user_namespace",
        start: own::user_namespace,
        ..PLAIN
    },
    Kind {
        engine: "bubblewrap",
        name: "root",
        start: bubblewrap::root,
        ..PLAIN
    },
    Kind {
        engine: "bubblewrap",
        name: "user",
        start: bubblewrap::user,
        ..PLAIN
    },
    Kind {
        engine: "unshare",
        name: "root",
        start: by_hand::unshare,
        ..PLAIN
    },
    Kind {
        engine: "unshare",
        name: "single_id",
        start: by_hand::unshare_single_id,
        ..PLAIN
    },
    Kind {
        engine: "unshare",
        name: "map_auto",
        start: by_hand::unshare_map_auto,
        ..PLAIN
    },
    Kind {
        engine: "chroot",
        name: "root",
        start: by_hand::chroot,
        ..PLAIN
    },
    Kind {
        engine: "chroot",
        name: "user",
        start: by_hand::chroot_user,
        ..PLAIN
    },
    Kind {
        engine: "netns",
        name: "exec",
        start: by_hand::netns,
        ..PLAIN
    },
];

impl Kind {
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
