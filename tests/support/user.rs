//! Acting as another user, in one thread of the test.
//!
//! Ids and umask are per thread in the kernel (the C library is what spreads them over the process), so that threads
//! can act as different users at once.

use std::thread;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Gid, Mode, Uid};
use rustix::process::umask;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Who acts, and with which umask.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'static [u32],
    pub umask: u32,
}

/// The administrator.
pub const ROOT: User = User {
    uid: 0,
    gid: 0,
    groups: &[],
    umask: 0o022,
};
/// An ordinary user with a supplementary group.
pub const ALICE: User = User {
    uid: 1000,
    gid: 1000,
    groups: &[1000, 2000],
    umask: 0o022,
};
/// Another one, who shares that group.
pub const BOB: User = User {
    uid: 1001,
    gid: 1001,
    groups: &[2000],
    umask: 0o077,
};
/// One whose primary group it is.
pub const CAROL: User = User {
    uid: 1002,
    gid: 2000,
    groups: &[],
    umask: 0,
};

/// Gives this thread a umask and a working directory of its own. Once per thread, before [`User::assume`].
pub fn separate_thread() {
    unshare(CloneFlags::CLONE_FS).expect("a thread may have its own umask");
}

impl User {
    /// Turns this thread, which acts as root, into the user until the guard is dropped.
    pub fn assume(self) -> Assumed {
        let before = umask(Mode::from_raw_mode(self.umask));
        if self.uid != 0 || self.gid != 0 {
            let groups: Vec<Gid> = self.groups.iter().map(|&g| Gid::from_raw(g)).collect();
            set_thread_groups(&groups).expect("root may set groups");
            set_thread_res_gid(None, Gid::from_raw(self.gid), None)
                .expect("root may set the group");
            set_thread_res_uid(None, Uid::from_raw(self.uid), None).expect("root may set the user");
        }
        Assumed { user: self, before }
    }

    /// Runs `work` in a thread that acts as the user.
    pub fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let handle = scope.spawn(|| {
                separate_thread();
                let _assumed = self.assume();
                work()
            });
            match handle.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

/// Turns the thread back into root.
pub struct Assumed {
    user: User,
    before: Mode,
}

impl Drop for Assumed {
    fn drop(&mut self) {
        if self.user.uid != 0 || self.user.gid != 0 {
            set_thread_res_uid(None, Uid::ROOT, None).expect("the saved user is root");
            set_thread_res_gid(None, Gid::ROOT, None).expect("root may set the group");
            set_thread_groups(&[]).expect("root may set groups");
        }
        umask(self.before);
    }
}
