//! Replies: encoded in place, and decoded for tests.
//!
//! A reply is a [`fuse_out_header`] and a payload. On `/dev/fuse` they are written together; in a ring entry they live
//! in different buffers. So the [`ReplyWriter`] writes the payload only and returns its length, and
//! [`out_header`] makes the header that goes with it. A reply with an error has no payload.

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::*;
use crate::{DecodeError, Dialect, EncodeError};

/// The header for a payload of `payload_len` bytes. `error` is 0 or a negated errno.
///
/// Saturates at 4 GiB, which no buffer of the kernel reaches.
#[must_use]
pub fn out_header(payload_len: usize, error: i32, unique: u64) -> fuse_out_header {
    let len = payload_len.saturating_add(size_of::<fuse_out_header>());
    fuse_out_header {
        len: u32::try_from(len).unwrap_or(u32::MAX),
        error,
        unique,
    }
}

/// Writes the payload of one reply to the start of a buffer.
///
/// Each method writes one kind of payload in the size the dialect wants, and returns its length in bytes.
/// The kernel refuses a payload of any other length with `EINVAL`.
#[derive(Debug)]
pub struct ReplyWriter<'a> {
    payload: &'a mut [u8],
    dialect: Dialect,
}

/// Length of the reply to INIT on the wire.
const fn init_out_len(d: Dialect) -> usize {
    match d.minor {
        0..5 => FUSE_COMPAT_INIT_OUT_SIZE,
        5..23 => FUSE_COMPAT_22_INIT_OUT_SIZE,
        _ => size_of::<fuse_init_out>(),
    }
}

/// Length of an entry on the wire.
const fn entry_out_len(d: Dialect) -> usize {
    if d.minor < 9 {
        FUSE_COMPAT_ENTRY_OUT_SIZE
    } else {
        size_of::<fuse_entry_out>()
    }
}

/// Length of attributes on the wire.
const fn attr_out_len(d: Dialect) -> usize {
    if d.minor < 9 {
        FUSE_COMPAT_ATTR_OUT_SIZE
    } else {
        size_of::<fuse_attr_out>()
    }
}

/// Length of the figures of a file system on the wire.
const fn statfs_out_len(d: Dialect) -> usize {
    if d.minor < 4 {
        FUSE_COMPAT_STATFS_SIZE
    } else {
        size_of::<fuse_statfs_out>()
    }
}

impl<'a> ReplyWriter<'a> {
    /// Will write to the start of `payload`.
    pub fn new(payload: &'a mut [u8], d: Dialect) -> Self {
        Self {
            payload,
            dialect: d,
        }
    }

    fn parts(self, what: &'static str, parts: &[&[u8]]) -> Result<usize, EncodeError> {
        let needed = parts.iter().map(|part| part.len()).sum();
        let room = self.payload.len();
        let Some(mut rest) = self.payload.get_mut(..needed) else {
            return Err(EncodeError::NoRoom { what, needed, room });
        };
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        Ok(needed)
    }

    fn whole<T: Wire>(self, out: &T) -> Result<usize, EncodeError> {
        self.parts(T::NAME, &[out.as_bytes()])
    }

    fn prefix<T: Wire>(self, out: &T, len: usize) -> Result<usize, EncodeError> {
        self.parts(T::NAME, &[&out.as_bytes()[..len]])
    }

    /// Nothing: the reply to operations without a result, and to all that failed.
    #[must_use]
    pub fn empty(self) -> usize {
        0
    }

    /// Reply to LOOKUP, SYMLINK, MKNOD, MKDIR and LINK.
    ///
    /// # Errors
    ///
    /// As all methods here, if the buffer is too small.
    pub fn entry(self, out: &fuse_entry_out) -> Result<usize, EncodeError> {
        let len = entry_out_len(self.dialect);
        self.prefix(out, len)
    }

    /// Reply to GETATTR and SETATTR.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn attr(self, out: &fuse_attr_out) -> Result<usize, EncodeError> {
        let len = attr_out_len(self.dialect);
        self.prefix(out, len)
    }

    /// Reply to OPEN and OPENDIR.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn open(self, out: &fuse_open_out) -> Result<usize, EncodeError> {
        self.whole(out)
    }

    /// Reply to CREATE and TMPFILE.
    ///
    /// TMPFILE is newer than the short entries of dialects below 7.9; a kernel that sends it there all the same
    /// (Linux 6.18 does) refuses the short one. Answer it with `ENOSYS` in such a dialect.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn create(
        self,
        entry: &fuse_entry_out,
        open: &fuse_open_out,
    ) -> Result<usize, EncodeError> {
        let len = entry_out_len(self.dialect);
        self.parts(
            "fuse_entry_out and fuse_open_out",
            &[&entry.as_bytes()[..len], open.as_bytes()],
        )
    }

    /// Reply to WRITE and COPY_FILE_RANGE.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn write(self, out: &fuse_write_out) -> Result<usize, EncodeError> {
        self.whole(out)
    }

    /// Reply to STATFS.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn statfs(self, out: &fuse_statfs_out) -> Result<usize, EncodeError> {
        let len = statfs_out_len(self.dialect);
        self.prefix(out, len)
    }

    /// Reply to GETXATTR and LISTXATTR that ask for the size.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn xattr_size(self, size: u32) -> Result<usize, EncodeError> {
        self.whole(&fuse_getxattr_out { size, padding: 0 })
    }

    /// Reply to GETLK.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn lk(self, out: &fuse_lk_out) -> Result<usize, EncodeError> {
        self.whole(out)
    }

    /// Reply to BMAP.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn bmap(self, out: &fuse_bmap_out) -> Result<usize, EncodeError> {
        self.whole(out)
    }

    /// Reply to IOCTL without data.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn ioctl(self, out: &fuse_ioctl_out) -> Result<usize, EncodeError> {
        self.whole(out)
    }

    /// Reply to IOCTL with data, at most `out_size` of the request.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn ioctl_data(self, out: &fuse_ioctl_out, data: &[u8]) -> Result<usize, EncodeError> {
        self.parts("fuse_ioctl_out and data", &[out.as_bytes(), data])
    }

    /// Reply to IOCTL that asks for the request again with these vectors: `out` has RETRY and their numbers.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn ioctl_retry(
        self,
        out: &fuse_ioctl_out,
        in_iovs: &[fuse_ioctl_iovec],
        out_iovs: &[fuse_ioctl_iovec],
    ) -> Result<usize, EncodeError> {
        self.parts(
            "fuse_ioctl_out and vectors",
            &[out.as_bytes(), in_iovs.as_bytes(), out_iovs.as_bytes()],
        )
    }

    /// Reply to POLL.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn poll(self, out: &fuse_poll_out) -> Result<usize, EncodeError> {
        self.whole(out)
    }

    /// Reply to LSEEK.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn lseek(self, out: &fuse_lseek_out) -> Result<usize, EncodeError> {
        self.whole(out)
    }

    /// Reply to STATX.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn statx(self, out: &fuse_statx_out) -> Result<usize, EncodeError> {
        self.whole(out)
    }

    /// Reply to INIT, as long as the kernel of that minor version wants it.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn init(self, out: &fuse_init_out) -> Result<usize, EncodeError> {
        let len = init_out_len(self.dialect);
        self.prefix(out, len)
    }

    /// Reply to CUSE_INIT: `info` is NUL-terminated `KEY=value` strings.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn cuse_init(self, out: &cuse_init_out, info: &[u8]) -> Result<usize, EncodeError> {
        self.parts(
            "cuse_init_out and device information",
            &[out.as_bytes(), info],
        )
    }

    /// Reply to COPY_FILE_RANGE_64.
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn copy_file_range_64(self, out: &fuse_copy_file_range_out) -> Result<usize, EncodeError> {
        self.whole(out)
    }

    /// Bare bytes: READ, READLINK, GETXATTR, LISTXATTR. READDIR is better written in place, see [`crate::dirent`].
    ///
    /// # Errors
    ///
    /// If the buffer is too small.
    pub fn bytes(self, bytes: &[u8]) -> Result<usize, EncodeError> {
        self.parts("data", &[bytes])
    }
}

/// Splits a message as written to `/dev/fuse` into header and payload.
///
/// # Errors
///
/// If it is shorter than a header, or of another length than its header says.
pub fn decode_header(message: &[u8]) -> Result<(fuse_out_header, &[u8]), DecodeError> {
    let Ok((header, payload)) = fuse_out_header::read_from_prefix(message) else {
        return Err(DecodeError::ShortMessage {
            what: fuse_out_header::NAME,
            needed: size_of::<fuse_out_header>(),
            got: message.len(),
        });
    };
    if header.len as usize != message.len() {
        return Err(DecodeError::MessageLength {
            what: "message",
            needed: header.len as usize,
            got: message.len(),
        });
    }
    Ok((header, payload))
}

/// A payload that is exactly the first `len` bytes of a structure.
fn decode_prefix<T: Wire>(payload: &[u8], len: usize) -> Result<T, DecodeError> {
    if payload.len() != len {
        return Err(DecodeError::MessageLength {
            what: T::NAME,
            needed: len,
            got: payload.len(),
        });
    }
    let mut out = T::default();
    out.as_mut_bytes()[..len].copy_from_slice(payload);
    Ok(out)
}

/// A payload that is one structure of the same size in every dialect: open, write, lk, lseek, statx and so on.
///
/// # Errors
///
/// If the payload has another length.
pub fn decode<T: Wire>(payload: &[u8]) -> Result<T, DecodeError> {
    decode_prefix(payload, size_of::<T>())
}

/// The payload of [`ReplyWriter::entry`].
///
/// # Errors
///
/// If the payload has another length.
pub fn decode_entry(payload: &[u8], d: Dialect) -> Result<fuse_entry_out, DecodeError> {
    decode_prefix(payload, entry_out_len(d))
}

/// The payload of [`ReplyWriter::attr`].
///
/// # Errors
///
/// If the payload has another length.
pub fn decode_attr(payload: &[u8], d: Dialect) -> Result<fuse_attr_out, DecodeError> {
    decode_prefix(payload, attr_out_len(d))
}

/// The payload of [`ReplyWriter::open`].
///
/// # Errors
///
/// If the payload has another length.
pub fn decode_open(payload: &[u8]) -> Result<fuse_open_out, DecodeError> {
    decode(payload)
}

/// The payload of [`ReplyWriter::create`].
///
/// # Errors
///
/// If the payload has another length.
pub fn decode_create(
    payload: &[u8],
    d: Dialect,
) -> Result<(fuse_entry_out, fuse_open_out), DecodeError> {
    let len = entry_out_len(d);
    let needed = len + size_of::<fuse_open_out>();
    match payload.split_at_checked(len) {
        Some((entry, open)) if payload.len() == needed => {
            Ok((decode_prefix(entry, len)?, decode(open)?))
        }
        _ => Err(DecodeError::MessageLength {
            what: "fuse_entry_out and fuse_open_out",
            needed,
            got: payload.len(),
        }),
    }
}

/// The payload of [`ReplyWriter::statfs`].
///
/// # Errors
///
/// If the payload has another length.
pub fn decode_statfs(payload: &[u8], d: Dialect) -> Result<fuse_statfs_out, DecodeError> {
    decode_prefix(payload, statfs_out_len(d))
}

/// The payload of [`ReplyWriter::init`].
///
/// # Errors
///
/// If the payload has another length.
pub fn decode_init(payload: &[u8], d: Dialect) -> Result<fuse_init_out, DecodeError> {
    decode_prefix(payload, init_out_len(d))
}
