//! Data operations: each client reads or writes a file of its own, with several operations in flight.
//!
//! How they are given to the kernel is behind a seam: an engine has a `lane`, which works on a [`Job`] until it is done.
//! A client has one lane of `uring`, or `depth` lanes of `threads`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;
use rustix::fs::OFlags;

use super::arguments::{EngineChoice, LoadArgs};
use super::gate::Gate;
use super::metadata::join;
use super::operation::Operation;
use super::outcome::{Engine, Outcome};
use super::pace::{Monotonic, Tally};
use super::tree::client_dir;
use super::{LoadError, seconds, share, threads, uring};
use crate::result::{Latency, Usage};

/// Alignment of buffers: enough for O_DIRECT on every file system.
const ALIGNMENT: usize = 4096;

/// Block size of O_DIRECT that no device goes below.
const SECTOR: u64 = 512;

/// Bytes written at a time to make a file.
const CHUNK: usize = 1 << 20;

/// What one client does. Its lanes share it.
pub(super) struct Job {
    operation: Operation,
    path: PathBuf,
    direct: bool,
    seed: u64,
    blocks: u64,
    fsync: Option<u64>,
    calls: u64,
    next: AtomicU64,
    stop: AtomicBool,
    /// Time to work, in nanoseconds.
    time: u64,
    /// Bytes of an operation.
    pub(super) block: usize,
    /// Operations in flight.
    pub(super) depth: u32,
}

impl Job {
    /// Opens the file.
    pub(super) fn open(&self) -> Result<File, LoadError> {
        let direct = if self.direct {
            OFlags::DIRECT
        } else {
            OFlags::empty()
        };
        File::options()
            .read(true)
            .write(self.writes())
            .custom_flags(direct.bits() as i32)
            .open(&self.path)
            .map_err(|source| LoadError::Prepare {
                path: self.path.clone(),
                source,
            })
    }

    /// Whether it writes.
    pub(super) fn writes(&self) -> bool {
        self.operation.writes()
    }

    /// When it is over, if it begins now.
    pub(super) fn until(&self, begun: u64) -> u64 {
        begun.saturating_add(self.time)
    }

    /// The number of the next operation, if there is one.
    pub(super) fn take(&self) -> Option<u64> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < self.calls)
    }

    /// Where an operation is.
    pub(super) fn offset(&self, number: u64, random: &mut fastrand::Rng) -> u64 {
        let block = match self.operation {
            Operation::ReadRandom | Operation::WriteRandom => random.u64(0..self.blocks),
            _ => number % self.blocks,
        };
        block * self.block as u64
    }

    /// Whether an operation is to be made durable.
    pub(super) fn syncs(&self, number: u64) -> bool {
        self.fsync
            .is_some_and(|every| (number + 1).is_multiple_of(every))
    }

    /// The random numbers of a lane or a task of it.
    pub(super) fn random(&self, lane: u32) -> fastrand::Rng {
        fastrand::Rng::with_seed(
            self.seed
                .wrapping_mul(0x9E37_79B9)
                .wrapping_add(u64::from(lane)),
        )
    }

    /// A buffer, and where in it a block begins that O_DIRECT accepts.
    pub(super) fn buffer(&self, random: &mut fastrand::Rng) -> (Vec<u8>, usize) {
        let mut buffer = vec![0; self.block + ALIGNMENT];
        random.fill(&mut buffer);
        let begin =
            (buffer.as_ptr() as usize).next_multiple_of(ALIGNMENT) - buffer.as_ptr() as usize;
        assert_eq!((buffer[begin..].as_ptr() as usize) % ALIGNMENT, 0);
        (buffer, begin)
    }

    /// The number of bytes that an operation moved, which is not to be 0.
    pub(super) fn moved(&self, result: io::Result<usize>) -> Result<u64, LoadError> {
        match result {
            Ok(0) => Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => Ok(bytes as u64),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Ends the other lanes, too.
    pub(super) fn failed(&self, source: io::Error) -> LoadError {
        self.stop.store(true, Ordering::Relaxed);
        LoadError::Operation {
            operation: self.operation,
            path: self.path.clone(),
            source,
        }
    }
}

pub(super) fn measure(args: &LoadArgs) -> Result<Outcome, LoadError> {
    if args.size < args.block {
        return Err(LoadError::Arguments("--size must not be less than --block"));
    }
    if args.direct && !args.block.is_multiple_of(SECTOR) {
        return Err(LoadError::Arguments(
            "--direct needs a --block that is a multiple of 512",
        ));
    }
    let (engine, engine_reason) = choose(args.engine, uring::available())?;
    prepare(args).and_then(|()| work(args, engine, engine_reason))
}

fn choose(
    choice: EngineChoice,
    available: io::Result<()>,
) -> Result<(Engine, Option<String>), LoadError> {
    match (choice, available) {
        (EngineChoice::Threads, _) => Ok((Engine::Threads, None)),
        (_, Ok(())) => Ok((Engine::IoUring, None)),
        (EngineChoice::IoUring, Err(error)) => Err(LoadError::Ring(error)),
        (EngineChoice::Auto, Err(error)) => Ok((
            Engine::Threads,
            Some(format!("io_uring cannot be used: {error}")),
        )),
    }
}

fn prepare(args: &LoadArgs) -> Result<(), LoadError> {
    if !args.existing {
        return make_files(&args.dir, args.clients, args.size);
    }
    for client in 0..args.clients {
        let path = data_file(&args.dir, client);
        let found = fs::metadata(&path);
        let source = match found {
            Ok(found) if found.len() >= args.size => continue,
            Ok(_) => io::Error::other("it is smaller than --size"),
            Err(error) => error,
        };
        return Err(LoadError::Prepare { path, source });
    }
    Ok(())
}

/// The file of a client.
fn data_file(dir: &Path, client: u32) -> PathBuf {
    client_dir(dir, client).join("data")
}

/// Makes the files of `clients` in `dir`, written back, for `--existing`. Those that are there with this size stay.
///
/// # Errors
/// Those of the file system.
pub fn make_files(dir: &Path, clients: u32, size: u64) -> Result<(), LoadError> {
    for client in 0..clients {
        let path = data_file(dir, client);
        if fs::metadata(&path).is_ok_and(|found| found.len() == size) {
            continue;
        }
        make_file(&path, size).map_err(|source| LoadError::Prepare { path, source })?;
    }
    Ok(())
}

fn make_file(path: &Path, size: u64) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::create(path)?;
    let mut chunk = vec![0; CHUNK];
    fastrand::Rng::with_seed(size).fill(&mut chunk);
    let mut left = size;
    while left > 0 {
        let part = left.min(CHUNK as u64);
        file.write_all(&chunk[..part as usize])?;
        left -= part;
    }
    file.sync_all()
}

fn work(
    args: &LoadArgs,
    engine: Engine,
    engine_reason: Option<String>,
) -> Result<Outcome, LoadError> {
    let time = |seconds: f64| (seconds * 1e9) as u64;
    if args.warm_up > 0.0 {
        stretch(args, engine, time(args.warm_up), u64::MAX)?;
    }
    let (tally, taken, usage) = stretch(
        args,
        engine,
        seconds(args).map_or(u64::MAX, time),
        args.operations.unwrap_or(u64::MAX),
    )?;
    let seconds = taken as f64 / 1e9;
    Ok(Outcome {
        operation: args.operation,
        clients: args.clients,
        engine,
        engine_reason,
        operations: tally.calls,
        unit: args.operation.unit().to_owned(),
        seconds,
        errors: 0,
        rate: tally.calls as f64 / seconds,
        bytes: tally.units,
        latency: Latency::of(&tally.histogram),
        usage,
        schedule: None,
    })
}

/// Works for `time` nanoseconds or until all clients together have done `calls`.
fn stretch(
    args: &LoadArgs,
    engine: Engine,
    time: u64,
    calls: u64,
) -> Result<(Tally, u64, Usage), LoadError> {
    let clock = Monotonic::new(Duration::ZERO);
    let jobs: Vec<Arc<Job>> = (0..args.clients)
        .map(|client| {
            Arc::new(Job {
                operation: args.operation,
                path: data_file(&args.dir, client),
                direct: args.direct,
                seed: args.seed.wrapping_add(u64::from(client)),
                blocks: args.size / args.block,
                fsync: args.fsync,
                calls: match calls {
                    u64::MAX => u64::MAX,
                    total => share(total, args.clients, client),
                },
                next: AtomicU64::new(0),
                stop: AtomicBool::new(false),
                time,
                block: args.block as usize,
                depth: args.depth,
            })
        })
        .collect();
    let lanes: Vec<(Arc<Job>, u32)> = match engine {
        Engine::IoUring => jobs.into_iter().map(|job| (job, 0)).collect(),
        Engine::Threads => jobs
            .into_iter()
            .flat_map(|job| (0..args.depth).map(move |lane| (Arc::clone(&job), lane)))
            .collect(),
    };
    let servers: Vec<Pid> = args.meter_pid.iter().copied().map(Pid::from_raw).collect();
    let gate = Gate::new(clock, lanes.len());
    let (results, window, begun) = thread::scope(|scope| {
        let gate = &gate;
        let running: Vec<_> = lanes
            .iter()
            .map(|(job, lane)| {
                scope.spawn(move || match engine {
                    Engine::IoUring => uring::lane(job, clock, gate),
                    Engine::Threads => threads::lane(job, *lane, clock, gate),
                })
            })
            .collect();
        let (window, begun) = gate.open(&servers);
        let results: Vec<Result<Tally, LoadError>> = running.into_iter().map(join).collect();
        (results, window, begun)
    });
    let usage = window.end();
    let mut sum = Tally::new();
    for result in results {
        sum.add(&result?);
    }
    let taken = sum.ended.saturating_sub(begun).max(1);
    Ok((sum, taken, usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden() -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn without_a_ring_there_are_threads_and_a_reason() {
        let (engine, reason) = choose(EngineChoice::Auto, forbidden()).unwrap();
        assert_eq!(engine, Engine::Threads);
        assert!(reason.unwrap().contains("permission denied"));
        let error = choose(EngineChoice::IoUring, forbidden()).unwrap_err();
        assert!(matches!(error, LoadError::Ring(_)));
        let chosen = choose(EngineChoice::Threads, forbidden()).unwrap();
        assert_eq!(chosen, (Engine::Threads, None));
        let chosen = choose(EngineChoice::Auto, Ok(())).unwrap();
        assert_eq!(chosen, (Engine::IoUring, None));
    }
}
