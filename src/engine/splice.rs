//! Large data that goes through a pipe between `/dev/fuse` and files, by reference to pages: the kernel copies it once, and not
//! into the server's memory and out of it.
//!
//! **READ** replies are made of pages of the host's page cache. Content that changes between the two system calls is what the reader gets, as with a read(2) that is a little later.
//! Pages are never moved (`SPLICE_F_MOVE`): that would take them out of the host's cache.
//!
//! The pipe is filled before the request is claimed and emptied after, so it holds a whole reply in between; whoever does not
//! send that discards it.
//!
//! **WRITE** requests are made of pages of the kernel's cache. What comes next cannot be known, and a small request that goes
//! through a pipe takes two more system calls. But large writes come in rows: after one, the next request is fetched through
//! the pipe.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fuse_proto::opcode::Opcode;
use fuse_proto::reply::out_header;
use fuse_proto::{fuse_in_header, fuse_out_header, fuse_write_in, peek_header};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use zerocopy::IntoBytes;

use super::dev::{Device, Fetch, RequestBuffer};
use super::filesystem::{Data, Payload};
use crate::sys::file::read_cached;

/// Below this three system calls cost more than copying twice (`docs/performance.md`).
const LEAST: usize = 64 << 10;

const PAGE: usize = 4096;
const HEADER: usize = size_of::<fuse_out_header>();
const BEFORE_DATA: usize = size_of::<fuse_in_header>() + size_of::<fuse_write_in>();

/// Requests other than WRITE are at most this long (SETXATTR), or as long as there is room (BATCH_FORGET).
const LONGEST_OTHER: usize = 128 << 10;

/// What one serving thread splices with.
#[derive(Debug)]
pub(super) struct Splicer {
    /// Largest WRITE and READ.
    max_write: usize,
    /// Made by the first that needs it.
    pipe: Option<Pipe>,
    /// The request before was a large WRITE.
    expects_write: bool,
    /// Bytes of the WRITE in service that were in the pipe at first.
    piped: Option<usize>,
}

impl Splicer {
    /// For replies of up to `max_write` bytes.
    pub(super) fn new(max_write: u32) -> Splicer {
        Splicer {
            max_write: max_write as usize,
            pipe: None,
            expects_write: false,
            piped: None,
        }
    }

    /// The pipe, made now if there is none. `None` if none can be had.
    fn pipe(&mut self) -> Option<&Pipe> {
        if self.pipe.is_none() {
            self.pipe = Pipe::new(enough_for(self.max_write)).ok();
        }
        self.pipe.as_ref()
    }

    /// Waits for a request and reads it into `buffer`, all but the data of a WRITE that is [`piped`](Self::piped): what
    /// `buffer` has in its place means nothing.
    pub(super) fn fetch(&mut self, device: &Device, buffer: &mut RequestBuffer) -> Fetch {
        if self.piped.take().is_some() {
            // A write that failed has left something.
            self.pipe.take_if(|pipe| !pipe.is_empty());
        }
        let max_write = self.max_write;
        let most = max_write + PAGE;
        let pipe = match self.expects_write {
            true => self.pipe().filter(|pipe| pipe.takes_requests(max_write)),
            false => None,
        };
        let fetched = match pipe {
            None => device.fetch(buffer),
            Some(pipe) => {
                let from = device.descriptor();
                let flags = SpliceFFlags::empty();
                match Fetch::of(splice(from, None, &pipe.write, None, most, flags)) {
                    Fetch::Request(len) => match pipe.take_in(len, buffer.space()) {
                        Ok(piped) => {
                            self.piped = piped;
                            Fetch::Request(len)
                        }
                        Err(error) => Fetch::Failed(error),
                    },
                    nothing => nothing,
                }
            }
        };
        if let Fetch::Request(len) = fetched {
            self.expects_write = is_large_write(buffer.message(len), len);
        }
        fetched
    }

    /// The data of the WRITE that was fetched last, if it is in the pipe.
    pub(super) fn piped(&self) -> Option<Payload<'_>> {
        let (pipe, len) = self.pipe.as_ref().zip(self.piped)?;
        Some(Payload::Pipe(pipe.read.as_fd(), len))
    }

    /// Puts the reply to the READ request `unique` into the pipe: a header and as many bytes of `data` as `scratch` has. False
    /// if that cannot be had, or would have to be waited for: then the bytes have to be read. What is in `scratch` is lost.
    pub(super) fn fill(&mut self, unique: u64, data: &Data, scratch: &mut [u8]) -> bool {
        let Data::File {
            file,
            offset,
            medium,
        } = data
        else {
            return false;
        };
        let len = scratch.len();
        if len < LEAST || !medium.has_pages() || !is_cached(file, *offset, len) {
            return false;
        }
        let Some(pipe) = self.pipe().filter(|pipe| pipe.has_room(*offset, len)) else {
            return false;
        };
        let filled = pipe.put(unique, file, *offset, len);
        if !filled && !pipe.drain(scratch) {
            self.pipe = None;
        }
        filled
    }

    /// Sends the reply that is in the pipe, with `len` bytes of data.
    ///
    /// # Errors
    /// Those of splice(2); nothing is in the pipe any more.
    pub(super) fn send(&mut self, device: BorrowedFd<'_>, len: usize) -> Result<(), Errno> {
        let pipe = self.pipe.as_ref().ok_or(Errno::EPIPE)?;
        let whole = HEADER + len;
        let sent = splice(&pipe.read, None, device, None, whole, SpliceFFlags::empty());
        if sent != Ok(whole) {
            // What is left in it, if anything, depends on the error.
            self.pipe = None;
        }
        sent.map(drop)
    }

    /// The reply that is in the pipe is not sent.
    pub(super) fn discard(&mut self) {
        self.pipe = None;
    }
}

/// Whether `file` has `len` bytes from `offset` on and they can probably be read without waiting: the last one can. Where the file system
/// cannot tell (tmpfs), they are believed to be.
fn is_cached(file: &File, offset: u64, len: usize) -> bool {
    match read_cached(file.as_fd(), &mut [0], offset + len as u64 - 1) {
        Ok(read) => read == 1,
        Err(error) => error.raw_os_error() == Some(libc::EOPNOTSUPP),
    }
}

/// Bytes of a pipe that takes any reply and any request: headers have a page of their own, and data that does not
/// start on a page touches one more.
fn enough_for(max_write: usize) -> usize {
    max_write + 2 * PAGE
}

/// Whether `message`, the beginning of a request of `len` bytes, is a WRITE that is worth a pipe.
fn is_large_write(message: &[u8], len: usize) -> bool {
    len >= BEFORE_DATA + LEAST
        && peek_header(message).is_ok_and(|header| header.opcode == Opcode::Write as u32)
}

/// A pipe that is empty, or holds one request or one reply.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// How many pages, or parts of them, it takes.
    slots: usize,
}

impl Pipe {
    /// A pipe of `wanted` bytes, or of what there is: `pipe-max-size` without CAP_SYS_RESOURCE.
    fn new(wanted: usize) -> io::Result<Pipe> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A size is rounded up to a power of two.
        let mut bytes = wanted.next_power_of_two();
        while bytes >= LEAST {
            let argument = FcntlArg::F_SETPIPE_SZ(i32::try_from(bytes).unwrap_or(i32::MAX));
            if fcntl(&write, argument).is_ok() {
                break;
            }
            bytes /= 2;
        }
        let bytes = fcntl(&write, FcntlArg::F_GETPIPE_SZ)?;
        Ok(Pipe {
            read,
            write,
            slots: usize::try_from(bytes).unwrap_or(0) / PAGE,
        })
    }

    /// Whether it takes a header and this much of a file.
    fn has_room(&self, offset: u64, len: usize) -> bool {
        let first = (offset % PAGE as u64) as usize;
        (first + len).div_ceil(PAGE) < self.slots
    }

    /// Whether it takes any request. The kernel would refuse one for which there is no room, with `EIO` for its caller.
    fn takes_requests(&self, max_write: usize) -> bool {
        max_write >= LONGEST_OTHER && self.slots * PAGE >= enough_for(max_write)
    }

    /// Reads the request of `len` bytes that is in it into `space`, but leaves the data of a large WRITE; says how much that is.
    fn take_in(&self, len: usize, space: &mut [u8]) -> io::Result<Option<usize>> {
        let first = len.min(BEFORE_DATA);
        self.read_exact(&mut space[..first])?;
        if is_large_write(&space[..first], len) {
            return Ok(Some(len - first));
        }
        self.read_exact(&mut space[first..len])?;
        Ok(None)
    }

    fn read_exact(&self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match nix::unistd::read(&self.read, bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => bytes = &mut bytes[read..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        nix::unistd::read(&self.read, &mut [0]) == Err(Errno::EAGAIN)
    }

    /// Puts a header and `len` bytes of `file` into it. False if that did not work out, because the file ends earlier or cannot be
    /// spliced; anything may be in the pipe then.
    fn put(&self, unique: u64, file: &File, offset: u64, len: usize) -> bool {
        let header = out_header(len, 0, unique);
        if nix::unistd::write(&self.write, header.as_bytes()) != Ok(HEADER) {
            return false;
        }
        let Ok(mut at) = i64::try_from(offset) else {
            return false;
        };
        let mut left = len;
        while left > 0 {
            // The flag is about a pipe that is full after all; the file is waited for.
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
            match splice(file, Some(&mut at), &self.write, None, left, flags) {
                Ok(0) | Err(_) => return false,
                Ok(moved) => left -= moved,
            }
        }
        true
    }

    /// Empties it, by way of `scratch`, which has room for the data of a reply. False if the pipe is of no use any more.
    fn drain(&self, scratch: &mut [u8]) -> bool {
        let mut header = [0; HEADER];
        let mut pieces = [IoSliceMut::new(&mut header), IoSliceMut::new(scratch)];
        matches!(
            nix::sys::uio::readv(&self.read, &mut pieces),
            Ok(_) | Err(Errno::EAGAIN)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use super::*;
    use crate::engine::Medium;

    fn data(file: &File, offset: u64, medium: Medium) -> Data {
        Data::File {
            file: Arc::new(file.try_clone().unwrap()),
            offset,
            medium,
        }
    }

    fn file(len: usize) -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }

    /// What `splicer` sends, read from a pipe in the place of the device.
    fn sent(splicer: &mut Splicer, len: usize) -> Vec<u8> {
        let (read, write) = nix::unistd::pipe().unwrap();
        fcntl(&write, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        splicer.send(write.as_fd(), len).unwrap();
        drop(write);
        let mut message = Vec::new();
        File::from(read).read_to_end(&mut message).unwrap();
        message
    }

    fn is_empty(splicer: &Splicer) -> bool {
        splicer.pipe.as_ref().expect("the pipe is kept").is_empty()
    }

    #[test]
    fn a_reply_is_a_header_and_the_bytes_of_the_file() {
        let (file, bytes) = file(300_000);
        let mut splicer = Splicer::new(1 << 17);
        let mut scratch = vec![0; 1 << 17];
        for offset in [0, 4096, 4097, 300_000 - (1 << 17)] {
            assert!(splicer.fill(7, &data(&file, offset, Medium::Disk), &mut scratch));
            let message = sent(&mut splicer, 1 << 17);
            let (header, body) = message.split_at(HEADER);
            assert_eq!(header, out_header(1 << 17, 0, 7).as_bytes());
            assert!(body == &bytes[offset as usize..][..1 << 17], "at {offset}");
            assert!(is_empty(&splicer));
        }
    }

    #[test]
    fn what_cannot_be_spliced_is_left_to_be_read() {
        let (file, _) = file(100_000);
        let mut splicer = Splicer::new(1 << 20);
        let mut fill = |data: Data, len| splicer.fill(7, &data, &mut vec![0; len]);
        assert!(!fill(data(&file, 0, Medium::Nowhere), LEAST));
        assert!(!fill(data(&file, 0, Medium::Disk), LEAST - 1));
        assert!(!fill(data(&file, 0, Medium::Disk), 100_001));
        assert!(!fill(data(&file, 1 << 40, Medium::Disk), LEAST));
        let bytes = Data::Bytes(vec![0; LEAST].into());
        assert!(!fill(bytes, LEAST));
        let pipe = File::from(nix::unistd::pipe().unwrap().0);
        assert!(!fill(data(&pipe, 0, Medium::Disk), LEAST));
        assert!(fill(data(&file, 0, Medium::Disk), 100_000));
    }

    #[test]
    fn a_file_that_ends_early_leaves_an_empty_pipe() {
        let (file, bytes) = file(100_000);
        let pipe = Pipe::new(1 << 20).unwrap();
        let mut scratch = vec![0; 120_000];
        assert!(!pipe.put(7, &file, 0, scratch.len()));
        assert!(pipe.drain(&mut scratch));
        assert!(scratch[..100_000] == bytes);
        assert!(pipe.drain(&mut scratch), "it is empty");
        assert!(pipe.put(7, &file, 0, 100_000));
    }

    #[test]
    fn a_reply_larger_than_the_pipe_is_left_to_be_read() {
        let (file, _) = file(300_000);
        let mut splicer = Splicer::new(1 << 17);
        splicer.pipe = Some(Pipe::new(1 << 17).unwrap());
        let whole = data(&file, 0, Medium::Disk);
        assert!(!splicer.fill(7, &whole, &mut vec![0; 1 << 17]));
        assert!(is_empty(&splicer));
        assert!(splicer.fill(7, &whole, &mut vec![0; (1 << 17) - PAGE]));
        splicer.pipe = Some(Pipe::new(1 << 17).unwrap());
        let within = data(&file, 1, Medium::Disk);
        assert!(!splicer.fill(7, &within, &mut vec![0; (1 << 17) - PAGE]));
    }

    /// A request as the kernel sends it.
    fn request(opcode: Opcode, data: &[u8]) -> Vec<u8> {
        let header = fuse_in_header {
            len: u32::try_from(BEFORE_DATA + data.len()).unwrap(),
            opcode: opcode as u32,
            ..Default::default()
        };
        let arg = fuse_write_in::default();
        [header.as_bytes(), arg.as_bytes(), data].concat()
    }

    #[test]
    fn after_a_large_write_the_next_is_fetched_through_the_pipe() {
        let (device, mut kernel) = std::io::pipe().unwrap();
        fcntl(&kernel, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        let device = Device::new(device.into());
        let mut splicer = Splicer::new(1 << 19);
        let mut buffer = RequestBuffer::new(1 << 19);
        let large = request(Opcode::Write, &vec![5; 300_000]);
        let small = request(Opcode::Write, &[6; 5000]);
        let other = request(Opcode::Setxattr, &vec![7; 66_000]);
        let mut fetch = |message: &[u8]| {
            kernel.write_all(message).unwrap();
            let Fetch::Request(len) = splicer.fetch(&device, &mut buffer) else {
                panic!("no request");
            };
            assert_eq!(len, message.len());
            let got = buffer.message(len);
            match splicer.piped() {
                None => {
                    assert!(got == message);
                    false
                }
                Some(Payload::Bytes(_)) => panic!("in memory"),
                Some(Payload::Pipe(pipe, left)) => {
                    assert!(got[..BEFORE_DATA] == message[..BEFORE_DATA]);
                    assert_eq!(left, message.len() - BEFORE_DATA);
                    // Not all of it is used each time.
                    let mut part = vec![0; 200_000];
                    assert_eq!(nix::unistd::read(pipe, &mut part), Ok(part.len()));
                    assert!(part == message[BEFORE_DATA..][..part.len()]);
                    true
                }
            }
        };
        let row = [
            &large, &large, &large, &small, &small, &large, &other, &large, &large,
        ];
        let piped = row.map(|message| fetch(message));
        assert_eq!(
            piped,
            [false, true, true, false, false, false, false, false, true]
        );
    }

    #[test]
    fn a_pipe_that_may_be_too_small_takes_no_requests() {
        let pipe = Pipe::new(1 << 18).unwrap();
        assert!(pipe.takes_requests((1 << 18) - 2 * PAGE));
        assert!(!pipe.takes_requests((1 << 18) - PAGE));
        assert!(!pipe.takes_requests(64 << 10), "a SETXATTR may be longer");
    }
}
