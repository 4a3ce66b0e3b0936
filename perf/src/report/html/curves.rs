//! Curves: latency distributions, and how figures scale.

use hdrhistogram::Histogram;

use crate::report::analysis::{Analysis, Line};
use crate::report::figure;
use crate::result::{Better, WorkloadInfo};

use super::markup::{Element, el};
use super::palette;
use super::svg::{Scale, label, line, polyline, shortened, spread, svg, tick as tick_label};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 352.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 238.0;

/// Workloads whose latencies are drawn, at most.
const PANELS: usize = 12;

/// One curve of a chart.
struct Curve<'a> {
    target: &'a str,
    points: Vec<(f64, f64)>,
    /// Low and high ends at each point, if known.
    whiskers: Vec<(f64, f64, f64)>,
}

/// Latency distributions of up to a dozen workloads: of those that most targets have histograms of, from all groups.
pub fn latencies(analysis: &Analysis<'_>) -> Vec<Element> {
    let histograms = |workload: &WorkloadInfo| -> Vec<(&str, &Histogram<u64>)> {
        let lines = analysis
            .lines
            .iter()
            .filter(|line| line.workload.name == workload.name);
        lines
            .filter_map(|line| Some((line.target, histogram(line)?)))
            .collect()
    };
    let mut chosen: Vec<(usize, usize, &WorkloadInfo)> = Vec::new();
    for workload in &analysis.run.workloads {
        let count = histograms(workload).len();
        if count > 0 {
            let same =
                |(_, _, other): &&(usize, usize, &WorkloadInfo)| other.group == workload.group;
            let earlier = chosen.iter().filter(same).count();
            chosen.push((earlier, count, workload));
        }
    }
    // Of every group the first, then of every group the second: more targets first.
    chosen.sort_by_key(|(earlier, count, _)| (*earlier, std::cmp::Reverse(*count)));
    chosen.truncate(PANELS);
    chosen
        .into_iter()
        .enumerate()
        .map(|(number, (_, _, workload))| {
            distribution(
                analysis,
                workload,
                &histograms(workload),
                &format!("latency-{number}"),
            )
        })
        .collect()
}

fn histogram<'a>(line: &'a Line<'_>) -> Option<&'a Histogram<u64>> {
    line.figures.as_ref()?.latency.as_ref()?.histogram.as_ref()
}

fn distribution(
    analysis: &Analysis<'_>,
    workload: &WorkloadInfo,
    histograms: &[(&str, &Histogram<u64>)],
    id: &str,
) -> Element {
    let most = histograms.iter().map(|(_, h)| h.len()).max().unwrap_or(1) as f64;
    let curves: Vec<Curve<'_>> = histograms
        .iter()
        .map(|(target, histogram)| {
            let end = (histogram.len() as f64).max(2.0);
            let steps = (end.log10() * 16.0).ceil() as i32;
            let mut points: Vec<(f64, f64)> = (0..=steps)
                .map(|step| 10_f64.powf(f64::from(step) / 16.0).min(end))
                .map(|x| {
                    (
                        x,
                        histogram.value_at_quantile(1.0 - 1.0 / x).max(1) as f64 / 1e9,
                    )
                })
                .collect();
            points.push((end, histogram.max().max(1) as f64 / 1e9));
            Curve {
                target,
                points,
                whiskers: Vec::new(),
            }
        })
        .collect();
    let x = Scale::log(1.0, most.max(100.0), LEFT, RIGHT);
    let y = vertical(&curves, true);
    let description: Vec<String> = histograms
        .iter()
        .map(|(target, histogram)| {
            let at = |q| figure::seconds(histogram.value_at_quantile(q) as f64 / 1e9);
            format!(
                "{target} p50 {} p99 {} p99.9 {}",
                at(0.5),
                at(0.99),
                at(0.999)
            )
        })
        .collect();
    let title = format!("{}: latency distribution", workload.name);
    let mut chart = svg(id, WIDTH, HEIGHT, &title, &description.join(", "));
    for power in 0..=(most.max(100.0).log10().floor() as i32) {
        let at = x.at(10_f64.powi(power));
        let name = match power {
            0 => "0 %".to_owned(),
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            more => format!("99.{} %", "9".repeat(more as usize - 2)),
        };
        if power <= 3 || power % 2 == 1 || most < 1e5 {
            chart = chart
                .child(line("grid", (at, TOP), (at, BOTTOM)))
                .child(label("tick", "middle", (at, BOTTOM + 14.0), name));
        }
    }
    chart = levels(chart, &y, figure::seconds).child(label(
        "tick",
        "middle",
        ((LEFT + RIGHT) / 2.0, BOTTOM + 29.0),
        "share of operations that were faster",
    ));
    let chart = draw(analysis, chart, &curves, &x, &y);
    panel(&workload.name, &workload.about, "", chart)
}

/// How figures scale: one panel for each curve that has more than one point.
pub fn scaling(analysis: &Analysis<'_>) -> Vec<Element> {
    let mut names: Vec<&str> = Vec::new();
    for axis in analysis
        .run
        .workloads
        .iter()
        .filter_map(|w| w.axis.as_ref())
    {
        if !names.contains(&axis.curve.as_str()) {
            names.push(&axis.curve);
        }
    }
    names
        .into_iter()
        .enumerate()
        .filter_map(|(number, name)| scaling_panel(analysis, name, &format!("scaling-{number}")))
        .collect()
}

fn scaling_panel(analysis: &Analysis<'_>, curve: &str, id: &str) -> Option<Element> {
    let mut points: Vec<(f64, &WorkloadInfo)> = analysis
        .run
        .workloads
        .iter()
        .filter_map(|workload| {
            let axis = workload.axis.as_ref().filter(|axis| axis.curve == curve)?;
            (axis.value > 0.0).then_some((axis.value, workload))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let workload = points.first()?.1;
    if points.len() < 2 {
        return None;
    }
    let curves: Vec<Curve<'_>> = analysis
        .targets
        .iter()
        .map(|target| {
            let mut curve = Curve {
                target,
                points: Vec::new(),
                whiskers: Vec::new(),
            };
            for (x, workload) in &points {
                let line = analysis.line(&workload.name, target);
                if let Some(figures) = line.and_then(|line| line.figures.as_ref()) {
                    curve.points.push((*x, figures.value.value));
                    if let Some(interval) = figures.value.interval {
                        curve.whiskers.push((*x, interval.low, interval.high));
                    }
                }
            }
            curve
        })
        .filter(|curve| !curve.points.is_empty())
        .collect();
    let values = || {
        curves
            .iter()
            .flat_map(|curve| &curve.points)
            .map(|point| point.1)
    };
    let (low, high) = values().fold((f64::MAX, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
    if curves.is_empty() || high <= 0.0 {
        return None;
    }
    let x = Scale::log(
        points[0].0,
        points[points.len() - 1].0,
        LEFT + 6.0,
        RIGHT - 6.0,
    );
    let y = vertical(&curves, low > 0.0 && high > 8.0 * low);
    let axis = workload.axis.as_ref()?;
    let description: Vec<String> = curves
        .iter()
        .map(|curve| {
            let last = curve.points[curve.points.len() - 1];
            format!(
                "{} {} at {}",
                curve.target,
                figure::with_unit(last.1, &workload.unit),
                last.0
            )
        })
        .collect();
    let mut chart = svg(
        id,
        WIDTH,
        HEIGHT,
        &format!("{curve}, by {}", axis.name),
        &description.join(", "),
    );
    let mut free = f64::MIN;
    for (value, _) in &points {
        let at = x.at(*value);
        chart = chart.child(line("grid", (at, TOP), (at, BOTTOM)));
        let name = figure::with_unit(*value, "");
        let name = tick_label(&name);
        let half = name.len() as f64 * 3.2;
        if at - half > free + 4.0 {
            chart = chart.child(label("tick", "middle", (at, BOTTOM + 14.0), name));
            free = at + half;
        }
    }
    let unit = workload.unit.clone();
    chart = levels(chart, &y, move |value| {
        if unit.starts_with("bytes") {
            return figure::with_unit(value, "");
        }
        let text = figure::with_unit(value, &unit);
        let rate = unit
            .rsplit_once('/')
            .map_or(unit.as_str(), |_| unit.as_str());
        text.strip_suffix(rate)
            .map_or(text.clone(), |short| short.trim_end().to_owned())
    })
    .child(label(
        "tick",
        "middle",
        ((LEFT + RIGHT) / 2.0, BOTTOM + 29.0),
        &axis.name,
    ));
    let chart = draw(analysis, chart, &curves, &x, &y);
    let better = match workload.better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
    };
    let side = format!("{}, {better}", workload.unit);
    Some(panel(curve, &workload.about, &side, chart))
}

fn panel(name: &str, about: &str, side: &str, chart: Element) -> Element {
    let caption = el("figcaption")
        .child(el("b").text(name))
        .child(el("span").class("base").text(side))
        .child(el("small").text(about));
    el("figure").child(caption).child(chart)
}

fn vertical(curves: &[Curve<'_>], log: bool) -> Scale {
    let points = || {
        curves
            .iter()
            .flat_map(|curve| &curve.points)
            .map(|point| point.1)
    };
    let ends = curves.iter().flat_map(|curve| &curve.whiskers);
    let high = ends.map(|end| end.2).chain(points()).fold(0.0, f64::max);
    if !log {
        return Scale::linear(0.0, high * 1.05, BOTTOM, TOP);
    }
    let low = points()
        .filter(|value| *value > 0.0)
        .fold(f64::MAX, f64::min);
    Scale::log(low * 0.8, high * 1.2, BOTTOM, TOP)
}

fn levels(mut chart: Element, y: &Scale, show: impl Fn(f64) -> String) -> Element {
    for tick in y.ticks() {
        let at = y.at(tick);
        let name = tick_label(&show(tick));
        chart = chart
            .child(line("grid", (LEFT, at), (RIGHT, at)))
            .child(label("tick", "end", (LEFT - 6.0, at + 3.5), name));
    }
    chart
}

/// Draws the curves, with their names at their ends.
fn draw(
    analysis: &Analysis<'_>,
    mut chart: Element,
    curves: &[Curve<'_>],
    x: &Scale,
    y: &Scale,
) -> Element {
    let ends: Vec<f64> = curves
        .iter()
        .map(|curve| curve.points.last().map_or(TOP, |point| y.at(point.1)))
        .collect();
    let places = spread(&ends, 12.0, TOP + 4.0, BOTTOM);
    for ((curve, end), place) in curves.iter().zip(&ends).zip(&places) {
        let points: Vec<(f64, f64)> = curve
            .points
            .iter()
            .map(|p| (x.at(p.0), y.at(p.1)))
            .collect();
        let mut group = el("g").class(palette::class(analysis, curve.target));
        for (at, low, high) in &curve.whiskers {
            let at = x.at(*at);
            group = group.child(line("spread", (at, y.at(*low)), (at, y.at(*high))));
        }
        group = group.child(polyline(&points));
        if !curve.whiskers.is_empty() || points.len() < 12 {
            for (cx, cy) in &points {
                group = group.child(
                    el("circle")
                        .class("dot")
                        .at("cx", *cx)
                        .at("cy", *cy)
                        .attr("r", "2.6"),
                );
            }
        }
        let last = points.last().map_or(RIGHT, |point| point.0);
        group = group
            .child(line("leader", (last + 4.0, *end), (RIGHT + 8.0, *place)))
            .child(label(
                "series",
                "start",
                (RIGHT + 11.0, place + 3.5),
                shortened(curve.target, 14),
            ));
        chart = chart.child(group);
    }
    chart
}
