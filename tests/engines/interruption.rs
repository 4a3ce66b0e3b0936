//! A run that is interrupted leaves nothing behind: another run of this program, inside of this one, that is killed.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{PATH, Running, Skip, until};
use crate::container::runs;
use crate::guardian::{self, ROLE, Run};
use crate::kind::KINDS;

/// Says which kinds of containers to start, and then to do nothing.
pub const HOLD: &str = "CNTR_TEST_ENGINES_HOLD";

/// Which of a run's processes is killed, and how.
#[derive(Clone, Copy)]
pub enum Victim {
    First(Signal),
    Guardian,
    Worker,
}

/// The ways in which a run may end, and what runs in it meanwhile.
pub const CASES: &[(&str, Victim, &str)] = &[
    (
        "killed",
        Victim::First(Signal::SIGKILL),
        "docker::default containerd::default podman::root runc::plain",
    ),
    (
        "ctrl_c",
        Victim::First(Signal::SIGINT),
        "lxc::privileged nspawn::plain bubblewrap::root",
    ),
    (
        "the_guardian_dies",
        Victim::Guardian,
        "podman::user runc::plain",
    ),
    (
        "the_tests_crash",
        Victim::Worker,
        "lxc::user unshare::root netns::exec",
    ),
];

/// The run inside: starts what it is told to, says so, and waits for its end.
pub fn hold(kinds: &str) {
    let wanted = KINDS
        .iter()
        .filter(|kind| kinds.split(' ').any(|title| title == kind.title()));
    let mut held = Vec::new();
    for kind in wanted {
        match kind.start() {
            Ok(container) => {
                println!("started {}", container.pid);
                held.push(container);
            }
            Err(error) => println!("{}: {error:#}", kind.title()),
        }
    }
    println!("holding {}", held.len());
    loop {
        std::thread::park();
    }
}

pub fn interrupted(victim: Victim, kinds: &str) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env_clear().env("PATH", PATH).env(HOLD, kinds);
    command.env_remove(ROLE);
    let mut first = Running::start(&mut command, &[])?;
    first.expect("holding")?;
    let printed = first.printed()?;
    if printed.contains("holding 0\n") {
        return Skip::because(format!("none of these can be started here: {kinds}"));
    }
    let run = Run::of(first.pid().cast_unsigned());
    ensure!(
        run.directory.is_dir(),
        "{} is not there",
        run.directory.display()
    );
    let started = printed
        .lines()
        .filter_map(|line| line.strip_prefix("started "));
    let mut processes = started.map(str::parse).collect::<Result<Vec<i32>, _>>()?;
    let below: Vec<i32> = guardian::descendants(first.pid())
        .iter()
        .map(|pid| pid.as_raw())
        .collect();
    for process in &processes {
        ensure!(
            below.contains(process),
            "{process} is not below the run: {below:?}"
        );
    }
    processes.extend(&below);
    let child = |pid: i32| -> Result<i32> {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let first = children.split(' ').next().context("no child")?;
        Ok(first.parse()?)
    };
    let (pid, signal) = match victim {
        Victim::First(signal) => (first.pid(), signal),
        Victim::Guardian => (child(first.pid())?, Signal::SIGKILL),
        // The guardian has only taken in orphans after that one.
        Victim::Worker => (child(child(first.pid())?)?, Signal::SIGKILL),
    };
    kill(Pid::from_raw(pid), signal)?;
    first.end()?;
    let mut left = Vec::new();
    let over = until(|| {
        left = processes.iter().filter(|pid| runs(**pid)).collect();
        let cgroups = guardian::cgroups(&run.cgroup());
        Ok(left.is_empty() && cgroups.is_empty() && !run.directory.exists())
    })?;
    ensure!(
        over,
        "left behind: processes {left:?}, cgroups {:?}, {}: {}",
        guardian::cgroups(&run.cgroup()),
        run.directory.display(),
        run.directory.exists()
    );
    Ok(())
}
