//! What the kernel offers, crossed with what the engine and the file system implement.
//!
//! Nothing is negotiated that is not implemented. The reasons for and against each capability are in
//! `docs/design.md`.

use fuse_proto::Dialect;
use fuse_proto::flags::InitFlags;
use fuse_proto::{FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION, fuse_init_in, fuse_init_out};

/// Oldest minor version served: that of Linux 5.4.
const OLDEST_MINOR: u32 = 31;

/// How high file systems may be stacked: the host's may be an overlay itself. No overlay can be made of the mount then.
const STACK_DEPTH: u32 = 2;

/// Size of a page of the kernel, in which requests are counted.
const PAGE: u32 = 4096;

/// Capabilities of the wire that need nothing of a file system; always taken if offered.
const OF_THE_ENGINE: InitFlags = InitFlags::ABORT_ERROR
    .union(InitFlags::ASYNC_READ)
    .union(InitFlags::BIG_WRITES)
    .union(InitFlags::INIT_EXT)
    .union(InitFlags::MAX_PAGES)
    .union(InitFlags::HAS_EXPIRE_ONLY)
    .union(InitFlags::SETXATTR_EXT);

/// Capabilities the engine passes through to a file system that implements them.
const OF_THE_FILE_SYSTEM: InitFlags = InitFlags::POSIX_LOCKS
    .union(InitFlags::ATOMIC_O_TRUNC)
    .union(InitFlags::EXPORT_SUPPORT)
    .union(InitFlags::DONT_MASK)
    .union(InitFlags::FLOCK_LOCKS)
    .union(InitFlags::HAS_IOCTL_DIR)
    .union(InitFlags::AUTO_INVAL_DATA)
    .union(InitFlags::DO_READDIRPLUS)
    .union(InitFlags::READDIRPLUS_AUTO)
    .union(InitFlags::ASYNC_DIO)
    .union(InitFlags::NO_OPEN_SUPPORT)
    .union(InitFlags::PARALLEL_DIROPS)
    .union(InitFlags::HANDLE_KILLPRIV)
    .union(InitFlags::POSIX_ACL)
    .union(InitFlags::CACHE_SYMLINKS)
    .union(InitFlags::NO_OPENDIR_SUPPORT)
    .union(InitFlags::EXPLICIT_INVAL_DATA)
    .union(InitFlags::HANDLE_KILLPRIV_V2)
    .union(InitFlags::SECURITY_CTX)
    .union(InitFlags::CREATE_SUPP_GROUP)
    .union(InitFlags::DIRECT_IO_ALLOW_MMAP)
    .union(InitFlags::PASSTHROUGH)
    .union(InitFlags::NO_EXPORT_SUPPORT)
    .union(InitFlags::ALLOW_IDMAP);

/// What the session asks of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    pub(super) flags: InitFlags,
    pub(super) max_write: u32,
    pub(super) max_background: u16,
    /// FUSE over io_uring, if the kernel offers it.
    pub(super) io_uring: bool,
}

/// What this session and the kernel agreed on in INIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Minor protocol version both sides speak (the major one is 7).
    pub minor: u32,
    /// Capabilities in force.
    pub flags: InitFlags,
    /// What the kernel offered.
    pub offered: InitFlags,
    /// Largest WRITE, and largest reply payload, in bytes.
    pub max_write: u32,
    /// Largest request in pages.
    pub max_pages: u16,
    /// Bytes the kernel reads ahead.
    pub max_readahead: u32,
    /// Background requests the kernel may have outstanding.
    pub max_background: u16,
}

/// The kernel speaks a protocol that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooOld {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Negotiated {
    /// Crosses the kernel's offer with `wishes`.
    pub(super) fn new(offer: &fuse_init_in, wishes: &Wishes) -> Result<Negotiated, TooOld> {
        if offer.major < FUSE_KERNEL_VERSION
            || (offer.major == FUSE_KERNEL_VERSION && offer.minor < OLDEST_MINOR)
        {
            return Err(TooOld {
                major: offer.major,
                minor: offer.minor,
            });
        }
        let mut offered = InitFlags::from_bits_retain(u64::from(offer.flags));
        if offered.contains(InitFlags::INIT_EXT) {
            offered |= InitFlags::from_bits_retain(u64::from(offer.flags2) << 32);
        }
        let mut wanted = OF_THE_ENGINE | (OF_THE_FILE_SYSTEM & wishes.flags);
        wanted.set(InitFlags::OVER_IO_URING, wishes.io_uring);
        let mut flags = offered & wanted;
        // Before Linux 5.11 the kernel clears set-id bits itself, but not when a file is truncated by its being opened.
        if !flags.contains(InitFlags::HANDLE_KILLPRIV_V2) {
            flags.remove(InitFlags::ATOMIC_O_TRUNC);
        }
        // A kernel of a later major version is told ours, and offers again.
        let same_major = offer.major == FUSE_KERNEL_VERSION;
        let minor = if same_major {
            offer.minor.min(FUSE_KERNEL_MINOR_VERSION)
        } else {
            FUSE_KERNEL_MINOR_VERSION
        };
        // Without MAX_PAGES the kernel sends at most 32 pages.
        let most = if flags.contains(InitFlags::MAX_PAGES) {
            256
        } else {
            32
        };
        let max_pages = wishes.max_write.div_ceil(PAGE).clamp(1, most);
        Ok(Negotiated {
            minor,
            flags,
            offered,
            max_write: max_pages * PAGE,
            max_pages: u16::try_from(max_pages).unwrap_or(u16::MAX),
            max_readahead: offer.max_readahead,
            max_background: wishes.max_background,
        })
    }

    /// Whether requests travel over io_uring.
    pub(super) fn has_io_uring(&self) -> bool {
        self.flags.contains(InitFlags::OVER_IO_URING)
    }

    /// The reply to INIT that says so.
    pub(super) fn reply(&self) -> fuse_init_out {
        let bits = self.flags.bits();
        fuse_init_out {
            major: FUSE_KERNEL_VERSION,
            minor: self.minor,
            max_readahead: self.max_readahead,
            flags: bits as u32,
            flags2: (bits >> 32) as u32,
            max_background: self.max_background,
            congestion_threshold: self.max_background / 4 * 3,
            max_write: self.max_write,
            time_gran: 1,
            max_pages: self.max_pages,
            max_stack_depth: if self.flags.contains(InitFlags::PASSTHROUGH) {
                STACK_DEPTH
            } else {
                0
            },
            ..Default::default()
        }
    }

    /// What decoders and encoders need to know.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        Dialect::new(self.minor, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISHES: Wishes = Wishes {
        flags: InitFlags::POSIX_ACL
            .union(InitFlags::PASSTHROUGH)
            .union(InitFlags::CREATE_SUPP_GROUP),
        max_write: 1 << 20,
        max_background: 64,
        io_uring: false,
    };

    fn offer(minor: u32, flags: InitFlags) -> fuse_init_in {
        let bits = flags.bits();
        fuse_init_in {
            major: 7,
            minor,
            max_readahead: 131_072,
            flags: bits as u32,
            flags2: (bits >> 32) as u32,
            ..Default::default()
        }
    }

    #[test]
    fn takes_only_what_is_offered_and_implemented() {
        let all = Negotiated::new(&offer(45, InitFlags::all()), &WISHES).unwrap();
        assert!(
            all.flags.contains(
                InitFlags::POSIX_ACL | InitFlags::CREATE_SUPP_GROUP | InitFlags::MAX_PAGES
            )
        );
        // Offered, but not wished for.
        assert!(
            !all.flags
                .intersects(InitFlags::WRITEBACK_CACHE | InitFlags::POSIX_LOCKS)
        );
        assert_eq!(all.reply().max_stack_depth, 2);
        assert!(!all.has_io_uring());
        let wishes = Wishes {
            io_uring: true,
            ..WISHES
        };
        let ringing = Negotiated::new(&offer(45, InitFlags::all()), &wishes).unwrap();
        assert!(ringing.has_io_uring());
        let old = Negotiated::new(&offer(41, InitFlags::POSIX_ACL), &wishes).unwrap();
        assert!(!old.has_io_uring());
        assert_eq!((all.max_pages, all.max_write), (256, 1 << 20));
        let old = Negotiated::new(&offer(31, InitFlags::POSIX_ACL), &WISHES).unwrap();
        assert_eq!(old.flags, InitFlags::POSIX_ACL);
        assert_eq!(old.reply().max_stack_depth, 0);
        assert_eq!(
            (old.minor, old.max_pages, old.max_write),
            (31, 32, 32 * 4096)
        );
    }

    #[test]
    fn second_flag_word_counts_only_with_init_ext() {
        let flags = InitFlags::all() - InitFlags::INIT_EXT;
        let negotiated = Negotiated::new(&offer(45, flags), &WISHES).unwrap();
        assert!(!negotiated.flags.contains(InitFlags::CREATE_SUPP_GROUP));
        assert_eq!(negotiated.reply().flags2, 0);
    }

    #[test]
    fn opening_truncates_only_if_that_clears_set_id_bits() {
        let wishes = Wishes {
            flags: InitFlags::ATOMIC_O_TRUNC | InitFlags::HANDLE_KILLPRIV_V2,
            ..WISHES
        };
        let flags = |offered| Negotiated::new(&offer(32, offered), &wishes).unwrap().flags;
        assert_eq!(flags(wishes.flags), wishes.flags);
        assert_eq!(flags(InitFlags::ATOMIC_O_TRUNC), InitFlags::empty());
    }

    #[test]
    fn refuses_kernels_before_5_4() {
        let refused = Negotiated::new(&offer(30, InitFlags::all()), &WISHES);
        assert_eq!(
            refused,
            Err(TooOld {
                major: 7,
                minor: 30
            })
        );
        assert_eq!(
            Negotiated::new(&offer(60, InitFlags::all()), &WISHES)
                .unwrap()
                .minor,
            45
        );
    }
}
