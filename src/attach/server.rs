//! The server process: serves the view of the host to one session.
//!
//! It is forked from cntr while that has a single thread, and is the only process that holds `/dev/fuse`: if it dies, the
//! kernel aborts the connection and whoever waits for a host file gets ENOTCONN at once. It never forks. It ends when the
//! mount is gone, which is when the session's last process is, and when its lifeline breaks: the writing end of a pipe
//! that cntr alone holds, so that the end of cntr, however violent, is the end of the server too.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::unistd::Pid;

use super::handshake::{Deadline, Failure, Heard, Listener, Message, Reporter, inject};
use super::step::{Fault, Step};
use super::supervise::{Exit, Signals};
use super::supervisor::tell;
use crate::sys::channel::Channel;
use crate::sys::process::{self, Fork, Parenthood, Patience, exit_now, fork, pidfd_open};

/// How long a server may go on after its session before its lifeline is cut.
const GRACE: Duration = Duration::from_millis(200);

/// How long it may take then before it is killed.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running server.
pub struct Server {
    pid: Pid,
    process: OwnedFd,
    lifeline: OwnedFd,
}

/// The server's end of its lifeline: readable, at its end, when cntr is gone.
pub struct Lifeline(OwnedFd);

impl Lifeline {
    /// Waits until cntr is gone or wants the server to end.
    pub fn wait(self) {
        let mut byte = [0];
        let _ = File::from(self.0).read(&mut byte);
    }
}

/// Why there is no server.
#[derive(Debug)]
pub enum StartError {
    /// A step failed.
    Failed(Failure),
    /// A signal came first.
    Interrupted(Exit),
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> StartError {
        StartError::Failed(failure)
    }
}

impl Server {
    /// Forks a process that runs `serve` on `device`, its end of the connection, and waits until that reports
    /// [`Message::Serving`]. It has no other descriptor of the mount, or it would not see the session go; what it serves
    /// has those that are `kept`.
    ///
    /// # Errors
    /// The server did not come up, in time or at all; then it is gone.
    pub fn start(
        signals: &Signals,
        deadline: Deadline,
        fault: Option<Fault>,
        device: OwnedFd,
        kept: &[RawFd],
        serve: impl FnOnce(&Reporter, Lifeline, OwnedFd) -> Result<(), Failure>,
    ) -> Result<Server, StartError> {
        inject(fault, Step::ForkServer)?;
        let failed = |error| Failure::system(Step::ForkServer, "", error);
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        let (reading, writing) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
            .map_err(|error| failed(error.into()))?;
        let pid = match fork(Parenthood::Caller, 0).map_err(failed)? {
            Fork::Child => {
                drop(ours);
                drop(writing);
                become_server(theirs, fault, Lifeline(reading), device, kept, serve)
            }
            Fork::Parent(pid) => pid,
        };
        drop(theirs);
        drop(reading);
        // The device is its alone.
        drop(device);
        let process = pidfd_open(pid).map_err(failed)?;
        let server = Server {
            pid,
            process,
            lifeline: writing,
        };
        let mut listener = Listener::new(ours, Step::ForkServer);
        let result = loop {
            let heard = listener.hear(deadline, signals.fd());
            let last = listener.last_step();
            match heard {
                Ok(Heard::Message(Message::Serving(what), _)) => {
                    tracing::info!("{what}");
                    break Ok(());
                }
                Ok(Heard::Message(Message::Failed(failure), _)) => break Err(failure.into()),
                Ok(Heard::Message(message, _)) => tell(&message),
                Ok(Heard::Interrupted) => {
                    if let Some(signal) = signals.take_fatal() {
                        break Err(StartError::Interrupted(Exit::Signal(signal as i32)));
                    }
                }
                Ok(Heard::Silence) => break Err(Failure::new(last, "", "no answer in time").into()),
                Ok(Heard::End) => {
                    break Err(Failure::new(last, "", "the server process died").into());
                }
                Err(error) => break Err(Failure::system(last, "hand-shake", error).into()),
            }
        };
        match result {
            Ok(()) => Ok(server),
            Err(error) => {
                server.kill();
                server.end();
                Err(error)
            }
        }
    }

    /// Its number, for messages.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends it at once.
    pub fn kill(&self) {
        // It is our child and not waited for before `end`, so the number is still its.
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// Waits for its end, and enforces it if need be.
    pub fn end(self) {
        if !self.ended_within(GRACE) {
            // Somebody still uses the mount: a process that the command left behind.
            drop(self.lifeline);
            let process = self.process;
            if !ended(&process, PATIENCE) {
                let _ = kill(self.pid, Signal::SIGKILL);
                ended(&process, PATIENCE);
            }
        }
        let _ = process::wait(Some(self.pid), Patience::Poll);
    }

    fn ended_within(&self, time: Duration) -> bool {
        ended(&self.process, time)
    }
}

fn ended(process: &OwnedFd, time: Duration) -> bool {
    let deadline = Deadline::after(time);
    loop {
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, deadline.timeout()) {
            Ok(0) | Err(Errno::EINTR) if deadline.passed() => return false,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

fn become_server(
    channel: Channel,
    fault: Option<Fault>,
    lifeline: Lifeline,
    device: OwnedFd,
    kept: &[RawFd],
    serve: impl FnOnce(&Reporter, Lifeline, OwnedFd) -> Result<(), Failure>,
) -> ! {
    let mut keep = vec![
        channel.as_fd().as_raw_fd(),
        lifeline.0.as_raw_fd(),
        device.as_raw_fd(),
    ];
    keep.extend(kept);
    let closed = process::close_all_but(&keep);
    let reporter = &Reporter::new(channel, fault);
    if let Err(error) = closed {
        reporter.say(&Message::Failed(Failure::system(
            Step::ForkServer,
            "",
            error,
        )));
        exit_now(125)
    }
    // Away from the caller's terminal: Ctrl-C there is for the command.
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(c"cntr-server");
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    // Whoever reads cntr's output must not wait for the server to end.
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
    }
    let _ = std::env::set_current_dir("/");
    let served = reporter
        .step(Step::Serve)
        .and_then(|()| serve(reporter, lifeline, device));
    match served {
        Ok(()) => exit_now(0),
        Err(failure) => {
            reporter.say(&Message::Failed(failure));
            exit_now(125)
        }
    }
}
