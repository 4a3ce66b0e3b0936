//! Latencies of a row: the histograms of its rounds together.

use hdrhistogram::Histogram;

use crate::result::Sample;
use crate::stats::median;

/// Quantiles of the latencies of a row, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Operations counted.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99 of 100 took at most this long.
    pub p99: f64,
    /// 999 of 1000 took at most this long.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// All of it. Absent where a round has no histogram: then the quantiles are medians of the rounds' quantiles.
    pub histogram: Option<Histogram<u64>>,
}

impl Latencies {
    /// Of the samples that have latencies; nothing if none has.
    pub fn of(samples: &[Sample]) -> Option<Latencies> {
        let all: Vec<_> = samples.iter().filter_map(|s| s.latency.as_ref()).collect();
        let first = all.first()?;
        let mut merged = first.decode();
        for latency in &all[1..] {
            merged = merged.and_then(|mut sum| {
                // The rounds' ranges differ: a histogram that has been read does not grow by itself.
                sum.auto(true);
                sum.add(latency.decode()?).ok()?;
                Some(sum)
            });
        }
        let merged = merged.filter(|histogram| !histogram.is_empty());
        let count = all.iter().map(|latency| latency.count).sum();
        let max = all.iter().map(|latency| latency.max).max()? as f64;
        if let Some(histogram) = merged {
            return Some(Latencies {
                count,
                mean: histogram.mean(),
                p50: histogram.value_at_quantile(0.5) as f64,
                p99: histogram.value_at_quantile(0.99) as f64,
                p999: histogram.value_at_quantile(0.999) as f64,
                max,
                histogram: Some(histogram),
            });
        }
        let middle = |figure: &dyn Fn(&crate::result::Latency) -> f64| {
            median(
                &all.iter()
                    .map(|latency| figure(latency))
                    .collect::<Vec<f64>>(),
            )
        };
        Some(Latencies {
            count,
            mean: middle(&|latency| latency.mean)?,
            p50: middle(&|latency| latency.p50 as f64)?,
            p99: middle(&|latency| latency.p99 as f64)?,
            p999: middle(&|latency| latency.p999 as f64)?,
            max,
            histogram: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Latency, Usage};

    fn sample(values: &[u64]) -> Sample {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for value in values {
            histogram.record(*value).unwrap();
        }
        Sample {
            round: 0,
            position: 0,
            value: 1.0,
            operations: None,
            usage: Usage::default(),
            took: 1.0,
            latency: Latency::of(&histogram),
            extra: Default::default(),
        }
    }

    #[test]
    fn rounds_are_added_even_if_their_ranges_differ() {
        let samples = [
            sample(&[10, 20]),
            sample(&[3_000_000_000]),
            sample(&[30, 40]),
        ];
        let latencies = Latencies::of(&samples).unwrap();
        assert_eq!(latencies.count, 5);
        assert_eq!(latencies.p50, 30.0);
        assert_eq!(latencies.histogram.unwrap().len(), 5);
        assert!(latencies.max >= 3e9);
    }

    #[test]
    fn without_histograms_the_medians_of_quantiles() {
        let mut samples = [sample(&[10]), sample(&[20]), sample(&[90])];
        samples[1].latency.as_mut().unwrap().histogram = None;
        let latencies = Latencies::of(&samples).unwrap();
        assert!(latencies.histogram.is_none());
        assert_eq!(
            (latencies.p50, latencies.max, latencies.count),
            (20.0, 90.0, 3)
        );
        samples[0].latency.as_mut().unwrap().histogram = Some("not base64".into());
        assert!(Latencies::of(&samples[..1]).unwrap().histogram.is_none());
        assert!(Latencies::of(&[]).is_none());
    }
}
