//! IOCTL and POLL.
#![allow(non_camel_case_types)]

/// Most entries of both iovec arrays of an IOCTL retry reply together.
pub const FUSE_IOCTL_MAX_IOV: usize = 256;

wire! {
    /// IOCTL, followed by `in_size` bytes of data. Since 7.11.
    pub struct fuse_ioctl_in: 32 {
        /// The open file.
        pub fh: u64,
        /// [`IoctlFlags`](crate::IoctlFlags).
        pub flags: u32,
        /// Request number.
        pub cmd: u32,
        /// Third argument of the call, an address in the caller for most commands.
        pub arg: u64,
        /// Length of the data that follows, in bytes.
        pub in_size: u32,
        /// Most bytes of data in the reply.
        pub out_size: u32,
    }

    /// Element of the iovec arrays of an IOCTL retry reply. Since 7.16.
    pub struct fuse_ioctl_iovec: 16 {
        /// Address in the caller.
        pub base: u64,
        /// Length in bytes.
        pub len: u64,
    }

    /// Reply to IOCTL, followed by data or, with [`IoctlFlags::RETRY`](crate::IoctlFlags::RETRY), by the
    /// `in_iovs + out_iovs` [`fuse_ioctl_iovec`] the kernel shall transfer. Since 7.11.
    pub struct fuse_ioctl_out: 16 {
        /// Result of the call.
        pub result: i32,
        /// [`IoctlFlags`](crate::IoctlFlags).
        pub flags: u32,
        /// Number of input vectors in a retry reply.
        pub in_iovs: u32,
        /// Number of output vectors in a retry reply.
        pub out_iovs: u32,
    }

    /// POLL. Since 7.11.
    pub struct fuse_poll_in: 24 {
        /// The open file.
        pub fh: u64,
        /// Handle to name in a poll notification.
        pub kh: u64,
        /// [`PollFlags`](crate::PollFlags).
        pub flags: u32,
        /// `POLL*` events of interest. Since 7.21.
        pub events: u32,
    }

    /// Reply to POLL. Since 7.11.
    pub struct fuse_poll_out: 8 {
        /// `POLL*` events that are ready now.
        pub revents: u32,
        /// Zero.
        pub padding: u32,
    }
}
