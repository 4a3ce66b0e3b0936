//! A process that is held by a descriptor, so that its number cannot come to mean another one, and when it started.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::process::pidfd_open;

/// A moment as the kernel tells when a process started: in clock ticks since the machine was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Moment {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or((0, 0), |time| {
            (
                time.tv_sec().cast_unsigned(),
                time.tv_nsec().cast_unsigned(),
            )
        });
        let hertz = ticks_per_second();
        Moment(time.0 * hertz + time.1 * hertz / 1_000_000_000)
    }

    /// The moment that is called `ticks` in a file.
    #[must_use]
    pub fn from_ticks(ticks: u64) -> Moment {
        Moment(ticks)
    }

    /// What to call it in a file.
    #[must_use]
    pub fn ticks(self) -> u64 {
        self.0
    }

    /// The moment the process `pid` started; none if there is no such process.
    #[must_use]
    pub fn of_start(pid: Pid) -> Option<Moment> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name of the program may have spaces and parentheses in it. The state, which follows, is field 3 of proc(5).
        let (_, rest) = stat.rsplit_once(") ")?;
        let ticks = rest.split(' ').nth(22 - 3)?;
        ticks.parse().ok().map(Moment)
    }

    /// How long a tick takes.
    #[must_use]
    pub fn resolution() -> std::time::Duration {
        std::time::Duration::from_secs(1) / u32::try_from(ticks_per_second()).unwrap_or(100)
    }
}

fn ticks_per_second() -> u64 {
    sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|hertz| u64::try_from(hertz).ok())
        .filter(|hertz| *hertz > 0)
        .unwrap_or(100)
}

/// Why a process cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is none of that number.
    #[error("there is no such process")]
    Nobody,
    /// The number is that of a thread.
    #[error("it is a thread of process {0}")]
    Thread(Pid),
    /// The system refuses.
    #[error(transparent)]
    System(io::Error),
}

/// A process that is held.
#[derive(Debug)]
pub struct Pinned {
    pid: Pid,
    descriptor: OwnedFd,
}

impl Pinned {
    /// Holds the process that has the number `pid` now.
    ///
    /// # Errors
    /// See [`PinError`].
    pub fn open(pid: Pid) -> Result<Pinned, PinError> {
        let error = match pidfd_open(pid) {
            Ok(descriptor) => return Ok(Pinned { pid, descriptor }),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::ESRCH) => Err(PinError::Nobody),
            // What a thread gives before and since Linux 6.15.
            Some(libc::EINVAL | libc::ENOENT) => Err(match process_of(pid) {
                Some(process) if process != pid => PinError::Thread(process),
                _ => PinError::Nobody,
            }),
            _ => Err(PinError::System(error)),
        }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO) != Ok(0)
    }

    /// When it started; none if it has ended.
    #[must_use]
    pub fn started(&self) -> Option<Moment> {
        let moment = Moment::of_start(self.pid);
        // What was read is about this process if that has its number still.
        moment.filter(|_| !self.has_ended())
    }
}

impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The process that the thread `thread` belongs to.
fn process_of(thread: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    group.trim().parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_started_before_now_and_after_its_parent() {
        let own = Pinned::open(nix::unistd::getpid()).unwrap();
        let started = own.started().unwrap();
        assert!(!own.has_ended());
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let held = Pinned::open(Pid::from_raw(child.id().cast_signed())).unwrap();
        let later = held.started().unwrap();
        assert!(started <= later && later <= Moment::now());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(held.has_ended());
        assert_eq!(held.started(), None);
        assert!(matches!(
            Pinned::open(Pid::from_raw(child.id().cast_signed())),
            Err(PinError::Nobody)
        ));
    }

    #[test]
    fn threads_are_told_from_processes() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid()).unwrap();
            let _ = ended.recv();
        });
        let id = told.recv().unwrap();
        let error = Pinned::open(id).unwrap_err();
        drop(end);
        thread.join().unwrap();
        assert!(
            matches!(error, PinError::Thread(process) if process == nix::unistd::getpid()),
            "{error:?}"
        );
    }
}
