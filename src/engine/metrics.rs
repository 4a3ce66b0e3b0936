//! What the engine did: per operation a count, errors, bytes and a latency histogram.
//!
//! Every thread records into a [`Recorder`] of its own, so recording takes no shared lock; a reader merges them.

use fuse_proto::opcode::Opcode;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Errno;

/// Longest latency told apart, in nanoseconds: 100 s.
const LONGEST: u64 = 100_000_000_000;

/// Significant digits of a recorded latency.
const DIGITS: u8 = 2;

struct Counters {
    requests: u64,
    errors: u64,
    bytes: u64,
    latency: Histogram<u64>,
}

impl Counters {
    fn new() -> Counters {
        let latency = Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("the bounds are valid");
        Counters {
            requests: 0,
            errors: 0,
            bytes: 0,
            latency,
        }
    }
}

/// The measurements of one thread.
pub(super) struct Recorder {
    operations: [Option<Box<Counters>>; Opcode::COUNT],
}

impl Recorder {
    pub(super) fn new() -> Recorder {
        Recorder {
            operations: [const { None }; Opcode::COUNT],
        }
    }

    /// Records one request of `opcode`, served in `nanoseconds`, that moved `bytes` bytes of file data.
    pub(super) fn record(
        &mut self,
        opcode: Opcode,
        nanoseconds: u64,
        error: Option<Errno>,
        bytes: u64,
    ) {
        let counters =
            self.operations[opcode.index()].get_or_insert_with(|| Box::new(Counters::new()));
        counters.requests += 1;
        counters.errors += u64::from(error.is_some());
        counters.bytes += bytes;
        counters.latency.saturating_record(nanoseconds.max(1));
    }

    /// Adds what `other` recorded.
    pub(super) fn merge(&mut self, other: &Recorder) {
        for (mine, other) in self.operations.iter_mut().zip(&other.operations) {
            let Some(other) = other else { continue };
            let mine = mine.get_or_insert_with(|| Box::new(Counters::new()));
            mine.requests += other.requests;
            mine.errors += other.errors;
            mine.bytes += other.bytes;
            mine.latency
                .add(&other.latency)
                .expect("all histograms have the same bounds");
        }
    }

    pub(super) fn snapshot(&self) -> Vec<OperationStatistics> {
        let of = |opcode: &Opcode| {
            let counters = self.operations[opcode.index()].as_ref()?;
            let quantile = |q| counters.latency.value_at_quantile(q);
            Some(OperationStatistics {
                operation: opcode.name().to_owned(),
                requests: counters.requests,
                errors: counters.errors,
                bytes: counters.bytes,
                mean_ns: counters.latency.mean() as u64,
                p50_ns: quantile(0.5),
                p99_ns: quantile(0.99),
                p999_ns: quantile(0.999),
                max_ns: counters.latency.max(),
            })
        };
        Opcode::ALL.iter().filter_map(of).collect()
    }
}

/// The measurements of one operation, over all threads, since the session started. Latencies are those of the
/// server: from the moment a request was read until its reply was written.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct OperationStatistics {
    /// Kernel's name of the operation, as `LOOKUP`.
    pub operation: String,
    /// Requests answered.
    pub requests: u64,
    /// Of those, answered with an error.
    pub errors: u64,
    /// Bytes of file data read or written.
    pub bytes: u64,
    /// Mean latency in nanoseconds.
    pub mean_ns: u64,
    /// Median latency in nanoseconds.
    pub p50_ns: u64,
    /// 99th percentile in nanoseconds.
    pub p99_ns: u64,
    /// 99.9th percentile in nanoseconds.
    pub p999_ns: u64,
    /// Longest latency in nanoseconds.
    pub max_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_recorders_add_up() {
        let mut first = Recorder::new();
        let mut second = Recorder::new();
        for n in 1..=100 {
            first.record(Opcode::Read, n * 1000, None, 4096);
            second.record(Opcode::Read, n * 1000, Some(Errno::EIO), 0);
        }
        second.record(Opcode::Lookup, u64::MAX, None, 0);
        first.merge(&second);
        let all = first.snapshot();
        assert_eq!(all.len(), 2);
        let read = all.iter().find(|s| s.operation == "READ").unwrap();
        assert_eq!(
            (read.requests, read.errors, read.bytes),
            (200, 100, 409_600)
        );
        assert!((45_000..=55_000).contains(&read.p50_ns), "{read:?}");
        let lookup = all.iter().find(|s| s.operation == "LOOKUP").unwrap();
        assert!(lookup.max_ns >= LONGEST, "{lookup:?}");
    }
}
