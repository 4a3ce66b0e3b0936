//! One panel of bars for each workload: relative speeds, and CPU costs.

use crate::report::analysis::{Absent, Analysis, Certainty, Figures, Line};
use crate::report::figure;
use crate::result::WorkloadInfo;

use super::markup::{Element, el};
use super::palette;
use super::svg::{self, Scale, label, line, shortened, svg};

const WIDTH: f64 = 460.0;
const LEFT: f64 = 112.0;
const RIGHT: f64 = 402.0;
const TOP: f64 = 4.0;
const STEP: f64 = 15.0;
const BAR: f64 = 9.0;
const FOOT: f64 = 20.0;

/// Relative speeds of a group, a panel for each workload, all with the same axis.
pub fn ratios(analysis: &Analysis<'_>, group: &str, id: &str) -> Vec<Element> {
    // Never so close to 1 that small differences look large.
    let (mut low, mut high): (f64, f64) = (0.45, 2.2);
    for line in analysis
        .lines
        .iter()
        .filter(|line| line.workload.group == group)
    {
        if let Some(ratio) = line.figures.as_ref().and_then(|figures| figures.ratio) {
            let ends = ratio
                .interval
                .map_or((ratio.value, ratio.value), |i| (i.low, i.high));
            low = low.min(ends.0 * 0.9);
            high = high.max(ends.1 * 1.1);
        }
    }
    let scale = Scale::log(low.max(1e-4), high.min(1e4), LEFT, RIGHT);
    let side = |workload: &WorkloadInfo, base: &Figures| {
        Some(figure::with_unit(base.value.value, &workload.unit))
    };
    panels(analysis, group, side, |number, workload, lines| {
        let mut chart = panel(
            &format!("{id}-{number}"),
            &format!("{}: speed relative to {}", workload.name, workload.baseline),
            lines,
            &scale,
            figure::ratio,
        );
        for (line, y) in lines.iter().zip(places()) {
            chart = chart.child(ratio_bar(analysis, line, &scale, y));
        }
        chart
    })
}

/// CPU time per unit of work as multiples of the baseline's, a panel for each workload with its own axis.
pub fn costs(analysis: &Analysis<'_>, group: &str, id: &str) -> Vec<Element> {
    let side = |_: &WorkloadInfo, base: &Figures| {
        let cost = base.cost.as_ref()?;
        Some(format!("{} /{}", figure::seconds(cost.total), cost.per))
    };
    panels(analysis, group, side, |number, workload, lines| {
        let relative = |line: &Line<'_>| line.figures.as_ref()?.cost.as_ref()?.relative;
        let most = lines
            .iter()
            .filter_map(|line| relative(line))
            .fold(1.25, f64::max);
        let scale = Scale::linear(0.0, most, LEFT, RIGHT);
        let mut chart = panel(
            &format!("{id}-{number}"),
            &format!(
                "{}: CPU time relative to {}",
                workload.name, workload.baseline
            ),
            lines,
            &scale,
            figure::number,
        );
        for (line, y) in lines.iter().zip(places()) {
            chart = chart.child(cost_bar(analysis, line, &scale, y));
        }
        chart
    })
}

/// Whether it is a point of a curve, which is drawn as such.
fn on_curve(analysis: &Analysis<'_>, workload: &WorkloadInfo) -> bool {
    let Some(axis) = &workload.axis else {
        return false;
    };
    let same = |other: &&WorkloadInfo| other.axis.as_ref().is_some_and(|a| a.curve == axis.curve);
    analysis.run.workloads.iter().filter(same).count() > 1
}

fn panels(
    analysis: &Analysis<'_>,
    group: &str,
    side: fn(&WorkloadInfo, &Figures) -> Option<String>,
    draw: impl Fn(usize, &WorkloadInfo, &[&Line<'_>]) -> Element,
) -> Vec<Element> {
    analysis
        .workloads(group)
        .filter(|workload| !on_curve(analysis, workload))
        .enumerate()
        .filter_map(|(number, workload)| {
            let lines: Vec<&Line<'_>> = analysis
                .lines
                .iter()
                .filter(|line| line.workload.name == workload.name && !line.is_baseline())
                .filter(|line| !matches!(line.absent, Some(Absent::Unavailable(_))))
                .collect();
            if lines.iter().all(|line| line.ratio().is_none()) {
                return None;
            }
            let base = analysis.line(&workload.name, &workload.baseline);
            let base = base.and_then(|line| side(workload, line.figures.as_ref()?));
            let base = base.map(|value| format!("{} {value}", workload.baseline));
            let caption = el("figcaption")
                .child(el("b").text(&workload.name))
                .child(el("span").class("base").text(base.unwrap_or_default()))
                .child(el("small").text(&workload.about));
            let chart = draw(number, workload, &lines);
            Some(el("figure").child(caption).child(chart))
        })
        .collect()
}

/// Middles of the bars.
fn places() -> impl Iterator<Item = f64> {
    (0..).map(|index| TOP + STEP * (f64::from(index) + 0.5))
}

/// An empty panel with its axis.
fn panel(
    id: &str,
    title: &str,
    lines: &[&Line<'_>],
    scale: &Scale,
    show: fn(f64) -> String,
) -> Element {
    let bottom = TOP + STEP * lines.len() as f64;
    let description: Vec<String> = lines
        .iter()
        .filter_map(|line| Some(format!("{} {}", line.target, figure::ratio(line.ratio()?))))
        .collect();
    let mut chart = svg(
        id,
        WIDTH,
        bottom + FOOT,
        title,
        &format!("Speeds: {}", description.join(", ")),
    );
    for tick in scale.ticks() {
        let x = scale.at(tick);
        if (x - scale.at(1.0)).abs() > 14.0 {
            chart = chart
                .child(line("grid", (x, TOP), (x, bottom)))
                .child(label(
                    "tick",
                    "middle",
                    (x, bottom + 13.0),
                    svg::tick(&show(tick)),
                ));
        }
    }
    let one = scale.at(1.0);
    chart
        .child(line("one", (one, TOP - 2.0), (one, bottom + 3.0)))
        .child(label("tick strong", "middle", (one, bottom + 13.0), "1"))
}

fn name(line: &Line<'_>, y: f64) -> Element {
    label(
        "name",
        "end",
        (LEFT - 6.0, y + 3.5),
        shortened(line.target, 18),
    )
}

/// Why there is no bar.
fn absence(line: &Line<'_>, y: f64) -> Element {
    let (class, text) = match (line.absent, line.failures.first()) {
        (_, Some(failure)) if line.figures.is_none() => {
            ("bad", format!("failed: {}", failure.error))
        }
        (Some(absent), _) => ("muted", absent.reason()),
        _ => ("muted", "nothing to compare with".to_owned()),
    };
    label(
        class,
        "start",
        (LEFT + 6.0, y + 3.5),
        shortened(&text.replace('\n', " "), 48),
    )
}

fn bar(class: &str, from: f64, to: f64, y: f64) -> Element {
    el("rect")
        .class(class)
        .at("x", from.min(to))
        .at("y", y - BAR / 2.0)
        .at("width", (to - from).abs().max(1.0))
        .at("height", BAR)
}

fn ratio_bar(analysis: &Analysis<'_>, row: &Line<'_>, scale: &Scale, y: f64) -> Element {
    let group = el("g")
        .class(palette::class(analysis, row.target))
        .child(name(row, y));
    let Some((figures, ratio)) = row.figures.as_ref().and_then(|f| Some((f, f.ratio?))) else {
        return group.child(absence(row, y));
    };
    let mut hint = format!("{}: {}", row.target, figure::ratio(ratio.value));
    let mut group = group.child(bar("bar", scale.at(1.0), scale.at(ratio.value), y));
    if let Some(interval) = ratio.interval {
        let (low, high) = (scale.at(interval.low), scale.at(interval.high));
        group = group.child(el("path").class("whisker").attr(
            "d",
            format!(
                "M{low:.1} {0:.1}v5M{low:.1} {y:.1}H{high:.1}M{high:.1} {0:.1}v5",
                y - 2.5
            ),
        ));
        hint += &format!(
            ", interval {} to {} ({:.1} %)",
            figure::ratio(interval.low),
            figure::ratio(interval.high),
            interval.coverage * 100.0
        );
    }
    for remark in row.remarks() {
        hint += "; ";
        hint += &remark;
    }
    let doubt = figures.certainty != Some(Certainty::Significant);
    let class = if doubt { "value muted" } else { "value" };
    group
        .child(label(
            class,
            "end",
            (WIDTH - 2.0, y + 3.5),
            figure::ratio(ratio.value),
        ))
        .child(el("title").text(hint))
}

fn cost_bar(analysis: &Analysis<'_>, row: &Line<'_>, scale: &Scale, y: f64) -> Element {
    let group = el("g")
        .class(palette::class(analysis, row.target))
        .child(name(row, y));
    let Some(cost) = row
        .figures
        .as_ref()
        .and_then(|figures| figures.cost.as_ref())
    else {
        return group.child(absence(row, y));
    };
    let absolute = format!("{} /{}", figure::seconds(cost.total), cost.per);
    let Some(relative) = cost.relative else {
        let text = format!("{absolute}; nothing to compare with");
        return group.child(label("muted", "start", (LEFT + 6.0, y + 3.5), text));
    };
    let server = cost.relative_server().unwrap_or(0.0);
    let mut group = group;
    if server > 0.0 {
        group = group.child(bar("bar", scale.at(0.0), scale.at(server), y));
    }
    if relative > server {
        group = group.child(bar("bar rest", scale.at(server), scale.at(relative), y));
    }
    let hint = format!(
        "{}: {absolute}, {} times the baseline's, of it the server {}",
        row.target,
        figure::ratio(relative),
        cost.relative_server()
            .map_or("unknown".to_owned(), figure::ratio)
    );
    group
        .child(label(
            "value",
            "end",
            (WIDTH - 2.0, y + 3.5),
            format!("{}\u{d7}", figure::ratio(relative)),
        ))
        .child(el("title").text(hint))
}
