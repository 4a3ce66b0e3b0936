//! Reading notifications, as the kernel does.

use core::ffi::CStr;

use zerocopy::FromBytes;

use super::NotifyCode;
use crate::abi::*;
use crate::reply::decode_header;
use crate::{DecodeError, ExpireFlags};

/// A notification, as the kernel would read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification<'a> {
    /// See [`encode_poll`](super::encode_poll).
    Poll {
        /// Handle of the POLL request.
        kh: u64,
    },
    /// See [`encode_inval_inode`](super::encode_inval_inode).
    InvalInode {
        /// Node id.
        nodeid: u64,
        /// First byte of data to drop, negative for attributes only.
        off: i64,
        /// Number of bytes, 0 or less for all.
        len: i64,
    },
    /// See [`encode_inval_entry`](super::encode_inval_entry).
    InvalEntry {
        /// Node id of the directory.
        parent: u64,
        /// Name in it.
        name: &'a CStr,
        /// Whether to expire only.
        flags: ExpireFlags,
    },
    /// See [`encode_delete`](super::encode_delete).
    Delete {
        /// Node id of the directory.
        parent: u64,
        /// Node id the name belonged to.
        child: u64,
        /// Name in the directory.
        name: &'a CStr,
    },
    /// See [`encode_store`](super::encode_store).
    Store {
        /// Node id.
        nodeid: u64,
        /// Position in bytes.
        offset: u64,
        /// The data.
        data: &'a [u8],
    },
    /// See [`encode_retrieve`](super::encode_retrieve).
    Retrieve {
        /// `unique` of the NOTIFY_REPLY to come.
        notify_unique: u64,
        /// Node id.
        nodeid: u64,
        /// Position in bytes.
        offset: u64,
        /// Most bytes to send.
        size: u32,
    },
    /// See [`encode_resend`](super::encode_resend).
    Resend,
    /// See [`encode_inc_epoch`](super::encode_inc_epoch).
    IncEpoch,
    /// See [`encode_prune`](super::encode_prune).
    Prune {
        /// The inodes.
        nodeids: NodeIds<'a>,
    },
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
