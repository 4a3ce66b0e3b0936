//! Carries out reads and syncs that wait for a disk or for another machine, beside the queues.
//!
//! One thread runs tokio-uring. A serving thread that would block hands it the work and waits for the answer: it has
//! left its seat by then, so another one takes requests meanwhile. It cannot go and fetch itself, because over
//! io_uring a request is answered by the ring that has its entry, and answering is fetching: as many threads are
//! needed as there are requests without an answer. What is gained is the wait: unlike the system call it can be left,
//! so a request that is given up costs a buffer and not a thread.
//!
//! * **What is carried**: all work on remote files, which may never end. Work on a disk ends soon, and handing it over
//!   costs two changes of threads, as much as a fast disk: as long as no more threads wait for a disk than there are CPUs,
//!   each does its own. With more of them the change no longer shows.
//! * **Start**: the ring is made for the first work. Where io_uring is disabled, the thread ends then, and serving
//!   threads do the work themselves.
//! * **Bounds**: there are [`LOANS`] buffers, and so many syncs and reads of remote files at a time as the ring has
//!   threads of the kernel for them; what is more is done by the serving threads.
//! * **End**: with the session. Work that is still under way [`PATIENCE`] later is left to the kernel.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_uring::Runtime;

use super::buffers::{Buffers, Loan};
use super::promise::{Ending, Promise, promise};
use super::server::guarded;
use super::{Errno, Medium, Result};
use crate::sys::aio::{self, Durability, Issue};
use crate::sys::file;

/// Buffers there may be.
const LOANS: usize = 32;

/// Free buffers are given back after this long without work.
const REST: Duration = Duration::from_secs(1);

/// How long the end waits for what is under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something to do.
enum Errand {
    Read {
        file: Arc<File>,
        offset: u64,
        len: usize,
        loan: Loan,
        issue: Issue,
        turn: Option<Turn>,
        promise: Promise<(io::Result<usize>, Loan)>,
    },
    Sync {
        file: Arc<File>,
        what: Durability,
        turn: Turn,
        promise: Promise<io::Result<()>>,
    },
}

/// What the carrying thread shares with the others.
struct Books {
    buffers: Arc<Buffers>,
    /// What threads of the kernel do for the ring.
    busy: AtomicUsize,
    /// How many of them it has at most; what is more would wait for what may never end.
    workers: usize,
    /// Errors of syncs that nobody waited for any more. The host tells each of them once.
    untold: Mutex<Vec<(Weak<File>, Errno)>>,
}

/// Hands work to the thread that carries it out.
pub(super) struct Carrier {
    errands: Mutex<Option<UnboundedSender<Errand>>>,
    /// Threads that wait for a disk themselves.
    waiting: AtomicUsize,
    /// How many of these there may be before others hand their work over.
    lanes: usize,
    books: Arc<Books>,
}

impl Carrier {
    /// Starts the thread; the largest read has `size` bytes.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(super) fn start(size: usize) -> io::Result<(Carrier, JoinHandle<()>)> {
        Carrier::start_with(size, aio::runtime)
    }

    fn start_with(
        size: usize,
        runtime: fn() -> io::Result<Runtime>,
    ) -> io::Result<(Carrier, JoinHandle<()>)> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let (sender, receiver) = unbounded_channel();
        let carrier = Carrier {
            errands: Mutex::new(Some(sender)),
            waiting: AtomicUsize::new(0),
            lanes: cpus,
            books: Arc::new(Books {
                buffers: Buffers::new(size, LOANS),
                busy: AtomicUsize::new(0),
                workers: aio::workers(cpus),
                untold: Mutex::default(),
            }),
        };
        let books = Arc::clone(&carrier.books);
        let thread = super::thread::helper("cntr-io", move || {
            guarded(|| run(receiver, &books, runtime));
        })?;
        Ok((carrier, thread))
    }

    /// One that carries nothing.
    #[cfg(test)]
    pub(super) fn idle() -> Carrier {
        Carrier {
            errands: Mutex::new(None),
            waiting: AtomicUsize::new(0),
            lanes: 0,
            books: Arc::new(Books {
                buffers: Buffers::new(0, 0),
                busy: AtomicUsize::new(0),
                workers: 0,
                untold: Mutex::default(),
            }),
        }
    }

    /// Takes no more work; the thread ends.
    pub(super) fn close(&self) {
        self.errands.lock().take();
    }

    /// Reads `file`, which is on `medium`, at `offset` to `out`, with the calling thread having left its seat; fewer
    /// bytes than asked for are there at its end only. `leave` says when not to wait any longer, and is asked whenever
    /// a signal comes.
    ///
    /// # Errors
    /// `EINTR` if `leave` said so; those of pread(2).
    pub(super) fn read(
        &self,
        file: &Arc<File>,
        offset: u64,
        out: &mut [u8],
        medium: Medium,
        leave: impl FnMut() -> bool,
    ) -> Result<usize> {
        let lane = self.lane(medium);
        if lane.is_none()
            && let Some(result) = self.carry_read(file, offset, out, medium, leave)
        {
            return result;
        }
        file.read_at(out, offset).map_err(Errno::from)
    }

    /// Brings `file` to the disk; else as [`read`](Self::read). An error that nobody waits for is told by the next
    /// sync of the file.
    ///
    /// # Errors
    /// `EINTR` if `leave` said so; those of fsync(2).
    pub(super) fn sync(
        &self,
        file: &Arc<File>,
        what: Durability,
        medium: Medium,
        leave: impl FnMut() -> bool,
    ) -> Result<()> {
        let lane = self.lane(medium);
        let carried = match lane {
            Some(_) => None,
            None => self.carry_sync(file, what, leave),
        };
        let result = carried.unwrap_or_else(|| file::sync(file, what).map_err(Errno::from));
        match self.books.take_untold(file) {
            Some(errno) if result != Err(Errno::EINTR) => Err(errno),
            _ => result,
        }
    }

    /// What a thread holds that waits for `medium` itself; none if it is to hand its work over.
    fn lane(&self, medium: Medium) -> Option<Own<'_>> {
        let own = Own::wait(&self.waiting);
        (medium != Medium::Remote && own.before < self.lanes).then_some(own)
    }

    /// None if the caller has to do it.
    fn carry_read(
        &self,
        file: &Arc<File>,
        offset: u64,
        out: &mut [u8],
        medium: Medium,
        leave: impl FnMut() -> bool,
    ) -> Option<Result<usize>> {
        // The ring takes -1 for the position of the file.
        i64::try_from(offset).ok()?;
        let (issue, turn) = if medium == Medium::Remote {
            (Issue::Worker, Some(Turn::take(&self.books)?))
        } else {
            (Issue::Here, None)
        };
        let loan = self.books.buffers.lend()?;
        let (promise, expectation) = promise();
        self.send(Errand::Read {
            file: Arc::clone(file),
            offset,
            len: out.len(),
            loan,
            issue,
            turn,
            promise,
        })?;
        match expectation.wait(leave) {
            Ending::Kept((Ok(len), loan)) => {
                out[..len].copy_from_slice(&loan.bytes[..len]);
                Some(Ok(len))
            }
            Ending::Kept((Err(error), _)) => Some(Err(error.into())),
            Ending::Broken => None,
            Ending::Left => Some(Err(Errno::EINTR)),
        }
    }

    /// None if the caller has to do it.
    fn carry_sync(
        &self,
        file: &Arc<File>,
        what: Durability,
        leave: impl FnMut() -> bool,
    ) -> Option<Result<()>> {
        let turn = Turn::take(&self.books)?;
        let (promise, expectation) = promise();
        self.send(Errand::Sync {
            file: Arc::clone(file),
            what,
            turn,
            promise,
        })?;
        match expectation.wait(leave) {
            Ending::Kept(result) => Some(result.map_err(Errno::from)),
            Ending::Broken => None,
            Ending::Left => Some(Err(Errno::EINTR)),
        }
    }

    fn send(&self, errand: Errand) -> Option<()> {
        self.errands.lock().as_ref()?.send(errand).ok()
    }
}

/// A thread that does its own work.
struct Own<'a> {
    waiting: &'a AtomicUsize,
    /// How many there were before.
    before: usize,
}

impl Own<'_> {
    fn wait(waiting: &AtomicUsize) -> Own<'_> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        Own { waiting, before }
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to a thread of the kernel's.
struct Turn(Arc<Books>);

impl Turn {
    /// None if there are too many already.
    fn take(books: &Arc<Books>) -> Option<Turn> {
        let before = books.busy.fetch_add(1, Ordering::Relaxed);
        let turn = Turn(Arc::clone(books));
        (before < books.workers).then_some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Books {
    fn keep_untold(&self, file: &Arc<File>, errno: Errno) {
        let mut untold = self.untold.lock();
        untold.retain(|(file, _)| file.strong_count() > 0);
        untold.push((Arc::downgrade(file), errno));
    }

    fn take_untold(&self, file: &Arc<File>) -> Option<Errno> {
        let mut untold = self.untold.lock();
        let found = untold
            .iter()
            .position(|(other, _)| std::ptr::eq(other.as_ptr(), Arc::as_ptr(file)));
        found.map(|index| untold.swap_remove(index).1)
    }
}

/// Body of the thread.
fn run(
    mut errands: UnboundedReceiver<Errand>,
    books: &Arc<Books>,
    runtime: fn() -> io::Result<Runtime>,
) {
    // Most sessions have nothing to carry.
    let Some(first) = errands.blocking_recv() else {
        return;
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::info!(%error, "tokio-uring cannot be used: threads that read or sync wait themselves");
            return;
        }
    };
    let under_way = Arc::new(());
    let over = runtime.block_on(async {
        let mut next = Some(first);
        while let Some(errand) = next {
            let (shared, mark) = (Arc::clone(books), Arc::clone(&under_way));
            tokio_uring::spawn(async move {
                carry_out(errand, &shared).await;
                drop(mark);
            });
            next = match tokio::time::timeout(REST, errands.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    books.buffers.trim();
                    errands.recv().await
                }
            };
        }
        let done = async {
            while Arc::strong_count(&under_way) > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await
    });
    if over.is_err() {
        tracing::warn!("reads or syncs are still blocked in the host's file system");
        // Its end would wait for them.
        std::mem::forget(runtime);
    }
}

async fn carry_out(errand: Errand, books: &Books) {
    match errand {
        Errand::Read {
            file,
            offset,
            len,
            mut loan,
            issue,
            turn,
            promise,
        } => {
            let bytes = std::mem::take(&mut loan.bytes);
            let (result, bytes, file) = aio::read(file, bytes, len, offset, issue).await;
            loan.bytes = bytes;
            drop(turn);
            drop(promise.keep((result, loan)));
            aio::let_go(file).await;
        }
        Errand::Sync {
            file,
            what,
            turn,
            promise,
        } => {
            let (result, file) = aio::sync(file, what).await;
            drop(turn);
            if let Some(Err(error)) = promise.keep(result) {
                books.keep_untold(&file, error.into());
            }
            aio::let_go(file).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn bytes() -> (Arc<File>, Vec<u8>) {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("written");
        (Arc::new(file), bytes)
    }

    fn end(carrier: &Carrier, thread: JoinHandle<()>) {
        carrier.close();
        thread.join().expect("no panic");
    }

    /// Whether there is an io_uring.
    fn able() -> bool {
        aio::runtime().is_ok()
    }

    #[test]
    fn what_is_read_is_what_is_there() {
        let (carrier, thread) = Carrier::start(1 << 16).expect("a thread");
        let (file, bytes) = bytes();
        for medium in [Medium::Disk, Medium::Remote] {
            for offset in [0, 1, 40_000, 99_999, 100_000, 200_000] {
                let mut out = vec![0; 1 << 16];
                let read = carrier.read(&file, offset as u64, &mut out, medium, || false);
                let expected = &bytes[offset.min(bytes.len())..];
                let expected = &expected[..expected.len().min(1 << 16)];
                assert_eq!(&out[..read.expect("read")], expected);
            }
            let synced = carrier.sync(&file, Durability::Everything, medium, || false);
            synced.expect("synced");
        }
        end(&carrier, thread);
        assert_eq!(Arc::strong_count(&file), 1);
    }

    #[test]
    fn who_leaves_is_free_at_once_and_the_buffer_comes_back() {
        let (carrier, thread) = Carrier::start(4096).expect("a thread");
        let (pipe, writer) = io::pipe().expect("a pipe");
        let never = Arc::new(File::from(std::os::fd::OwnedFd::from(pipe)));
        if able() {
            let most = carrier.books.workers.min(LOANS);
            for _ in 0..most {
                let read = carrier.read(&never, 0, &mut [0; 1], Medium::Remote, || true);
                assert_eq!(read, Err(Errno::EINTR));
            }
            assert_eq!(carrier.books.busy.load(Ordering::Relaxed), most);
            let (file, bytes) = bytes();
            let mut out = [0; 10];
            // All threads of the kernel wait: the caller reads.
            let read = carrier.read(&file, 7, &mut out, Medium::Remote, || false);
            assert_eq!((read, &out[..]), (Ok(10), &bytes[7..17]));
            let synced = carrier.sync(&file, Durability::Contents, Medium::Remote, || false);
            assert_eq!(synced, Ok(()));
        }
        // All reads end with the pipe.
        drop(writer);
        end(&carrier, thread);
        assert_eq!(carrier.books.busy.load(Ordering::Relaxed), 0);
        assert!(carrier.books.buffers.lend().is_some());
        assert_eq!(Arc::strong_count(&never), 1);
    }

    #[test]
    fn an_error_that_nobody_waited_for_is_told_once() {
        let (carrier, thread) = Carrier::start(4096).expect("a thread");
        let (file, _) = bytes();
        let (other, _) = bytes();
        for medium in [Medium::Disk, Medium::Remote] {
            carrier.books.keep_untold(&file, Errno::EIO);
            let sync = |file| carrier.sync(file, Durability::Everything, medium, || false);
            assert_eq!(sync(&other), Ok(()));
            assert_eq!(sync(&file), Err(Errno::EIO));
            assert_eq!(sync(&file), Ok(()));
        }
        end(&carrier, thread);
    }

    #[test]
    fn without_io_uring_the_caller_does_it() {
        let disabled = || Err(io::Error::from_raw_os_error(libc::EPERM));
        let panics = || panic!("as the test wants it");
        for runtime in [disabled, panics] {
            let (carrier, thread) = Carrier::start_with(4096, runtime).expect("a thread");
            let (file, bytes) = bytes();
            for _ in 0..2 {
                let mut out = [0; 10];
                let read = carrier.read(&file, 7, &mut out, Medium::Remote, || false);
                assert_eq!((read, &out[..]), (Ok(10), &bytes[7..17]));
                let what = Durability::Contents;
                let synced = carrier.sync(&file, what, Medium::Remote, || false);
                assert_eq!(synced, Ok(()));
            }
            end(&carrier, thread);
            assert_eq!(Arc::strong_count(&file), 1);
            assert!(carrier.books.buffers.lend().is_some());
        }
    }
}
