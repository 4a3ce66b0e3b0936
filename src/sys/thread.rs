//! Signalling a single thread.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
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

/// CPUs the calling thread may run on.
///
/// # Errors
/// Those of sched_getaffinity(2); none in practice.
pub fn allowed_cpus() -> io::Result<CpuSet> {
    sched_getaffinity(nix::unistd::Pid::from_raw(0)).map_err(io::Error::from)
}

/// Keeps the calling thread on `cpu` if that is one of `allowed`, and on any of those if not. Returns whether it stays
/// on `cpu`.
pub fn stay_on(cpu: usize, allowed: &CpuSet) -> bool {
    let this = nix::unistd::Pid::from_raw(0);
    let mut one = CpuSet::new();
    if allowed.is_set(cpu).unwrap_or(false)
        && one.set(cpu).is_ok()
        && sched_setaffinity(this, &one).is_ok()
    {
        return true;
    }
    // A new thread may run where the one that started it may.
    let _ = sched_setaffinity(this, allowed);
    false
}

/// Numbers of the CPUs this machine can ever have, from `list` as in `/sys/devices/system/cpu/possible`: ranges and
/// numbers separated by commas.
#[must_use]
pub fn parse_cpus(list: &str) -> Option<Vec<u16>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

/// Id of the calling thread.
#[must_use]
pub fn id() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// Interrupts the system call the thread `thread` of this process is blocked in. Harmless if it is not, or has ended.
pub fn interrupt(thread: i32) {
    let process = nix::unistd::getpid().as_raw();
    // SAFETY: takes no pointers; a thread id that is no longer in use gives ESRCH, and the signal has no effect on
    // another thread of this process.
    let _ = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, INTERRUPT as libc::c_int) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpus("0-1\n"), Some(vec![0, 1]));
        assert_eq!(parse_cpus("0"), Some(vec![0]));
        assert_eq!(parse_cpus("0-2,8,10-11"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(parse_cpus(""), None);
        assert_eq!(parse_cpus("0-x"), None);
    }

    #[test]
    fn a_thread_stays_on_its_cpu() {
        let allowed = allowed_cpus().unwrap();
        let cpu = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap());
        let cpu = cpu.expect("at least one CPU is allowed");
        let thread = std::thread::spawn(move || {
            assert!(stay_on(cpu, &allowed));
            assert!(!stay_on(CpuSet::count(), &allowed));
            allowed_cpus().unwrap() == allowed
        });
        assert!(thread.join().unwrap());
    }
}
