//! Message headers, FORGET and INTERRUPT.
#![allow(non_camel_case_types)]

/// Major version of the protocol this crate speaks. The kernel refuses any other in the INIT reply.
pub const FUSE_KERNEL_VERSION: u32 = 7;
/// Highest minor version a server built on this crate should announce in its INIT reply.
///
/// The structures of 7.46 are declared too, each marked as such, but they are optional and switched on by
/// their own INIT flag; see [`InitFlags::HAS_IO_URING_BUFPOOL`](crate::InitFlags::HAS_IO_URING_BUFPOOL).
pub const FUSE_KERNEL_MINOR_VERSION: u32 = 45;
/// Node id of the root directory of every mount. It is never looked up and never forgotten.
pub const FUSE_ROOT_ID: u64 = 1;
/// Smallest buffer, in bytes, the kernel accepts in a `read` of `/dev/fuse` (`EINVAL` below), and smallest
/// payload buffer of a ring entry. The real need is `max_write` plus headers.
pub const FUSE_MIN_READ_BUFFER: usize = 8192;
/// Bit in `unique` of a request the kernel sends again after `NOTIFY_RESEND`. Since 7.40, only with
/// [`InitFlags::HAS_RESEND`](crate::InitFlags::HAS_RESEND). The reply must carry the bit as well.
pub const FUSE_UNIQUE_RESEND: u64 = 1 << 63;
/// Value of `uid` and `gid` in [`fuse_in_header`] when the mount is idmapped, ALLOW_IDMAP was negotiated and the
/// request does not create an inode, so that no owner is needed. Since 7.41.
pub const FUSE_INVALID_UIDGID: u32 = u32::MAX;

wire! {
    /// First part of every request.
    pub struct fuse_in_header: 40 {
        /// Length of the whole message in bytes, this header included.
        pub len: u32,
        /// Operation, see [`Opcode`](crate::Opcode).
        pub opcode: u32,
        /// Request id, echoed in the reply. Even; the INTERRUPT of a request has its id with the lowest bit set.
        /// FORGET and BATCH_FORGET have an id too, though nothing refers to it. See [`FUSE_UNIQUE_RESEND`].
        pub unique: u64,
        /// Inode the operation is about, the parent directory for operations that take a name.
        pub nodeid: u64,
        /// File system user id of the caller in the user namespace of the mount, see [`FUSE_INVALID_UIDGID`].
        pub uid: u32,
        /// File system group id of the caller in the user namespace of the mount.
        pub gid: u32,
        /// Process id of the caller in the pid namespace of the mount, 0 when it has none there or for
        /// requests that no process is waiting for (writeback, readahead, RELEASE).
        pub pid: u32,
        /// Length of the extensions at the end of a create request, in units of 8 bytes. Since 7.38.
        pub total_extlen: u16,
        /// Zero.
        pub padding: u16,
    }

    /// First part of every reply and of every notification.
    pub struct fuse_out_header: 16 {
        /// Length of the whole message in bytes, this header included. Ignored in a ring entry.
        pub len: u32,
        /// 0 or a negated errno above -512 in a reply; in a notification the positive
        /// [`NotifyCode`](crate::notify::NotifyCode). A reply with an error must not carry a payload.
        pub error: i32,
        /// Request this answers, 0 for a notification.
        pub unique: u64,
    }

    /// FORGET: the kernel drops references to the inode in the header. There is no reply.
    pub struct fuse_forget_in: 8 {
        /// Number of references (successful LOOKUP-like replies) to give back.
        pub nlookup: u64,
    }

    /// One element of BATCH_FORGET. Since 7.16.
    pub struct fuse_forget_one: 16 {
        /// Inode to forget.
        pub nodeid: u64,
        /// Number of references to give back.
        pub nlookup: u64,
    }

    /// BATCH_FORGET, followed by `count` elements. There is no reply. Since 7.16.
    pub struct fuse_batch_forget_in: 8 {
        /// Number of [`fuse_forget_one`] that follow.
        pub count: u32,
        /// Zero.
        pub dummy: u32,
    }

    /// INTERRUPT: the caller of an earlier request was signalled. Since 7.7.
    ///
    /// The request itself must still be answered, as a rule with `EINTR`. The INTERRUPT is answered only to say
    /// `EAGAIN` (request not known yet, ask again) or `ENOSYS` (never send this again).
    pub struct fuse_interrupt_in: 8 {
        /// `unique` of the request to interrupt.
        pub unique: u64,
    }
}
