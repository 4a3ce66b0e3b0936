//! What the kernel offers, crossed with what the engine and the file system implement.

use fuse_proto::flags::InitFlags;
use fuse_proto::request::Dialect;

/// What this session and the kernel agreed on in INIT.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// Minor protocol version both sides speak (the major one is 7).
    pub minor: u32,
    /// Capabilities in force.
    pub flags: InitFlags,
    /// Largest WRITE, and largest reply payload, in bytes.
    pub max_write: u32,
    /// Largest request in pages.
    pub max_pages: u16,
    /// Bytes the kernel reads ahead.
    pub max_readahead: u32,
    /// Background requests the kernel may have outstanding.
    pub max_background: u16,
}

impl Negotiated {
    /// What decoders and encoders need to know.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        Dialect::new(self.minor, self.flags)
    }
}
