//! E1 and E4: what serves the session.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::contains;
use crate::command::{Running, finish, text};
use crate::container::CNTR;
use crate::container::Container;
use crate::kind::Sample;

/// What `cntr stat` says of a session.
fn report(container: &Container, session: &Running, process: &str) -> Result<Value> {
    let pid = session.descendant(process)?.to_string();
    let output = finish(&mut container.cntr(&["--json", "stat", &pid]))?.succeeded()?;
    Ok(serde_json::from_str(&output)?)
}

/// It is served as `cntr doctor` says.
pub fn transport(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let script = "ls /usr/bin > /dev/null; echo ready; exec sleep 1000";
    let mut session = container.session(&[], &["sh", "-c", script])?;
    session.expect("ready")?;
    let report = report(container, &session, "sleep")?;
    let transport = report["transport"].as_str().context("no transport")?;
    let doctor = finish(Command::new(CNTR).arg("doctor"))?.succeeded()?;
    contains(
        &doctor,
        &format!("sessions and mounts use: transport {transport}"),
    )
}

/// The session sees it at once: its tools fail, or die of memory that was mapped from a file.
pub fn the_server_is_killed(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let script = "echo ready; while cat /usr/bin/env > /dev/null; do :; done; cat /etc/os-release; echo over";
    let mut session = container.session(&[], &["sh", "-c", script])?;
    session.expect("ready")?;
    let report = report(container, &session, "sh")?;
    let server = report["pid"].as_i64().context("no server")?;
    kill(Pid::from_raw(server.try_into()?), Signal::SIGKILL)?;
    let output = session.end()?;
    let (code, said) = (output.code(), text(&output.stderr));
    contains(&said, "they give ENOTCONN from now on")?;
    let bus_error = 128 + Signal::SIGBUS as i32;
    let failed = code == Some(0) && said.contains("Transport endpoint is not connected");
    ensure!(
        failed || said.contains("Bus error") || code == Some(bus_error),
        "{output}"
    );
    Ok(())
}
