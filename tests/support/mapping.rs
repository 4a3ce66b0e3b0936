//! Shared memory mappings of files: the unsafe code of the tests about `mmap`.

use std::os::fd::BorrowedFd;
use std::ptr;

use rustix::io::Result;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// A shared mapping of a file. The file must not be made shorter while it is accessed.
pub struct Mapping {
    address: *mut std::ffi::c_void,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes (not 0) from `offset`, a multiple of the page size, for reading and, if asked, writing.
    pub fn shared(fd: BorrowedFd<'_>, offset: u64, len: usize, writable: bool) -> Result<Mapping> {
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, writable);
        // SAFETY: the kernel chooses the address, so no existing mapping is replaced.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                fd,
                offset,
            )
        }?;
        Ok(Mapping { address, len })
    }

    /// Copies out of the mapping.
    pub fn read(&self, at: usize, into: &mut [u8]) {
        assert!(at + into.len() <= self.len);
        let from = self.address.cast::<u8>().wrapping_add(at);
        // SAFETY: the range is inside the mapping, which is readable and lives as long as `self`; the caller keeps
        // the file from shrinking. `into` cannot overlap memory the kernel has just handed out.
        unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
    }

    /// Copies into a writable mapping.
    pub fn write(&mut self, at: usize, data: &[u8]) {
        assert!(at + data.len() <= self.len);
        let to = self.address.cast::<u8>().wrapping_add(at);
        // SAFETY: as in `read`, and the mapping is writable as the caller says.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
    }

    /// Writes changes to the file.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: the range is the mapping this value owns.
        unsafe { msync(self.address, self.len, MsyncFlags::SYNC) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned by this value and nothing borrows from it any more.
        let _ = unsafe { munmap(self.address, self.len) };
    }
}
