//! One serving thread: fetch a request, dispatch it, answer it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use fuse_proto::opcode::Opcode;
use fuse_proto::{DecodeError, Operation, Request, peek_header};

use super::dev::{Delivery, Device, Fetch, ReplyBuffer, RequestBuffer};
use super::dispatch::dispatch;
use super::outcome::{Answer, Grant, Outcome, take_back};
use super::pool::{Crew, Pool};
use super::seat::{Place, PooledSeat};
use super::{Context, Errno, FileSystem, Negotiated, NodeId, Notifier};

/// What all queues of a session share.
pub(super) struct Shared<F> {
    pub(super) fs: Arc<F>,
    pub(super) device: Device,
    pub(super) negotiated: Negotiated,
    pub(super) notifier: Notifier,
}

/// Starts queues of one session.
pub(super) struct Queues<F> {
    pub(super) shared: Arc<Shared<F>>,
    /// Threads are told apart by name in ps and gdb.
    pub(super) name: &'static str,
}

impl<F: FileSystem> Crew for Queues<F> {
    fn hire(&self, pool: &Arc<Pool>) -> bool {
        let shared = Arc::clone(&self.shared);
        let device = match self.shared.device.try_clone() {
            Ok(device) => Arc::new(device),
            Err(error) => {
                tracing::warn!(%error, "no further descriptor of /dev/fuse can be had");
                return false;
            }
        };
        let pool = Arc::downgrade(pool);
        let serve = move || {
            let _ = crate::sys::thread::accept_only_interrupt();
            serve(&shared, device, &pool);
        };
        let started = std::thread::Builder::new()
            .name(self.name.to_owned())
            .stack_size(512 << 10)
            .spawn(serve);
        if let Err(error) = &started {
            tracing::warn!(%error, "no further thread can be started");
        }
        started.is_ok()
    }

    fn give_up(&self, place: &Place, unique: u64) {
        if place.claim(unique) {
            let _ = place.device.reply_error(unique, Errno::EINTR);
        }
    }
}

/// Body of a serving thread. Its ends are: the mount is gone, the pool does not need it, its device failed.
fn serve<F: FileSystem>(shared: &Shared<F>, device: Arc<Device>, pool: &Weak<Pool>) {
    let Some(pool) = pool.upgrade() else { return };
    if let Err(errno) = shared.fs.enter_thread() {
        tracing::error!(%errno, "a serving thread cannot be prepared");
        pool.resign(true);
        return;
    }
    let place = pool.enter(device);
    let mut queue = Queue {
        shared,
        pool: &pool,
        place: &place,
        request: RequestBuffer::new(shared.negotiated.max_write),
        reply: ReplyBuffer::new(shared.negotiated.max_write),
    };
    let active = queue.run();
    pool.leave(&place, active);
}

struct Queue<'a, F> {
    shared: &'a Shared<F>,
    pool: &'a Arc<Pool>,
    place: &'a Arc<Place>,
    request: RequestBuffer,
    reply: ReplyBuffer,
}

impl<F: FileSystem> Queue<'_, F> {
    /// Serves requests; returns whether the thread still counts as active.
    fn run(&mut self) -> bool {
        while !self.pool.is_over() {
            match self.place.device.fetch(&mut self.request) {
                Fetch::Request(len) => {
                    self.pool.busy();
                    self.request(len);
                    if self.place.end() {
                        self.pool.came_back();
                    }
                    if !self.pool.stay() {
                        return false;
                    }
                }
                Fetch::Again => {}
                Fetch::Gone => self.pool.finish(),
                Fetch::Failed(error) => {
                    tracing::error!(%error, "cannot read from /dev/fuse");
                    self.pool.finish();
                }
            }
        }
        true
    }

    /// Serves the request in the first `len` bytes of the buffer.
    fn request(&mut self, len: usize) {
        let since = self.pool.now();
        let dialect = self.shared.negotiated.dialect();
        let message = self.request.message(len);
        let request = match Request::contiguous(message, dialect) {
            Ok(request) => request,
            Err(error) => {
                let errno = if matches!(error, DecodeError::UnknownOpcode { .. }) {
                    Errno::ENOSYS
                } else {
                    Errno::EIO
                };
                tracing::warn!(%error, "a request cannot be decoded");
                // Without a header there is nobody to answer.
                if let Ok(header) = peek_header(message) {
                    let _ = self.place.device.reply_error(header.unique, errno);
                }
                return;
            }
        };
        let unique = request.header.unique;
        let opcode = request.operation.opcode();
        self.place.begin(unique, since);
        if self.pool.take_early_interrupt(unique) {
            self.place.interrupt();
        }
        let fs = &*self.shared.fs;
        let (outcome, replies) = match &request.operation {
            Operation::Forget(arg) => {
                guarded(|| fs.forget(NodeId(request.header.nodeid), arg.nlookup));
                (None, false)
            }
            Operation::BatchForget(forgets) => {
                guarded(|| {
                    forgets
                        .clone()
                        .for_each(|one| fs.forget(NodeId(one.nodeid), one.nlookup))
                });
                (None, false)
            }
            Operation::Interrupt(arg) => {
                self.pool.interrupt(arg.unique);
                (None, false)
            }
            Operation::NotifyReply { .. } => (None, false),
            Operation::Destroy => (None, true),
            Operation::Init(_) | Operation::CuseInit(_) => (Some(Outcome::from(Errno::EIO)), true),
            _ => {
                let seat = PooledSeat {
                    place: self.place,
                    pool: self.pool,
                };
                let cx = Context {
                    unique,
                    uid: request.header.uid,
                    gid: request.header.gid,
                    pid: request.header.pid,
                    negotiated: &self.shared.negotiated,
                    notifier: &self.shared.notifier,
                    seat: &seat,
                };
                let payload = self.reply.payload();
                let outcome = guarded(|| dispatch(fs, &cx, &request, dialect, payload));
                (Some(outcome.unwrap_or_else(|| Errno::EIO.into())), true)
            }
        };
        let (error, bytes) = if replies {
            let outcome = outcome.unwrap_or(Outcome {
                answer: Ok(Answer::Payload(0)),
                grant: Grant::Nothing,
                written: 0,
            });
            self.answer(unique, outcome)
        } else {
            (None, 0)
        };
        self.record(opcode, self.pool.now().saturating_sub(since), error, bytes);
    }

    /// Answers `unique`, unless the monitor has; returns the error and the bytes of file data moved.
    fn answer(&mut self, unique: u64, outcome: Outcome) -> (Option<Errno>, u64) {
        let Outcome {
            answer,
            grant,
            written,
        } = outcome;
        let device = &self.place.device;
        let fs = &*self.shared.fs;
        match answer {
            Ok(Answer::Payload(len)) => {
                let taken = self.place.claim(unique)
                    && device.reply(unique, &mut self.reply, len) == Delivery::Taken;
                if !taken {
                    guarded(|| take_back(fs, grant, self.reply.payload()));
                }
                (None, written)
            }
            Ok(Answer::Data(data, size)) => {
                // The file is read before the request is claimed: reading may block and be given up.
                let place = self.place;
                match device
                    .reply_data(unique, &mut self.reply, &data, size, || place.claim(unique))
                {
                    Ok(len) => (None, len as u64),
                    Err(errno) => (Some(errno), 0),
                }
            }
            Err(errno) => {
                if self.place.claim(unique) {
                    let _ = device.reply_error(unique, errno);
                }
                (Some(errno), written)
            }
        }
    }

    fn record(&self, opcode: Opcode, nanoseconds: u64, error: Option<Errno>, bytes: u64) {
        self.place
            .recorder
            .lock()
            .record(opcode, nanoseconds, error, bytes);
    }
}

/// Runs a method of the file system; a panic in it is the end of the request, not of the queue.
fn guarded<R>(method: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(method)) {
        Ok(result) => Some(result),
        Err(_) => {
            tracing::error!("a method of the file system panicked");
            None
        }
    }
}
