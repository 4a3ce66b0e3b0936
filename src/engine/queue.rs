//! A thread of the classic transport: fetch a request from `/dev/fuse`, serve it, write the reply.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fuse_proto::{Operation, Request, peek_header};

use super::dev::{Delivery, Device, Fetch, ReplyBuffer, RequestBuffer};
use super::pool::{CLASSIC, Pool};
use super::seat::Desk;
use super::server::{Reply, Server, Shared, refusal};
use super::splice::Splicer;
use super::uring::Rings;
use super::{Errno, FileSystem, Splicing};

/// How long the kernel may gather inodes to forget, which it then tells at once, where nobody waits for this thread: being
/// woken for each costs more than forgetting it.
const FORGETTING: Duration = Duration::from_millis(2);

/// Starts a thread of the classic transport; false if it cannot be started.
pub(super) fn start<F: FileSystem>(shared: &Arc<Shared<F>>, pool: &Arc<Pool>) -> bool {
    let device = match shared.device.try_clone() {
        Ok(device) => Arc::new(device),
        Err(error) => {
            tracing::warn!(%error, "no further descriptor of /dev/fuse can be had");
            return false;
        }
    };
    let shared = Arc::clone(shared);
    let pool = Arc::downgrade(pool);
    super::thread::spawn("cntr-fuse", move || serve(&shared, device, &pool))
}

/// Body of the thread. Its ends are: the mount is gone, the pool does not need it, its device failed.
fn serve<F: FileSystem>(shared: &Shared<F>, device: Arc<Device>, pool: &Weak<Pool>) {
    let Some(pool) = pool.upgrade() else { return };
    if let Some(rings) = &shared.rings {
        rings.run_anywhere();
    }
    if let Err(errno) = shared.fs.enter_thread() {
        tracing::error!(%errno, "a serving thread cannot be prepared");
        pool.resign(CLASSIC, true);
        return;
    }
    let place = pool.enter(CLASSIC, Desk::Device(Arc::clone(&device)));
    let mut queue = Queue {
        server: Server {
            shared,
            pool: &pool,
            place: &place,
            splicer: (shared.splicing == Splicing::Large)
                .then(|| RefCell::new(Splicer::new(shared.negotiated.max_write))),
        },
        device: &device,
        request: RequestBuffer::new(shared.negotiated.max_write),
        reply: ReplyBuffer::new(shared.negotiated.max_write),
    };
    let active = queue.run();
    pool.leave(&place, active);
}

struct Queue<'a, F> {
    server: Server<'a, F>,
    device: &'a Device,
    request: RequestBuffer,
    reply: ReplyBuffer,
}

impl<F: FileSystem> Queue<'_, F> {
    /// Serves requests; returns whether the thread still counts as active.
    fn run(&mut self) -> bool {
        let pool = self.server.pool;
        while !pool.is_over() {
            match self.fetch() {
                Fetch::Request(len) => {
                    pool.busy();
                    let forgets = self.request(len);
                    if !pool.stay(CLASSIC) {
                        return false;
                    }
                    if forgets
                        && self
                            .server
                            .shared
                            .rings
                            .as_ref()
                            .is_some_and(Rings::are_open)
                    {
                        std::thread::sleep(FORGETTING);
                    }
                }
                Fetch::Again => {}
                Fetch::Gone => pool.finish(),
                Fetch::Failed(error) => {
                    tracing::error!(%error, "cannot read from /dev/fuse");
                    pool.finish();
                }
            }
        }
        true
    }

    /// Waits for a request. The data of a large WRITE may be in the pipe.
    fn fetch(&mut self) -> Fetch {
        match &self.server.splicer {
            Some(splicer) => splicer.borrow_mut().fetch(self.device, &mut self.request),
            None => self.device.fetch(&mut self.request),
        }
    }

    /// Serves the request in the first `len` bytes of the buffer; tells whether it was one to forget inodes.
    fn request(&mut self, len: usize) -> bool {
        let message = self.request.message(len);
        let dialect = self.server.shared.negotiated.dialect();
        let request = match Request::contiguous(message, dialect) {
            Ok(request) => request,
            Err(error) => {
                let errno = refusal(&error);
                // Without a header there is nobody to answer.
                if let Ok(header) = peek_header(message) {
                    let _ = self.device.reply_error(header.unique, errno);
                }
                return false;
            }
        };
        let forgets = matches!(
            request.operation,
            Operation::Forget(_) | Operation::BatchForget(_)
        );
        let served = self.server.serve(&request, self.reply.payload());
        let delivery = match served.reply {
            Reply::Payload(len) => self.device.reply(served.unique, &mut self.reply, len),
            Reply::Spliced(len) => self.splice(served.unique, len),
            Reply::Error(errno) => self.device.reply_error(served.unique, errno),
            Reply::Unwanted | Reply::GivenUp => Delivery::Taken,
        };
        if delivery == Delivery::Refused {
            self.server.take_back(&served, self.reply.payload());
        }
        self.server.end(Some(&served));
        forgets
    }

    /// Sends the reply that is in the pipe.
    fn splice(&self, unique: u64, len: usize) -> Delivery {
        let Some(splicer) = &self.server.splicer else {
            return self.device.reply_error(unique, Errno::EIO);
        };
        match splicer.borrow_mut().send(self.device.descriptor(), len) {
            Ok(()) => Delivery::Taken,
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV) => Delivery::Refused,
            Err(errno) => {
                tracing::error!(%errno, "the kernel rejects a spliced reply");
                // Nobody shall wait for it, if it is still waited for.
                self.device.reply_error(unique, Errno::EIO)
            }
        }
    }
}
