//! `perf report`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::result::Run;

use super::{Analysis, Exporter, Html, Json, Markdown, Terminal, explain, output};

/// Arguments of `perf report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Results of a run
    #[arg(value_name = "A.json")]
    pub results: PathBuf,

    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,

    /// Write it to this file instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Add the explanations of this TOML file: lines like "meta-create/bindfs" = "why" in its table `explanations`
    #[arg(long, value_name = "FILE.toml")]
    pub explain: Vec<PathBuf>,

    /// Write the results back, with the explanations in them
    #[arg(long, requires = "explain")]
    pub save: bool,
}

/// Formats of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for a terminal
    Table,
    /// Markdown
    Markdown,
    /// One page of HTML that needs nothing else
    Html,
    /// The results themselves
    Json,
}

impl Format {
    /// What writes it.
    pub fn exporter(self) -> Box<dyn Exporter> {
        match self {
            Format::Table => Box::new(Terminal::detect()),
            Format::Markdown => Box::new(Markdown),
            Format::Html => Box::new(Html),
            Format::Json => Box::new(Json),
        }
    }
}

/// Writes a report.
///
/// # Errors
/// A file cannot be read or written.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let mut run = Run::load(&args.results)?;
    for file in &args.explain {
        run.explanations.extend(explain::load(file)?);
    }
    if args.save {
        run.save(&args.results)?;
    }
    let mut text = Vec::new();
    args.format
        .exporter()
        .export(&Analysis::of(&run), &mut text)?;
    output::write(args.output.as_deref(), &text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes `run.json`, `report.md` and `report.html` into a directory that exists, and says which.
///
/// # Errors
/// A file cannot be written.
pub fn write_all(run: &Run, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let json = dir.join("run.json");
    run.save(&json)?;
    let analysis = Analysis::of(run);
    let mut written = vec![json];
    for (name, format) in [
        ("report.md", Format::Markdown),
        ("report.html", Format::Html),
    ] {
        let mut text = Vec::new();
        format.exporter().export(&analysis, &mut text)?;
        let path = dir.join(name);
        output::write(Some(&path), &text)?;
        written.push(path);
    }
    Ok(written)
}
