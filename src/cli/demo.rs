//! `cntr demo`: a container without any tool, and a session in it.
//!
//! It runs this very program for every step and prints each command line, so that all of it can be repeated by hand.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Global;
use crate::attach::supervise::Signals;
use crate::sys::process::pidfd_open;

/// Prints a line. A reader that went away does not end the demo: the container has to be removed.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// See it work: an empty container, and your tools in it
#[derive(clap::Args, Debug)]
#[command(after_help = NOTES)]
pub struct DemoArgs {
    /// Do not end with a shell in the container
    #[arg(long)]
    pub no_shell: bool,
}

const NOTES: &str = "\
It needs root, /dev/fuse and Linux 5.12 or newer, and no container engine. It makes a container in a directory below $TMPDIR
without a shell or any other program in it, runs your tools there, and removes everything. In a terminal it ends with
a shell in the container.";

/// How long the container may take to go away.
const PATIENCE: u16 = 5000;

/// The container; removed when dropped.
struct Container {
    directory: PathBuf,
    pid: Option<Pid>,
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // The process that `cntr run --detach` left behind removes the cgroup; it ends after that.
            let keeper = parent_of(pid).and_then(|keeper| pidfd_open(keeper).ok());
            let _ = kill(pid, Signal::SIGKILL);
            if let Some(keeper) = keeper {
                let mut fds = [PollFd::new(keeper.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, PollTimeout::from(PATIENCE));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent
        .trim()
        .parse()
        .ok()
        .map(Pid::from_raw)
        .filter(|parent| parent.as_raw() > 1)
}

/// Runs `cntr demo`.
pub fn run(args: &DemoArgs, _global: &Global) -> anyhow::Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the demo makes a container and mounts a file system, which needs root: try `sudo cntr demo`"
        );
    }
    // Ctrl-C goes to the step that runs; the demo itself looks for it between the steps, to clean up.
    let signals = Signals::block().context("cannot take over signals")?;
    let mut demo = Demo {
        container: make_container()?,
        signals,
    };
    match demo.show(args) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Stop::Interrupted(signal)) => Ok(ExitCode::from(128 + signal as u8)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn make_container() -> anyhow::Result<Container> {
    let directory = std::env::temp_dir().join(format!("cntr-demo-{}", std::process::id()));
    fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let container = Container {
        directory,
        pid: None,
    };
    let root = &container.directory;
    for name in ["dev", "etc", "proc", "srv", "sys"] {
        fs::create_dir(root.join(name))
            .with_context(|| format!("cannot make {name} in {}", root.display()))?;
    }
    let files = [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/sbin/nologin\napp:x:1000:1000::/srv:/sbin/nologin\n",
        ),
        ("etc/group", "root:x:0:\napp:x:1000:\n"),
        (
            "etc/hosts",
            "127.0.0.1 localhost demo\n192.0.2.7 database.demo.internal\n",
        ),
        ("etc/hostname", "demo\n"),
        ("etc/os-release", "NAME=\"Nothing at all\"\nID=demo\n"),
        ("srv/app.conf", "answer = 42\n"),
    ];
    for (name, text) in files {
        fs::write(root.join(name), text)
            .with_context(|| format!("cannot write {name} in {}", root.display()))?;
    }
    Ok(container)
}

/// Why the demo ended early.
enum Stop {
    Interrupted(Signal),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Stop {
        Stop::Failed(error)
    }
}

struct Demo {
    container: Container,
    signals: Signals,
}

/// This program with other arguments.
fn cntr(arguments: &[&str]) -> Command {
    let mut command = super::own_program();
    command.args(arguments).stdin(Stdio::null());
    command
}

fn quoted(argument: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:+,".contains(&byte);
    if argument.bytes().all(plain) {
        argument.to_owned()
    } else {
        format!("'{argument}'")
    }
}

fn announce(arguments: &[&str]) {
    let words: Vec<String> = arguments.iter().copied().map(quoted).collect();
    say!("\n$ cntr {}", words.join(" "));
}

impl Demo {
    fn show(&mut self, args: &DemoArgs) -> Result<(), Stop> {
        let pid = self.start()?;
        let pid = pid.as_str();
        say!("\nIt has no program in it, so its own root is of little use:");
        self.step(&["exec", pid, "--", "/bin/sh"], 127)?;

        let before = self.state()?;
        say!(
            "\nBut your tools work there. The host name, the processes and the users are the container's:"
        );
        self.step(&["attach", pid, "--", "hostname"], 0)?;
        self.step(&["attach", pid, "--", "ps", "-e", "-o", "pid,comm"], 0)?;
        self.step(&["attach", pid, "--", "id"], 0)?;
        self.step(&["attach", pid, "--", "grep", "internal", "/etc/hosts"], 0)?;
        say!(
            "\n/ is the host's, served by the FUSE engine; the container's files are at /var/lib/cntr:"
        );
        self.step(
            &[
                "attach",
                pid,
                "--",
                "ls",
                "-l",
                "/var/lib/cntr",
                "/var/lib/cntr/srv",
            ],
            0,
        )?;
        if let Some((tool, arguments)) = big_tool() {
            say!("\n{tool} of the host, about a file of the container:");
            self.step(&[&["attach", pid, "--"], arguments].concat(), 0)?;
        }
        self.statistics(pid)?;
        let after = self.state()?;
        if before != after {
            return Err(Stop::Failed(anyhow::anyhow!(
                "the container has changed: {}",
                difference(&before, &after)
            )));
        }
        say!(
            "\nNothing of that has changed the container: its {} files and mounts are as before.",
            before.len()
        );

        say!("\nWhat a session writes below /var/lib/cntr, the container has:");
        self.step(
            &[
                "attach",
                pid,
                "--",
                "sh",
                "-c",
                "echo answer = 43 > /var/lib/cntr/srv/app.conf",
            ],
            0,
        )?;
        let config = self.container.directory.join("srv/app.conf");
        let text =
            fs::read_to_string(&config).context("cannot read the container's srv/app.conf")?;
        say!("$ cat {}\n{}", config.display(), text.trim_end());

        if !args.no_shell && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            say!("\nNow it is yours; `exit` ends the demo and removes the container.");
            announce(&["attach", pid]);
            let mut command = cntr(&["attach", pid]);
            command
                .stdin(Stdio::inherit())
                .status()
                .context("cannot run cntr attach")?;
        }
        say!("\nThe container is removed. To attach to one of yours: cntr attach NAME");
        Ok(())
    }

    fn start(&mut self) -> Result<String, Stop> {
        say!("A container: its own namespaces, its own root, and no program in it.");
        let root = self.container.directory.display().to_string();
        let plain = [
            "run",
            "--detach",
            "--pause",
            "--hostname",
            "demo",
            root.as_str(),
        ];
        let limited = [&plain[..2], &["--pids", "64"], &plain[2..]].concat();
        // The limit is for show: where there is no pids controller the demo goes on without.
        let mut pid = None;
        for (arguments, last) in [(limited.as_slice(), false), (plain.as_slice(), true)] {
            announce(arguments);
            let mut command = cntr(arguments);
            command.stderr(if last {
                Stdio::inherit()
            } else {
                Stdio::null()
            });
            let output = command.output().context("cannot run cntr run")?;
            if output.status.success() {
                pid = String::from_utf8_lossy(&output.stdout)
                    .trim()
                    .parse::<i32>()
                    .ok();
                break;
            }
        }
        let pid = pid.context("cannot start the demo's container")?;
        say!("{pid}");
        self.container.pid = Some(Pid::from_raw(pid));
        self.interrupted()?;
        Ok(pid.to_string())
    }

    fn interrupted(&self) -> Result<(), Stop> {
        self.signals
            .take_fatal()
            .map_or(Ok(()), |signal| Err(Stop::Interrupted(signal)))
    }

    /// Runs a command whose exit code has to be `expected`.
    fn step(&self, arguments: &[&str], expected: i32) -> Result<(), Stop> {
        announce(arguments);
        let status = cntr(arguments)
            .status()
            .context("cannot run this program again")?;
        self.interrupted()?;
        if status.code() != Some(expected) {
            return Err(Stop::Failed(anyhow::anyhow!(
                "that should have ended with {expected}, not with {status}"
            )));
        }
        Ok(())
    }

    /// Reads a lot in a session, and shows what its server did for that before it ends.
    fn statistics(&self, pid: &str) -> Result<(), Stop> {
        say!("\nThe engine at work:");
        let work =
            "ls -lR /etc /usr/bin | wc -l; cat /usr/bin/[a-d]* > /dev/null; echo done; read wait";
        let arguments = ["attach", pid, "--", "sh", "-c", work];
        announce(&arguments);
        let mut session = cntr(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run this program again")?;
        let output = session.stdout.take().context("the session has no output")?;
        for line in BufReader::new(output).lines() {
            let line = line.context("cannot read the session's output")?;
            if line == "done" {
                self.step(&["stat", pid], 0)?;
                // The end of its input ends the session.
                drop(session.stdin.take());
                continue;
            }
            say!("{line}");
        }
        session.wait().context("cannot wait for the session")?;
        self.interrupted()
    }

    /// Everything that an attached session could have changed: the container's files and mounts.
    fn state(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut state = BTreeMap::new();
        record(&self.container.directory, &mut state)?;
        let pid = self.container.pid.context("the container does not run")?;
        let path = format!("/proc/{pid}/mountinfo");
        let mounts = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        for line in mounts.lines() {
            state.insert(format!("mount {line}"), 0);
        }
        Ok(state)
    }
}

/// Hashes of everything about the files below `path`, access times excepted: reading is allowed.
fn record(path: &Path, state: &mut BTreeMap<String, u64>) -> anyhow::Result<()> {
    let about = || format!("cannot read {}", path.display());
    let data = path.symlink_metadata().with_context(about)?;
    let mut hasher = DefaultHasher::new();
    (
        data.ino(),
        data.mode(),
        data.uid(),
        data.gid(),
        data.nlink(),
        data.size(),
    )
        .hash(&mut hasher);
    (
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    )
        .hash(&mut hasher);
    if data.is_file() {
        fs::read(path).with_context(about)?.hash(&mut hasher);
    }
    state.insert(path.display().to_string(), hasher.finish());
    if data.is_dir() {
        for entry in fs::read_dir(path).with_context(about)? {
            record(&entry.with_context(about)?.path(), state)?;
        }
    }
    Ok(())
}

fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let changed = before
        .iter()
        .filter(|(name, hash)| after.get(*name) != Some(hash));
    let added = after.iter().filter(|(name, _)| !before.contains_key(*name));
    let mut names: Vec<&str> = changed
        .chain(added)
        .map(|(name, _)| name.as_str())
        .collect();
    names.dedup();
    names.join(", ")
}

/// A tool that no container would be shipped with.
fn big_tool() -> Option<(&'static str, &'static [&'static str])> {
    const FILE: &str = "/var/lib/cntr/srv/app.conf";
    const TOOLS: &[(&str, &[&str])] = &[
        (
            "python3",
            &[
                "python3",
                "-c",
                "print(open(\"/var/lib/cntr/srv/app.conf\").read().split())",
            ],
        ),
        ("perl", &["perl", "-ne", "print uc", FILE]),
        ("awk", &["awk", "{ print $3 }", FILE]),
    ];
    let path = std::env::var_os("PATH")?;
    let exists =
        |tool: &str| std::env::split_paths(&path).any(|directory| directory.join(tool).is_file());
    TOOLS.iter().copied().find(|(tool, _)| exists(tool))
}
