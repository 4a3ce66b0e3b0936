//! Negotiation: INIT, and CUSE_INIT for character devices.
#![allow(non_camel_case_types)]

/// Length of [`fuse_init_out`] on the wire below 7.5: major and minor.
pub const FUSE_COMPAT_INIT_OUT_SIZE: usize = 8;
/// Length of [`fuse_init_out`] on the wire from 7.5 to 7.22: up to and with `max_write`.
pub const FUSE_COMPAT_22_INIT_OUT_SIZE: usize = 24;
/// Most bytes of device information after [`cuse_init_out`].
pub const CUSE_INIT_INFO_MAX: usize = 4096;

wire! {
    /// INIT, always the first request on a connection. What the kernel offers.
    ///
    /// 16 bytes long before 7.36 (8 before 7.6); the decoder fills what is missing with zeroes.
    pub struct fuse_init_in: 64 {
        /// Major version of the kernel's protocol.
        pub major: u32,
        /// Minor version of the kernel's protocol.
        pub minor: u32,
        /// Most bytes of readahead, an upper bound for the reply. Since 7.6.
        pub max_readahead: u32,
        /// Bits 0 to 31 of [`InitFlags`](crate::InitFlags). Since 7.6.
        pub flags: u32,
        /// Bits 32 to 63 of [`InitFlags`](crate::InitFlags), with INIT_EXT in `flags`. Since 7.36.
        pub flags2: u32,
        /// Zero.
        pub unused: [u32; 11],
    }

    /// Reply to INIT: what the server takes of the offer.
    pub struct fuse_init_out: 64 {
        /// Major version of the server's protocol, 7.
        pub major: u32,
        /// Minor version of the server's protocol; both sides then use the smaller one.
        pub minor: u32,
        /// Most bytes of readahead. Since 7.6.
        pub max_readahead: u32,
        /// Bits 0 to 31 of [`InitFlags`](crate::InitFlags).
        pub flags: u32,
        /// Most background requests in flight, 0 for the default of 12. Since 7.13.
        pub max_background: u16,
        /// Background requests from which the mount counts as congested, 0 for the default. Since 7.13.
        pub congestion_threshold: u16,
        /// Most bytes of data in a WRITE; the kernel raises it to 4096. Since 7.5.
        pub max_write: u32,
        /// Granularity of time stamps in nanoseconds, 0 or 1 for full precision. Since 7.23.
        pub time_gran: u32,
        /// Most pages of data in a request, with MAX_PAGES. Since 7.28.
        pub max_pages: u16,
        /// log2 of the alignment of DAX mappings, with MAP_ALIGNMENT. Since 7.31.
        pub map_alignment: u16,
        /// Bits 32 to 63 of [`InitFlags`](crate::InitFlags), ignored without INIT_EXT in `flags`. Since 7.36.
        pub flags2: u32,
        /// Stacking depth of this mount for passthrough, 1 or 2 (2 to allow backing files on overlayfs); any other
        /// value turns PASSTHROUGH off. Since 7.40.
        pub max_stack_depth: u32,
        /// Seconds after which an unanswered request aborts the connection, with REQUEST_TIMEOUT. Since 7.43.
        pub request_timeout: u16,
        /// Zero.
        pub unused: [u16; 11],
    }

    /// CUSE_INIT. Since 7.12.
    pub struct cuse_init_in: 16 {
        /// Major version of the kernel's protocol.
        pub major: u32,
        /// Minor version of the kernel's protocol.
        pub minor: u32,
        /// Zero.
        pub unused: u32,
        /// [`CuseFlags`](crate::CuseFlags).
        pub flags: u32,
    }

    /// Reply to CUSE_INIT, followed by NUL-terminated `KEY=value` strings, of which `DEVNAME` is needed.
    pub struct cuse_init_out: 72 {
        /// Major version of the server's protocol.
        pub major: u32,
        /// Minor version of the server's protocol.
        pub minor: u32,
        /// Zero.
        pub unused: u32,
        /// [`CuseFlags`](crate::CuseFlags).
        pub flags: u32,
        /// Most bytes in a READ.
        pub max_read: u32,
        /// Most bytes in a WRITE.
        pub max_write: u32,
        /// Major number of the device, 0 to have one assigned.
        pub dev_major: u32,
        /// Minor number of the device.
        pub dev_minor: u32,
        /// Zero.
        pub spare: [u32; 10],
    }
}
