//! Acting as the caller of a request.
//!
//! New files must belong to who made them. The thread that makes one takes the caller's file system ids and umask and
//! keeps them until another caller needs its own (switching costs more than most calls do), which is harmless:
//! `SECBIT_NO_SETUID_FIXUP` makes the thread keep its capabilities whatever its ids are, and the kernel has checked permissions
//! before it sent the request. Where that cannot be had the thread switches back after each request.
//!
//! Requests to remote file systems go with the ids of the server, because the other side looks at them.
//!
//! `CAP_FSETID` is in force where the host might otherwise clear set-id bits because of who the server is; what has to go the
//! kernel says, and it is cleared explicitly. It is not in force where a file is registered that the kernel writes by
//! itself. A thread keeps the state it is in until it needs the other. `CAP_SYS_RESOURCE` is given up, or quotas and
//! reserved blocks would not count.

use std::cell::RefCell;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use super::policy::Ownership;
use super::unchecked::status;
use crate::engine::{Creation, Errno, Result};
use crate::sys::{capability, creds};

/// Supplementary groups a request brings at most; further ones are left out.
const GROUPS: usize = 32;

/// Who makes a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Maker {
    uid: u32,
    gid: u32,
    umask: u32,
    groups: [u32; GROUPS],
    group_count: usize,
    /// The umask means nothing.
    makes_nothing: bool,
}

impl Maker {
    /// The host's ids `uid` and `gid`, who makes nothing.
    pub fn owner(uid: u32, gid: u32) -> Maker {
        Maker {
            makes_nothing: true,
            ..Maker::new(uid, gid, 0, std::iter::empty())
        }
    }

    /// The host's ids `uid` and `gid`; `creation` has the rest.
    pub fn new(uid: u32, gid: u32, umask: u32, groups: impl Iterator<Item = u32>) -> Maker {
        let mut maker = Maker {
            uid,
            gid,
            umask: umask & 0o777,
            groups: [0; GROUPS],
            group_count: 0,
            makes_nothing: false,
        };
        for group in groups.take(GROUPS) {
            maker.groups[maker.group_count] = group;
            maker.group_count += 1;
        }
        maker
    }
}

/// What a thread is.
struct State {
    own: Maker,
    current: Maker,
    /// Capabilities survive a change of ids.
    sticky: bool,
    /// Whether `CAP_FSETID` is in force.
    set_id: bool,
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// Prepares the calling thread; further calls on it do nothing.
///
/// # Errors
/// `EPERM` if the thread cannot have a umask of its own.
pub fn enter_thread() -> Result<()> {
    STATE.with_borrow_mut(|state| state_of(state).map(drop))
}

fn state_of(state: &mut Option<State>) -> Result<&mut State> {
    if let Some(state) = state {
        return Ok(state);
    }
    unshare(CloneFlags::CLONE_FS)?;
    umask(Mode::empty());
    let sticky = creds::keep_capabilities().is_ok();
    // Refused only where there is nothing to give up.
    let _ = capability::set_effective(capability::SYS_RESOURCE, false);
    let _ = creds::set_groups(&[]);
    let set_id = capability::set_effective(capability::FSETID, true).is_ok();
    // The thread may have been started by one that acted as somebody; the effective ids are always the server's.
    let (uid, gid) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let own = Maker::new(
        creds::set_fsuid(uid),
        creds::set_fsgid(gid),
        0,
        std::iter::empty(),
    );
    Ok(state.insert(State {
        own,
        current: own,
        sticky,
        set_id,
    }))
}

impl State {
    fn become_maker(&mut self, maker: &Maker) -> Result<()> {
        if self.current == *maker {
            return Ok(());
        }
        if self.current.umask != maker.umask && !maker.makes_nothing {
            umask(Mode::from_bits_truncate(maker.umask));
            self.current.umask = maker.umask;
        }
        if self.current.groups() != maker.groups() {
            match creds::set_groups(maker.groups()) {
                Ok(()) => {
                    (self.current.groups, self.current.group_count) =
                        (maker.groups, maker.group_count)
                }
                // Not privileged: groups only matter for what the kernel has checked already.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => (),
                Err(error) => return Err(error.into()),
            }
        }
        // The group first: without sticky capabilities the user takes them away.
        if self.current.gid != maker.gid {
            self.current.gid = creds::set_fsgid(maker.gid);
        }
        if self.current.uid != maker.uid {
            self.current.uid = creds::set_fsuid(maker.uid);
        }
        if (self.current.uid, self.current.gid) == (maker.uid, maker.gid) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }
}

impl Maker {
    fn groups(&self) -> &[u32] {
        &self.groups[..self.group_count]
    }
}

/// Runs `job` as `maker`.
///
/// # Errors
/// `EPERM` if the server may not act as `maker`; those of `job`.
pub fn acting_as<R>(maker: &Maker, job: impl FnOnce() -> Result<R>) -> Result<R> {
    let sticky = STATE.with_borrow_mut(|state| {
        let state = state_of(state)?;
        if let Err(errno) = state.become_maker(maker) {
            let own = state.own;
            state.become_maker(&own)?;
            return Err(errno);
        }
        Ok(state.sticky)
    })?;
    let result = job();
    if !sticky {
        acting_as_server()?;
    }
    result
}

/// Whether the host clears set-id bits of files that are written to, and those that the caller may not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetId {
    /// It leaves them (`CAP_FSETID`, if the server may have that).
    Keep,
    /// It does what it does to ordinary users.
    Clear,
}

/// Makes the host treat set-id bits like this in what the calling thread does next.
///
/// # Errors
/// `EPERM` if the capability cannot be given up.
pub fn treat_set_id(bits: SetId) -> Result<()> {
    STATE.with_borrow_mut(|state| {
        let state = state_of(state)?;
        let wanted = bits == SetId::Keep;
        if state.set_id != wanted {
            capability::set_effective(capability::FSETID, wanted)?;
            state.set_id = wanted;
        }
        Ok(())
    })
}

/// Makes sure that the thread has the ids of the server.
///
/// # Errors
/// `EPERM` if it cannot go back.
pub fn acting_as_server() -> Result<()> {
    STATE.with_borrow_mut(|state| {
        let state = state_of(state)?;
        let own = state.own;
        state.become_maker(&own)
    })
}

impl super::PassthroughFs {
    /// Whether the caller is in the host's group `gid`. A request does not bring the supplementary groups along, so they
    /// are read from the caller; nobody whose groups cannot be read is in one of them.
    pub(super) fn is_member(&self, cx: &crate::engine::Context<'_>, gid: u32) -> bool {
        if self.id_map.gids.host(cx.gid) == Some(gid) {
            return true;
        }
        status(cx, "Groups:")
            .split_whitespace()
            .filter_map(|group| group.parse().ok())
            .any(|group| self.id_map.gids.host(group) == Some(gid))
    }

    /// Whose what `creation` describes becomes.
    ///
    /// # Errors
    /// `EOVERFLOW` if the caller's ids mean nothing on the host.
    pub(super) fn maker(
        &self,
        cx: &crate::engine::Context<'_>,
        creation: &Creation<'_>,
    ) -> Result<Maker> {
        if let Ownership::User { uid, gid } = self.ownership {
            return Ok(Maker::new(uid, gid, creation.umask, std::iter::empty()));
        }
        let groups = creation
            .extensions
            .supplementary_groups()
            .filter_map(|gid| self.id_map.gids.host(gid));
        let uid = self.id_map.uids.host(cx.uid).ok_or(Errno::EOVERFLOW)?;
        let gid = self.id_map.gids.host(cx.gid).ok_or(Errno::EOVERFLOW)?;
        Ok(Maker::new(uid, gid, creation.umask, groups))
    }
}
