//! Workloads whose figure is the time that a command takes, from its start to its end.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Measured;
use crate::job::{Command, Finished, Place};

/// Runs `command` in a window; the value is the seconds it took.
pub fn run(place: &Place, command: Command) -> Result<(Measured, Finished)> {
    let window = place.begin();
    let finished = command.run()?;
    let measured = Measured {
        value: finished.seconds,
        operations: None,
        usage: window.end(),
        latency: None,
        extra: BTreeMap::new(),
    };
    Ok((measured, finished))
}

/// The same where the figure is a rate: `count` operations by the second.
pub fn rate(place: &Place, command: Command, count: u64) -> Result<(Measured, Finished)> {
    let (mut measured, finished) = run(place, command)?;
    measured.value = count as f64 / finished.seconds;
    measured.operations = Some(count as f64);
    Ok((measured, finished))
}
