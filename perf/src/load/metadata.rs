//! Metadata operations, each client a thread.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;

use super::arguments::{Arrivals, LoadArgs};
use super::client::Client;
use super::gate::Gate;
use super::operation::{Effect, Item, Operation};
use super::outcome::{Engine, Kept, Outcome};
use super::pace::{Limits, Monotonic, Pace, Schedule, Tally, drive};
use super::tree::{Tree, client_dir};
use super::{LoadError, add_usage, caches, seconds, share};
use crate::result::{Latency, Usage};

/// Names that are made before it is known how fast they are used up.
const FIRST_BATCH: u64 = 1000;

/// Names that a batch of all clients has at most: servers that hold a descriptor for each stay below the usual limits.
const MOST: u64 = 16_000;

/// How many more names are made than seem to be needed.
const RESERVE: f64 = 1.2;

/// Rest of the schedule up to which an open loop has kept it, as a part of the measured time.
const TOLERANCE: f64 = 0.01;

struct Worker {
    client: Client,
    pace: Pace,
    tally: Tally,
    /// Calls that are left.
    left: u64,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Goal {
    /// In nanoseconds.
    time: u64,
    operations: u64,
}

/// What a stretch of work took.
#[derive(Default)]
struct Stretch {
    /// In nanoseconds.
    time: u64,
    usage: Usage,
}

pub(super) fn measure(args: &LoadArgs) -> Result<Outcome, LoadError> {
    prepare(args).and_then(|mut workers| work(args, &mut workers))
}

fn prepare(args: &LoadArgs) -> Result<Vec<Worker>, LoadError> {
    let operation = args.operation;
    let block = args.block as usize;
    let tree = Tree {
        files: args.files.unwrap_or(operation.default_files()),
        per_directory: args.per_directory,
        item: operation.item(block),
    };
    let interval = args.rate.map(|rate| 1e9 * f64::from(args.clients) / rate);
    each((0..args.clients).collect(), |client| {
        Ok(Worker {
            client: Client::new(
                operation,
                client_dir(&args.dir, client),
                tree,
                block,
                args.existing,
            )?,
            pace: match (interval, args.arrivals) {
                (None, _) => Pace::Closed,
                (Some(interval), Arrivals::Even) => {
                    let first = interval * f64::from(client) / f64::from(args.clients);
                    Pace::Open(Schedule::even(interval, first))
                }
                (Some(interval), Arrivals::Poisson) => {
                    let seed = args.seed.wrapping_add(u64::from(client));
                    Pace::Open(Schedule::poisson(interval, seed))
                }
            },
            tally: Tally::new(),
            left: 0,
        })
    })
}

fn work(args: &LoadArgs, workers: &mut [Worker]) -> Result<Outcome, LoadError> {
    let clock = Monotonic::new(Duration::from_micros(args.spin));
    let time = |seconds: f64| (seconds * 1e9) as u64;
    if args.warm_up > 0.0 {
        let goal = Goal {
            time: time(args.warm_up),
            operations: u64::MAX,
        };
        let paces: Vec<Pace> = workers.iter().map(|worker| worker.pace.clone()).collect();
        stretch(args, workers, &goal, clock)?;
        for (worker, pace) in workers.iter_mut().zip(paces) {
            worker.pace = pace;
            worker.tally = Tally::new();
        }
    }
    let goal = Goal {
        time: seconds(args).map_or(u64::MAX, time),
        operations: args.operations.unwrap_or(u64::MAX),
    };
    let stretch = stretch(args, workers, &goal, clock)?;
    if args.existing || args.keep {
        for worker in workers.iter_mut() {
            worker.client.restore()?;
        }
    }
    let mut tally = Tally::new();
    for worker in workers.iter() {
        tally.add(&worker.tally);
    }
    let seconds = stretch.time as f64 / 1e9;
    let rate = tally.units as f64 / seconds;
    let bytes = match args.operation.item(args.block as usize) {
        Item::File(bytes) => tally.units * bytes as u64,
        Item::Directory | Item::Link => 0,
    };
    Ok(Outcome {
        operation: args.operation,
        clients: args.clients,
        engine: Engine::Threads,
        engine_reason: None,
        operations: tally.units,
        unit: args.operation.unit().to_owned(),
        seconds,
        errors: 0,
        rate,
        bytes,
        latency: Latency::of(&tally.histogram),
        usage: stretch.usage,
        schedule: args
            .rate
            .map(|wanted| kept(wanted, &tally, workers, goal.time, seconds)),
    })
}

/// How the schedule was kept; what was due within `time` and not started is given up.
fn kept(wanted: f64, tally: &Tally, workers: &mut [Worker], time: u64, seconds: f64) -> Kept {
    let mut unstarted = 0;
    let mut lag = tally.lag;
    if time < u64::MAX {
        for worker in workers {
            if let Pace::Open(schedule) = &mut worker.pace
                && worker.left > 0
            {
                lag = lag.max(time.saturating_sub(schedule.due()));
                unstarted += schedule.give_up(time);
            }
        }
    }
    let lag_seconds = lag as f64 / 1e9;
    Kept {
        wanted_rate: wanted,
        achieved_rate: tally.calls as f64 / seconds,
        late: tally.late,
        unstarted,
        lag_seconds,
        fell_behind: lag_seconds > TOLERANCE * seconds,
    }
}

/// Works until the goal is reached, in batches if the operation uses up what it works on.
fn stretch(
    args: &LoadArgs,
    workers: &mut [Worker],
    goal: &Goal,
    clock: Monotonic,
) -> Result<Stretch, LoadError> {
    let servers: Vec<Pid> = args.meter_pid.iter().copied().map(Pid::from_raw).collect();
    let effect = args.operation.effect();
    for (client, worker) in workers.iter_mut().enumerate() {
        worker.left = match goal.operations {
            u64::MAX => u64::MAX,
            total => share(total, args.clients, client as u32),
        };
    }
    let mut sum = Stretch::default();
    loop {
        let wanted = wanted(workers, &sum, goal);
        let batches = each(workers.iter_mut().collect(), |worker| {
            worker.client.ready(wanted.min(worker.left))
        })?;
        if effect == Effect::Learns && !args.no_drop {
            caches::drop_names(&args.dir)?;
        }
        batch(workers, &batches, goal, clock, &servers, &mut sum)?;
        let done = workers.iter().all(|worker| worker.left == 0);
        if done || sum.time >= goal.time || effect == Effect::Keeps || args.no_drop {
            return Ok(sum);
        }
    }
}

/// Operations that each client will probably do in the time that is left, but no more than [`MOST`] in all.
fn wanted(workers: &[Worker], sum: &Stretch, goal: &Goal) -> u64 {
    let calls = workers.iter().map(|worker| worker.tally.calls).max();
    match (goal.time, sum.time, calls) {
        (u64::MAX, ..) => u64::MAX,
        (_, 0, _) | (_, _, None | Some(0)) => FIRST_BATCH,
        (time, taken, Some(calls)) => {
            let rate = calls as f64 / taken as f64;
            let left = time.saturating_sub(taken) as f64;
            ((rate * left * RESERVE) as u64)
                .min(MOST / workers.len() as u64)
                .max(FIRST_BATCH / 10)
        }
    }
}

/// One batch; each client stops at its size, at its share of the goal or when the time is over.
fn batch(
    workers: &mut [Worker],
    sizes: &[u64],
    goal: &Goal,
    clock: Monotonic,
    servers: &[Pid],
    sum: &mut Stretch,
) -> Result<(), LoadError> {
    let gate = Gate::new(clock, workers.len());
    let stop = AtomicBool::new(false);
    let before = sum.time;
    let by_time = goal.operations == u64::MAX;
    let (results, window, begun) = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .zip(sizes)
            .map(|(worker, size)| {
                let (gate, stop) = (&gate, &stop);
                scope.spawn(move || {
                    if matches!(worker.pace, Pace::Open(_)) {
                        // The default, 50 us, would be part of each latency.
                        let _ = nix::sys::prctl::set_timerslack(1);
                    }
                    let begun = gate.pass();
                    let limits = Limits {
                        calls: worker.left.min(*size),
                        until: begun.saturating_add(goal.time.saturating_sub(before)),
                        for_all: by_time,
                    };
                    let calls = worker.tally.calls;
                    let result = drive(
                        &clock,
                        &mut worker.pace,
                        begun.saturating_sub(before),
                        &limits,
                        stop,
                        &mut worker.tally,
                        || worker.client.perform(),
                    );
                    if worker.left < u64::MAX {
                        worker.left -= worker.tally.calls - calls;
                    }
                    result
                })
            })
            .collect();
        let (window, begun) = gate.open(servers);
        let results: Vec<Result<(), LoadError>> = threads.into_iter().map(join).collect();
        (results, window, begun)
    });
    let usage = window.end();
    results.into_iter().collect::<Result<(), LoadError>>()?;
    let ended = workers.iter().map(|worker| worker.tally.ended).max();
    sum.time += ended.unwrap_or(begun).saturating_sub(begun).max(1);
    add_usage(&mut sum.usage, &usage);
    Ok(())
}

/// Does something for each, all at once.
fn each<T: Send, R: Send>(
    items: Vec<T>,
    act: impl Fn(T) -> Result<R, LoadError> + Sync,
) -> Result<Vec<R>, LoadError> {
    if let [_] = items.as_slice() {
        return items.into_iter().map(act).collect();
    }
    thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = items
            .into_iter()
            .map(|item| scope.spawn(move || act(item)))
            .collect();
        threads.into_iter().map(join).collect()
    })
}

pub(super) fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes what `operation` works on in `dir`, for `--existing`.
///
/// # Errors
/// Those of the file system.
pub fn make_trees(
    operation: Operation,
    dir: &std::path::Path,
    clients: u32,
    files: u64,
    per_directory: u64,
    block: usize,
) -> Result<(), LoadError> {
    let tree = Tree {
        files,
        per_directory,
        item: operation.item(block),
    };
    for client in 0..clients {
        let path = client_dir(dir, client);
        tree.make(&path)
            .map_err(|source| LoadError::Prepare { path, source })?;
    }
    Ok(())
}
