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

pub mod bind;
pub mod capabilities;
pub mod cgroup;
pub mod command;
pub mod devices;
pub mod entry;
pub mod environment;
pub mod handshake;
pub mod hide;
pub mod inside;
pub mod label;
pub mod mounts;
pub mod namespaces;
pub mod passwd;
pub mod preview;
pub mod privileges;
pub mod pty;
pub mod server;
pub mod session;
pub mod source;
pub mod status;
pub mod step;
pub mod supervise;
pub mod supervisor;
pub mod target;
pub mod view;

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use self::bind::{Bind, BindSpec, Seen};
use self::cgroup::Cgroups;
use self::command::{Command, Streams, WorkingDirectory};
use self::entry::Wanted;
use self::environment::{Environment, Setting};
use self::handshake::{DEADLINE, Deadline, Failure, inject};
use self::label::{LabelWish, Labels, Loaded, Module, Proc};
use self::mounts::Plan;
use self::namespaces::{Kind, Namespaces};
use self::passwd::{Accounts, UserSpec};
use self::preview::{Preview, Show};
use self::pty::Pty;
use self::server::StartError;
use self::session::{Root, Session};
use self::source::{Source, Tree};
use self::status::to_inside;
use self::step::{Fault, Step};
use self::supervise::{Exit, Signals};
use self::target::Target;
use self::view::{Access, CachePolicy, Ownership, View};
use crate::sys::pinned::Pinned;

/// Where the container's files are in a session unless `CNTR_BASE_DIR` says otherwise.
pub const BASE: &str = "/var/lib/cntr";

/// Whether a command gets a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TerminalWish {
    /// If the caller has one on both sides.
    #[default]
    IfCaller,
    /// In any case; if standard input is no terminal, nothing is typed.
    Always,
}

/// What the user wants of a session.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The command; empty for a shell.
    pub command: Vec<OsString>,
    /// Variables to set.
    pub settings: Vec<Setting>,
    /// Whether the command gets a terminal.
    pub terminal: TerminalWish,
    /// Which user of the container to be; by default who the process is.
    pub user: Option<UserSpec>,
    /// Where to start; by default where the process is.
    pub directory: Option<PathBuf>,
    /// Where the container's files are.
    pub base: PathBuf,
    /// Whether the host's files may be changed; by default if the target is in cntr's user namespace.
    pub access: Option<Access>,
    /// Paths that are not to be there.
    pub hidden: Vec<PathBuf>,
    /// Paths of the host to have natively.
    pub binds: Vec<BindSpec>,
    /// How long what is seen of the host's files may be cached.
    pub cache: CachePolicy,
    /// Whose files on the host new ones become, and whose home is the session's; by default those of who makes them.
    pub effective_user: Option<UserSpec>,
    /// The AppArmor profile of the command.
    pub apparmor: LabelWish,
    /// The SELinux context of the command.
    pub selinux: LabelWish,
    /// What to show the plan to instead of carrying it out.
    pub dry_run: Option<Show>,
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
            terminal: TerminalWish::default(),
            user: None,
            directory: None,
            base: PathBuf::from(BASE),
            access: None,
            hidden: Vec::new(),
            binds: Vec::new(),
            cache: CachePolicy::default(),
            effective_user: None,
            apparmor: LabelWish::Target,
            selinux: LabelWish::Target,
            dry_run: None,
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

/// Runs a command like `process`, with the host's files. Returns when the command has ended.
///
/// The calling process must have a single thread.
///
/// # Errors
/// The set-up failed; nothing is left of it.
pub fn attach(process: Pinned, source: Source, wishes: &Wishes) -> Result<Exit, Failure> {
    let deadline = Deadline::after(wishes.deadline);
    let signals =
        Signals::block().map_err(|error| Failure::system(Step::OpenTarget, "signals", error))?;
    // The caller names them, so they are looked at with what the caller may do.
    let tree = Tree::of_caller(source)?;
    let base = match &tree {
        Some(tree) => resolve_base(tree.root.as_fd(), &wishes.base)?,
        None => {
            let host = Tree::of_directory(Path::new("/"))?;
            resolve_base(host.root.as_fd(), &wishes.base)?
        }
    };
    let seen: Vec<Seen> = wishes
        .binds
        .iter()
        .map(Bind::look)
        .collect::<Result<_, _>>()?;
    let (target, namespaces, cgroups, home) = open(process, wishes, Wanted::View)?;
    // In the mount namespace that cntr is in now.
    let tree = tree.map_or_else(Tree::of_host, Ok)?;
    inject(wishes.fault, Step::PlanMounts)?;
    let plan = Plan::new(target.root.as_fd(), base);
    hide::check(&wishes.hidden, &tree, &plan, &wishes.binds)?;
    inject(wishes.fault, Step::OpenBinds)?;
    let binds = open_binds(&wishes.binds, &seen, &plan, &namespaces)?;
    let caller = Environment::own();
    let mut environment = containers_environment(&target, home);
    let shell = tree.shell(&caller).cloned();
    environment.adopt_tools(tree.path(), shell.as_ref(), &caller);
    let owner = wishes.effective_user.as_ref();
    let owner = owner.map(|spec| tree.account(spec)).transpose()?;
    if let Some(owner) = &owner {
        environment.set("HOME", &owner.home);
    }
    if !plan.has_localtime() {
        environment.set_default("TZ", "UTC");
    }
    environment.set("CNTR_BASE_DIR", &plan.base);
    environment.set("CNTR_TARGET", target.own_pid().to_string());
    environment.apply(&wishes.settings, &caller);
    let shell = || vec![shell.unwrap_or_else(|| "sh".into()), "-l".into()];
    let directory = match (&wishes.directory, target.directory()) {
        (Some(path), _) => WorkingDirectory::Path(path.clone()),
        (None, None) => WorkingDirectory::Path(plan.base.clone()),
        (None, Some(path)) => {
            let below = path.strip_prefix("/").unwrap_or(&path);
            // Joining nothing would append a slash.
            let there: PathBuf = plan.base.join(below).components().collect();
            WorkingDirectory::First([there, plan.base.clone()])
        }
    };
    let command = Command {
        arguments: arguments(&wishes.command, shell)?,
        environment,
        directory,
        streams: streams(wishes.terminal),
        signals: signals.before(),
        umask: None,
        labels: labels(&target, wishes)?,
    };
    let mut view = View::new(
        tree,
        &target,
        &namespaces,
        &plan,
        wishes.access,
        wishes.cache,
    );
    if let Some(owner) = owner {
        if view.access == Access::ReadOnly {
            tracing::warn!(
                "nothing can be made in a view that is read-only: --effective-user needs --host rw"
            );
        }
        view.ownership = Ownership::User {
            uid: owner.uid,
            gid: owner.gid,
        };
    }
    view.hidden.clone_from(&wishes.hidden);
    let points = binds.iter().filter_map(|bind| bind.point(&plan));
    view.points.extend(points);
    if let Some(show) = wishes.dry_run {
        let with = Some((&plan, &view, wishes.binds.as_slice()));
        let preview = Preview::new(&target, &namespaces, &cgroups, &command, wishes, with);
        return preview.show(show);
    }
    let opened = match view.open(&signals, deadline, wishes.fault) {
        Ok(made) => made,
        Err(StartError::Failed(failure)) => return Err(failure),
        Err(StartError::Interrupted(exit)) => return Ok(exit),
    };
    let session = Session {
        target,
        namespaces,
        cgroups,
        root: Root::View {
            mount: opened.mount,
            plan,
            binds,
        },
        command,
    };
    let ended = supervisor::run(
        session,
        Some(opened.server),
        &signals,
        deadline,
        wishes.fault,
    );
    drop(opened.landmark);
    ended
}

/// Runs a command of the container's own like `process`, as `docker exec` does.
///
/// # Errors
/// The set-up failed; nothing is left of it.
pub fn exec(process: Pinned, wishes: &Wishes) -> Result<Exit, Failure> {
    let deadline = Deadline::after(wishes.deadline);
    let signals =
        Signals::block().map_err(|error| Failure::system(Step::OpenTarget, "signals", error))?;
    let (target, namespaces, cgroups, home) = open(process, wishes, Wanted::Container)?;
    let caller = Environment::own();
    let streams = streams(wishes.terminal);
    let mut environment = containers_environment(&target, home);
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
        labels: labels(&target, wishes)?,
    };
    if let Some(show) = wishes.dry_run {
        let preview = Preview::new(&target, &namespaces, &cgroups, &command, wishes, None);
        return preview.show(show);
    }
    let session = Session {
        target,
        namespaces,
        cgroups,
        root: Root::Container,
        command,
    };
    supervisor::run(session, None, &signals, deadline, wishes.fault)
}

/// Opens all of the target; with the home of the user that the session is to be instead of the target's.
fn open(
    process: Pinned,
    wishes: &Wishes,
    wanted: Wanted,
) -> Result<(Target, Namespaces, Cgroups, Option<OsString>), Failure> {
    let entry = entry::enter(&process, wanted, wishes.fault)?;
    inject(wishes.fault, Step::OpenTarget)?;
    let mut target = Target::open(process)?;
    if let Some(entry) = &entry {
        entry.confirm(&mut target)?;
    }
    let user = wishes.user.as_ref();
    let home = user.map(|user| target.become_user(user)).transpose()?;
    let namespaces = Namespaces::open(&target, entry.as_ref())?;
    inject(wishes.fault, Step::OpenCgroups)?;
    let cgroups = Cgroups::open(&target.cgroups);
    if let Some(cgroup) = &cgroups.frozen {
        let reason = "it is frozen, nothing runs in it: the container is paused";
        return Err(Failure::new(Step::OpenCgroups, cgroup, reason).remedy("resume it first"));
    }
    Ok((target, namespaces, cgroups, home))
}

fn open_binds(
    specs: &[BindSpec],
    seen: &[Seen],
    plan: &Plan,
    namespaces: &Namespaces,
) -> Result<Vec<Bind>, Failure> {
    let open = |(spec, seen): (&BindSpec, &Seen)| {
        let (bind, notice) = Bind::open(spec, *seen, plan, namespaces.get(Kind::User))?;
        if let Some(notice) = notice {
            tracing::warn!("{notice}");
        }
        Ok(bind)
    };
    specs.iter().zip(seen).map(open).collect()
}

/// The labels of the target's security modules, and where to write them.
fn labels(target: &Target, wishes: &Wishes) -> Result<(Labels, Proc), Failure> {
    let failed = |error| Failure::system(Step::OpenTarget, "/proc", error);
    let proc = Proc::open().map_err(failed)?;
    let own = proc.own().map_err(failed)?;
    let of_each = [
        (Module::AppArmor, &wishes.apparmor),
        (Module::SeLinux, &wishes.selinux),
    ];
    let labels = Labels::plan(
        target.proc_directory(),
        own.as_fd(),
        Loaded::here(),
        of_each,
    )?;
    Ok((labels, proc))
}

fn streams(wish: TerminalWish) -> Streams {
    if wish == TerminalWish::Always || pty::wanted() {
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

/// The target's environment, with a home: `home` if there is one.
fn containers_environment(target: &Target, home: Option<OsString>) -> Environment {
    let mut environment = Environment::from_entries(&target.environment);
    if let Some(home) = home {
        environment.set("HOME", home);
    } else if environment.get("HOME").is_none() {
        let uid = to_inside(&target.uid_map, target.status.uids[1]);
        let home = uid.and_then(|uid| Accounts::of(target.root.as_fd()).home_of(uid));
        environment.set("HOME", home.unwrap_or_else(|| "/".into()));
    }
    environment
}

/// Resolves the symbolic links in the part of `base` that exists below `root`, so that the mount point is found where
/// the view has it.
fn resolve_base(root: BorrowedFd<'_>, base: &Path) -> Result<PathBuf, Failure> {
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
        let real = mounts::path_in(root, &mounts::open_in(root, ancestor, OFlag::O_PATH).ok()?)?;
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
    let found = mounts::open_in(root, &real, OFlag::O_PATH).and_then(|fd| Ok(fstat(fd)?));
    if found.is_ok_and(|found| found.st_mode & libc::S_IFMT != libc::S_IFDIR) {
        return Err(odd("it is not a directory"));
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_directories_are_resolved_as_far_as_they_exist() {
        let root = std::fs::File::open("/").unwrap();
        let resolve = |base: &Path| resolve_base(root.as_fd(), base);
        assert_eq!(
            resolve(Path::new("/no-such-directory/x")).unwrap(),
            Path::new("/no-such-directory/x")
        );
        assert_eq!(
            resolve(Path::new("/proc-not/../x")).map_err(|failure| failure.step),
            Err(Step::PlanMounts)
        );
        let links = tempfile::tempdir().unwrap();
        let link = links.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        let below = link.join("x");
        for wrong in ["relative", "/proc/x", "/etc", "/", "/etc/passwd"] {
            assert!(resolve(Path::new(wrong)).is_err(), "{wrong}");
        }
        assert!(resolve(&below).is_err());
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/usr", &link).unwrap();
        assert_eq!(resolve(&below).unwrap(), Path::new("/usr/x"));
        assert_eq!(resolve(&link).unwrap(), Path::new("/usr"));
    }
}
