//! `cntr stat --watch`: a frame for each interval, until enough were shown, Ctrl-C, or the end of the server.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::screen::Screen;
use crate::control::{self, ControlError, Report, Request};

/// How long a server that does not answer may take to end.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Time between two frames.
    pub interval: Duration,
    /// How many frames; `None` for no limit.
    pub count: Option<u64>,
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Time,
    Interrupted,
    Resized,
    ServerEnded,
}

impl Watch {
    /// Shows what happens at the server of `report` on `screen`, each frame as `frame` makes it.
    ///
    /// # Errors
    /// [`ControlError`]; [`ControlError::Ended`] if the server ends. Those of writing.
    pub fn run(
        &self,
        report: Report,
        mut screen: Screen,
        frame: impl Fn(&Report) -> anyhow::Result<Vec<String>>,
    ) -> anyhow::Result<ExitCode> {
        let (connection, pid) = (report.connection, report.pid);
        let bell = Bell::new(pid)?;
        if screen.is_terminal() {
            // Something to look at meanwhile.
            screen.show(frame(&report)?)?;
        }
        let mut before = report;
        let mut deadline = Instant::now();
        let mut shown = 0;
        while self.count.is_none_or(|count| shown < count) {
            deadline = (deadline + self.interval).max(Instant::now());
            loop {
                match bell.wait(deadline)? {
                    Event::Time => break,
                    Event::Resized => screen.resized()?,
                    Event::Interrupted => {
                        screen.interrupted()?;
                        return Ok(ExitCode::SUCCESS);
                    }
                    Event::ServerEnded => return Err(ControlError::Ended(pid).into()),
                }
            }
            // The server, not whatever is mounted there now.
            let now = match control::ask(connection, pid, Request { histograms: true }) {
                Ok(now) => now,
                Err(_) if bell.server_has_ended(LAST_MOMENT) => {
                    return Err(ControlError::Ended(pid).into());
                }
                Err(error) => return Err(error.into()),
            };
            screen.show(frame(&now.since(&before))?)?;
            before = now;
            shown += 1;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What may end a wait.
struct Bell {
    signals: SignalFd,
    /// `None` if the server has ended, or is out of sight.
    server: Option<OwnedFd>,
}

impl Bell {
    /// From now on SIGINT and SIGWINCH come from [`wait`](Self::wait) only.
    fn new(pid: u32) -> anyhow::Result<Bell> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGWINCH);
        signals.thread_block().context("cannot block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags).context("cannot wait for signals")?;
        let server = i32::try_from(pid)
            .ok()
            .and_then(|pid| crate::sys::process::pidfd_open(Pid::from_raw(pid)).ok());
        Ok(Bell { signals, server })
    }

    /// Waits until something happens, at most until `deadline`.
    fn wait(&self, deadline: Instant) -> anyhow::Result<Event> {
        loop {
            if let Some(signal) = self.signals.read_signal().context("cannot read signals")? {
                let interrupt = signal.ssi_signo == Signal::SIGINT as u32;
                return Ok(if interrupt {
                    Event::Interrupted
                } else {
                    Event::Resized
                });
            }
            if self.server_has_ended(Duration::ZERO) {
                return Ok(Event::ServerEnded);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Event::Time);
            }
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if let Some(server) = &self.server {
                fds.push(PollFd::new(server.as_fd(), PollFlags::POLLIN));
            }
            wait_for(&mut fds, left).context("cannot wait")?;
        }
    }

    /// Whether the server has ended, or does within `patience`.
    fn server_has_ended(&self, patience: Duration) -> bool {
        let Some(server) = &self.server else {
            return false;
        };
        let mut fds = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
        wait_for(&mut fds, patience).is_ok_and(|ready| ready > 0)
    }
}

/// Waits for one of `fds`; at most for `time`, rounded up to milliseconds.
fn wait_for(fds: &mut [PollFd<'_>], time: Duration) -> nix::Result<i32> {
    let milliseconds = time.as_nanos().div_ceil(1_000_000);
    let timeout = i32::try_from(milliseconds).unwrap_or(i32::MAX);
    match poll(
        fds,
        PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX),
    ) {
        Err(Errno::EINTR) => Ok(0),
        result => result,
    }
}
