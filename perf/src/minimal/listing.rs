//! Reads directories.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use cntr::engine::{Errno, Result};
use fuse_proto::dirent::DirentWriter;
use rustix::fs::{FileType, RawDir, SeekFrom};

use super::host;

/// Bytes of records read at a time.
const BUFFER: usize = 32 * 1024;

/// The buffer. One directory is read at a time: its position is that of the descriptor, which all its readers share. The
/// kernel keeps what it has read.
pub struct Listing(Mutex<Vec<u8>>);

impl Listing {
    /// Nothing is read yet.
    pub fn new() -> Listing {
        Listing(Mutex::new(Vec::with_capacity(BUFFER)))
    }

    /// Fills `out` with entries of `directory` from the position `offset` on.
    ///
    /// # Errors
    /// Those of lseek(2) and getdents64(2); `EINVAL` if not even one has room.
    pub fn read(&self, directory: &File, offset: u64, out: &mut DirentWriter<'_>) -> Result<()> {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        host(rustix::fs::seek(directory, SeekFrom::Start(offset)))?;
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = host(entry)?;
            let kind = match entry.file_type() {
                FileType::Unknown => 0,
                known => known.as_raw_mode() >> 12,
            };
            let (position, name) = (entry.next_entry_cookie(), entry.file_name().to_bytes());
            if out.push(entry.ino(), position, kind, name).is_err() {
                return match out.is_empty() {
                    true => Err(Errno::EINVAL),
                    false => Ok(()),
                };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuse_proto::dirent::Dirents;

    #[test]
    fn goes_on_where_it_has_stopped() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::write(directory.path().join(format!("file-{number}")), "").unwrap();
        }
        let file = File::open(directory.path()).unwrap();
        let listing = Listing::new();
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let mut reply = [0; 600];
            let mut out = DirentWriter::new(&mut reply);
            listing.read(&file, offset, &mut out).unwrap();
            let length = out.len();
            if length == 0 {
                break;
            }
            for entry in Dirents::new(&reply[..length]) {
                offset = entry.off;
                names.push(entry.name.to_vec());
            }
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 102);
        let mut nothing = [0; 8];
        let mut out = DirentWriter::new(&mut nothing);
        assert_eq!(listing.read(&file, 0, &mut out), Err(Errno::EINVAL));
    }
}
