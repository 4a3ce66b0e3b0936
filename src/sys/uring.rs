//! FUSE commands on an io_uring, and the memory their requests and replies travel in.
//!
//! A ring entry is a header and a payload in memory that the kernel fills with a request and takes a reply from. Here
//! it is mapped twice: [`Exposed`] is the address the kernel knows, [`Buffer`] the one we use. So whoever takes an
//! entry over from a thread that is stuck in a system call with the buffer puts new memory at the exposed address, and
//! the stuck call keeps what it has.
//!
//! Ownership follows the entry: [`Ring::register`] and [`Ring::commit`] take both halves, and they come back with the
//! completion. Whoever holds them knows that the kernel does not touch the memory.
//!
//! A ring is used by one thread and known to the kernel by a number in that thread only: its descriptor is replaced
//! and its memory is not inherited, so that no child of this process can keep it alive. With a ring that outlives its
//! thread the kernel can hang for good.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use fuse_proto::uring::{UringCmd, fuse_uring_cmd_req, fuse_uring_req_header};
use fuse_proto::{fuse_out_header, reply};
use io_uring::squeue::Entry128;
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, types};

/// Room for the header before the payload: a page, so that the payload starts on one.
const HEADER: usize = 4096;

/// Where `len` is in a submission queue entry: the library has no setter for it in a command.
const SQE_LEN: usize = 24;

/// Index of `/dev/fuse` in the ring's table of files.
const DEVICE: types::Fixed = types::Fixed(0);

/// Pages mapped at one address.
struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: it is memory like that of a Box; the address is valid in every thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// New pages, zeroed, shared by all mappings made of this one.
    fn new(len: usize) -> io::Result<Mapping> {
        // SAFETY: without MAP_FIXED the kernel picks an address nobody uses.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        Mapping::of(address, len)
    }

    fn of(address: *mut libc::c_void, len: usize) -> io::Result<Mapping> {
        match NonNull::new(address.cast::<u8>()) {
            Some(pages) if address != libc::MAP_FAILED => Ok(Mapping {
                address: pages,
                len,
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The same pages at another address.
    fn alias(&self) -> io::Result<Mapping> {
        // SAFETY: an old size of 0 maps the pages of a shared mapping a second time, at an address nobody uses, and
        // leaves the first mapping as it is.
        let address = unsafe {
            libc::mremap(
                self.address.as_ptr().cast(),
                0,
                self.len,
                libc::MREMAP_MAYMOVE,
            )
        };
        Mapping::of(address, self.len)
    }

    /// Puts the pages of `other` in place of those at this address.
    fn show(&mut self, other: &Mapping) -> io::Result<()> {
        assert_eq!(self.len, other.len, "entries of a session are of one size");
        // SAFETY: as in `alias`; the new address is a whole mapping that belongs to `self`, which has no references
        // into it.
        let address = unsafe {
            libc::mremap(
                other.address.as_ptr().cast(),
                0,
                self.len,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                self.address.as_ptr().cast::<libc::c_void>(),
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to `self`, and nobody borrows from it any more.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.len) };
    }
}

/// The address of an entry's memory that the kernel knows.
pub struct Exposed {
    mapping: Mapping,
    queue: u16,
    commit: u64,
}

/// The address of an entry's memory that we use.
pub struct Buffer(Mapping);

/// Memory of a new entry of `queue` with room for `payload` bytes. Takes no memory before it is used.
///
/// # Errors
/// `ENOMEM`.
pub fn allocate(queue: u16, payload: usize) -> io::Result<(Exposed, Buffer)> {
    let mapping = Mapping::new(HEADER + payload.next_multiple_of(HEADER))?;
    let buffer = Buffer(mapping.alias()?);
    let exposed = Exposed {
        mapping,
        queue,
        commit: 0,
    };
    Ok((exposed, buffer))
}

impl Exposed {
    /// The queue of the kernel the entry belongs to: the number of a CPU.
    #[must_use]
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Lets the kernel see new memory from now on, which is returned; who holds the former [`Buffer`] keeps it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn renew(&mut self) -> io::Result<Buffer> {
        let mapping = Mapping::new(self.mapping.len)?;
        self.mapping.show(&mapping)?;
        Ok(Buffer(mapping))
    }

    /// Header and payload, as REGISTER wants them.
    fn vectors(&self) -> [libc::iovec; 2] {
        let header = self.mapping.address.as_ptr();
        [
            libc::iovec {
                iov_base: header.cast(),
                iov_len: size_of::<fuse_uring_req_header>(),
            },
            libc::iovec {
                iov_base: header.wrapping_add(HEADER).cast(),
                iov_len: self.mapping.len - HEADER,
            },
        ]
    }
}

impl Buffer {
    /// The header.
    pub fn header(&mut self) -> &mut fuse_uring_req_header {
        // SAFETY: the mapping starts with a page for the header, so it is aligned and large enough; any bytes are a
        // valid header. Others who map the pages do not use them while somebody holds the buffer: the kernel has
        // given the entry back, and `Exposed` is never read or written through.
        unsafe { self.0.address.cast().as_mut() }
    }

    /// The payload.
    pub fn payload(&mut self) -> &mut [u8] {
        let payload = self.0.address.as_ptr().wrapping_add(HEADER);
        // SAFETY: the mapping goes on for this long after the header; see `header` for who else uses it.
        unsafe { std::slice::from_raw_parts_mut(payload, self.0.len - HEADER) }
    }

    /// Puts a reply with the first `len` bytes of the payload, or an error (a positive errno), into the header.
    pub fn set_reply(&mut self, unique: u64, answer: Result<usize, i32>) {
        let (len, error) = match answer {
            Ok(len) => (len, 0),
            Err(errno) => (0, -errno),
        };
        let header: fuse_out_header = reply::out_header(len, error, unique);
        let len = u32::try_from(len).expect("a payload has at most a few MiB");
        self.header().set_reply(&header, len);
    }
}

/// What became of a command.
pub enum Completion {
    /// A request is in the buffer.
    Request(Exposed, Buffer),
    /// The kernel has let go of the entry.
    Failed(Exposed, Buffer, io::Error),
}

/// An entry that is with the kernel.
struct Lent {
    exposed: Exposed,
    buffer: Buffer,
    /// What a REGISTER points to.
    _vectors: Option<Box<[libc::iovec; 2]>>,
}

/// A ring, on the thread that uses it.
pub struct Ring<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r, Entry128>,
    completions: CompletionQueue<'r>,
    /// Entries by the number their command carries. Freed only after the ring: until then the kernel may write there.
    lent: ManuallyDrop<Vec<Option<Lent>>>,
}

/// Makes a ring for up to `entries` entries of the connection `device` and runs `body` with it. What is with the
/// kernel when `body` returns is cancelled: to lose no request, the connection must be over then.
///
/// # Errors
/// Those of io_uring_setup(2) and io_uring_register(2), among them `EPERM` where io_uring is disabled; `body` was not
/// run then.
pub fn with_ring<R>(
    device: BorrowedFd<'_>,
    entries: u32,
    body: impl FnOnce(&mut Ring<'_>) -> R,
) -> io::Result<R> {
    let mut ring: IoUring<Entry128, cqueue::Entry> = IoUring::builder()
        .dontfork()
        .setup_cqsize(2 * entries.next_power_of_two())
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .build(entries)?;
    let descriptor = ring.as_raw_fd();
    let (result, lent, ended) = {
        let (mut submitter, submissions, completions) = ring.split();
        submitter.register_files(&[device.as_raw_fd()])?;
        submitter.register_ring_fd()?;
        hide(descriptor)?;
        let mut ring = Ring {
            submitter,
            submissions,
            completions,
            lent: ManuallyDrop::default(),
        };
        let result = body(&mut ring);
        let Ring {
            mut submitter,
            lent,
            ..
        } = ring;
        // The last references to the ring are its number and its memory: with them it ends, and with it all commands.
        let ended = submitter.unregister_ring_fd();
        (result, lent, ended)
    };
    drop(ring);
    match ended {
        Ok(()) => drop(ManuallyDrop::into_inner(lent)),
        Err(error) => tracing::error!(%error, "a ring cannot be ended; its memory is kept"),
    }
    Ok(result)
}

/// Replaces the descriptor of a ring that the thread has registered.
fn hide(ring: i32) -> io::Result<()> {
    let null = std::fs::File::open("/dev/null")?;
    // SAFETY: takes no pointers; who owns the number `ring` will close whatever it stands for.
    let result = unsafe { libc::dup3(null.as_raw_fd(), ring, libc::O_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl Ring<'_> {
    /// Offers a new entry to the kernel with the next [`submit`](Self::submit) or [`wait`](Self::wait).
    pub fn register(&mut self, exposed: Exposed, buffer: Buffer) {
        let command = fuse_uring_cmd_req::register(exposed.queue);
        let vectors = Box::new(exposed.vectors());
        let mut entry = opcode::UringCmd80::new(DEVICE, UringCmd::Register.raw())
            .cmd(command.command_area())
            .addr(Some(vectors.as_ptr() as u64))
            .build();
        let len = (&raw mut entry).cast::<u8>().wrapping_add(SQE_LEN);
        // SAFETY: an Entry128 is the 128 bytes of the kernel's structure, in which the 32 bits of `len` are at this
        // place.
        unsafe { len.cast::<u32>().write_unaligned(vectors.len() as u32) };
        self.lend(
            entry,
            Lent {
                exposed,
                buffer,
                _vectors: Some(vectors),
            },
        );
    }

    /// Hands the reply in the buffer to the kernel with the next [`submit`](Self::submit) or [`wait`](Self::wait), and
    /// the entry for another request.
    pub fn commit(&mut self, exposed: Exposed, buffer: Buffer) {
        let command = fuse_uring_cmd_req::commit(exposed.queue, exposed.commit);
        let entry = opcode::UringCmd80::new(DEVICE, UringCmd::CommitAndFetch.raw())
            .cmd(command.command_area())
            .build();
        self.lend(
            entry,
            Lent {
                exposed,
                buffer,
                _vectors: None,
            },
        );
    }

    fn lend(&mut self, entry: Entry128, lent: Lent) {
        let free = self.lent.iter().position(Option::is_none);
        let index = free.unwrap_or(self.lent.len());
        if index == self.lent.len() {
            self.lent.push(None);
        }
        self.lent[index] = Some(lent);
        let entry = entry.user_data(index as u64);
        // SAFETY: what the command points to is in `lent` until its completion or the end of the ring: the vectors, and
        // the memory of the entry, which nobody else uses meanwhile since both its halves are there.
        let pushed = unsafe { self.submissions.push(&entry) };
        pushed.expect("a ring has room for one command of each of its entries");
    }

    /// Hands commands to the kernel.
    ///
    /// # Errors
    /// Those of io_uring_enter(2), but not `EINTR`.
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(0)
    }

    /// Hands commands to the kernel and waits for a completion or a signal.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn wait(&mut self) -> io::Result<()> {
        self.enter(1)
    }

    fn enter(&mut self, want: usize) -> io::Result<()> {
        self.submissions.sync();
        // What was read last counts as unread until this returns, so the call that hands a reply over does not wait, the next
        // one does. On its way back to us between them the thread lets its caller run: waiting at once is slower by 5 %.
        let entered = self.submitter.submit_and_wait(want);
        self.submissions.sync();
        self.completions.sync();
        match entered {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// The next completion there is.
    pub fn completed(&mut self) -> Option<Completion> {
        loop {
            let entry = self.completions.next()?;
            let index = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let Some(lent) = self.lent.get_mut(index).and_then(Option::take) else {
                continue;
            };
            let Lent {
                mut exposed,
                mut buffer,
                ..
            } = lent;
            if entry.result() < 0 {
                let error = io::Error::from_raw_os_error(-entry.result());
                return Some(Completion::Failed(exposed, buffer, error));
            }
            exposed.commit = buffer.header().ring_ent_in_out.commit_id;
            return Some(Completion::Request(exposed, buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_show_the_same_pages_until_they_are_renewed() {
        let (mut exposed, mut buffer) = allocate(3, 10_000).unwrap();
        assert_eq!(exposed.queue(), 3);
        assert_eq!(buffer.payload().len(), 12_288);
        assert_eq!(buffer.payload().as_ptr() as usize % HEADER, 0);
        let seen = |exposed: &Exposed| {
            let payload = exposed.mapping.address.as_ptr().wrapping_add(HEADER);
            // SAFETY: the payload is mapped, and no reference to it lives.
            unsafe { payload.read_volatile() }
        };
        buffer.payload()[0] = 7;
        assert_eq!(seen(&exposed), 7);
        let mut renewed = exposed.renew().unwrap();
        assert_eq!((seen(&exposed), buffer.payload()[0]), (0, 7));
        renewed.payload()[0] = 9;
        assert_eq!((seen(&exposed), buffer.payload()[0]), (9, 7));
        drop(buffer);
        drop(renewed);
        assert_eq!(seen(&exposed), 9);
    }

    #[test]
    fn a_ring_that_nobody_can_inherit() {
        let device = tempfile::tempfile().unwrap();
        let rings = || {
            let files = std::fs::read_dir("/proc/self/fd").unwrap();
            files
                .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
                .filter(|target| target.to_string_lossy().contains("io_uring"))
                .count()
        };
        let run = with_ring(std::os::fd::AsFd::as_fd(&device), 4, |ring| {
            let (exposed, buffer) = allocate(0, 8192).unwrap();
            ring.register(exposed, buffer);
            ring.wait().unwrap();
            // A plain file: the command is refused, and the entry comes back.
            match ring.completed() {
                Some(Completion::Failed(_, _, error)) => error.raw_os_error(),
                _ => None,
            }
        });
        match run {
            Ok(refused) => assert_eq!(refused, Some(libc::EOPNOTSUPP)),
            // io_uring may be disabled, or a kernel may have no single issuer.
            Err(error) => assert!(
                matches!(
                    error.raw_os_error(),
                    Some(libc::EPERM | libc::ENOSYS | libc::EINVAL)
                ),
                "{error}"
            ),
        }
        assert_eq!(rings(), 0);
    }
}
