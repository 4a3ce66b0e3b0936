//! The mean of ratios.

/// The geometric mean of the positive finite values; nothing if there are none.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs: Vec<f64> = values
        .iter()
        .filter(|value| value.is_finite() && **value > 0.0)
        .map(|value| value.ln())
        .collect();
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_and_double_are_one() {
        assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-12);
        assert!((geometric_mean(&[0.1, 0.1, 0.8, 0.0]).unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
        assert_eq!(geometric_mean(&[0.0, f64::INFINITY]), None);
    }

    proptest! {
        #[test]
        fn it_lies_between_the_ends(values in prop::collection::vec(1e-6_f64..1e6, 1..40)) {
            let mean = geometric_mean(&values).unwrap();
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(0.0, f64::max);
            prop_assert!(low * 0.999_999 <= mean && mean <= high * 1.000_001);
        }

        #[test]
        fn the_mean_of_inverses_is_the_inverse(values in prop::collection::vec(1e-6_f64..1e6, 1..40)) {
            let inverse: Vec<f64> = values.iter().map(|value| 1.0 / value).collect();
            let product = geometric_mean(&values).unwrap() * geometric_mean(&inverse).unwrap();
            prop_assert!((product - 1.0).abs() < 1e-9);
        }
    }
}
