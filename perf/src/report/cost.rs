//! What a unit of work costs in CPU time and context switches.

use crate::result::{Better, Sample, WorkloadInfo};
use crate::stats::median;

/// The unit of work that costs are given for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Per {
    /// One counted operation.
    Operation,
    /// One unit of the workload's rate: `MB` of `MB/s`.
    Unit(String),
    /// The whole measurement.
    Run,
}

impl std::fmt::Display for Per {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Per::Operation => f.write_str("op"),
            Per::Unit(unit) => f.write_str(unit),
            Per::Run => f.write_str("run"),
        }
    }
}

/// Costs of one unit of work: medians over the rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// The unit of work.
    pub per: Per,
    /// CPU seconds of all of the machine.
    pub total: f64,
    /// CPU seconds of the server, where it is known.
    pub server: Option<f64>,
    /// Context switches of all of the machine.
    pub switches: f64,
    /// Context switches of the server's threads.
    pub switches_server: Option<f64>,
    /// `total` as a multiple of the baseline's, from samples of the same round.
    pub relative: Option<f64>,
    /// `switches` as a multiple of the baseline's.
    pub switches_relative: Option<f64>,
}

impl Cost {
    /// Of the samples of a row; nothing if there are none or their work cannot be counted.
    pub fn of(workload: &WorkloadInfo, samples: &[Sample], baseline: &[Sample]) -> Option<Cost> {
        let per = per(workload, samples)?;
        let each = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            let values: Vec<f64> = samples
                .iter()
                .filter_map(|sample| Some(figure(sample)? / work(&per, sample)?))
                .collect();
            median(&values)
        };
        let cpu = |sample: &Sample| Some(sample.usage.cpu_total);
        let switches = |sample: &Sample| Some(sample.usage.switches_total as f64);
        let same_unit = self::per(workload, baseline).as_ref() == Some(&per);
        let relative = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            let values: Vec<f64> = samples
                .iter()
                .filter_map(|sample| {
                    let base = baseline.iter().find(|base| base.round == sample.round)?;
                    let ours = figure(sample)? / work(&per, sample)?;
                    let theirs = figure(base)? / work(&per, base)?;
                    (theirs > 0.0).then_some(ours / theirs)
                })
                .collect();
            median(&values).filter(|_| same_unit)
        };
        Some(Cost {
            total: each(&cpu)?,
            server: each(&|sample| sample.usage.cpu_server),
            switches: each(&switches)?,
            switches_server: each(&|sample| sample.usage.switches_server.map(|n| n as f64)),
            relative: relative(&cpu),
            switches_relative: relative(&switches),
            per,
        })
    }

    /// The server's share of `relative`.
    pub fn relative_server(&self) -> Option<f64> {
        let share = self.server? / self.total;
        share
            .is_finite()
            .then_some(self.relative? * share.clamp(0.0, 1.0))
    }
}

fn per(workload: &WorkloadInfo, samples: &[Sample]) -> Option<Per> {
    if samples.is_empty() {
        return None;
    }
    if samples.iter().all(|sample| sample.operations > Some(0.0)) {
        return Some(Per::Operation);
    }
    Some(match workload.unit.strip_suffix("/s") {
        Some(unit) if workload.better == Better::Higher => Per::Unit(unit.to_owned()),
        _ => Per::Run,
    })
}

/// Units of work in a sample.
fn work(per: &Per, sample: &Sample) -> Option<f64> {
    let work = match per {
        Per::Operation => sample.operations?,
        Per::Unit(_) => sample.value * sample.usage.seconds,
        Per::Run => 1.0,
    };
    (work > 0.0 && work.is_finite()).then_some(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::specimen;
    use crate::result::Usage;

    fn sample(round: u32, value: f64, operations: Option<f64>, cpu: f64) -> Sample {
        Sample {
            round,
            position: 0,
            value,
            operations,
            usage: Usage {
                seconds: 2.0,
                cpu_total: cpu,
                cpu_stolen: 0.0,
                cpu_server: Some(cpu / 4.0),
                switches_total: 1000,
                switches_server: None,
            },
            took: 1.0,
            latency: None,
            extra: Default::default(),
        }
    }

    #[test]
    fn per_operation_where_they_are_counted() {
        let workload = specimen::workload("w", "metadata", "op/s", Better::Higher);
        let native = [
            sample(0, 9.0, Some(100.0), 1.0),
            sample(1, 9.0, Some(100.0), 2.0),
        ];
        let ours = [
            sample(0, 9.0, Some(50.0), 1.0),
            sample(1, 9.0, Some(100.0), 6.0),
        ];
        let cost = Cost::of(&workload, &ours, &native).unwrap();
        assert_eq!(cost.per, Per::Operation);
        assert_eq!(cost.total, 0.04);
        assert_eq!(cost.server, Some(0.01));
        assert_eq!(cost.relative, Some(2.5));
        assert_eq!(cost.relative_server(), Some(0.625));
        assert_eq!(cost.switches, 15.0);
        assert_eq!(cost.switches_server, None);
    }

    #[test]
    fn per_megabyte_and_per_run_where_not() {
        let rate = specimen::workload("w", "data", "MB/s", Better::Higher);
        let samples = [sample(0, 500.0, None, 1.0)];
        let cost = Cost::of(&rate, &samples, &[]).unwrap();
        assert_eq!((cost.per, cost.total), (Per::Unit("MB".into()), 0.001));
        assert_eq!(cost.relative, None);
        let time = specimen::workload("w", "trees", "s", Better::Lower);
        let cost = Cost::of(&time, &samples, &samples).unwrap();
        assert_eq!((cost.per, cost.total), (Per::Run, 1.0));
        assert_eq!(cost.relative, Some(1.0));
        assert_eq!(Cost::of(&time, &[], &samples), None);
    }
}
