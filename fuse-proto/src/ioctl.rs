//! Requests of `ioctl(2)` on `/dev/fuse`.
//!
//! The numbers are those of the architecture this is compiled for. Cast them to what the C library's `ioctl`
//! takes (`c_ulong` with glibc, `c_int` with musl).
#![allow(non_camel_case_types)]

use crate::abi::wire;

/// Type byte of the requests, the minor number of `/dev/fuse`.
pub const FUSE_DEV_IOC_MAGIC: u32 = 229;

/// Attach this freshly opened `/dev/fuse` to the connection of another: the argument points to that descriptor
/// (`u32`). Since 7.23 (kernel 4.2). A reply must be written to the descriptor its request was read from.
pub const FUSE_DEV_IOC_CLONE: u32 = request(READ, 0, size_of::<u32>() as u32);
/// Register a backing file for passthrough: the argument points to a [`fuse_backing_map`]. Since 7.40 (kernel 6.9).
///
/// Returns an id above 0 for [`fuse_open_out::backing_id`](crate::fuse_open_out::backing_id). Needs
/// `CAP_SYS_ADMIN` in the initial user namespace; all passthrough I/O uses the credentials of the calling thread.
pub const FUSE_DEV_IOC_BACKING_OPEN: u32 = request(WRITE, 1, size_of::<fuse_backing_map>() as u32);
/// Forget a backing file: the argument points to its id (`u32`). Open files that use it go on. Since 7.40.
pub const FUSE_DEV_IOC_BACKING_CLOSE: u32 = request(WRITE, 2, size_of::<u32>() as u32);
/// Answer INIT inside `mount(2)`: no argument, before mounting. Kernel 6.18; `ENOTTY` means "not supported".
pub const FUSE_DEV_IOC_SYNC_INIT: u32 = request(NONE, 3, 0);

wire! {
    /// Argument of [`FUSE_DEV_IOC_BACKING_OPEN`]. Since 7.40.
    pub struct fuse_backing_map: 16 {
        /// Descriptor of a regular file; its access mode does not matter, `O_PATH` is enough.
        pub fd: i32,
        /// Zero.
        pub flags: u32,
        /// Zero.
        pub padding: u64,
    }
}

// `_IOC` of the kernel: asm-generic, and the three families of architectures that have their own.
#[cfg(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "powerpc",
    target_arch = "powerpc64",
    target_arch = "sparc",
    target_arch = "sparc64"
))]
mod direction {
    pub(super) const NONE: u32 = 1;
    pub(super) const READ: u32 = 2;
    pub(super) const WRITE: u32 = 4;
    pub(super) const SHIFT: u32 = 29;
}
#[cfg(not(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "powerpc",
    target_arch = "powerpc64",
    target_arch = "sparc",
    target_arch = "sparc64"
)))]
mod direction {
    pub(super) const NONE: u32 = 0;
    pub(super) const READ: u32 = 2;
    pub(super) const WRITE: u32 = 1;
    pub(super) const SHIFT: u32 = 30;
}
use direction::{NONE, READ, SHIFT, WRITE};

const fn request(direction: u32, number: u32, size: u32) -> u32 {
    direction << SHIFT | size << 16 | FUSE_DEV_IOC_MAGIC << 8 | number
}
