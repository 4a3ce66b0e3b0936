//! The whole report as Markdown.

use std::io::{self, Write};

use super::analysis::Analysis;
use super::exporter::Exporter;
use super::sheet::{Sheet, Tone};
use super::{content, facts, mark};

/// A report in Markdown: complete, for a repository or an issue.
#[derive(Clone, Copy, Debug)]
pub struct Markdown;

impl Exporter for Markdown {
    fn export(&self, analysis: &Analysis<'_>, out: &mut dyn Write) -> io::Result<()> {
        let run = analysis.run;
        writeln!(
            out,
            "# What the FUSE view costs\n\n{}; {}.\n",
            escape(&facts::headline(run)),
            escape(&facts::when(run))
        )?;
        for caution in facts::cautions(run) {
            writeln!(out, "> **Warning:** {}\n", escape(&caution))?;
        }
        writeln!(
            out,
            "Ratios are speeds relative to the baseline: 1.00 is as fast, higher is better. In brackets: of how many workloads.\n"
        )?;
        table(out, &content::summary(analysis))?;
        let mut marks = String::new();
        for group in &analysis.groups {
            writeln!(out, "## {}\n", escape(group.name))?;
            for workload in analysis.workloads(group.name) {
                writeln!(
                    out,
                    "* **{}**: {}",
                    escape(&workload.name),
                    escape(&workload.about)
                )?;
            }
            writeln!(out)?;
            let sheet = content::matrix(analysis, group);
            marks += &sheet.marks();
            table(out, &sheet)?;
        }
        if !marks.is_empty() {
            writeln!(out, "Marks: {}.\n", escape(&mark::legend_of(&marks)))?;
        }
        section(
            out,
            "Overhead beside CNTR's table of 2018",
            "1 is native, lower is better.",
            content::published(analysis),
        )?;
        section(
            out,
            "Multiples of the null round trip",
            "Time per operation of uncached metadata, divided by null round trip plus native operation: 1 is the limit. Where the minimal server was measured: our engine's time divided by its.",
            content::floor(analysis),
        )?;
        let flagged =
            "Rows below 0.95 or above 1.05 that are not told to be chance, the slowest first.";
        section(out, "Flagged rows", flagged, content::flagged(analysis))?;
        section(out, "Failures", "", content::failures(analysis))?;
        section(out, "Not measured", "", content::absent(analysis))?;
        for group in &analysis.groups {
            let title = |what: &str| format!("{what}: {}", group.name);
            let figures = content::figures(analysis, group.name);
            section(out, &title("All figures"), "", Some(figures))?;
            section(
                out,
                &title("CPU cost"),
                "",
                content::costs(analysis, group.name),
            )?;
            section(
                out,
                &title("Latencies"),
                "",
                content::latencies(analysis, group.name),
            )?;
        }
        section(out, "Further figures", "", content::extras(analysis))?;
        writeln!(out, "## Targets\n")?;
        for target in &run.targets {
            writeln!(
                out,
                "### {}\n\n{}\n",
                escape(&target.name),
                escape(&target.about)
            )?;
            for (name, value) in facts::target(target) {
                writeln!(out, "* {}: {}", escape(&name), escape(&value))?;
            }
            writeln!(out)?;
        }
        section(out, "Environment", "", Some(facts::environment(run)))?;
        writeln!(out, "## Method\n")?;
        for sentence in facts::method(analysis) {
            writeln!(out, "* {sentence}")?;
        }
        Ok(())
    }
}

fn section(out: &mut dyn Write, title: &str, words: &str, sheet: Option<Sheet>) -> io::Result<()> {
    let Some(sheet) = sheet else {
        return Ok(());
    };
    writeln!(out, "## {}\n", escape(title))?;
    if !words.is_empty() {
        writeln!(out, "{words}\n")?;
    }
    table(out, &sheet)
}

/// Writes a table and an empty line.
pub(super) fn table(out: &mut dyn Write, sheet: &Sheet) -> io::Result<()> {
    for column in &sheet.columns {
        write!(out, "| {} ", escape(&column.name))?;
    }
    writeln!(out, "|")?;
    for column in &sheet.columns {
        write!(out, "{}", if column.numeric { "|---:" } else { "|---" })?;
    }
    writeln!(out, "|")?;
    for row in &sheet.rows {
        for cell in row {
            let text = escape(&cell.plain());
            match cell.tone {
                Tone::Bad if !text.trim().is_empty() => write!(out, "| **{}** ", text.trim())?,
                _ => write!(out, "| {} ", text.trim())?,
            }
        }
        writeln!(out, "|")?;
    }
    writeln!(out)
}

/// So that names and errors are shown as they are, in one line.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.trim().chars() {
        match character {
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '#' | '~' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\n' => escaped.push_str("<br>"),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sheet::Cell;

    #[test]
    fn a_cell_stays_a_cell() {
        let mut sheet = Sheet::new(&["name", "#value"]);
        sheet.row([Cell::new("a|b\n<c>_d_"), Cell::new("1.00")]);
        let mut text = Vec::new();
        table(&mut text, &sheet).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "| name | value |\n|---|---:|\n| a\\|b<br>&lt;c&gt;\\_d\\_ | 1.00 |\n\n"
        );
    }
}
