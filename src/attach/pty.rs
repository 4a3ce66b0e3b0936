//! Terminals: a pty for the command, raw mode for the caller's terminal.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::sys::terminal;

/// Both ends of a pty.
#[derive(Debug)]
pub struct Pty {
    /// The relaying side.
    pub master: OwnedFd,
    /// The command's side.
    pub slave: OwnedFd,
}

/// The descriptor of standard input as long as the process runs.
#[must_use]
pub fn stdin() -> BorrowedFd<'static> {
    static STDIN: std::sync::OnceLock<io::Stdin> = std::sync::OnceLock::new();
    STDIN.get_or_init(io::stdin).as_fd()
}

/// The descriptor of standard output as long as the process runs.
#[must_use]
pub fn stdout() -> BorrowedFd<'static> {
    static STDOUT: std::sync::OnceLock<io::Stdout> = std::sync::OnceLock::new();
    STDOUT.get_or_init(io::stdout).as_fd()
}

/// Whether `fd` is a terminal.
#[must_use]
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    nix::unistd::isatty(fd) == Ok(true)
}

/// Whether a command needs a terminal: if cntr has one on both sides.
#[must_use]
pub fn wanted() -> bool {
    is_terminal(stdin()) && is_terminal(stdout())
}

impl Pty {
    /// Opens a pty in the devpts the caller sees: that of `/dev/ptmx`, else that of `/dev/pts/ptmx`.
    ///
    /// # Errors
    /// There is none, or the caller may not.
    pub fn open() -> io::Result<Pty> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let at = |path: &str| -> io::Result<Pty> {
            let master = open(path, flags, Mode::empty())?;
            terminal::unlock(master.as_fd())?;
            let slave = terminal::open_peer(master.as_fd())?;
            Ok(Pty { master, slave })
        };
        at("/dev/ptmx").or_else(|_| at("/dev/pts/ptmx"))
    }

    /// Makes the slave the controlling terminal of the calling process, which leads a new session, and its standard
    /// input, output and, if that was a terminal, error.
    ///
    /// # Errors
    /// Those of setsid(2), ioctl(2) and dup2(2).
    pub fn take_over(slave: BorrowedFd<'_>) -> io::Result<()> {
        terminal::control(slave)?;
        nix::unistd::dup2_stdin(slave)?;
        nix::unistd::dup2_stdout(slave)?;
        if nix::unistd::isatty(io::stderr()) == Ok(true) {
            nix::unistd::dup2_stderr(slave)?;
        }
        Ok(())
    }
}

/// Raw mode of the caller's terminal, until dropped.
pub struct RawMode {
    terminal: File,
    before: Termios,
    raw: Termios,
}

impl RawMode {
    /// Puts the terminal on standard input into raw mode.
    ///
    /// # Errors
    /// It is no terminal.
    pub fn enter() -> io::Result<RawMode> {
        let terminal = File::from(stdin().try_clone_to_owned()?);
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // A process in the background that sets modes is stopped: as it should be here, the terminal is not ours then.
        tcsetattr(&terminal, SetArg::TCSADRAIN, &raw)?;
        Ok(RawMode {
            terminal,
            before,
            raw,
        })
    }

    fn set(&self, modes: &Termios) {
        // When giving the terminal back, being in the background must not stop us.
        let mut quiet = SigSet::empty();
        quiet.add(Signal::SIGTTOU);
        let mut before = SigSet::empty();
        let blocked =
            pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&quiet), Some(&mut before)).is_ok();
        // The terminal may be gone, which is no concern of ours.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, modes);
        if blocked {
            let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        }
    }

    /// Gives the terminal back for a while, as when cntr is stopped.
    pub fn suspend(&self) {
        self.set(&self.before);
    }

    /// Takes it again.
    pub fn resume(&self) {
        self.set(&self.raw);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.suspend();
    }
}

/// Gives `master` the size of the caller's terminal.
pub fn copy_size(master: BorrowedFd<'_>) {
    if let Ok(size) = terminal::size(stdin()).or_else(|_| terminal::size(stdout())) {
        // Fails only if the command's side is gone, and then nobody looks at the size.
        let _ = terminal::set_size(master, &size);
    }
}
