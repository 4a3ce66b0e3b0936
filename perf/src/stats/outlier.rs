//! Samples far from the others. They are said, never removed.

use super::median;

/// Above this modified z-score a sample is an outlier (Iglewicz and Hoaglin, 1993).
pub const LIMIT: f64 = 3.5;

/// A sample far from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Its index in the values.
    pub index: usize,
    /// Its modified z-score; negative below the median.
    pub score: f64,
}

/// The outliers by the modified z-score: the distance to the median in units of the median absolute deviation. Where
/// more than half of the values are equal the mean absolute deviation takes its place. None among fewer than four.
pub fn outliers(values: &[f64]) -> Vec<Outlier> {
    let Some(centre) = median(values) else {
        return Vec::new();
    };
    let deviations: Vec<f64> = values
        .iter()
        .map(|value| (value - centre).abs())
        .filter(|deviation| deviation.is_finite())
        .collect();
    if deviations.len() < 4 {
        return Vec::new();
    }
    let unit = match median(&deviations) {
        Some(mad) if mad > 0.0 => mad / 0.674_5,
        _ => 1.253_314 * deviations.iter().sum::<f64>() / deviations.len() as f64,
    };
    values
        .iter()
        .enumerate()
        .map(|(index, value)| Outlier {
            index,
            score: (value - centre) / unit,
        })
        .filter(|outlier| outlier.score.is_finite() && outlier.score.abs() > LIMIT)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_far_away_is_said() {
        let found = outliers(&[10.0, 10.2, 9.9, 10.1, 20.0]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].index, 4);
        // Median 10.1, deviations 0.1 0.1 0.2 0 9.9: the median deviation is 0.1.
        assert!((found[0].score - 0.6745 * 99.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn even_spread_has_none() {
        assert!(outliers(&[1.0, 2.0, 3.0, 4.0, 5.0]).is_empty());
        assert!(outliers(&[5.0; 6]).is_empty());
        assert!(outliers(&[1.0, 1.0, 9.0]).is_empty());
    }

    #[test]
    fn equal_values_do_not_hide_one() {
        let found = outliers(&[5.0, 5.0, 5.0, 5.0, 5.0, 50.0]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].index, 5);
    }

    proptest! {
        #[test]
        fn scale_and_place_do_not_matter(values in prop::collection::vec(0_u32..1000, 4..20), shift in 0_u32..100) {
            let plain: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
            let moved: Vec<f64> = plain.iter().map(|v| v * 8.0 + f64::from(shift)).collect();
            let indices = |values: &[f64]| outliers(values).iter().map(|o| o.index).collect::<Vec<_>>();
            prop_assert_eq!(indices(&plain), indices(&moved));
        }

        #[test]
        fn never_more_than_half(values in prop::collection::vec(-1e6_f64..1e6, 4..30)) {
            prop_assert!(outliers(&values).len() * 2 <= values.len());
        }
    }
}
