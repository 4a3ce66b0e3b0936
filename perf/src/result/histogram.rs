//! Latencies of the operations of one measurement.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

/// A histogram of latencies in nanoseconds, and the quantiles that people ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Operations counted.
    pub count: u64,
    /// Mean in nanoseconds.
    pub mean: f64,
    /// Median in nanoseconds.
    pub p50: u64,
    /// 99 of 100 took at most this many nanoseconds.
    pub p99: u64,
    /// 999 of 1000 took at most this many nanoseconds.
    pub p999: u64,
    /// The slowest, in nanoseconds.
    pub max: u64,
    /// All of it: an HDR histogram, V2 encoding, base64. Absent where a tool tells only quantiles.
    pub histogram: Option<String>,
}

impl Latency {
    /// Of a histogram of nanoseconds; nothing for an empty one.
    pub fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        if histogram.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .expect("writing to memory does not fail");
        Some(Latency {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            histogram: Some(STANDARD.encode(bytes)),
        })
    }

    /// The histogram, if it is there and can be read.
    pub fn decode(&self) -> Option<Histogram<u64>> {
        let bytes = STANDARD.decode(self.histogram.as_ref()?).ok()?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for value in [10_u64, 200, 3000, 3000, 4_000_000_000] {
            histogram.record(value).unwrap();
        }
        let latency = Latency::of(&histogram).unwrap();
        assert_eq!(latency.count, 5);
        assert_eq!(latency.decode().unwrap(), histogram);
        assert!(Latency::of(&Histogram::<u64>::new(3).unwrap()).is_none());
    }
}
