//! Says what is going on and how long it will take: a bar in a terminal, else a line per workload.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Plan;
use crate::job::Size;
use crate::result::Run;
use crate::stats;
use crate::workload::Workload;

/// Mounting, preparing and cleaning up, per measurement.
const OVERHEAD: Duration = Duration::from_millis(150);

/// Characters of an error that are shown meanwhile; the report has all of it.
const WIDTH: usize = 200;

/// Progress of a run.
pub struct Progress {
    bar: Option<ProgressBar>,
    size: Size,
    rounds: u32,
    workloads: usize,
    done: usize,
    /// Natively expected seconds of the measurements that are left, by target.
    left: BTreeMap<String, f64>,
    /// Seconds that were expected and that it took, by target.
    learned: BTreeMap<String, (f64, f64)>,
    begun: Instant,
}

impl Progress {
    /// Of a run that begins now.
    pub fn new(plan: &Plan) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1000);
            bar.set_style(
                ProgressStyle::with_template("{bar:30} {percent:>3}% {elapsed_precise} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        let each: f64 = plan
            .workloads
            .iter()
            .map(|workload| expected(workload.as_ref(), &plan.size))
            .sum();
        let left = plan
            .targets
            .iter()
            .map(|target| {
                let seconds: f64 = plan
                    .workloads
                    .iter()
                    .filter(|workload| workload.applies(target.kind()))
                    .map(|workload| expected(workload.as_ref(), &plan.size))
                    .sum();
                (
                    target.name().to_owned(),
                    seconds.min(each) * f64::from(plan.rounds),
                )
            })
            .collect();
        Progress {
            bar,
            size: plan.size,
            rounds: plan.rounds,
            workloads: plan.workloads.len(),
            done: 0,
            left,
            learned: BTreeMap::new(),
            begun: Instant::now(),
        }
    }

    /// What is done now.
    pub fn show(&self, what: &str, detail: &str) {
        if let Some(bar) = &self.bar {
            let total = self.begun.elapsed() + self.remaining();
            let share = self.begun.elapsed().as_secs_f64() / total.as_secs_f64().max(0.001);
            bar.set_position((share * 1000.0) as u64);
            bar.set_message(format!(
                "about {} left: {what} ({detail})",
                clock(self.remaining())
            ));
        }
    }

    /// One measurement was made.
    pub fn measured(&mut self, workload: &dyn Workload, target: &str, took: Duration) {
        let planned = expected(workload, &self.size);
        self.forget(target, planned);
        let (expected, actual) = self.learned.entry(target.to_owned()).or_default();
        *expected += planned;
        *actual += took.as_secs_f64();
    }

    /// All rounds of a workload are skipped on a target.
    pub fn skip(&mut self, workload: &dyn Workload, target: &str) {
        if self.left.contains_key(target) {
            self.forget(
                target,
                expected(workload, &self.size) * f64::from(self.rounds),
            );
        }
    }

    /// One measurement is skipped.
    pub fn skip_one(&mut self, workload: &dyn Workload, target: &str) {
        self.forget(target, expected(workload, &self.size));
    }

    /// A measurement failed.
    pub fn failed(&self, workload: &str, target: &str, error: &str) {
        let line = error.lines().next().unwrap_or_default();
        let line: String = line.chars().take(WIDTH).collect();
        self.line(&format!("  {workload} on {target} failed: {line}"));
    }

    /// A workload was measured on all targets.
    pub fn workload_done(&mut self, run: &Run, name: &str) {
        self.done += 1;
        let medians: Vec<String> = run
            .rows
            .iter()
            .filter(|row| row.workload == name && !row.samples.is_empty())
            .map(|row| {
                let values: Vec<f64> = row.samples.iter().map(|sample| sample.value).collect();
                format!(
                    "{} {}",
                    row.target,
                    Rounded(stats::median(&values).unwrap_or(f64::NAN))
                )
            })
            .collect();
        let unit = run.workload(name).map_or("", |info| info.unit.as_str());
        self.line(&format!(
            "[{}/{}] {name}: {} {unit}; about {} left",
            self.done,
            self.workloads,
            medians.join(", "),
            clock(self.remaining())
        ));
    }

    /// The end.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Estimated time until the end.
    pub fn remaining(&self) -> Duration {
        let seconds: f64 = self
            .left
            .iter()
            .map(|(target, left)| {
                let slowness = match self.learned.get(target) {
                    Some((expected, actual)) if *expected > 0.0 => actual / expected,
                    _ => self.slowness(),
                };
                left * slowness
            })
            .sum();
        Duration::from_secs_f64(seconds.max(0.0))
    }

    /// Of all targets together.
    fn slowness(&self) -> f64 {
        let (expected, actual) = self
            .learned
            .values()
            .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if expected > 0.0 {
            actual / expected
        } else {
            1.0
        }
    }

    fn forget(&mut self, target: &str, seconds: f64) {
        if let Some(left) = self.left.get_mut(target) {
            *left = (*left - seconds).max(0.0);
        }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

/// Seconds of one measurement with everything around it, natively.
fn expected(workload: &dyn Workload, size: &Size) -> f64 {
    (workload.expected(size) + OVERHEAD).as_secs_f64()
}

/// `2 h 05 min`, `12 min`, `40 s`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

/// A figure with as many digits as anybody wants to read.
struct Rounded(f64);

impl std::fmt::Display for Rounded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = match self.0.abs() {
            value if value >= 100.0 => 0,
            value if value >= 10.0 => 1,
            value if value >= 1.0 => 2,
            _ => 4,
        };
        write!(formatter, "{:.digits$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(clock(Duration::from_secs(40)), "40 s");
        assert_eq!(clock(Duration::from_secs(725)), "12 min");
        assert_eq!(clock(Duration::from_secs(7505)), "2 h 05 min");
    }

    #[test]
    fn figures_are_readable() {
        let shown: Vec<String> = [123_456.7, 12.345, 1.2345, 0.012_345]
            .iter()
            .map(|value| Rounded(*value).to_string())
            .collect();
        assert_eq!(shown, ["123457", "12.3", "1.23", "0.0123"]);
    }
}
