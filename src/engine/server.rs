//! Serves one decoded request, whichever transport brought it.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_proto::opcode::Opcode;
use fuse_proto::{DecodeError, Operation, ReplyWriter, Request};

use super::backing::Backings;
use super::base::{self, Root};
use super::carrier::Carrier;
use super::context::{Away, Seat};
use super::dev::Device;
use super::dispatch::{dispatch, entry_out};
use super::landmark::{self, Landmark};
use super::metrics::CacheEvent;
use super::outcome::{Answer, Grant, Outcome, take_back};
use super::pool::Pool;
use super::seat::{Place, PooledSeat};
use super::splice::Splicer;
use super::uring::Rings;
use super::{
    Context, Data, Errno, FileSystem, Medium, Negotiated, NodeId, Notifier, Result, Splicing,
};
use crate::sys::file;

/// How long an interrupted read of a remote file goes on: where somebody answers, the answer comes first, and a process
/// whose timer has expired sees no error that it would not see without us.
const GRACE: Duration = Duration::from_millis(20);

/// What all threads of a session share.
pub(super) struct Shared<F> {
    pub(super) fs: Arc<F>,
    pub(super) device: Device,
    pub(super) negotiated: Negotiated,
    pub(super) notifier: Arc<Notifier>,
    /// How the kernel numbers the root.
    pub(super) root: Root,
    /// The engine's own file.
    pub(super) landmark: Landmark,
    /// How data travels over the classic transport.
    pub(super) splicing: Splicing,
    /// Kernel passthrough, if that was negotiated.
    pub(super) backings: Option<Arc<Backings>>,
    /// What threads of FUSE over io_uring need; `None` if that was not negotiated.
    pub(super) rings: Option<Rings>,
    /// Does beside the queues what would hold them up.
    pub(super) carrier: Carrier,
}

/// Serves requests at one place.
pub(super) struct Server<'a, F> {
    pub(super) shared: &'a Shared<F>,
    pub(super) pool: &'a Arc<Pool>,
    pub(super) place: &'a Arc<Place>,
    /// What replies are spliced with, on a transport that can.
    pub(super) splicer: Option<RefCell<Splicer>>,
}

/// How a request ended.
pub(super) struct Served {
    /// The request.
    pub(super) unique: u64,
    /// What to send.
    pub(super) reply: Reply,
    grant: Grant,
    opcode: Opcode,
    error: Option<Errno>,
    bytes: u64,
    since: u64,
}

/// What to send for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// The first bytes of the payload.
    Payload(usize),
    /// What is in the pipe of the splicer: this many bytes of data.
    Spliced(usize),
    /// An error.
    Error(Errno),
    /// The kernel wants no reply.
    Unwanted,
    /// Somebody else has answered.
    GivenUp,
}

impl<F: FileSystem> Server<'_, F> {
    /// Serves `request`; `payload` gets what is replied.
    pub(super) fn serve(&self, request: &Request<'_>, payload: &mut [u8]) -> Served {
        let unique = request.header.unique;
        let since = self.pool.now();
        self.place.begin(unique, request.header.pid, since);
        if self.pool.take_early_interrupt(unique) {
            self.place.interrupt(unique);
        }
        let mut served = Served {
            unique,
            reply: Reply::Unwanted,
            grant: Grant::Nothing,
            opcode: request.operation.opcode(),
            error: None,
            bytes: 0,
            since,
        };
        let Some(outcome) = self.outcome(request, payload) else {
            return served;
        };
        served.grant = outcome.grant;
        served.bytes = outcome.written;
        // A file is read before the request is claimed: reading may block and be given up.
        served.reply = match outcome.answer {
            Ok(Answer::Payload(len)) => Reply::Payload(len),
            Ok(Answer::Data(data, size)) if self.splices(unique, &data, &mut payload[..size]) => {
                served.bytes = size as u64;
                Reply::Spliced(size)
            }
            Ok(Answer::Data(data, size)) => match self.read(&data, &mut payload[..size]) {
                Ok(len) => {
                    served.bytes = len as u64;
                    Reply::Payload(len)
                }
                Err(errno) => Reply::Error(errno),
            },
            Err(errno) => Reply::Error(errno),
        };
        if let Reply::Error(errno) = served.reply {
            served.error = Some(errno);
            // Nothing, unless what was opened or found could not be encoded.
            self.take_back(&served, payload);
            served.grant = Grant::Nothing;
        }
        if !self.place.claim(unique) {
            self.take_back(&served, payload);
            if let (Reply::Spliced(_), Some(splicer)) = (served.reply, &self.splicer) {
                splicer.borrow_mut().discard();
            }
            served.reply = Reply::GivenUp;
        }
        served
    }

    /// Whether the reply with `data` is in the pipe of the splicer now, as many bytes as `payload` has.
    fn splices(&self, unique: u64, data: &Data, payload: &mut [u8]) -> bool {
        match &self.splicer {
            Some(splicer) => splicer.borrow_mut().fill(unique, data, payload),
            None => false,
        }
    }

    /// What a request comes to; `None` if the kernel wants no reply.
    fn outcome(&self, request: &Request<'_>, payload: &mut [u8]) -> Option<Outcome> {
        let fs = &*self.shared.fs;
        if let Operation::Lookup { name } = &request.operation
            && let Some(entry) = self.shared.landmark.lookup(request.header.nodeid, name)
        {
            let dialect = self.shared.negotiated.dialect();
            let encoded = ReplyWriter::new(payload, dialect).entry(&entry_out(&entry));
            return Some(Outcome::granting(encoded, Grant::Nothing));
        }
        match &request.operation {
            Operation::Forget(arg) => {
                self.forget(request.header.nodeid, arg.nlookup);
                None
            }
            Operation::BatchForget(forgets) => {
                for one in forgets.clone() {
                    self.forget(one.nodeid, one.nlookup);
                }
                None
            }
            Operation::Interrupt(arg) => {
                self.pool.interrupt(arg.unique);
                None
            }
            Operation::NotifyReply { .. } => None,
            Operation::Destroy => Some(Outcome::of(Ok(Answer::Payload(0)))),
            Operation::Init(_) | Operation::CuseInit(_) => Some(Errno::EIO.into()),
            _ => {
                let seat = PooledSeat {
                    place: self.place,
                    pool: self.pool,
                };
                let cx = Context {
                    unique: request.header.unique,
                    uid: request.header.uid,
                    gid: request.header.gid,
                    pid: request.header.pid,
                    negotiated: &self.shared.negotiated,
                    notifier: &self.shared.notifier,
                    backings: self.shared.backings.as_ref(),
                    root: self.shared.root,
                    carrier: &self.shared.carrier,
                    seat: &seat,
                };
                let dialect = self.shared.negotiated.dialect();
                let splicer = self.splicer.as_ref().map(RefCell::borrow);
                let piped = splicer.as_deref().and_then(Splicer::piped);
                let outcome = guarded(|| {
                    if self.shared.root.is_base(request.header.nodeid) {
                        base::serve(fs, &cx, &request.operation, dialect, payload)
                    } else {
                        dispatch(fs, &cx, request, piped, dialect, payload)
                    }
                });
                Some(outcome.unwrap_or_else(|| Errno::EIO.into()))
            }
        }
    }

    /// Puts the bytes of a READ into `payload`; returns how many there are.
    fn read(&self, data: &Data, payload: &mut [u8]) -> Result<usize> {
        match data {
            Data::Bytes(bytes) => {
                let len = bytes.len().min(payload.len());
                payload[..len].copy_from_slice(&bytes[..len]);
                Ok(len)
            }
            Data::File {
                file,
                offset,
                medium,
            } if medium.is_immediate() => read_here(file, payload, *offset),
            Data::File {
                file,
                offset,
                medium,
            } => {
                let read = read_cached(file, payload, *offset, *medium)?;
                let (done, rest) = match read {
                    Cached::All(done) => return Ok(done),
                    Cached::Some(done) => (done, &mut payload[done..]),
                };
                Ok(done + self.read_cold(file, rest, *offset + done as u64, *medium)?)
            }
        }
    }

    /// Reads what is not in memory, while another thread takes requests.
    fn read_cold(
        &self,
        file: &Arc<File>,
        payload: &mut [u8],
        offset: u64,
        medium: Medium,
    ) -> Result<usize> {
        let seat = PooledSeat {
            place: self.place,
            pool: self.pool,
        };
        let _away = Away::from(&seat);
        let mut asked = None;
        let leave = || {
            // A disk answers, and nobody expects that reading from one is interrupted.
            let asked = seat.interrupted() && medium == Medium::Remote && {
                let asked = asked.get_or_insert_with(Instant::now);
                asked.elapsed() >= GRACE
            };
            asked || seat.given_up()
        };
        self.shared
            .carrier
            .read(file, offset, payload, medium, leave)
    }

    fn forget(&self, number: u64, lookups: u64) {
        let node = self.shared.root.node(number);
        if node != NodeId::ROOT && node != landmark::NODE {
            self.place.cache.count(CacheEvent::Forgotten, 1);
            guarded(|| self.shared.fs.forget(node, lookups));
        }
    }

    /// Takes back what the reply would have handed out: it did not arrive.
    pub(super) fn take_back(&self, served: &Served, payload: &[u8]) {
        guarded(|| take_back(&*self.shared.fs, served.grant, payload));
    }

    /// The request has left the thread: records what it took.
    pub(super) fn end(&self, served: Option<&Served>) {
        if let Some(served) = served {
            let nanoseconds = self.pool.now().saturating_sub(served.since);
            let mut recorder = self.place.recorder.lock();
            recorder.record(served.opcode, nanoseconds, served.error, served.bytes);
        }
        if self.place.end() {
            self.pool.came_back(self.place.team);
        }
    }
}

/// The error for a request that cannot be decoded.
pub(super) fn refusal(error: &DecodeError) -> Errno {
    tracing::warn!(%error, "a request cannot be decoded");
    if matches!(error, DecodeError::UnknownOpcode { .. }) {
        Errno::ENOSYS
    } else {
        Errno::EIO
    }
}

/// What a read without waiting has found.
enum Cached {
    /// All that was asked for, or all up to the end of the file: so many bytes.
    All(usize),
    /// So many bytes at the start.
    Some(usize),
}

/// Reads what is in memory.
fn read_cached(
    file: &Arc<File>,
    payload: &mut [u8],
    offset: u64,
    medium: Medium,
) -> Result<Cached> {
    let mut done = 0;
    while done < payload.len() {
        match file::read_cached(file.as_fd(), &mut payload[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EINTR) => Ok(Cached::Some(done)),
                    // Its file system cannot tell. To give up the seat each time would cost more than the monitor,
                    // unless it may take for ever.
                    _ if medium == Medium::Disk => {
                        let rest = &mut payload[done..];
                        let read = read_here(file, rest, offset + done as u64)?;
                        Ok(Cached::All(done + read))
                    }
                    _ => Ok(Cached::Some(done)),
                };
            }
        }
    }
    Ok(Cached::All(done))
}

/// Reads at once, whatever it takes.
fn read_here(file: &File, payload: &mut [u8], offset: u64) -> Result<usize> {
    file.read_at(payload, offset).map_err(Errno::from)
}

/// Runs a method of the file system; a panic in it is the end of the request, not of the thread.
pub(super) fn guarded<R>(method: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(method)) {
        Ok(result) => Some(result),
        Err(_) => {
            tracing::error!("a method of the file system panicked");
            None
        }
    }
}
