//! What a container leaves outside of itself: cgroups, and mount points made in its root directory. Removed when it
//! ends, also if cntr is killed.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::unistd::{Pid, setsid};

use super::ContainerError;
use super::cgroup::Cgroups;
use super::root::MountPoints;
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, Parenthood, close_all_but, exit_now, fork};

/// What has to be removed, and the process that does it if this one cannot any more.
#[derive(Debug)]
pub struct Remains {
    made: Option<(Cgroups, MountPoints)>,
    /// To a process that waits at the other end: a word means that there is nothing left to do, silence that cntr was
    /// killed.
    remover: Option<Channel>,
}

impl Remains {
    /// Takes care of what was made. The calling process must have a single thread.
    ///
    /// # Errors
    /// Those of socketpair(2) and fork(2); everything is removed then.
    pub fn new(cgroups: Cgroups, points: MountPoints) -> io::Result<Remains> {
        let nothing = cgroups.is_empty() && points.is_empty();
        let mut remains = Remains {
            made: Some((cgroups, points)),
            remover: None,
        };
        if nothing {
            return Ok(remains);
        }
        let (ours, theirs) = Channel::pair()?;
        match fork(Parenthood::Caller, 0)? {
            Fork::Parent(_) => remains.remover = Some(ours),
            Fork::Child => remains.stand_by(theirs, ours),
        }
        Ok(remains)
    }

    /// Waits for the end of cntr.
    fn stand_by(mut self, channel: Channel, other: Channel) -> ! {
        drop(other);
        let _ = nix::sys::prctl::set_name(c"cntr-remover");
        // What ends cntr together with its session must not end this process.
        let _ = setsid();
        let _ = close_all_but(&[channel.as_fd().as_raw_fd()]);
        let made = self.made.take();
        if let Ok(None) = channel.receive() {
            drop(made);
        }
        exit_now(0)
    }

    /// Moves the process `pid` into the cgroups.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn admit(&self, pid: Pid) -> Result<(), ContainerError> {
        self.made
            .as_ref()
            .map_or(Ok(()), |(cgroups, _)| cgroups.admit(pid))
    }

    /// Leaves everything to the process this one was forked from.
    pub fn disown(mut self) {
        std::mem::forget(self.made.take());
        self.remover = None;
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        drop(self.made.take());
        if let Some(remover) = &self.remover {
            let _ = remover.send(b"done", None);
        }
    }
}
