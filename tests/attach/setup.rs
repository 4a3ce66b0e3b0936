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
    a_dry_run_changes_nothing;
    a_dry_run_shows_users_and_what_is_hidden;
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

fn a_dry_run_changes_nothing() -> Result<(), Failed> {
    let root = Rootfs::new();
    let options = [
        "--userns",
        "--user",
        "7:8",
        "--caps",
        "none",
        "--no-new-privileges",
    ];
    let target = Target::sleeping(&root, &options)?;
    let before = (
        root.listing(),
        target.proc("mountinfo"),
        target.proc("cgroup"),
    );
    let made = root.path().to_owned() + "/made";
    let pid = target.pid.to_string();
    let planned = target.attach(&["--dry-run"], &["touch", &made])?;
    let plan = text(&planned.stdout);
    same(&text(&planned.stderr), planned.status.code(), Some(0))?;
    for line in [
        format!("process {pid}, in its own pid namespace 1"),
        format!("touch {made}"),
        "user joined: it is not cntr's".to_owned(),
        "time not joined: ".to_owned(),
        "/  / of the host, read-only, owners shifted to the container's ids".to_owned(),
        "/var/lib/cntr  the container's tree".to_owned(),
        "/etc/passwd  the container's".to_owned(),
        "user 7, 7, 7 (real, effective, saved); 100007 on the host".to_owned(),
        "permitted 0000000000000000".to_owned(),
        "exec never gives privileges".to_owned(),
        "open files ".to_owned(),
        "the target has no seccomp filter".to_owned(),
        "(FUSE over io_uring".to_owned(),
        "coherent: until the host changes it".to_owned(),
    ] {
        // Without io_uring here.
        if line.starts_with("(FUSE") && plan.contains("classic (/dev/fuse") {
            continue;
        }
        contains(&plan, &line)?;
    }
    let json = cntr(&["--json", "exec", "--dry-run", &pid, "--", "touch", "/made"])?;
    let plan: serde_json::Value = serde_json::from_slice(&json.stdout)?;
    same(
        "process",
        plan["process"].as_i64(),
        Some(i64::from(target.pid)),
    )?;
    same("mounts", plan["mounts"].as_array().map(Vec::len), Some(0))?;
    same("user", plan["ids"]["users"][0].as_i64(), Some(7))?;
    same("transport", plan.get("transport"), None)?;
    // What a plan says of the session is what a session is.
    let status = target.exec(&[], &["cat", "/proc/self/status"])?;
    let bounding = plan["capabilities"]["bounding"]
        .as_str()
        .unwrap_or_default();
    contains(&text(&status.stdout), &format!("CapBnd:\t{bounding}"))?;
    let after = (
        root.listing(),
        target.proc("mountinfo"),
        target.proc("cgroup"),
    );
    same("the container", after, before)?;
    same("a file", Path::new(&made).exists(), false)?;
    // What keeps a plan from being made is what keeps a session.
    let wrong = cntr(&["attach", "--dry-run", "4194303", "--", "true"])?;
    same("code", wrong.status.code(), Some(125))?;
    contains(&text(&wrong.stderr), "there is no such process")?;
    let fault = target.attach(&["--dry-run", "--fail-at", "plan-mounts"], &["true"])?;
    same("code", fault.status.code(), Some(125))
}

fn a_dry_run_shows_users_and_what_is_hidden() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--userns"])?;
    let user = ["--user", "12:34"];
    let options = [
        &["--dry-run", "--effective-user", "1234:56"][..],
        &["--hide", "/root", "--hide", "/usr//share/./doc/"],
        &user,
    ]
    .concat();
    let planned = target.attach(&options, &["true"])?;
    same(&text(&planned.stderr), planned.status.code(), Some(0))?;
    let plan = text(&planned.stdout);
    for line in [
        "hidden        /root",
        "/usr/share/doc",
        "of user 1234 and group 56 on the host (--effective-user 1234:56), but none can be made",
        "user 12, 12, 12 (real, effective, saved); 100012 on the host",
        "group 34, 34, 34",
        "as --user 12:34 says",
    ] {
        contains(&plan, line)?;
    }
    let json = |options: &[&str]| -> Result<serde_json::Value, Failed> {
        let pid = target.pid.to_string();
        let planned = cntr(&[&["--json", "attach"], options, &[&pid, "--", "true"]].concat())?;
        Ok(serde_json::from_slice(&planned.stdout)?)
    };
    let plan = json(&[&options[..], &["--host", "rw"]].concat())?;
    let hidden = serde_json::json!(["/root", "/usr/share/doc"]);
    same("hidden", &plan["hidden"], &hidden)?;
    let new_files =
        serde_json::json!({"name": "1234:56", "user": 1234, "group": 56, "can_create": true});
    same("new files", &plan["effective_user"], &new_files)?;
    same("user", plan["user"].as_str(), Some("12:34"))?;
    // The plan is true.
    let session = target.attach(&user, &["cat", "/proc/self/status"])?;
    let session = text(&session.stdout);
    for (key, ids) in [("Uid", "users"), ("Gid", "groups")] {
        let line = session.lines().find(|line| line.starts_with(key));
        let line = line.ok_or("no ids")?.split_whitespace();
        let ids = plan["ids"][ids].as_array().into_iter().flatten();
        let planned: Vec<String> = ids.map(serde_json::Value::to_string).collect();
        same(
            key,
            line.skip(1).take(3).map(str::to_owned).collect(),
            planned,
        )?;
    }
    // What is not asked for is the target's, and nothing is hidden.
    let plain = json(&["--dry-run"])?;
    same("hidden", &plain["hidden"], &serde_json::json!([]))?;
    for key in ["effective_user", "user"] {
        same(key, plain.get(key), None)?;
    }
    contains(
        &text(&target.attach(&["--dry-run"], &["true"])?.stdout),
        "as the target's",
    )
}
