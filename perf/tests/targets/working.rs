//! Targets that work: they show the directory and leave nothing behind.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::mount::MsFlags;
use perf::result::{TargetKind, Verdict};
use perf::target::verify;

use super::stage::*;

/// Comes up, is what it claims, goes down.
pub fn mounts(name: &str) -> Result<()> {
    let target = target(name)?;
    let stage = Stage::new()?;
    let mut up = stage.up(&target, 1)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    let fuse = target.kind() == TargetKind::Mount;
    ensure!(place.connections.len() == usize::from(fuse), "{place:?}");
    ensure!(place.servers.is_empty() != fuse, "{place:?}");
    ensure!(
        place.enter.is_empty() && place.others.is_empty(),
        "{place:?}"
    );
    let checks = verify(&target, &mut up, &stage.host());
    if name == "native" || name.starts_with("cntr") {
        expect_all(&checks)?;
        if fuse {
            let found = &up.parameters()["transport"];
            let expected = match name {
                "cntr-uring" => ["uring"; 2],
                "cntr-classic" => ["classic"; 2],
                _ => ["uring", "classic"],
            };
            ensure!(expected.contains(&found.as_str()), "{:?}", up.parameters());
            find(&checks, "is served by our engine")?;
        }
    } else {
        expect(&checks, "is a FUSE file system", Verdict::Verified)?;
        expect(
            &checks,
            "changes the directory of the host",
            Verdict::Verified,
        )?;
        let durable = find(&checks, "fsync")?;
        ensure!(durable.verdict != Verdict::Violated, "{durable:?}");
        if name == "minimal" {
            expect(&checks, "shows what the host changes", Verdict::Verified)?;
            // It knows no callers.
            expect(&checks, "keeps the owner", Verdict::Violated)?;
        }
    }
    if target.spec().needs_uring && !name.starts_with("cntr") {
        expect(&checks, "io_uring", Verdict::Verified)?;
    }
    if fuse {
        for parameter in [
            "threads",
            "max_background",
            "congestion_threshold",
            "mount_options",
        ] {
            let found = up.parameters();
            ensure!(found.contains_key(parameter), "no {parameter} in {found:?}");
        }
    }
    place.command("true").run().context("a job")?;
    ensure!(up.died().is_none(), "{:?}", up.died());
    up.down()?;
    connections.gone()?;
    stage.nothing_left()?;
    stage.end()
}

pub fn several_instances() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let up = stage.up(&target, 3)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    ensure!(
        place.others.len() == 2 && place.servers.len() == 3,
        "{place:?}"
    );
    fs::write(place.others[1].join("file"), "text")?;
    ensure!(fs::read_to_string(place.dir.join("file"))? == "text");
    fs::remove_file(stage.host().join("file"))?;
    up.down()?;
    connections.gone()?;
    stage.end()
}

pub fn dropped() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let up = stage.up(&target, 2)?;
    let connections = Connections::of(&place(&up))?;
    drop(up);
    connections.gone()?;
    stage.nothing_left()?;
    stage.end()
}

/// Another process that ends must not take away the view of connections.
pub fn shares_the_view_of_connections() -> Result<()> {
    let stage = Stage::new()?;
    let point = "/sys/fs/fuse/connections";
    // What an arena of another process does.
    let none = None::<&str>;
    nix::mount::mount(Some(point), point, none, MsFlags::MS_BIND, none)?;
    nix::mount::umount(point)?;
    let target = target("cntr")?;
    let up = stage.up(&target, 1)?;
    ensure!(Connections::of(&place(&up))?.0.len() == 1);
    up.down()?;
    stage.end()
}

pub fn goes_into_the_background() -> Result<()> {
    let stage = Stage::new()?;
    let target = stage.script(
        r#"exec "$3" "$4" mount --daemonize "$1" "$2" -o allow_other"#,
        "foreground = false",
    )?;
    available(&self::target("cntr")?)?;
    let mut up = stage.up(&target, 1)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    ensure!(place.servers.len() == 1, "{place:?}");
    let name = fs::read_to_string(format!("/proc/{}/cmdline", place.servers[0]))?;
    ensure!(name.contains("mount\0--tell"), "{name}");
    ensure!(up.died().is_none(), "{:?}", up.died());
    up.down()?;
    connections.gone()?;
    stage.end()
}
