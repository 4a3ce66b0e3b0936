//! FUSE over io_uring: the kernel has a queue of requests for each CPU, filled by the processes on that CPU, and a
//! thread on the same CPU serves them.
//!
//! A thread has a ring of its own with one entry: what it serves delays nothing but what it serves. Requests and
//! replies travel in the entry's memory; replying and waiting for the next request is one system call.
//!
//! * **Start**: one thread, the [lobby](Opening), makes an entry for the queue of every CPU this machine can ever have
//!   (the kernel wants them all) before INIT is answered. It serves nothing: the first request of a queue starts a
//!   thread on that CPU, which takes over the entry with the request in it.
//! * **Blocking**: when the threads of a queue are blocked, the pool starts one with a new entry. The kernel gives waiting
//!   requests to entries that are committed, not to new ones, so a new thread asks for a request of its own
//!   (`nudge`): once that is committed, the others follow.
//! * **Giving up**: an interrupted request whose thread is stuck in a system call is answered by a new thread, which takes
//!   over the entry with new memory. The stuck one ends when it comes back.
//! * **End**: a thread with an entry leaves only when the connection is over: the kernel cannot take an entry back, and
//!   one that is lost may hold a request.
//!
//! FORGET, INTERRUPT and what is sent before all queues are ready travel over `/dev/fuse`, to a thread of the
//! [classic transport](super::queue).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use fuse_proto::Request;
use nix::sched::CpuSet;
use parking_lot::Mutex;

use super::dev::Device;
use super::nudge::Nudge;
use super::pool::{LOBBY, Pool, team_of};
use super::seat::{Desk, Place};
use super::server::{Reply, Server, Shared, guarded, refusal};
use super::{Errno, FileSystem, Negotiated};
use crate::sys::uring::{Buffer, Completion, Exposed, Ring, allocate, with_ring};

/// The CPUs the kernel makes queues for.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// Least payload of an entry in bytes.
const LEAST_PAYLOAD: usize = 8192;

/// A request with up to this much payload is copied out of its entry, so that the reply can be written there. The
/// reply to a longer one is written elsewhere.
const SHORT: usize = 1024;

/// Longest reply to a request with a long payload, an ioctl, in bytes.
const SCRATCH: usize = 32 << 10;

/// How often in a row an entry may be refused.
const REFUSALS: u32 = 8;

/// Both halves of an entry.
type Entry = (Exposed, Buffer);

/// What all threads with a ring share.
pub(super) struct Rings {
    /// CPUs this process may run on.
    allowed: CpuSet,
    /// Bytes of payload of an entry.
    payload: usize,
    /// All entries are registered: requests travel through them, but for those that only tell something.
    open: AtomicBool,
    lobby: Lobby,
    pub(super) nudge: Nudge,
}

/// Where entries go whose thread could not be started.
#[derive(Default)]
struct Lobby {
    inbox: Mutex<Vec<Entry>>,
    place: OnceLock<Arc<Place>>,
}

impl Rings {
    /// Whether the other requests have left `/dev/fuse` to FORGET and INTERRUPT.
    pub(super) fn are_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Frees the calling thread of the CPU of the thread that started it.
    pub(super) fn run_anywhere(&self) {
        crate::sys::thread::stay_on(CpuSet::count(), &self.allowed);
    }

    /// Gives an entry with a request in it back to the lobby.
    fn put_back(&self, entry: Entry) {
        self.lobby.inbox.lock().push(entry);
        while !self.lobby.inbox.lock().is_empty() {
            // The signal is lost on a thread that is about to wait.
            if let Some(place) = self.lobby.place.get() {
                place.signal();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Payload that the kernel wants each entry to have.
fn payload_of(negotiated: &Negotiated) -> usize {
    let pages = usize::from(negotiated.max_pages) * 4096;
    pages.max(negotiated.max_write as usize).max(LEAST_PAYLOAD)
}

/// The lobby before INIT is answered: it has a ring and memory, and waits to register its entries.
pub(super) struct Opening<F> {
    queues: u16,
    go: SyncSender<(Arc<Shared<F>>, Arc<Pool>)>,
    opened: Receiver<io::Result<()>>,
}

impl<F: FileSystem> Opening<F> {
    /// Prepares FUSE over io_uring on `device`.
    ///
    /// # Errors
    /// `EPERM` where io_uring is disabled; other errors of io_uring_setup(2), `ENOMEM`.
    pub(super) fn prepare(
        device: &Device,
        negotiated: &Negotiated,
    ) -> io::Result<(Rings, Opening<F>)> {
        let possible = std::fs::read_to_string(POSSIBLE)?;
        let cpus = crate::sys::thread::parse_cpus(&possible)
            .ok_or_else(|| io::Error::other(format!("{POSSIBLE} says {}", possible.trim())))?;
        let queues = u16::try_from(cpus.len()).map_err(io::Error::other)?;
        let rings = Rings {
            allowed: crate::sys::thread::allowed_cpus()?,
            payload: payload_of(negotiated),
            open: AtomicBool::new(false),
            lobby: Lobby::default(),
            nudge: Nudge::new(device.duplicate()?),
        };
        let payload = rings.payload;
        let device = device.duplicate()?;
        let (go, going) = sync_channel(1);
        let (tell, opened) = sync_channel(1);
        super::thread::helper("cntr-lobby", move || {
            attend(&device, queues, payload, &going, &tell);
        })?;
        opened.recv().map_err(io::Error::other)??;
        let opening = Opening { queues, go, opened };
        Ok((rings, opening))
    }

    /// How many queues the kernel has.
    pub(super) fn queues(&self) -> u16 {
        self.queues
    }

    /// Registers the entries: INIT was answered.
    ///
    /// # Errors
    /// What the kernel refused. It uses `/dev/fuse` then.
    pub(super) fn open(self, shared: &Arc<Shared<F>>, pool: &Arc<Pool>) -> io::Result<()> {
        if !pool.enlist(LOBBY) {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        if let Err(error) = self.go.send((Arc::clone(shared), Arc::clone(pool))) {
            pool.resign(LOBBY, true);
            return Err(io::Error::other(error.to_string()));
        }
        self.opened.recv().map_err(io::Error::other)??;
        if let Some(rings) = &shared.rings {
            rings.open.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Body of the lobby's thread. Tells when it is prepared, and again when its entries are registered.
fn attend<F: FileSystem>(
    device: &Device,
    queues: u16,
    payload: usize,
    going: &Receiver<(Arc<Shared<F>>, Arc<Pool>)>,
    tell: &SyncSender<io::Result<()>>,
) {
    let entries: io::Result<Vec<Entry>> =
        (0..queues).map(|queue| allocate(queue, payload)).collect();
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => return drop(tell.send(Err(error))),
    };
    let run = with_ring(device.descriptor(), u32::from(queues), |ring| {
        let _ = tell.send(Ok(()));
        // Without an order INIT was not answered, or without io_uring.
        let Ok((shared, pool)) = going.recv() else {
            return;
        };
        let place = pool.enter(LOBBY, Desk::Ring(Mutex::new(None)));
        if let Some(rings) = &shared.rings {
            let _ = rings.lobby.place.set(Arc::clone(&place));
        }
        let attendant = Attendant {
            shared: &shared,
            pool: &pool,
            place: &place,
        };
        if let Err(error) = attendant.register(ring, entries) {
            let _ = tell.send(Err(error));
        } else {
            let _ = tell.send(Ok(()));
            attendant.run(ring);
        }
        pool.leave(&place, true);
    });
    if let Err(error) = run {
        let _ = tell.send(Err(error));
    }
}

/// The thread of the lobby.
struct Attendant<'a, F> {
    shared: &'a Arc<Shared<F>>,
    pool: &'a Arc<Pool>,
    place: &'a Arc<Place>,
}

impl<F: FileSystem> Attendant<'_, F> {
    /// Offers all entries to the kernel, which answers at once what it refuses.
    fn register(&self, ring: &mut Ring<'_>, entries: Vec<Entry>) -> io::Result<()> {
        for (exposed, buffer) in entries {
            ring.register(exposed, buffer);
        }
        ring.submit()?;
        while let Some(completion) = ring.completed() {
            match completion {
                Completion::Request(exposed, buffer) => self.pass_on(ring, (exposed, buffer)),
                Completion::Failed(_, _, error) => return Err(error),
            }
        }
        Ok(())
    }

    fn run(&self, ring: &mut Ring<'_>) {
        while !self.pool.is_over() {
            if let Err(error) = ring.wait() {
                tracing::error!(%error, "the ring of the lobby fails");
                self.pool.finish();
            }
            while let Some(completion) = ring.completed() {
                match completion {
                    Completion::Request(exposed, buffer) => self.pass_on(ring, (exposed, buffer)),
                    Completion::Failed(_, _, error) => {
                        if !is_end(&error) {
                            tracing::error!(%error, "the kernel drops an entry of the lobby");
                        }
                        self.pool.finish();
                    }
                }
            }
            let returned = match &self.shared.rings {
                Some(rings) => std::mem::take(&mut *rings.lobby.inbox.lock()),
                None => Vec::new(),
            };
            for entry in returned {
                self.serve(ring, entry);
            }
        }
    }

    /// Starts a thread for the queue of `entry`, which has a request.
    fn pass_on(&self, ring: &mut Ring<'_>, entry: Entry) {
        let queue = entry.0.queue();
        let team = team_of(queue);
        if !self.pool.enlist(team) {
            return self.serve(ring, entry);
        }
        let handover = Arc::new(Mutex::new(Some(entry)));
        let begin = Begin::Serve(Arc::clone(&handover));
        if start(self.shared, self.pool, queue, begin) {
            self.pool.fill(team);
            return;
        }
        self.pool.resign(team, true);
        if let Some(entry) = handover.lock().take() {
            self.serve(ring, entry);
        }
    }

    /// Serves a request itself, as no thread can be had for it. Others wait meanwhile.
    fn serve(&self, ring: &mut Ring<'_>, entry: Entry) {
        let mut worker = Worker::new(self.shared, self.pool, self.place);
        if let Some((exposed, buffer)) = worker.serve(entry) {
            ring.commit(exposed, buffer);
        }
    }
}

/// What a thread with a ring begins with.
pub(super) enum Begin {
    /// A new entry.
    Register,
    /// An entry with a request.
    Serve(Arc<Mutex<Option<Entry>>>),
    /// The entry of a thread that is stuck, with this request, unless it has come back.
    Relieve(Arc<Place>, u64),
}

/// Starts a thread for `queue`, which must be enlisted; false if it cannot be started.
pub(super) fn start<F: FileSystem>(
    shared: &Arc<Shared<F>>,
    pool: &Arc<Pool>,
    queue: u16,
    begin: Begin,
) -> bool {
    let shared = Arc::clone(shared);
    let pool = Arc::downgrade(pool);
    super::thread::spawn(&format!("cntr-fuse-{queue}"), move || {
        serve(&shared, &pool, queue, begin);
    })
}

/// Body of such a thread.
fn serve<F: FileSystem>(shared: &Arc<Shared<F>>, pool: &Weak<Pool>, queue: u16, begin: Begin) {
    let (Some(pool), Some(rings)) = (pool.upgrade(), &shared.rings) else {
        return;
    };
    let team = team_of(queue);
    let handover = match &begin {
        Begin::Serve(handover) => Some(Arc::clone(handover)),
        _ => None,
    };
    let pinned = crate::sys::thread::stay_on(usize::from(queue), &rings.allowed);
    let prepared = shared.fs.enter_thread();
    if let Err(errno) = &prepared {
        tracing::error!(%errno, "a serving thread cannot be prepared");
        pool.resign(team, true);
    } else {
        let place = pool.enter(team, Desk::Ring(Mutex::new(None)));
        let run = with_ring(shared.device.descriptor(), 1, |ring| {
            Worker::new(shared, &pool, &place).run(ring, rings, queue, begin, pinned);
        });
        if let Err(error) = run {
            tracing::warn!(%error, "no further ring can be had");
        }
        pool.leave(&place, true);
    }
    if let Some(entry) = handover.and_then(|handover| handover.lock().take()) {
        rings.put_back(entry);
    }
}

/// A thread with a ring.
struct Worker<'a, F> {
    server: Server<'a, F>,
    message: Vec<u8>,
    scratch: Vec<u8>,
}

impl<'a, F: FileSystem> Worker<'a, F> {
    fn new(shared: &'a Shared<F>, pool: &'a Arc<Pool>, place: &'a Arc<Place>) -> Worker<'a, F> {
        Worker {
            server: Server {
                shared,
                pool,
                place,
                splicer: None,
            },
            message: vec![0; SHORT],
            scratch: vec![0; SCRATCH],
        }
    }

    /// Serves until the connection is over, or somebody has taken the entry over.
    fn run(&mut self, ring: &mut Ring<'_>, rings: &Rings, queue: u16, begin: Begin, pinned: bool) {
        let begun = match begin {
            Begin::Register => self.register(ring, rings, queue, pinned),
            Begin::Serve(handover) => match handover.lock().take() {
                Some(entry) => self.serve_and_commit(ring, entry),
                None => false,
            },
            Begin::Relieve(place, unique) => self.relieve(ring, &place, unique),
        };
        if begun {
            self.go_on(ring);
        }
    }

    fn go_on(&mut self, ring: &mut Ring<'_>) {
        let pool = self.server.pool;
        let mut refused = 0;
        while !pool.is_over() {
            if let Err(error) = ring.wait() {
                tracing::error!(%error, "a ring fails");
                return pool.finish();
            }
            while let Some(completion) = ring.completed() {
                match completion {
                    Completion::Request(exposed, buffer) => {
                        refused = 0;
                        if !self.serve_and_commit(ring, (exposed, buffer)) {
                            return;
                        }
                    }
                    Completion::Failed(_, _, error) if is_end(&error) => return pool.finish(),
                    Completion::Failed(exposed, buffer, error) => {
                        refused += 1;
                        tracing::warn!(%error, refused, "the kernel refuses an entry");
                        if refused == REFUSALS {
                            return pool.finish();
                        }
                        ring.register(exposed, buffer);
                    }
                }
            }
        }
    }

    /// Offers a new entry of `queue`; false if there is no memory for it, or the kernel does not take it.
    fn register(&mut self, ring: &mut Ring<'_>, rings: &Rings, queue: u16, pinned: bool) -> bool {
        let registered = allocate(queue, rings.payload).and_then(|(exposed, buffer)| {
            ring.register(exposed, buffer);
            ring.submit()
        });
        if let Err(error) = registered {
            tracing::warn!(%error, "no further entry can be had");
            return false;
        }
        // From another CPU it would be a request of another queue.
        if pinned
            && self.server.pool.others_serve(self.server.place)
            && let Err(error) = rings.nudge.send()
        {
            tracing::debug!(%error, queue, "requests that wait have to wait for another one");
        }
        true
    }

    /// Answers `unique` on behalf of the thread at `place`, whose entry is ours from now on; false if it needs no help.
    fn relieve(&mut self, ring: &mut Ring<'_>, place: &Place, unique: u64) -> bool {
        let Desk::Ring(entry) = &place.desk else {
            return false;
        };
        if !place.claim(unique) {
            return false;
        }
        let Some(mut exposed) = entry.lock().take() else {
            return false;
        };
        match exposed.renew() {
            Ok(mut buffer) => {
                buffer.set_reply(unique, Err(Errno::EINTR.get()));
                ring.commit(exposed, buffer);
                true
            }
            Err(error) => {
                tracing::error!(%error, "no memory to go on with");
                self.server.pool.finish();
                false
            }
        }
    }

    /// Serves the request in `entry` and replies with the next wait; false if somebody has taken the entry over.
    fn serve_and_commit(&mut self, ring: &mut Ring<'_>, entry: Entry) -> bool {
        match self.serve(entry) {
            Some((exposed, buffer)) => {
                ring.commit(exposed, buffer);
                true
            }
            None => false,
        }
    }

    /// Serves the request in `entry` and writes the reply there; `None` if somebody has taken the entry over.
    fn serve(&mut self, (exposed, mut buffer): Entry) -> Option<Entry> {
        let Desk::Ring(desk) = &self.server.place.desk else {
            unreachable!("a thread with a ring has its entry at its place");
        };
        self.server.pool.busy();
        *desk.lock() = Some(exposed);
        let header = *buffer.header();
        let unique = header.request_header().unique;
        let payload = buffer.payload();
        let len = (header.ring_ent_in_out.payload_sz as usize).min(payload.len());
        let long = len > SHORT;
        let (message, reply) = if long {
            (&payload[..len], self.scratch.as_mut_slice())
        } else {
            self.message[..len].copy_from_slice(&payload[..len]);
            (&self.message[..len], payload)
        };
        let dialect = self.server.shared.negotiated.dialect();
        let decoded = Request::split(&header.in_out, &header.op_in, message, dialect);
        let server = &self.server;
        let answer = match decoded {
            Ok(request) => {
                let served = guarded(|| server.serve(&request, reply));
                server.end(served.as_ref());
                match served.map(|served| served.reply) {
                    Some(Reply::GivenUp) => return None,
                    Some(Reply::Payload(len)) => Ok(len),
                    Some(Reply::Unwanted) => Ok(0),
                    Some(Reply::Error(errno)) => Err(errno),
                    // Rings have no splicer.
                    Some(Reply::Spliced(_)) => Err(Errno::EIO),
                    None => Err(Errno::EIO),
                }
            }
            Err(error) => Err(refusal(&error)),
        };
        if let (true, Ok(len)) = (long, answer) {
            buffer.payload()[..len].copy_from_slice(&self.scratch[..len]);
        }
        buffer.set_reply(unique, answer.map_err(Errno::get));
        let exposed = desk.lock().take()?;
        Some((exposed, buffer))
    }
}

/// The connection is over.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOTCONN | libc::ECONNABORTED | libc::ENODEV)
    )
}
