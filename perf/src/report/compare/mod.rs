//! What changed between two runs, and whether it is more than chance.
//!
//! A row is judged by its ratios to the baseline, round by round, because the drift of the machine between the two runs
//! cancels in them; where a run has no baseline, by its speeds. The baseline's own change is shown and tells how far the
//! machine drifted, but it is no regression.

pub mod command;
pub mod difference;
pub mod show;

use serde::Serialize;

use crate::result::{Row, Run, WorkloadInfo};
use crate::stats::{self, LEVEL, paired};

pub use command::{CompareArgs, run};
pub use difference::Difference;
use difference::{definition, differences, same};

/// How chance is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// Over all rows together (Holm): even one false alarm is rare. Needs many rounds where there are many rows.
    Holm,
    /// For each row alone: of a hundred unchanged rows five are marked.
    None,
}

/// Two runs side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What makes the runs differ beside the code, the worst first.
    pub differences: Vec<Difference>,
    /// The rows that both have.
    pub changes: Vec<Change>,
    /// The rows that only one has figures for.
    pub lone: Vec<Lone>,
    /// Limit on p values.
    pub alpha: f64,
    /// How the p values are corrected.
    pub correction: Correction,
    /// Whether the rounds are enough for any row to become significant.
    pub conclusive: bool,
}

/// A row that both runs have.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The workload.
    pub workload: String,
    /// The target.
    pub target: String,
    /// Unit of the medians.
    pub unit: String,
    /// Median of the first run.
    pub before: f64,
    /// Median of the second run.
    pub after: f64,
    /// Factor from the first to the second median.
    pub raw: f64,
    /// Median ratio to the baseline in the first run.
    pub ratio_before: Option<f64>,
    /// Median ratio to the baseline in the second run.
    pub ratio_after: Option<f64>,
    /// Factor from the first to the second ratio.
    pub ratio: Option<f64>,
    /// Whether it is the baseline of its workload.
    pub is_baseline: bool,
    /// Hodges-Lehmann estimate of the factor on the speed; above 1 the second run is faster.
    pub speed: f64,
    /// The interval of `speed`: low, high, coverage.
    pub interval: Option<(f64, f64, f64)>,
    /// The p value of this row alone.
    pub p: f64,
    /// The p value with the correction over all rows; of the baseline's rows, which are not judged, `p` itself.
    pub p_adjusted: f64,
    /// Whether it is more than chance.
    pub significant: bool,
}

/// A row that only one run has figures for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lone {
    /// The workload.
    pub workload: String,
    /// The target.
    pub target: String,
    /// Whether it is the first run that has it.
    pub in_first: bool,
    /// Why the other has not.
    pub reason: String,
    /// Whether it was measured in the first run and fails in the second.
    pub fails_now: bool,
}

impl Comparison {
    /// Compares two runs. A p value up to `alpha` is significant.
    pub fn of(before: &Run, after: &Run, alpha: f64, correction: Correction) -> Comparison {
        let mut differences = differences(before, after);
        let mut changes = Vec::new();
        let mut lone = Vec::new();
        let mut best: f64 = 1.0;
        for row in &before.rows {
            let Some(workload) = before.workload(&row.workload) else {
                continue;
            };
            let other = after.row(&row.workload, &row.target);
            let comparable = after
                .workload(&row.workload)
                .is_none_or(|other| same(workload, other));
            if !comparable {
                let what = format!("definition of {}", row.workload);
                if !differences.iter().any(|difference| difference.what == what) {
                    differences.push(Difference {
                        what,
                        before: definition(Some(workload)),
                        after: definition(after.workload(&row.workload)),
                        forbids: true,
                    });
                }
                continue;
            }
            match (has(Some(row)), has(other)) {
                (Some(_), Some(other)) => {
                    best = best.min(stats::smallest_p(row.samples.len(), other.samples.len()));
                    changes.extend(change(workload, (before, row), (after, other)));
                }
                (Some(_), None) => lone.push(Lone::of(row, other, true)),
                (None, Some(other)) => lone.push(Lone::of(other, Some(row), false)),
                (None, None) => {}
            }
        }
        for row in &after.rows {
            if before.row(&row.workload, &row.target).is_none() && has(Some(row)).is_some() {
                lone.push(Lone::of(row, None, false));
            }
        }
        differences.sort_by_key(|difference| !difference.forbids);
        let judged: Vec<f64> = changes
            .iter()
            .filter(|c| !c.is_baseline)
            .map(|c| c.p)
            .collect();
        let (mut adjusted, factor) = match correction {
            Correction::Holm => (stats::holm(&judged).into_iter(), judged.len().max(1)),
            Correction::None => (judged.clone().into_iter(), 1),
        };
        for change in &mut changes {
            if !change.is_baseline {
                change.p_adjusted = adjusted.next().unwrap_or(1.0);
            }
            change.significant = change.p_adjusted <= alpha;
        }
        Comparison {
            differences,
            changes,
            lone,
            alpha,
            correction,
            conclusive: judged.is_empty() || best * factor as f64 <= alpha,
        }
    }

    /// The rows that are slower by more than `percent`, and not by chance.
    pub fn regressions(&self, percent: f64) -> Vec<&Change> {
        self.changes
            .iter()
            .filter(|change| {
                change.significant && !change.is_baseline && change.speed < 1.0 - percent / 100.0
            })
            .collect()
    }
}

impl Lone {
    fn of(row: &Row, other: Option<&Row>, in_first: bool) -> Lone {
        let failure = other.and_then(|other| other.failures.first());
        let reason = match (failure, other.and_then(|other| other.skipped.as_ref())) {
            (Some(failure), _) => format!("failed: {}", failure.error),
            (None, Some(reason)) => format!("skipped: {reason}"),
            (None, None) => "not measured".to_owned(),
        };
        Lone {
            workload: row.workload.clone(),
            target: row.target.clone(),
            in_first,
            reason,
            fails_now: in_first && failure.is_some(),
        }
    }
}

/// A row with figures.
fn has(row: Option<&Row>) -> Option<&Row> {
    row.filter(|row| row.samples.iter().any(|sample| sample.value.is_finite()))
}

fn change(workload: &WorkloadInfo, before: (&Run, &Row), after: (&Run, &Row)) -> Option<Change> {
    let is_baseline = before.1.target == workload.baseline;
    let values = |row: &Row| row.samples.iter().map(|s| s.value).collect::<Vec<f64>>();
    let ratios = |(run, row): (&Run, &Row)| {
        let base = run.row(&workload.name, &workload.baseline);
        let base = base
            .filter(|_| !is_baseline)
            .map_or(&[][..], |base| &base.samples);
        stats::relative_speeds(&row.samples, base, workload.better)
    };
    // The speed of a time is its inverse: what is judged is always better when it is more.
    let speeds = |row: &Row| {
        let speed = |value: &f64| paired::relative(*value, 1.0, workload.better);
        values(row).iter().filter_map(speed).collect::<Vec<f64>>()
    };
    let (ratios_before, ratios_after) = (ratios(before), ratios(after));
    let (first, second) = match ratios_before.is_empty() || ratios_after.is_empty() {
        true => (speeds(before.1), speeds(after.1)),
        false => (ratios_before.clone(), ratios_after.clone()),
    };
    let p = stats::mann_whitney(&first, &second)?;
    let estimate = stats::ratio_estimate(&first, &second, LEVEL)?;
    let (median_before, median_after) = (
        stats::median(&values(before.1))?,
        stats::median(&values(after.1))?,
    );
    let (ratio_before, ratio_after) = (stats::median(&ratios_before), stats::median(&ratios_after));
    Some(Change {
        workload: workload.name.clone(),
        target: before.1.target.clone(),
        unit: workload.unit.clone(),
        before: median_before,
        after: median_after,
        raw: median_after / median_before,
        ratio_before,
        ratio_after,
        ratio: ratio_before
            .zip(ratio_after)
            .map(|(before, after)| after / before),
        is_baseline,
        speed: estimate.value,
        interval: estimate.interval.map(|i| (i.low, i.high, i.coverage)),
        p,
        p_adjusted: p,
        significant: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::specimen;
    use crate::result::{Better, Failure};

    const STEADY: [f64; 5] = [50.0, 51.0, 49.0, 50.2, 49.8];

    fn scaled(factor: f64) -> Vec<f64> {
        STEADY.iter().map(|value| value * factor).collect()
    }

    fn compare(before: &Run, after: &Run) -> Comparison {
        Comparison::of(before, after, 0.05, Correction::Holm)
    }

    #[test]
    fn a_regression_is_found() {
        let before = specimen::run(&[("ours", &STEADY)]);
        let after = specimen::run(&[("ours", &scaled(0.8))]);
        let found = compare(&before, &after);
        assert!(found.differences.is_empty() && found.lone.is_empty() && found.conclusive);
        let ours = &found.changes[1];
        assert!((ours.raw - 0.8).abs() < 1e-9 && (ours.ratio.unwrap() - 0.8).abs() < 1e-9);
        assert!(
            ours.significant && (ours.speed - 0.8).abs() < 0.02,
            "{ours:?}"
        );
        assert!(!found.changes[0].significant);
        assert_eq!(found.regressions(10.0).len(), 1);
        assert_eq!(found.regressions(30.0).len(), 0);
        assert_eq!(compare(&after, &before).regressions(0.0).len(), 0);
    }

    #[test]
    fn drift_of_the_machine_is_no_regression() {
        let before = specimen::run(&[("ours", &STEADY)]);
        let mut after = before.clone();
        for sample in after.rows.iter_mut().flat_map(|row| &mut row.samples) {
            sample.value *= 0.5;
        }
        let found = compare(&before, &after);
        assert_eq!(found.changes[1].raw, 0.5);
        assert_eq!(found.changes[1].speed, 1.0);
        assert!(found.changes[0].significant && found.changes[0].is_baseline);
        assert!(found.regressions(0.0).is_empty());
    }

    #[test]
    fn without_a_baseline_speeds_are_judged() {
        let mut before = specimen::run(&[("ours", &STEADY)]);
        before.workloads[0].better = Better::Lower;
        before.rows.remove(0);
        let mut after = before.clone();
        for sample in &mut after.rows[0].samples {
            sample.value *= 1.5;
        }
        let found = compare(&before, &after);
        assert_eq!(found.regressions(20.0).len(), 1);
        assert_eq!(found.changes[0].ratio, None);
    }

    #[test]
    fn five_rounds_cannot_judge_many_rows() {
        let names: Vec<String> = (0..20).map(|index| format!("t{index}")).collect();
        let targets: Vec<(&str, &[f64])> = names
            .iter()
            .map(|name| (name.as_str(), &STEADY[..]))
            .collect();
        let run = specimen::run(&targets);
        assert!(!compare(&run, &run).conclusive);
        assert!(Comparison::of(&run, &run, 0.05, Correction::None).conclusive);
    }

    #[test]
    fn rows_of_one_run_have_a_reason() {
        let before = specimen::run(&[("ours", &STEADY), ("old", &STEADY)]);
        let mut after = specimen::run(&[("ours", &[]), ("new", &STEADY)]);
        after.rows[1].failures.push(Failure {
            round: 0,
            error: "input/output error".into(),
        });
        let found = compare(&before, &after);
        let lone: Vec<(&str, bool, &str, bool)> = found
            .lone
            .iter()
            .map(|l| {
                (
                    l.target.as_str(),
                    l.in_first,
                    l.reason.as_str(),
                    l.fails_now,
                )
            })
            .collect();
        assert_eq!(
            lone,
            [
                ("ours", true, "failed: input/output error", true),
                ("old", true, "not measured", false),
                ("new", false, "not measured", false),
            ]
        );
    }

    #[test]
    fn what_forbids_comes_first() {
        let before = specimen::run(&[("ours", &STEADY)]);
        let mut after = before.clone();
        after.suite = "3.0.1".into();
        after.environment.kernel = "6.19".into();
        after.environment.tools.insert("fio".into(), "3.40".into());
        after.workloads[0].unit = "MB/s".into();
        let found = compare(&before, &after);
        let what: Vec<(&str, bool)> = found
            .differences
            .iter()
            .map(|d| (d.what.as_str(), d.forbids))
            .collect();
        assert_eq!(
            what,
            [
                ("kernel", true),
                ("tool fio", true),
                ("definition of meta-create", true),
                ("suite", false),
            ]
        );
        assert!(found.changes.is_empty());
    }
}
