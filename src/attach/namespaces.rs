//! The namespaces of the target that differ from cntr's own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;

use super::entry::Entry;
use super::handshake::Failure;
use super::step::Step;
use super::target::Target;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mounts.
    Mount,
    /// Host name.
    Uts,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Network.
    Net,
    /// Clock offsets.
    Time,
    /// Process numbers; takes effect for children.
    Pid,
    /// The root of the cgroup view.
    Cgroup,
    /// User and group ids, capabilities.
    User,
}

/// `CLONE_NEWTIME`; nix has no name for it.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 8] = [
        Kind::Mount,
        Kind::Uts,
        Kind::Ipc,
        Kind::Net,
        Kind::Time,
        Kind::Pid,
        Kind::Cgroup,
        Kind::User,
    ];

    /// Name of its file below `/proc/PID/ns`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mount => "mnt",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
            Kind::Net => "net",
            Kind::Time => "time",
            Kind::Pid => "pid",
            Kind::Cgroup => "cgroup",
            Kind::User => "user",
        }
    }

    fn flag(self) -> CloneFlags {
        match self {
            Kind::Mount => CloneFlags::CLONE_NEWNS,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Net => CloneFlags::CLONE_NEWNET,
            Kind::Time => CLONE_NEWTIME,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Kind::User => CloneFlags::CLONE_NEWUSER,
        }
    }
}

/// The target's namespaces, open.
pub struct Namespaces {
    differing: Vec<(Kind, OwnedFd)>,
    /// None if cntr is in it, or in a copy of it, already.
    mount: Option<OwnedFd>,
    entered: bool,
}

impl Namespaces {
    /// Opens those of `target` that are not cntr's own, and its mount namespace in any case.
    ///
    /// # Errors
    /// cntr may not look into the process.
    pub fn open(target: &Target, entry: Option<&Entry>) -> Result<Namespaces, Failure> {
        let mut differing = Vec::new();
        let mut mount = None;
        for kind in Kind::ALL {
            let object = format!("its {} namespace", kind.name());
            let failed = |error| Failure::system(Step::OpenTarget, &object, error);
            let Some(theirs) = target.namespace(kind.name()).map_err(failed)? else {
                continue;
            };
            let own = nix::sys::stat::stat(format!("/proc/self/ns/{}", kind.name()).as_str());
            let own = own.map_err(|error| failed(error.into()))?;
            let stat = fstat(&theirs).map_err(|error| failed(error.into()))?;
            let differs = (own.st_dev, own.st_ino) != (stat.st_dev, stat.st_ino);
            match kind {
                Kind::Mount => mount = Some(theirs),
                _ if differs => differing.push((kind, theirs)),
                _ => {}
            }
        }
        let mount = mount.ok_or_else(|| {
            Failure::new(Step::OpenTarget, "its mount namespace", "there is none")
        })?;
        let shared = entry.is_some_and(Entry::shares_mounts);
        Ok(Namespaces {
            differing,
            mount: (!shared).then_some(mount),
            entered: entry.is_some_and(|entry| entry.entered),
        })
    }

    /// Whether the target's namespace of this kind is not cntr's.
    #[must_use]
    pub fn differs(&self, kind: Kind) -> bool {
        self.differing.iter().any(|(other, _)| *other == kind)
    }

    /// Whether cntr, as an ordinary user, has joined a user namespace of the container to be allowed to do the rest.
    #[must_use]
    pub fn entered(&self) -> bool {
        self.entered
    }

    /// The target's namespace of this kind if it is not cntr's own.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<BorrowedFd<'_>> {
        let differing = self.differing.iter().find(|(other, _)| *other == kind);
        differing.map(|(_, fd)| fd.as_fd())
    }

    /// Joins the target's namespace of this kind if it is not cntr's own; says whether it was joined.
    ///
    /// # Errors
    /// Those of setns(2), as a failure of `step`.
    pub fn join(&self, kind: Kind, step: Step) -> Result<bool, Failure> {
        let Some((_, fd)) = self.differing.iter().find(|(other, _)| *other == kind) else {
            return Ok(false);
        };
        setns(fd.as_fd(), kind.flag())
            .map_err(|error| Failure::system(step, kind.name(), error))?;
        Ok(true)
    }

    /// Joins the target's mount namespace, in any case: afterwards `/` is that namespace's root even if cntr itself
    /// was started in a chroot. A target that shares cntr's has none to join where cntr is an ordinary user.
    ///
    /// # Errors
    /// Those of setns(2).
    pub fn join_mount(&self) -> Result<(), Failure> {
        self.mount.as_ref().map_or(Ok(()), |mount| {
            setns(mount.as_fd(), CloneFlags::CLONE_NEWNS)
                .map_err(|error| Failure::system(Step::JoinMount, "", error))
        })
    }
}
