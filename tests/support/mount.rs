//! A mount that cleans up after itself and says what it could not clean up.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use rustix::mount::{UnmountFlags, mount_bind_recursive, unmount};

use super::backing::{self, Kind};
use super::connection::Connection;
use super::parameter::patience;
use super::server::{Peer, Server, Setup, peer};
use super::{mountinfo, runner, wait};

/// A view of a directory.
pub struct Mount {
    area: PathBuf,
    source: PathBuf,
    point: PathBuf,
    server: Option<Server>,
    connection: Option<Connection>,
    guard: Option<Arc<Guarded>>,
    /// The test ended the server or the connection itself: how they end is not judged.
    broken: bool,
    closed: bool,
}

/// A mount the watchdog looks after.
struct Guarded {
    connection: Connection,
    deadline: Instant,
    aborted: AtomicBool,
}

static GUARDED: Mutex<Vec<Arc<Guarded>>> = Mutex::new(Vec::new());

fn guarded() -> std::sync::MutexGuard<'static, Vec<Arc<Guarded>>> {
    GUARDED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Aborts the connections whose test has used up its time.
pub fn abort_overdue() {
    for mount in guarded().iter() {
        if Instant::now() > mount.deadline && !mount.aborted.swap(true, Ordering::SeqCst) {
            mount.connection.abort();
        }
    }
}

impl Mount {
    /// Serves a new directory of a file system of type `kind`.
    pub fn new(kind: Kind, options: &[&str]) -> Result<Mount> {
        let setup = Setup {
            options: options.iter().map(|&o| o.to_owned()).collect(),
            ..Setup::default()
        };
        Mount::with(kind, &setup)
    }

    /// The same, with everything that can be chosen.
    pub fn with(kind: Kind, setup: &Setup) -> Result<Mount> {
        let options: Vec<&str> = setup.options.iter().map(String::as_str).collect();
        super::server::need_options(&options)?;
        let area = backing::area(kind)?;
        let source = area.join("source");
        backing::make_directory(&source)?;
        backing::make_directory(&area.join("reference"))?;
        Mount::serve(area, source, setup)
    }

    /// A second view of the same directory.
    pub fn again(&self, options: &[&str]) -> Result<Mount> {
        let setup = Setup {
            options: options.iter().map(|&o| o.to_owned()).collect(),
            ..Setup::default()
        };
        Mount::serve(backing::area(Kind::Ext4)?, self.source.clone(), &setup)
    }

    /// A view of this view.
    pub fn view(&self, options: &[&str]) -> Result<Mount> {
        self.view_with(&Setup {
            options: options.iter().map(|&o| o.to_owned()).collect(),
            ..Setup::default()
        })
    }

    /// The same, with everything that can be chosen.
    pub fn view_with(&self, setup: &Setup) -> Result<Mount> {
        Mount::serve(backing::area(Kind::Ext4)?, self.point.clone(), setup)
    }

    fn serve(area: PathBuf, source: PathBuf, setup: &Setup) -> Result<Mount> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let point = backing::base().join(format!("mount-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        backing::make_directory(&point)?;
        let mut mount = Mount {
            area,
            source,
            point,
            server: None,
            connection: None,
            guard: None,
            broken: false,
            closed: false,
        };
        if peer() == Peer::Bind {
            mount_bind_recursive(&mount.source, &mount.point)?;
            if setup.options.iter().any(|option| option == "ro") {
                rustix::mount::mount_remount(
                    &mount.point,
                    rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY,
                    "",
                )?;
            }
            return Ok(mount);
        }
        let log = mount.point.with_extension("log");
        let mut server = Server::start(&mount.source, &mount.point, setup, &log)?;
        let mut ended = None;
        let entry = wait::some(wait::LONG, || {
            ended = server.ended();
            mountinfo::at(&mount.point).or_else(|| ended.map(|_| nothing()))
        });
        let printed = server.log();
        mount.server = Some(server);
        let Some(entry) = entry.filter(|_| ended.is_none()) else {
            mount.broken = true;
            match ended {
                Some(status) => {
                    bail!("the server ended with {status} before it had mounted:\n{printed}")
                }
                None => bail!(
                    "the server did not mount within {:?}:\n{printed}",
                    wait::LONG
                ),
            }
        };
        let connection = Connection::new(entry.minor);
        mount.connection = Some(connection);
        let guard = Arc::new(Guarded {
            connection,
            deadline: runner::deadline(),
            aborted: AtomicBool::new(false),
        });
        guarded().push(Arc::clone(&guard));
        mount.guard = Some(guard);
        fs::metadata(&mount.point)?;
        Ok(mount)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// A name inside the mount.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.point.join(name)
    }

    /// What is served, on the host.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The same name on the host.
    pub fn host(&self, name: impl AsRef<Path>) -> PathBuf {
        self.source.join(name)
    }

    /// A directory of the same file system that is not served.
    pub fn reference(&self) -> PathBuf {
        self.area.join("reference")
    }

    /// The server; a bind mount has none.
    pub fn server(&mut self) -> Option<&mut Server> {
        self.server.as_mut()
    }

    /// The FUSE connection.
    pub fn connection(&self) -> Option<Connection> {
        self.connection
    }

    /// The test will end the server or the connection: do not judge how they end, only what is left.
    pub fn expect_broken(&mut self) {
        self.broken = true;
    }

    /// Unmounts and says what is left behind. Dropping does the same and makes the test fail.
    pub fn close(mut self) -> Result<()> {
        let problems = self.end();
        if problems.is_empty() {
            Ok(())
        } else {
            bail!("{}", problems.join("; "))
        }
    }

    fn end(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        if std::mem::replace(&mut self.closed, true) {
            return problems;
        }
        let mounted = || mountinfo::at(&self.point).is_some();
        if mounted() {
            // Closing a file takes effect on the server a moment after close(2) has returned.
            // A bind mount has those below the source below it too.
            let flags = if peer() == Peer::Bind {
                UnmountFlags::DETACH
            } else {
                UnmountFlags::empty()
            };
            let busy = !wait::until(Duration::from_secs(5) * patience(), || {
                unmount(&self.point, flags).is_ok()
            });
            if busy {
                problems.push(format!("{} is busy", self.point.display()));
                let _ = unmount(&self.point, UnmountFlags::DETACH);
            }
        }
        if let Some(mut server) = self.server.take() {
            let mut status = server.wait(wait::LONG * patience());
            if status.is_none() {
                problems.push("the server did not end after the unmount".to_owned());
                server.signal(Signal::SIGTERM);
                status = server.wait(Duration::from_secs(5));
            }
            if status.is_none() {
                if let Some(connection) = self.connection {
                    connection.abort();
                }
                problems.push("nor after SIGTERM".to_owned());
            }
            if let Some(status) = status.filter(|status| !status.success() && !self.broken) {
                problems.push(format!("the server ended with {status}: {}", server.log()));
            }
            if server.log().contains("panicked") {
                problems.push(format!("the server panicked: {}", server.log()));
            }
        }
        if mountinfo::at(&self.point).is_some() {
            problems.push(format!("{} is still mounted", self.point.display()));
            let _ = unmount(&self.point, UnmountFlags::DETACH);
        }
        if let Some(connection) = self.connection.take() {
            // A mount of a test beside this one may have got the number meanwhile: it must not be aborted.
            let gone = || !connection.exists() || mountinfo::shows(connection.minor());
            if !wait::until(Duration::from_secs(10) * patience(), gone) {
                problems.push("the FUSE connection is left".to_owned());
                connection.abort();
            }
        }
        if let Some(guard) = self.guard.take() {
            guarded().retain(|other| !Arc::ptr_eq(other, &guard));
            if guard.aborted.load(Ordering::SeqCst) {
                problems.push("the test hung; its FUSE connection was aborted".to_owned());
            }
        }
        if let Err(error) = fs::remove_dir(&self.point) {
            problems.push(format!("the mount point is not empty: {error}"));
        }
        let _ = fs::remove_file(self.point.with_extension("log"));
        if let Err(error) = backing::remove(&self.area) {
            problems.push(format!("{error:#}"));
        }
        problems
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for problem in self.end() {
            runner::report(problem);
        }
    }
}

fn nothing() -> mountinfo::MountEntry {
    mountinfo::MountEntry {
        point: PathBuf::new(),
        fs_type: String::new(),
        minor: 0,
    }
}
