//! A comparison as tables.

use std::io::{self, Write};

use crate::report::sheet::{Cell, Sheet, Tone};
use crate::report::{figure, markdown, table::Terminal};

use super::{Comparison, Correction};

/// Where the tables go.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// A terminal.
    Terminal(Terminal),
    /// Markdown.
    Markdown,
}

/// Writes a comparison.
///
/// # Errors
/// `out` cannot be written.
pub fn write(comparison: &Comparison, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let forbidden = comparison
        .differences
        .iter()
        .any(|difference| difference.forbids);
    if forbidden {
        writeln!(
            out,
            "WARNING: these runs cannot be compared row by row: they differ in more than the code.\n"
        )?;
    }
    section(out, style, "Differences", differences(comparison))?;
    let title = match comparison.correction {
        Correction::Holm => format!(
            "Changes (! is significant at {} over all rows, Holm)",
            comparison.alpha
        ),
        Correction::None => format!(
            "Changes (! is significant at {}, each row alone)",
            comparison.alpha
        ),
    };
    section(out, style, &title, changes(comparison))?;
    if !comparison.changes.is_empty() {
        writeln!(
            out,
            "Speed is the Hodges-Lehmann estimate of the factor on the speed, above 1.00 the second run is faster; it compares \
             ratios to the baseline where there are any. Rows in brackets are the baseline itself: they show how the machine \
             drifted, and are not judged.\n"
        )?;
    }
    if !comparison.conclusive {
        writeln!(out, "WARNING: {}\n", inconclusive())?;
    }
    section(out, style, "Rows of one run only", lone(comparison))
}

/// What to do where nothing can become significant.
pub fn inconclusive() -> &'static str {
    "with so few rounds no row of so many can become significant; measure more rounds (8 are enough for 300 rows), fewer \
     rows, or judge each row alone with --correction none"
}

fn section(out: &mut dyn Write, style: Style, title: &str, sheet: Option<Sheet>) -> io::Result<()> {
    let Some(sheet) = sheet else {
        return Ok(());
    };
    match style {
        Style::Terminal(terminal) => writeln!(out, "{title}\n{}", terminal.draw(&sheet)),
        Style::Markdown => {
            writeln!(out, "## {title}\n")?;
            markdown::table(out, &sheet)
        }
    }
}

fn differences(comparison: &Comparison) -> Option<Sheet> {
    let mut sheet = Sheet::new(&["what", "first", "second", "comparison"]);
    for difference in &comparison.differences {
        sheet.row([
            Cell::new(&difference.what),
            Cell::new(&difference.before),
            Cell::new(&difference.after),
            match difference.forbids {
                true => Cell::new("forbidden").tone(Tone::Bad),
                false => Cell::new("with care"),
            },
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

fn changes(comparison: &Comparison) -> Option<Sheet> {
    let mut sheet = Sheet::new(&[
        "workload",
        "target",
        "#first",
        "#second",
        "#change",
        "#ratio",
        "#ratio",
        "#change",
        "#speed",
        "#interval",
        "#p",
    ]);
    for change in &comparison.changes {
        let target = match change.is_baseline {
            true => format!("({})", change.target),
            false => change.target.clone(),
        };
        let ratio = |value: Option<f64>| Cell::maybe(value.map(figure::ratio));
        let speed = Cell {
            text: figure::ratio(change.speed),
            marks: if change.significant { "!" } else { "" }.to_owned(),
            tone: match change.significant {
                false => Tone::Plain,
                true if change.speed < 1.0 => Tone::Worse,
                true => Tone::Better,
            },
        };
        let interval = change
            .interval
            .map(|(low, high, _)| format!("{} to {}", figure::ratio(low), figure::ratio(high)));
        sheet.row([
            Cell::new(&change.workload),
            Cell::new(target),
            Cell::new(figure::with_unit(change.before, &change.unit)),
            Cell::new(figure::with_unit(change.after, &change.unit)),
            Cell::new(figure::change(change.raw)),
            ratio(change.ratio_before),
            ratio(change.ratio_after),
            Cell::maybe(change.ratio.map(figure::change)),
            speed,
            Cell::maybe(interval),
            Cell::new(format!("{:.4}", change.p_adjusted)),
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

fn lone(comparison: &Comparison) -> Option<Sheet> {
    let mut sheet = Sheet::new(&["workload", "target", "only in", "the other"]);
    for lone in &comparison.lone {
        sheet.row([
            Cell::new(&lone.workload),
            Cell::new(&lone.target),
            Cell::new(if lone.in_first { "first" } else { "second" }),
            Cell::new(&lone.reason).tone(if lone.fails_now {
                Tone::Bad
            } else {
                Tone::Plain
            }),
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}
