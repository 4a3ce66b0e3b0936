//! Starts the load generator in a place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;

use super::Measured;
use crate::job::{Command, Place};
use crate::load::Outcome;

/// Runs `perf load` with `arguments` in the place's directory.
///
/// # Errors
/// It cannot be started, fails or says nothing that can be understood.
pub fn load<A: AsRef<str>>(place: &Place, arguments: &[A]) -> anyhow::Result<Outcome> {
    let mut command = place.command(program()?).arg("load");
    // In a session process ids may mean something else.
    if place.enter.is_empty() {
        for server in &place.servers {
            command = command.arg(format!("--meter-pid={server}"));
        }
    }
    finish(command, arguments, &place.dir)
}

/// Runs `command`, which is `perf load`, with these further arguments.
///
/// # Errors
/// As [`load`].
pub fn finish<A: AsRef<str>>(
    command: Command,
    arguments: &[A],
    dir: &Path,
) -> anyhow::Result<Outcome> {
    let finished = command
        .args(arguments.iter().map(AsRef::as_ref))
        .args(["--json", "--"])
        .arg(dir)
        .run()?;
    serde_json::from_str(finished.stdout.trim())
        .with_context(|| format!("perf load printed no outcome: {:?}", finished.stdout))
}

/// This program.
///
/// # Errors
/// It is gone.
pub fn program() -> anyhow::Result<OsString> {
    std::env::current_exe()
        .map(OsString::from)
        .context("cannot find the program that runs")
}

/// A rate, with what it cost. The cost is that of the measured time, without what was prepared.
pub fn measured(outcome: Outcome) -> Measured {
    Measured {
        value: outcome.rate,
        operations: Some(outcome.operations as f64),
        usage: outcome.usage,
        latency: outcome.latency,
        extra: BTreeMap::new(),
    }
}
