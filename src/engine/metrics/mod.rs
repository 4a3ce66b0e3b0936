//! What the engine did: per queue and operation a count, errors, bytes and a latency histogram.
//!
//! Every thread records into a recorder of its own, so recording takes no lock that others wait for and allocates
//! nothing but at the first request of a kind; a reader merges them.
//!
//! | file | what it is |
//! |---|---|
//! | `latency` | histograms |
//! | `statistics` | what a reader gets |
//! | `cache` | what answers say about the kernel's caches |

mod cache;
pub mod latency;
mod statistics;

use fuse_proto::opcode::Opcode;
use hdrhistogram::Histogram;

use super::Errno;
pub(super) use cache::CacheEvents;
pub use cache::{CacheEvent, CacheStatistics};
pub use statistics::{Measured, OperationStatistics, QueueStatistics};

/// Whether latencies are wanted as histograms, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// Percentiles only.
    Percentiles,
    /// Histograms of each operation of each queue: what changes between two readings can be computed.
    Histograms,
}

/// Everything that was measured at one moment, since the session started.
#[derive(Clone, Debug)]
pub struct Measurements {
    /// Per operation, over all queues.
    pub operations: Vec<OperationStatistics>,
    /// Per queue: that of `/dev/fuse`, and those that have or had threads.
    pub queues: Vec<QueueStatistics>,
    /// What the answers say about the kernel's caches.
    pub cache: CacheStatistics,
}

struct Counters {
    requests: u64,
    errors: u64,
    bytes: u64,
    latency: Histogram<u64>,
}

impl Counters {
    fn new() -> Counters {
        Counters {
            requests: 0,
            errors: 0,
            bytes: 0,
            latency: latency::empty(),
        }
    }

    fn merge(&mut self, other: &Counters) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.bytes += other.bytes;
        self.latency
            .add(&other.latency)
            .expect("all histograms have the same bounds");
    }

    fn measured(&self) -> Measured {
        let mut measured = Measured {
            requests: self.requests,
            errors: self.errors,
            bytes: self.bytes,
            ..Measured::default()
        };
        measured.set_latency(&self.latency);
        measured
    }
}

/// The measurements of one thread, or of several merged.
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
            mine.get_or_insert_with(|| Box::new(Counters::new()))
                .merge(other);
        }
    }

    /// What was recorded, over all operations.
    pub(super) fn total(&self) -> Measured {
        let mut total = Counters::new();
        let recorded = self.operations.iter().flatten();
        recorded.for_each(|counters| total.merge(counters));
        total.measured()
    }

    /// What was recorded, per operation.
    pub(super) fn operations(&self, detail: Detail) -> Vec<OperationStatistics> {
        let of = |opcode: &Opcode| {
            let counters = self.operations[opcode.index()].as_ref()?;
            Some(OperationStatistics {
                operation: opcode.name().to_owned(),
                measured: counters.measured(),
                histogram: match detail {
                    Detail::Percentiles => None,
                    Detail::Histograms => latency::encode(&counters.latency),
                },
            })
        };
        Opcode::ALL.iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(name: &str, all: &'a [OperationStatistics]) -> &'a OperationStatistics {
        all.iter().find(|one| one.operation == name).unwrap()
    }

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
        let all = first.operations(Detail::Percentiles);
        assert_eq!(all.len(), 2);
        let read = &of("READ", &all).measured;
        assert_eq!(
            (read.requests, read.errors, read.bytes),
            (200, 100, 409_600)
        );
        assert!((45_000..=55_000).contains(&read.p50_ns), "{read:?}");
        let lookup = &of("LOOKUP", &all).measured;
        assert!(lookup.max_ns >= latency::LONGEST, "{lookup:?}");
        let total = first.total();
        assert_eq!((total.requests, total.errors), (201, 100));
        assert_eq!(total.max_ns, lookup.max_ns);
    }

    #[test]
    fn histograms_come_on_request() {
        let mut recorder = Recorder::new();
        recorder.record(Opcode::Read, 5000, None, 1);
        let without = recorder.operations(Detail::Percentiles);
        assert_eq!(of("READ", &without).latency(), None);
        let with = recorder.operations(Detail::Histograms);
        assert_eq!(of("READ", &with).latency().map(|all| all.len()), Some(1));
        assert_eq!(of("READ", &with).measured, of("READ", &without).measured);
    }
}
