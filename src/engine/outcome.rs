//! How a request ended: what to answer, and what must be taken back if the answer does not arrive.

use fuse_proto::EncodeError;
use fuse_proto::dirent::DirentsPlus;

use super::{Data, Errno, FileHandle, FileSystem, NodeId, Result};

/// What to answer.
pub(super) enum Answer {
    /// The first bytes of the payload.
    Payload(usize),
    /// Up to this many bytes of file data.
    Data(Data, usize),
}

/// What a reply hands out, and so what must be taken back if it does not arrive.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grant {
    /// Nothing.
    Nothing,
    /// A lookup of a node.
    Lookup(NodeId),
    /// An open file.
    Open(NodeId, FileHandle),
    /// An open directory.
    OpenDirectory(NodeId, FileHandle),
    /// A lookup of a node, and an open file of it.
    Create(NodeId, FileHandle),
    /// A lookup of each entry in the payload.
    Entries(usize),
}

/// How a request ended.
pub(super) struct Outcome {
    /// What to answer.
    pub(super) answer: Result<Answer>,
    /// What that hands out.
    pub(super) grant: Grant,
    /// Bytes written to files; those read are known once they were.
    pub(super) written: u64,
}

impl Outcome {
    pub(super) fn of(answer: Result<Answer>) -> Outcome {
        Outcome {
            answer,
            grant: Grant::Nothing,
            written: 0,
        }
    }

    pub(super) fn granting(
        encoded: std::result::Result<usize, EncodeError>,
        grant: Grant,
    ) -> Outcome {
        Outcome {
            answer: encoded.map(Answer::Payload).map_err(unencodable),
            grant,
            written: 0,
        }
    }
}

impl From<Errno> for Outcome {
    fn from(errno: Errno) -> Outcome {
        Outcome::of(Err(errno))
    }
}

pub(super) fn unencodable(error: EncodeError) -> Errno {
    tracing::error!(%error, "a reply cannot be encoded");
    Errno::EIO
}

/// Takes back what a reply that did not arrive would have handed out. `payload` is that of the reply.
pub(super) fn take_back<F: FileSystem>(fs: &F, grant: Grant, payload: &[u8]) {
    match grant {
        Grant::Nothing => {}
        Grant::Lookup(node) => fs.forget(node, 1),
        Grant::Open(node, fh) => fs.release(node, fh, None),
        Grant::OpenDirectory(node, fh) => fs.releasedir(node, fh),
        Grant::Create(node, fh) => {
            fs.release(node, fh, None);
            fs.forget(node, 1);
        }
        Grant::Entries(len) => {
            let granted = DirentsPlus::new(&payload[..len]).map(|entry| entry.entry.nodeid);
            granted
                .filter(|node| *node != 0)
                .for_each(|node| fs.forget(NodeId(node), 1));
        }
    }
}
