//! What both sides agreed on in INIT, as far as it changes the shape of messages.

use crate::{FUSE_KERNEL_MINOR_VERSION, InitFlags};

/// The negotiated protocol: minor version and flags.
///
/// Decoders and encoders take it because some structures are shorter in older dialects. INIT itself looks the
/// same in every dialect, so the default does for the first request of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Negotiated minor version: the smaller one of the kernel's and the server's.
    pub minor: u32,
    /// Flags of the INIT reply. SETXATTR_EXT and SECURITY_CTX matter for the shape of requests.
    pub flags: InitFlags,
}

impl Dialect {
    /// The dialect after an INIT that settled on `minor` and `flags`.
    #[must_use]
    pub const fn new(minor: u32, flags: InitFlags) -> Self {
        Self { minor, flags }
    }

    /// SETXATTR carries the 16-byte form of its argument.
    pub(crate) const fn has_setxattr_ext(self) -> bool {
        self.flags.contains(InitFlags::SETXATTR_EXT)
    }

    /// Create requests may carry a security context whose length the header does not announce (7.36 and 7.37).
    pub(crate) const fn has_unannounced_context(self) -> bool {
        self.minor < 38 && self.flags.contains(InitFlags::SECURITY_CTX)
    }
}

impl Default for Dialect {
    /// Protocol 7.45 with the extended forms of INIT and SETXATTR.
    fn default() -> Self {
        Self::new(
            FUSE_KERNEL_MINOR_VERSION,
            InitFlags::INIT_EXT.union(InitFlags::SETXATTR_EXT),
        )
    }
}
