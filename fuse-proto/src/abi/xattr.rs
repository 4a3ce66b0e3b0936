//! Extended attributes.
#![allow(non_camel_case_types)]

/// Length of [`fuse_setxattr_in`] on the wire unless SETXATTR_EXT was negotiated: without `setxattr_flags`.
pub const FUSE_COMPAT_SETXATTR_IN_SIZE: usize = 8;

wire! {
    /// SETXATTR, followed by the name and `size` bytes of value.
    pub struct fuse_setxattr_in: 16 {
        /// Length of the value in bytes.
        pub size: u32,
        /// `XATTR_CREATE`, `XATTR_REPLACE`.
        pub flags: u32,
        /// [`SetxattrFlags`](crate::SetxattrFlags). Since 7.33, only with
        /// [`InitFlags::SETXATTR_EXT`](crate::InitFlags::SETXATTR_EXT).
        pub setxattr_flags: u32,
        /// Zero.
        pub padding: u32,
    }

    /// GETXATTR (followed by the name) and LISTXATTR.
    pub struct fuse_getxattr_in: 8 {
        /// Room in the caller's buffer, in bytes. 0 asks for the size: reply with [`fuse_getxattr_out`].
        pub size: u32,
        /// Zero.
        pub padding: u32,
    }

    /// Reply to GETXATTR and LISTXATTR of `size` 0; otherwise the reply is the bare value.
    pub struct fuse_getxattr_out: 8 {
        /// Length of the value or list in bytes.
        pub size: u32,
        /// Zero.
        pub padding: u32,
    }
}
