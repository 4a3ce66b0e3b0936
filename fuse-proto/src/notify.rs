//! Notifications: messages a server sends on its own, by writing them to `/dev/fuse`.
//!
//! A notification is a [`fuse_out_header`] with `unique` 0 and the code in `error`, and a body. The `encode_*`
//! functions write a complete message to the start of a buffer and return its length; the result of the
//! `write(2)` tells whether the kernel found the inode (`ENOENT` otherwise). Never send one from the thread that has
//! to answer requests, or while holding a lock such a thread may want: most of them wait for requests in flight.

use zerocopy::IntoBytes;

use crate::abi::*;
use crate::reply::out_header;
use crate::{EncodeError, ExpireFlags};

mod notification;

pub use notification::{NodeIds, Notification};

/// Kind of notification, in `error` of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum NotifyCode {
    /// A polled file became ready. Since 7.11.
    Poll = 1,
    /// Drop cached attributes and data of an inode. Since 7.12.
    InvalInode = 2,
    /// Drop a cached name. Since 7.12.
    InvalEntry = 3,
    /// Put data into the page cache. Since 7.15.
    Store = 4,
    /// Send back data from the page cache. Since 7.15.
    Retrieve = 5,
    /// A name was removed. Since 7.18.
    Delete = 6,
    /// Send pending requests again. Since 7.40.
    Resend = 7,
    /// Consider every cached name stale. Since 7.44.
    IncEpoch = 8,
    /// Drop inodes that are not in use. Since 7.45.
    Prune = 9,
}

impl NotifyCode {
    /// The notification of a code.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Option<Self> {
        Some(match raw {
            1 => Self::Poll,
            2 => Self::InvalInode,
            3 => Self::InvalEntry,
            4 => Self::Store,
            5 => Self::Retrieve,
            6 => Self::Delete,
            7 => Self::Resend,
            8 => Self::IncEpoch,
            9 => Self::Prune,
            _ => return None,
        })
    }

    /// The kernel's number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self as i32
    }
}

/// Writes header and parts to the start of `buf`.
fn message(
    buf: &mut [u8],
    what: &'static str,
    code: NotifyCode,
    parts: [&[u8]; 3],
) -> Result<usize, EncodeError> {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let needed = size_of::<fuse_out_header>() + body;
    let room = buf.len();
    let Some(mut rest) = buf.get_mut(..needed) else {
        return Err(EncodeError::NoRoom { what, needed, room });
    };
    if u32::try_from(needed).is_err() {
        return Err(EncodeError::TooLong { what, len: needed });
    }
    let header = out_header(body, code.raw(), 0);
    for part in [header.as_bytes()].iter().chain(&parts) {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    Ok(needed)
}

fn length(what: &'static str, len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::TooLong { what, len })
}

/// A polled file became ready: `kh` is the handle from the POLL request.
///
/// # Errors
///
/// As all functions here, if `buf` is too small.
pub fn encode_poll(kh: u64, buf: &mut [u8]) -> Result<usize, EncodeError> {
    let body = fuse_notify_poll_wakeup_out { kh };
    message(
        buf,
        "poll notification",
        NotifyCode::Poll,
        [body.as_bytes(), &[], &[]],
    )
}

/// Drop cached attributes of an inode and, if `off` is not negative, cached data from `off` on: `len` bytes, or all
/// with `len` 0 or less.
///
/// # Errors
///
/// If `buf` is too small.
pub fn encode_inval_inode(
    nodeid: u64,
    off: i64,
    len: i64,
    buf: &mut [u8],
) -> Result<usize, EncodeError> {
    let body = fuse_notify_inval_inode_out {
        ino: nodeid,
        off,
        len,
    };
    message(
        buf,
        "inode invalidation",
        NotifyCode::InvalInode,
        [body.as_bytes(), &[], &[]],
    )
}

/// Drop or expire a cached name. Without EXPIRE_ONLY, mounts below it are detached.
///
/// # Errors
///
/// If `buf` is too small.
pub fn encode_inval_entry(
    parent: u64,
    name: &[u8],
    flags: ExpireFlags,
    buf: &mut [u8],
) -> Result<usize, EncodeError> {
    let namelen = length("name", name.len())?;
    let body = fuse_notify_inval_entry_out {
        parent,
        namelen,
        flags: flags.bits(),
    };
    message(
        buf,
        "entry invalidation",
        NotifyCode::InvalEntry,
        [body.as_bytes(), name, &[0]],
    )
}

/// `name` of inode `child` was removed from directory `parent`.
///
/// # Errors
///
/// If `buf` is too small.
pub fn encode_delete(
    parent: u64,
    child: u64,
    name: &[u8],
    buf: &mut [u8],
) -> Result<usize, EncodeError> {
    let namelen = length("name", name.len())?;
    let body = fuse_notify_delete_out {
        parent,
        child,
        namelen,
        padding: 0,
    };
    message(
        buf,
        "delete notification",
        NotifyCode::Delete,
        [body.as_bytes(), name, &[0]],
    )
}

/// Put `data` into the page cache of an inode.
///
/// # Errors
///
/// If `buf` is too small.
pub fn encode_store(
    nodeid: u64,
    offset: u64,
    data: &[u8],
    buf: &mut [u8],
) -> Result<usize, EncodeError> {
    let size = length("data", data.len())?;
    let body = fuse_notify_store_out {
        nodeid,
        offset,
        size,
        padding: 0,
    };
    message(
        buf,
        "store notification",
        NotifyCode::Store,
        [body.as_bytes(), data, &[]],
    )
}

/// Send back cached data, at most `size` bytes from `offset` on, by a NOTIFY_REPLY of `unique` `notify_unique`.
///
/// # Errors
///
/// If `buf` is too small.
pub fn encode_retrieve(
    notify_unique: u64,
    nodeid: u64,
    offset: u64,
    size: u32,
    buf: &mut [u8],
) -> Result<usize, EncodeError> {
    let body = fuse_notify_retrieve_out {
        notify_unique,
        nodeid,
        offset,
        size,
        padding: 0,
    };
    message(
        buf,
        "retrieve notification",
        NotifyCode::Retrieve,
        [body.as_bytes(), &[], &[]],
    )
}

/// Send all requests again that were read and not yet answered, with
/// [`FUSE_UNIQUE_RESEND`] in `unique`.
///
/// # Errors
///
/// If `buf` is too small.
pub fn encode_resend(buf: &mut [u8]) -> Result<usize, EncodeError> {
    message(
        buf,
        "resend notification",
        NotifyCode::Resend,
        [&[], &[], &[]],
    )
}

/// Consider every cached name of the mount stale.
///
/// # Errors
///
/// If `buf` is too small.
pub fn encode_inc_epoch(buf: &mut [u8]) -> Result<usize, EncodeError> {
    message(
        buf,
        "epoch notification",
        NotifyCode::IncEpoch,
        [&[], &[], &[]],
    )
}

/// Drop these inodes if nothing uses them: FORGETs will follow.
///
/// # Errors
///
/// If `buf` is too small.
pub fn encode_prune(nodeids: &[u64], buf: &mut [u8]) -> Result<usize, EncodeError> {
    let count = length("node ids", nodeids.len())?;
    let body = fuse_notify_prune_out {
        count,
        padding: 0,
        spare: 0,
    };
    message(
        buf,
        "prune notification",
        NotifyCode::Prune,
        [body.as_bytes(), nodeids.as_bytes(), &[]],
    )
}
