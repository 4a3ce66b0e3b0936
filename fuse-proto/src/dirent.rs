//! Records of READDIR and READDIRPLUS replies.
//!
//! The writers fill a buffer of the size the request allows, record by record, and refuse one that no longer fits;
//! the iterators read what they wrote. Every record is padded with zeroes to a multiple of 8 bytes.

use zerocopy::{FromBytes, IntoBytes};

use crate::{fuse_dirent, fuse_direntplus, fuse_entry_out};

/// The record does not fit any more; what was pushed before is in place.
///
/// If it was the first one, the buffer is too small for any reply and the request has to fail with `EINVAL`: an empty
/// reply would mean the end of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record does not fit the buffer")]
pub struct Full;

/// Writes the records of a READDIR reply.
#[derive(Debug)]
pub struct DirentWriter<'a> {
    buf: &'a mut [u8],
    len: usize,
}

/// Writes the records of a READDIRPLUS reply.
#[derive(Debug)]
pub struct DirentPlusWriter<'a> {
    inner: DirentWriter<'a>,
}

impl<'a> DirentWriter<'a> {
    /// Starts a reply in `buf`, which has the size the request gives or less.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// Adds a record: inode number, position of the next record, `DT_*` type, name.
    ///
    /// # Errors
    ///
    /// If the record does not fit.
    pub fn push(&mut self, ino: u64, off: u64, typ: u32, name: &[u8]) -> Result<(), Full> {
        let namelen = u32::try_from(name.len()).map_err(|_| Full)?;
        let head = fuse_dirent {
            ino,
            off,
            namelen,
            r#type: typ,
        };
        self.push_parts(head.as_bytes(), name)
    }

    fn push_parts(&mut self, head: &[u8], name: &[u8]) -> Result<(), Full> {
        let used = head.len() + name.len();
        let room = self
            .buf
            .get_mut(self.len..self.len + used.next_multiple_of(8))
            .ok_or(Full)?;
        let (record, padding) = room.split_at_mut(used);
        record[..head.len()].copy_from_slice(head);
        record[head.len()..].copy_from_slice(name);
        padding.fill(0);
        self.len += used.next_multiple_of(8);
        Ok(())
    }

    /// Length of the reply so far, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<'a> DirentPlusWriter<'a> {
    /// Starts a reply in `buf`, which has the size the request gives or less.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self {
            inner: DirentWriter::new(buf),
        }
    }

    /// Adds a record: inode (node id 0 for none), inode number, position of the next record, `DT_*` type, name.
    ///
    /// # Errors
    ///
    /// If the record does not fit; the kernel then has no reference to the inode.
    pub fn push(
        &mut self,
        entry: &fuse_entry_out,
        ino: u64,
        off: u64,
        typ: u32,
        name: &[u8],
    ) -> Result<(), Full> {
        let namelen = u32::try_from(name.len()).map_err(|_| Full)?;
        let dirent = fuse_dirent {
            ino,
            off,
            namelen,
            r#type: typ,
        };
        let head = fuse_direntplus {
            entry_out: *entry,
            dirent,
        };
        self.inner.push_parts(head.as_bytes(), name)
    }

    /// Length of the reply so far, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.len == 0
    }
}

/// A record of a READDIR reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// Inode number shown to programs.
    pub ino: u64,
    /// Position of the next record.
    pub off: u64,
    /// `DT_*` type.
    pub typ: u32,
    /// Name.
    pub name: &'a [u8],
}

/// A record of a READDIRPLUS reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirentPlus<'a> {
    /// The inode, node id 0 for none.
    pub entry: fuse_entry_out,
    /// The name.
    pub dirent: Dirent<'a>,
}

/// Reads the records of a READDIR reply. Stops, as the kernel does, at a record that is not complete.
#[derive(Clone, Debug)]
pub struct Dirents<'a> {
    rest: &'a [u8],
}

/// Reads the records of a READDIRPLUS reply. Stops, as the kernel does, at a record that is not complete.
#[derive(Clone, Debug)]
pub struct DirentsPlus<'a> {
    rest: &'a [u8],
}

impl<'a> Dirents<'a> {
    /// The records of `reply`.
    #[must_use]
    pub fn new(reply: &'a [u8]) -> Self {
        Self { rest: reply }
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> DirentsPlus<'a> {
    /// The records of `reply`.
    #[must_use]
    pub fn new(reply: &'a [u8]) -> Self {
        Self { rest: reply }
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Splits the name off `after_head`, and the next record off `whole`, which starts `head` bytes earlier.
fn split<'a>(whole: &'a [u8], head: usize, dirent: &fuse_dirent) -> Option<(Dirent<'a>, &'a [u8])> {
    let used = head.checked_add(dirent.namelen as usize)?;
    let name = whole.get(head..used)?;
    let rest = whole.get(used.checked_next_multiple_of(8)?..)?;
    Some((
        Dirent {
            ino: dirent.ino,
            off: dirent.off,
            typ: dirent.r#type,
            name,
        },
        rest,
    ))
}

impl<'a> Iterator for Dirents<'a> {
    type Item = Dirent<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (head, _) = fuse_dirent::read_from_prefix(self.rest).ok()?;
        let (dirent, rest) = split(self.rest, size_of::<fuse_dirent>(), &head)?;
        self.rest = rest;
        Some(dirent)
    }
}

impl<'a> Iterator for DirentsPlus<'a> {
    type Item = DirentPlus<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (head, _) = fuse_direntplus::read_from_prefix(self.rest).ok()?;
        let (dirent, rest) = split(self.rest, size_of::<fuse_direntplus>(), &head.dirent)?;
        self.rest = rest;
        Some(DirentPlus {
            entry: head.entry_out,
            dirent,
        })
    }
}
