//! What the targets of a run share: a directory for mount points, the container for sessions, the view of FUSE connections.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::mount::{MntFlags, MsFlags, umount2};
use tempfile::TempDir;

use super::connection::{CONNECTIONS, Connection};
use super::container::Container;
use super::error::TargetError;
use super::{mount, mountinfo};
use crate::job::Control;

/// Scratch directories and the container; everything is gone when it is.
#[derive(Debug)]
pub struct Arena {
    /// Mount points are below it.
    scratch: Option<TempDir>,
    /// Further directories of servers that need some on the file system that they serve; made when needed.
    beside: Mutex<Option<TempDir>>,
    backing: PathBuf,
    control: Control,
    container: Mutex<Option<Arc<Container>>>,
    connections: Option<Connections>,
    next: AtomicU32,
}

impl Arena {
    /// Scratch directories in `work`, which is made if it does not exist, for targets that show directories below
    /// `backing`.
    ///
    /// # Errors
    /// A directory cannot be made, or others cannot get there.
    pub fn new(work: PathBuf, backing: PathBuf, control: Control) -> Result<Arena, TargetError> {
        let full = |path: &Path| {
            fs::create_dir_all(path)
                .and_then(|()| path.canonicalize())
                .map_err(|source| TargetError::Scratch {
                    path: path.to_owned(),
                    source,
                })
        };
        let work = full(&work)?;
        let backing = full(&backing)?;
        open_to_others(&work)?;
        open_to_others(&backing)?;
        Ok(Arena {
            scratch: Some(directory(&work)?),
            beside: Mutex::default(),
            connections: Connections::show(),
            backing,
            control,
            container: Mutex::default(),
            next: AtomicU32::new(0),
        })
    }

    /// The directory that everything is stored in.
    pub fn backing(&self) -> &Path {
        &self.backing
    }

    /// The container of the sessions, started when it is asked for the first time.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn container(&self) -> Result<Arc<Container>, TargetError> {
        let mut container = self
            .container
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(container) = &*container {
            return Ok(Arc::clone(container));
        }
        let started = Arc::new(Container::start(
            &self.backing,
            self.scratch(),
            &self.control,
        )?);
        *container = Some(Arc::clone(&started));
        Ok(started)
    }

    fn scratch(&self) -> &Path {
        self.scratch.as_ref().expect("only the end takes it").path()
    }

    /// A new mount point.
    pub(super) fn mount_point(&self) -> Result<PathBuf, TargetError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.scratch().join(format!("mount-{number}"));
        make(&path)?;
        Ok(path)
    }

    /// A new directory on the file system of the backing directory.
    pub(super) fn beside(&self) -> Result<PathBuf, TargetError> {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let base = match &mut *beside {
            Some(base) => base,
            none => none.insert(directory(&self.backing)?),
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = base.path().join(format!("scratch-{number}"));
        make(&path)?;
        Ok(path)
    }

    /// Removes everything. Targets that are still up are detached, which counts as an error.
    ///
    /// # Errors
    /// Something was left behind, or had to be forced.
    pub fn end(mut self) -> Result<(), TargetError> {
        let complaints = self.close();
        if complaints.is_empty() {
            return Ok(());
        }
        Err(TargetError::Left {
            target: "the end of all targets".to_owned(),
            complaints,
        })
    }

    fn close(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        let container = self
            .container
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(container) = container.take() {
            complaints.extend(container.end());
        }
        if let Some(scratch) = self.scratch.take() {
            let left = mountinfo::all()
                .into_iter()
                .filter(|entry| entry.point.starts_with(scratch.path()));
            for entry in left.collect::<Vec<_>>().into_iter().rev() {
                complaints.push(format!("{} was still mounted", entry.point.display()));
                complaints.extend(mount::unmount(
                    &entry.point,
                    entry.connection().map(Connection::new),
                ));
            }
            complaints.extend(remove(scratch));
        }
        let beside = self
            .beside
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        complaints.extend(beside.take().and_then(remove));
        self.connections = None;
        complaints
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for complaint in self.close() {
            eprintln!("perf: {complaint}");
        }
    }
}

fn remove(directory: TempDir) -> Option<String> {
    let path = directory.path().to_owned();
    let error = directory.close().err()?;
    Some(format!("cannot remove {}: {error}", path.display()))
}

fn directory(parent: &Path) -> Result<TempDir, TargetError> {
    tempfile::Builder::new()
        .prefix("cntr-perf-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .and_then(|made| {
            // Whatever the umask says.
            fs::set_permissions(made.path(), Permissions::from_mode(0o755))?;
            Ok(made)
        })
        .map_err(|source| TargetError::Scratch {
            path: parent.to_owned(),
            source,
        })
}

fn make(path: &Path) -> Result<(), TargetError> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(|source| TargetError::Scratch {
            path: path.to_owned(),
            source,
        })
}

/// Whether every user may pass through all directories of a path.
fn open_to_others(path: &Path) -> Result<(), TargetError> {
    for directory in path.ancestors() {
        let open = fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & 0o001 != 0);
        if !open {
            return Err(TargetError::Closed {
                path: directory.to_owned(),
            });
        }
    }
    Ok(())
}

/// The file system that shows FUSE connections is mounted.
///
/// Every process mounts it once more and removes one mount at its end. All show the same, so it does not matter whose is
/// removed: another process that runs meanwhile keeps seeing it.
#[derive(Debug)]
struct Connections;

/// How many want it in this process.
static MOUNTED: Mutex<u32> = Mutex::new(0);

impl Connections {
    fn show() -> Option<Connections> {
        let mut users = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
        if *users == 0 {
            let none = None::<&str>;
            let first = || {
                let name = Some("fusectl");
                nix::mount::mount(name, CONNECTIONS, name, MsFlags::empty(), none)
            };
            // The kernel refuses the same file system twice, but not a copy of the mount.
            let copy = || {
                let itself = Some(CONNECTIONS);
                nix::mount::mount(itself, CONNECTIONS, none, MsFlags::MS_BIND, none)
            };
            let mounted = mountinfo::at(Path::new(CONNECTIONS)).is_some();
            // A kernel without FUSE has no such directory; then no target but native comes up, and says so.
            if mounted {
                copy().ok()?;
            } else {
                first().or_else(|_| copy()).ok()?;
            }
        }
        *users += 1;
        Some(Connections)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        let mut users = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
        *users = users.saturating_sub(1);
        if *users == 0 {
            let _ = umount2(CONNECTIONS, MntFlags::empty());
        }
    }
}
