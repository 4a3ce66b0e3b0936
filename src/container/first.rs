//! The container's first process.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid};

use super::refusal::{At, Refusal};
use super::spec::{Network, Privileges, Program, Spec, base_environment};
use super::{ContainerError, root, starting};
use crate::attach::capabilities::Plan;
use crate::attach::command::{Candidates, run_program};
use crate::attach::environment::Environment;
use crate::attach::handshake::Deadline;
use crate::attach::pty::Pty;
use crate::attach::supervise::{Exit, Signals, supervise};
use crate::sys::capability::{self, CapSet, ThreadCaps};
use crate::sys::channel::Channel;
use crate::sys::network::loopback_up;
use crate::sys::process::{self, Fork, Parenthood, Patience, exit_now, fork};

/// The capabilities docker gives by default.
const DEFAULT_CAPABILITIES: CapSet = CapSet(0xa804_25fb);

/// What the first process tells the one that started it. The end of the channel is the start of the program.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub enum Say {
    /// The master of its terminal comes with this.
    Terminal,
    /// The program starts next.
    Ready,
    /// It cannot be what it should.
    Refused(Refusal),
}

/// The next word of the first process; `None` once it has become its program.
pub fn hear(
    channel: &Channel,
    deadline: Deadline,
    signals: &Signals,
) -> Result<Option<(Say, Option<OwnedFd>)>, ContainerError> {
    loop {
        let mut fds = [
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, deadline.timeout()) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(starting("hear from the first process")(error.into())),
            Ok(0) if deadline.passed() => return Err(ContainerError::Died("stopped responding")),
            Ok(_) => {}
        }
        if fds[0].any() == Some(true) {
            let heard = channel
                .receive()
                .map_err(starting("hear from the first process"))?;
            let say = |(bytes, fd): (Vec<u8>, _)| {
                serde_json::from_slice(&bytes).ok().map(|say| (say, fd))
            };
            return Ok(heard.and_then(say));
        }
        if fds[1].any() == Some(true) && signals.take_fatal().is_some() {
            return Err(ContainerError::Died("was interrupted"));
        }
    }
}

fn say(channel: &Channel, message: &Say, descriptor: Option<&OwnedFd>) {
    let text = serde_json::to_vec(message).expect("messages have no maps with odd keys");
    if channel.send(&text, descriptor.map(AsFd::as_fd)).is_err() {
        exit_now(125);
    }
}

/// Becomes the container's first process. Called in a child that was forked with the container's namespaces.
pub fn be_first(spec: &Spec, channel: Channel, mask: SigSet) -> ! {
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    // No word means that the other side has given up.
    if !matches!(channel.receive(), Ok(Some(_))) {
        exit_now(125);
    }
    let refusal = match (prepare(spec), &spec.program) {
        (Err(refusal), _) => refusal,
        (Ok(()), Program::Pause) => become_pause(spec, &channel),
        (Ok(()), Program::Command(command)) => become_command(spec, command, &channel, mask),
        (Ok(()), Program::Init(command)) => init(spec, command, channel, mask),
    };
    refuse(&channel, refusal)
}

fn refuse(channel: &Channel, refusal: Refusal) -> ! {
    say(channel, &Say::Refused(refusal), None);
    exit_now(125)
}

/// Makes the container what it should be.
fn prepare(spec: &Spec) -> Result<(), Refusal> {
    // Only now, in its cgroup, is that the root of the container's view.
    unshare(CloneFlags::CLONE_NEWCGROUP)
        .map_err(io::Error::from)
        .at("make the namespace", "cgroup")?;
    if spec.user_namespace.is_some() {
        let root = (Uid::from_raw(0), Gid::from_raw(0));
        setresgid(root.1, root.1, root.1)
            .map_err(io::Error::from)
            .at("become", "group 0")?;
        setresuid(root.0, root.0, root.0)
            .map_err(io::Error::from)
            .at("become", "user 0")?;
    }
    nix::unistd::sethostname(&spec.hostname)
        .map_err(io::Error::from)
        .at("set the host name", &spec.hostname)?;
    if spec.network == Network::None {
        // Kernels without IPv4 have no loopback to switch on.
        let _ = loopback_up();
    }
    root::enter(spec)
}

fn become_pause(spec: &Spec, channel: &Channel) -> Refusal {
    if let Err(refusal) = give_up_privileges(spec) {
        return refusal;
    }
    say(channel, &Say::Ready, None);
    process::close_from(3, pause)
}

/// Becomes the command; returns only if that fails.
fn become_command(spec: &Spec, command: &[CString], channel: &Channel, mask: SigSet) -> Refusal {
    if let Err(refusal) = take_session(spec, channel).and_then(|()| give_up_privileges(spec)) {
        return refusal;
    }
    say(channel, &Say::Ready, None);
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None);
    execute(spec, command)
}

/// A session of its own, with a terminal if there is to be one.
fn take_session(spec: &Spec, channel: &Channel) -> Result<(), Refusal> {
    setsid().map_err(io::Error::from).at("start", "a session")?;
    if spec.terminal {
        let pty = Pty::open().at("open a terminal in", "/dev/pts")?;
        Pty::take_over(pty.slave.as_fd()).at("take over", "the terminal")?;
        say(channel, &Say::Terminal, Some(&pty.master));
    }
    Ok(())
}

fn give_up_privileges(spec: &Spec) -> Result<(), Refusal> {
    let (uid, gid) = (Uid::from_raw(spec.user.0), Gid::from_raw(spec.user.1));
    // Without CAP_SETGID over all ids (a map of one id) there are no groups to give up either.
    let _ = setgroups(&[]);
    capability::keep_across_setuid(true).at("keep", "capabilities")?;
    setresgid(gid, gid, gid)
        .map_err(io::Error::from)
        .at("become", format!("group {gid}"))?;
    setresuid(uid, uid, uid)
        .map_err(io::Error::from)
        .at("become", format!("user {uid}"))?;
    let have = capability::get().at("read", "capabilities")?;
    let bounding = match spec.privileges {
        Privileges::Default => CapSet(DEFAULT_CAPABILITIES.0 & have.permitted.0),
        Privileges::All => have.permitted,
        Privileges::None => CapSet(0),
    };
    let permitted = if spec.user.0 == 0 {
        bounding
    } else {
        CapSet(0)
    };
    let plan = Plan {
        bounding,
        ambient: CapSet(0),
        thread: ThreadCaps {
            effective: permitted,
            permitted,
            inheritable: CapSet(0),
        },
        no_new_privs: spec.no_new_privs,
    };
    plan.apply()
        .map_err(|(set, error)| Refusal::new("set capabilities:", &set, &error))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(io::Error::from)
        .at("set", "parent death signal")
}

fn execute(spec: &Spec, command: &[CString]) -> Refusal {
    let mut environment = Environment::default();
    for (name, value) in base_environment(spec) {
        environment.set(name, value);
    }
    environment.apply(&spec.settings, &Environment::own());
    if let Err(error) = nix::unistd::chdir(&spec.directory) {
        return Refusal::new("change to", &spec.directory.display(), &error.into());
    }
    if let Err(error) = process::close_on_exec_from(3) {
        return Refusal::new("close", &"descriptors", &error);
    }
    let candidates = Candidates::new(&command[0], environment.get("PATH"));
    let failure = run_program(&candidates, command, &environment);
    Refusal {
        step: "execute".to_owned(),
        object: failure.object,
        reason: failure.reason,
        errno: failure.errno,
    }
}

/// Runs the command as a child; reaps what is orphaned, passes signals on, ends with the command.
fn init(spec: &Spec, command: &[CString], channel: Channel, mask: SigSet) -> ! {
    // A descriptor of the signals of its own: the one it was forked with reports the parent's.
    let signals = match Signals::block().at("take over", "signals") {
        Ok(signals) => signals,
        Err(refusal) => refuse(&channel, refusal),
    };
    match fork(Parenthood::Caller, 0).at("start", "the command") {
        Ok(Fork::Child) => {
            let refusal = become_command(spec, command, &channel, mask);
            // docker's codes, for init passes them on.
            let missing = matches!(refusal.errno, Some(libc::ENOENT | libc::ENOTDIR));
            say(&channel, &Say::Refused(refusal), None);
            exit_now(if missing { 127 } else { 126 })
        }
        Ok(Fork::Parent(child)) => {
            // A copy would keep the other side waiting for more.
            drop(channel);
            if give_up_privileges(spec).is_err() {
                exit_now(125);
            }
            let _ = nix::sys::prctl::set_name(c"init");
            let exit = supervise(child, None, &signals, |_, _| {});
            exit_now(exit.map_or(125, |exit: Exit| i32::from(exit.code())))
        }
        Err(refusal) => refuse(&channel, refusal),
    }
}

/// Reaps what is orphaned until SIGTERM or SIGINT.
fn pause() -> ! {
    let _ = nix::sys::prctl::set_name(c"pause");
    let set: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT]
        .into_iter()
        .collect();
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None);
    loop {
        while let Ok(Some(_)) = process::wait(None, Patience::Poll) {}
        match set.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(_) => exit_now(0),
        }
    }
}
