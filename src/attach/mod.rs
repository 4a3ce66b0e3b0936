//! Puts a process into a container: it belongs to the container in every respect, but sees the host's files.
//!
//! Three processes take part. The **supervisor** is cntr itself: it reads everything about the target first, forks the
//! other two, copies the terminal's bytes and waits. The **server** ([`server`]) serves the view of the host. The
//! **session** process ([`session`]) joins the container's mount namespace, copies it, puts the view at `/` and the
//! container below it, joins the other namespaces and forks the **command** ([`command`]), which takes over cgroups,
//! limits, ids, capabilities and executes.
//!
//! ```text
//! cntr (supervisor) --+-- server            /dev/fuse; ends with the mount or with cntr
//!                     +-- session           ends as soon as the command exists
//!                     +-- command           in the container's pid namespace, child of cntr by CLONE_PARENT
//! ```
//!
//! An ordinary user's cntr first of all enters the user namespace of the container ([`entry`]), and does all of this there; one
//! with file capabilities puts them in force ([`privileges`]).
//!
//! The order of the set-up is that of [`step::Step`], each of which can be made to fail in tests.

pub mod capabilities;
pub mod cgroup;
pub mod command;
pub mod devices;
pub mod entry;
pub mod environment;
pub mod handshake;
pub mod inside;
pub mod mounts;
pub mod namespaces;
pub mod privileges;
pub mod pty;
pub mod server;
pub mod session;
pub mod status;
pub mod step;
pub mod supervise;
pub mod supervisor;
pub mod target;
pub mod view;

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::Pid;

use self::cgroup::Cgroups;
use self::command::{Command, Streams, WorkingDirectory};
use self::entry::Wanted;
use self::environment::{Environment, Setting, home_of};
use self::handshake::{DEADLINE, Deadline, Failure, inject};
use self::mounts::Plan;
use self::namespaces::Namespaces;
use self::pty::Pty;
use self::server::StartError;
use self::session::{Root, Session};
use self::status::to_inside;
use self::step::{Fault, Step};
use self::supervise::{Exit, Signals};
use self::target::Target;
use self::view::{Access, CachePolicy, View};

/// Where the container's files are in a session unless `CNTR_BASE_DIR` says otherwise.
pub const BASE: &str = "/var/lib/cntr";

/// How much of a container's passwd file is read for a home directory.
const PASSWD: u64 = 1 << 20;

/// What the user wants of a session.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The command; empty for a shell.
    pub command: Vec<OsString>,
    /// Variables to set.
    pub settings: Vec<Setting>,
    /// Where to start; by default where the container's files are.
    pub directory: Option<PathBuf>,
    /// Where the container's files are.
    pub base: PathBuf,
    /// Whether the host's files may be changed; by default if the target is in cntr's user namespace.
    pub access: Option<Access>,
    /// How long what is seen of the host's files may be cached.
    pub cache: CachePolicy,
    /// How long the set-up may take.
    pub deadline: Duration,
    /// A fault to inject.
    pub fault: Option<Fault>,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes {
            command: Vec::new(),
            settings: Vec::new(),
            directory: None,
            base: PathBuf::from(BASE),
            access: None,
            cache: CachePolicy::default(),
            deadline: DEADLINE,
            fault: None,
        }
    }
}

/// The base directory: `CNTR_BASE_DIR`, else [`BASE`].
#[must_use]
pub fn base_directory() -> PathBuf {
    std::env::var_os("CNTR_BASE_DIR")
        .filter(|base| !base.is_empty())
        .map_or_else(|| PathBuf::from(BASE), PathBuf::from)
}

/// Runs a command like the process `pid`, with the host's files. Returns when the command has ended.
///
/// The calling process must have a single thread.
///
/// # Errors
/// The set-up failed; nothing is left of it.
pub fn attach(pid: Pid, wishes: &Wishes) -> Result<Exit, Failure> {
    let deadline = Deadline::after(wishes.deadline);
    let signals =
        Signals::block().map_err(|error| Failure::system(Step::OpenTarget, "signals", error))?;
    // The caller names it, so it is looked at with what the caller may do.
    let base = resolve_base(&wishes.base)?;
    let (target, namespaces, cgroups) = open(pid, wishes, Wanted::View)?;
    inject(wishes.fault, Step::PlanMounts)?;
    let plan = Plan::new(target.root.as_fd(), base);
    let caller = Environment::own();
    let mut environment = containers_environment(&target);
    environment.adopt_tools(&caller);
    if !plan.has_localtime() {
        environment.set_default("TZ", "UTC");
    }
    environment.set("CNTR_BASE_DIR", &plan.base);
    environment.set("CNTR_TARGET", target.own_pid().to_string());
    environment.apply(&wishes.settings, &caller);
    let shell = || {
        let shell = caller
            .get("SHELL")
            .filter(|shell| Path::new(shell).exists());
        vec![shell.cloned().unwrap_or_else(|| "sh".into()), "-l".into()]
    };
    let directory = wishes
        .directory
        .clone()
        .unwrap_or_else(|| plan.base.clone());
    let command = Command {
        arguments: arguments(&wishes.command, shell)?,
        environment,
        directory: WorkingDirectory::Path(directory),
        streams: streams(),
        signals: signals.before(),
        umask: None,
    };
    let view = View::new(&target, &namespaces, &plan, wishes.access, wishes.cache);
    let (mount, server) = match view.open(&signals, deadline, wishes.fault) {
        Ok(made) => made,
        Err(StartError::Failed(failure)) => return Err(failure),
        Err(StartError::Interrupted(exit)) => return Ok(exit),
    };
    let session = Session {
        target,
        namespaces,
        cgroups,
        root: Root::View { mount, plan },
        command,
    };
    supervisor::run(session, Some(server), &signals, deadline, wishes.fault)
}

/// Runs a command of the container's own like the process `pid`, as `docker exec` does.
///
/// # Errors
/// The set-up failed; nothing is left of it.
pub fn exec(pid: Pid, wishes: &Wishes) -> Result<Exit, Failure> {
    let deadline = Deadline::after(wishes.deadline);
    let signals =
        Signals::block().map_err(|error| Failure::system(Step::OpenTarget, "signals", error))?;
    let (target, namespaces, cgroups) = open(pid, wishes, Wanted::Container)?;
    let caller = Environment::own();
    let streams = streams();
    let mut environment = containers_environment(&target);
    if matches!(streams, Streams::Terminal(_)) {
        environment.set_default(
            "TERM",
            caller
                .get("TERM")
                .cloned()
                .unwrap_or_else(|| "xterm".into()),
        );
    }
    environment.apply(&wishes.settings, &caller);
    let inherit = |error| Failure::system(Step::OpenTarget, "its working directory", error);
    let directory = match &wishes.directory {
        Some(path) => WorkingDirectory::Path(path.clone()),
        None => WorkingDirectory::Inherit(target.cwd.try_clone().map_err(inherit)?),
    };
    let command = Command {
        arguments: arguments(&wishes.command, || vec!["sh".into()])?,
        environment,
        directory,
        streams,
        signals: signals.before(),
        umask: Some(target.status.umask),
    };
    let session = Session {
        target,
        namespaces,
        cgroups,
        root: Root::Container,
        command,
    };
    supervisor::run(session, None, &signals, deadline, wishes.fault)
}

fn open(
    pid: Pid,
    wishes: &Wishes,
    wanted: Wanted,
) -> Result<(Target, Namespaces, Cgroups), Failure> {
    let entry = entry::enter(pid, wanted, wishes.fault)?;
    inject(wishes.fault, Step::OpenTarget)?;
    let mut target = Target::open(pid)?;
    if let Some(entry) = &entry {
        entry.confirm(&mut target)?;
    }
    let namespaces = Namespaces::open(&target, entry.as_ref())?;
    inject(wishes.fault, Step::OpenCgroups)?;
    let cgroups = Cgroups::open(&target.cgroups);
    if let Some(cgroup) = &cgroups.frozen {
        let reason = "it is frozen, nothing runs in it: the container is paused";
        return Err(Failure::new(Step::OpenCgroups, cgroup, reason).remedy("resume it first"));
    }
    Ok((target, namespaces, cgroups))
}

fn streams() -> Streams {
    if pty::wanted() {
        Streams::Terminal(Pty::open().ok())
    } else {
        Streams::Own
    }
}

fn arguments(
    command: &[OsString],
    default: impl FnOnce() -> Vec<OsString>,
) -> Result<Vec<CString>, Failure> {
    let command = if command.is_empty() {
        default()
    } else {
        command.to_vec()
    };
    let argument = |argument: OsString| {
        CString::new(argument.into_vec())
            .map_err(|_| Failure::new(Step::Execute, "", "an argument contains NUL"))
    };
    command.into_iter().map(argument).collect()
}

/// The target's environment, with a home.
fn containers_environment(target: &Target) -> Environment {
    let mut environment = Environment::from_entries(&target.environment);
    if environment.get("HOME").is_none() {
        let passwd = mounts::open_in(
            target.root.as_fd(),
            "etc/passwd",
            OFlag::O_RDONLY | OFlag::O_NONBLOCK,
        );
        let passwd = passwd.ok().and_then(|fd| {
            // What the container has there may be endless.
            let mut text = Vec::new();
            let mut start = File::from(fd).take(PASSWD);
            start.read_to_end(&mut text).ok().map(|_| text)
        });
        let uid = to_inside(&target.uid_map, target.status.uids[1]);
        let home = passwd
            .zip(uid)
            .and_then(|(passwd, uid)| home_of(&passwd, uid));
        environment.set("HOME", home.unwrap_or_else(|| "/".into()));
    }
    environment
}

/// Resolves the symbolic links in the part of `base` that exists on the host, so that the mount point is found where
/// the view has it.
fn resolve_base(base: &Path) -> Result<PathBuf, Failure> {
    let odd = |reason: &str| {
        Failure::new(
            Step::PlanMounts,
            format!("base directory {}", base.display()),
            reason,
        )
        .remedy("CNTR_BASE_DIR has to be an absolute path without \"..\", such as /var/lib/cntr")
    };
    if !base.is_absolute() {
        return Err(odd("it is not absolute"));
    }
    if base.components().any(|part| part == Component::ParentDir) {
        return Err(odd("it contains \"..\""));
    }
    let resolve = |ancestor: &Path| {
        let real = ancestor.canonicalize().ok()?;
        let rest = base.strip_prefix(ancestor).ok()?;
        // Joining nothing would append a slash.
        Some(if rest == Path::new("") {
            real
        } else {
            real.join(rest)
        })
    };
    let real = base
        .ancestors()
        .find_map(resolve)
        .ok_or_else(|| odd("not even / can be resolved"))?;
    let covered = ["/proc", "/sys", "/dev"];
    // Files in /etc are the container's already.
    if ["/", "/etc"].iter().any(|path| real == Path::new(path))
        || covered.iter().any(|path| real.starts_with(path))
    {
        return Err(odd("nothing can be mounted there in a session"));
    }
    if real.exists() && !real.is_dir() {
        return Err(odd("it is not a directory"));
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_directories_are_resolved_as_far_as_they_exist() {
        assert_eq!(
            resolve_base(Path::new("/no-such-directory/x")).unwrap(),
            Path::new("/no-such-directory/x")
        );
        assert_eq!(
            resolve_base(Path::new("/proc-not/../x")).map_err(|failure| failure.step),
            Err(Step::PlanMounts)
        );
        let links = tempfile::tempdir().unwrap();
        let link = links.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        let below = link.join("x");
        for wrong in ["relative", "/proc/x", "/etc", "/", "/etc/passwd"] {
            assert!(resolve_base(Path::new(wrong)).is_err(), "{wrong}");
        }
        assert!(resolve_base(&below).is_err());
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/usr", &link).unwrap();
        assert_eq!(resolve_base(&below).unwrap(), Path::new("/usr/x"));
        assert_eq!(resolve_base(&link).unwrap(), Path::new("/usr"));
    }
}
