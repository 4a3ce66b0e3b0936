//! The operations of the protocol.

/// Declares [`Opcode`] and its tables from one list.
macro_rules! opcodes {
    ($( $(#[$meta:meta])* $variant:ident = $raw:literal, $name:literal; )*) => {
        /// An operation, with the kernel's number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Opcode {
            $( $(#[$meta])* $variant = $raw, )*
        }

        impl Opcode {
            /// Every operation, in order of number and of [`index`](Self::index).
            pub const ALL: &'static [Self] = &[ $( Self::$variant ),* ];

            /// The kernel's name without the prefix `FUSE_`, e.g. `LOOKUP`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }
        }
    };
}

opcodes! {
    /// Look up a name in a directory.
    Lookup = 1, "LOOKUP";
    /// Give back references to an inode. No reply.
    Forget = 2, "FORGET";
    /// Get attributes.
    Getattr = 3, "GETATTR";
    /// Change attributes. Since 7.1.
    Setattr = 4, "SETATTR";
    /// Read the target of a symbolic link.
    Readlink = 5, "READLINK";
    /// Make a symbolic link. Since 7.1.
    Symlink = 6, "SYMLINK";
    /// Make a regular file, device node, FIFO or socket. Since 7.1.
    Mknod = 8, "MKNOD";
    /// Make a directory. Since 7.1.
    Mkdir = 9, "MKDIR";
    /// Remove a name that is not a directory. Since 7.1.
    Unlink = 10, "UNLINK";
    /// Remove a directory. Since 7.1.
    Rmdir = 11, "RMDIR";
    /// Move a name. Since 7.1.
    Rename = 12, "RENAME";
    /// Make a hard link. Since 7.1.
    Link = 13, "LINK";
    /// Open a file. Since 7.1.
    Open = 14, "OPEN";
    /// Read from a file. Since 7.1.
    Read = 15, "READ";
    /// Write to a file. Since 7.1.
    Write = 16, "WRITE";
    /// Get figures of the file system.
    Statfs = 17, "STATFS";
    /// The last reference to an open file is gone. Since 7.1.
    Release = 18, "RELEASE";
    /// Write a file to stable storage. Since 7.1.
    Fsync = 20, "FSYNC";
    /// Set an extended attribute. Since 7.1.
    Setxattr = 21, "SETXATTR";
    /// Get an extended attribute. Since 7.1.
    Getxattr = 22, "GETXATTR";
    /// List the names of extended attributes. Since 7.1.
    Listxattr = 23, "LISTXATTR";
    /// Remove an extended attribute. Since 7.1.
    Removexattr = 24, "REMOVEXATTR";
    /// A descriptor of an open file was closed. Since 7.1.
    Flush = 25, "FLUSH";
    /// Negotiate version and flags.
    Init = 26, "INIT";
    /// Open a directory. Since 7.1.
    Opendir = 27, "OPENDIR";
    /// Read a directory. Since 7.1.
    Readdir = 28, "READDIR";
    /// The last reference to an open directory is gone. Since 7.1.
    Releasedir = 29, "RELEASEDIR";
    /// Write a directory to stable storage. Since 7.2.
    Fsyncdir = 30, "FSYNCDIR";
    /// Test for a lock. Since 7.7, with POSIX_LOCKS.
    Getlk = 31, "GETLK";
    /// Set or drop a lock without waiting. Since 7.7, with POSIX_LOCKS or FLOCK_LOCKS.
    Setlk = 32, "SETLK";
    /// Set a lock and wait for it. Since 7.7, with POSIX_LOCKS or FLOCK_LOCKS.
    Setlkw = 33, "SETLKW";
    /// Check permissions. Since 7.3.
    Access = 34, "ACCESS";
    /// Make and open a regular file. Since 7.3.
    Create = 35, "CREATE";
    /// The caller of a request was signalled. Since 7.7.
    Interrupt = 36, "INTERRUPT";
    /// Map a block of a file to the device. Since 7.8.
    Bmap = 37, "BMAP";
    /// The mount is gone; block device mounts and virtiofs only. Since 7.8.
    Destroy = 38, "DESTROY";
    /// Device or file control. Since 7.11.
    Ioctl = 39, "IOCTL";
    /// Ask for readiness. Since 7.11.
    Poll = 40, "POLL";
    /// Data for an earlier retrieve notification. No reply. Since 7.15.
    NotifyReply = 41, "NOTIFY_REPLY";
    /// Give back references to many inodes. No reply. Since 7.16.
    BatchForget = 42, "BATCH_FORGET";
    /// Allocate or free space. Since 7.19.
    Fallocate = 43, "FALLOCATE";
    /// Read a directory and look up what is in it. Since 7.21, with DO_READDIRPLUS.
    Readdirplus = 44, "READDIRPLUS";
    /// Move a name, with flags. Since 7.23.
    Rename2 = 45, "RENAME2";
    /// Find data or a hole. Since 7.24.
    Lseek = 46, "LSEEK";
    /// Copy between files, at most 4 GiB. Since 7.28.
    CopyFileRange = 47, "COPY_FILE_RANGE";
    /// Map a range of a file into the DAX window; virtiofs only. Since 7.31.
    Setupmapping = 48, "SETUPMAPPING";
    /// Unmap ranges of the DAX window; virtiofs only. Since 7.31.
    Removemapping = 49, "REMOVEMAPPING";
    /// Write the whole file system to stable storage; virtiofs and block device mounts only. Since 7.34.
    Syncfs = 50, "SYNCFS";
    /// Make and open a regular file without a name. Since 7.37.
    Tmpfile = 51, "TMPFILE";
    /// Get extended attributes of an inode such as its birth time. Since 7.39.
    Statx = 52, "STATX";
    /// Copy between files, with a 64-bit result. Since 7.45.
    CopyFileRange64 = 53, "COPY_FILE_RANGE_64";
    /// Negotiate for a character device. Since 7.12.
    CuseInit = 4096, "CUSE_INIT";
}

/// INIT in the wrong byte order: reserved so that it can be told from any operation.
pub const FUSE_INIT_BSWAP_RESERVED: u32 = 26 << 24;
/// CUSE_INIT in the wrong byte order: reserved so that it can be told from any operation.
pub const CUSE_INIT_BSWAP_RESERVED: u32 = 4096 << 8;

impl Opcode {
    /// Number of operations: every [`index`](Self::index) is below it.
    pub const COUNT: usize = Self::ALL.len();

    /// The operation of a number, `None` if there is no such operation.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        // 7 and 19 were never assigned, and CUSE_INIT stands far off.
        let index = match raw {
            1..=6 => raw - 1,
            8..=18 => raw - 2,
            20..=53 => raw - 3,
            4096 => 51,
            _ => return None,
        };
        Some(Self::ALL[index as usize])
    }

    /// The kernel's number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self as u32
    }

    /// Position in [`ALL`](Self::ALL), for arrays with one element per operation.
    #[must_use]
    pub const fn index(self) -> usize {
        match self as usize {
            raw @ 0..=6 => raw - 1,
            raw @ 7..=18 => raw - 2,
            raw @ 19..=53 => raw - 3,
            _ => 51,
        }
    }

    /// Whether the kernel waits for a reply. Writing one where it does not is an `ENOENT`.
    ///
    /// INTERRUPT counts as "no reply": it may be answered with an error, and is matched by its own rules.
    #[must_use]
    pub const fn has_reply(self) -> bool {
        !matches!(
            self,
            Self::Forget | Self::BatchForget | Self::Interrupt | Self::NotifyReply
        )
    }

    /// Whether extensions (security context, supplementary groups) may follow the name.
    #[must_use]
    pub const fn takes_extensions(self) -> bool {
        matches!(
            self,
            Self::Symlink | Self::Mknod | Self::Mkdir | Self::Create | Self::Tmpfile
        )
    }
}

impl core::fmt::Display for Opcode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_positions_are_each_others_inverse() {
        for (position, &opcode) in Opcode::ALL.iter().enumerate() {
            assert_eq!(opcode.index(), position, "{opcode}");
            assert_eq!(Opcode::from_raw(opcode.raw()), Some(opcode));
        }
        assert_eq!(Opcode::COUNT, 52);
        let known = (0..10_000)
            .filter(|&raw| Opcode::from_raw(raw).is_some())
            .count();
        assert_eq!(known, Opcode::COUNT);
        for reserved in [FUSE_INIT_BSWAP_RESERVED, CUSE_INIT_BSWAP_RESERVED, u32::MAX] {
            assert_eq!(Opcode::from_raw(reserved), None);
        }
    }
}
