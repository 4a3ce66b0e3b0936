//! File locks: GETLK, SETLK, SETLKW.
#![allow(non_camel_case_types)]

wire! {
    /// A lock. Since 7.7.
    pub struct fuse_file_lock: 24 {
        /// First byte.
        pub start: u64,
        /// Last byte, `i64::MAX` for "to the end of the file".
        pub end: u64,
        /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
        pub r#type: u32,
        /// Thread group id of the holder, in the pid namespace of the mount.
        pub pid: u32,
    }

    /// GETLK, SETLK and SETLKW. Since 7.7.
    pub struct fuse_lk_in: 48 {
        /// The open file.
        pub fh: u64,
        /// Owner of the lock, an opaque number.
        pub owner: u64,
        /// The lock.
        pub lk: fuse_file_lock,
        /// [`LkFlags`](crate::LkFlags). Since 7.9; the structure ends before it below that.
        pub lk_flags: u32,
        /// Zero.
        pub padding: u32,
    }

    /// Reply to GETLK: the lock in the way, or type `F_UNLCK`. Since 7.7.
    pub struct fuse_lk_out: 24 {
        /// The lock.
        pub lk: fuse_file_lock,
    }
}
