//! A running container, whoever made it, and cntr in it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{self, Output, PATH, Running, finish, until};
use crate::world::MARK;

/// The program under test.
pub const CNTR: &str = env!("CARGO_BIN_EXE_cntr");

/// A variable of the caller that must not get into a session.
pub const SECRET: &str = "SECRET_OF_THE_CALLER";

/// A command with its arguments and what is in its environment.
#[derive(Clone, Debug, Default)]
pub struct Words {
    pub words: Vec<OsString>,
    pub variables: Vec<(OsString, OsString)>,
}

impl Words {
    /// What `command` is, to be run more than once.
    pub fn of(command: &Command) -> Words {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let variables = command.get_envs();
        Words {
            words: words.map(OsStr::to_owned).collect(),
            variables: variables
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                .collect(),
        }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env_clear();
        command.envs(self.variables.iter().cloned());
        command.current_dir("/");
        command
    }
}

/// How a container ends.
pub enum End {
    /// Its engine stops it, and removes it after that if it does not by itself.
    Engine { stop: Words, remove: Option<Words> },
    /// Its first process is killed.
    Kill,
}

/// See above.
pub struct Container {
    /// Its first process.
    pub pid: i32,
    /// What it can be called, besides the number of that process.
    pub names: Vec<String>,
    /// Variables that say to the tools of the engine where it is.
    pub variables: Vec<(OsString, OsString)>,
    /// The engine's way to run a command in it: what comes before the command.
    pub exec: Option<Words>,
    pub end: End,
    /// The process that was started for it, if it is ours.
    pub child: Option<Child>,
}

/// A name that no other container has.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{stem}-{}-{number}", std::process::id())
}

/// How long containers sleep: a number that no other container has, so that it can be found by its command line.
pub fn sleep() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("9{:07}{number:03}", std::process::id())
}

impl Container {
    /// One that no engine knows: the process that calls itself `sleep` at the end of the chain of children that starts with
    /// `command`, to which the words for sleeping are added.
    pub fn by_hand(mut command: Command) -> Result<Container> {
        let time = sleep();
        // Not in the command lines of those that come before it.
        command.args(["sh", "-c", "exec sleep $TIME"]);
        command.env("TIME", &time).env("MARK", MARK);
        let log = tempfile::tempfile()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let first = child.id().cast_signed();
        let mut container = Container {
            pid: first,
            names: vec![format!("command://sleep {time}")],
            variables: Vec::new(),
            exec: None,
            end: End::Kill,
            child: Some(child),
        };
        let mut over = false;
        let found = until(|| {
            over = container
                .child
                .as_mut()
                .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            let last = last_child(first);
            let name = fs::read_to_string(format!("/proc/{last}/comm")).unwrap_or_default();
            if name.trim() == "sleep" {
                container.pid = last;
            }
            Ok(over || name.trim() == "sleep")
        })?;
        if !found || over {
            use std::os::unix::fs::FileExt;
            let mut said = vec![0; usize::try_from(log.metadata()?.len())?];
            log.read_exact_at(&mut said, 0)?;
            bail!("{command:?} did not become sleep: {}", command::text(&said));
        }
        Ok(container)
    }

    /// What is in /proc about its first process.
    pub fn proc(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.pid);
        fs::read_to_string(&path).context(path)
    }

    /// A path in it, as seen from the host. Links that lead elsewhere must not be in it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/{path}", self.pid))
    }

    /// A namespace of its first process.
    pub fn namespace(&self, kind: &str) -> Result<String> {
        namespace(&self.pid.to_string(), kind)
    }

    /// Whether it has a namespace of its own.
    pub fn has_own(&self, kind: &str) -> Result<bool> {
        Ok(self.namespace(kind)? != namespace("self", kind)?)
    }

    /// Whether its root directory is the host's.
    pub fn has_hosts_root(&self) -> bool {
        !self.path("etc/os-release").exists()
            || fs::read(self.path("etc/os-release")).ok() == fs::read("/etc/os-release").ok()
    }

    /// The number that its first process has in it.
    pub fn inner_pid(&self) -> Result<String> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let last = line.and_then(|line| line.split_whitespace().last());
        Ok(last.context("no NSpid in the status")?.to_owned())
    }

    /// cntr, called by somebody who has set `SECRET`.
    pub fn cntr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CNTR);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env(SECRET, "1")
            .current_dir("/");
        command.envs(self.variables.iter().cloned());
        command
    }

    fn in_it(&self, verb: &str, options: &[&str], words: &[&str]) -> Command {
        let pid = self.pid.to_string();
        self.cntr(&[&[verb], options, &[pid.as_str(), "--"], words].concat())
    }

    /// A session, started.
    pub fn session(&self, options: &[&str], words: &[&str]) -> Result<Running> {
        Running::start(&mut self.in_it("attach", options, words), &[])
    }

    /// A session that is over.
    pub fn attach(&self, options: &[&str], words: &[&str]) -> Result<Output> {
        finish(&mut self.in_it("attach", options, words))
    }

    /// A session that reads `input`.
    pub fn feed(&self, input: &[u8], words: &[&str]) -> Result<Output> {
        Running::start(&mut self.in_it("attach", &[], words), input)?.end()
    }

    pub fn exec(&self, words: &[&str]) -> Result<Output> {
        finish(&mut self.in_it("exec", &[], words))
    }

    /// What `script` prints in a session; it has to end with 0.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.attach(&[], &["sh", "-c", script])?.succeeded()
    }

    /// Makes it stop.
    pub fn stop(&mut self) -> Result<()> {
        match &self.end {
            End::Engine { stop, .. } => {
                finish(&mut stop.command())?.succeeded()?;
            }
            End::Kill => kill(Pid::from_raw(self.pid), Signal::SIGKILL)?,
        }
        let pid = self.pid;
        let gone = until(|| Ok(!runs(pid)))?;
        ensure!(gone, "its first process does not end");
        if let Some(mut child) = self.child.take() {
            let ended = until(|| Ok(child.try_wait()?.is_some()))?;
            ensure!(ended, "what started it does not end");
        }
        Ok(())
    }

    /// Makes its engine forget it, once it is stopped. False if the engine forgets by itself.
    pub fn remove(&mut self) -> Result<bool> {
        match &self.end {
            End::Engine {
                remove: Some(remove),
                ..
            } => {
                finish(&mut remove.command())?.succeeded()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Whether a process has not ended, nor is about to.
pub fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The end of a chain of children.
fn last_child(first: i32) -> i32 {
    let mut last = first;
    loop {
        let path = format!("/proc/{last}/task/{last}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        match children.split(' ').next().and_then(|one| one.parse().ok()) {
            Some(child) => last = child,
            None => return last,
        }
    }
}

pub fn namespace(pid: &str, kind: &str) -> Result<String> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let link = fs::read_link(&path).context(path)?;
    Ok(link.to_string_lossy().into_owned())
}
