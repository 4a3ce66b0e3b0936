//! Processes: forking in the ways containers need, descriptors for processes, what is left behind at exec.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigHandler, Signal};
use nix::unistd::Pid;

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The process that forked, with the child as seen from its pid namespace.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Whose child the new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parenthood {
    /// The caller's.
    Caller,
    /// The caller's parent's: the caller may end at once and its parent still can wait for the new process.
    Sibling,
}

/// Forks, with new namespaces for the child if `namespaces` (`CLONE_NEW*`) says so.
///
/// The process must not have other threads: their locks would stay locked in the child for ever. This is checked.
///
/// # Errors
/// `EINVAL` if the process has threads, else those of clone(2).
pub fn fork(parenthood: Parenthood, namespaces: libc::c_int) -> io::Result<Fork> {
    // With one thread this changes nothing, with more it is EINVAL: the kernel's own test.
    // SAFETY: takes no pointers; a process with a single thread is not changed by it.
    if unsafe { libc::unshare(libc::CLONE_THREAD) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let parent = match parenthood {
        Parenthood::Caller => 0,
        Parenthood::Sibling => libc::CLONE_PARENT,
    };
    let flags = libc::SIGCHLD | parent | namespaces;
    // SAFETY: the process has one thread (checked above), memory is not shared (no CLONE_VM) and the null stack means
    // that the child goes on with a copy of the caller's, so both sides see a consistent process.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Fork::Child),
        Ok(pid) if pid > 0 => Ok(Fork::Parent(Pid::from_raw(pid))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process at once: no destructors, no buffers flushed, nothing that belongs to the process it was forked from.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return, so nothing can be observed half done by this process.
    unsafe { libc::_exit(code) }
}

/// A descriptor of the process `pid`; readable when it has ended. It never means another process of the same number.
///
/// # Errors
/// `ESRCH` if there is no such process, `ENOSYS` before Linux 5.3.
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = i32::try_from(fd)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the system call has just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether this program was executed with more privileges than its caller has: with file capabilities, or with another
/// user id. The loader and the C library then heed no variables that would let the caller run code of their own in it.
#[must_use]
pub fn is_secure() -> bool {
    // SAFETY: reads a value that the kernel has left in memory of the process.
    (unsafe { libc::getauxval(libc::AT_SECURE) }) != 0
}

/// Marks every descriptor from `first` on to be closed by exec.
///
/// # Errors
/// Those of close_range(2) and fcntl(2).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes no pointers, and closes nothing before exec, so no descriptor that somebody owns becomes invalid.
    let done =
        unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    if done == 0 {
        return Ok(());
    }
    // Before Linux 5.11: one by one, up to the limit.
    let (limit, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    for fd in first..u32::try_from(limit).unwrap_or(1 << 20).min(1 << 20) {
        // SAFETY: changes a flag of a number; a number that is not open is EBADF.
        unsafe { libc::fcntl(fd.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Leaves the session keyring of whoever started this process for an empty one.
///
/// # Errors
/// `ENOSYS` without keyrings, `EDQUOT`.
pub fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the only pointer is null, which asks for an anonymous keyring.
    let id = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    if id < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Gives `signal` its default action.
///
/// # Errors
/// `EINVAL` for SIGKILL and SIGSTOP.
pub fn default_signal(signal: Signal) -> io::Result<()> {
    // SAFETY: no handler is installed, so nothing can run at an unexpected point.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }
        .map(drop)
        .map_err(io::Error::from)
}

/// Allows this process as many descriptors as it may have: the soft limit protects programs that use select(2), which none
/// of ours does.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// What happened to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended by itself, with this code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// It is stopped.
    Stopped,
}

/// Whether to wait for news of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until there is some.
    Wait,
    /// Only what there is.
    Poll,
}

/// The next news of `child`, or of any child; `None` if there is none at the moment. Unlike nix's it knows real-time
/// signals.
///
/// # Errors
/// `ECHILD` without children.
pub fn wait(child: Option<Pid>, patience: Patience) -> io::Result<Option<(Pid, Change)>> {
    let flags = libc::WUNTRACED
        | if patience == Patience::Poll {
            libc::WNOHANG
        } else {
            0
        };
    loop {
        let mut status = 0;
        // SAFETY: writes one int, which outlives the call.
        let pid = unsafe { libc::waitpid(child.map_or(-1, Pid::as_raw), &raw mut status, flags) };
        let change = match pid {
            0 => return Ok(None),
            pid if pid > 0 && libc::WIFEXITED(status) => Change::Exited(libc::WEXITSTATUS(status)),
            pid if pid > 0 && libc::WIFSIGNALED(status) => Change::Killed(libc::WTERMSIG(status)),
            pid if pid > 0 && libc::WIFSTOPPED(status) => Change::Stopped,
            pid if pid > 0 => continue,
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(error),
            },
        };
        return Ok(Some((Pid::from_raw(pid), change)));
    }
}

/// Closes every descriptor but 0, 1, 2 and `keep`, in a process that was just forked and never goes back to what its
/// parent was doing: whatever else that has open would be pinned. The caller must not touch, nor drop, an object that
/// owns another descriptor afterwards.
///
/// # Errors
/// Those of close_range(2).
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for next in kept.into_iter().chain([u32::MAX]) {
        if first < next {
            // SAFETY: takes no pointers. That nobody uses what is closed is the caller's promise; breaking it gives
            // EBADF, or closes a descriptor of another object, but touches no memory.
            let closed = unsafe { libc::close_range(first, next - 1, 0) };
            if closed != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = first.max(next.saturating_add(1));
    }
    Ok(())
}

/// Closes every descriptor from `first` on and goes on with `then`, for a process that stays without exec what it was
/// forked to be.
pub fn close_from(first: u32, then: fn() -> !) -> ! {
    // SAFETY: closes descriptors that objects of this process own; none of them is used or dropped afterwards, because
    // `then` captures nothing and never returns.
    unsafe { libc::close_range(first, u32::MAX, 0) };
    then()
}

/// Whether the thread `thread` has a signal pending that it neither blocks nor ignores. Not if that cannot be told.
#[must_use]
pub fn has_pending_signal(thread: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let pending = mask("SigPnd:").unwrap_or(0) | mask("ShdPnd:").unwrap_or(0);
    let unwanted = mask("SigBlk:").unwrap_or(u64::MAX) | mask("SigIgn:").unwrap_or(u64::MAX);
    pending & !unwanted != 0
}
