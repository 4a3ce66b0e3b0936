//! One mount being served: hand-shake, threads, end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuse_proto::flags::InitFlags;
use fuse_proto::{Dialect, Operation, ReplyWriter, Request};

use super::backing::Backings;
use super::base::Root;
use super::carrier::Carrier;
use super::crew::Hands;
use super::dev::{Delivery, Device, Fetch, ReplyBuffer, RequestBuffer};
use super::metrics::{Detail, Measurements, OperationStatistics};
use super::negotiate::{TooOld, Wishes};
use super::notify::{NotificationStatistics, Written};
use super::pool::{CLASSIC, LOBBY, Pool, team_of};
use super::server::Shared;
use super::thread::helper;
use super::uring::{Opening, Rings};
use super::{Errno, FileSystem, Landmark, Negotiated, Notifier};

/// Threads a session may have in all; each blocked request holds one.
const THREAD_LIMIT: usize = 4096;

/// Threads that can take a request of one CPU at a time, over io_uring.
const RING_WORKERS: usize = 1;

/// How long threads that are stuck in a system call are waited for once the mount is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// How requests travel between the kernel and the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Transport {
    /// FUSE over io_uring where the kernel offers it and io_uring can be used, else the classic transport.
    #[default]
    Auto,
    /// FUSE over io_uring, or no session.
    IoUring,
    /// Reads and writes of `/dev/fuse`.
    Classic,
}

impl Transport {
    /// Its name, as in mount options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Transport::Auto => "auto",
            Transport::IoUring => "uring",
            Transport::Classic => "classic",
        }
    }
}

/// Whether the data of files travels over the classic transport by reference to pages, or is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Splicing {
    /// Where there is so much of it that this is faster.
    #[default]
    Large,
    /// All data is copied.
    Never,
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the mount's root is, as [`DetachedMount`](super::mount::DetachedMount) says.
    pub root: Root,
    /// What the mount's landmark is called, as [`DetachedMount`](super::mount::DetachedMount) says.
    pub landmark: Landmark,
    /// How requests travel.
    pub transport: Transport,
    /// How data travels over the classic transport.
    pub splicing: Splicing,
    /// Threads that can take a request at a time. On the classic transport in all: by default one per CPU this process
    /// may run on, at least two. Over io_uring for each CPU: by default one.
    pub workers: Option<usize>,
    /// Largest WRITE and READ in bytes.
    pub max_write: u32,
    /// Background requests the kernel may have outstanding.
    pub max_background: u16,
    /// How long to wait for the kernel's INIT.
    pub handshake: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            root: Root::default(),
            landmark: Landmark::default(),
            transport: Transport::default(),
            splicing: Splicing::default(),
            workers: None,
            max_write: 1 << 20,
            max_background: 256,
            handshake: Duration::from_secs(5),
        }
    }
}

/// Why a session did not start or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The kernel did not send INIT in time.
    #[error("the kernel sent no INIT on /dev/fuse within {0:?}: is the file system mounted?")]
    NoInit(Duration),
    /// The first request is not INIT.
    #[error("the first request on /dev/fuse is not INIT but {0}")]
    NotInit(String),
    /// The kernel is too old.
    #[error("the kernel speaks FUSE {major}.{minor}; 7.31 (Linux 5.4) or newer is needed")]
    TooOld {
        /// Major protocol version.
        major: u32,
        /// Minor protocol version.
        minor: u32,
    },
    /// The device failed during the hand-shake.
    #[error("cannot talk to /dev/fuse")]
    Device(#[source] io::Error),
    /// No serving thread could be started.
    #[error("cannot start {0} serving threads")]
    Threads(usize),
    /// FUSE over io_uring was demanded, and cannot be had.
    #[error("FUSE over io_uring cannot be used: {0}")]
    NoUring(String),
    /// Threads are stuck in the host's file system.
    #[error("{0} requests are still blocked in the host's file system")]
    Stuck(usize),
}

/// A running session.
pub struct Session {
    pool: Arc<Pool>,
    negotiated: Negotiated,
    transport: Transport,
    finish: Box<dyn FnOnce() + Send>,
    helpers: Vec<JoinHandle<()>>,
    written: Arc<Written>,
}

/// Reads what a session measures, from any thread.
#[derive(Clone)]
pub struct Monitor {
    pool: Arc<Pool>,
    written: Arc<Written>,
}

impl Monitor {
    /// Measurements per operation since the session started.
    #[must_use]
    pub fn operations(&self) -> Vec<OperationStatistics> {
        self.measurements(Detail::Percentiles).operations
    }

    /// Everything that was measured since the session started, read at one moment.
    #[must_use]
    pub fn measurements(&self, detail: Detail) -> Measurements {
        self.pool.measurements(detail)
    }

    /// What the kernel was told since the session started.
    #[must_use]
    pub fn notifications(&self) -> NotificationStatistics {
        self.written.statistics()
    }

    /// Threads that serve, wait to be needed or are blocked.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Nanoseconds since the session started.
    #[must_use]
    pub fn uptime_ns(&self) -> u64 {
        self.pool.now()
    }
}

/// Ends a session from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<Pool>);

impl Stopper {
    /// Stops serving: requests that wait fail with ENOTCONN or ECONNABORTED once the session's descriptors are closed.
    pub fn stop(&self) {
        self.0.finish();
    }
}

impl Session {
    /// Answers the kernel's INIT on `device`, an open `/dev/fuse` that a file system was created with, and starts
    /// serving `fs` on it. Returns when the threads run. The process must not fork afterwards: a child would keep the
    /// connection alive when the server dies.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn start<F: FileSystem>(
        fs: Arc<F>,
        device: OwnedFd,
        config: &Config,
    ) -> Result<Session, SessionError> {
        crate::sys::thread::install_interrupt().map_err(SessionError::Device)?;
        let device = Device::new(device);
        let wishes = Wishes {
            flags: fs.capabilities(),
            max_write: config.max_write,
            max_background: config.max_background,
            io_uring: config.transport != Transport::Classic,
        };
        let mut prepared = None;
        let negotiated = shake_hands(&device, &wishes, config.handshake, |negotiated| {
            prepared = prepare(&device, negotiated, config.transport)?;
            Ok(())
        })?;
        let notices = device.try_clone().map_err(SessionError::Device)?;
        let notifier = Arc::new(Notifier::new(&negotiated, config.root, notices));
        fs.init(&negotiated, &notifier);
        let written = notifier.written();
        let backings = negotiated
            .flags
            .contains(InitFlags::PASSTHROUGH)
            .then(|| device.duplicate().map(Backings::new))
            .transpose()
            .map_err(SessionError::Device)?;
        let (rings, opening) = prepared.unzip();
        let largest = negotiated
            .max_write
            .max(u32::from(negotiated.max_pages) * 4096);
        let (carrier, carrying) =
            Carrier::start(largest as usize).map_err(|_| SessionError::Threads(1))?;
        let shared = Arc::new(Shared {
            fs,
            device,
            negotiated: negotiated.clone(),
            notifier,
            root: config.root,
            landmark: config.landmark.clone(),
            splicing: config.splicing,
            backings,
            rings,
            carrier,
        });
        let classic = config.workers.unwrap_or_else(default_workers).max(1);
        let mut targets = vec![if opening.is_some() { 1 } else { classic }, 0];
        debug_assert_eq!((CLASSIC, LOBBY), (0, 1));
        if let Some(opening) = &opening {
            let each = config.workers.unwrap_or(RING_WORKERS).max(1);
            targets.resize(team_of(opening.queues()), each);
        }
        let hands = Hands {
            shared: Arc::clone(&shared),
        };
        let pool = Pool::new(Box::new(hands), &targets, THREAD_LIMIT.max(classic));
        let threads = |_| SessionError::Threads(classic);
        let failed = |error| {
            pool.finish();
            error
        };
        if !pool.fill(CLASSIC) {
            return Err(failed(SessionError::Threads(classic)));
        }
        let mut ringing = false;
        if let Some(opening) = opening {
            match opening.open(&shared, &pool) {
                Ok(()) => ringing = true,
                Err(error) if config.transport == Transport::IoUring => {
                    return Err(failed(SessionError::NoUring(error.to_string())));
                }
                Err(error) => {
                    tracing::warn!(%error, "the kernel refuses FUSE over io_uring: going on with /dev/fuse");
                    pool.set_target(CLASSIC, classic);
                    pool.fill(CLASSIC);
                }
            }
        }
        let monitor = {
            let pool = Arc::clone(&pool);
            helper("cntr-monitor", move || pool.monitor()).map_err(threads)?
        };
        let notifier = {
            let shared = Arc::clone(&shared);
            helper("cntr-notify", move || shared.notifier.run()).map_err(threads)?
        };
        let tender = {
            let (shared, pool) = (Arc::clone(&shared), Arc::clone(&pool));
            let tend = move || pool.tend(|| shared.fs.tend(&shared.notifier));
            helper("cntr-tend", tend).map_err(threads)?
        };
        let finish = Box::new(move || {
            shared.notifier.close();
            shared.carrier.close();
            shared.fs.destroy();
        });
        Ok(Session {
            pool,
            negotiated,
            transport: if ringing {
                Transport::IoUring
            } else {
                Transport::Classic
            },
            finish,
            helpers: vec![monitor, notifier, tender, carrying],
            written,
        })
    }

    /// What was agreed with the kernel.
    #[must_use]
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// How requests travel: [`Transport::IoUring`] or [`Transport::Classic`].
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Something to end the session with.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.pool))
    }

    /// Something to read its measurements with.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor {
            pool: Arc::clone(&self.pool),
            written: Arc::clone(&self.written),
        }
    }

    /// Waits until the mount is gone and all requests are answered, for a process that ends then: that ends the threads
    /// sooner than they would one by one.
    pub fn wait(self) {
        self.pool.wait_for_rest(PATIENCE);
    }

    /// Waits until the mount is gone, all requests are answered and all threads have ended.
    ///
    /// # Errors
    /// [`SessionError::Stuck`] if threads are blocked in system calls that a signal does not end.
    pub fn join(self) -> Result<(), SessionError> {
        let stuck = self.pool.wait(PATIENCE);
        (self.finish)();
        if stuck > 0 {
            return Err(SessionError::Stuck(stuck));
        }
        for helper in self.helpers {
            let _ = helper.join();
        }
        Ok(())
    }
}

/// Learns what the kernel offers on `device`, and ends the connection: nothing is served.
///
/// # Errors
/// See [`SessionError`].
pub fn probe(device: OwnedFd) -> Result<Negotiated, SessionError> {
    let wishes = Wishes {
        flags: InitFlags::empty(),
        max_write: 4096,
        max_background: 1,
        io_uring: false,
    };
    let patience = Config::default().handshake;
    shake_hands(&Device::new(device), &wishes, patience, |_| Ok(()))
}

fn default_workers() -> usize {
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2)
}

/// Prepares FUSE over io_uring if `negotiated` has it; takes it out of there if it cannot be had.
fn prepare<F: FileSystem>(
    device: &Device,
    negotiated: &mut Negotiated,
    transport: Transport,
) -> Result<Option<(Rings, Opening<F>)>, SessionError> {
    if !negotiated.has_io_uring() {
        if transport == Transport::IoUring {
            let remedy = "the kernel does not offer it: echo Y > /sys/module/fuse/parameters/enable_uring (Linux 6.14 and later)";
            return Err(SessionError::NoUring(remedy.to_owned()));
        }
        return Ok(None);
    }
    match Opening::prepare(device, negotiated) {
        Ok(prepared) => Ok(Some(prepared)),
        Err(error) if transport == Transport::IoUring => Err(SessionError::NoUring(reason(&error))),
        Err(error) => {
            let error = reason(&error);
            tracing::info!(%error, "FUSE over io_uring cannot be used: going on with /dev/fuse");
            negotiated.flags.remove(InitFlags::OVER_IO_URING);
            Ok(None)
        }
    }
}

/// Why a ring could not be prepared.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            format!("{error}: kernel.io_uring_disabled is set, or a seccomp profile forbids it")
        }
        _ => error.to_string(),
    }
}

/// Waits for INIT and answers it, once `prepare` has seen to what the answer promises.
fn shake_hands(
    device: &Device,
    wishes: &Wishes,
    patience: Duration,
    mut prepare: impl FnMut(&mut Negotiated) -> Result<(), SessionError>,
) -> Result<Negotiated, SessionError> {
    let deadline = Instant::now() + patience;
    let mut buffer = RequestBuffer::new(wishes.max_write);
    let mut reply = ReplyBuffer::new(4096);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let milliseconds = u16::try_from(left.as_millis()).unwrap_or(u16::MAX);
        if left.is_zero() || !device.poll(milliseconds).map_err(SessionError::Device)? {
            return Err(SessionError::NoInit(patience));
        }
        let len = match device.fetch(&mut buffer) {
            Fetch::Request(len) => len,
            Fetch::Again => continue,
            Fetch::Gone => {
                return Err(SessionError::Device(io::Error::from_raw_os_error(
                    libc::ENODEV,
                )));
            }
            Fetch::Failed(error) => return Err(SessionError::Device(error)),
        };
        let request = Request::contiguous(buffer.message(len), Dialect::default())
            .map_err(|error| SessionError::NotInit(error.to_string()))?;
        let unique = request.header.unique;
        let Operation::Init(offer) = &request.operation else {
            let _ = device.reply_error(unique, Errno::EIO);
            return Err(SessionError::NotInit(
                request.operation.opcode().name().to_owned(),
            ));
        };
        let mut negotiated = match Negotiated::new(offer, wishes) {
            Ok(negotiated) => negotiated,
            Err(TooOld { major, minor }) => {
                let _ = device.reply_error(unique, Errno::new(libc::EPROTO));
                return Err(SessionError::TooOld { major, minor });
            }
        };
        if let Err(error) = prepare(&mut negotiated) {
            let _ = device.reply_error(unique, Errno::EIO);
            return Err(error);
        }
        let out = negotiated.reply();
        let len = ReplyWriter::new(reply.payload(), negotiated.dialect())
            .init(&out)
            .map_err(|error| SessionError::Device(io::Error::other(error.to_string())))?;
        if device.reply(unique, &mut reply, len) == Delivery::Refused {
            return Err(SessionError::Device(io::Error::from_raw_os_error(
                libc::ENODEV,
            )));
        }
        // A kernel of a later major version sends INIT again after it has seen ours.
        if offer.major == fuse_proto::FUSE_KERNEL_VERSION {
            return Ok(negotiated);
        }
    }
}
