//! The directory that a mount's root is in.
//!
//! The kernel makes the inode of a connection's root before it has asked the server what it can do, and so decides for
//! good not to cache its ACL: each path that a user other than its owner walks would then cost a request. So the
//! connection's root is a directory of the engine with one entry, the root of the file system, and what gets mounted is the
//! subtree below that entry. Nobody ever sees the directory itself.
//!
//! Only kernels that clone mounts which are attached nowhere (Linux 6.15) can do that; elsewhere the connection's root is
//! that of the file system.

use std::ffi::CStr;
use std::time::Duration;

use fuse_proto::{Dialect, FUSE_ROOT_ID, Operation, ReplyWriter, fuse_attr};

use super::dispatch::{attributes, entry_out};
use super::outcome::{Grant, Outcome};
use super::{Attributes, Context, Entry, Errno, FileSystem, NodeId};

/// The name of the one entry.
pub(super) const NAME: &CStr = c"tree";

/// The kernel's number of the file system's root where that is the entry.
const TREE: u64 = u64::MAX;

/// Nothing of the engine's directory ever changes.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// What the root of the file system is to the kernel. All other nodes have the numbers that the file system gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Root {
    /// The root of the connection.
    #[default]
    Plain,
    /// The entry of the engine's directory.
    Based,
}

impl Root {
    /// The file system's node of the kernel's `number`.
    pub(super) fn node(self, number: u64) -> NodeId {
        match self {
            Root::Based if number == TREE => NodeId::ROOT,
            _ => NodeId(number),
        }
    }

    /// The kernel's number of `node`.
    pub(super) fn number(self, node: NodeId) -> u64 {
        match self {
            Root::Based if node == NodeId::ROOT => TREE,
            _ => node.0,
        }
    }

    /// Whether the kernel's `number` is that of the engine's directory.
    pub(super) fn is_base(self, number: u64) -> bool {
        self == Root::Based && number == FUSE_ROOT_ID
    }
}

/// What a request about the engine's directory comes to. The only ones who make any are those who make the mount.
pub(super) fn serve<F: FileSystem>(
    fs: &F,
    cx: &Context<'_>,
    operation: &Operation<'_>,
    dialect: Dialect,
    payload: &mut [u8],
) -> Outcome {
    let encoded = match operation {
        Operation::Getattr(_) => {
            let directory = Attributes {
                attr: fuse_attr {
                    ino: FUSE_ROOT_ID,
                    mode: libc::S_IFDIR | 0o555,
                    nlink: 2,
                    blksize: 4096,
                    ..Default::default()
                },
                ttl: FOREVER,
            };
            attributes(&directory, payload, dialect)
        }
        Operation::Lookup { name } if *name == NAME => {
            let root = match fs.getattr(cx, NodeId::ROOT, None) {
                Ok(root) => root,
                Err(errno) => return errno.into(),
            };
            let entry = Entry {
                node: NodeId(TREE),
                generation: 0,
                attr: root.attr,
                entry_ttl: FOREVER,
                attr_ttl: root.ttl,
            };
            ReplyWriter::new(payload, dialect).entry(&entry_out(&entry))
        }
        Operation::Lookup { .. } => return Errno::ENOENT.into(),
        Operation::Getxattr { .. } => return Errno::ENODATA.into(),
        _ => return Errno::EACCES.into(),
    };
    // The root of a file system is never forgotten.
    Outcome::granting(encoded, Grant::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_root_has_another_number() {
        for node in [NodeId::ROOT, NodeId(2), NodeId(1 << 63)] {
            for root in [Root::Plain, Root::Based] {
                assert_eq!(root.node(root.number(node)), node);
            }
        }
        assert_eq!(Root::Plain.number(NodeId::ROOT), 1);
        assert_eq!(Root::Based.number(NodeId::ROOT), u64::MAX);
        assert!(Root::Based.is_base(1) && !Root::Plain.is_base(1));
    }
}
