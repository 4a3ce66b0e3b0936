//! Waiting for a command: signals to it, its terminal's bytes both ways, its end.
//!
//! The session ends when the command ends, whoever else still holds the terminal. Without a terminal the command has
//! cntr's own standard streams and nothing is copied.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg, pthread_sigmask, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, read, write};

use super::pty::{RawMode, copy_size, is_terminal, stdin, stdout};
use crate::sys::process::{self, Change, Patience};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell shows for it.
    #[must_use]
    pub fn code(self) -> u8 {
        let code = match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        };
        u8::try_from(code & 0xff).unwrap_or(u8::MAX)
    }
}

/// Signals that are passed on to the command.
const FORWARDED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The signals cntr takes care of, as a descriptor; blocked for normal delivery until dropped.
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks them.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn block() -> io::Result<Signals> {
        let mut set: SigSet = FORWARDED.into_iter().collect();
        for signal in [Signal::SIGCHLD, Signal::SIGWINCH, Signal::SIGTSTP] {
            set.add(signal);
        }
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd, before })
    }

    /// The mask a new program should start with.
    #[must_use]
    pub fn before(&self) -> SigSet {
        self.before
    }

    /// Readable when a signal is pending.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next pending signal that should end the set-up; others are dropped.
    #[must_use]
    pub fn take_fatal(&self) -> Option<Signal> {
        while let Ok(Some(info)) = self.fd.read_signal() {
            let signal = Signal::try_from(info.ssi_signo.cast_signed()).ok();
            if let Some(signal) = signal.filter(|signal| FORWARDED.contains(signal)) {
                return Some(signal);
            }
        }
        None
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// The command's terminal, from the outside.
pub struct Terminal {
    master: OwnedFd,
    /// None if standard input is no terminal.
    raw: Option<RawMode>,
    /// Typed but not yet taken by the command.
    typed: VecDeque<u8>,
    input: bool,
    output: bool,
}

/// What a terminal takes for the end of the input: Ctrl-D, unless its modes are changed.
const END_OF_INPUT: u8 = 4;

/// What may be typed ahead.
const TYPE_AHEAD: usize = 64 << 10;

impl Terminal {
    /// Connects the caller's terminal to the pty with this `master`. If standard input is none, all that is typed is the end
    /// of the input.
    ///
    /// # Errors
    /// Those of tcsetattr(3).
    pub fn new(master: OwnedFd) -> io::Result<Terminal> {
        fcntl(
            &master,
            FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK),
        )?;
        copy_size(master.as_fd());
        let typing = is_terminal(stdin());
        Ok(Terminal {
            master,
            raw: typing.then(RawMode::enter).transpose()?,
            typed: if typing {
                VecDeque::new()
            } else {
                VecDeque::from([END_OF_INPUT])
            },
            input: typing,
            output: true,
        })
    }

    /// Copies what the command wrote; false if there is nothing at the moment.
    fn copy_output(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match read(&self.master, &mut buffer) {
            Ok(0) | Err(Errno::EIO) => self.output = false,
            Ok(len) => {
                write_all(stdout(), &buffer[..len]);
                return true;
            }
            Err(Errno::EINTR) => return true,
            Err(_) => {}
        }
        false
    }

    fn copy_input(&mut self) {
        let mut buffer = [0; 4 << 10];
        match read(stdin(), &mut buffer) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // The terminal is gone: nothing can be typed any more.
            Ok(0) | Err(_) => self.input = false,
            Ok(len) => self.typed.extend(&buffer[..len]),
        }
    }

    fn flush_input(&mut self) {
        let (part, _) = self.typed.as_slices();
        match write(&self.master, part) {
            Ok(len) => drop(self.typed.drain(..len)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.typed.clear(),
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
                if poll(&mut fds, PollTimeout::NONE).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Waits for `command`, a child of the caller, and serves it meanwhile. `others` is called with every other child that
/// ends.
///
/// # Errors
/// Those of poll(2) and waitpid(2).
pub fn supervise(
    command: Pid,
    mut terminal: Option<Terminal>,
    signals: &Signals,
    mut others: impl FnMut(Pid, Exit),
) -> io::Result<Exit> {
    loop {
        if let Some(exit) = reap(command, terminal.as_ref(), &mut others)? {
            // What the command wrote last is still in the pty; a process it left behind may go on writing for ever.
            for _ in 0..256 {
                if !terminal.as_mut().is_some_and(Terminal::copy_output) {
                    break;
                }
            }
            return Ok(exit);
        }
        wait(terminal.as_mut(), signals)?;
        while let Ok(Some(info)) = signals.fd.read_signal() {
            let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) else {
                continue;
            };
            match signal {
                Signal::SIGCHLD => {}
                Signal::SIGWINCH => {
                    if let Some(terminal) = &terminal {
                        copy_size(terminal.master.as_fd());
                    }
                }
                Signal::SIGTSTP => stop(command, terminal.as_ref()),
                // A key on cntr's terminal is meant for the whole job, a signal from a process for the command alone.
                _ if info.ssi_code == KERNEL => drop(killpg(command, signal)),
                _ => drop(kill(command, signal)),
            }
        }
    }
}

/// `SI_KERNEL`: the signal came from the terminal.
const KERNEL: i32 = 0x80;

/// Stops the command and cntr, as a job that consists of both.
fn stop(command: Pid, terminal: Option<&Terminal>) {
    let _ = killpg(command, Signal::SIGSTOP);
    pause_self(terminal);
    let _ = killpg(command, Signal::SIGCONT);
}

/// Stops cntr until somebody continues it.
fn pause_self(terminal: Option<&Terminal>) {
    let raw = terminal.and_then(|terminal| terminal.raw.as_ref());
    if let Some(raw) = raw {
        raw.suspend();
    }
    let _ = raise(Signal::SIGSTOP);
    if let Some(raw) = raw {
        raw.resume();
    }
    if let Some(terminal) = terminal {
        copy_size(terminal.master.as_fd());
    }
}

fn reap(
    command: Pid,
    terminal: Option<&Terminal>,
    others: &mut impl FnMut(Pid, Exit),
) -> io::Result<Option<Exit>> {
    while let Some((pid, change)) = process::wait(None, Patience::Poll)? {
        let exit = match change {
            Change::Exited(code) => Exit::Code(code),
            Change::Killed(signal) => Exit::Signal(signal),
            Change::Stopped if pid == command => {
                // A stopped command means a stopped job: whoever started cntr must get its terminal back.
                pause_self(terminal);
                let _ = killpg(command, Signal::SIGCONT);
                continue;
            }
            Change::Stopped => continue,
        };
        if pid == command {
            return Ok(Some(exit));
        }
        others(pid, exit);
    }
    Ok(None)
}

/// Waits for a signal, copying the terminal's bytes meanwhile. What is at its end is not polled any more.
fn wait(terminal: Option<&mut Terminal>, signals: &Signals) -> io::Result<()> {
    let Some(terminal) = terminal else {
        let mut fds = [PollFd::new(signals.fd(), PollFlags::POLLIN)];
        return match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        };
    };
    let (ready_master, ready_stdin) = {
        let mut master = PollFlags::empty();
        master.set(PollFlags::POLLIN, terminal.output);
        master.set(PollFlags::POLLOUT, !terminal.typed.is_empty());
        let mut fds = vec![PollFd::new(signals.fd(), PollFlags::POLLIN)];
        let master = (!master.is_empty()).then(|| {
            fds.push(PollFd::new(terminal.master.as_fd(), master));
            fds.len() - 1
        });
        let typed = (terminal.input && terminal.typed.len() < TYPE_AHEAD).then(|| {
            fds.push(PollFd::new(stdin(), PollFlags::POLLIN));
            fds.len() - 1
        });
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let events = |at: Option<usize>| {
            at.and_then(|at| fds[at].revents())
                .unwrap_or(PollFlags::empty())
        };
        (events(master), events(typed))
    };
    if ready_master.contains(PollFlags::POLLOUT) {
        terminal.flush_input();
    }
    if ready_master.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
        terminal.copy_output();
    }
    if !ready_stdin.is_empty() {
        terminal.copy_input();
    }
    Ok(())
}
