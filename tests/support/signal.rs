//! Interrupting a thread that is blocked in a system call.

use std::fs;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::thread::{Pid, gettid};

use super::wait;

extern "C" fn nothing(_: libc::c_int) {}

/// A thread, for others to look at and to interrupt.
#[derive(Clone, Copy)]
pub struct ThreadId(Pid);

impl ThreadId {
    /// The calling thread.
    pub fn current() -> ThreadId {
        ThreadId(gettid())
    }

    /// Waits until the thread sleeps in this system call.
    pub fn wait_until_in(self, call: libc::c_long) -> bool {
        let path = format!("/proc/self/task/{}/syscall", self.0.as_raw_nonzero());
        wait::until(wait::LONG, || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            text.split_ascii_whitespace()
                .next()
                .and_then(|number| number.parse().ok())
                == Some(call)
        })
    }

    /// Makes the system call the thread is in return EINTR.
    pub fn interrupt(self) {
        let action = SigAction::new(
            SigHandler::Handler(nothing),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing, so it may run at any point of any thread.
        let installed = unsafe { sigaction(Signal::SIGUSR1, &action) };
        installed.expect("SIGUSR1 can be handled");
        let (process, thread) = (std::process::id(), self.0.as_raw_nonzero().get());
        // SAFETY: tgkill takes three numbers; a thread that has ended gives an error.
        let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
        let gone = std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
        assert!(result == 0 || gone, "the thread can be signalled");
    }
}
