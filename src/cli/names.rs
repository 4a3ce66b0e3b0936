//! `cntr __names`: the names of live containers, for completion. Whoever waits at the prompt does not wait long.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap_complete::engine::CompletionCandidate;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Print the names of live containers
#[derive(clap::Args, Debug)]
pub struct NamesArgs {}

/// How long tools may take to answer.
const DEADLINE: Duration = Duration::from_millis(1000);

/// Most of a tool's answer that is read.
const LONGEST: u64 = 1 << 20;

/// Tools that print a name at the start of each line.
const TOOLS: &[(&str, &[&str])] = &[
    ("docker", &["ps", "--format", "{{.Names}}"]),
    ("podman", &["ps", "--format", "{{.Names}}"]),
    ("lxc-ls", &["--running", "-1"]),
    ("machinectl", &["list", "--no-legend", "--no-pager"]),
    ("runc", &["list", "--quiet"]),
    ("crun", &["list", "--quiet"]),
];

/// Runs `cntr __names`.
pub fn run(_args: &NamesArgs) -> anyhow::Result<ExitCode> {
    for name in live() {
        println!("{name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Those that start with what was typed.
pub fn complete(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else {
        return Vec::new();
    };
    let names = live().into_iter();
    names
        .filter(|name| name.starts_with(typed))
        .map(CompletionCandidate::new)
        .collect()
}

/// What the tools know that answer in time, each name once.
fn live() -> Vec<String> {
    let end = Instant::now() + DEADLINE;
    let (tell, told) = mpsc::channel();
    let mut running = Vec::new();
    for (program, arguments) in TOOLS {
        let spawned = Command::new(program)
            .args(*arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        // One that is not installed knows no containers.
        let Ok(mut child) = spawned else { continue };
        let stdout = child.stdout.take();
        let tell = tell.clone();
        std::thread::spawn(move || {
            let lines = stdout.map(|pipe| BufReader::new(pipe.take(LONGEST)).lines());
            // What a tool has said counts, whether it comes to an end or not.
            for line in lines.into_iter().flatten().map_while(Result::ok) {
                if let Some(name) = line.split_whitespace().next() {
                    let _ = tell.send(name.to_owned());
                }
            }
        });
        running.push(child);
    }
    drop(tell);
    let mut names = Vec::new();
    while let Ok(name) = told.recv_timeout(end.saturating_duration_since(Instant::now())) {
        names.push(name);
    }
    for mut child in running {
        // It has not been waited for, so the number is its own.
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        let _ = child.wait();
    }
    names.sort();
    names.dedup();
    names
}
