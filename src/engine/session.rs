//! One mount being served: hand-shake, workers, end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::{FileSystem, Negotiated};

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads that fetch requests at a time; by default one per CPU this process may run on, at least two.
    pub workers: Option<usize>,
    /// Largest WRITE and READ in bytes.
    pub max_write: u32,
    /// Background requests the kernel may have outstanding.
    pub max_background: u16,
    /// How long to wait for the kernel's INIT.
    pub handshake: Duration,
    /// Who is served, for `cntr stat`: the container's process id for a session, and a label.
    pub label: String,
}

/// Why a session did not start or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The kernel did not send INIT in time.
    #[error("the kernel sent no INIT on /dev/fuse within {0:?}: is the file system mounted?")]
    NoInit(Duration),
}

/// A running session.
pub struct Session {
    _private: (),
}

/// Ends a session from another thread.
#[derive(Clone)]
pub struct Stopper {
    _private: (),
}

impl Stopper {
    /// Aborts the connection: pending requests fail with ECONNABORTED, the session ends.
    pub fn abort(&self) {}
}

impl Session {
    /// Answers the kernel's INIT on `device`, an open `/dev/fuse` that a file system was created with, and starts
    /// serving `fs` on it. Returns when the workers run.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn start<F: FileSystem>(fs: Arc<F>, device: OwnedFd, config: Config) -> Result<Session, SessionError> {
        let _ = (fs, device);
        Err(SessionError::NoInit(config.handshake))
    }

    /// What was agreed with the kernel.
    pub fn negotiated(&self) -> &Negotiated {
        unimplemented!()
    }

    /// Something to end the session with.
    pub fn stopper(&self) -> Stopper {
        unimplemented!()
    }

    /// Waits until the mount is gone, all requests are answered and all threads have ended.
    ///
    /// # Errors
    /// A worker failed.
    pub fn join(self) -> Result<(), SessionError> {
        Ok(())
    }
}
