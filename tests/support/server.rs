//! The process that serves a mount.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;
use std::{env, io};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, set_parent_process_death_signal, setrlimit};

use super::parameter::Uring;
use super::privilege::Lack;
use super::runner::Skip;
use super::{rootless, wait};

/// What is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// The binary under test.
    Cntr,
    /// A bind mount, to test the tests: they must find nothing.
    Bind,
    /// Another server, to test the tests: they must find its flaws.
    Bindfs,
}

/// What `CNTR_TEST_PEER` asks for.
pub fn peer() -> Peer {
    match env::var("CNTR_TEST_PEER").as_deref() {
        Err(_) | Ok("" | "cntr") => Peer::Cntr,
        Ok("bind") => Peer::Bind,
        Ok("bindfs") => Peer::Bindfs,
        Ok(other) => panic!("CNTR_TEST_PEER={other} is none of cntr, bind, bindfs"),
    }
}

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Mount options, as after `-o`.
    pub options: Vec<String>,
    /// Limit on open files; inherited if `None`.
    pub open_files: Option<u64>,
    /// What it may not do, though the test may.
    pub lack: Option<Lack>,
    /// Whether it says what it does.
    pub verbose: bool,
}

/// A running server.
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts the server of `source` at `point`; what it prints goes to the file `log`.
    pub fn start(source: &Path, point: &Path, setup: &Setup, log: &Path) -> Result<Server> {
        let mut command = match peer() {
            Peer::Cntr => {
                let mut command = Command::new(rootless::binary());
                command.arg("mount").arg(source).arg(point);
                // Tests act as several users.
                let mut options = vec!["allow_other".to_owned()];
                options.extend(env::var("CNTR_TEST_OPTIONS").ok());
                options.extend(setup.options.iter().cloned());
                let options = options.join(",");
                if options.split(',').any(|option| option == "transport=uring")
                    && !Uring::is_enabled()
                {
                    return Err(
                        Skip::new("this kernel has no FUSE over io_uring, or it is off").into(),
                    );
                }
                command.arg("-o").arg(options);
                command.args(setup.verbose.then_some("-v"));
                command
            }
            Peer::Bindfs => {
                let mut command = super::tool::need("bindfs")?;
                command.args(["-f", "-o", "allow_other"]);
                for option in setup.options.iter().filter(|option| *option == "ro") {
                    command.args(["-o", option]);
                }
                command.arg(source).arg(point);
                command
            }
            Peer::Bind => bail!("a bind mount has no server"),
        };
        let output =
            File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let (open_files, lack) = (setup.open_files, setup.lack);
        let prepare = move || -> io::Result<()> {
            set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            if let Some(limit) = open_files {
                setrlimit(
                    Resource::Nofile,
                    Rlimit {
                        current: Some(limit),
                        maximum: Some(limit),
                    },
                )?;
            }
            lack.map_or(Ok(()), Lack::impose)
        };
        // SAFETY: the closure makes some system calls and nothing else: no allocation, no lock, so that it may run
        // between fork and exec of a process with threads.
        unsafe { command.pre_exec(prepare) };
        let child = spawn(command).context("cannot start the server")?;
        Ok(Server {
            child,
            log: log.to_owned(),
        })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the server is a child")
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait::some(limit, || self.ended())
    }

    /// A number from `/proc/PID/status`, in the unit printed there.
    pub fn status(&self, field: &str) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = text.lines().find(|line| line.starts_with(field))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// A skip if options are asked for that the peer does not have.
pub fn need_options(options: &[&str]) -> Result<()> {
    if peer() != Peer::Cntr
        && options
            .iter()
            .any(|option| *option != "allow_other" && *option != "ro")
    {
        return Err(Skip::new(format!(
            "{:?} does not know the options {options:?}",
            peer()
        ))
        .into());
    }
    Ok(())
}

/// The kernel kills a server when the *thread* that started it ends, so one thread that lives as long as the process
/// starts them all.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs): (Sender<Job>, Receiver<Job>) = channel();
        thread::spawn(move || {
            for (mut command, answer) in jobs {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, result) = channel();
    spawner
        .send((command, answer))
        .expect("the spawner lives as long as the process");
    result.recv().expect("the spawner answers")
}
