//! cntr in a terminal.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use cntr::sys::terminal::Size;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{descendant, limit, until};
use crate::container::Container;

/// A terminal with a session in it.
pub struct Terminal {
    master: File,
    child: Child,
    seen: String,
    past: String,
}

impl Terminal {
    pub fn attach(container: &Container, words: &[&str]) -> Result<Terminal> {
        let size = Size {
            ws_row: 24,
            ws_col: 200,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None)?;
        let pid = container.pid.to_string();
        let cntr = container.cntr(&[&["attach", "--env", "PS1=$ ", &pid, "--"], words].concat());
        let mut command = std::process::Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(cntr.get_program());
        command.args(cntr.get_args()).env_clear();
        command.envs(
            cntr.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let stdio = || pty.slave.try_clone().map(Stdio::from);
        let child = command
            .stdin(stdio()?)
            .stdout(stdio()?)
            .stderr(stdio()?)
            .spawn()?;
        Ok(Terminal {
            master: File::from(pty.master),
            child,
            seen: String::new(),
            past: String::new(),
        })
    }

    pub fn type_in(&mut self, text: &str) -> Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Waits until `text` is printed, and gives what was printed up to there since the last time.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let end = Instant::now() + limit();
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                let before = std::mem::replace(&mut self.seen, rest);
                self.past.push_str(&before);
                return Ok(before);
            }
            ensure!(
                Instant::now() < end,
                "{text:?} is not printed, but {:?}",
                self.seen
            );
            let mut handles = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut handles, PollTimeout::from(100_u8))? > 0 {
                let mut buffer = [0; 4096];
                match self.master.read(&mut buffer) {
                    Ok(len) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..len])),
                    Err(error) => bail!("{text:?} is not printed, but {:?}; {error}", self.seen),
                }
            }
        }
    }

    /// What was waited for so far.
    pub fn beginning(&self) -> &str {
        &self.past
    }

    /// Waits until a process called `name` runs below cntr.
    pub fn wait_for(&self, name: &str) -> Result<i32> {
        descendant(self.child.id().cast_signed(), name)
    }

    pub fn code(&mut self) -> Result<Option<i32>> {
        let mut code = None;
        let ended = until(|| {
            let status = self.child.try_wait()?;
            code = status.and_then(|status| status.code());
            Ok(status.is_some())
        })?;
        ensure!(ended, "cntr does not end; printed: {:?}", self.seen);
        Ok(code)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Setsid's child is cntr, whose end is the session's.
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Ok(child) = child.parse() {
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
