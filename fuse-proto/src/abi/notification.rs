//! Bodies of the notifications a server sends, see [`crate::notify`].
#![allow(non_camel_case_types)]

wire! {
    /// `NOTIFY_POLL`: a polled file became ready. Since 7.11.
    pub struct fuse_notify_poll_wakeup_out: 8 {
        /// Handle from [`fuse_poll_in`](crate::fuse_poll_in).
        pub kh: u64,
    }

    /// `NOTIFY_INVAL_INODE`: drop cached attributes, and cached data if `off` is not negative. Since 7.12.
    pub struct fuse_notify_inval_inode_out: 24 {
        /// Node id.
        pub ino: u64,
        /// First byte of data to drop; negative to drop attributes only.
        pub off: i64,
        /// Number of bytes, 0 or less for "to the end".
        pub len: i64,
    }

    /// `NOTIFY_INVAL_ENTRY`, followed by the name and a NUL. Since 7.12.
    pub struct fuse_notify_inval_entry_out: 16 {
        /// Node id of the directory.
        pub parent: u64,
        /// Length of the name in bytes, without the NUL.
        pub namelen: u32,
        /// [`ExpireFlags`](crate::ExpireFlags). Since 7.38.
        pub flags: u32,
    }

    /// `NOTIFY_DELETE`, followed by the name and a NUL. Since 7.18.
    pub struct fuse_notify_delete_out: 24 {
        /// Node id of the directory.
        pub parent: u64,
        /// Node id the name must still belong to.
        pub child: u64,
        /// Length of the name in bytes, without the NUL.
        pub namelen: u32,
        /// Zero.
        pub padding: u32,
    }

    /// `NOTIFY_STORE`, followed by `size` bytes for the page cache. Since 7.15.
    pub struct fuse_notify_store_out: 24 {
        /// Node id.
        pub nodeid: u64,
        /// Position in bytes.
        pub offset: u64,
        /// Length of the data in bytes.
        pub size: u32,
        /// Zero.
        pub padding: u32,
    }

    /// `NOTIFY_RETRIEVE`: send back cached data by NOTIFY_REPLY. Since 7.15.
    pub struct fuse_notify_retrieve_out: 32 {
        /// `unique` the NOTIFY_REPLY shall carry.
        pub notify_unique: u64,
        /// Node id.
        pub nodeid: u64,
        /// Position in bytes.
        pub offset: u64,
        /// Most bytes to send.
        pub size: u32,
        /// Zero.
        pub padding: u32,
    }

    /// NOTIFY_REPLY, followed by `size` bytes of data. Since 7.15. It is a request and has no reply.
    pub struct fuse_notify_retrieve_in: 40 {
        /// Zero.
        pub dummy1: u64,
        /// Position in bytes.
        pub offset: u64,
        /// Length of the data in bytes, shorter than asked for where the cache ends.
        pub size: u32,
        /// Zero.
        pub dummy2: u32,
        /// Zero.
        pub dummy3: u64,
        /// Zero.
        pub dummy4: u64,
    }

    /// `NOTIFY_PRUNE`, followed by `count` node ids of 64 bits. Since 7.45.
    pub struct fuse_notify_prune_out: 16 {
        /// Number of node ids.
        pub count: u32,
        /// Zero.
        pub padding: u32,
        /// Zero.
        pub spare: u64,
    }
}
