//! The tables of a report.

use crate::stats::{Estimate, Interval};

use super::analysis::{Absent, Analysis, Line};
use super::figure;
use super::floor;
use super::mark;
use super::sheet::{Cell, Sheet, Tone};
use super::summary::Group;

/// Workloads of a group against targets: the baseline's figure, and the ratios of the others. Ends with the means.
pub fn matrix(analysis: &Analysis<'_>, group: &Group<'_>) -> Sheet {
    let workloads: Vec<_> = analysis.workloads(group.name).collect();
    let mut baselines: Vec<&str> = workloads.iter().map(|w| w.baseline.as_str()).collect();
    baselines.dedup();
    let common = (baselines.len() == 1).then(|| baselines[0]);
    let mut sheet = Sheet::new(&["workload"]);
    sheet.column(common.unwrap_or("baseline"), true);
    // A target that was not tried in all of the group has no column; the reason is told once, in its own table.
    let shown: Vec<usize> = (0..analysis.targets.len())
        .filter(|index| Some(analysis.targets[*index]) != common)
        .filter(|index| {
            lines(analysis, group.name)
                .any(|line| line.target == analysis.targets[*index] && line.absent.is_none())
        })
        .collect();
    for index in &shown {
        sheet.column(analysis.targets[*index], true);
    }
    for workload in workloads {
        let base = analysis.line(&workload.name, &workload.baseline);
        let base = match base {
            Some(line) => mark::cell(line),
            None => Cell::none(),
        };
        let cells = shown.iter().filter_map(|index| {
            let line = analysis.line(&workload.name, analysis.targets[*index])?;
            Some(if line.is_baseline() {
                Cell::new("1.00").tone(Tone::Muted)
            } else {
                mark::cell(line)
            })
        });
        sheet.row([Cell::new(&workload.name), base].into_iter().chain(cells));
    }
    if group.means.iter().any(|mean| mean.count > 1) {
        let means = shown.iter().map(|index| {
            let mean = &group.means[*index];
            Cell::maybe(mean.ratio.map(figure::ratio))
        });
        sheet.row(
            [Cell::new("geometric mean"), Cell::new("")]
                .into_iter()
                .chain(means),
        );
        let counts = shown.iter().map(|index| {
            let mean = &group.means[*index];
            Cell::new(format!("{} of {}", mean.count, group.workloads)).tone(Tone::Muted)
        });
        sheet.row(
            [Cell::new("  of workloads"), Cell::new("")]
                .into_iter()
                .chain(counts),
        );
    }
    sheet
}

/// Geometric means of all groups by target.
pub fn summary(analysis: &Analysis<'_>) -> Sheet {
    let mut sheet = Sheet::new(&["group"]);
    for target in &analysis.targets {
        sheet.column(target, true);
    }
    for group in analysis
        .groups
        .iter()
        .filter(|g| g.means.iter().any(|m| m.ratio.is_some()))
    {
        let means = group.means.iter().map(|mean| match mean.ratio {
            None => Cell::none(),
            Some(ratio) => Cell::new(format!(
                "{} ({} of {})",
                figure::ratio(ratio),
                mean.count,
                group.workloads
            )),
        });
        sheet.row([Cell::new(group.name)].into_iter().chain(means));
    }
    sheet
}

/// All figures of a group, one row for each line.
pub fn figures(analysis: &Analysis<'_>, group: &str) -> Sheet {
    let mut sheet = Sheet::new(&[
        "workload",
        "target",
        "#median",
        "#interval",
        "#rounds",
        "#ratio",
        "#interval of ratio",
        "remarks",
    ]);
    for line in lines(analysis, group) {
        let name = Cell::new(&line.workload.name);
        let target = Cell::new(line.target);
        let unit = line.workload.unit.as_str();
        let Some(figures) = &line.figures else {
            let reason = match line.absent {
                Some(absent) => Cell::new(absent.reason()).tone(Tone::Muted),
                None => Cell::new("failed, see below").tone(Tone::Bad),
            };
            let empty = std::iter::repeat_with(Cell::none).take(5);
            sheet.row([name, target].into_iter().chain(empty).chain([reason]));
            continue;
        };
        let ratio = figures.ratio;
        let ratio_cell = match ratio {
            _ if line.is_baseline() => Cell::new("1").tone(Tone::Muted),
            Some(ratio) => Cell::new(figure::ratio(ratio.value)).tone(mark::tone(line)),
            None => Cell::none(),
        };
        sheet.row([
            name,
            target,
            Cell::new(figure::with_unit(figures.value.value, unit)),
            Cell::maybe(interval(figures.value, |value| {
                figure::with_unit(value, unit)
            })),
            Cell::new(figures.value.count.to_string()),
            ratio_cell,
            Cell::maybe(ratio.and_then(|ratio| interval(ratio, figure::ratio))),
            Cell::new(line.remarks().join("; ")),
        ]);
    }
    sheet
}

/// CPU time and context switches of a group; nothing if none were metered.
pub fn costs(analysis: &Analysis<'_>, group: &str) -> Option<Sheet> {
    let mut sheet = Sheet::new(&[
        "workload",
        "target",
        "#CPU time",
        "#x baseline",
        "#of it the server",
        "#switches",
        "#x baseline",
        "#of them the server's",
    ]);
    for line in lines(analysis, group) {
        let Some(cost) = line
            .figures
            .as_ref()
            .and_then(|figures| figures.cost.as_ref())
        else {
            continue;
        };
        let per = &cost.per;
        let count = |value: f64| format!("{} /{per}", figure::number(value));
        sheet.row([
            Cell::new(&line.workload.name),
            Cell::new(line.target),
            Cell::new(format!("{} /{per}", figure::seconds(cost.total))),
            multiple(line, cost.relative),
            Cell::maybe(
                cost.server
                    .map(|server| format!("{} /{per}", figure::seconds(server))),
            ),
            Cell::new(count(cost.switches)),
            multiple(line, cost.switches_relative),
            Cell::maybe(cost.switches_server.map(count)),
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

fn multiple(line: &Line<'_>, value: Option<f64>) -> Cell {
    if line.is_baseline() {
        return Cell::new("1").tone(Tone::Muted);
    }
    Cell::maybe(value.map(figure::ratio))
}

/// Latencies of a group; nothing if none were recorded.
pub fn latencies(analysis: &Analysis<'_>, group: &str) -> Option<Sheet> {
    let mut sheet = Sheet::new(&[
        "workload",
        "target",
        "#operations",
        "#mean",
        "#p50",
        "#p99",
        "#p99.9",
        "#max",
        "source",
    ]);
    for line in lines(analysis, group) {
        let Some(latency) = line
            .figures
            .as_ref()
            .and_then(|figures| figures.latency.as_ref())
        else {
            continue;
        };
        let time = |nanoseconds: f64| Cell::new(figure::seconds(nanoseconds / 1e9));
        sheet.row([
            Cell::new(&line.workload.name),
            Cell::new(line.target),
            Cell::new(figure::number(latency.count as f64)),
            time(latency.mean),
            time(latency.p50),
            time(latency.p99),
            time(latency.p999),
            time(latency.max),
            Cell::new(match latency.histogram {
                Some(_) => "histogram of all rounds",
                None => "medians of the rounds' quantiles",
            }),
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

/// Further figures of all lines; nothing if there are none.
pub fn extras(analysis: &Analysis<'_>) -> Option<Sheet> {
    let mut sheet = Sheet::new(&["workload", "target", "figure", "#median"]);
    for line in &analysis.lines {
        for (name, value) in line.figures.iter().flat_map(|figures| &figures.extra) {
            let value = match name.ends_with("_bytes") {
                true => figure::bytes(*value),
                false => figure::number(*value),
            };
            sheet.words([line.workload.name.as_str(), line.target, name, &value]);
        }
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

/// CNTR's table of 2018 beside ours; nothing if no workload repeats a row of it.
pub fn published(analysis: &Analysis<'_>) -> Option<Sheet> {
    let mut sheet = Sheet::new(&["row of the table", "workload", "#published 2018"]);
    let with_ratio: Vec<usize> = (0..analysis.targets.len())
        .filter(|index| {
            analysis
                .published
                .iter()
                .any(|row| row.measured[*index].is_some())
        })
        .collect();
    for index in &with_ratio {
        sheet.column(analysis.targets[*index], true);
    }
    for row in &analysis.published {
        let measured = with_ratio.iter().map(|index| {
            let overhead = row.measured[*index];
            Cell::maybe(overhead.map(figure::ratio)).tone(match overhead {
                None => Tone::Muted,
                Some(overhead) if overhead > row.overhead => Tone::Worse,
                Some(_) => Tone::Plain,
            })
        });
        sheet.row(
            [
                Cell::new(row.name),
                Cell::new(&row.workload.name),
                Cell::new(figure::ratio(row.overhead)),
            ]
            .into_iter()
            .chain(measured),
        );
    }
    (!sheet.rows.is_empty() && !with_ratio.is_empty()).then_some(sheet)
}

/// Uncached metadata as multiples of null round trip plus native operation, and our engine's of the minimal server; nothing if
/// neither was measured.
pub fn floor(analysis: &Analysis<'_>) -> Option<Sheet> {
    let has = |line: &Line<'_>| {
        line.figures
            .as_ref()
            .and_then(|figures| figures.floor_multiple)
    };
    let targets: Vec<&str> = analysis
        .targets
        .iter()
        .copied()
        .filter(|target| {
            analysis
                .lines
                .iter()
                .any(|l| l.target == *target && has(l).is_some())
        })
        .collect();
    let mut sheet = Sheet::new(&["workload", "#clients"]);
    for target in &targets {
        sheet.column(target, true);
    }
    let minimal = |workload| floor::beside_minimal(analysis.run, workload);
    let beside = analysis.run.workloads.iter().any(|w| minimal(w).is_some());
    if beside {
        sheet.column("cntr / minimal", true);
    }
    for workload in &analysis.run.workloads {
        let cells: Vec<Option<f64>> = targets
            .iter()
            .map(|target| analysis.line(&workload.name, target).and_then(has))
            .chain(beside.then(|| minimal(workload)))
            .collect();
        if cells.iter().any(Option::is_some) {
            let names = [
                Cell::new(&workload.name),
                Cell::new(workload.clients.to_string()),
            ];
            let cells = cells
                .into_iter()
                .map(|cell| Cell::maybe(cell.map(figure::ratio)));
            sheet.row(names.into_iter().chain(cells));
        }
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

/// The rows that want a reason, the slowest first, with it; nothing if there are none.
pub fn flagged(analysis: &Analysis<'_>) -> Option<Sheet> {
    reasons(&analysis.flagged())
}

/// Of every target the rows in which it is slowest, as many as `each`; nothing if no row is flagged as slower.
pub fn worst(analysis: &Analysis<'_>, each: usize) -> Option<Sheet> {
    let flagged = analysis.flagged();
    let of_target = |target: &'_ str| {
        let slower = |line: &&&Line<'_>| line.target == target && line.ratio() < Some(1.0);
        flagged
            .iter()
            .filter(slower)
            .take(each)
            .copied()
            .collect::<Vec<&Line<'_>>>()
    };
    let lines: Vec<&Line<'_>> = analysis
        .targets
        .iter()
        .flat_map(|target| of_target(target))
        .collect();
    reasons(&lines)
}

fn reasons(lines: &[&Line<'_>]) -> Option<Sheet> {
    let mut sheet = Sheet::new(&["workload", "target", "#ratio", "#interval", "explanation"]);
    for line in lines {
        let Some(ratio) = line.figures.as_ref().and_then(|figures| figures.ratio) else {
            continue;
        };
        sheet.row([
            Cell::new(&line.workload.name),
            Cell::new(line.target),
            Cell::new(figure::ratio(ratio.value)).tone(mark::tone(line)),
            Cell::maybe(interval(ratio, figure::ratio)),
            match line.explanation {
                Some(text) => Cell::new(text),
                None => Cell::new("unexplained").tone(Tone::Bad),
            },
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

/// What failed; nothing if nothing did. Rounds with the same error are one row.
pub fn failures(analysis: &Analysis<'_>) -> Option<Sheet> {
    let mut sheet = Sheet::new(&["workload", "target", "rounds", "error"]);
    for line in analysis.failed() {
        let mut errors: Vec<(&str, Vec<String>)> = Vec::new();
        for failure in line.failures {
            let round = (failure.round + 1).to_string();
            match errors.iter_mut().find(|(error, _)| *error == failure.error) {
                Some((_, rounds)) => rounds.push(round),
                None => errors.push((&failure.error, vec![round])),
            }
        }
        for (error, rounds) in errors {
            sheet.row([
                Cell::new(&line.workload.name),
                Cell::new(line.target),
                Cell::new(rounds.join(", ")),
                Cell::new(error).tone(Tone::Bad),
            ]);
        }
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

/// What was not tried, workloads with the same reason on the same targets in one row; nothing if everything was tried.
pub fn absent(analysis: &Analysis<'_>) -> Option<Sheet> {
    struct Same<'a> {
        reason: Absent<'a>,
        targets: Vec<&'a str>,
        workloads: Vec<&'a str>,
    }
    let mut all: Vec<Same<'_>> = Vec::new();
    for of_workload in analysis.lines.chunks(analysis.targets.len().max(1)) {
        let mut reasons: Vec<Same<'_>> = Vec::new();
        for line in of_workload {
            let Some(reason) = line.absent else { continue };
            match reasons.iter_mut().find(|same| same.reason == reason) {
                Some(same) => same.targets.push(line.target),
                None => reasons.push(Same {
                    reason,
                    targets: vec![line.target],
                    workloads: vec![&line.workload.name],
                }),
            }
        }
        for new in reasons {
            match all
                .iter_mut()
                .find(|same| same.reason == new.reason && same.targets == new.targets)
            {
                Some(same) => same.workloads.extend(new.workloads),
                None => all.push(new),
            }
        }
    }
    let names = |names: &[&str], of: usize, what: &str| match names.len() == of && of > 3 {
        true => format!("all {what}"),
        false => names.join(", "),
    };
    let mut sheet = Sheet::new(&["reason", "workloads", "targets"]);
    for same in all {
        sheet.words([
            same.reason.reason(),
            names(&same.workloads, analysis.run.workloads.len(), "workloads"),
            names(&same.targets, analysis.targets.len(), "targets"),
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

fn lines<'b, 'a>(analysis: &'b Analysis<'a>, group: &'b str) -> impl Iterator<Item = &'b Line<'a>> {
    analysis
        .lines
        .iter()
        .filter(move |line| line.workload.group == group)
}

/// `0.93 to 0.97`; `0.93 to 0.97 (75 %)` where it covers less than 90 %.
fn interval(estimate: Estimate, show: impl Fn(f64) -> String) -> Option<String> {
    let Interval {
        low,
        high,
        coverage,
    } = estimate.interval?;
    let ends = format!("{} to {}", show(low), show(high));
    Some(match coverage < 0.9 {
        true => format!("{ends} ({:.0} %)", coverage * 100.0),
        false => ends,
    })
}
