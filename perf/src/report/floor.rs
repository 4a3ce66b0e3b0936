//! The physical limit of an uncached operation: a round trip to a server that does nothing, plus the native operation. Where
//! it was measured, what the minimal server takes is nearer to what can be reached.

use crate::result::{Run, Sample, WorkloadInfo};
use crate::stats::{self, median};

use super::figure::time_unit;

/// Name of the workload that measures the null round trip with one client.
const ALONE: &str = "null-round-trip";

/// The same with two clients.
const TOGETHER: &str = "null-round-trip-2c";

/// Operations that the kernel answers from its caches: no round trip is needed.
const CACHED: [&str; 2] = ["meta-stat", "meta-fstat"];

/// Our engine, with its default options.
const OURS: &str = "cntr";

/// The minimal server.
const MINIMAL: &str = "minimal";

/// The null round trip of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Floor {
    /// Nanoseconds with one client.
    pub alone: Option<f64>,
    /// Nanoseconds per operation with two clients.
    pub together: Option<f64>,
}

impl Floor {
    pub(super) fn of(run: &Run) -> Floor {
        let measured = |name: &str| {
            let workload = run.workload(name)?;
            let row = run
                .row(name, &workload.baseline)
                .filter(|row| !row.samples.is_empty())
                .or_else(|| {
                    run.rows
                        .iter()
                        .find(|r| r.workload == name && !r.samples.is_empty())
                })?;
            let values: Vec<f64> = row.samples.iter().map(|sample| sample.value).collect();
            nanoseconds(&workload.unit, median(&values)?)
        };
        Floor {
            alone: measured(ALONE),
            together: measured(TOGETHER),
        }
    }

    /// Time per operation at `value`, divided by the sum of the null round trip and the native time; for uncached
    /// metadata only. With two clients and more the null round trip is that of two clients.
    pub fn multiple(&self, workload: &WorkloadInfo, value: f64, native: f64) -> Option<f64> {
        if !asks(workload) {
            return None;
        }
        let null = match workload.clients {
            0 | 1 => self.alone?,
            _ => self.together?,
        };
        let limit = null + nanoseconds(&workload.unit, native)?;
        Some(nanoseconds(&workload.unit, value)? / limit)
    }
}

/// Time of our engine divided by that of the minimal server, the median of the rounds that have both; for uncached
/// metadata only.
pub fn beside_minimal(run: &Run, workload: &WorkloadInfo) -> Option<f64> {
    let samples = |target| -> Option<&[Sample]> { Some(&run.row(&workload.name, target)?.samples) };
    let (minimal, ours) = (samples(MINIMAL)?, samples(OURS)?);
    let times = stats::relative_speeds(minimal, ours, workload.better);
    median(&times).filter(|_| asks(workload))
}

/// Whether each operation has to ask the server.
fn asks(workload: &WorkloadInfo) -> bool {
    let name = workload.name.as_str();
    let cached = CACHED.iter().any(|cached| {
        name.strip_prefix(cached)
            .is_some_and(|rest| rest.is_empty() || clients(rest))
    });
    workload.group == "metadata" && name.starts_with("meta-") && !cached
}

/// Whether the end of a name only says the number of clients: `-2c`, `-8`.
fn clients(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|number| {
        let digits = number.strip_suffix('c').unwrap_or(number);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Nanoseconds per operation of a figure that is a rate of operations or a time per operation.
fn nanoseconds(unit: &str, value: f64) -> Option<f64> {
    let nanoseconds = match unit.rsplit_once('/') {
        Some((what, "s")) => match what {
            "B" | "kB" | "KB" | "MB" | "GB" | "KiB" | "MiB" | "GiB" | "bytes" => return None,
            _ => 1e9 / value,
        },
        Some((time, _)) => time_unit(time)? * 1e9 * value,
        None => time_unit(unit)? * 1e9 * value,
    };
    (nanoseconds > 0.0 && nanoseconds.is_finite()).then_some(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Analysis, specimen};
    use crate::result::Better;

    #[test]
    fn rates_and_times() {
        assert_eq!(nanoseconds("op/s", 1e5), Some(1e4));
        assert_eq!(nanoseconds("us/op", 12.0), Some(12_000.0));
        assert_eq!(nanoseconds("ns", 5.0), Some(5.0));
        assert_eq!(nanoseconds("MB/s", 5.0), None);
        assert_eq!(nanoseconds("op/s", 0.0), None);
        assert_eq!(nanoseconds("bytes", 1.0), None);
    }

    #[test]
    fn a_multiple_of_the_limit() {
        // Native 10 us, null round trip 10 us: 40 us are twice the limit.
        let mut run = specimen::run(&[("ours", &[25_000.0; 5])]);
        run.rows[0] = specimen::row("meta-create", "native", &[100_000.0; 5]);
        run.workloads
            .push(specimen::workload(ALONE, "limit", "op/s", Better::Higher));
        run.rows.push(specimen::row(ALONE, "native", &[100_000.0]));
        let analysis = Analysis::of(&run);
        let multiple = |target| {
            let line = analysis.line("meta-create", target).unwrap();
            line.figures.as_ref().unwrap().floor_multiple
        };
        assert_eq!(multiple("ours"), Some(2.0));
        assert_eq!(multiple("native"), None);
        assert_eq!(analysis.floor.together, None);
    }

    #[test]
    fn ours_beside_the_minimal_server() {
        let ours = [40.0, 50.0, 25.0];
        let mut run = specimen::run(&[("cntr", &ours), ("minimal", &[50.0; 3])]);
        let beside = |run: &Run| beside_minimal(run, &run.workloads[0]);
        // 1.25, 1 and 2 times as long.
        assert_eq!(beside(&run), Some(1.25));
        run.workloads[0].better = Better::Lower;
        assert_eq!(beside(&run), Some(0.8), "values that are times");
        run.workloads[0].name = "meta-stat".to_owned();
        for row in &mut run.rows {
            row.workload = "meta-stat".to_owned();
        }
        assert_eq!(beside(&run), None, "cached");
        let alone = specimen::run(&[("cntr", &ours)]);
        assert_eq!(beside(&alone), None);
    }

    #[test]
    fn only_what_needs_a_round_trip() {
        let floor = Floor {
            alone: Some(10_000.0),
            together: Some(6_000.0),
        };
        let multiple = |name: &str, group: &str, clients: u32| {
            let mut workload = specimen::workload(name, group, "op/s", Better::Higher);
            workload.clients = clients;
            floor.multiple(&workload, 50_000.0, 1e9 / 4000.0)
        };
        assert_eq!(multiple("meta-open", "metadata", 2), Some(2.0));
        assert_eq!(multiple("meta-stat", "metadata", 1), None);
        assert_eq!(multiple("meta-stat-2c", "metadata", 2), None);
        assert!(multiple("meta-stat-cold", "metadata", 1).is_some());
        assert_eq!(multiple("meta-open", "scaling", 1), None);
        assert_eq!(multiple("walk", "metadata", 1), None);
    }
}
