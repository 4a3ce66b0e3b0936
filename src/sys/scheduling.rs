//! How the scheduler treats threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

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

/// A file of `/proc` that is read again and again.
#[derive(Debug)]
struct Report(File);

impl Report {
    /// Its beginning.
    fn read<'a>(&self, room: &'a mut [u8; 256]) -> io::Result<&'a str> {
        let len = self.0.read_at(room, 0)?;
        let text = room[..len].utf8_chunks().next();
        Ok(text.map_or("", |chunk| chunk.valid()))
    }
}

/// Whether a thread wants to run.
#[derive(Debug)]
pub struct ThreadState(Report);

impl ThreadState {
    /// That of the thread `thread` of this process.
    ///
    /// # Errors
    /// `ENOENT` if it has ended; `EMFILE`.
    pub fn of(thread: i32) -> io::Result<ThreadState> {
        let stat = File::open(format!("/proc/self/task/{thread}/stat"))?;
        Ok(ThreadState(Report(stat)))
    }

    /// Whether the thread runs or waits for a CPU; false if that cannot be told.
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        // The name before it is in parentheses, and may have some of its own.
        self.0.read(&mut [0; 256]).is_ok_and(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('R'))
        })
    }
}

/// How many threads of the machine want to run.
#[derive(Debug)]
pub struct Crowd(Report);

impl Crowd {
    /// That of this machine.
    ///
    /// # Errors
    /// Those of opening `/proc/loadavg`.
    pub fn new() -> io::Result<Crowd> {
        File::open("/proc/loadavg").map(|loads| Crowd(Report(loads)))
    }

    /// How many threads run or wait for a CPU now, the caller among them.
    ///
    /// # Errors
    /// Those of reading `/proc/loadavg`.
    pub fn count(&self) -> io::Result<usize> {
        let mut room = [0; 256];
        let loads = self.0.read(&mut room)?;
        let found = loads.split_whitespace().nth(3);
        found
            .and_then(|field| field.split_once('/')?.0.parse().ok())
            .ok_or_else(|| io::Error::other(format!("/proc/loadavg says {}", loads.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_thread_is_runnable_and_a_sleeping_one_not() {
        let own = ThreadState::of(crate::sys::thread::id()).unwrap();
        assert!(own.is_runnable());
        let crowd = Crowd::new().unwrap();
        assert!(crowd.count().unwrap() >= 1);
        assert!(crowd.count().unwrap() >= 1);
        assert!(ThreadState::of(0).is_err());
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(crate::sys::thread::id()).unwrap();
            let _ = ends.recv();
        });
        let other = ThreadState::of(told.recv().unwrap()).unwrap();
        while other.is_runnable() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        drop(end);
        thread.join().unwrap();
        assert!(!other.is_runnable());
        assert!(own.is_runnable());
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
