//! Many rows as one figure.

use crate::result::WorkloadInfo;
use crate::stats::geometric_mean;

use super::analysis::Line;

/// Geometric means of the ratios of a group.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// Name of the group.
    pub name: &'a str,
    /// Number of its workloads.
    pub workloads: usize,
    /// One for each target, in the order of the run.
    pub means: Vec<Mean<'a>>,
}

/// The mean of a target over a group.
#[derive(Clone, Debug)]
pub struct Mean<'a> {
    /// Name of the target.
    pub target: &'a str,
    /// Geometric mean of the ratios; nothing if there is none, as for the baseline.
    pub ratio: Option<f64>,
    /// Number of workloads that it is the mean of.
    pub count: usize,
    /// Number of workloads with failures.
    pub failed: usize,
}

/// One row of CNTR's table of 2018.
#[derive(Clone, Debug)]
pub struct Published<'a> {
    /// Our workload.
    pub workload: &'a WorkloadInfo,
    /// Its name in the table.
    pub name: &'a str,
    /// The overhead published there; lower is better.
    pub overhead: f64,
    /// Overheads here by target, in the order of the run: the inverse of the ratio.
    pub measured: Vec<Option<f64>>,
}

/// Groups in the order in which they were run.
pub(super) fn groups<'a>(lines: &[Line<'a>], targets: &[&'a str]) -> Vec<Group<'a>> {
    let mut names: Vec<&str> = Vec::new();
    for line in lines {
        let group = line.workload.group.as_str();
        if !names.contains(&group) {
            names.push(group);
        }
    }
    names
        .into_iter()
        .map(|name| {
            let of_group = || lines.iter().filter(move |l| l.workload.group == name);
            let means = targets.iter().map(|target| {
                let of_target = || of_group().filter(move |line| line.target == *target);
                let ratios: Vec<f64> = of_target().filter_map(Line::ratio).collect();
                Mean {
                    target,
                    ratio: geometric_mean(&ratios),
                    count: ratios.len(),
                    failed: of_target().filter(|line| !line.failures.is_empty()).count(),
                }
            });
            Group {
                name,
                workloads: of_group().count() / targets.len().max(1),
                means: means.collect(),
            }
        })
        .collect()
}

pub(super) fn published<'a>(lines: &[Line<'a>], targets: &[&'a str]) -> Vec<Published<'a>> {
    lines
        .chunks(targets.len().max(1))
        .filter_map(|of_workload| {
            let workload = of_workload.first()?.workload;
            let (name, overhead) = workload.cntr_2018.as_ref()?;
            Some(Published {
                workload,
                name,
                overhead: *overhead,
                measured: of_workload
                    .iter()
                    .map(|line| line.ratio().map(|ratio| 1.0 / ratio))
                    .collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::report::{Analysis, specimen};
    use crate::result::{Better, Failure};

    #[test]
    fn a_mean_says_of_how_many() {
        let mut run = specimen::run(&[("ours", &[50.0])]);
        run.rows[0].samples.truncate(1);
        run.workloads.push(specimen::workload(
            "meta-open",
            "metadata",
            "s",
            Better::Lower,
        ));
        run.workloads[1].cntr_2018 = Some(("Postmark".into(), 7.1));
        run.rows.push(specimen::row("meta-open", "native", &[2.0]));
        run.rows.push(specimen::row("meta-open", "ours", &[16.0]));
        run.workloads.push(specimen::workload(
            "meta-bad",
            "metadata",
            "s",
            Better::Lower,
        ));
        run.rows.push(specimen::row("meta-bad", "ours", &[]));
        run.rows[4].failures.push(Failure {
            round: 0,
            error: "no".into(),
        });
        let analysis = Analysis::of(&run);
        assert_eq!(analysis.groups.len(), 1);
        let group = &analysis.groups[0];
        assert_eq!(group.workloads, 3);
        assert_eq!(group.means[0].ratio, None);
        let ours = &group.means[1];
        assert!((ours.ratio.unwrap() - 0.25).abs() < 1e-12);
        assert_eq!((ours.count, ours.failed), (2, 1));
        assert_eq!(analysis.published.len(), 1);
        assert_eq!(analysis.published[0].measured, [None, Some(8.0)]);
    }
}
