//! A FUSE file system that this program serves itself, for as long as it is mounted.
//!
//! The root of the connection is that of the file system, and there is no landmark: mounting it then asks the server
//! nothing, which is this very process, and one that waits for its own answer cannot be killed. What the engine does with
//! them is for servers whose requests block.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use cntr::engine::mount::{DetachedMount, MountOptions};
use cntr::engine::{Config, FileSystem, Monitor, Root, Session};
use nix::mount::{MntFlags, umount2};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What is printed once it serves.
pub const READY: &str = "ready";

/// A mounted file system; unmounted when dropped.
pub struct Served {
    session: Option<Session>,
    mount_point: PathBuf,
}

impl Served {
    /// Mounts `fs` as `fuse.perf-NAME` and serves it on threads of this process, which must not fork from now on.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn start<F: FileSystem>(
        fs: F,
        name: &str,
        config: Config,
        mount_point: &Path,
    ) -> anyhow::Result<Served> {
        let options = MountOptions {
            source: name.to_owned(),
            subtype: Some(format!("perf-{name}")),
            ..MountOptions::default()
        };
        let detached = DetachedMount::new(&options)?;
        let config = Config {
            root: Root::Plain,
            landmark: detached.landmark,
            ..config
        };
        let session = Session::start(Arc::new(fs), detached.device, &config)?;
        DetachedMount::attach_at(detached.mount.as_fd(), mount_point)?;
        Ok(Served {
            session: Some(session),
            mount_point: mount_point.to_owned(),
        })
    }

    /// Something to read what it has served with.
    pub fn monitor(&self) -> Option<Monitor> {
        self.session.as_ref().map(Session::monitor)
    }

    /// Waits until somebody has unmounted it.
    ///
    /// # Errors
    /// Threads are stuck.
    pub fn join(mut self) -> anyhow::Result<()> {
        match self.session.take() {
            Some(session) => session.join().context("the server did not end well"),
            None => Ok(()),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = umount2(&self.mount_point, MntFlags::MNT_DETACH);
            let _ = session.join();
        }
    }
}

/// Serves what `start` mounts on the directory, until it is unmounted or a signal asks for the end.
///
/// # Errors
/// It cannot be mounted.
pub fn until_the_end(
    mount_point: &Path,
    start: impl FnOnce(&Path) -> anyhow::Result<Served>,
) -> anyhow::Result<ExitCode> {
    let mount_point = mount_point
        .canonicalize()
        .with_context(|| format!("mount point {}", mount_point.display()))?;
    if !mount_point.is_dir() {
        bail!("mount point {} is not a directory", mount_point.display());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
    let served = start(&mount_point)?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = umount2(&mount_point, MntFlags::MNT_DETACH);
        }
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}")
        .and_then(|()| stdout.flush())
        .context("cannot tell that it is mounted")?;
    served.join()?;
    Ok(ExitCode::SUCCESS)
}
