//! A command in a place.
//!
//! Every command is a process group of its own. It ends in time: at the deadline or after an interrupt the group is
//! killed, and if it cannot die because it waits for a FUSE server, the server's connection is aborted.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cntr::sys::process::pidfd_open;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::control::Control;
use super::{Place, tool};

/// Time that a killed job has before the connections it may wait for are aborted.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longest excerpt of a failed command's output in an error, in characters.
const LAST_WORDS: usize = 400;

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is no such program.
    #[error("{program} is not installed")]
    Missing {
        /// Its name.
        program: String,
    },
    /// It cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// Its name.
        program: String,
        /// The reason.
        source: std::io::Error,
    },
    /// It ended without success.
    #[error("{program} failed ({status}){}{words}", if words.is_empty() { "" } else { ": " })]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        words: String,
    },
    /// It took too long.
    #[error("{program} was ended after {seconds:.0} s: it did not finish in time{}{words}", if words.is_empty() { "" } else { ": " })]
    Deadline {
        /// Its name.
        program: String,
        /// Seconds it ran.
        seconds: f64,
        /// The end of what it printed.
        words: String,
    },
    /// A signal to the suite ended it.
    #[error("interrupted")]
    Interrupted,
}

/// A command line in the making.
#[derive(Clone, Debug)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    user: Option<String>,
    directory: PathBuf,
    enter: Vec<OsString>,
    connections: Vec<u32>,
    control: Control,
}

impl Command {
    pub(super) fn new(place: &Place, program: OsString) -> Command {
        Command {
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            user: None,
            directory: place.dir.clone(),
            enter: place.enter.clone(),
            connections: place.connections.clone(),
            control: place.control.clone(),
        }
    }

    /// A command on the host, beside every target.
    pub fn on_host(program: impl Into<OsString>, control: &Control) -> Command {
        Command {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            user: None,
            directory: PathBuf::from("/"),
            enter: Vec::new(),
            connections: Vec::new(),
            control: control.clone(),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Command {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it as this user of the system, with that user's group only.
    pub fn user(mut self, name: &str) -> Command {
        self.user = Some(name.to_owned());
        self
    }

    /// Runs it in this directory, as the place sees it.
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Command {
        self.directory = directory.as_ref().to_owned();
        self
    }

    /// The whole command line: what enters the target, the working directory, the user, the program.
    ///
    /// # Errors
    /// A program is not installed.
    pub fn line(&self) -> Result<Vec<OsString>, JobError> {
        let find = |program: &OsStr| {
            tool::find(program)
                .map(OsString::from)
                .ok_or_else(|| JobError::Missing {
                    program: program.to_string_lossy().into_owned(),
                })
        };
        let mut line = self.enter.clone();
        line.extend([
            find("env".as_ref())?,
            "-C".into(),
            self.directory.clone().into(),
        ]);
        for (name, value) in &self.environment {
            let mut variable = name.clone();
            variable.push("=");
            variable.push(value);
            line.push(variable);
        }
        if let Some(user) = &self.user {
            line.extend([
                find("setpriv".as_ref())?,
                "--reuid".into(),
                user.into(),
                "--regid".into(),
                user.into(),
                "--clear-groups".into(),
                "--".into(),
            ]);
        }
        line.push(find(&self.program)?);
        line.extend(self.arguments.iter().cloned());
        Ok(line)
    }

    /// Starts it. What it prints is kept for the end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(self) -> Result<Running, JobError> {
        let name = Path::new(&self.program)
            .file_name()
            .unwrap_or(&self.program)
            .to_string_lossy()
            .into_owned();
        let start = |source| JobError::Start {
            program: name.clone(),
            source,
        };
        let line = self.line()?;
        let stdout = tempfile::tempfile().map_err(start)?;
        let stderr = tempfile::tempfile().map_err(start)?;
        let begun = Instant::now();
        let child = std::process::Command::new(&line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().map_err(start)?)
            .stderr(stderr.try_clone().map_err(start)?)
            .process_group(0)
            .spawn()
            .map_err(start)?;
        let pidfd = pidfd_open(Pid::from_raw(child.id() as i32)).map_err(start)?;
        Ok(Running {
            name,
            child: Some(child),
            pidfd,
            stdout,
            stderr,
            begun,
            connections: self.connections,
            control: self.control,
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be started, fails, takes too long, or the suite is interrupted.
    pub fn run(self) -> Result<Finished, JobError> {
        self.spawn()?.wait()
    }
}

/// A command that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Option<Child>,
    pidfd: OwnedFd,
    stdout: File,
    stderr: File,
    begun: Instant,
    connections: Vec<u32>,
    control: Control,
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    /// Seconds from its start to its end.
    pub seconds: f64,
}

impl Running {
    /// Its process id; that of what enters the target for a session.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().map_or(0, |child| child.id() as i32))
    }

    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        self.poll(Duration::ZERO)
    }

    /// Sends a signal to the command itself, not to its children.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = nix::sys::signal::kill(Pid::from_raw(child.id() as i32), signal);
        }
    }

    /// What it has printed up to now, both streams.
    pub fn output(&self) -> String {
        text(&self.stdout) + &text(&self.stderr)
    }

    /// Waits until it ends with success.
    ///
    /// # Errors
    /// It fails, takes too long, or the suite is interrupted.
    pub fn wait(self) -> Result<Finished, JobError> {
        let program = self.name.clone();
        match self.wait_any()? {
            (status, finished) if status.success() => Ok(finished),
            (status, finished) => Err(JobError::Failed {
                program,
                status,
                words: last_words(&finished.stdout, &finished.stderr),
            }),
        }
    }

    /// Waits until it ends, with success or without: for programs that explain their failure on standard output.
    ///
    /// # Errors
    /// It takes too long, or the suite is interrupted.
    pub fn wait_any(mut self) -> Result<(ExitStatus, Finished), JobError> {
        loop {
            let slice = self.control.remaining().unwrap_or(Duration::MAX);
            if self.poll(slice.min(Duration::from_millis(100))) {
                break;
            }
            if self.control.interrupted().is_some() {
                return Err(JobError::Interrupted);
            }
            if self.control.expired() {
                self.kill();
                return Err(JobError::Deadline {
                    program: self.name.clone(),
                    seconds: self.begun.elapsed().as_secs_f64(),
                    words: last_words(&text(&self.stdout), &text(&self.stderr)),
                });
            }
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut child = self.child.take().expect("only wait takes it");
        let status = child.wait().map_err(|source| JobError::Start {
            program: self.name.clone(),
            source,
        })?;
        if self.control.interrupted().is_some() && status.signal().is_some() {
            return Err(JobError::Interrupted);
        }
        let finished = Finished {
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
            seconds,
        };
        Ok((status, finished))
    }

    /// Whether it ended within `time`.
    fn poll(&self, time: Duration) -> bool {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        poll(&mut fds, time).is_ok_and(|ready| ready > 0)
    }

    /// Kills the group and reaps the command.
    fn kill(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let group = Pid::from_raw(child.id() as i32);
        let _ = killpg(group, Signal::SIGKILL);
        if !self.poll(PATIENCE) {
            for connection in &self.connections {
                let _ = fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1");
            }
        }
        if self.poll(PATIENCE) {
            let _ = child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The end of what it said, preferably of its complaints.
fn last_words(stdout: &str, stderr: &str) -> String {
    let words = match stderr.trim() {
        "" => stdout.trim(),
        complaints => complaints,
    };
    let skip = words.chars().count().saturating_sub(LAST_WORDS);
    words.chars().skip(skip).collect()
}

fn text(mut file: &File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind();
    let _ = file.read_to_end(&mut bytes);
    // The job shares the position; what it prints from now on must come after what it has printed.
    let _ = file.seek(std::io::SeekFrom::End(0));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, control: &Control) -> Command {
        Command::on_host("sh", control).arg("-c").arg(script)
    }

    #[test]
    fn what_it_prints_is_kept() {
        let finished = sh("echo out; echo err >&2", &Control::none())
            .run()
            .unwrap();
        assert_eq!(finished.stdout, "out\n");
        assert_eq!(finished.stderr, "err\n");
    }

    #[test]
    fn a_failure_has_its_last_words() {
        let error = sh("echo bad news >&2; exit 3", &Control::none())
            .run()
            .unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status: 3): bad news");
        let error = Command::on_host("no-such-program", &Control::none())
            .run()
            .unwrap_err();
        assert_eq!(error.to_string(), "no-such-program is not installed");
    }

    #[test]
    fn the_deadline_ends_the_whole_group() {
        let control = Control::none().with_deadline(Duration::from_secs(1));
        let mark = tempfile::tempdir().unwrap();
        let path = mark.path().join("child");
        let script = format!("sleep 60 & echo $! > {}; wait", path.display());
        let begun = Instant::now();
        let error = sh(&script, &control).run().unwrap_err();
        assert!(matches!(error, JobError::Deadline { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        let child = fs::read_to_string(path).unwrap();
        let lives = || {
            fs::read_to_string(format!("/proc/{}/stat", child.trim()))
                .is_ok_and(|stat| !stat.contains(") Z"))
        };
        // It was killed at the same time, but not waited for.
        while lives() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it still runs");
            std::thread::yield_now();
        }
    }

    #[test]
    fn variables_and_directories() {
        let finished = sh("echo $COLOUR; pwd", &Control::none())
            .env("COLOUR", "blue green")
            .directory("/usr")
            .run()
            .unwrap();
        assert_eq!(finished.stdout, "blue green\n/usr\n");
    }
}
