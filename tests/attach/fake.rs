//! Fake containers: by `cntr run`, and by hand with the tools of util-linux.

use std::cell::RefCell;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cntr::sys::process::pidfd_open;
use libtest_mimic::Failed;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A hang is a failure after this long.
pub fn deadline() -> Duration {
    Duration::from_secs(60) * crate::parameter::patience()
}

/// The program under test.
pub const CNTR: &str = env!("CARGO_BIN_EXE_cntr");

/// The only program of the containers' root.
pub const BUSYBOX: &str = "/bin/busybox";

thread_local! {
    static SKIPPED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Ends a test that cannot go on here: it counts as skipped, not as passed. As in `return skip("no such zone")`.
pub fn skip(reason: impl Into<String>) -> Result<(), Failed> {
    SKIPPED.set(Some(reason.into()));
    Ok(())
}

/// Why the test of this thread could not go on.
pub fn skipped() -> Option<String> {
    SKIPPED.take()
}

/// A name that no other test uses.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A root directory with busybox in it; removed when dropped.
pub struct Rootfs(pub PathBuf);

const APPLETS: &[&str] = &[
    "cat", "date", "dd", "echo", "env", "false", "head", "hostname", "id", "kill", "ls", "mkdir",
    "mknod", "ps", "pwd", "readlink", "sh", "sleep", "stat", "tail", "touch", "true", "umount",
];

impl Rootfs {
    pub fn new() -> Rootfs {
        let root = std::env::temp_dir().join(format!("cntr-test-{}", unique()));
        for directory in ["bin", "dev", "etc", "proc", "root", "srv", "sys", "tmp"] {
            fs::create_dir_all(root.join(directory)).expect("a directory below the temporary one");
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).expect("busybox");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        let files = [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\n",
            ),
            ("etc/group", "root:x:0:\napp:x:1000:\n"),
            (
                "etc/hosts",
                "127.0.0.1 localhost\n192.0.2.7 only-in-the-container\n",
            ),
        ];
        for (name, text) in files {
            fs::write(root.join(name), text).expect("a file");
        }
        Rootfs(root)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("ASCII")
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    pub fn remove(&self, name: &str) {
        let path = self.0.join(name);
        let _ = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
    }

    /// Every path with everything about it but the access time.
    pub fn listing(&self) -> String {
        listing(&self.0)
    }
}

pub fn listing(path: &Path) -> String {
    let output = Command::new("find")
        .arg(path)
        .args(["-xdev", "-printf", "%p %i %m %U %G %n %s %T@ %C@ %l\\n"])
        .output()
        .expect("find");
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.join("\n")
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether containers can have limits here.
pub fn limits_work() -> Result<bool, Failed> {
    let root = Rootfs::new();
    let output = cntr(&["run", "--pids", "8", root.path(), "--", "true"])?;
    Ok(output.status.success() || !text(&output.stderr).contains("hierarchy of this machine"))
}

/// A process to attach to; killed when dropped.
pub struct Target {
    pub pid: i32,
    child: Option<Child>,
}

impl Target {
    /// A container of `cntr run --detach`.
    pub fn run(root: &Rootfs, options: &[&str], command: &[&str]) -> Result<Target, Failed> {
        let mut arguments = vec!["run", "--detach"];
        arguments.extend(options);
        arguments.push(root.path());
        arguments.push("--");
        arguments.extend(command);
        let output = cntr(&arguments)?;
        let pid = text(&output.stdout)
            .trim()
            .parse()
            .map_err(|_| format!("no container: {output:?}"))?;
        Ok(Target { pid, child: None })
    }

    /// The first process of a container that was started otherwise.
    pub fn adopt(pid: i32) -> Target {
        Target { pid, child: None }
    }

    /// A sleeping container of `cntr run --detach`.
    pub fn sleeping(root: &Rootfs, options: &[&str]) -> Result<Target, Failed> {
        Target::run(root, options, &["sleep", "1000"])
    }

    /// The process that calls itself `name` at the end of a chain of children that starts with `command`.
    pub fn by_hand(command: &mut Command, name: &str) -> Result<Target, Failed> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Target::adopt_child(child).wait_for(name)
    }

    /// A process that was just started.
    pub fn adopt_child(child: Child) -> Target {
        Target {
            pid: child.id().cast_signed(),
            child: Some(child),
        }
    }

    /// The process that calls itself `name` at the end of the chain of children that starts with this one.
    pub fn wait_for(mut self, name: &str) -> Result<Target, Failed> {
        let first = self.pid;
        let start = Instant::now();
        loop {
            let mut pid = first;
            loop {
                let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                if comm.trim() == name {
                    self.pid = pid;
                    return Ok(self);
                }
                let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
                    .unwrap_or_default();
                match children
                    .split_ascii_whitespace()
                    .next()
                    .and_then(|child| child.parse().ok())
                {
                    Some(child) => pid = child,
                    None => break,
                }
            }
            if start.elapsed() > Duration::from_secs(10) {
                return Err(format!("process {first} did not become {name}").into());
            }
            std::thread::yield_now();
        }
    }

    pub fn attach(&self, options: &[&str], command: &[&str]) -> Result<Output, Failed> {
        self.cntr("attach", options, command)
    }

    pub fn exec(&self, options: &[&str], command: &[&str]) -> Result<Output, Failed> {
        self.cntr("exec", options, command)
    }

    fn cntr(&self, verb: &str, options: &[&str], command: &[&str]) -> Result<Output, Failed> {
        let pid = self.pid.to_string();
        cntr(&[&[verb], options, &[pid.as_str(), "--"], command].concat())
    }

    /// What `script` prints in a session; it has to end with 0.
    pub fn sh(&self, options: &[&str], script: &str) -> Result<String, Failed> {
        let output = self.attach(options, &["sh", "-c", script])?;
        if !output.status.success() {
            return Err(format!("{script}: {output:?}").into());
        }
        Ok(text(&output.stdout))
    }

    pub fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid)).unwrap_or_default()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.pid);
        // A process left by `cntr run` cleans up after the container; the test is over when it has.
        let parent = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = parent
            .lines()
            .find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        let keeper = parent.filter(|parent| *parent > 1).map(Pid::from_raw);
        let keeper = keeper
            .filter(|_| self.child.is_none())
            .and_then(|keeper| pidfd_open(keeper).ok());
        let _ = kill(pid, Signal::SIGKILL);
        if let Some(keeper) = keeper {
            let mut fds = [PollFd::new(keeper.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(10_000_u16));
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs cntr; killed when it takes too long.
pub fn cntr(arguments: &[&str]) -> Result<Output, Failed> {
    let mut command = Command::new(CNTR);
    command.args(arguments);
    finish(&mut command)
}

/// Runs a command with nothing to read; killed when it takes too long.
pub fn finish(command: &mut Command) -> Result<Output, Failed> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    match told.recv_timeout(deadline()) {
        Ok(output) => Ok(output?),
        Err(_) => {
            // Nobody has waited for it, so the number is its own.
            kill(pid, Signal::SIGKILL)?;
            Err(format!("{command:?} hangs").into())
        }
    }
}

pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, left: T, right: T) -> Result<(), Failed> {
    if left == right {
        Ok(())
    } else {
        Err(format!("{what}: {left:?} is not {right:?}").into())
    }
}

pub fn contains(what: &str, needle: &str) -> Result<(), Failed> {
    if what.contains(needle) {
        Ok(())
    } else {
        Err(format!("{needle:?} is not in {what:?}").into())
    }
}

/// Whether a program is installed.
pub fn installed(tool: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
    })
}
