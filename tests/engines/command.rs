//! Running programs, none of them for ever.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cntr::sys::process::pidfd_open;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::parameter::patience;

/// Where programs are looked for, whatever the caller's is.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longer than any step takes, also on a loaded machine.
pub fn limit() -> Duration {
    Duration::from_secs(30) * patience()
}

/// Why a check cannot be made here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Skip(pub String);

impl Skip {
    pub fn because<T>(reason: impl Into<String>) -> Result<T> {
        Err(Skip(reason.into()).into())
    }
}

/// The program, or the reason why the test cannot run.
pub fn need(program: &str) -> Result<Command> {
    let found = PATH
        .split(':')
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file());
    match found {
        Some(path) => {
            let mut command = Command::new(path);
            command.env_clear().env("PATH", PATH).env("HOME", "/root");
            Ok(command)
        }
        None => Skip::because(format!("{program} is not installed")),
    }
}

/// How a program ended and what it printed.
#[derive(Debug)]
pub struct Output {
    pub what: String,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// What it printed, if it ended with 0.
    pub fn succeeded(self) -> Result<String> {
        ensure!(self.status.success(), "{self}");
        Ok(text(&self.stdout))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (stdout, stderr) = (text(&self.stdout), text(&self.stderr));
        write!(out, "{}: {}", self.what, self.status)?;
        for printed in [stdout.trim(), stderr.trim()] {
            if !printed.is_empty() {
                write!(out, "\n{printed}")?;
            }
        }
        Ok(())
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program that runs. Its output goes to files, since what it leaves in the background may keep them open.
pub struct Running {
    what: String,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Running {
    pub fn start(command: &mut Command, input: &[u8]) -> Result<Running> {
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let stdin = if input.is_empty() {
            Stdio::null()
        } else {
            let mut file = tempfile::tempfile()?;
            file.write_all(input)?;
            file.rewind()?;
            file.into()
        };
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let what = words
            .collect::<Vec<_>>()
            .join(OsStr::new(" "))
            .to_string_lossy()
            .into_owned();
        let child = command
            .stdin(stdin)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        Ok(Running {
            what,
            child,
            stdout,
            stderr,
        })
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits until a process called `name` runs below it.
    pub fn descendant(&self, name: &str) -> Result<i32> {
        descendant(self.pid(), name)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What it printed so far.
    pub fn printed(&self) -> Result<String> {
        // The place in the file is the program's, too, and must not be moved.
        let len = self.stdout.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(len)?];
        self.stdout.read_exact_at(&mut bytes, 0)?;
        Ok(text(&bytes))
    }

    /// Waits until it has printed `wanted`.
    pub fn expect(&mut self, wanted: &str) -> Result<()> {
        let seen = until(|| Ok(self.printed()?.contains(wanted) || self.has_ended()?))?;
        ensure!(
            seen && self.printed()?.contains(wanted),
            "{}: {wanted:?} was not printed, but {:?} {:?}",
            self.what,
            self.printed()?,
            text(&read(&mut self.stderr)?)
        );
        Ok(())
    }

    /// Waits for its end; kills it if that takes too long.
    pub fn end(mut self) -> Result<Output> {
        let pid = Pid::from_raw(self.pid());
        let timeout = PollTimeout::try_from(limit())?;
        // Nobody else waits for it, so the number is its own.
        let ended = {
            let handle = pidfd_open(pid)?;
            let mut handles = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
            poll(&mut handles, timeout)? > 0
        };
        if !ended {
            self.child.kill()?;
            self.child.wait()?;
            let (stdout, stderr) = (self.printed()?, text(&read(&mut self.stderr)?));
            bail!("{} hangs; it printed {stdout:?} {stderr:?}", self.what);
        }
        Ok(Output {
            status: self.child.wait()?,
            stdout: read(&mut self.stdout)?,
            stderr: read(&mut self.stderr)?,
            what: self.what.clone(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Waits until a process called `name` runs below `pid`.
pub fn descendant(pid: i32, name: &str) -> Result<i32> {
    fn find(pid: i32, name: &str) -> Option<i32> {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().find_map(|child| {
            let child: i32 = child.parse().ok()?;
            let comm = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            if comm.trim() == name {
                Some(child)
            } else {
                find(child, name)
            }
        })
    }
    let mut found = None;
    until(|| {
        found = find(pid, name);
        Ok(found.is_some())
    })?;
    found.with_context(|| format!("{name} does not run below process {pid}"))
}

/// Runs a program with nothing to read.
pub fn finish(command: &mut Command) -> Result<Output> {
    Running::start(command, &[])?.end()
}

/// Polls until `condition` holds; false if it did not in time.
pub fn until(mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + limit();
    loop {
        if condition()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}
