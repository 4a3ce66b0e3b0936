//! Notifications: messages a server sends on its own, by writing them to `/dev/fuse`.
//!
//! A notification is a [`fuse_out_header`] with `unique` 0 and the code in `error`, and a body. The `encode_*`
//! functions write a complete message to the start of a buffer and return its length; the result of the
//! `write(2)` tells whether the kernel found the inode (`ENOENT` otherwise). Never send one from the thread that has
//! to answer requests, or while holding a lock such a thread may want: most of them wait for requests in flight.

use core::ffi::CStr;

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::*;
use crate::reply::{decode_header, out_header};
use crate::{DecodeError, EncodeError, ExpireFlags};

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
/// [`FUSE_UNIQUE_RESEND`](crate::FUSE_UNIQUE_RESEND) in `unique`.
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

/// A notification, as the kernel would read it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are described at the structures.
pub enum Notification<'a> {
    /// See [`encode_poll`].
    Poll { kh: u64 },
    /// See [`encode_inval_inode`].
    InvalInode { nodeid: u64, off: i64, len: i64 },
    /// See [`encode_inval_entry`].
    InvalEntry {
        parent: u64,
        name: &'a CStr,
        flags: ExpireFlags,
    },
    /// See [`encode_delete`].
    Delete {
        parent: u64,
        child: u64,
        name: &'a CStr,
    },
    /// See [`encode_store`].
    Store {
        nodeid: u64,
        offset: u64,
        data: &'a [u8],
    },
    /// See [`encode_retrieve`].
    Retrieve {
        notify_unique: u64,
        nodeid: u64,
        offset: u64,
        size: u32,
    },
    /// See [`encode_resend`].
    Resend,
    /// See [`encode_inc_epoch`].
    IncEpoch,
    /// See [`encode_prune`].
    Prune { nodeids: NodeIds<'a> },
}

/// The node ids of a prune notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIds<'a> {
    bytes: &'a [u8],
}

impl Iterator for NodeIds<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (id, rest) = u64::read_from_prefix(self.bytes).ok()?;
        self.bytes = rest;
        Some(id)
    }
}

impl<'a> Notification<'a> {
    /// Decodes a message as written to `/dev/fuse`, with the same checks the kernel makes.
    ///
    /// # Errors
    ///
    /// If it is not a well-formed notification.
    pub fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, body) = decode_header(message)?;
        let bad = DecodeError::Notification { code: header.error };
        let code = match NotifyCode::from_raw(header.error) {
            Some(code) if header.unique == 0 => code,
            _ => return Err(bad),
        };
        let (notification, rest) = match code {
            NotifyCode::Poll => {
                let (out, rest) = take::<fuse_notify_poll_wakeup_out>(body)?;
                (Self::Poll { kh: out.kh }, rest)
            }
            NotifyCode::InvalInode => {
                let (out, rest) = take::<fuse_notify_inval_inode_out>(body)?;
                (
                    Self::InvalInode {
                        nodeid: out.ino,
                        off: out.off,
                        len: out.len,
                    },
                    rest,
                )
            }
            NotifyCode::InvalEntry => {
                let (out, rest) = take::<fuse_notify_inval_entry_out>(body)?;
                let name = take_name(rest, out.namelen).ok_or(bad)?;
                let flags = ExpireFlags::from_bits_retain(out.flags);
                (
                    Self::InvalEntry {
                        parent: out.parent,
                        name,
                        flags,
                    },
                    &[][..],
                )
            }
            NotifyCode::Delete => {
                let (out, rest) = take::<fuse_notify_delete_out>(body)?;
                let name = take_name(rest, out.namelen).ok_or(bad)?;
                (
                    Self::Delete {
                        parent: out.parent,
                        child: out.child,
                        name,
                    },
                    &[][..],
                )
            }
            NotifyCode::Store => {
                let (out, rest) = take::<fuse_notify_store_out>(body)?;
                let (data, rest) = take_bytes("data", rest, out.size as usize)?;
                (
                    Self::Store {
                        nodeid: out.nodeid,
                        offset: out.offset,
                        data,
                    },
                    rest,
                )
            }
            NotifyCode::Retrieve => {
                let (out, rest) = take::<fuse_notify_retrieve_out>(body)?;
                let fuse_notify_retrieve_out {
                    notify_unique,
                    nodeid,
                    offset,
                    size,
                    ..
                } = out;
                (
                    Self::Retrieve {
                        notify_unique,
                        nodeid,
                        offset,
                        size,
                    },
                    rest,
                )
            }
            NotifyCode::Resend => (Self::Resend, body),
            NotifyCode::IncEpoch => (Self::IncEpoch, body),
            NotifyCode::Prune => {
                let (out, rest) = take::<fuse_notify_prune_out>(body)?;
                let len = (out.count as usize).saturating_mul(size_of::<u64>());
                let (bytes, rest) = take_bytes("node ids", rest, len)?;
                (
                    Self::Prune {
                        nodeids: NodeIds { bytes },
                    },
                    rest,
                )
            }
        };
        if !rest.is_empty() {
            return Err(DecodeError::MessageLength {
                what: "notification",
                needed: message.len() - rest.len(),
                got: message.len(),
            });
        }
        Ok(notification)
    }
}

fn take<T: Wire>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(bytes).map_err(|_| DecodeError::ShortMessage {
        what: T::NAME,
        needed: size_of::<T>(),
        got: bytes.len(),
    })
}

fn take_bytes<'a>(
    what: &'static str,
    bytes: &'a [u8],
    needed: usize,
) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    bytes
        .split_at_checked(needed)
        .ok_or(DecodeError::ShortMessage {
            what,
            needed,
            got: bytes.len(),
        })
}

/// The rest of a body as a name of `namelen` bytes and its NUL.
fn take_name(rest: &[u8], namelen: u32) -> Option<&CStr> {
    let name = CStr::from_bytes_with_nul(rest).ok()?;
    (name.count_bytes() == namelen as usize).then_some(name)
}
