//! Capabilities of the session: the target's, never more.
//!
//! exec computes the sets anew: for user id 0 permitted and effective become the bounding set, for others the ambient
//! set. A session of a root process that has given capabilities up since its own exec therefore gets its bounding set
//! cut down to what the target is permitted, or it would end up with more than the target has.

use std::io;

use super::status::Status;
use crate::sys::capability::{self, CapSet, ThreadCaps};

/// What a session's process sets before exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bounding set.
    pub bounding: CapSet,
    /// Ambient set.
    pub ambient: CapSet,
    /// The three others.
    pub thread: ThreadCaps,
    /// Whether exec must never give privileges.
    pub no_new_privs: bool,
}

impl Plan {
    /// The plan for a session of a process with `status`; `root` says whether its user id is 0 in its own namespace.
    #[must_use]
    pub fn new(status: &Status, root: bool) -> Plan {
        let (bounding, inheritable) = if root {
            (
                status.bounding.0 & status.permitted.0,
                status.inheritable.0 & status.permitted.0,
            )
        } else {
            (status.bounding.0, status.inheritable.0)
        };
        Plan {
            bounding: CapSet(bounding),
            ambient: status.ambient,
            thread: ThreadCaps {
                effective: status.effective,
                permitted: status.permitted,
                inheritable: CapSet(inheritable),
            },
            no_new_privs: status.no_new_privs,
        }
    }

    /// Applies the plan to the calling process, which holds all capabilities of its user namespace that cntr has.
    ///
    /// # Errors
    /// The set that could not be set, and why.
    pub fn apply(&self) -> Result<(), (&'static str, io::Error)> {
        let have = capability::get().map_err(|error| ("own sets", error))?;
        // What cntr itself lacks cannot be given.
        let within = |set: CapSet| CapSet(set.0 & have.permitted.0);
        // What is not in the bounding set cannot be made inheritable, so that comes before the bounding set shrinks.
        let inheritable =
            CapSet(self.thread.inheritable.0 & (have.permitted.0 | have.inheritable.0));
        capability::set(ThreadCaps {
            inheritable,
            ..have
        })
        .map_err(|error| ("inheritable set", error))?;
        capability::limit_bounding(self.bounding).map_err(|error| ("bounding set", error))?;
        let ambient = CapSet(within(self.ambient).0 & inheritable.0);
        capability::set_ambient(ambient).map_err(|error| ("ambient set", error))?;
        capability::keep_across_setuid(false).map_err(|error| ("securebits", error))?;
        if self.no_new_privs {
            nix::sys::prctl::set_no_new_privs().map_err(|error| ("no_new_privs", error.into()))?;
        }
        let last = ThreadCaps {
            effective: within(CapSet(self.thread.effective.0 & self.thread.permitted.0)),
            permitted: within(self.thread.permitted),
            inheritable,
        };
        capability::set(last).map_err(|error| ("permitted and effective sets", error))
    }

    /// What the session will lack because cntr itself does not have it.
    #[must_use]
    pub fn missing(&self, have: CapSet) -> CapSet {
        CapSet(self.thread.permitted.0 & !have.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(permitted: u64, bounding: u64) -> Status {
        let text = format!(
            "Name:\tx\nState:\tS\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t\nCapInh:\t{:x}\nCapPrm:\t{permitted:x}\n\
             CapEff:\t{permitted:x}\nCapBnd:\t{bounding:x}\nCapAmb:\t0\nNoNewPrivs:\t1\n",
            0xff
        );
        Status::parse(&text).unwrap()
    }

    #[test]
    fn a_root_that_dropped_capabilities_bounds_its_session() {
        let plan = Plan::new(&status(0x0f, 0xffff), true);
        assert_eq!(
            (plan.bounding, plan.thread.inheritable),
            (CapSet(0x0f), CapSet(0x0f))
        );
        let plan = Plan::new(&status(0, 0xffff), false);
        assert_eq!(
            (plan.bounding, plan.thread.inheritable),
            (CapSet(0xffff), CapSet(0xff))
        );
        assert!(plan.no_new_privs);
    }
}
