//! Tables of the page.

use crate::report::analysis::Analysis;
use crate::report::figure;
use crate::report::sheet::{Sheet, Tone};

use super::markup::{Element, el};
use super::palette;

/// A table with all that it holds.
pub fn table(sheet: &Sheet, caption: &str) -> Element {
    let marks: Vec<usize> = (0..sheet.columns.len())
        .map(|index| {
            sheet
                .rows
                .iter()
                .map(|row| row[index].marks.len())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let marks = &marks;
    let head = sheet.columns.iter().map(|column| {
        let cell = el("th").attr("scope", "col").text(&column.name);
        if column.numeric {
            cell.class("n")
        } else {
            cell
        }
    });
    let rows = sheet.rows.iter().map(|row| {
        el("tr").children(row.iter().zip(&sheet.columns).enumerate().map(
            |(index, (cell, column))| {
                let tone = match cell.tone {
                    Tone::Plain => "",
                    Tone::Worse => "worse",
                    Tone::Better => "better",
                    Tone::Muted => "muted",
                    Tone::Bad => "bad",
                };
                let class = match (column.numeric, tone) {
                    (true, "") => "n".to_owned(),
                    (true, tone) => format!("n {tone}"),
                    (false, tone) => tone.to_owned(),
                };
                let element = el("td").text(&cell.text);
                let element = match marks[index] {
                    0 => element,
                    width => element.child(
                        el("span")
                            .class(format!("m m{}", width.min(4)))
                            .text(&cell.marks),
                    ),
                };
                if class.is_empty() {
                    element
                } else {
                    element.class(class)
                }
            },
        ))
    });
    let table = el("table")
        .child(el("caption").text(caption))
        .child(el("thead").child(el("tr").children(head)))
        .child(el("tbody").children(rows));
    el("div")
        .class("wide")
        .attr("tabindex", "0")
        .attr("role", "region")
        .attr("aria-label", caption)
        .child(table)
}

/// A table that opens when it is wanted, and on paper.
pub fn folded(sheet: &Sheet, caption: &str) -> Element {
    let summary = el("summary").text(caption).child(
        el("span")
            .class("muted")
            .text(format!(" {} rows", sheet.rows.len())),
    );
    el("details").child(summary).child(table(sheet, caption))
}

/// Geometric means of the groups, tinted by how far they are from native.
pub fn summary(analysis: &Analysis<'_>) -> Element {
    let shown: Vec<usize> = (0..analysis.targets.len())
        .filter(|index| {
            analysis
                .groups
                .iter()
                .any(|group| group.means[*index].ratio.is_some())
        })
        .collect();
    let head = shown.iter().map(|index| {
        let target = analysis.targets[*index];
        el("th").attr("scope", "col").class("n").child(
            el("span")
                .class(format!("key {}", palette::class(analysis, target)))
                .text(target),
        )
    });
    let rows = analysis
        .groups
        .iter()
        .filter(|group| group.means.iter().any(|mean| mean.ratio.is_some()))
        .map(|group| {
            let cells = shown.iter().map(|index| {
                let mean = &group.means[*index];
                let Some(ratio) = mean.ratio else {
                    return el("td").class("n muted").text("\u{2013}");
                };
                let mut note = format!("{} of {}", mean.count, group.workloads);
                if mean.failed > 0 {
                    note += &format!(", {} failed", mean.failed);
                }
                el("td")
                    .class(format!("n {}", tint(ratio)))
                    .child(el("b").text(figure::ratio(ratio)))
                    .child(el("small").text(note))
            });
            el("tr")
                .child(el("th").attr("scope", "row").text(group.name))
                .children(cells)
        });
    let caption = "Geometric means of the speeds relative to the baseline, by group";
    let table = el("table")
        .class("summary")
        .child(el("caption").text(caption))
        .child(el("thead").child(el("tr").child(el("td")).children(head)))
        .child(el("tbody").children(rows));
    el("div")
        .class("wide")
        .attr("tabindex", "0")
        .attr("role", "region")
        .attr("aria-label", caption)
        .child(table)
}

fn tint(ratio: f64) -> &'static str {
    match ratio {
        _ if ratio < 0.1 => "w4",
        _ if ratio < 0.3 => "w3",
        _ if ratio < 0.7 => "w2",
        _ if ratio < 0.95 => "w1",
        _ if ratio <= 1.05 => "same",
        _ => "b1",
    }
}
