//! The processes of a FUSE server.
//!
//! They are known by a variable in their environment that no other server has, wherever they went: into the background,
//! into other process groups.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::all_processes;

use super::connection::Connection;
use super::error::TargetError;
use crate::job::{Command, Control, Running};

/// Name of the variable.
const MARK: &str = "CNTR_PERF_SERVER";

/// Time for a server to end after each way to ask for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest excerpt of what a server printed, in characters.
const LAST_WORDS: usize = 400;

/// A server and all processes that it started.
#[derive(Debug)]
pub struct Server {
    mark: String,
    /// What was started; has ended already if the server went into the background.
    first: Option<Running>,
    foreground: bool,
    /// How it ended, once that is known.
    outcome: Option<String>,
}

impl Server {
    /// Starts it.
    pub fn start(
        target: &str,
        line: &[OsString],
        foreground: bool,
        control: &Control,
    ) -> Result<Server, TargetError> {
        let mark = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
        let (program, arguments) = line.split_first().expect("a checked command");
        let first = Command::on_host(program, control)
            .args(arguments)
            .env(MARK, &mark)
            .spawn()
            .map_err(|source| TargetError::Start {
                target: target.to_owned(),
                source,
            })?;
        Ok(Server {
            mark,
            first: Some(first),
            foreground,
            outcome: None,
        })
    }

    /// Its processes that live.
    pub fn pids(&self) -> Vec<Pid> {
        let mark = OsStr::new(&self.mark);
        let mut pids = Vec::new();
        for process in all_processes().into_iter().flatten().flatten() {
            // A zombie has no environment.
            let ours = process.environ().is_ok_and(|environment| {
                environment
                    .get(OsStr::new(MARK))
                    .is_some_and(|it| it == mark)
            });
            if ours {
                pids.push(Pid::from_raw(process.pid()));
            }
        }
        pids
    }

    /// How it ended, if it is not there any more although it should be.
    pub fn ended(&mut self) -> Option<String> {
        if self.outcome.is_none() {
            self.outcome = self.look();
        }
        self.outcome.clone()
    }

    fn look(&mut self) -> Option<String> {
        if self.foreground {
            if !self.first.as_ref().is_some_and(Running::ended) {
                return None;
            }
        } else if self.first.as_ref().is_some_and(|first| !first.ended()) || !self.pids().is_empty()
        {
            return None;
        }
        Some(match self.first.take().map(Running::wait) {
            Some(Err(error)) => error.to_string(),
            Some(Ok(finished)) => {
                let words = last_words(&(finished.stdout + &finished.stderr));
                let quiet = words.is_empty();
                format!(
                    "it ended with success{}{words}",
                    if quiet { "" } else { ": " }
                )
            }
            None => "its processes are gone".to_owned(),
        })
    }

    /// Whether it has gone into the background, if it is one that does.
    pub fn settled(&self) -> bool {
        self.foreground || self.first.as_ref().is_none_or(Running::ended)
    }

    /// The last that it printed.
    pub fn words(&self) -> String {
        self.first
            .as_ref()
            .map_or_else(String::new, |first| last_words(&first.output()))
    }

    /// Waits until its processes have ended, and sees to it that they do. Returns what should not have been necessary.
    pub fn end(mut self, target: &str, connection: Option<Connection>) -> Vec<String> {
        if self.gone(PATIENCE) {
            return Vec::new();
        }
        // Some wait for a signal although their mount is gone; that is their way.
        self.signal(Signal::SIGTERM);
        if self.gone(PATIENCE) {
            return Vec::new();
        }
        let words = self.words();
        self.signal(Signal::SIGKILL);
        if !self.gone(PATIENCE) {
            if let Some(connection) = connection {
                connection.abort();
            }
            if !self.gone(PATIENCE) {
                let pids: Vec<String> = self.pids().iter().map(Pid::to_string).collect();
                return vec![format!(
                    "the server of {target} cannot be killed (process {})",
                    pids.join(", ")
                )];
            }
        }
        let quiet = words.is_empty();
        vec![format!(
            "the server of {target} did not end and was killed{}{words}",
            if quiet { "" } else { ": " }
        )]
    }

    /// Kills it, without waiting for an orderly end.
    pub fn kill(mut self, target: &str, connection: Option<Connection>) -> Vec<String> {
        self.signal(Signal::SIGKILL);
        if let Some(connection) = connection {
            connection.abort();
        }
        if self.gone(PATIENCE) {
            Vec::new()
        } else {
            self.end(target, connection)
        }
    }

    fn signal(&self, signal: Signal) {
        for pid in self.pids() {
            let _ = kill(pid, signal);
        }
        if let Some(first) = self.first.as_ref().filter(|first| !first.ended()) {
            first.signal(signal);
        }
    }

    /// Whether all of it ended within `time`.
    fn gone(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            let first = self.first.as_ref().is_none_or(Running::ended);
            if first && self.pids().is_empty() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The end of what a server printed.
fn last_words(text: &str) -> String {
    let text = text.trim();
    let skip = text.chars().count().saturating_sub(LAST_WORDS);
    text.chars().skip(skip).collect()
}
