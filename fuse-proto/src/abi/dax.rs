//! DAX mappings of virtiofs: SETUPMAPPING and REMOVEMAPPING. Never sent on `/dev/fuse`.
#![allow(non_camel_case_types)]

/// Flag in [`fuse_setupmapping_in`]: map for writing. Since 7.31.
pub const FUSE_SETUPMAPPING_FLAG_WRITE: u64 = 1 << 0;
/// Flag in [`fuse_setupmapping_in`]: map for reading. Since 7.31.
pub const FUSE_SETUPMAPPING_FLAG_READ: u64 = 1 << 1;

wire! {
    /// SETUPMAPPING: map a range of a file into the DAX window. Since 7.31.
    pub struct fuse_setupmapping_in: 40 {
        /// The open file.
        pub fh: u64,
        /// Position in the file, in bytes.
        pub foffset: u64,
        /// Length in bytes.
        pub len: u64,
        /// [`FUSE_SETUPMAPPING_FLAG_WRITE`], [`FUSE_SETUPMAPPING_FLAG_READ`].
        pub flags: u64,
        /// Position in the window, in bytes.
        pub moffset: u64,
    }

    /// REMOVEMAPPING, followed by `count` elements. Since 7.31.
    pub struct fuse_removemapping_in: 4 {
        /// Number of [`fuse_removemapping_one`] that follow.
        pub count: u32,
    }

    /// One element of REMOVEMAPPING. Since 7.31.
    pub struct fuse_removemapping_one: 16 {
        /// Position in the window, in bytes.
        pub moffset: u64,
        /// Length in bytes.
        pub len: u64,
    }
}
