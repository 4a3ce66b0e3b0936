//! The whole report as one page of HTML: it needs no network, no script and no font of its own.
//!
//! The page is well-formed XML too, so that programs can read it.

mod bars;
mod curves;
pub mod markup;
mod palette;
mod svg;
mod tables;

use std::io::{self, Write};

use super::analysis::Analysis;
use super::exporter::Exporter;
use super::sheet::Sheet;
use super::{content, facts, figure, mark};
use markup::{Element, el};

/// A report as a page of HTML.
#[derive(Clone, Copy, Debug)]
pub struct Html;

impl Exporter for Html {
    fn export(&self, analysis: &Analysis<'_>, out: &mut dyn Write) -> io::Result<()> {
        let head = el("head")
            .child(el("meta").attr("charset", "utf-8"))
            .child(
                el("meta")
                    .attr("name", "viewport")
                    .attr("content", "width=device-width, initial-scale=1"),
            )
            .child(
                el("meta")
                    .attr("http-equiv", "Content-Security-Policy")
                    .attr("content", "default-src 'none'; style-src 'unsafe-inline'"),
            )
            .child(
                el("meta")
                    .attr("name", "color-scheme")
                    .attr("content", "light dark"),
            )
            .child(el("title").text(format!("cntr perf: {}", facts::headline(analysis.run))))
            .child(el("style").raw(include_str!("style.css")));
        let body = el("body").child(header(analysis)).child(main(analysis));
        let page = el("html").attr("lang", "en").child(head).child(body);
        writeln!(out, "<!DOCTYPE html>\n{page}")
    }
}

fn header(analysis: &Analysis<'_>) -> Element {
    let run = analysis.run;
    let environment = &run.environment;
    let facts = [
        ("suite", run.suite.clone()),
        ("measured", figure::date(run.started)),
        (
            "took",
            figure::span(run.finished.saturating_sub(run.started)),
        ),
        (
            "profile",
            format!(
                "{}, {} rounds, scale {}",
                run.profile, run.rounds, run.scale
            ),
        ),
        (
            "kernel",
            environment
                .kernel
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
        ),
        (
            "CPU",
            format!("{} \u{d7} {}", environment.cpus, environment.cpu),
        ),
        ("backing", environment.backing_file_system.clone()),
    ];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    el("header")
        .child(el("p").class("over").text("cntr performance report"))
        .child(el("h1").text("What the FUSE view costs"))
        .child(
            el("dl").class("facts").children(
                facts.flat_map(|(name, value)| [el("dt").text(name), el("dd").text(value)]),
            ),
        )
        .children(
            facts::cautions(run)
                .into_iter()
                .map(|caution| el("p").class("caution").attr("role", "note").text(caution)),
        )
}

fn main(analysis: &Analysis<'_>) -> Element {
    let run = analysis.run;
    let sections: Vec<Element> = [
        Some(overview(analysis)),
        group_panels(
            analysis,
            "speed",
            "Speed relative to native",
            SPEED,
            bars::ratios,
        ),
        panels(
            "latency",
            "Latency distributions",
            LATENCY,
            curves::latencies(analysis),
        ),
        group_panels(analysis, "cpu", "CPU cost", CPU, bars::costs),
        panels("scaling", "Scaling", SCALING, curves::scaling(analysis)),
        flagged(analysis),
        sheet(
            "limit",
            "Multiples of the null round trip",
            LIMIT,
            content::floor(analysis),
        ),
        sheet(
            "published",
            "Beside CNTR\u{2019}s table of 2018",
            PUBLISHED,
            content::published(analysis),
        ),
        sheet(
            "failures",
            "Failures",
            FAILURES,
            content::failures(analysis),
        ),
        sheet("absent", "Not measured", ABSENT, content::absent(analysis)),
        Some(figures(analysis)),
        Some(targets(analysis)),
        Some(
            section("environment", "Environment", "").child(tables::table(
                &facts::environment(run),
                "What it was measured on",
            )),
        ),
        Some(
            section("method", "Method", "").child(
                el("ul").class("prose").children(
                    facts::method(analysis)
                        .into_iter()
                        .map(|sentence| el("li").text(sentence)),
                ),
            ),
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    el("main").children(sections)
}

const SPEED: &str = "Bars start at native, the line at 1, on a logarithmic axis: to the left is slower, to the right faster. \
    The thin line is the interval of the median. Figures in grey may be chance.";
const LATENCY: &str = "How long single operations took, all rounds together: at 99 %, one of a hundred operations took longer. \
    Both axes are logarithmic.";
const CPU: &str = "CPU time of the whole machine for the same work, as a multiple of native\u{2019}s, the line at 1. The strong part \
    is the server, the pale part everything else: clients and the kernel. A bar without a strong part has no server, or one that \
    is not known.";
const SCALING: &str =
    "The same work with more clients, files or mounts. Vertical strokes are intervals.";
const FLAGGED: &str = "Rows below 0.95 or above 1.05 of their baseline that are not told to be chance; here the three rows in which \
    each target is slowest.";
const LIMIT: &str = "Time per operation of uncached metadata, divided by the sum of a null round trip and the native operation: \
    1 is the physical limit of a FUSE server. Where the minimal server was measured: our engine's time divided by its.";
const PUBLISHED: &str = "Overheads as in the paper: 1 is native, lower is better. Its hardware was another; values below 1 come \
    from a writeback cache that delays durability.";
const FAILURES: &str = "What failed, in the words of the tool.";
const ABSENT: &str = "What was not tried, and why.";

fn section(id: &str, title: &str, words: &str) -> Element {
    let section = el("section").attr("id", id).child(el("h2").text(title));
    match words {
        "" => section,
        words => section.child(el("p").class("prose").text(words)),
    }
}

fn sheet(id: &str, title: &str, words: &str, sheet: Option<Sheet>) -> Option<Element> {
    Some(section(id, title, words).child(tables::table(&sheet?, title)))
}

/// Where each target is slowest, and behind it all flagged rows.
fn flagged(analysis: &Analysis<'_>) -> Option<Element> {
    let all = tables::folded(
        &content::flagged(analysis)?,
        "All flagged rows, the slowest first",
    );
    let section = section("flagged", "Flagged rows", FLAGGED);
    Some(match content::worst(analysis, 3) {
        Some(worst) => section
            .child(tables::table(&worst, "Where each target is slowest"))
            .child(all),
        None => section.child(all),
    })
}

fn panels(id: &str, title: &str, words: &str, panels: Vec<Element>) -> Option<Element> {
    (!panels.is_empty())
        .then(|| section(id, title, words).child(el("div").class("panels").children(panels)))
}

fn group_panels(
    analysis: &Analysis<'_>,
    id: &str,
    title: &str,
    words: &str,
    draw: fn(&Analysis<'_>, &str, &str) -> Vec<Element>,
) -> Option<Element> {
    let groups: Vec<Element> = analysis
        .groups
        .iter()
        .enumerate()
        .filter_map(|(number, group)| {
            let panels = draw(analysis, group.name, &format!("{id}-{number}"));
            (!panels.is_empty()).then(|| {
                el("div")
                    .child(el("h3").text(group.name))
                    .child(el("div").class("panels").children(panels))
            })
        })
        .collect();
    (!groups.is_empty()).then(|| section(id, title, words).children(groups))
}

fn overview(analysis: &Analysis<'_>) -> Element {
    let measured = analysis
        .lines
        .iter()
        .filter(|line| line.figures.is_some())
        .count();
    let flagged = analysis.flagged();
    let slower = flagged
        .iter()
        .filter(|line| line.ratio() < Some(1.0))
        .count();
    let unexplained = flagged.iter().filter(|line| line.unexplained()).count();
    let counts = [
        (measured, "rows measured"),
        (slower, "slower than native"),
        (flagged.len() - slower, "faster than native"),
        (unexplained, "flagged without explanation"),
        (analysis.failed().count(), "with failures"),
        (analysis.absent().count(), "not measured"),
    ];
    section(
        "summary",
        "Summary",
        "Speed relative to native, as geometric means over the workloads of a group: 1.00 is as fast, 0.50 takes twice as long. \
         Below each mean: of how many workloads.",
    )
    .child(tables::summary(analysis))
    .child(el("dl").class("counts").children(counts.into_iter().map(|(count, what)| {
        el("div")
            .child(el("dt").text(what))
            .child(el("dd").text(count.to_string()))
    })))
}

fn figures(analysis: &Analysis<'_>) -> Element {
    let mut all = section("figures", "All figures", "");
    let mut marks = String::new();
    for group in &analysis.groups {
        let matrix = content::matrix(analysis, group);
        marks += &matrix.marks();
        all = all
            .child(el("h3").text(group.name))
            .child(tables::table(
                &matrix,
                &format!("{}: ratios to the baseline", group.name),
            ))
            .child(tables::folded(
                &content::figures(analysis, group.name),
                "Medians and intervals",
            ));
        if let Some(sheet) = content::costs(analysis, group.name) {
            all = all.child(tables::folded(&sheet, "CPU time and context switches"));
        }
        if let Some(sheet) = content::latencies(analysis, group.name) {
            all = all.child(tables::folded(&sheet, "Latencies"));
        }
    }
    if let Some(sheet) = content::extras(analysis) {
        all = all
            .child(el("h3").text("Further figures"))
            .child(tables::folded(&sheet, "Medians of what else was recorded"));
    }
    if !marks.is_empty() {
        all = all.child(
            el("p")
                .class("prose muted")
                .text(format!("Marks: {}.", mark::legend_of(&marks))),
        );
    }
    all
}

fn targets(analysis: &Analysis<'_>) -> Element {
    let cards = analysis.run.targets.iter().map(|target| {
        let facts = facts::target(target)
            .into_iter()
            .flat_map(|(name, value)| [el("dt").text(name), el("dd").text(value)]);
        el("article")
            .child(
                el("h3").child(
                    el("span")
                        .class(format!("key {}", palette::class(analysis, &target.name)))
                        .text(&target.name),
                ),
            )
            .child(el("p").text(&target.about))
            .child(el("dl").class("facts").children(facts))
    });
    section("targets", "Targets", "").child(el("div").class("cards").children(cards))
}
