//! What was measured, for whoever asks: plain numbers that can be sent to another process.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::latency;

/// The measurements of a set of requests. Latencies are those of the server: from the moment a request was read until
/// its reply was written (over io_uring: until it was ready to be committed).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Requests answered.
    pub requests: u64,
    /// Of those, answered with an error.
    pub errors: u64,
    /// Bytes of file data read or written.
    pub bytes: u64,
    /// Mean latency in nanoseconds. This and the following are 0 if they are not known.
    pub mean_ns: u64,
    /// Median latency in nanoseconds.
    pub p50_ns: u64,
    /// 99th percentile in nanoseconds.
    pub p99_ns: u64,
    /// 99.9th percentile in nanoseconds.
    pub p999_ns: u64,
    /// Longest latency in nanoseconds; in the difference of two reports to within 1 %.
    pub max_ns: u64,
    /// Requests per second. This and the next are not sent but computed by [`rate`](Self::rate).
    #[serde(default)]
    pub requests_per_second: f64,
    /// Bytes of file data per second.
    #[serde(default)]
    pub bytes_per_second: f64,
}

impl Measured {
    /// Sets what a histogram of the same requests says.
    pub fn set_latency(&mut self, latency: &Histogram<u64>) {
        if latency.is_empty() {
            return;
        }
        self.mean_ns = latency.mean() as u64;
        self.p50_ns = latency.value_at_quantile(0.5);
        self.p99_ns = latency.value_at_quantile(0.99);
        self.p999_ns = latency.value_at_quantile(0.999);
        self.max_ns = latency.max();
    }

    /// Adds the counts of `other`; latencies cannot be added.
    pub fn add_counts(&mut self, other: &Measured) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.bytes += other.bytes;
    }

    /// The counts since those of `before`, without latencies.
    #[must_use]
    pub fn counts_since(&self, before: &Measured) -> Measured {
        Measured {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            bytes: self.bytes.saturating_sub(before.bytes),
            ..Measured::default()
        }
    }

    /// Computes the rates: all of this took `nanoseconds`.
    pub fn rate(&mut self, nanoseconds: u64) {
        let seconds = nanoseconds.max(1) as f64 / 1e9;
        self.requests_per_second = self.requests as f64 / seconds;
        self.bytes_per_second = self.bytes as f64 / seconds;
    }
}

/// The measurements of one operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OperationStatistics {
    /// Kernel's name of the operation, as `LOOKUP`.
    pub operation: String,
    /// What was measured.
    #[serde(flatten)]
    pub measured: Measured,
    /// All latencies, as [`latency::encode`] writes them, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<String>,
}

impl OperationStatistics {
    /// All latencies, where they were asked for.
    #[must_use]
    pub fn latency(&self) -> Option<Histogram<u64>> {
        latency::decode(self.histogram.as_deref()?)
    }
}

/// One queue of requests: what it served, and its threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueStatistics {
    /// `classic` for `/dev/fuse`; `cpu 0` and so on for those of FUSE over io_uring; `lobby` for the first requests of
    /// a CPU for which no thread could be started.
    pub name: String,
    /// Threads it has.
    pub threads: u64,
    /// Of those, with a request in service.
    pub serving: u64,
    /// Of those, counted as blocked: another thread takes requests in their place.
    pub blocked: u64,
    /// How often another thread had to take the place of a blocked one since the session started.
    pub replaced: u64,
    /// What was measured, over all operations.
    #[serde(flatten)]
    pub measured: Measured,
    /// The same per operation.
    #[serde(default)]
    pub operations: Vec<OperationStatistics>,
}
