//! The classic transport: requests are read from `/dev/fuse`, replies are written to it.
//!
//! Each serving thread has a descriptor of its own, cloned from the first, so that a request is looked up among its
//! own when it is answered. All descriptors share the queue of pending requests.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fuse_proto::reply::out_header;
use fuse_proto::{fuse_in_header, fuse_out_header, fuse_write_in};
use zerocopy::IntoBytes;

use super::Errno;

const PAGE: usize = 4096;
const OUT_HEADER: usize = size_of::<fuse_out_header>();

/// Room for the arguments of a request beside the data of a WRITE: the largest is a SETXATTR with a name of 255 bytes
/// and a value of 64 KiB; a whole page is the least the kernel takes.
const ARGUMENTS: usize = 128 * 1024;

/// Why there was no request.
#[derive(Debug)]
pub(super) enum Fetch {
    /// A request of this many bytes.
    Request(usize),
    /// Nothing: interrupted, or the request was withdrawn before it was read. Try again.
    Again,
    /// The mount is gone.
    Gone,
    /// The device failed.
    Failed(io::Error),
}

impl Fetch {
    /// What reading from the device came to.
    pub(super) fn of(read: nix::Result<usize>) -> Fetch {
        match read {
            Ok(0) => Fetch::Gone,
            Ok(len) => Fetch::Request(len),
            Err(nix::errno::Errno::ENODEV | nix::errno::Errno::ECONNABORTED) => Fetch::Gone,
            Err(
                nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN | nix::errno::Errno::ENOENT,
            ) => Fetch::Again,
            Err(errno) => Fetch::Failed(errno.into()),
        }
    }
}

/// Whether the kernel took a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Delivery {
    /// It did.
    Taken,
    /// It has given the request up; nobody got what the reply hands out.
    Refused,
}

/// One descriptor of the connection.
pub(super) struct Device(OwnedFd);

impl Device {
    pub(super) fn new(fd: OwnedFd) -> Device {
        Device(fd)
    }

    /// Another descriptor of the same connection; the same one where it cannot be cloned.
    pub(super) fn try_clone(&self) -> io::Result<Device> {
        match crate::sys::fuse::clone_device(self.0.as_fd()) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => {
                self.duplicate()
            }
            cloned => cloned.map(Device),
        }
    }

    /// The same descriptor once more: requests that were read from one can be answered on the other.
    pub(super) fn duplicate(&self) -> io::Result<Device> {
        self.0.try_clone().map(Device)
    }

    /// The descriptor.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits for a request and reads it.
    pub(super) fn fetch(&self, buffer: &mut RequestBuffer) -> Fetch {
        Fetch::of(nix::unistd::read(&self.0, buffer.space()))
    }

    /// Waits until a request can be read, at most `milliseconds`; false if there is none by then.
    pub(super) fn poll(&self, milliseconds: u16) -> io::Result<bool> {
        let mut poll = [nix::poll::PollFd::new(
            self.0.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        Ok(nix::poll::poll(&mut poll, milliseconds)? > 0)
    }

    /// Answers `unique` with an error.
    pub(super) fn reply_error(&self, unique: u64, errno: Errno) -> Delivery {
        self.deliver(&[IoSlice::new(out_header(0, -errno.get(), unique).as_bytes())])
    }

    /// Answers `unique` with the first `len` bytes of the payload of `buffer`.
    pub(super) fn reply(&self, unique: u64, buffer: &mut ReplyBuffer, len: usize) -> Delivery {
        let message = buffer.message(out_header(len, 0, unique), len);
        self.deliver(&[IoSlice::new(message)])
    }

    /// Sends a complete notification.
    pub(super) fn notify(&self, message: &[u8]) -> io::Result<()> {
        nix::unistd::write(&self.0, message)
            .map(drop)
            .map_err(io::Error::from)
    }

    fn deliver(&self, message: &[IoSlice<'_>]) -> Delivery {
        loop {
            match nix::sys::uio::writev(&self.0, message) {
                Ok(_) => return Delivery::Taken,
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV) => {
                    return Delivery::Refused;
                }
                Err(errno) => {
                    tracing::error!(%errno, "the kernel rejects a reply");
                    return Delivery::Refused;
                }
            }
        }
    }
}

/// Memory for one request. The data of a WRITE starts on a page.
pub(super) struct RequestBuffer {
    memory: Vec<u8>,
    start: usize,
}

impl RequestBuffer {
    pub(super) fn new(max_write: u32) -> RequestBuffer {
        let memory = vec![0; max_write as usize + ARGUMENTS + 2 * PAGE];
        let before_data = size_of::<fuse_in_header>() + size_of::<fuse_write_in>();
        let page = memory.as_ptr().align_offset(PAGE) + PAGE;
        RequestBuffer {
            memory,
            start: page - before_data,
        }
    }

    /// Where a request is read to.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }

    /// The first `len` bytes read.
    pub(super) fn message(&self, len: usize) -> &[u8] {
        &self.memory[self.start..self.start + len]
    }
}

/// Memory for one reply. The payload starts on a page, its header lies right before it.
pub(super) struct ReplyBuffer {
    memory: Vec<u8>,
    payload: usize,
    capacity: usize,
}

impl ReplyBuffer {
    pub(super) fn new(max_write: u32) -> ReplyBuffer {
        let capacity = (max_write as usize).max(ARGUMENTS);
        let memory = vec![0; capacity + 2 * PAGE];
        let payload = memory.as_ptr().align_offset(PAGE) + PAGE;
        ReplyBuffer {
            memory,
            payload,
            capacity,
        }
    }

    /// Where the payload is encoded in place.
    pub(super) fn payload(&mut self) -> &mut [u8] {
        &mut self.memory[self.payload..self.payload + self.capacity]
    }

    fn message(&mut self, header: fuse_out_header, len: usize) -> &[u8] {
        let start = self.payload - OUT_HEADER;
        self.memory[start..self.payload].copy_from_slice(header.as_bytes());
        &self.memory[start..self.payload + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lies_on_pages() {
        for max_write in [4096, 128 << 10, 1 << 20] {
            let mut reply = ReplyBuffer::new(max_write);
            assert_eq!(reply.payload().as_ptr() as usize % PAGE, 0);
            assert!(reply.payload().len() >= max_write as usize);
            let message = reply.message(out_header(3, 0, 7), 3).as_ptr() as usize;
            assert_eq!((message + OUT_HEADER) % PAGE, 0);
            let mut request = RequestBuffer::new(max_write);
            assert_eq!((request.space().as_ptr() as usize + 80) % PAGE, 0);
            assert!(request.space().len() >= 80 + max_write as usize);
        }
    }
}
