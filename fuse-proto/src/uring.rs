//! FUSE over io_uring: headers and commands. Since 7.42.
//!
//! A server that negotiated OVER_IO_URING registers entries for the queue of every possible CPU. An entry is a
//! pair of buffers, a [`fuse_uring_req_header`] and a payload, and one 128-byte SQE in flight whose command area
//! holds a [`fuse_uring_cmd_req`]. Its completion delivers a request: the header's `in_out` starts with a
//! [`fuse_in_header`], `op_in` starts with the first in-argument if that has a size (that of NOTIFY_REPLY and
//! REMOVEMAPPING is in the payload all the same), the payload has everything else back to back (see [`Request::split`](crate::Request::split)). To reply, write a
//! [`fuse_out_header`] to the start of `in_out`, all out-arguments back to back to the
//! payload, their length to `ring_ent_in_out.payload_sz`, and submit COMMIT_AND_FETCH with the entry's `commit_id`.
//!
//! INIT, FORGET, BATCH_FORGET, INTERRUPT and all notifications stay on `/dev/fuse`.
#![allow(non_camel_case_types)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::{Wire, wire};
use crate::{fuse_in_header, fuse_out_header};

/// Room for the message header in [`fuse_uring_req_header`], in bytes.
pub const FUSE_URING_IN_OUT_HEADER_SZ: usize = 128;
/// Room for the first in-argument in [`fuse_uring_req_header`], in bytes.
pub const FUSE_URING_OP_IN_OUT_SZ: usize = 128;
/// Size of the command area of a 128-byte SQE, in bytes. It starts at byte 48.
pub const SQE_CMD_LEN: usize = 80;

/// Flag in [`fuse_uring_ent_in_out::flags`]: the pages of this request are in the entry's registered buffer
/// instead of in the payload. Since 7.46. Such a request must not be decoded by
/// [`Request::split`](crate::Request::split), which wants the data of a WRITE in the payload.
pub const FUSE_URING_ENT_ZERO_COPY: u64 = 1 << 0;
/// Flag in [`fuse_uring_cmd_req::flags`] of ADD_QUEUE: the entries of the queue may do zero copy. Since 7.46,
/// privileged servers and queues with a buffer pool only.
pub const FUSE_URING_ZERO_COPY: u64 = 1 << 0;

/// Command of an SQE (`cmd_op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum UringCmd {
    /// Refused by the kernel.
    Invalid = 0,
    /// Hand an entry's buffers to the kernel and wait for a request. `addr` of the SQE points to two `iovec`s, header
    /// and payload, and `len` is 2. `EAGAIN` before the kernel has seen the INIT reply.
    Register = 1,
    /// Reply and wait for the next request.
    CommitAndFetch = 2,
    /// Create a queue ahead of its entries. Since 7.46.
    AddQueue = 3,
    /// Give a queue one pool of payload memory for all its entries. Since 7.46.
    AddBufpool = 4,
}

impl UringCmd {
    /// The command of a number.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Invalid,
            1 => Self::Register,
            2 => Self::CommitAndFetch,
            3 => Self::AddQueue,
            4 => Self::AddBufpool,
            _ => return None,
        })
    }

    /// The kernel's number, the `cmd_op` of an SQE.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self as u32
    }
}

wire! {
    /// State of a ring entry, part of [`fuse_uring_req_header`]. Since 7.42.
    pub struct fuse_uring_ent_in_out: 32 {
        /// [`FUSE_URING_ENT_ZERO_COPY`]; zero before 7.46.
        pub flags: u64,
        /// Id the commit of this request must carry. Never 0 in a delivered request.
        pub commit_id: u64,
        /// Bytes in the payload: set by the kernel for a request, by the server for a reply.
        pub payload_sz: u32,
        /// Offset of the payload in the queue's buffer pool, in bytes. Since 7.46; padding before that.
        pub offset: u32,
        /// Zero.
        pub reserved: u64,
    }

    /// Command area of an SQE, as far as 7.42 knows it. See [`Self::command_area`].
    pub struct fuse_uring_cmd_req: 24 {
        /// [`FUSE_URING_ZERO_COPY`] for ADD_QUEUE; zero otherwise.
        pub flags: u64,
        /// Entry to commit, from [`fuse_uring_ent_in_out::commit_id`]; zero for the other commands.
        pub commit_id: u64,
        /// Queue, the number of a possible CPU.
        pub qid: u16,
        /// Zero.
        pub padding: [u8; 6],
    }

    /// Pool of payload memory, after [`fuse_uring_cmd_req`] in an ADD_BUFPOOL. Since 7.46.
    ///
    /// The kernel header has it as the anonymous `bufpool` of a union at offset 24, whose other member is the
    /// `ent_zero_copy_buf_index` (`u16`) of a REGISTER on a zero-copy queue.
    pub struct fuse_uring_bufpool: 16 {
        /// Address of the pool.
        pub uaddr: u64,
        /// Length of the pool in bytes.
        pub len: u32,
        /// Zero.
        pub reserved: u32,
    }
}

impl fuse_uring_cmd_req {
    /// Argument of REGISTER for one entry of queue `qid`.
    #[must_use]
    pub const fn register(qid: u16) -> Self {
        Self {
            flags: 0,
            commit_id: 0,
            qid,
            padding: [0; 6],
        }
    }

    /// Argument of COMMIT_AND_FETCH.
    #[must_use]
    pub const fn commit(qid: u16, commit_id: u64) -> Self {
        Self {
            flags: 0,
            commit_id,
            qid,
            padding: [0; 6],
        }
    }

    /// Argument of ADD_QUEUE. Since 7.46.
    #[must_use]
    pub const fn add_queue(qid: u16, zero_copy: bool) -> Self {
        let flags = if zero_copy { FUSE_URING_ZERO_COPY } else { 0 };
        Self {
            flags,
            commit_id: 0,
            qid,
            padding: [0; 6],
        }
    }

    /// The whole command area, zeroes after the structure.
    #[must_use]
    pub fn command_area(&self) -> [u8; SQE_CMD_LEN] {
        let mut area = [0; SQE_CMD_LEN];
        area[..size_of::<Self>()].copy_from_slice(self.as_bytes());
        area
    }

    /// The whole command area of an ADD_BUFPOOL. Since 7.46.
    #[must_use]
    pub fn command_area_with_bufpool(&self, pool: &fuse_uring_bufpool) -> [u8; SQE_CMD_LEN] {
        let mut area = self.command_area();
        area[size_of::<Self>()..][..size_of::<fuse_uring_bufpool>()]
            .copy_from_slice(pool.as_bytes());
        area
    }

    /// The whole command area of a REGISTER on a zero-copy queue: `index` is the entry's slot in the ring's table of
    /// registered buffers. Since 7.46.
    #[must_use]
    pub fn command_area_with_zero_copy(&self, index: u16) -> [u8; SQE_CMD_LEN] {
        let mut area = self.command_area();
        area[size_of::<Self>()..][..size_of::<u16>()].copy_from_slice(&index.to_ne_bytes());
        area
    }
}

/// Header buffer of a ring entry, the first of the two `iovec`s of REGISTER. Since 7.42.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct fuse_uring_req_header {
    /// Starts with the [`fuse_in_header`] of a request or the [`fuse_out_header`] of a reply.
    pub in_out: [u8; FUSE_URING_IN_OUT_HEADER_SZ],
    /// Starts with the first in-argument of a request, if it has one with a size. What is after it is left over
    /// from earlier requests.
    pub op_in: [u8; FUSE_URING_OP_IN_OUT_SZ],
    /// State of the entry.
    pub ring_ent_in_out: fuse_uring_ent_in_out,
}

const _: () = assert!(size_of::<fuse_uring_req_header>() == 288);

impl Default for fuse_uring_req_header {
    fn default() -> Self {
        Self {
            in_out: [0; FUSE_URING_IN_OUT_HEADER_SZ],
            op_in: [0; FUSE_URING_OP_IN_OUT_SZ],
            ring_ent_in_out: fuse_uring_ent_in_out::default(),
        }
    }
}

impl Wire for fuse_uring_req_header {
    const NAME: &'static str = "fuse_uring_req_header";
    const FIELDS: &'static [(&'static str, usize)] = &[
        ("in_out", core::mem::offset_of!(Self, in_out)),
        ("op_in", core::mem::offset_of!(Self, op_in)),
        (
            "ring_ent_in_out",
            core::mem::offset_of!(Self, ring_ent_in_out),
        ),
    ];
}

impl fuse_uring_req_header {
    /// Header of the request the kernel delivered.
    #[must_use]
    pub fn request_header(&self) -> fuse_in_header {
        let mut header = fuse_in_header::default();
        let len = size_of::<fuse_in_header>();
        header.as_mut_bytes().copy_from_slice(&self.in_out[..len]);
        header
    }

    /// Puts the header of a reply in place, and the length of the payload that goes with it.
    pub fn set_reply(&mut self, header: &fuse_out_header, payload_sz: u32) {
        self.in_out[..size_of::<fuse_out_header>()].copy_from_slice(header.as_bytes());
        self.ring_ent_in_out.payload_sz = payload_sz;
    }
}
