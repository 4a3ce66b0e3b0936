//! Ways into a container.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use perf::target::verify;

use super::stage::*;

pub fn enters(name: &str) -> Result<()> {
    let target = target(name)?;
    available(&target)?;
    if name != "nsenter" && std::env::temp_dir().starts_with("/dev") {
        return skip("a container has its own /dev, and the temporary directory is there");
    }
    let stage = Stage::new()?;
    // A mount that exists when the container is made must not be kept by it.
    let older = stage.up(&self::target("native")?, 1)?;
    let fuse = match self::target("cntr")? {
        cntr if cntr.unavailable().is_none() => Some(stage.up(&cntr, 1)?),
        _ => None,
    };
    let mut up = match stage.up(&target, 1) {
        // An old version insists on more than is allowed here.
        Err(error) if format!("{error:#}").contains("Cannot raise file descriptor limit") => {
            return skip(format!("{error:#}"));
        }
        other => other?,
    };
    if let Some(fuse) = fuse {
        fuse.down().context("the container has kept a mount")?;
    }
    older.down()?;
    let place = place(&up);
    ensure!(
        !place.enter.is_empty() && place.servers.is_empty(),
        "{place:?}"
    );
    let checks = verify(&target, &mut up, &stage.host());
    expect_all(&checks)?;
    let container = &up.parameters()["container"];
    ensure!(
        ["docker", "unshare"].contains(&container.as_str()),
        "{container}"
    );
    if name == "attach" {
        ensure!(
            up.parameters().contains_key("transport"),
            "{:?}",
            up.parameters()
        );
    }
    let printed = place.command("pwd").run()?.stdout;
    ensure!(Path::new(printed.trim()) == place.dir, "{printed}");
    let other = place.command("id").arg("-un").user("daemon").run()?;
    ensure!(other.stdout.trim() == "daemon", "{other:?}");
    let failed = place.command("false").run();
    ensure!(failed.is_err(), "the exit code is lost");
    // A job that is left behind ends with the session.
    let running = place.command("sleep").arg("98765").spawn()?;
    let sleeps = || {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| {
                fs::read(entry.path().join("cmdline")).is_ok_and(|line| {
                    line.ends_with(b"sleep\x0098765\0")
                        && !line.starts_with(b"docker")
                        && fs::read_link(entry.path().join("ns/pid")).ok()
                            != fs::read_link("/proc/self/ns/pid").ok()
                })
            })
    };
    while !sleeps() {
        ensure!(!running.ended(), "{}", running.output());
        std::thread::yield_now();
    }
    drop(running);
    up.down()?;
    ensure!(!sleeps(), "the job still runs");
    stage.nothing_left()?;
    stage.end()
}
