//! Data of large files with several operations in flight, and small files at a fixed rate.

use std::time::Duration;

use super::metadata::prepare_once;
use super::{Measured, Workload, generator};
use crate::job::{Place, Size};
use crate::load::{Operation, make_files, make_trees};
use crate::result::{Better, Cache, WorkloadInfo};

/// Bytes of the file at full size.
const FILE: u64 = 256 << 20;

/// Fewest bytes of the file.
const LEAST: u64 = 16 << 20;

/// Part of the measured time that is spent before it, untimed.
const WARM_UP: f64 = 0.2;

/// Bytes per second at which a file can be made natively, at least: for the estimate.
const MAKING: f64 = 200e6;

/// The workloads of this group.
pub fn all() -> Vec<Box<dyn Workload>> {
    let transfer = |name, about, operation, block, depth| Transfer {
        name,
        about,
        operation,
        block,
        depth,
        direct: false,
        fsync: false,
        quick: false,
    };
    vec![
        Box::new(Transfer {
            direct: true,
            ..transfer(
                "uring-read-random-d16-direct",
                "random 4 KiB reads, 16 in flight, past the page cache",
                Operation::ReadRandom,
                4096,
                16,
            )
        }),
        Box::new(Transfer {
            quick: true,
            ..transfer(
                "uring-read-random-d16",
                "random 4 KiB reads, 16 in flight, from the page cache",
                Operation::ReadRandom,
                4096,
                16,
            )
        }),
        Box::new(transfer(
            "uring-read-sequential",
            "sequential 1 MiB reads, 4 in flight, from the page cache",
            Operation::ReadSequential,
            1 << 20,
            4,
        )),
        Box::new(transfer(
            "uring-write-random-d16",
            "random 4 KiB writes, 16 in flight, into the page cache",
            Operation::WriteRandom,
            4096,
            16,
        )),
        Box::new(Transfer {
            fsync: true,
            ..transfer(
                "uring-write-random-fsync",
                "random 4 KiB writes, each made durable before the next",
                Operation::WriteRandom,
                4096,
                1,
            )
        }),
        Box::new(OpenLoop),
    ]
}

/// Operations on one file.
struct Transfer {
    name: &'static str,
    about: &'static str,
    operation: Operation,
    block: u64,
    depth: u32,
    direct: bool,
    fsync: bool,
    quick: bool,
}

impl Transfer {
    fn file(size: &Size) -> u64 {
        size.count(FILE, LEAST).next_multiple_of(1 << 20)
    }
}

impl Workload for Transfer {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: self.name.to_owned(),
            group: "data".to_owned(),
            about: self.about.to_owned(),
            unit: "ops/s".to_owned(),
            better: Better::Higher,
            cache: Cache::Warm,
            durable: self.fsync,
            baseline: "native".to_owned(),
            clients: 1,
            axis: None,
            cntr_2018: None,
        }
    }

    fn quick(&self) -> bool {
        self.quick
    }

    fn expected(&self, size: &Size) -> Duration {
        let work = size.seconds * (1.0 + WARM_UP);
        Duration::from_secs_f64(work + Transfer::file(size) as f64 / MAKING + 0.5)
    }

    fn prepare(&self, native: &Place) -> anyhow::Result<()> {
        let bytes = Transfer::file(&native.size);
        prepare_once(&native.host, &format!("data {bytes}"), || {
            make_files(&native.host, 1, bytes)?;
            Ok(())
        })
    }

    fn measure(&self, place: &Place) -> anyhow::Result<Measured> {
        let seconds = place.size.seconds;
        let mut arguments = vec![
            self.operation.name(),
            "--existing".to_owned(),
            format!("--size={}", Transfer::file(&place.size)),
            format!("--block={}", self.block),
            format!("--depth={}", self.depth),
            format!("--seconds={seconds}"),
        ];
        if self.direct {
            arguments.push("--direct".to_owned());
        }
        if self.fsync {
            arguments.push("--fsync=1".to_owned());
        }
        arguments.push(format!("--warm-up={}", seconds * WARM_UP));
        let outcome = generator::load(place, &arguments)?;
        let rate = outcome.bytes as f64 / outcome.seconds;
        let ring = outcome.engine == crate::load::Engine::IoUring;
        let mut measured = generator::measured(outcome);
        measured.extra.insert("bytes_per_second".to_owned(), rate);
        measured
            .extra
            .insert("with_io_uring".to_owned(), f64::from(u8::from(ring)));
        Ok(measured)
    }

    /// Brings the file into the page cache.
    fn warm(&self, place: &Place) -> anyhow::Result<()> {
        if self.direct {
            return Ok(());
        }
        let bytes = Transfer::file(&place.size);
        let arguments = [
            Operation::ReadSequential.name(),
            "--existing".to_owned(),
            "--block=1M".to_owned(),
            format!("--size={bytes}"),
            format!("--operations={}", bytes >> 20),
        ];
        generator::load(place, &arguments).map(drop)
    }
}

/// Operations a second of the open loop: a rate that every target should reach.
const RATE: u32 = 2000;

/// Small files of the open loop.
const FILES: u64 = 1000;

/// Bytes of one.
const SMALL: usize = 4096;

/// Small files at a fixed rate.
struct OpenLoop;

impl Workload for OpenLoop {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: "open-loop-read-small".to_owned(),
            group: "data".to_owned(),
            about: format!(
                "99th percentile of the time to open, read 4 KiB and close, {RATE} times a second at random, whether or \
                 not earlier ones have ended"
            ),
            unit: "us".to_owned(),
            better: Better::Lower,
            cache: Cache::Warm,
            durable: false,
            baseline: "native".to_owned(),
            clients: 1,
            axis: None,
            cntr_2018: None,
        }
    }

    fn quick(&self) -> bool {
        true
    }

    fn expected(&self, size: &Size) -> Duration {
        Duration::from_secs_f64(size.seconds * (1.0 + WARM_UP) + 0.5)
    }

    fn prepare(&self, native: &Place) -> anyhow::Result<()> {
        prepare_once(&native.host, "open loop", || {
            make_trees(Operation::ReadSmall, &native.host, 1, FILES, 0, SMALL)?;
            Ok(())
        })
    }

    fn measure(&self, place: &Place) -> anyhow::Result<Measured> {
        let seconds = place.size.seconds;
        let arguments = [
            Operation::ReadSmall.name(),
            "--existing".to_owned(),
            format!("--files={FILES}"),
            format!("--rate={RATE}"),
            "--arrivals=poisson".to_owned(),
            format!("--seconds={seconds}"),
            format!("--warm-up={}", seconds * WARM_UP),
        ];
        let outcome = generator::load(place, &arguments)?;
        let kept = outcome.schedule;
        let mut measured = generator::measured(outcome);
        let Some((latency, kept)) = measured.latency.as_ref().zip(kept) else {
            anyhow::bail!("perf load told no latencies of an open loop");
        };
        measured.value = latency.p99 as f64 / 1e3;
        let p999 = latency.p999 as f64 / 1e3;
        measured.extra.extend([
            ("achieved_ops_per_second".to_owned(), kept.achieved_rate),
            ("started_late".to_owned(), kept.late as f64),
            ("unstarted".to_owned(), kept.unstarted as f64),
            ("p999_us".to_owned(), p999),
            (
                "fell_behind".to_owned(),
                f64::from(u8::from(kept.fell_behind)),
            ),
        ]);
        Ok(measured)
    }

    /// Nothing: the load generator warms up itself.
    fn warm(&self, _place: &Place) -> anyhow::Result<()> {
        Ok(())
    }
}
