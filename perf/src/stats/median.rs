//! The median, and a confidence interval that needs no assumption about the distribution.

use super::sorted;

/// An interval of confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The true probability that it holds the true value: 0.9375 for the range of five samples.
    pub coverage: f64,
}

impl Interval {
    /// Whether the value lies in it, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A median with what is known about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub value: f64,
    /// Its interval; there is none for a single sample.
    pub interval: Option<Interval>,
    /// Number of samples.
    pub count: usize,
}

/// The median of the finite values; nothing if there are none.
pub fn median(values: &[f64]) -> Option<f64> {
    middle(&sorted(values))
}

/// Of values in ascending order.
pub(super) fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[half]),
        _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
    }
}

/// The median and its interval by order statistics: the narrowest symmetric one of at least `level` coverage, or the
/// whole range where the samples are too few for that.
pub fn estimate(values: &[f64], level: f64) -> Option<Estimate> {
    let values = sorted(values);
    let count = values.len();
    let interval = (count > 1).then(|| {
        let (rank, coverage) = order_statistic(count, level);
        Interval {
            low: values[rank - 1],
            high: values[count - rank],
            coverage,
        }
    });
    Some(Estimate {
        value: middle(&values)?,
        interval,
        count,
    })
}

/// The rank, from 1, of the interval's ends counted from the outside, and the coverage.
///
/// The median lies below the k-th smallest of n samples with the probability that fewer than k of n coins show heads.
fn order_statistic(count: usize, level: f64) -> (usize, f64) {
    let mut log = -(count as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    let mut best = (1, 1.0 - 2.0 * log.exp());
    for rank in 1..=count / 2 {
        below += log.exp();
        let coverage = 1.0 - 2.0 * below;
        if rank > 1 && coverage < level {
            break;
        }
        best = (rank, coverage);
        log += ((count - rank + 1) as f64 / rank as f64).ln();
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::NAN, 3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    /// Conover, Practical Nonparametric Statistics, table A3: the ranks for p = 0.5.
    #[test]
    fn known_coverages() {
        for (count, rank, coverage) in [
            (2, 1, 0.5),
            (3, 1, 0.75),
            (5, 1, 0.9375),
            (6, 1, 0.96875),
            (8, 1, 0.992_187_5),
            (9, 2, 0.960_937_5),
            (10, 2, 0.978_515_625),
            (20, 6, 0.958_610_5),
            (100, 40, 0.964_799_8),
        ] {
            let (r, c) = order_statistic(count, 0.95);
            assert_eq!(r, rank, "n = {count}");
            assert!((c - coverage).abs() < 1e-6, "n = {count}: {c}");
        }
        let (_, coverage) = order_statistic(5000, 0.95);
        assert!((0.95..0.953).contains(&coverage), "{coverage}");
    }

    #[test]
    fn one_sample_has_no_interval() {
        let one = estimate(&[7.0], 0.95).unwrap();
        assert_eq!((one.value, one.interval, one.count), (7.0, None, 1));
        assert_eq!(estimate(&[], 0.95), None);
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_median(values in prop::collection::vec(-1e9_f64..1e9, 2..60)) {
            let estimate = estimate(&values, 0.95).unwrap();
            let interval = estimate.interval.unwrap();
            prop_assert!(interval.contains(estimate.value));
            prop_assert!(interval.coverage > 0.0 && interval.coverage < 1.0 + 1e-9);
            prop_assert!(values.contains(&interval.low) && values.contains(&interval.high));
        }

        #[test]
        fn the_median_does_not_depend_on_order(mut values in prop::collection::vec(-1e9_f64..1e9, 1..40)) {
            let before = estimate(&values, 0.95);
            values.reverse();
            prop_assert_eq!(before, estimate(&values, 0.95));
        }
    }

    /// The promise itself, seen in a simulation.
    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        let mut random = fastrand::Rng::with_seed(1);
        let covered = (0..20_000)
            .filter(|_| {
                let values: Vec<f64> = (0..5).map(|_| random.f64().powi(3)).collect();
                let interval = estimate(&values, 0.95).unwrap().interval.unwrap();
                interval.contains(0.125)
            })
            .count();
        let share = covered as f64 / 20_000.0;
        assert!((share - 0.9375).abs() < 0.01, "{share}");
    }
}
