//! How the scheduler treats threads.

use std::io;

/// Makes the thread `thread` of this process run only where nobody else wants to (`SCHED_IDLE`), or as others do.
///
/// # Errors
/// `EPERM` where it may not come back from that (`CAP_SYS_NICE`); `ESRCH` if it has ended.
pub fn stand_back(thread: i32, back: bool) -> io::Result<()> {
    let policy = if back {
        libc::SCHED_IDLE
    } else {
        libc::SCHED_OTHER
    };
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameter` is a valid struct that outlives the call, which only reads it.
    match unsafe { libc::sched_setscheduler(thread, policy, &parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the calling thread is treated as others are, and not with a priority somebody has chosen.
#[must_use]
pub fn is_ordinary() -> bool {
    // SAFETY: takes no pointers.
    unsafe { libc::sched_getscheduler(0) == libc::SCHED_OTHER }
}

/// Whether the thread `thread` of this process runs or waits for a CPU; false if that cannot be told.
#[must_use]
pub fn is_runnable(thread: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
    // The name before it is in parentheses, and may have some of its own.
    stat.is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('R'))
    })
}

/// How many threads of the machine run or wait for a CPU, the caller among them.
///
/// # Errors
/// Those of reading `/proc/loadavg`.
pub fn runnable() -> io::Result<usize> {
    let loads = std::fs::read_to_string("/proc/loadavg")?;
    let found = loads.split_whitespace().nth(3);
    found
        .and_then(|field| field.split_once('/')?.0.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/loadavg says {}", loads.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_thread_is_runnable_and_a_sleeping_one_not() {
        assert!(is_runnable(crate::sys::thread::id()));
        assert!(runnable().unwrap() >= 1);
        assert!(!is_runnable(0));
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(crate::sys::thread::id()).unwrap();
            let _ = ends.recv();
        });
        let id = told.recv().unwrap();
        while is_runnable(id) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_stands_back_and_comes_forward() {
        let thread = std::thread::spawn(|| {
            let this = crate::sys::thread::id();
            assert!(is_ordinary());
            stand_back(this, true).unwrap();
            assert!(!is_ordinary());
            // Only who is privileged gets out of it again.
            if stand_back(this, false).is_ok() {
                assert!(is_ordinary());
            }
        });
        thread.join().unwrap();
    }
}
