//! Makes the kernel send a request that means nothing: it asks for pages of the [landmark](super::landmark).

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use fuse_proto::notify;

use super::dev::Device;
use super::landmark::NODE;

/// Requests with at least this number are answers to nudges; those of the kernel start at 2.
const UNIQUE: u64 = 1 << 62;

/// Sends them.
pub(super) struct Nudge {
    device: Device,
    count: AtomicU64,
}

impl Nudge {
    /// Nudges on `device`.
    pub(super) fn new(device: Device) -> Nudge {
        Nudge {
            device,
            count: AtomicU64::new(0),
        }
    }

    /// Makes the kernel send a request to the queue of the CPU the caller runs on.
    ///
    /// # Errors
    /// `ENOENT` if the landmark was not set.
    pub(super) fn send(&self) -> io::Result<()> {
        let unique = UNIQUE + 2 * self.count.fetch_add(1, Ordering::Relaxed);
        let mut message = [0_u8; 64];
        let len = notify::encode_retrieve(unique, NODE.0, 0, 0, &mut message)
            .map_err(io::Error::other)?;
        self.device.notify(&message[..len])
    }
}
