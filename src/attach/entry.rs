//! The way of an ordinary user into a container of their own: by way of its user namespace.
//!
//! Who has made a user namespace has all capabilities in it and in those below it. So before anything else cntr joins the
//! one that owns the container's mount namespace, makes a mount namespace of its own there, in which the host's files
//! still are where they were, and from then on does what root does on a host. For the host it is the user as before: a
//! capability in a user namespace counts for nothing that is not the namespace's.
//!
//! * Which one: where the user has no id in that user namespace, files could neither be served nor owned as the user;
//!   the next one above that has one is taken (Podman's, for a container of `--userns=auto`). If there is none, cntr
//!   becomes the namespace's root, and has of the host's files what that has.
//! * A target without a mount namespace of its own (`unshare -Ur`) shares cntr's. The session then has a copy of that, for
//!   which the target's root is found by its path.
//! * A process of the container may have `CAP_SYS_PTRACE` in the user namespace. Neither cntr nor its server may be looked
//!   into by it, since they have the host's files; so they are *not dumpable*, from before the namespace is
//!   joined: then the capability would be needed in the namespace where cntr was executed, which is the user's.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, fstat, stat};
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid, setresgid, setresuid};

use super::handshake::{Failure, inject};
use super::privileges;
use super::status::{Extent, parse_id_map, to_inside};
use super::step::{Fault, Step};
use super::target::Target;
use crate::sys::pinned::Pinned;
use crate::sys::process::{self, Fork, Parenthood, Patience, exit_now, fork};
use crate::sys::{capability, namespace};

/// What cntr needs in the user namespace that owns a container's namespaces.
const NEEDED: &str = "CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_SYS_CHROOT";

/// What an ordinary user can do about a container of somebody else.
const REMEDY: &str = "run it with sudo, or give the program file capabilities (see docs/security.md, \"Without root\")";

/// What the session's root will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A view of the host: cntr has to mount.
    View,
    /// The container's own root.
    Container,
}

/// How cntr got to where it has the capabilities it needs.
pub struct Entry {
    /// Whether it has joined a user namespace for that.
    pub entered: bool,
    /// The target's root, if the target shares cntr's mount namespace and the session has a copy of that.
    shared_root: Option<PathBuf>,
}

/// A namespace's number, to compare.
fn identity(fd: &OwnedFd) -> nix::Result<(u64, u64)> {
    fstat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}

fn failed(object: &str) -> impl Fn(io::Error) -> Failure {
    let object = object.to_owned();
    move |error| Failure::system(Step::Enter, &object, error)
}

/// Joins what has to be joined to be allowed to enter the container of `process`. `None` if nothing has to be.
///
/// # Errors
/// The user may not, with what would be needed.
pub fn enter(
    process: &Pinned,
    wanted: Wanted,
    fault: Option<Fault>,
) -> Result<Option<Entry>, Failure> {
    inject(fault, Step::Enter)?;
    let caps = capability::get().map_err(failed("own capabilities"))?;
    if caps.effective.has(capability::SYS_ADMIN) {
        if wanted == Wanted::View {
            own_mounts()?;
        }
        return Ok(None);
    }
    let pid = process.pid();
    match Way::find(pid) {
        Ok(way) => way.take(pid, wanted).map(Some),
        // Whether it is there is for who opens it to say.
        Err(_) if process.has_ended() => Ok(None),
        // What file capabilities give is for containers that are not the user's own.
        Err(_) if caps.permitted.has(capability::SYS_ADMIN) => {
            privileges::raise()?;
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// How to get into a container.
struct Way {
    /// The user namespace of the target.
    users: OwnedFd,
    /// The one to join, or one below it.
    innermost: OwnedFd,
    /// cntr's own.
    own_users: (u64, u64),
    shared_root: Option<PathBuf>,
}

impl Way {
    /// Looks at the namespaces of the process `pid`.
    ///
    /// # Errors
    /// It is in no container of the user's.
    fn find(pid: Pid) -> Result<Way, Failure> {
        let object = format!("process {pid}");
        let system = |error: Errno| Failure::system(Step::Enter, &object, error);
        let link = |kind: &str| -> Result<OwnedFd, Failure> {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let path = format!("/proc/{pid}/ns/{kind}");
            open(path.as_str(), flags, Mode::empty()).map_err(|error| match error {
                Errno::EACCES | Errno::EPERM => others(pid),
                _ => system(error),
            })
        };
        let own = |kind: &str| {
            stat(format!("/proc/self/ns/{kind}").as_str())
                .map(|stat| (stat.st_dev, stat.st_ino))
                .map_err(system)
        };
        let (mounts, users) = (link("mnt")?, link("user")?);
        let own_users = own("user")?;
        let owner = match namespace::owner(mounts.as_fd()) {
            Ok(owner) if identity(&owner).map_err(system)? != own_users => Some(owner),
            Ok(_) => None,
            // It is above cntr's own.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => None,
            Err(error) => return Err(Failure::system(Step::Enter, &object, error)),
        };
        let mut shared_root = None;
        let innermost = match owner {
            Some(owner) => owner,
            None if identity(&users).map_err(system)? == own_users => {
                return Err(lacking(pid, "in no user namespace of yours"));
            }
            None if identity(&mounts).map_err(system)? == own("mnt")? => {
                let path = format!("/proc/{pid}/root");
                shared_root = Some(fs::read_link(path).map_err(failed("its root"))?);
                users.try_clone().map_err(failed("its user namespace"))?
            }
            None => return Err(lacking(pid, "in a mount namespace that is not yours")),
        };
        Ok(Way {
            users,
            innermost,
            own_users,
            shared_root,
        })
    }

    /// Joins the user namespace and, for a view, makes a mount namespace, for the container of the process `pid`.
    fn take(self, pid: Pid, wanted: Wanted) -> Result<Entry, Failure> {
        let system = |error: Errno| Failure::system(Step::Enter, "its user namespace", error);
        take_oom_score(pid);
        nix::sys::prctl::set_dumpable(false).map_err(system)?;
        let maps = |kind: &str| fs::read_to_string(format!("/proc/{pid}/{kind}_map"));
        let same =
            identity(&self.innermost).map_err(system)? == identity(&self.users).map_err(system)?;
        let known = match (maps("uid"), maps("gid")) {
            (Ok(uids), Ok(gids)) if same => Some(Maps::parse(&uids, &gids)),
            _ => None,
        };
        let (chosen, has_me) = choose(self.innermost, known, self.own_users)?;
        setns(chosen.as_fd(), CloneFlags::CLONE_NEWUSER).map_err(|error| match error {
            Errno::EPERM => others(pid),
            _ => system(error),
        })?;
        let mut shared_root = self.shared_root;
        match wanted {
            Wanted::View => {
                unshare(CloneFlags::CLONE_NEWNS)
                    .map_err(|error| Failure::system(Step::Enter, "a mount namespace", error))?;
                if !has_me {
                    become_root()?;
                }
            }
            // What is shared was not copied: the target's root is where it is.
            Wanted::Container => shared_root = shared_root.map(|_| PathBuf::new()),
        }
        Ok(Entry {
            entered: true,
            shared_root,
        })
    }
}

impl Entry {
    /// Makes sure that `target` is the process whose namespaces were joined, and finds its root where the session will
    /// look for it.
    ///
    /// # Errors
    /// It has ended meanwhile; its root is not where its path says.
    pub fn confirm(&self, target: &mut Target) -> Result<(), Failure> {
        let object = format!("process {}", target.pid);
        if !target.is_alive() {
            return Err(Failure::new(
                Step::OpenTarget,
                object,
                "the process has ended",
            ));
        }
        let Some(path) = self.shared_root.as_ref().filter(|path| path.is_absolute()) else {
            return Ok(());
        };
        let object = format!("its root {}", path.display());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let system = |error: Errno| Failure::system(Step::Enter, &object, error);
        let root = open(path, flags, Mode::empty()).map_err(system)?;
        if identity(&root).map_err(system)? != identity(&target.root).map_err(system)? {
            let reason = "something else is there now: it is hidden by a mount";
            return Err(Failure::new(Step::Enter, object, reason));
        }
        target.root = root;
        Ok(())
    }

    /// Whether the session has to stay in cntr's mount namespace, which is the target's or a copy of that.
    #[must_use]
    pub fn shares_mounts(&self) -> bool {
        self.shared_root.is_some()
    }
}

/// A failure because the process `pid` is where the user may not go.
fn lacking(pid: Pid, what: &str) -> Failure {
    Failure::new(
        Step::OpenTarget,
        format!("process {pid}"),
        format!("it is {what}, and you lack {NEEDED}"),
    )
    .remedy(REMEDY)
}

/// The same because it is not the user's.
fn others(pid: Pid) -> Failure {
    let owner = fs::metadata(format!("/proc/{pid}")).map(|process| process.uid());
    let whose = match owner {
        Ok(0) => "root's".to_owned(),
        Ok(uid) if uid != geteuid().as_raw() => format!("user {uid}'s"),
        _ => "in no container of yours".to_owned(),
    };
    lacking(pid, &whose)
}

/// Makes a mount namespace for a cntr that is root of a user namespace which does not own the mount namespace it is in.
fn own_mounts() -> Result<(), Failure> {
    if capability::is_initial(capability::SYS_ADMIN) {
        return Ok(());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let system = |error: Errno| Failure::system(Step::Enter, "own namespaces", error);
    let mounts = open("/proc/self/ns/mnt", flags, Mode::empty()).map_err(system)?;
    let users = open("/proc/self/ns/user", flags, Mode::empty()).map_err(system)?;
    let owner = namespace::owner(mounts.as_fd()).ok();
    let owner = owner.map(|owner| identity(&owner)).transpose();
    if owner.map_err(system)? == Some(identity(&users).map_err(system)?) {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| Failure::system(Step::Enter, "a mount namespace", error))
}

/// Takes over a higher OOM score of the process `pid`, as long as that is possible: a process that is not dumpable
/// may not write its own.
fn take_oom_score(pid: Pid) {
    let read = |path: &str| -> Option<i32> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let own = "/proc/self/oom_score_adj";
    if let Some(theirs) = read(&format!("/proc/{pid}/oom_score_adj"))
        && read(own).is_some_and(|own| own < theirs)
    {
        // The session process says so if it was refused.
        let _ = fs::write(own, theirs.to_string());
    }
}

/// What a user namespace maps, the ids outside being those of cntr's own namespace.
struct Maps {
    uids: Vec<Extent>,
    gids: Vec<Extent>,
}

impl Maps {
    fn parse(uids: &str, gids: &str) -> Maps {
        Maps {
            uids: parse_id_map(uids),
            gids: parse_id_map(gids),
        }
    }

    /// Those of the user namespace `users`: as a process that joins it shows them to cntr, which stays outside.
    fn of(users: &OwnedFd) -> io::Result<Maps> {
        let (mut joined, mut say_joined) = io::pipe()?;
        let (mut done, say_done) = io::pipe()?;
        let child = match fork(Parenthood::Caller, 0)? {
            Fork::Child => {
                drop((joined, say_done));
                let code = i32::from(
                    setns(users.as_fd(), CloneFlags::CLONE_NEWUSER).is_err()
                        || say_joined.write_all(&[0]).is_err(),
                );
                drop(say_joined);
                // Ends when cntr has read, or has ended.
                let _ = done.read(&mut [0]);
                exit_now(code)
            }
            Fork::Parent(child) => child,
        };
        drop((say_joined, done));
        let maps = (|| {
            joined.read_exact(&mut [0])?;
            let read = |kind: &str| fs::read_to_string(format!("/proc/{child}/{kind}_map"));
            Ok(Maps::parse(&read("uid")?, &read("gid")?))
        })();
        drop(say_done);
        // It is our child and not waited for, so the number is its own.
        let _ = kill(child, Signal::SIGKILL);
        let _ = process::wait(Some(child), Patience::Wait);
        maps
    }

    fn have(&self, uid: Uid, gid: Gid) -> bool {
        to_inside(&self.uids, uid.as_raw()).is_some()
            && to_inside(&self.gids, gid.as_raw()).is_some()
    }
}

/// The user namespace to join: `innermost`, whose maps are `known`, or the next above it that has ids of the caller, and
/// whether it has.
fn choose(
    innermost: OwnedFd,
    known: Option<Maps>,
    own: (u64, u64),
) -> Result<(OwnedFd, bool), Failure> {
    let failed = failed("the maps of its user namespace");
    let (uid, gid) = (geteuid(), getegid());
    let mut candidate = innermost.try_clone().map_err(&failed)?;
    let mut maps = known.map_or_else(|| Maps::of(&candidate), Ok);
    loop {
        if maps.map_err(&failed)?.have(uid, gid) {
            return Ok((candidate, true));
        }
        let parent = namespace::parent(candidate.as_fd());
        match parent {
            Ok(parent) if identity(&parent).map_err(|error| failed(error.into()))? != own => {
                candidate = parent;
                maps = Maps::of(&candidate);
            }
            _ => return Ok((innermost, false)),
        }
    }
}

/// Becomes root of the user namespace that was joined, or the first user and group it has, because the caller is nobody there.
fn become_root() -> Result<(), Failure> {
    let first = |path: &str| -> Option<u32> {
        let map = parse_id_map(&fs::read_to_string(Path::new(path)).ok()?);
        map.iter().map(|extent| extent.inside).min()
    };
    let ids = first("/proc/self/uid_map").zip(first("/proc/self/gid_map"));
    let Some((uid, gid)) = ids else {
        let reason = "it maps no users or no groups: no file system can be served there";
        return Err(Failure::new(Step::Enter, "its user namespace", reason)
            .remedy("run cntr as root, or use `cntr exec`"));
    };
    let failed = |error: Errno| Failure::system(Step::Enter, "its root", error);
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid).map_err(failed)?;
    setresuid(uid, uid, uid).map_err(failed)?;
    // A change of ids would take it back only if it were allowed to; better to be sure.
    nix::sys::prctl::set_dumpable(false).map_err(failed)?;
    tracing::warn!(
        "you have no id in the container's user namespace: of the host's files the session sees what everybody may see"
    );
    Ok(())
}
