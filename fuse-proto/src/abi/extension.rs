//! Extensions of the create requests: security contexts and supplementary groups.
#![allow(non_camel_case_types)]

/// Highest value of the second word of an extension that still means [`fuse_secctx_header`]. Since 7.38.
pub const FUSE_MAX_NR_SECCTX: u32 = 31;
/// Type of the extension that carries supplementary groups. Since 7.38.
pub const FUSE_EXT_GROUPS: u32 = 32;

wire! {
    /// One security context, followed by its NUL-terminated name and `size` bytes of label. Since 7.36.
    pub struct fuse_secctx: 8 {
        /// Length of the label in bytes.
        pub size: u32,
        /// Zero.
        pub padding: u32,
    }

    /// Extension with security contexts. Since 7.36, with SECURITY_CTX.
    pub struct fuse_secctx_header: 8 {
        /// Length of the extension in bytes, this header included.
        pub size: u32,
        /// Number of [`fuse_secctx`] that follow, at most [`FUSE_MAX_NR_SECCTX`]; 0 or 1 so far.
        pub nr_secctx: u32,
    }

    /// Start of any extension. Since 7.38.
    pub struct fuse_ext_header: 8 {
        /// Length of the extension in bytes, this header included; the next one starts at a multiple of 8.
        pub size: u32,
        /// Kind of extension: a count up to [`FUSE_MAX_NR_SECCTX`] makes it a [`fuse_secctx_header`],
        /// [`FUSE_EXT_GROUPS`] is followed by [`fuse_supp_groups`].
        pub r#type: u32,
    }

    /// Supplementary groups, followed by `nr_groups` group ids of 32 bits. Since 7.38, with CREATE_SUPP_GROUP.
    pub struct fuse_supp_groups: 4 {
        /// Number of group ids; the kernel sends one, the group of the parent directory if the caller is in it.
        pub nr_groups: u32,
    }
}
