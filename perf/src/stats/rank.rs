//! Whether two sets of samples differ, and by how much, by their ranks alone.

use super::median::middle;
use super::{Estimate, Interval, sorted};

/// Up to this many samples on either side the p value is exact.
const EXACT: usize = 10;

/// Up to this many samples on either side the interval's ranks are exact.
const EXACT_INTERVAL: usize = 25;

/// The two-sided p value of the Mann-Whitney U test; nothing if a side is empty.
///
/// Exact with ties up to 10 samples a side: the share of all ways to deal out the pooled ranks that are at least as
/// far from the mean. Above that the normal approximation with corrections for ties and continuity.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (sorted(a), sorted(b));
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let mut pool: Vec<f64> = a.iter().chain(&b).copied().collect();
    pool.sort_by(f64::total_cmp);
    // Twice the mean rank, so that it is whole in a tie.
    let rank = |value: f64| {
        let below = pool.partition_point(|other| *other < value);
        let up_to = pool.partition_point(|other| *other <= value);
        below + up_to + 1
    };
    let sum: usize = a.iter().map(|value| rank(*value)).sum();
    let mean = a.len() * (pool.len() + 1);
    let distance = sum.abs_diff(mean);
    if a.len() <= EXACT && b.len() <= EXACT {
        let ranks: Vec<usize> = pool.iter().map(|value| rank(*value)).collect();
        let ways = ways(&ranks, a.len());
        let all: f64 = ways.iter().sum();
        let far: f64 = ways
            .iter()
            .enumerate()
            .filter(|(other, _)| other.abs_diff(mean) >= distance)
            .map(|(_, ways)| ways)
            .sum();
        return Some(far / all);
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let total = n + m;
    let ties: f64 = pool
        .chunk_by(|x, y| x == y)
        .map(|tie| (tie.len() as f64).powi(3) - tie.len() as f64)
        .sum();
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return Some(1.0);
    }
    // `distance` is in half ranks.
    let z = ((distance as f64 / 2.0 - 0.5) / variance.sqrt()).max(0.0);
    Some(libm::erfc(z / std::f64::consts::SQRT_2))
}

/// The smallest p value that so many samples can reach: with it more rows than `1 / p` cannot become significant.
pub fn smallest_p(n: usize, m: usize) -> f64 {
    let ways: f64 = (1..=n.min(m))
        .map(|k| (n.max(m) + k) as f64 / k as f64)
        .product();
    (2.0 / ways).min(1.0)
}

/// By sum: the number of ways to choose `count` of the ranks with that sum.
fn ways(ranks: &[usize], count: usize) -> Vec<f64> {
    let most: usize = ranks.iter().rev().take(count).sum();
    let mut ways = vec![vec![0.0; most + 1]; count + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for chosen in (1..=count).rev() {
            for sum in (*rank..=most).rev() {
                ways[chosen][sum] += ways[chosen - 1][sum - rank];
            }
        }
    }
    ways.swap_remove(count)
}

/// The Hodges-Lehmann estimate of the factor from `before` to `after`: the median of the quotients of all pairs, with
/// the interval that belongs to the Mann-Whitney test. Values that are not positive are left out.
pub fn ratio_estimate(before: &[f64], after: &[f64], level: f64) -> Option<Estimate> {
    let positive = |values: &[f64]| -> Vec<f64> {
        let mut values = sorted(values);
        values.retain(|value| *value > 0.0);
        values
    };
    let (before, after) = (positive(before), positive(after));
    let quotients: Vec<f64> = after
        .iter()
        .flat_map(|after| before.iter().map(move |before| after / before))
        .collect();
    let quotients = sorted(&quotients);
    let value = middle(&quotients)?;
    let interval = (quotients.len() > 1).then(|| {
        let (rank, coverage) = pair_rank(before.len(), after.len(), level);
        Interval {
            low: quotients[rank - 1],
            high: quotients[quotients.len() - rank],
            coverage,
        }
    });
    Some(Estimate {
        value,
        interval,
        count: before.len().min(after.len()),
    })
}

/// The rank, from 1, of the interval's ends among the quotients, and the coverage.
fn pair_rank(n: usize, m: usize, level: f64) -> (usize, f64) {
    if n.max(m) > EXACT_INTERVAL {
        let (n, m) = (n as f64, m as f64);
        let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
        // The normal quantile of 0.975, whatever the level between 0.9 and 0.99: it is only used with 0.95.
        let rank = (n * m / 2.0 - 1.959_964 * deviation).floor().max(1.0);
        let z = (n * m / 2.0 - rank + 0.5) / deviation;
        return (
            rank as usize,
            1.0 - libm::erfc(z / std::f64::consts::SQRT_2),
        );
    }
    let ranks: Vec<usize> = (1..=n + m).collect();
    let ways = ways(&ranks, n);
    let all: f64 = ways.iter().sum();
    let least = n * (n + 1) / 2;
    let mut below = 0.0;
    let mut best = (1, 1.0 - 2.0 * ways[least] / all);
    for rank in 1..=(n * m / 2).max(1) {
        below += ways[least + rank - 1] / all;
        let coverage = 1.0 - 2.0 * below;
        if rank > 1 && coverage < level {
            break;
        }
        best = (rank, coverage.max(0.0));
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By counting: 252 ways to deal 5 of 10, 20 to deal 3 of 6, 70 to deal 4 of 8.
    #[test]
    fn known_p_values() {
        let close = |a: &[f64], b: &[f64], p: f64| {
            let found = mann_whitney(a, b).unwrap();
            assert!((found - p).abs() < 1e-6, "{found} instead of {p}");
        };
        let low: Vec<f64> = (1..=5).map(f64::from).collect();
        let high: Vec<f64> = (6..=10).map(f64::from).collect();
        close(&low, &high, 2.0 / 252.0);
        close(&[1.0, 3.0, 5.0], &[2.0, 4.0, 6.0], 0.7);
        close(&[1.0], &[2.0], 1.0);
        close(&[1.0, 1.0], &[1.0, 1.0], 1.0);
        // U = 1 of 4 x 4: 2 x 2 / 70.
        close(&[1.0, 2.0, 3.0, 5.0], &[4.0, 6.0, 7.0, 8.0], 4.0 / 70.0);
        assert_eq!(mann_whitney(&[], &[1.0]), None);
    }

    /// Four dealt ranks 1.5 1.5 3 4: of the six sums 3 4.5 4.5 5.5 5.5 7 two are as far from 5 as 3 is.
    #[test]
    fn ties_are_exact() {
        let p = mann_whitney(&[1.0, 1.0], &[2.0, 3.0]).unwrap();
        assert!((p - 2.0 / 6.0).abs() < 1e-12, "{p}");
    }

    #[test]
    fn the_approximation_agrees_with_the_exact_value() {
        let a: Vec<f64> = (0..10).map(|i| f64::from(i * 3)).collect();
        let b: Vec<f64> = (0..10).map(|i| f64::from(i * 3 + 10)).collect();
        let exact = mann_whitney(&a, &b).unwrap();
        let longer: Vec<f64> = b.iter().copied().chain([24.5]).collect();
        let near = mann_whitney(&a, &longer).unwrap();
        assert!((exact - near).abs() < 0.02, "{exact} {near}");
        let same = vec![1.0; 20];
        assert_eq!(mann_whitney(&same, &same), Some(1.0));
    }

    #[test]
    fn the_smallest_p_is_reached() {
        for (n, m) in [(1, 1), (3, 3), (5, 5), (5, 7), (10, 10)] {
            let a: Vec<f64> = (0..n).map(|i| i as f64).collect();
            let b: Vec<f64> = (0..m).map(|i| 100.0 + i as f64).collect();
            let p = mann_whitney(&a, &b).unwrap();
            assert!((p - smallest_p(n, m)).abs() < 1e-9, "{n} {m}: {p}");
        }
    }

    /// Hollander and Wolfe, table of the U distribution: for 5 and 5 samples P(U <= 2) = 4 / 252.
    #[test]
    fn known_ranks_of_pairs() {
        let (rank, coverage) = pair_rank(5, 5, 0.95);
        assert_eq!(rank, 3);
        assert!((coverage - (1.0 - 8.0 / 252.0)).abs() < 1e-9, "{coverage}");
        let (rank, coverage) = pair_rank(3, 3, 0.95);
        assert_eq!((rank, coverage), (1, 0.9));
        let (exact, _) = pair_rank(25, 25, 0.95);
        let (near, coverage) = pair_rank(26, 25, 0.95);
        assert!(near.abs_diff(exact) < 14, "{exact} {near}");
        assert!((0.95..0.955).contains(&coverage), "{coverage}");
    }

    #[test]
    fn a_doubling_is_found() {
        let before = [10.0, 10.1, 9.9, 10.2, 9.8];
        let after: Vec<f64> = before.iter().map(|value| value * 2.0).collect();
        let estimate = ratio_estimate(&before, &after, 0.95).unwrap();
        assert!((estimate.value - 2.0).abs() < 0.02);
        assert!(estimate.interval.unwrap().contains(2.0));
        assert_eq!(ratio_estimate(&[0.0], &[1.0], 0.95), None);
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut draw = |n: usize| (0..n).map(|_| random.f64()).collect::<Vec<f64>>();
        for n in [5, 12] {
            let alarms = (0..4000)
                .filter(|_| mann_whitney(&draw(n), &draw(n)).unwrap() <= 0.05)
                .count();
            assert!((60..=260).contains(&alarms), "{n}: {alarms} of 4000");
        }
    }

    proptest! {
        #[test]
        fn p_is_a_probability_and_symmetric(
            a in prop::collection::vec(0_u8..12, 1..14),
            b in prop::collection::vec(0_u8..12, 1..14),
        ) {
            let a: Vec<f64> = a.into_iter().map(f64::from).collect();
            let b: Vec<f64> = b.into_iter().map(f64::from).collect();
            let p = mann_whitney(&a, &b).unwrap();
            prop_assert!((0.0..=1.0 + 1e-12).contains(&p));
            prop_assert!((p - mann_whitney(&b, &a).unwrap()).abs() < 1e-9);
        }

        #[test]
        fn the_estimate_turns_with_the_sides(
            a in prop::collection::vec(1.0_f64..100.0, 2..9),
            b in prop::collection::vec(1.0_f64..100.0, 2..9),
        ) {
            let there = ratio_estimate(&a, &b, 0.95).unwrap();
            let interval = there.interval.unwrap();
            prop_assert!(interval.contains(there.value));
            let back = ratio_estimate(&b, &a, 0.95).unwrap().interval.unwrap();
            prop_assert!((interval.low * back.high - 1.0).abs() < 1e-9);
            prop_assert!((interval.high * back.low - 1.0).abs() < 1e-9);
        }
    }
}
