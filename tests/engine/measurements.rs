//! What the engine measures.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cntr::engine::Transport;
use cntr::engine::metrics::{Detail, Measured, Measurements, OperationStatistics, QueueStatistics};
use libtest_mimic::Failed;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::{Mounted, cat, wait_for_end, wait_until};

fn of(name: &str, operations: &[OperationStatistics]) -> Measured {
    let mut operations = operations.iter();
    let found = operations.find(|one| one.operation == name);
    found.map_or_else(Measured::default, |one| one.measured.clone())
}

fn queue<'a>(name: &str, measurements: &'a Measurements) -> Option<&'a QueueStatistics> {
    measurements.queues.iter().find(|queue| queue.name == name)
}

pub fn count_requests(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["a"]);
    let data = vec![1; 100_000];
    fs::write(mounted.path("a"), &data)?;
    assert_eq!(fs::read(mounted.path("a"))?.len(), data.len());
    let _ = fs::metadata(mounted.path("missing"));
    // A request is recorded after it was answered.
    let of = |name: &str| of(name, &mounted.monitor().operations());
    wait_until("bytes are counted", || {
        let len = data.len() as u64;
        of("WRITE").bytes == len && of("READ").bytes == len
    });
    wait_until("errors are counted", || of("LOOKUP").errors >= 1);
    let lookup = of("LOOKUP");
    assert!(lookup.p50_ns > 0 && lookup.max_ns >= lookup.p50_ns);
    let cache = mounted.monitor().measurements(Detail::Percentiles).cache;
    assert!(
        cache.no_such_names >= 1 && cache.direct_opens >= 2,
        "{cache:?}"
    );
    Ok(())
}

/// Runs `job` on a CPU of which it gets the number.
fn on_one_cpu<R>(job: impl FnOnce(usize) -> R) -> Result<R, Failed> {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this)?;
    // The last one, since the first one is what everything else prefers.
    let cpu = (0..CpuSet::count()).rfind(|cpu| before.is_set(*cpu) == Ok(true));
    let cpu = cpu.ok_or("no CPU")?;
    let mut one = CpuSet::new();
    one.set(cpu)?;
    sched_setaffinity(this, &one)?;
    let result = job(cpu);
    sched_setaffinity(this, &before)?;
    Ok(result)
}

/// The queue for requests made on `cpu`.
fn queue_of(transport: Transport, cpu: usize) -> String {
    match transport {
        Transport::IoUring => format!("cpu {cpu}"),
        _ => "classic".to_owned(),
    }
}

pub fn requests_of_a_cpu(transport: Transport) -> Result<(), Failed> {
    const COUNT: u64 = 100;
    let mounted = Mounted::new(transport, &["a"]);
    let measurements = || mounted.monitor().measurements(Detail::Histograms);
    on_one_cpu(|cpu| {
        let name = queue_of(transport, cpu);
        let lookups = |measurements: &Measurements| {
            let operations = queue(&name, measurements).map(|queue| &queue.operations);
            operations.map_or(0, |operations| of("LOOKUP", operations).requests)
        };
        // Those of the mount itself are recorded after they were answered.
        let mut before = measurements();
        wait_until("lookups of the mount are counted", || {
            std::thread::sleep(Duration::from_millis(20));
            let last = std::mem::replace(&mut before, measurements());
            lookups(&last) == lookups(&before)
        });
        for _ in 0..COUNT {
            fs::metadata(mounted.path("a"))?;
        }
        wait_until("lookups are counted where they were made", || {
            lookups(&measurements()) >= lookups(&before) + COUNT
        });
        let now = measurements();
        assert_eq!(lookups(&now), lookups(&before) + COUNT);
        if transport == Transport::Classic {
            assert_eq!(now.queues.len(), 1);
        }
        // What is told per operation is the sum over the queues, and the histograms say the same.
        for operation in &now.operations {
            let of_queues = now.queues.iter();
            let of_queues = of_queues.map(|queue| of(&operation.operation, &queue.operations));
            let sum: u64 = of_queues.map(|measured| measured.requests).sum();
            assert_eq!(sum, operation.measured.requests, "{}", operation.operation);
            let recorded = operation.latency().expect("it was asked for").len();
            assert_eq!(recorded, sum, "{}", operation.operation);
        }
        Ok(())
    })?
}

pub fn blocked_threads(transport: Transport) -> Result<(), Failed> {
    const READERS: u64 = 3;
    let mounted = Mounted::new(transport, &["wait"]);
    let (name, mut readers) = on_one_cpu(|cpu| {
        let readers: Vec<_> = (0..READERS).map(|_| cat(&mounted.path("wait"))).collect();
        (queue_of(transport, cpu), readers)
    })?;
    let state = || {
        let measurements = mounted.monitor().measurements(Detail::Percentiles);
        queue(&name, &measurements).cloned().unwrap_or_default()
    };
    wait_until("all readers wait", || {
        mounted.fs.waiting.load(Ordering::SeqCst) == READERS as i64
    });
    wait_until("all are counted as blocked", || state().blocked == READERS);
    let blocked = state();
    assert!(blocked.threads > blocked.blocked, "{blocked:?}");
    assert!(blocked.serving >= blocked.blocked, "{blocked:?}");
    assert!(blocked.replaced >= 1, "{blocked:?}");
    mounted.fs.release_all();
    for reader in &mut readers {
        // They would read the same bytes for ever.
        let _ = reader.kill();
        wait_for_end(reader);
    }
    wait_until("nobody is blocked", || state().blocked == 0);
    Ok(())
}
