//! Reading and syncing files on an io_uring, with tokio-uring.
//!
//! tokio-uring's own type of file owns a descriptor and closes it. Here the file belongs to others as well, and a
//! duplicate would be flushed each time it is closed, which is a request of its own where the file lies on another
//! FUSE or on a network. So the commands are made here, and what they use goes with them: tokio-uring holds it until
//! their completion, also if the future is dropped before.
//!
//! The ring has a descriptor, unlike those of [`uring`](super::uring): the runtime waits for it with epoll. A forked
//! child that inherits it keeps nothing alive that others wait for: no FUSE command is ever on this ring. Its memory
//! is not inherited, and an executed program has neither.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring_of_tokio::{cqueue, opcode, squeue, types};
use tokio_uring::{OneshotOutputTransform, Runtime, UnsubmittedOneshot};

/// Commands that are handed to the kernel at a time; more are handed over in turns.
const ENTRIES: u32 = 64;

/// How much of a file shall reach the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Everything, as by fsync(2).
    Everything,
    /// Contents, and what is needed to find them, as by fdatasync(2).
    Contents,
}

impl Durability {
    /// What a sync asks for, of the contents only or of everything.
    #[must_use]
    pub fn of(contents_only: bool) -> Durability {
        if contents_only {
            Durability::Contents
        } else {
            Durability::Everything
        }
    }
}

/// Who carries a read out in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Issue {
    /// The thread of the ring, which does not wait where the file system knows how to go on without it.
    Here,
    /// A thread of the kernel's. Other file systems need that: the kernel believes of those whose files can be polled,
    /// FUSE among them, that they do not wait, and the whole ring would.
    Worker,
}

/// How many threads of the kernel's a ring gets for files, on so many CPUs.
#[must_use]
pub fn workers(cpus: usize) -> usize {
    (4 * cpus).min(ENTRIES as usize)
}

/// A runtime for the calling thread, in which futures of this module run.
///
/// # Errors
/// Those of io_uring_setup(2), among them `EPERM` where io_uring is disabled and `ENOSYS` where there is none;
/// `Unsupported` before Linux 5.12.
pub fn runtime() -> io::Result<Runtime> {
    let mut ring = tokio_uring::uring_builder();
    ring.dontfork();
    // A runtime that finds no ring leaves the descriptors open that it has made before.
    let tried = ring.build(ENTRIES)?;
    // Before Linux 5.12 what waits does so in a thread of the kernel that is not one of this process.
    if !tried.params().is_feature_native_workers() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "io_uring of this kernel has no threads of the process",
        ));
    }
    drop(tried);
    Runtime::new(tokio_uring::builder().entries(ENTRIES).uring_builder(&ring))
}

/// Makes what was stored with a command and its result the output.
struct WithResult<D>(std::marker::PhantomData<D>);

impl<D> OneshotOutputTransform for WithResult<D> {
    type Output = (io::Result<usize>, D);
    type StoredData = D;

    fn transform_oneshot_output(self, data: D, completion: cqueue::Entry) -> Self::Output {
        let result = completion.result();
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        (result, data)
    }
}

/// Reads up to `len` bytes of `file` at `offset` to the start of `buffer`; fewer at the end of the file only. Must run
/// in a [`runtime`].
pub async fn read(
    file: Arc<File>,
    buffer: Vec<u8>,
    len: usize,
    offset: u64,
    issue: Issue,
) -> (io::Result<usize>, Vec<u8>, Arc<File>) {
    let mut held = (buffer, file);
    let len = len.min(held.0.len());
    let mut done = 0;
    while done < len {
        let rest = &mut held.0[done..len];
        // What the command points to stays where it is until it completes, whatever becomes of this future: a vector
        // that is moved keeps its memory, the file keeps its descriptor, and both are stored with the command.
        let size = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let command = opcode::Read::new(types::Fd(held.1.as_raw_fd()), rest.as_mut_ptr(), size)
            .offset(offset + done as u64)
            .build();
        let command = match issue {
            Issue::Here => command,
            Issue::Worker => command.flags(squeue::Flags::ASYNC),
        };
        let transform = WithResult(std::marker::PhantomData);
        let (result, back) = UnsubmittedOneshot::new(held, transform, command)
            .submit()
            .await;
        held = back;
        match result {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return (Err(error), held.0, held.1),
        }
    }
    (Ok(done), held.0, held.1)
}

/// Brings `file` to the disk. Must run in a [`runtime`].
pub async fn sync(file: Arc<File>, what: Durability) -> (io::Result<()>, Arc<File>) {
    let flags = match what {
        Durability::Everything => types::FsyncFlags::empty(),
        Durability::Contents => types::FsyncFlags::DATASYNC,
    };
    let command = opcode::Fsync::new(types::Fd(file.as_raw_fd()))
        .flags(flags)
        .build();
    let transform = WithResult(std::marker::PhantomData);
    let (result, file) = UnsubmittedOneshot::new(file, transform, command)
        .submit()
        .await;
    (result.map(drop), file)
}

/// Closes `file` without waiting for what its file system does then, if nobody else has it. Must run in a [`runtime`].
pub async fn let_go(file: Arc<File>) {
    if let Some(file) = Arc::into_inner(file) {
        let _ = tokio_uring::fs::File::from_std(file).close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Runs `test`, unless there is no io_uring.
    fn in_runtime<F: Future<Output = ()>>(test: F) {
        match runtime() {
            Ok(runtime) => runtime.block_on(test),
            Err(error) => assert!(
                matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)),
                "{error}"
            ),
        }
    }

    fn ten_bytes() -> Arc<File> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"0123456789").expect("written");
        Arc::new(file)
    }

    #[test]
    fn a_read_ends_where_the_file_does() {
        in_runtime(async {
            let file = ten_bytes();
            for (len, offset, expected) in [
                (4, 0, &b"0123"[..]),
                (4, 8, b"89"),
                (4, 10, b""),
                (99, 3, b"3456789"),
            ] {
                let buffer = vec![0; 16];
                let (result, buffer, file) =
                    read(Arc::clone(&file), buffer, len, offset, Issue::Here).await;
                assert_eq!(&buffer[..result.expect("read")], expected);
                let (result, buffer, _) = read(file, buffer, len, offset, Issue::Worker).await;
                assert_eq!(&buffer[..result.expect("read")], expected);
                assert_eq!(buffer.len(), 16);
            }
        });
    }

    #[test]
    fn errors_are_those_of_the_call() {
        in_runtime(async {
            let directory = Arc::new(File::open("/").expect("a directory"));
            let (result, _, _) =
                read(Arc::clone(&directory), vec![0; 16], 16, 0, Issue::Here).await;
            let errno = result.expect_err("a directory").raw_os_error();
            assert_eq!(errno, Some(libc::EISDIR));
            let null = Arc::new(File::open("/dev/null").expect("a device"));
            let (result, null) = sync(null, Durability::Everything).await;
            let errno = result.expect_err("a device").raw_os_error();
            assert_eq!(errno, Some(libc::EINVAL));
            let_go(null).await;
        });
    }

    #[test]
    fn a_file_is_synced_and_closed() {
        in_runtime(async {
            let file = ten_bytes();
            let (result, file) = sync(file, Durability::Contents).await;
            result.expect("synced");
            let (result, file) = sync(file, Durability::Everything).await;
            result.expect("synced");
            let_go(file).await;
        });
    }
}
