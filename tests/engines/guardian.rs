//! What sees to it that nothing is left behind, however a run ends.
//!
//! Three processes: the one that was started; its child, the **guardian**; and the guardian's child, the worker, which does the
//! tests. Whatever engines leave in the background (daemons, monitors, shims, containers) becomes a child of the guardian once
//! its parent has ended. So when the worker ends, or the first process does (the guardian holds a pipe that says so), everything
//! that still runs below the guardian is killed, and the cgroups and the directory of the run are removed. Mounts end with the
//! worker's mount namespace. If it is the guardian that dies, the first process does the same.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use crate::parameter::Uring;

/// Says which of the three processes one is.
pub const ROLE: &str = "CNTR_TEST_ENGINES_ROLE";

/// How long what was killed may take to go.
const REAPING: Duration = Duration::from_secs(30);

/// A run: the name of its directory and of its cgroups, which nothing else has.
#[derive(Clone, Debug)]
pub struct Run {
    pub directory: PathBuf,
}

impl Run {
    /// The run whose first process this is.
    pub fn of(first: u32) -> Run {
        Run {
            directory: std::env::temp_dir().join(format!("cntr-engines-{first}")),
        }
    }

    /// The name of the run's cgroup in each hierarchy.
    pub fn cgroup(&self) -> String {
        let name = self.directory.file_name().and_then(|name| name.to_str());
        // Systemd's programs look for a unit in paths of cgroups, below slices.
        format!(
            "{}.slice",
            name.expect("the directory of a run has an ASCII name")
        )
    }
}

/// What this process is to do.
pub enum Role {
    /// Run the tests.
    Work(Run),
    /// Nothing more: this is how the run ended.
    Done(ExitCode),
}

/// Makes the two other processes, in those that are not the worker.
pub fn divide() -> Role {
    let role = std::env::var(ROLE).unwrap_or_default();
    match role.split_once(':') {
        Some(("guardian", directory)) => {
            let run = Run {
                directory: directory.into(),
            };
            Role::Done(guard(&run))
        }
        Some(("worker", directory)) => Role::Work(Run {
            directory: directory.into(),
        }),
        _ => Role::Done(supervise()),
    }
}

/// This program again, as `role`.
fn again(role: &str, run: &Run) -> Command {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .env(ROLE, format!("{role}:{}", run.directory.display()));
    command
}

/// The first process: starts the guardian, and stands in for it if it dies.
fn supervise() -> ExitCode {
    set_child_subreaper(true).expect("a process may take in orphans");
    let run = Run::of(std::process::id());
    fs::create_dir(&run.directory).expect("a directory below the temporary one");
    let mut guardian = again("guardian", &run)
        .stdin(Stdio::piped())
        .spawn()
        .expect("this program can be started");
    // Closed when this process ends, in whatever way.
    let _alive = guardian.stdin.take();
    let status = guardian.wait().expect("a child can be waited for");
    match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(101)),
        None => {
            eprintln!("the guardian of the tests ended with {status}");
            sweep(&run);
            ExitCode::from(101)
        }
    }
}

/// The guardian: starts the worker, takes in orphans, and clears up.
#[expect(clippy::zombie_processes, reason = "it waits for whatever ends")]
fn guard(run: &Run) -> ExitCode {
    // Ctrl-C is for the first process; this one is told by the pipe.
    let _ = setsid();
    set_child_subreaper(true).expect("a process may take in orphans");
    let uring = Uring::enable();
    let worker = again("worker", run)
        .stdin(Stdio::null())
        .spawn()
        .expect("this program can be started");
    let worker = Pid::from_raw(worker.id().cast_signed());
    thread::spawn(move || {
        // Nothing is ever written.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = kill(worker, Signal::SIGKILL);
    });
    let code = loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == worker => break code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == worker => {
                eprintln!("the tests were ended by {signal}");
                break 128 + signal as i32;
            }
            Err(error) if error != Errno::EINTR => break 101,
            _ => {}
        }
    };
    sweep(run);
    drop(uring);
    ExitCode::from(u8::try_from(code).unwrap_or(101))
}

/// Removes everything that is left of a run.
fn sweep(run: &Run) {
    let end = Instant::now() + REAPING;
    loop {
        let descendants = descendants(std::process::id().cast_signed());
        for pid in &descendants {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        if descendants.is_empty() {
            break;
        }
        if Instant::now() > end {
            eprintln!("left behind: processes {descendants:?}");
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    while let Err(problem) = remove_cgroups(&run.cgroup()) {
        if Instant::now() > end {
            eprintln!("left behind: {problem}");
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    if let Err(error) = fs::remove_dir_all(&run.directory) {
        eprintln!("left behind: {}: {error}", run.directory.display());
    }
}

/// All processes below `pid`.
pub fn descendants(pid: i32) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name before it may contain anything.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| {
            let mut fields = rest.split(' ');
            fields.nth(1)?.parse().ok()
        });
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(Pid::from_raw(child));
            next.push(child);
        }
    }
    found
}

/// The directories that are called `name`, in every hierarchy of cgroups.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten();
    hierarchies
        .map(|entry| entry.path())
        .chain([top.to_owned()])
        .map(|hierarchy| hierarchy.join(name))
        .filter(|directory| directory.is_dir())
        .collect()
}

fn remove_cgroups(name: &str) -> Result<(), String> {
    fn remove(directory: &Path) -> Result<(), String> {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path())?;
            }
        }
        fs::remove_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))
    }
    cgroups(name).iter().try_for_each(|one| remove(one))
}
