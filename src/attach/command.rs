//! The command's process from its fork to exec: everything it takes over from the target once it is in the target's
//! pid namespace.
//!
//! User and groups are set as *host* ids, before the user namespace is joined: that works for ids the namespace does not
//! map and where it forbids setgroups(2), and the ids inside follow from the kernel's map. Capabilities survive that
//! step by securebits, which are reset afterwards.

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::resource::{getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, execve, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid, setsid,
};

use super::capabilities;
use super::cgroup::Cgroups;
use super::environment::{DEFAULT_PATH, Environment};
use super::handshake::{Failure, Message, Reporter};
use super::label::{Labels, Proc};
use super::namespaces::{Kind, Namespaces};
use super::pty::Pty;
use super::status::{Limit, Status, to_inside};
use super::step::Step;
use super::target::Target;
use crate::sys::capability::{self, CapSet};
use crate::sys::process;

/// Whether the command gets a terminal.
#[derive(Debug)]
pub enum Streams {
    /// It has cntr's own standard streams.
    Own,
    /// It has a pty of the container's devpts, else this one of the host's if there is one.
    Terminal(Option<Pty>),
}

/// Where the command starts.
#[derive(Debug)]
pub enum WorkingDirectory {
    /// At this path; it is an error if there is none.
    Path(PathBuf),
    /// At the first of these paths where the session may be.
    First([PathBuf; 2]),
    /// In this directory if it is below the root, else in the root.
    Inherit(OwnedFd),
}

/// What to execute, and how.
#[derive(Debug)]
pub struct Command {
    /// The program and its arguments; the program is looked for in the environment's `PATH`.
    pub arguments: Vec<CString>,
    /// Its environment.
    pub environment: Environment,
    /// Where it starts.
    pub directory: WorkingDirectory,
    /// Its terminal.
    pub streams: Streams,
    /// Its signal mask.
    pub signals: SigSet,
    /// Its file mode creation mask; `None` keeps cntr's.
    pub umask: Option<u32>,
    /// The labels it gets, by way of the host's `/proc`.
    pub labels: (Labels, Proc),
}

/// What a session that sees the host's files has of the container.
#[derive(Debug)]
pub struct Container {
    /// Its tree.
    pub tree: OwnedFd,
    /// A copy of the host's `/proc`, for [`mount_proc`](super::mounts::mount_proc).
    pub hosts_proc: Option<OwnedFd>,
}

/// Becomes the command. Called in a child of its own, in all namespaces but those of cgroups and users.
pub fn become_command(
    command: Command,
    target: &Target,
    namespaces: &Namespaces,
    cgroups: Cgroups,
    container: Option<&Container>,
    reporter: &Reporter,
) -> Failure {
    let result = prepare(&command, target, namespaces, cgroups, container, reporter);
    match result.and_then(|()| reporter.step(Step::Execute)) {
        Ok(()) => execute(&command, reporter),
        Err(failure) => failure,
    }
}

fn prepare(
    command: &Command,
    target: &Target,
    namespaces: &Namespaces,
    cgroups: Cgroups,
    container: Option<&Container>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    // A session of its own in any case: the caller's terminal must never control a process of the container.
    setsid().map_err(|error| Failure::system(Step::ForkCommand, "setsid", error))?;
    if let Some(container) = container {
        let hosts = container.hosts_proc.as_ref().map(AsFd::as_fd);
        super::mounts::mount_proc(container.tree.as_fd(), hosts, reporter)?;
    }
    reporter.step(Step::JoinCgroups)?;
    let (joined, refused) = cgroups.join();
    if !joined.is_empty() {
        reporter.note(format!("joined cgroups: {}", joined.join(", ")));
    }
    for cgroup in refused {
        reporter.warn(format!(
            "cannot join cgroup {cgroup}: the container's limits there do not hold for the session"
        ));
    }
    if namespaces.join(Kind::Cgroup, Step::JoinCgroups)? {
        reporter.note("joined namespace: cgroup");
    }
    reporter.step(Step::Limits)?;
    take_limits(&target.limits, reporter);
    reporter.step(Step::Labels)?;
    take_labels(&command.labels, reporter)?;
    reporter.step(Step::Credentials)?;
    take_ids(&target.status, reporter)?;
    // What fs.suid_dumpable says counts after a change of ids.
    let _ = nix::sys::prctl::set_dumpable(false);
    reporter.step(Step::Terminal)?;
    open_terminal(&command.streams, reporter)?;
    reporter.step(Step::JoinUser)?;
    if namespaces.join(Kind::User, Step::JoinUser)? {
        reporter.note("joined namespace: user");
    }
    reporter.step(Step::Capabilities)?;
    // A process of the container must not possess the caller's keys. Kernels without keyrings have none to leak.
    let _ = process::join_new_session_keyring();
    let root = to_inside(&target.uid_map, target.status.uids[1]) == Some(0);
    let plan = capabilities::Plan::new(&target.status, root);
    let have = capability::get()
        .map_err(|error| Failure::system(Step::Capabilities, "own sets", error))?;
    let missing = plan.missing(have.permitted);
    if missing != CapSet::default() {
        reporter.note(format!(
            "capabilities {:#x} of the target are not given: cntr itself lacks them",
            missing.0
        ));
    }
    plan.apply()
        .map_err(|(set, error)| Failure::system(Step::Capabilities, set, error))?;
    reporter.note(target.status.seccomp.to_string());
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|error| Failure::system(Step::Capabilities, "parent death signal", error))?;
    if let Some(mask) = command.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    reporter.step(Step::WorkingDirectory)?;
    enter_directory(&command.directory)
}

fn take_labels((labels, proc): &(Labels, Proc), reporter: &Reporter) -> Result<(), Failure> {
    if labels.is_empty() {
        return Ok(());
    }
    let own = proc
        .own()
        .map_err(|error| Failure::system(Step::Labels, "/proc/self", error))?;
    labels.apply(own.as_fd())?;
    for label in labels.describe() {
        reporter.note(format!("label: {label}"));
    }
    Ok(())
}

fn take_limits(limits: &[Limit], reporter: &Reporter) {
    let all: Vec<String> = limits.iter().map(ToString::to_string).collect();
    reporter.note(format!("the target's limits: {}", all.join(", ")));
    for limit in limits {
        let resource = limit.resource;
        let Ok((_, own_hard)) = getrlimit(resource) else {
            continue;
        };
        if setrlimit(resource, limit.soft, limit.hard).is_ok() {
            continue;
        }
        // Raising the hard limit takes CAP_SYS_RESOURCE; as much as we have is the next best thing.
        let hard = limit.hard.min(own_hard);
        let _ = setrlimit(resource, limit.soft.min(hard), hard);
        reporter.note(format!(
            "limit {:?} cannot be raised to the target's {} without CAP_SYS_RESOURCE: it is {hard}",
            limit.name, limit.hard
        ));
    }
}

fn take_ids(status: &Status, reporter: &Reporter) -> Result<(), Failure> {
    let failed =
        |what: &'static str| move |error: Errno| Failure::system(Step::Credentials, what, error);
    capability::keep_across_setuid(true)
        .map_err(|error| Failure::system(Step::Credentials, "securebits", error))?;
    take_groups(&status.groups, reporter).map_err(failed("supplementary groups"))?;
    // Ids that are the right ones already need not be mapped in cntr's user namespace.
    let [real, effective, saved, _] = status.gids.map(Gid::from_raw);
    let own = getresgid().map_err(failed("group"))?;
    if [own.real, own.effective, own.saved] != [real, effective, saved] {
        setresgid(real, effective, saved).map_err(failed("group"))?;
    }
    let [real, effective, saved, _] = status.uids.map(Uid::from_raw);
    let own = getresuid().map_err(failed("user"))?;
    if [own.real, own.effective, own.saved] != [real, effective, saved] {
        setresuid(real, effective, saved).map_err(failed("user"))?;
    }
    Ok(())
}

/// Takes over the target's supplementary groups. In the user namespace of an ordinary user that may be forbidden, and
/// groups may have no number there; then the target has them from before it was in there, as cntr has its own.
fn take_groups(groups: &[u32], reporter: &Reporter) -> nix::Result<()> {
    let sorted = |mut groups: Vec<u32>| {
        groups.sort_unstable();
        groups
    };
    let own = getgroups()?.into_iter().map(Gid::as_raw).collect();
    if sorted(own) == sorted(groups.to_vec()) {
        return Ok(());
    }
    let all: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    match setgroups(&all) {
        Err(Errno::EINVAL) => {
            let (named, unnamed): (Vec<Gid>, Vec<Gid>) = all
                .into_iter()
                .partition(|group| setgroups(&[*group]).is_ok());
            setgroups(&named)?;
            reporter.note(format!(
                "{} supplementary groups of the target are not taken over: they have no number in cntr's user namespace",
                unnamed.len()
            ));
            Ok(())
        }
        // Not for want of the capability.
        Err(Errno::EPERM)
            if capability::get().is_ok_and(|own| own.effective.has(capability::SETGID)) =>
        {
            reporter.warn(
                "the container's user namespace denies setgroups: the session has your supplementary groups, \
                 not those of its process",
            );
            Ok(())
        }
        result => result,
    }
}

fn open_terminal(streams: &Streams, reporter: &Reporter) -> Result<(), Failure> {
    let Streams::Terminal(host) = streams else {
        return Ok(());
    };
    let failed = |error: io::Error| Failure::system(Step::Terminal, "", error);
    let own = Pty::open();
    let pty = match (&own, host) {
        (Ok(own), _) => own,
        (Err(error), Some(host)) => {
            reporter.note(format!(
                "the terminal is one of the host's: the container gives none ({error})"
            ));
            host
        }
        (Err(_), None) => return Err(failed(own.unwrap_err())),
    };
    Pty::take_over(pty.slave.as_fd()).map_err(failed)?;
    reporter.say_with(&Message::Terminal, Some(pty.master.as_fd()));
    Ok(())
}

fn enter_directory(directory: &WorkingDirectory) -> Result<(), Failure> {
    match directory {
        WorkingDirectory::Path(path) => nix::unistd::chdir(path).map_err(|error| {
            Failure::system(Step::WorkingDirectory, path.display().to_string(), error)
        }),
        WorkingDirectory::First([first, second]) => {
            let chdir = nix::unistd::chdir(first).or_else(|_| nix::unistd::chdir(second));
            chdir.map_err(|error| {
                Failure::system(Step::WorkingDirectory, second.display().to_string(), error)
            })
        }
        WorkingDirectory::Inherit(cwd) => {
            // A directory outside of the root has a path that does not begin with "/".
            let inside = || {
                nix::unistd::fchdir(cwd)?;
                nix::unistd::getcwd().map(|path| path.is_absolute())
            };
            if matches!(inside(), Ok(true)) {
                return Ok(());
            }
            nix::unistd::chdir("/")
                .map_err(|error| Failure::system(Step::WorkingDirectory, "/", error))
        }
    }
}

/// Where a program may be.
#[derive(Debug)]
pub struct Candidates(Vec<CString>);

impl Candidates {
    /// `name` itself if it is a path, else in each directory of `path` ([`DEFAULT_PATH`] if there is none).
    #[must_use]
    pub fn new(name: &CStr, path: Option<&OsString>) -> Candidates {
        let name = name.to_bytes();
        if name.contains(&b'/') {
            return Candidates(CString::new(name).into_iter().collect());
        }
        let join = |directory: &[u8]| {
            let directory = if directory.is_empty() {
                b".".as_slice()
            } else {
                directory
            };
            CString::new([directory, b"/", name].concat()).ok()
        };
        let path = path.map_or(DEFAULT_PATH.as_bytes(), |path| path.as_bytes());
        Candidates(path.split(|byte| *byte == b':').filter_map(join).collect())
    }
}

/// Executes the command; returns only if that fails.
fn execute(command: &Command, reporter: &Reporter) -> Failure {
    let failed = |error: io::Error| Failure::system(Step::Execute, "", error);
    let mask = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&command.signals), None);
    if let Err(error) = mask
        .map_err(io::Error::from)
        .and_then(|()| process::close_on_exec_from(3))
    {
        return failed(error);
    }
    let candidates = Candidates::new(&command.arguments[0], command.environment.get("PATH"));
    reporter.say(&Message::Executing);
    run_program(&candidates, &command.arguments, &command.environment)
}

/// Executes the first of `candidates` that there is; returns only if that fails.
#[must_use]
pub fn run_program(
    candidates: &Candidates,
    arguments: &[CString],
    environment: &Environment,
) -> Failure {
    let object = arguments[0].to_string_lossy().into_owned();
    let entries = environment.to_entries();
    // Rust ignores SIGPIPE; a program expects it not to be.
    if let Err(error) = process::default_signal(Signal::SIGPIPE) {
        return Failure::system(Step::Execute, object, error);
    }
    let searched = !arguments[0].as_bytes().contains(&b'/');
    let mut last = Errno::ENOENT;
    for candidate in &candidates.0 {
        let Err(error) = execve(candidate, arguments, &entries);
        match error {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::ENOEXEC => {
                // A script without a first line that names its interpreter: as execvp(3) has it, one for the shell.
                let shell = c"/bin/sh".to_owned();
                let arguments = [&[shell.clone(), candidate.clone()], &arguments[1..]].concat();
                let Err(_) = execve(&shell, &arguments, &entries);
                last = error;
                break;
            }
            // What a directory of the path hides is not there, as for a shell.
            Errno::EACCES if searched && nix::sys::stat::stat(candidate.as_c_str()).is_err() => {}
            Errno::EACCES => last = error,
            _ => {
                last = error;
                break;
            }
        }
    }
    let failure = Failure::system(Step::Execute, object, last);
    match last {
        Errno::ENOENT => Failure {
            reason: "command not found".to_owned(),
            ..failure
        },
        Errno::ENOEXEC => Failure {
            reason: "not a program".to_owned(),
            ..failure
        },
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_the_path() {
        let found = Candidates::new(c"ls", Some(&"/bin::/x".into()));
        assert_eq!(found.0, [c"/bin/ls", c"./ls", c"/x/ls"].map(CString::from));
        assert_eq!(Candidates::new(c"./ls", None).0, [c"./ls".to_owned()]);
    }
}
