//! A directory of its own for each test, and what must hold in it.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use perf::job::{Control, Place, Size};
use perf::result::{Check, Verdict};
use perf::target::{Arena, Catalogue, Target, Up};
use tempfile::TempDir;

/// Why a test cannot run here.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

pub fn skip<T>(reason: impl Into<String>) -> Result<T> {
    Err(Skip(reason.into()).into())
}

/// A backing directory and an arena.
pub struct Stage {
    pub arena: Option<Arena>,
    pub directory: TempDir,
}

impl Stage {
    pub fn new() -> Result<Stage> {
        let directory = tempfile::Builder::new()
            .prefix("perf-test-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()?;
        let mut stage = Stage {
            directory,
            arena: None,
        };
        fs::create_dir_all(stage.host())?;
        stage.arena = Some(Arena::new(
            stage.work(),
            stage.path("backing"),
            Control::none(),
        )?);
        Ok(stage)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    pub fn host(&self) -> PathBuf {
        self.path("backing/host")
    }

    pub fn arena(&self) -> &Arena {
        self.arena.as_ref().expect("only the end takes it")
    }

    pub fn up(&self, target: &Target, instances: usize) -> Result<Up> {
        available(target)?;
        Ok(target.up(self.arena(), &self.host(), instances, &Control::none())?)
    }

    /// A target of a file with this server, which is `sh` with the script, the source and the mount point.
    pub fn script(&self, script: &str, further: &str) -> Result<Target> {
        let file = self.path("mine.toml");
        let text = format!(
            "[[target]]\nname = 'mine'\nabout = 'a script'\nkind = 'mount'\nprogram = 'sh'\n\
             command = ['{{program}}', '-c', '''{script}''', 'server', '{{source}}', '{{mountpoint}}', '{{cntr}}']\n{further}\n"
        );
        fs::write(&file, text)?;
        let catalogue = Catalogue::load(&[file], &engine())?;
        Ok(catalogue.select(&["mine".to_owned()])?.remove(0))
    }

    /// Ends the arena; nothing may be left.
    pub fn end(mut self) -> Result<()> {
        self.arena.take().expect("once").end()?;
        self.nothing_left()
    }

    pub fn nothing_left(&self) -> Result<()> {
        let base = self.directory.path();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let base_text = base
            .to_str()
            .context("the temporary directory is not UTF-8")?;
        if let Some(line) = mounts.lines().find(|line| line.contains(base_text)) {
            bail!("still mounted: {line}");
        }
        for entry in fs::read_dir("/proc")?.flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            ensure!(!command.contains(base_text), "still runs: {command}");
        }
        let left: Vec<OsString> = [self.work(), self.path("backing")]
            .iter()
            .flat_map(fs::read_dir)
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name != "host")
            .collect();
        let of_host: Vec<_> = fs::read_dir(self.host())?.flatten().collect();
        // Mount points go when their target does, the directory that holds them with the arena.
        if self.arena.is_none() {
            ensure!(left.is_empty(), "left: {left:?}");
        } else if let [scratch] = &left[..] {
            let inside = fs::read_dir(self.work().join(scratch))?.count();
            ensure!(inside == 0, "{inside} mount points are left");
        }
        ensure!(of_host.is_empty(), "left in the directory: {of_host:?}");
        Ok(())
    }
}

pub fn catalogue() -> Catalogue {
    Catalogue::load(&[], &engine()).expect("what is checked in can be read")
}

pub fn target(name: &str) -> Result<Target> {
    Ok(catalogue().select(&[name.to_owned()])?.remove(0))
}

pub fn available(target: &Target) -> Result<()> {
    match target.unavailable() {
        Some(reason) => skip(format!("{}: {reason}", target.name())),
        None => Ok(()),
    }
}

pub fn place(up: &Up) -> Place {
    let size = Size {
        scale: 1.0,
        seconds: 1.0,
    };
    up.place(size, Control::none().with_deadline(Duration::from_secs(30)))
}

/// Connections with their inodes: a number is used again as soon as it is free.
pub struct Connections(pub Vec<(PathBuf, u64)>);

impl Connections {
    pub fn of(place: &Place) -> Result<Connections> {
        let directory = Path::new("/sys/fs/fuse/connections");
        let all = place.connections.iter().map(|number| {
            let path = directory.join(number.to_string());
            let inode = fs::metadata(&path)?.ino();
            Ok((path, inode))
        });
        Ok(Connections(all.collect::<Result<_>>()?))
    }

    pub fn gone(&self) -> Result<()> {
        for (path, inode) in &self.0 {
            let exists = fs::metadata(path).is_ok_and(|metadata| metadata.ino() == *inode);
            ensure!(!exists, "{} still exists", path.display());
        }
        Ok(())
    }
}

pub fn find<'a>(checks: &'a [Check], claim: &str) -> Result<&'a Check> {
    let found = checks.iter().find(|check| check.claim.contains(claim));
    found.with_context(|| format!("'{claim}' was not checked: {checks:#?}"))
}

pub fn expect(checks: &[Check], claim: &str, verdict: Verdict) -> Result<()> {
    let check = find(checks, claim)?;
    ensure!(check.verdict == verdict, "{claim}: {check:?}");
    Ok(())
}

/// Everything is as it should be; what a tmpfs cannot tell may be unknown.
pub fn expect_all(checks: &[Check]) -> Result<()> {
    let tmpfs = statfs(&std::env::temp_dir())?.filesystem_type() == TMPFS_MAGIC;
    for check in checks {
        let unknown = tmpfs && check.verdict == Verdict::Unknown;
        ensure!(check.verdict == Verdict::Verified || unknown, "{check:?}");
    }
    Ok(())
}

pub fn needs_disk() -> Result<()> {
    if statfs(&std::env::temp_dir())?.filesystem_type() == TMPFS_MAGIC {
        return skip("the temporary directory is a tmpfs, which is never durable");
    }
    Ok(())
}

/// The engine that is built into the program.
pub fn engine() -> Vec<OsString> {
    vec![env!("CARGO_BIN_EXE_perf").into(), "cntr".into()]
}
