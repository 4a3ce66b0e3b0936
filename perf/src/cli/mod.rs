//! The command line.

mod list;
mod run;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::target::catalogue::{self, Catalogue};

/// Exit code of a command that failed.
const FAILED: u8 = 1;

#[derive(Parser, Debug)]
#[command(
    name = "perf",
    version,
    about = "What does a FUSE view cost, against native and against every other way, for my workload?",
    after_help = "\
Examples:
  perf run                                       the quick profile: under three minutes
  perf run --profile full --target found         everything, on every file server of this machine
  perf run --workload 'fio-*' --target native --target cntr --backing /srv
  perf report perf-results/20261122-101500/run.json
  perf compare before/run.json after/run.json    what changed, and what of it is noise"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Measure workloads on targets, side by side
    Run(run::RunArgs),
    /// Show the workloads and targets there are, and what they lack
    List(list::ListArgs),
    /// Show what changed between two runs, and what of it is significant
    Compare(crate::report::CompareArgs),
    /// Show a run
    Report(crate::report::ReportArgs),
    /// Put load on a directory: the load generator that some workloads use
    Load(crate::load::LoadArgs),
    /// Serve a file system that does nothing: the limit of what any FUSE server can reach
    Null(crate::load::null::NullArgs),
    /// Serve a directory with the least that a FUSE server can do: what other servers are measured against
    Minimal(crate::minimal::MinimalArgs),
    /// Run the cntr that is built in: the one that is measured
    #[command(disable_help_flag = true)]
    Cntr {
        /// Its command line
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Where target descriptions and the engine come from.
#[derive(clap::Args, Debug)]
struct CatalogueArgs {
    /// File with further targets, or others in place of known ones
    #[arg(long = "targets", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The cntr to measure [default: the one that is built in]
    #[arg(long, value_name = "PATH")]
    cntr: Option<PathBuf>,
}

impl CatalogueArgs {
    fn load(&self) -> anyhow::Result<Catalogue> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let engine = catalogue::engine(self.cntr.as_deref(), &own)?;
        Ok(Catalogue::load(&self.files, &engine)?)
    }
}

/// Runs the command.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Compare(arguments) => crate::report::compare::command::run(&arguments),
        Command::Report(arguments) => crate::report::run(&arguments),
        Command::Load(arguments) => crate::load::run(&arguments),
        Command::Null(arguments) => crate::load::null::run(&arguments),
        Command::Minimal(arguments) => crate::minimal::run(&arguments),
        Command::Cntr { arguments } => {
            let line: Vec<OsString> = std::iter::once("cntr".into()).chain(arguments).collect();
            return cntr::cli::main_with(&["cntr".into()], &line);
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("perf: {error:#}");
        ExitCode::from(FAILED)
    })
}
