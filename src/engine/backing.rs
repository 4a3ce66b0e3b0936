//! Files of the host that the kernel reads and writes by itself (kernel passthrough, Linux 6.9).
//!
//! A registered file has an id that the reply to OPEN or CREATE carries. All opens of an inode that exist at a time must
//! carry the same id, and an inode that is opened with one cannot be opened without.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::dev::Device;

/// Registers files.
pub struct Backings {
    device: Device,
    /// The kernel has said that this server may not.
    refused: AtomicBool,
}

/// A registered file. The kernel keeps the host's file open until this is dropped and all opens that carry it are
/// closed.
pub struct BackingFile {
    id: i32,
    backings: Arc<Backings>,
}

impl Backings {
    /// Registers files with the connection of `device`.
    pub(super) fn new(device: Device) -> Arc<Backings> {
        Arc::new(Backings {
            device,
            refused: AtomicBool::new(false),
        })
    }

    /// Registers the regular file `file`, for which an `O_PATH` descriptor is enough. Reading and writing happens with the
    /// file system ids and the effective capabilities that the calling thread has now.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN` in the initial user namespace, from then on without asking; `ELOOP` on a file
    /// system that is stacked too high.
    pub fn register(self: &Arc<Self>, file: BorrowedFd<'_>) -> io::Result<BackingFile> {
        if self.refused.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        match crate::sys::fuse::open_backing(self.device.descriptor(), file) {
            Ok(id) => Ok(BackingFile {
                id,
                backings: Arc::clone(self),
            }),
            Err(error) => {
                if error.raw_os_error() == Some(libc::EPERM)
                    && !self.refused.swap(true, Ordering::Relaxed)
                {
                    tracing::info!("kernel passthrough needs CAP_SYS_ADMIN: data is relayed");
                }
                Err(error)
            }
        }
    }
}

impl BackingFile {
    /// What the reply to OPEN carries.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
    }
}

impl std::fmt::Debug for BackingFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("BackingFile")
            .field(&self.id)
            .finish()
    }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        // A connection that is over has forgotten it already.
        let _ = crate::sys::fuse::close_backing(self.backings.device.descriptor(), self.id);
    }
}
