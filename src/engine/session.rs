//! One mount being served: hand-shake, threads, end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuse_proto::flags::InitFlags;
use fuse_proto::{Dialect, Operation, ReplyWriter, Request};

use super::dev::{Delivery, Device, Fetch, ReplyBuffer, RequestBuffer};
use super::metrics::OperationStatistics;
use super::negotiate::{TooOld, Wishes};
use super::pool::Pool;
use super::queue::{Queues, Shared};
use super::{Errno, FileSystem, Negotiated, Notifier};

/// Threads a session may have in all; each blocked request holds one.
const THREAD_LIMIT: usize = 4096;

/// How long threads that are stuck in a system call are waited for once the mount is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads that fetch requests at a time; by default one per CPU this process may run on, at least two.
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
    /// Threads are stuck in the host's file system.
    #[error("{0} requests are still blocked in the host's file system")]
    Stuck(usize),
}

/// A running session.
pub struct Session {
    pool: Arc<Pool>,
    negotiated: Negotiated,
    finish: Box<dyn FnOnce() + Send>,
    helpers: Vec<JoinHandle<()>>,
}

/// Reads what a session measures, from any thread.
#[derive(Clone)]
pub struct Monitor(Arc<Pool>);

impl Monitor {
    /// Measurements per operation since the session started.
    #[must_use]
    pub fn operations(&self) -> Vec<OperationStatistics> {
        self.0.measurements().snapshot()
    }

    /// Threads that serve, wait to be needed or are blocked.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.threads()
    }

    /// Nanoseconds since the session started.
    #[must_use]
    pub fn uptime_ns(&self) -> u64 {
        self.0.now()
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
        };
        let negotiated = shake_hands(&device, &wishes, config.handshake)?;
        fs.init(&negotiated);
        let notices = device.try_clone().map_err(SessionError::Device)?;
        let notifier = Notifier::new(&negotiated, notices);
        let shared = Arc::new(Shared {
            fs,
            device,
            negotiated: negotiated.clone(),
            notifier,
        });
        let workers = config.workers.unwrap_or_else(default_workers).max(1);
        let queues = Queues {
            shared: Arc::clone(&shared),
            name: "cntr-fuse",
        };
        let pool = Pool::new(Box::new(queues), workers, THREAD_LIMIT.max(workers));
        let threads = |_| SessionError::Threads(workers);
        if !pool.fill() {
            pool.finish();
            return Err(SessionError::Threads(workers));
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
            shared.fs.destroy();
        });
        Ok(Session {
            pool,
            negotiated,
            finish,
            helpers: vec![monitor, notifier, tender],
        })
    }

    /// What was agreed with the kernel.
    #[must_use]
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// Something to end the session with.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.pool))
    }

    /// Something to read its measurements with.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor(Arc::clone(&self.pool))
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
    };
    shake_hands(&Device::new(device), &wishes, Config::default().handshake)
}

fn default_workers() -> usize {
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2)
}

fn helper(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(256 << 10)
        .spawn(move || {
            let _ = crate::sys::thread::accept_only_interrupt();
            body();
        })
}

/// Waits for INIT and answers it.
fn shake_hands(
    device: &Device,
    wishes: &Wishes,
    patience: Duration,
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
        let negotiated = match Negotiated::new(offer, wishes) {
            Ok(negotiated) => negotiated,
            Err(TooOld { major, minor }) => {
                let _ = device.reply_error(unique, Errno::new(libc::EPROTO));
                return Err(SessionError::TooOld { major, minor });
            }
        };
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
