//! cntr's own part while a session is set up and runs: forks the session, listens, gives up in time, cleans up.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::handshake::{Deadline, Failure, Heard, Listener, Message, Reporter, inject};
use super::server::Server;
use super::session::Session;
use super::step::{Fault, Step};
use super::supervise::{Exit, Signals, Terminal, supervise};
use crate::sys::channel::Channel;
use crate::sys::process::{self, Fork, Parenthood, Patience, fork};

/// How long processes that were killed may take to go.
const REAPING: Duration = Duration::from_secs(2);

/// How long a server needs to hear of files that were closed.
const REST: Duration = Duration::from_micros(500);

/// What the set-up of a session led to.
enum Outcome {
    /// The command runs.
    Running {
        command: Pid,
        terminal: Option<OwnedFd>,
    },
    /// A signal came first.
    Interrupted(Signal),
}

/// Runs `session` to its end. `server` is its server, if it has one.
///
/// # Errors
/// The set-up failed; nothing is left of it.
pub fn run(
    session: Session,
    server: Option<Server>,
    signals: &Signals,
    deadline: Deadline,
    fault: Option<Fault>,
) -> Result<Exit, Failure> {
    let failed = |error| Failure::system(Step::ForkSession, "", error);
    inject(fault, Step::ForkSession)?;
    let (ours, theirs) = Channel::pair().map_err(failed)?;
    let child = match fork(Parenthood::Caller, 0).map_err(failed)? {
        Fork::Child => {
            drop(ours);
            // If cntr dies the set-up ends too; the command's process sets the same for itself.
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            // The server must not take this process for a sign of life.
            drop(server);
            session.run(&Reporter::new(theirs, fault))
        }
        Fork::Parent(child) => child,
    };
    drop(theirs);
    // The view's mount must be held by nobody but the session, or it would outlive it.
    drop(session);
    let mut listener = Listener::new(ours, Step::ForkSession);
    let mut command = None;
    let mut mounts = None;
    let outcome = listen(&mut listener, deadline, signals, |pid, namespace| {
        command = Some(pid);
        mounts = namespace.filter(|_| server.is_some()).map(Mounts);
    });
    // A process that still sets itself up finds nobody to report to, and ends.
    drop(listener);
    let result = match outcome {
        Ok(Outcome::Running { command, terminal }) => {
            run_command(command, terminal, server.as_ref(), signals)
        }
        Ok(Outcome::Interrupted(signal)) => {
            give_up(server.as_ref(), child, command);
            Ok(Exit::Signal(signal as i32))
        }
        Err(failure) => {
            give_up(server.as_ref(), child, command);
            Err(failure)
        }
    };
    if let Some(mounts) = mounts {
        mounts.let_go();
    }
    if let Some(server) = server {
        server.end();
    }
    reap_all();
    result
}

/// The mounts of a session with a server, held until its command has ended.
///
/// The kernel closes the files of a process that ends right before it unmounts what only that process had. Over
/// io_uring the server is then just being told of it, and an entry that is not at rest keeps the kernel, and everybody who
/// waits for the command, for 50 ms (`FUSE_URING_TEARDOWN_INTERVAL`).
struct Mounts(OwnedFd);

impl Mounts {
    /// Lets go of them, once the server has had the time to hear of closed files.
    fn let_go(self) {
        std::thread::sleep(REST);
        drop(self.0);
    }
}

/// Tells `started` which process will be the command, which runs when this returns, and its mount namespace.
fn listen(
    listener: &mut Listener,
    deadline: Deadline,
    signals: &Signals,
    mut started: impl FnMut(Pid, Option<OwnedFd>),
) -> Result<Outcome, Failure> {
    let mut command = None;
    let mut terminal = None;
    let mut executing = false;
    loop {
        let heard = listener.hear(deadline, signals.fd());
        let last = listener.last_step();
        match heard.map_err(|error| Failure::system(last, "hand-shake", error))? {
            Heard::Message(Message::Command(pid), namespace) => {
                let pid = Pid::from_raw(pid);
                command = Some(pid);
                started(pid, namespace);
            }
            Heard::Message(Message::Terminal, descriptor) => terminal = descriptor,
            Heard::Message(Message::Executing, _) => executing = true,
            Heard::Message(Message::Failed(failure), _) => return Err(failure),
            Heard::Message(message, _) => tell(&message),
            Heard::Interrupted => {
                if let Some(signal) = signals.take_fatal() {
                    return Ok(Outcome::Interrupted(signal));
                }
            }
            Heard::Silence => {
                return Err(Failure::new(last, "", "no answer in time")
                    .remedy("run it again with -v to see where it stops"));
            }
            Heard::End => {
                return match (command, executing) {
                    (Some(command), true) => Ok(Outcome::Running { command, terminal }),
                    _ => Err(Failure::new(last, "", "the process that did it died")),
                };
            }
        }
    }
}

/// Ends the processes of a set-up that leads nowhere.
fn give_up(server: Option<&Server>, session: Pid, command: Option<Pid>) {
    // The server first: a process that waits for its answer cannot be killed.
    if let Some(server) = server {
        server.kill();
    }
    // Neither has been waited for, so the numbers are theirs.
    for pid in [Some(session), command].into_iter().flatten() {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// Passes on what a process of the session has to tell.
pub fn tell(message: &Message) {
    match message {
        Message::Note(text) => tracing::info!("{text}"),
        Message::Warning(text) => tracing::warn!("{text}"),
        _ => {}
    }
}

fn run_command(
    command: Pid,
    terminal: Option<OwnedFd>,
    server: Option<&Server>,
    signals: &Signals,
) -> Result<Exit, Failure> {
    let failed = |error| Failure::system(Step::Terminal, "standard input", error);
    let terminal = terminal.map(Terminal::new).transpose().map_err(failed)?;
    let others = |pid, exit: Exit| {
        // An orderly end means that the session's last process has gone: the command's end will be heard next.
        if server.is_some_and(|server| server.pid() == pid) && exit != Exit::Code(0) {
            tracing::warn!(
                "the server of the host's files ended ({exit:?}): they give ENOTCONN from now on"
            );
        }
    };
    supervise(command, terminal, signals, others)
        .map_err(|error| Failure::system(Step::Execute, "wait", error))
}

/// Waits for the children that are left, which are all about to end.
fn reap_all() {
    let deadline = Deadline::after(REAPING);
    while !deadline.passed() {
        match process::wait(None, Patience::Poll) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(2_u8));
            }
            Err(error) if error.raw_os_error() == Some(Errno::ECHILD as i32) => return,
            Err(_) => return,
        }
    }
}
