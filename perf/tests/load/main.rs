//! The load generator, the null server and the workloads built on them, natively.
//!
//! Workloads start the program that runs as `PROGRAM load ...` and `PROGRAM null ...`: here, that is this test.
#![allow(missing_docs, reason = "a test")]

mod operations;
mod workloads;

use std::process::ExitCode;

use clap::Parser;
use libtest_mimic::Arguments;
use perf::load::{LoadArgs, null};

/// The commands of `perf` that workloads start.
#[derive(Parser)]
enum Cli {
    Load(LoadArgs),
    Null(null::NullArgs),
}

fn main() -> ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|first| first == "load" || first == "null")
    {
        let result = match Cli::parse() {
            Cli::Load(args) => perf::load::run(&args),
            Cli::Null(args) => null::run(&args),
        };
        return result.unwrap_or_else(|error| {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        });
    }
    let arguments = Arguments::from_args();
    let mut trials = operations::trials();
    trials.extend(workloads::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Arguments as they come from a command line; the first is the operation.
fn arguments(words: &[&str]) -> LoadArgs {
    let line = ["perf", "load"].iter().chain(words);
    match Cli::try_parse_from(line) {
        Ok(Cli::Load(args)) => args,
        Ok(Cli::Null(_)) => unreachable!("the command is load"),
        Err(error) => panic!("{error}"),
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
