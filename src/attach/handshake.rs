//! What the processes of a session tell each other while it is set up.
//!
//! The supervisor (cntr itself) is never without a deadline, and never believes a silent peer: every process announces
//! the step it is about to take, reports a failure with the step, and the end of the channel without a word means that
//! it died. The channel is closed by exec, which is how the supervisor learns that the command runs.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::step::{Fault, FaultKind, Step};
use crate::sys::channel::Channel;
use crate::sys::process::exit_now;

/// How long the whole set-up may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Why a step failed: the step, the object, the system's error, the remedy.
#[derive(Clone, Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// What was being done.
    pub step: Step,
    /// To what: a path, a namespace, a process; may be empty.
    pub object: String,
    /// Why not.
    pub reason: String,
    /// The system's error number, if it was the system that refused.
    pub errno: Option<i32>,
    /// What the user can do about it.
    pub remedy: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot {}", self.step)?;
        if !self.object.is_empty() {
            write!(out, " ({})", self.object)?;
        }
        write!(out, ": {}", self.reason)?;
        self.remedy
            .as_ref()
            .map_or(Ok(()), |remedy| write!(out, "; {remedy}"))
    }
}

impl Failure {
    /// A failure for a reason of ours.
    pub fn new(step: Step, object: impl Into<String>, reason: impl Into<String>) -> Failure {
        Failure {
            step,
            object: object.into(),
            reason: reason.into(),
            errno: None,
            remedy: None,
        }
    }

    /// A failure because the system said so.
    pub fn system(step: Step, object: impl Into<String>, error: impl Into<io::Error>) -> Failure {
        let error: io::Error = error.into();
        let errno = error.raw_os_error();
        // The text of the error number alone: "(os error 2)" helps nobody.
        let reason = errno.map_or_else(
            || error.to_string(),
            |n| nix::errno::Errno::from_raw(n).desc().to_owned(),
        );
        let remedy = match errno {
            // Later steps are taken as the target's user, for whom that is no remedy.
            Some(libc::EPERM | libc::EACCES)
                if step <= Step::Credentials && !nix::unistd::geteuid().is_root() =>
            {
                Some(
                    "run cntr as root, or with CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_SYS_CHROOT"
                        .to_owned(),
                )
            }
            Some(libc::EAGAIN) if step == Step::ForkCommand => {
                Some("the limit of processes (pids cgroup or RLIMIT_NPROC) is reached".to_owned())
            }
            _ => None,
        };
        Failure {
            step,
            object: object.into(),
            reason,
            errno,
            remedy,
        }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Failure {
        self.remedy = Some(remedy.into());
        self
    }
}

/// One message to the supervisor.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub enum Message {
    /// This step comes next.
    Step(Step),
    /// Something to tell with `-v`.
    Note(String),
    /// Something to tell always: the session is not all it should be.
    Warning(String),
    /// The server serves; what it negotiated.
    Serving(String),
    /// The process that will be the command, as a host pid; its mount namespace comes with it.
    Command(i32),
    /// The master of the command's terminal comes with this message.
    Terminal,
    /// The command is executed next; the end of the channel means success.
    Executing,
    /// The set-up failed.
    Failed(Failure),
}

/// The end of a process that is being set up.
pub struct Reporter {
    channel: Channel,
    fault: Option<Fault>,
}

impl Reporter {
    /// Reports on `channel`; fails where `fault` says.
    #[must_use]
    pub fn new(channel: Channel, fault: Option<Fault>) -> Reporter {
        Reporter { channel, fault }
    }

    /// Says something. If nobody listens any more this process has no purpose and ends.
    pub fn say(&self, message: &Message) {
        self.say_with(message, None);
    }

    /// Says something and hands over a descriptor.
    pub fn say_with(&self, message: &Message, descriptor: Option<BorrowedFd<'_>>) {
        let text = serde_json::to_vec(message).expect("messages have no maps with odd keys");
        if self.channel.send(&text, descriptor).is_err() {
            exit_now(125);
        }
    }

    /// Announces a step; the place where faults are injected.
    ///
    /// # Errors
    /// The injected one.
    pub fn step(&self, step: Step) -> Result<(), Failure> {
        self.say(&Message::Step(step));
        inject(self.fault, step)
    }

    /// Tells something for `-v`.
    pub fn note(&self, text: impl Into<String>) {
        self.say(&Message::Note(text.into()));
    }

    /// Tells something the user should know.
    pub fn warn(&self, text: impl Into<String>) {
        self.say(&Message::Warning(text.into()));
    }
}

/// Fails if `fault` is meant for `step`.
///
/// # Errors
/// The injected one.
pub fn inject(fault: Option<Fault>, step: Step) -> Result<(), Failure> {
    match fault
        .filter(|fault| fault.step == step)
        .map(|fault| fault.kind)
    {
        None => Ok(()),
        Some(FaultKind::Error) => Err(Failure::new(step, "", "fault injected")),
        Some(FaultKind::Kill) => {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            exit_now(125);
        }
        Some(FaultKind::Hang) => loop {
            nix::unistd::pause();
        },
    }
}

/// A point in time by which everything must have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// `duration` from now.
    #[must_use]
    pub fn after(duration: Duration) -> Deadline {
        Deadline(Instant::now() + duration)
    }

    /// What is left, for poll(2).
    #[must_use]
    pub fn timeout(self) -> PollTimeout {
        let left = self.0.saturating_duration_since(Instant::now());
        PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// What a listener got.
#[derive(Debug)]
pub enum Heard {
    /// A message.
    Message(Message, Option<OwnedFd>),
    /// The other end is closed everywhere.
    End,
    /// Nothing in time.
    Silence,
    /// `interrupt` became readable.
    Interrupted,
}

/// The supervisor's end.
pub struct Listener {
    channel: Channel,
    last: Step,
}

impl Listener {
    /// Listens on `channel`; `first` is the step a peer that never says anything is assumed to be at.
    #[must_use]
    pub fn new(channel: Channel, first: Step) -> Listener {
        Listener {
            channel,
            last: first,
        }
    }

    /// The last step announced.
    #[must_use]
    pub fn last_step(&self) -> Step {
        self.last
    }

    /// Waits for the next message, until `deadline` or until `interrupt` is readable.
    ///
    /// # Errors
    /// Those of poll(2) and recvmsg(2).
    pub fn hear(&mut self, deadline: Deadline, interrupt: BorrowedFd<'_>) -> io::Result<Heard> {
        loop {
            let mut fds = [
                PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
                PollFd::new(interrupt, PollFlags::POLLIN),
            ];
            match poll(&mut fds, deadline.timeout()) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(0) if deadline.passed() => return Ok(Heard::Silence),
                Ok(_) => {}
            }
            if fds[0].any() == Some(true) {
                let Some((bytes, descriptor)) = self.channel.receive()? else {
                    return Ok(Heard::End);
                };
                let Ok(message) = serde_json::from_slice(&bytes) else {
                    continue;
                };
                if let Message::Step(step) = message {
                    self.last = step;
                    continue;
                }
                return Ok(Heard::Message(message, descriptor));
            }
            if fds[1].any() == Some(true) {
                return Ok(Heard::Interrupted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_descriptors_and_the_end_arrive() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (quiet, _keep) = nix::unistd::pipe().unwrap();
        let mut listener = Listener::new(ours, Step::OpenTarget);
        let reporter = Reporter::new(theirs, "serve".parse().ok());
        reporter.step(Step::MakeView).unwrap();
        assert!(reporter.step(Step::Serve).is_err());
        reporter.say_with(&Message::Terminal, Some(quiet.as_fd()));
        let soon = Deadline::after(Duration::from_secs(5));
        let Ok(Heard::Message(Message::Terminal, Some(_))) = listener.hear(soon, quiet.as_fd())
        else {
            panic!()
        };
        assert_eq!(listener.last_step(), Step::Serve);
        let past = Deadline::after(Duration::ZERO);
        assert!(matches!(
            listener.hear(past, quiet.as_fd()),
            Ok(Heard::Silence)
        ));
        drop(reporter);
        assert!(matches!(listener.hear(soon, quiet.as_fd()), Ok(Heard::End)));
    }
}
