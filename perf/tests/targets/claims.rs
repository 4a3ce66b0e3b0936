//! Targets that are not what they say.

use std::fs;

use anyhow::{Result, ensure};
use perf::job::Control;
use perf::result::Verdict;
use perf::target::{Arena, verify};

use super::stage::*;

pub fn claims_to_be_fuse() -> Result<()> {
    let stage = Stage::new()?;
    let target = stage.script(r#"mount --bind "$1" "$2""#, "foreground = false")?;
    let mut up = stage.up(&target, 1)?;
    let checks = verify(&target, &mut up, &stage.host());
    expect(&checks, "is a FUSE file system", Verdict::Violated)?;
    expect(&checks, "shows what the host changes", Verdict::Verified)?;
    up.down()?;
    stage.end()
}

pub fn native_on_fuse() -> Result<()> {
    let stage = Stage::new()?;
    let below = stage.up(&target("cntr")?, 1)?;
    let fuse = place(&below).dir;
    let work = stage.path("work");
    let arena = Arena::new(work, fuse.clone(), Control::none())?;
    let native = target("native")?;
    let mut up = native.up(&arena, &fuse, 1, &Control::none())?;
    let checks = verify(&native, &mut up, &fuse);
    let check = find(&checks, "is a bind mount")?;
    ensure!(check.verdict == Verdict::Violated, "{check:?}");
    ensure!(check.detail.contains("is FUSE itself"), "{check:?}");
    up.down()?;
    arena.end()?;
    below.down()?;
    stage.end()
}

pub fn another_directory() -> Result<()> {
    let stage = Stage::new()?;
    let other = stage.path("other");
    fs::create_dir(&other)?;
    let script = format!(
        r#"exec "$3" "$4" mount {} "$2" -o allow_other"#,
        other.display()
    );
    let target = stage.script(&script, "")?;
    available(&self::target("cntr")?)?;
    let mut up = stage.up(&target, 1)?;
    let checks = verify(&target, &mut up, &stage.host());
    expect(&checks, "changes the directory", Verdict::Violated)?;
    ensure!(
        fs::read_dir(&other)?.count() == 0,
        "the check has left something"
    );
    up.down()?;
    stage.end()
}

/// A server whose fsync does nothing: strace(1) answers instead of the kernel.
pub fn ignores_fsync() -> Result<()> {
    needs_disk()?;
    let stage = Stage::new()?;
    let target = stage.script(
        r#"exec strace -f -qq -o /dev/null -e trace=fsync,fdatasync -e inject=fsync,fdatasync:retval=0 "$3" "$4" mount "$1" "$2" -o allow_other"#,
        "requires = ['strace']",
    )?;
    available(&self::target("cntr")?)?;
    let mut up = match stage.up(&target, 1) {
        Err(error) if format!("{error:#}").contains("ptrace") => {
            return skip("strace may not trace");
        }
        other => other?,
    };
    let checks = verify(&target, &mut up, &stage.host());
    expect(&checks, "fsync", Verdict::Violated)?;
    let detail = &find(&checks, "fsync")?.detail;
    ensure!(detail.contains("are not on the disk"), "{detail}");
    expect(&checks, "is a FUSE file system", Verdict::Verified)?;
    up.down()?;
    stage.end()
}

pub fn delays_writes() -> Result<()> {
    needs_disk()?;
    let stage = Stage::new()?;
    let target = stage.script(
        r#"exec passthrough_ll -f -o allow_other,default_permissions,writeback,cache=always,source="$1" "$2""#,
        "requires = ['passthrough_ll']",
    )?;
    let mut up = stage.up(&target, 1)?;
    let checks = verify(&target, &mut up, &stage.host());
    ensure!(
        up.parameters()["writeback_cache"] == "true",
        "{:?} {checks:#?}",
        up.parameters()
    );
    expect(&checks, "fsync", Verdict::Verified)?;
    up.down()?;
    let mut through = stage.up(&self::target("cntr")?, 1)?;
    verify(&self::target("cntr")?, &mut through, &stage.host());
    ensure!(
        through.parameters()["writeback_cache"] == "false",
        "{:?}",
        through.parameters()
    );
    through.down()?;
    stage.end()
}
