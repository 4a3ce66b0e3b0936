//! `perf compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::report::{Terminal, output};
use crate::result::Run;

use super::show::{self, Style};
use super::{Comparison, Correction};

/// Arguments of `perf compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Results of the first run
    #[arg(value_name = "A.json")]
    pub before: PathBuf,

    /// Results of the second run
    #[arg(value_name = "B.json")]
    pub after: PathBuf,

    /// Exit with 1 if a row is significantly slower by more than this, or fails and did not before; with 2 if the rounds
    /// are too few to tell
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub fail_on_regression: Option<f64>,

    /// Largest p value that is significant
    #[arg(long, value_name = "P", default_value_t = 0.05, value_parser = probability)]
    pub alpha: f64,

    /// How p values are corrected for the number of rows
    #[arg(long, value_enum, default_value_t = Correction::Holm)]
    pub correction: Correction,

    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,

    /// Print Markdown
    #[arg(long)]
    pub markdown: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(value) if (0.0..100.0).contains(&value) => Ok(value),
        _ => Err("must be a number from 0 up to 100".to_owned()),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("must be a number between 0 and 1".to_owned()),
    }
}

/// Compares two files of results.
///
/// # Errors
/// A file cannot be read, or stdout not be written.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let before = Run::load(&args.before)?;
    let after = Run::load(&args.after)?;
    let comparison = Comparison::of(&before, &after, args.alpha, args.correction);
    let mut text = Vec::new();
    if args.json {
        serde_json::to_writer_pretty(&mut text, &comparison)?;
        text.push(b'\n');
    } else {
        let style = match args.markdown {
            true => Style::Markdown,
            false => Style::Terminal(Terminal::detect()),
        };
        show::write(&comparison, style, &mut text)?;
    }
    output::stdout(&text)?;
    let Some(percent) = args.fail_on_regression else {
        return Ok(ExitCode::SUCCESS);
    };
    let regressions = comparison.regressions(percent);
    for change in &regressions {
        eprintln!(
            "regression: {}/{} runs at {:.2} of the speed of the first run",
            change.workload, change.target, change.speed
        );
    }
    let failing: Vec<_> = comparison
        .lone
        .iter()
        .filter(|lone| lone.fails_now)
        .collect();
    for lone in &failing {
        eprintln!(
            "regression: {}/{} {}",
            lone.workload, lone.target, lone.reason
        );
    }
    Ok(if !regressions.is_empty() || !failing.is_empty() {
        ExitCode::from(1)
    } else if !comparison.conclusive {
        eprintln!("cannot tell: {}", show::inconclusive());
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    })
}
