//! Samples that were taken side by side.

use crate::result::{Better, Sample};

/// Speeds relative to the baseline's sample of the same round: above 1 is better than the baseline. Rounds that only one
/// of the two has, and values that are not positive, have no speed.
pub fn relative_speeds(samples: &[Sample], baseline: &[Sample], better: Better) -> Vec<f64> {
    samples
        .iter()
        .filter_map(|sample| {
            let base = baseline.iter().find(|base| base.round == sample.round)?;
            relative(sample.value, base.value, better)
        })
        .collect()
}

/// The speed at `value` relative to that at `base`.
pub fn relative(value: f64, base: f64, better: Better) -> Option<f64> {
    let ratio = match better {
        Better::Higher => value / base,
        Better::Lower => base / value,
    };
    (value > 0.0 && base > 0.0 && ratio.is_finite()).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Usage;

    fn samples(values: &[(u32, f64)]) -> Vec<Sample> {
        values
            .iter()
            .map(|(round, value)| Sample {
                round: *round,
                position: 0,
                value: *value,
                operations: None,
                usage: Usage::default(),
                took: 1.0,
                latency: None,
                extra: Default::default(),
            })
            .collect()
    }

    #[test]
    fn rounds_are_matched_by_number() {
        let target = samples(&[(0, 50.0), (2, 90.0), (3, 10.0)]);
        let base = samples(&[(2, 100.0), (0, 200.0), (1, 400.0)]);
        assert_eq!(
            relative_speeds(&target, &base, Better::Higher),
            [50.0 / 200.0, 90.0 / 100.0]
        );
        assert_eq!(
            relative_speeds(&target, &base, Better::Lower),
            [200.0 / 50.0, 100.0 / 90.0]
        );
    }

    #[test]
    fn drift_that_both_see_cancels() {
        let target = samples(&[(0, 50.0), (1, 5.0), (2, 500.0)]);
        let base = samples(&[(0, 100.0), (1, 10.0), (2, 1000.0)]);
        assert_eq!(relative_speeds(&target, &base, Better::Higher), [0.5; 3]);
    }

    #[test]
    fn what_is_not_positive_has_no_speed() {
        assert_eq!(relative(1.0, 0.0, Better::Higher), None);
        assert_eq!(relative(0.0, 1.0, Better::Lower), None);
        assert_eq!(relative(f64::NAN, 1.0, Better::Lower), None);
        assert_eq!(relative(-1.0, -1.0, Better::Higher), None);
    }
}
