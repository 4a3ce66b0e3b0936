//! Tables for a terminal.

use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::result::Run;

use super::analysis::Analysis;
use super::exporter::Exporter;
use super::sheet::Sheet;
use super::{content, facts, mark};

/// Width where the output is not a terminal and nobody says how wide it is.
const WIDTH: usize = 160;

/// Narrower than this, tables are not squeezed any more.
const LEAST: usize = 60;

/// Rows of each target that are listed as its slowest.
const WORST: usize = 3;

/// A report for a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Characters in a line.
    pub width: usize,
}

impl Terminal {
    /// As wide as the terminal at stdout, or as `COLUMNS` says.
    pub fn detect() -> Terminal {
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let terminal = || {
            io::stdout()
                .is_terminal()
                .then(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))?
        };
        Terminal {
            width: terminal().or(columns).unwrap_or(WIDTH).max(LEAST),
        }
    }
}

/// Prints the tables of a run on stdout. That nobody reads them is not an error.
///
/// # Errors
/// stdout cannot be written.
pub fn print(run: &Run) -> io::Result<()> {
    let mut text = Vec::new();
    Terminal::detect().export(&Analysis::of(run), &mut text)?;
    super::output::stdout(&text)
}

impl Exporter for Terminal {
    fn export(&self, analysis: &Analysis<'_>, out: &mut dyn Write) -> io::Result<()> {
        let run = analysis.run;
        let environment = &run.environment;
        for line in [
            &facts::headline(run),
            &facts::when(run),
            &environment.kernel,
            &format!("{}, {} CPUs", environment.cpu, environment.cpus),
            &environment.backing_file_system,
        ] {
            writeln!(out, "{line}")?;
        }
        for caution in facts::cautions(run) {
            writeln!(out, "WARNING: {caution}")?;
        }
        writeln!(
            out,
            "\nRatios are speeds relative to the baseline: 1.00 is as fast, higher is better."
        )?;
        let mut marks = String::new();
        for group in &analysis.groups {
            let sheet = content::matrix(analysis, group);
            marks += &sheet.marks();
            self.section(out, group.name, Some(sheet))?;
        }
        if !marks.is_empty() {
            writeln!(out)?;
            for (mark, meaning) in mark::legend()
                .iter()
                .filter(|(mark, _)| marks.contains(*mark))
            {
                writeln!(out, " {mark}  {meaning}")?;
            }
        }
        let published = "overhead beside CNTR's table of 2018: 1 is native, lower is better";
        self.section(out, published, content::published(analysis))?;
        let floor = "uncached metadata, times the limit: null round trip + native operation";
        self.section(out, floor, content::floor(analysis))?;
        self.flagged(analysis, out)?;
        self.section(out, "failures", content::failures(analysis))?;
        self.section(out, "not measured", content::absent(analysis))
    }
}

impl Terminal {
    fn section(&self, out: &mut dyn Write, title: &str, sheet: Option<Sheet>) -> io::Result<()> {
        match sheet {
            Some(sheet) => write!(out, "\n{title}\n{}", self.draw(&sheet)),
            None => Ok(()),
        }
    }

    fn flagged(&self, analysis: &Analysis<'_>, out: &mut dyn Write) -> io::Result<()> {
        let flagged = analysis.flagged();
        let unexplained = flagged.iter().filter(|line| line.unexplained()).count();
        let title = format!(
            "flagged rows: {}, without explanation: {unexplained}; where each target is slowest",
            flagged.len()
        );
        self.section(out, &title, content::worst(analysis, WORST))
    }

    /// Draws a table; one that is too wide for its figures in parts, each with the first columns. Only words are wrapped.
    pub fn draw(&self, sheet: &Sheet) -> String {
        let names = sheet
            .columns
            .iter()
            .take_while(|column| !column.numeric)
            .count();
        let fixed = if names == sheet.columns.len() {
            names
        } else {
            names.max(1)
        };
        let widths: Vec<usize> = (0..sheet.columns.len())
            .map(|index| width(sheet, index))
            .collect();
        let wraps = sheet.columns.last().is_some_and(|column| !column.numeric);
        let room = self.width.saturating_sub(widths[..fixed].iter().sum());
        let mut text = String::new();
        let mut rest: Vec<usize> = (fixed..sheet.columns.len()).collect();
        loop {
            let mut used = 0;
            let fitting = rest
                .iter()
                .take_while(|index| {
                    used += widths[**index];
                    used <= room
                })
                .count();
            let taken = if wraps {
                rest.len()
            } else {
                fitting.max(1).min(rest.len())
            };
            let part: Vec<usize> = (0..fixed).chain(rest.drain(..taken)).collect();
            text += &self.part(sheet, &part, wraps);
            if rest.is_empty() {
                return text;
            }
            text.push('\n');
        }
    }

    fn part(&self, sheet: &Sheet, columns: &[usize], wraps: bool) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if wraps {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(self.width.min(usize::from(u16::MAX)) as u16);
        }
        let marks: Vec<usize> = columns
            .iter()
            .map(|index| longest_marks(sheet, *index))
            .collect();
        let pad = |text: &str, marks: usize| match marks {
            0 => text.to_owned(),
            marks => format!("{text}{:1$}", "", marks + 1),
        };
        table.set_header(columns.iter().zip(&marks).map(|(index, marks)| {
            let column = &sheet.columns[*index];
            pad(&column.name, if column.numeric { *marks } else { 0 })
        }));
        for row in &sheet.rows {
            table.add_row(columns.iter().zip(&marks).map(|(index, marks)| {
                let cell = &row[*index];
                match (*marks, cell.marks.len()) {
                    (0, _) => visible(&cell.text),
                    (marks, 0) => pad(&visible(&cell.text), marks),
                    (marks, _) => format!("{} {:<marks$}", visible(&cell.text), cell.marks),
                }
            }));
        }
        for (column, index) in table.column_iter_mut().zip(columns) {
            if sheet.columns[*index].numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// Without characters that would do something to the terminal.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect()
}

fn longest_marks(sheet: &Sheet, column: usize) -> usize {
    sheet
        .rows
        .iter()
        .map(|row| row[column].marks.len())
        .max()
        .unwrap_or(0)
}

/// Width of a column with the space around it.
fn width(sheet: &Sheet, column: usize) -> usize {
    let marks = match longest_marks(sheet, column) {
        0 => 0,
        marks => marks + 1,
    };
    let text = sheet
        .rows
        .iter()
        .map(|row| row[column].text.chars().count())
        .max();
    let name = sheet.columns[column].name.chars().count();
    text.unwrap_or(0).max(name) + marks + 2
}
