//! C2: every step of the set-up may fail, die or hang, and nothing is left.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use cntr::attach::step::Step;
use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{Rootfs, Target, cntr, contains, same, text};

pub const CASES: &[Case] = crate::cases! {
    every_step_may_fail;
    every_process_may_die;
    a_hang_is_given_up;
    limits_too_low_are_named;
    notes_are_printed_with_v;
    the_end_is_not_waited_for;
};

/// Steps that cntr itself takes before there is another process.
const OWN: [Step; 8] = [
    Step::Enter,
    Step::OpenTarget,
    Step::OpenCgroups,
    Step::PlanMounts,
    Step::OpenBinds,
    Step::MakeView,
    Step::ForkServer,
    Step::ForkSession,
];

fn attach(target: &Target, options: &[&str]) -> Result<(Output, Duration), Failed> {
    let start = Instant::now();
    let output = target.attach(options, &["true"])?;
    Ok((output, start.elapsed()))
}

/// Attaches with a fault; it has to end within a second. A machine under load is no failure of the set-up: the fastest
/// of three counts.
fn fail_soon(target: &Target, fault: &str) -> Result<Output, Failed> {
    let mut attempts = Vec::new();
    for _ in 0..3 {
        let (output, time) = attach(target, &["--fail-at", fault])?;
        if time < Duration::from_secs(1) {
            return Ok(output);
        }
        attempts.push(time);
    }
    Err(format!("{fault} took {attempts:?}").into())
}

/// Nothing of the sessions of this process is left: it looks for children and servers of its own only.
fn nothing_left(target: &Target) -> Result<(), Failed> {
    let mounts = target.proc("mountinfo");
    same(
        "mounts in the container",
        mounts.contains("fuse.cntr"),
        false,
    )?;
    same(
        "base directory on the host",
        Path::new("/var/lib/cntr").exists(),
        false,
    )
}

fn every_step_may_fail() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let before = root.listing();
    for step in Step::ALL {
        let output = fail_soon(&target, step.name())?;
        let message = text(&output.stderr);
        same(
            &format!("{} {message}", step.name()),
            output.status.code(),
            Some(125),
        )?;
        contains(&message, step.text())?;
        contains(&message, "fault injected")?;
        nothing_left(&target)?;
    }
    same("the container", root.listing(), before)
}

fn every_process_may_die() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    for step in Step::ALL.iter().filter(|step| !OWN.contains(step)) {
        let fault = format!("{}:kill", step.name());
        let output = fail_soon(&target, &fault)?;
        let message = text(&output.stderr);
        same(
            &format!("{fault} {message}"),
            output.status.code(),
            Some(125),
        )?;
        contains(&message, step.text())?;
        contains(&message, "died")?;
        nothing_left(&target)?;
    }
    // cntr itself.
    for step in OWN {
        fail_soon(&target, &format!("{}:kill", step.name()))?;
        nothing_left(&target)?;
    }
    Ok(())
}

fn a_hang_is_given_up() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    for step in ["serve", "mount-view", "capabilities"] {
        let fault = format!("{step}:hang");
        let (output, time) = attach(&target, &["--deadline", "300", "--fail-at", &fault])?;
        same(step, output.status.code(), Some(125))?;
        contains(&text(&output.stderr), "no answer in time")?;
        if time > Duration::from_secs(8) {
            return Err(format!("{fault} took {time:?}").into());
        }
        nothing_left(&target)?;
    }
    Ok(())
}

fn limits_too_low_are_named() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let odd = cntr(&[
        "attach",
        "--fail-at",
        "dance",
        &target.pid.to_string(),
        "--",
        "true",
    ])?;
    same("code", odd.status.code(), Some(125))?;
    // D4: the usual limit of descriptors is enough.
    let script = format!(
        "ulimit -n 1024; exec {} attach {} -- ls /usr/bin",
        crate::fake::CNTR,
        target.pid
    );
    let output = crate::fake::finish(std::process::Command::new("sh").args(["-c", &script]))?;
    same("code", output.status.code(), Some(0))
}

fn notes_are_printed_with_v() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--userns"])?;
    let output = target.attach(&["-v"], &["true"])?;
    let notes = text(&output.stderr);
    for word in [
        "read-only",
        "joined namespaces: mnt, uts, ipc, net, pid",
        "joined namespace: user",
    ] {
        contains(&notes, word)?;
    }
    let quiet = target.attach(&[], &["true"])?;
    same("quiet", text(&quiet.stderr), String::new())
}

/// Over io_uring the kernel looks again after 50 ms if files are still being closed when a session is unmounted.
fn the_end_is_not_waited_for() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let end = Instant::now() + crate::fake::deadline();
    let mut medians = Vec::new();
    // Beside other tests anything may take long for a while.
    while Instant::now() < end {
        let mut times = Vec::new();
        for _ in 0..9 {
            let (output, time) = attach(&target, &[])?;
            same("exit code", output.status.code(), Some(0))?;
            times.push(time);
        }
        times.sort();
        if times[4] < Duration::from_millis(45) {
            return Ok(());
        }
        medians.push(times[4]);
    }
    Err(format!("entering, running true and leaving takes {medians:?}").into())
}
