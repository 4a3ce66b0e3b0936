//! What happened between two reports.
//!
//! Counts are subtracted. Percentiles cannot be: those of the interval come from the difference of the histograms, which
//! both reports must have. Where they have none, the latencies of the interval are unknown.

use hdrhistogram::Histogram;

use super::report::Report;
use crate::engine::metrics::{Measured, OperationStatistics, QueueStatistics, latency};

impl Report {
    /// What happened since `before`, an earlier report of the same server. State (inodes, threads, memory) is that of
    /// `self`. Both should have histograms; the result has none.
    #[must_use]
    pub fn since(&self, before: &Report) -> Report {
        let mut all = Sums::default();
        let nanoseconds = self.uptime_ns.saturating_sub(before.uptime_ns);
        let nothing = QueueStatistics::default();
        let queue = |now: &QueueStatistics| {
            let old = before.queues.iter().find(|old| old.name == now.name);
            queue_since(now, old.unwrap_or(&nothing), &mut all)
        };
        let queues: Vec<QueueStatistics> = self.queues.iter().map(queue).collect();
        let mut operations = operations_since(&self.operations, &before.operations);
        for operation in &mut operations {
            if let Some(latency) = all.of(&operation.operation) {
                operation.measured.set_latency(latency);
            }
        }
        let mut report = Report {
            interval_ns: Some(nanoseconds),
            usage: zip(self.usage, before.usage, |now, before| now.since(&before)),
            cache: zip(self.cache, before.cache, |now, before| now.since(&before)),
            notifications: zip(self.notifications, before.notifications, |now, before| {
                now.since(&before)
            }),
            queues,
            operations,
            ..self.clone()
        };
        report.rate();
        report
    }

    /// Computes all rates: over the interval, or since the start.
    pub(super) fn rate(&mut self) {
        let nanoseconds = self.span_ns();
        let queues = self.queues.iter_mut();
        for queue in queues {
            queue.measured.rate(nanoseconds);
            rate_all(&mut queue.operations, nanoseconds);
        }
        rate_all(&mut self.operations, nanoseconds);
    }
}

fn rate_all(operations: &mut [OperationStatistics], nanoseconds: u64) {
    for operation in operations {
        operation.measured.rate(nanoseconds);
    }
}

fn zip<T>(now: Option<T>, before: Option<T>, since: impl FnOnce(T, T) -> T) -> Option<T> {
    Some(since(now?, before?))
}

/// Latencies of the interval per operation, over all queues.
#[derive(Default)]
struct Sums(Vec<(String, Histogram<u64>)>);

impl Sums {
    fn of(&self, operation: &str) -> Option<&Histogram<u64>> {
        let found = self.0.iter().find(|(name, _)| name == operation)?;
        Some(&found.1)
    }

    fn add(&mut self, operation: &str, latency: &Histogram<u64>) {
        match self.0.iter_mut().find(|(name, _)| name == operation) {
            Some((_, sum)) => add(sum, latency),
            None => self.0.push((operation.to_owned(), latency.clone())),
        }
    }
}

fn add(sum: &mut Histogram<u64>, latency: &Histogram<u64>) {
    // Both came from `latency::decode`, which refuses other bounds.
    let _ = sum.add(latency);
}

fn queue_since(now: &QueueStatistics, before: &QueueStatistics, all: &mut Sums) -> QueueStatistics {
    let mut total = latency::empty();
    let mut operations = operations_since(&now.operations, &before.operations);
    for operation in &mut operations {
        let name = operation.operation.as_str();
        if let Some(latency) =
            latency_since(find(&now.operations, name), find(&before.operations, name))
        {
            add(&mut total, &latency);
            all.add(name, &latency);
            operation.measured.set_latency(&latency);
        }
    }
    let mut measured = now.measured.counts_since(&before.measured);
    measured.set_latency(&total);
    QueueStatistics {
        measured,
        operations,
        replaced: now.replaced.saturating_sub(before.replaced),
        ..now.clone()
    }
}

/// The latencies of one operation; `None` if they are not known.
fn latency_since(
    now: Option<&OperationStatistics>,
    before: Option<&OperationStatistics>,
) -> Option<Histogram<u64>> {
    let mut latency = now?.latency()?;
    if let Some(before) = before {
        latency.subtract(before.latency()?).ok()?;
    }
    Some(latency)
}

fn find<'a>(operations: &'a [OperationStatistics], name: &str) -> Option<&'a OperationStatistics> {
    operations.iter().find(|one| one.operation == name)
}

/// The counts of the operations that were asked for in the interval, without latencies.
fn operations_since(
    now: &[OperationStatistics],
    before: &[OperationStatistics],
) -> Vec<OperationStatistics> {
    let nothing = Measured::default();
    let since = |now: &OperationStatistics| {
        let before = find(before, &now.operation).map_or(&nothing, |before| &before.measured);
        OperationStatistics {
            operation: now.operation.clone(),
            measured: now.measured.counts_since(before),
            histogram: None,
        }
    };
    let all = now.iter().map(since);
    all.filter(|one| one.measured.requests > 0).collect()
}
