//! Open files: OPEN, CREATE, READ, WRITE, RELEASE and everything else that goes through a file handle.
#![allow(non_camel_case_types)]

/// Length of [`fuse_write_in`] on the wire below 7.9: without everything from `lock_owner` on.
pub const FUSE_COMPAT_WRITE_IN_SIZE: usize = 24;

wire! {
    /// OPEN and OPENDIR.
    pub struct fuse_open_in: 8 {
        /// `O_*` flags of the call, without `O_CREAT`, `O_EXCL`, `O_NOCTTY`; without `O_TRUNC` unless
        /// ATOMIC_O_TRUNC was negotiated.
        pub flags: u32,
        /// [`OpenInFlags`](crate::OpenInFlags). Since 7.33.
        pub open_flags: u32,
    }

    /// CREATE and TMPFILE (since 7.37), followed by the name and, since 7.36, by extensions.
    ///
    /// Below 7.12 the structure ends after `mode`.
    pub struct fuse_create_in: 16 {
        /// `O_*` flags of the call.
        pub flags: u32,
        /// File type (regular) and permission bits; with DONT_MASK the umask is not yet applied.
        pub mode: u32,
        /// umask of the caller. Since 7.12.
        pub umask: u32,
        /// [`OpenInFlags`](crate::OpenInFlags). Since 7.33.
        pub open_flags: u32,
    }

    /// Reply to OPEN and OPENDIR, second part of the replies to CREATE and TMPFILE.
    pub struct fuse_open_out: 16 {
        /// Handle of the server's choice, given back in every request on the open file.
        pub fh: u64,
        /// [`OpenFlags`](crate::OpenFlags).
        pub open_flags: u32,
        /// Id from the BACKING_OPEN ioctl, with [`OpenFlags::PASSTHROUGH`](crate::OpenFlags::PASSTHROUGH);
        /// 0 otherwise. Since 7.40.
        pub backing_id: i32,
    }

    /// RELEASE and RELEASEDIR: the last reference to the open file is gone. Nobody waits for the reply.
    pub struct fuse_release_in: 24 {
        /// The open file.
        pub fh: u64,
        /// `O_*` flags it was opened with.
        pub flags: u32,
        /// [`ReleaseFlags`](crate::ReleaseFlags). Since 7.8.
        pub release_flags: u32,
        /// Owner of the locks to drop. Since 7.8.
        pub lock_owner: u64,
    }

    /// FLUSH: one descriptor of the open file was closed. Its error is the result of `close(2)`.
    pub struct fuse_flush_in: 24 {
        /// The open file.
        pub fh: u64,
        /// Zero.
        pub unused: u32,
        /// Zero.
        pub padding: u32,
        /// Owner whose POSIX locks end with this close. Since 7.7.
        pub lock_owner: u64,
    }

    /// READ, READDIR and READDIRPLUS (since 7.21).
    ///
    /// A READ reply shorter than `size` means end of file, except with
    /// [`OpenFlags::DIRECT_IO`](crate::OpenFlags::DIRECT_IO).
    pub struct fuse_read_in: 40 {
        /// The open file.
        pub fh: u64,
        /// Position in bytes; for directories 0 or the `off` of an earlier record.
        pub offset: u64,
        /// Most bytes to reply with.
        pub size: u32,
        /// [`ReadFlags`](crate::ReadFlags). Since 7.9.
        pub read_flags: u32,
        /// Lock owner, if `read_flags` says so. Since 7.9.
        pub lock_owner: u64,
        /// `O_*` flags of the open file now. Since 7.9.
        pub flags: u32,
        /// Zero.
        pub padding: u32,
    }

    /// WRITE, followed by `size` bytes of data.
    pub struct fuse_write_in: 40 {
        /// The open file; guessed by the kernel with [`WriteFlags::CACHE`](crate::WriteFlags::CACHE).
        pub fh: u64,
        /// Position in bytes.
        pub offset: u64,
        /// Length of the data in bytes.
        pub size: u32,
        /// [`WriteFlags`](crate::WriteFlags).
        pub write_flags: u32,
        /// Lock owner, if `write_flags` says so. Since 7.9.
        pub lock_owner: u64,
        /// `O_*` flags of the open file now. Since 7.9.
        pub flags: u32,
        /// Zero.
        pub padding: u32,
    }

    /// Reply to WRITE and COPY_FILE_RANGE.
    pub struct fuse_write_out: 8 {
        /// Bytes written. More than asked for is answered to the program with `EIO`.
        pub size: u32,
        /// Zero.
        pub padding: u32,
    }

    /// FSYNC and FSYNCDIR.
    pub struct fuse_fsync_in: 16 {
        /// The open file.
        pub fh: u64,
        /// [`FsyncFlags`](crate::FsyncFlags).
        pub fsync_flags: u32,
        /// Zero.
        pub padding: u32,
    }

    /// ACCESS. Not sent with default permissions. Since 7.3.
    pub struct fuse_access_in: 8 {
        /// `R_OK | W_OK | X_OK`, or 0 for existence.
        pub mask: u32,
        /// Zero.
        pub padding: u32,
    }

    /// BMAP, only on mounts over a block device. Since 7.8.
    pub struct fuse_bmap_in: 16 {
        /// Block number in the file.
        pub block: u64,
        /// Size of a block in bytes.
        pub blocksize: u32,
        /// Zero.
        pub padding: u32,
    }

    /// Reply to BMAP. Since 7.8.
    pub struct fuse_bmap_out: 8 {
        /// Block number on the device, 0 for a hole.
        pub block: u64,
    }

    /// FALLOCATE. Since 7.19.
    pub struct fuse_fallocate_in: 32 {
        /// The open file.
        pub fh: u64,
        /// Start in bytes.
        pub offset: u64,
        /// Length in bytes.
        pub length: u64,
        /// `FALLOC_FL_*` of the call.
        pub mode: u32,
        /// Zero.
        pub padding: u32,
    }

    /// LSEEK, only for `SEEK_DATA` and `SEEK_HOLE`. Since 7.24.
    pub struct fuse_lseek_in: 24 {
        /// The open file.
        pub fh: u64,
        /// Position to search from, in bytes.
        pub offset: u64,
        /// `SEEK_DATA` (3) or `SEEK_HOLE` (4).
        pub whence: u32,
        /// Zero.
        pub padding: u32,
    }

    /// Reply to LSEEK. Since 7.24.
    pub struct fuse_lseek_out: 8 {
        /// Position found, in bytes.
        pub offset: u64,
    }

    /// COPY_FILE_RANGE (since 7.28) and COPY_FILE_RANGE_64 (since 7.45). The source is the header's node.
    pub struct fuse_copy_file_range_in: 56 {
        /// Open file to copy from.
        pub fh_in: u64,
        /// Position to copy from, in bytes.
        pub off_in: u64,
        /// Node id to copy to.
        pub nodeid_out: u64,
        /// Open file to copy to.
        pub fh_out: u64,
        /// Position to copy to, in bytes.
        pub off_out: u64,
        /// Most bytes to copy. At most 4 GiB less one page in COPY_FILE_RANGE, whose reply has 32 bits.
        pub len: u64,
        /// Flags of the call, 0 so far.
        pub flags: u64,
    }

    /// Reply to COPY_FILE_RANGE_64. Since 7.45.
    pub struct fuse_copy_file_range_out: 8 {
        /// Bytes copied.
        pub bytes_copied: u64,
    }

    /// SYNCFS. Since 7.34; sent by virtiofs and block device mounts only.
    pub struct fuse_syncfs_in: 8 {
        /// Zero.
        pub padding: u64,
    }
}
