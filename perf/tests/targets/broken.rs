//! Servers that do not start, do not answer, die: an error in time, and nothing left behind.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use perf::job::{Command, Control};
use perf::target::TargetError;

use super::stage::*;

pub fn fails_at_start() -> Result<()> {
    let stage = Stage::new()?;
    for further in ["", "foreground = false"] {
        let target = stage.script("echo no luck today >&2; exit 3", further)?;
        let error = target
            .up(stage.arena(), &stage.host(), 1, &Control::none())
            .err()
            .context("it came up")?;
        ensure!(matches!(error, TargetError::Ended { .. }), "{error:?}");
        let text = error.to_string();
        ensure!(
            text.contains("no luck today") && text.contains("exit status: 3"),
            "{text}"
        );
        stage.nothing_left()?;
    }
    stage.end()
}

pub fn never_mounts() -> Result<()> {
    let stage = Stage::new()?;
    let target = stage.script("echo thinking; sleep 1000 & sleep 1000; true", "")?;
    let control = Control::none().with_deadline(Duration::from_secs(5));
    let begun = Instant::now();
    let error = target
        .up(stage.arena(), &stage.host(), 1, &control)
        .err()
        .context("it came up")?;
    ensure!(matches!(error, TargetError::Late { .. }), "{error:?}");
    ensure!(error.to_string().contains("thinking"), "{error}");
    ensure!(begun.elapsed() < Duration::from_secs(30));
    stage.nothing_left()?;
    stage.end()
}

/// Mounts, but nobody answers.
pub fn never_answers() -> Result<()> {
    let stage = Stage::new()?;
    let options = "fd=3,rootmode=40000,user_id=0,group_id=0";
    let script = format!(
        r#"exec 3<>/dev/fuse; mount -i -t fuse -o {options} none "$2"; echo lost >&2; sleep 1000; true"#
    );
    let target = stage.script(&script, "")?;
    let control = Control::none().with_deadline(Duration::from_secs(5));
    let begun = Instant::now();
    let error = target
        .up(stage.arena(), &stage.host(), 1, &control)
        .err()
        .context("it came up")?;
    ensure!(matches!(error, TargetError::Mute { .. }), "{error:?}");
    ensure!(error.to_string().contains("lost"), "{error}");
    ensure!(begun.elapsed() < Duration::from_secs(60));
    stage.nothing_left()?;
    stage.end()
}

pub fn dies_meanwhile() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let mut up = stage.up(&target, 1)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    kill(place.servers[0], Signal::SIGKILL)?;
    while up.died().is_none() {
        std::thread::yield_now();
    }
    let error = up.down().err().context("nobody noticed")?;
    let text = error.to_string();
    ensure!(text.contains("had ended by itself"), "{text}");
    connections.gone()?;
    stage.nothing_left()?;
    stage.end()
}

pub fn stops_answering() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let up = stage.up(&target, 1)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    kill(place.servers[0], Signal::SIGSTOP)?;
    let begun = Instant::now();
    let error = up.down().err().context("nobody noticed")?;
    ensure!(error.to_string().contains("was killed"), "{error}");
    ensure!(begun.elapsed() < Duration::from_secs(60));
    connections.gone()?;
    stage.nothing_left()?;
    stage.end()
}

pub fn in_use() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let up = stage.up(&target, 1)?;
    let place = place(&up);
    let user = Command::on_host("sleep", &Control::none())
        .arg("1000")
        .directory(&place.dir)
        .spawn()?;
    let inside = format!("/proc/{}/cwd", user.pid());
    while fs::read_link(&inside)? != place.dir {
        std::thread::yield_now();
    }
    let error = up.down().err().context("nobody noticed")?;
    let text = error.to_string();
    let expected = format!(
        "could only be detached: Device or resource busy, used by process {} sleep",
        user.pid()
    );
    ensure!(text.contains(&expected), "{text}");
    drop(user);
    stage.nothing_left()?;
    stage.end()
}
