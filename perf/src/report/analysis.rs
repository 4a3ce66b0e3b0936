//! What a run says: one line for every workload on every target.

use crate::result::{Failure, Row, Run, Sample, State, WorkloadInfo};
use crate::stats::{self, Estimate, LEVEL};

use super::cost::Cost;
use super::explain;
use super::floor::Floor;
use super::latency::Latencies;
use super::summary::{self, Group, Published};

/// Below this ratio a row is slower than its baseline.
pub const SLOWER: f64 = 0.95;

/// Above this ratio a row is faster than its baseline.
pub const FASTER: f64 = 1.05;

/// Share of the CPU time beyond which what the hypervisor takes is said, 0 to 1.
pub const STOLEN: f64 = 0.05;

/// Coverage that an interval needs before it can tell a difference from chance.
const ENOUGH: f64 = 0.9;

/// What a run says.
#[derive(Clone, Debug)]
pub struct Analysis<'a> {
    /// The run.
    pub run: &'a Run,
    /// Names of the targets, in the order of the run.
    pub targets: Vec<&'a str>,
    /// Every workload on every target, by workload and then by target. None is missing.
    pub lines: Vec<Line<'a>>,
    /// Geometric means by group.
    pub groups: Vec<Group<'a>>,
    /// The rows of CNTR's table of 2018.
    pub published: Vec<Published<'a>>,
    /// The null round trip, if it was measured.
    pub floor: Floor,
}

/// One workload on one target.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// The workload.
    pub workload: &'a WorkloadInfo,
    /// Name of the target.
    pub target: &'a str,
    /// What was measured.
    pub figures: Option<Figures>,
    /// The rounds that failed.
    pub failures: &'a [Failure],
    /// Why there are no figures, where it is not because of failures.
    pub absent: Option<Absent<'a>>,
    /// The explanation that matches.
    pub explanation: Option<&'a str>,
}

/// Why a line was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent<'a> {
    /// It was skipped.
    Skipped(&'a str),
    /// The target could not be used at all.
    Unavailable(&'a str),
    /// The run ended before.
    NotReached,
}

impl Absent<'_> {
    /// The reason in words.
    pub fn reason(&self) -> String {
        match self {
            Absent::Skipped(reason) => format!("skipped: {reason}"),
            Absent::Unavailable(reason) => format!("target not available: {reason}"),
            Absent::NotReached => "not measured: the run ended before".to_owned(),
        }
    }
}

/// The figures of a line.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Median in the workload's unit, and its interval.
    pub value: Estimate,
    /// Speed relative to the baseline, from samples of the same round; above 1 is better. None for the baseline itself.
    pub ratio: Option<Estimate>,
    /// Whether the ratio is out of the band around 1.
    pub flag: Option<Flag>,
    /// Whether the ratio's interval tells it from 1.
    pub certainty: Option<Certainty>,
    /// Rounds far from the others.
    pub outliers: Vec<FarRound>,
    /// What the hypervisor took, if that was much.
    pub stolen: Option<Stolen>,
    /// Latencies of single operations.
    pub latency: Option<Latencies>,
    /// CPU time and context switches for a unit of work.
    pub cost: Option<Cost>,
    /// Time per operation as a multiple of null round trip plus native operation.
    pub floor_multiple: Option<f64>,
    /// Medians of the further figures.
    pub extra: Vec<(String, f64)>,
}

/// CPU time that the hypervisor gave to others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stolen {
    /// Rounds that lost more than [`STOLEN`].
    pub rounds: usize,
    /// Largest share of the time that the machine wanted to run, 0 to 1.
    pub most: f64,
}

impl Stolen {
    fn of(samples: &[Sample]) -> Option<Stolen> {
        let share = |sample: &Sample| {
            let wanted = sample.usage.cpu_total + sample.usage.cpu_stolen;
            if wanted > 0.0 {
                sample.usage.cpu_stolen / wanted
            } else {
                0.0
            }
        };
        let shares: Vec<f64> = samples.iter().map(share).collect();
        let rounds = shares.iter().filter(|share| **share > STOLEN).count();
        (rounds > 0).then(|| Stolen {
            rounds,
            most: shares.into_iter().fold(0.0, f64::max),
        })
    }
}

/// A ratio out of the band around 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Below [`SLOWER`].
    Slower,
    /// Above [`FASTER`].
    Faster,
}

/// What the interval of a ratio can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The interval does not hold 1.
    Significant,
    /// The interval holds 1: it may be chance.
    NotSignificant,
    /// The rounds are too few for an interval that means something.
    TooFewRounds,
}

/// A sample far from the others of its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FarRound {
    /// Its round.
    pub round: u32,
    /// Its value.
    pub value: f64,
    /// Its modified z-score.
    pub score: f64,
}

impl<'a> Analysis<'a> {
    /// Of a run.
    pub fn of(run: &'a Run) -> Analysis<'a> {
        let mut targets: Vec<&str> = run.targets.iter().map(|t| t.name.as_str()).collect();
        for row in &run.rows {
            if !targets.contains(&row.target.as_str()) {
                targets.push(&row.target);
            }
        }
        let floor = Floor::of(run);
        let lines: Vec<Line<'a>> = run
            .workloads
            .iter()
            .flat_map(|workload| targets.iter().map(move |target| (workload, *target)))
            .map(|(workload, target)| Line::of(run, workload, target, &floor))
            .collect();
        Analysis {
            groups: summary::groups(&lines, &targets),
            published: summary::published(&lines, &targets),
            run,
            targets,
            lines,
            floor,
        }
    }

    /// The line of a workload on a target.
    pub fn line(&self, workload: &str, target: &str) -> Option<&Line<'a>> {
        self.lines
            .iter()
            .find(|line| line.workload.name == workload && line.target == target)
    }

    /// The workloads of a group, in the order of the run.
    pub fn workloads(&self, group: &str) -> impl Iterator<Item = &'a WorkloadInfo> {
        self.run
            .workloads
            .iter()
            .filter(move |workload| workload.group == group)
    }

    /// The lines that are flagged, certainly or too few rounds to tell, the worst first.
    pub fn flagged(&self) -> Vec<&Line<'a>> {
        let mut lines: Vec<&Line<'a>> = self.lines.iter().filter(|l| l.wants_reason()).collect();
        let ratio = |line: &Line<'_>| line.ratio().unwrap_or(1.0);
        lines.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        lines
    }

    /// The lines with failed rounds.
    pub fn failed(&self) -> impl Iterator<Item = &Line<'a>> {
        self.lines.iter().filter(|line| !line.failures.is_empty())
    }

    /// The lines that were not tried.
    pub fn absent(&self) -> impl Iterator<Item = (&Line<'a>, Absent<'a>)> {
        self.lines
            .iter()
            .filter_map(|line| Some((line, line.absent?)))
    }
}

impl<'a> Line<'a> {
    fn of(run: &'a Run, workload: &'a WorkloadInfo, target: &'a str, floor: &Floor) -> Line<'a> {
        let row = run.row(&workload.name, target);
        let baseline: &[Sample] = run
            .row(&workload.name, &workload.baseline)
            .map_or(&[], |row| &row.samples);
        let figures = row.and_then(|row| Figures::of(workload, row, baseline, floor));
        let failures: &[Failure] = row.map_or(&[], |row| &row.failures);
        let unavailable = run
            .targets
            .iter()
            .find(|info| info.name == target)
            .and_then(|info| info.unavailable.as_deref());
        let absent = match (row.and_then(|row| row.skipped.as_deref()), unavailable) {
            _ if figures.is_some() || !failures.is_empty() => None,
            (Some(reason), _) => Some(Absent::Skipped(reason)),
            (None, Some(reason)) => Some(Absent::Unavailable(reason)),
            (None, None) => Some(Absent::NotReached),
        };
        Line {
            workload,
            target,
            figures,
            failures,
            absent,
            explanation: explain::find(run, workload, target),
        }
    }

    /// Whether the target is what the others are compared with.
    pub fn is_baseline(&self) -> bool {
        self.target == self.workload.baseline
    }

    /// The ratio to the baseline.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.figures.as_ref()?.ratio?.value)
    }

    /// Whether it is flagged, and not only by chance as far as can be told.
    pub fn wants_reason(&self) -> bool {
        self.figures.as_ref().is_some_and(|figures| {
            figures.flag.is_some() && figures.certainty != Some(Certainty::NotSignificant)
        })
    }

    /// Whether it wants a reason and has none.
    pub fn unexplained(&self) -> bool {
        self.wants_reason() && self.explanation.is_none()
    }

    /// What is to be said beside the figures, in words: the explanation or that there is none, outliers, failures.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(figures) = &self.figures {
            match figures.certainty {
                Some(Certainty::NotSignificant) if figures.flag.is_some() => {
                    remarks.push("not significant".to_owned());
                }
                Some(Certainty::TooFewRounds) if figures.flag.is_some() => {
                    remarks.push("too few rounds to tell it from chance".to_owned());
                }
                _ => {}
            }
            if self.unexplained() {
                remarks.push("unexplained".to_owned());
            }
        }
        remarks.extend(self.explanation.map(str::to_owned));
        for far in self.figures.iter().flat_map(|figures| &figures.outliers) {
            remarks.push(format!(
                "round {} is an outlier: {} (z {:+.1})",
                far.round + 1,
                super::figure::with_unit(far.value, &self.workload.unit),
                far.score
            ));
        }
        if let Some(stolen) = self.figures.as_ref().and_then(|figures| figures.stolen) {
            remarks.push(format!(
                "the hypervisor took up to {:.0} % of the CPU time, much in {} rounds",
                stolen.most * 100.0,
                stolen.rounds
            ));
        }
        if self.figures.is_some() && !self.failures.is_empty() {
            remarks.push(format!("{} rounds failed", self.failures.len()));
        }
        remarks
    }
}

impl Figures {
    fn of(workload: &WorkloadInfo, row: &Row, base: &[Sample], floor: &Floor) -> Option<Figures> {
        let values: Vec<f64> = row.samples.iter().map(|sample| sample.value).collect();
        let value = stats::estimate(&values, LEVEL)?;
        let ratio = (row.target != workload.baseline)
            .then(|| stats::relative_speeds(&row.samples, base, workload.better))
            .and_then(|speeds| stats::estimate(&speeds, LEVEL));
        let flag = match ratio {
            Some(ratio) if ratio.value < SLOWER => Some(Flag::Slower),
            Some(ratio) if ratio.value > FASTER => Some(Flag::Faster),
            _ => None,
        };
        let certainty = ratio.map(|ratio| match ratio.interval {
            Some(interval) if interval.coverage < ENOUGH => Certainty::TooFewRounds,
            Some(interval) if interval.contains(1.0) => Certainty::NotSignificant,
            Some(_) => Certainty::Significant,
            None => Certainty::TooFewRounds,
        });
        let outliers = stats::outliers(&values)
            .into_iter()
            .map(|outlier| FarRound {
                round: row.samples[outlier.index].round,
                value: values[outlier.index],
                score: outlier.score,
            })
            .collect();
        let base_value = stats::median(&base.iter().map(|s| s.value).collect::<Vec<f64>>());
        Some(Figures {
            value,
            ratio,
            flag,
            certainty,
            outliers,
            stolen: Stolen::of(&row.samples),
            latency: Latencies::of(&row.samples),
            cost: Cost::of(workload, &row.samples, base),
            floor_multiple: (row.target != workload.baseline)
                .then(|| floor.multiple(workload, value.value, base_value?))
                .flatten(),
            extra: extra(&row.samples),
        })
    }
}

fn extra(samples: &[Sample]) -> Vec<(String, f64)> {
    let names: std::collections::BTreeSet<&String> = samples
        .iter()
        .flat_map(|sample| sample.extra.keys())
        .collect();
    names
        .into_iter()
        .filter_map(|name| {
            let values: Vec<f64> = samples
                .iter()
                .filter_map(|s| s.extra.get(name).copied())
                .collect();
            Some((name.clone(), stats::median(&values)?))
        })
        .collect()
}

/// How the run ended, in words, if not as planned.
pub fn incomplete(state: State) -> Option<&'static str> {
    match state {
        State::Complete => None,
        State::Running => Some("the run had not ended when this was written, or was killed"),
        State::Interrupted => Some("the run was interrupted: only what had finished is here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::specimen;

    #[test]
    fn what_the_hypervisor_took_is_said() {
        let mut run = specimen::run(&[("disturbed", &[50.0; 5])]);
        let row = run.rows.iter_mut().find(|row| row.target == "disturbed");
        let samples = &mut row.expect("a row").samples;
        samples[1].usage.cpu_stolen = samples[1].usage.cpu_total;
        samples[3].usage.cpu_stolen = samples[3].usage.cpu_total / 9.0;
        let analysis = Analysis::of(&run);
        let line = analysis.line("meta-create", "disturbed").unwrap();
        let stolen = line.figures.as_ref().unwrap().stolen.unwrap();
        assert_eq!((stolen.rounds, stolen.most), (2, 0.5));
        assert!(line.remarks().iter().any(|remark| remark.contains("50 %")));
        let native = analysis.line("meta-create", "native").unwrap();
        assert_eq!(native.figures.as_ref().unwrap().stolen, None);
    }

    #[test]
    fn flags_and_certainty() {
        let run = specimen::run(&[
            ("slow", &[50.0, 51.0, 49.0, 50.0, 50.0]),
            ("fast", &[150.0, 151.0, 149.0, 150.0, 150.0]),
            ("noisy", &[50.0, 120.0, 60.0, 70.0, 55.0]),
            ("same", &[100.0, 101.0, 99.0, 100.5, 99.5]),
            ("few", &[50.0, 51.0]),
        ]);
        let analysis = Analysis::of(&run);
        let of = |target| {
            let figures = analysis
                .line("meta-create", target)
                .unwrap()
                .figures
                .as_ref();
            let figures = figures.unwrap();
            (figures.flag, figures.certainty)
        };
        use Certainty::{NotSignificant, Significant, TooFewRounds};
        assert_eq!(of("slow"), (Some(Flag::Slower), Some(Significant)));
        assert_eq!(of("fast"), (Some(Flag::Faster), Some(Significant)));
        assert_eq!(of("noisy"), (Some(Flag::Slower), Some(NotSignificant)));
        assert_eq!(of("same"), (None, Some(NotSignificant)));
        assert_eq!(of("few"), (Some(Flag::Slower), Some(TooFewRounds)));
        assert_eq!(of("native"), (None, None));
        let flagged: Vec<&str> = analysis.flagged().iter().map(|line| line.target).collect();
        assert_eq!(flagged, ["slow", "few", "fast"]);
        let noisy = analysis.line("meta-create", "noisy").unwrap();
        assert!(noisy.remarks().contains(&"not significant".to_owned()));
        assert!(!noisy.unexplained());
        let slow = analysis.line("meta-create", "slow").unwrap();
        assert!(slow.unexplained());
        let interval = slow
            .figures
            .as_ref()
            .unwrap()
            .ratio
            .unwrap()
            .interval
            .unwrap();
        assert_eq!(interval.coverage, 0.9375);
    }

    #[test]
    fn nothing_is_a_hole() {
        let mut run = specimen::run(&[("fails", &[]), ("skips", &[])]);
        run.rows[1].failures.push(Failure {
            round: 0,
            error: "input/output error".into(),
        });
        run.rows[2].skipped = Some("fio is not installed".into());
        run.targets.push(specimen::target("gone"));
        run.targets[3].unavailable = Some("no such program".into());
        run.targets.push(specimen::target("later"));
        run.rows.push(specimen::row("meta-create", "stray", &[1.0]));
        let analysis = Analysis::of(&run);
        assert_eq!(
            analysis.targets,
            ["native", "fails", "skips", "gone", "later", "stray"]
        );
        assert_eq!(analysis.lines.len(), 6);
        let absent: Vec<_> = analysis.absent().map(|(l, why)| (l.target, why)).collect();
        assert_eq!(
            absent,
            [
                ("skips", Absent::Skipped("fio is not installed")),
                ("gone", Absent::Unavailable("no such program")),
                ("later", Absent::NotReached),
            ]
        );
        assert_eq!(analysis.failed().count(), 1);
    }

    #[test]
    fn explanations_are_found() {
        let mut run = specimen::run(&[("slow", &[50.0; 5])]);
        run.explanations
            .insert("meta-*/slow".into(), "one round trip each".into());
        let analysis = Analysis::of(&run);
        let slow = analysis.line("meta-create", "slow").unwrap();
        assert!(!slow.unexplained());
        assert_eq!(slow.remarks(), ["one round trip each"]);
    }
}
