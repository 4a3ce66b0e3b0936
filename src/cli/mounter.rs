//! The process that attaches what `cntr mount` serves.
//!
//! Attaching a mount looks things up in it, and a server that waits for its own answer cannot be killed
//! ([`Landmark`]): so a process does that which is forked before there are threads, and ends when it has done it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::engine::mount::DetachedMount;
use crate::engine::{Landmark, Root};
use crate::sys::channel::Channel;
use crate::sys::process::{self, Fork, Parenthood, Patience, exit_now, fork};

/// What is said when the server serves.
const SERVED: &[u8] = b"served";

/// Such a process, which waits until there is a server.
pub struct Mounter {
    pid: Pid,
    channel: Channel,
}

impl Mounter {
    /// Forks it. It will attach `mount` at `target` and set `landmark`, and has nothing else of the caller.
    ///
    /// # Errors
    /// Those of fork(2).
    pub fn start(
        mount: OwnedFd,
        root: Root,
        landmark: &Landmark,
        target: &Path,
    ) -> anyhow::Result<Mounter> {
        let failed = || format!("cannot mount on {}", target.display());
        let (ours, theirs) = Channel::pair().with_context(failed)?;
        match fork(Parenthood::Caller, 0).with_context(failed)? {
            Fork::Parent(pid) => Ok(Mounter { pid, channel: ours }),
            Fork::Child => {
                // With /dev/fuse open it would keep the connection alive.
                let keep = [theirs.as_fd().as_raw_fd(), mount.as_raw_fd()];
                if process::close_all_but(&keep).is_ok()
                    && let Ok(Some(_)) = theirs.receive()
                {
                    let _ = attach(&theirs, mount, root, landmark, target);
                }
                exit_now(0)
            }
        }
    }

    /// Has it attach the mount, which is served now. Gives back what makes the kernel know the landmark, to be kept as long
    /// as the mount is used.
    ///
    /// # Errors
    /// Why it could not be attached.
    pub fn attach(self) -> anyhow::Result<Option<OwnedFd>> {
        let lost = "the process that attaches the mount died";
        self.channel.send(SERVED, None).context(lost)?;
        match self.channel.receive().context(lost)? {
            Some((text, landmark)) if text == SERVED => Ok(landmark),
            Some((text, _)) => bail!("{}", String::from_utf8_lossy(&text)),
            None => bail!("{lost}"),
        }
    }
}

impl Drop for Mounter {
    fn drop(&mut self) {
        // It has not been waited for, so the number is its.
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = process::wait(Some(self.pid), Patience::Wait);
    }
}

/// Attaches the mount, and tells so on `channel`, or why not.
fn attach(
    channel: &Channel,
    mount: OwnedFd,
    root: Root,
    landmark: &Landmark,
    target: &Path,
) -> io::Result<()> {
    let watch = landmark.set(mount.as_fd());
    if let Err(error) = &watch {
        tracing::warn!(
            %error,
            "while requests of a CPU are blocked, others may wait longer than they should"
        );
    }
    let tree = DetachedMount::tree(mount, root);
    match tree.and_then(|tree| DetachedMount::attach_at(tree.as_fd(), target)) {
        Ok(()) => channel.send(SERVED, watch.ok().as_ref().map(AsFd::as_fd)),
        Err(error) => channel.send(format!("{:#}", anyhow::Error::from(error)).as_bytes(), None),
    }
}
