//! Signalling a single thread.

use std::io;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};

/// The signal that makes a blocking system call of a thread return `EINTR`. Nothing else in the process uses it.
const INTERRUPT: Signal = Signal::SIGURG;

extern "C" fn wake(_signal: libc::c_int) {}

/// Gives the interrupt signal a handler that does nothing, so that it interrupts system calls and no more.
///
/// # Errors
/// Those of sigaction(2); none in practice.
pub fn install_interrupt() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(wake), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it is safe at any point of any thread.
    unsafe { nix::sys::signal::sigaction(INTERRUPT, &action) }
        .map(drop)
        .map_err(io::Error::from)
}

/// Blocks every signal but the interrupt signal for the calling thread: others are for the main thread.
///
/// # Errors
/// Those of pthread_sigmask(3); none in practice.
pub fn accept_only_interrupt() -> io::Result<()> {
    let mut set = SigSet::all();
    set.remove(INTERRUPT);
    nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&set), None)
        .map_err(io::Error::from)
}

/// Id of the calling thread.
#[must_use]
pub fn id() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// Interrupts the system call the thread `thread` of this process is blocked in. Harmless if it is not, or has ended.
pub fn interrupt(thread: i32) {
    // SAFETY: takes no pointers; a thread id that is no longer in use gives ESRCH, and the signal has no effect on
    // another thread of this process.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_tgkill,
            libc::getpid(),
            thread,
            INTERRUPT as libc::c_int,
        )
    };
}
