//! Medians, intervals and significance of few samples.
//!
//! Nothing here assumes a distribution: intervals come from order statistics, significance from ranks. Values that are
//! not finite are left out by every function. No function removes an outlier.

pub mod correction;
pub mod mean;
pub mod median;
pub mod outlier;
pub mod paired;
pub mod rank;

pub use correction::holm;
pub use mean::geometric_mean;
pub use median::{Estimate, Interval, estimate, median};
pub use outlier::{Outlier, outliers};
pub use paired::relative_speeds;
pub use rank::{mann_whitney, ratio_estimate, smallest_p};

/// Coverage that an interval is to have, if there are samples enough for it.
pub const LEVEL: f64 = 0.95;

/// The finite values in ascending order.
fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values
}
