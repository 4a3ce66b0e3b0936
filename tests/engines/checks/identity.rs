//! A1, A2 and A6 to A10: the session is a process of the container.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{contains, same};
use crate::command::{finish, text};
use crate::container::{Container, namespace};
use crate::kind::Sample;
use crate::terminal::Terminal;

const NAMESPACES: [&str; 7] = ["uts", "ipc", "net", "pid", "cgroup", "user", "time"];

pub fn namespaces(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let script = "for n in uts ipc net pid cgroup user time mnt; do readlink /proc/self/ns/$n; done; uname -n";
    let printed = container.sh(script)?;
    let lines: Vec<&str> = printed.lines().collect();
    ensure!(lines.len() == 9, "{printed}");
    for (kind, found) in NAMESPACES.iter().zip(&lines) {
        same(kind, *found, &container.namespace(kind)?)?;
    }
    for other in [container.namespace("mnt")?, namespace("self", "mnt")?] {
        ensure!(lines[7] != other, "the mount namespace is not its own");
    }
    let mut uname = Command::new("nsenter");
    uname.arg(format!("--uts=/proc/{}/ns/uts", container.pid));
    let host_name = finish(uname.args(["uname", "-n"]))?.succeeded()?;
    same("host name", lines[8], host_name.trim())
}

pub fn processes_and_jobs(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let printed = container.sh("echo $$; cat /proc/$$/comm; ps -e -o pid=,comm=")?;
    let mut lines = printed.lines();
    let shell = lines.next().context("no output")?;
    same("the shell", lines.next(), Some("sh"))?;
    let listed: Vec<(&str, &str)> = lines
        .filter_map(|line| line.trim().split_once(' '))
        .collect();
    let has = |pid: &str, name: &str| {
        listed
            .iter()
            .any(|(other, comm)| *other == pid && comm.trim() == name)
    };
    ensure!(has(shell, "sh"), "the shell is not listed: {printed}");
    let first = container.inner_pid()?;
    ensure!(
        has(&first, container.proc("comm")?.trim()),
        "{first} is not listed: {printed}"
    );
    if container.has_own("pid")? {
        let own = fs::read_to_string("/proc/self/comm")?;
        let own = own.trim();
        ensure!(
            listed.iter().all(|(_, comm)| comm.trim() != own),
            "processes of the host: {printed}"
        );
        ensure!(
            shell.parse::<u32>()? < 1000,
            "{shell} is not a number of the container's"
        );
    }
    jobs(container)
}

fn jobs(container: &Container) -> Result<()> {
    let mut terminal = Terminal::attach(container, &["bash", "--norc", "--noprofile", "-i"])?;
    // What is typed is echoed; what is printed is not what is typed.
    terminal.type_in("sleep 1000; echo stopped=$((10+$?))\n")?;
    terminal.expect("stopped=")?;
    terminal.wait_for("sleep")?;
    terminal.type_in("\x1a")?;
    terminal.expect("Stopped")?;
    terminal.type_in("kill %1; bg; wait; echo jobs=[$(jobs)]\n")?;
    let before = terminal.expect("jobs=[]")?;
    terminal.type_in("exit 42\n")?;
    same("code", terminal.code()?, Some(42))?;
    let all = format!("{}{before}", terminal.beginning());
    for message in [
        "cannot set terminal process group",
        "no job control",
        "setpgid",
    ] {
        ensure!(!all.contains(message), "{all}");
    }
    Ok(())
}

/// The lines of the session's status and of the first process's, as the session sees them.
fn statuses(container: &Container, wanted: &[&str]) -> Result<(Vec<String>, Vec<String>)> {
    let script = format!(
        "cat /proc/self/status; echo; cat /proc/{}/status",
        container.inner_pid()?
    );
    let printed = container.sh(&script)?;
    let (own, first) = printed.split_once("\n\n").context("two states")?;
    let pick = |text: &str| {
        let is_wanted = |line: &&str| wanted.iter().any(|name| line.starts_with(name));
        text.lines()
            .filter(is_wanted)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (own, first) = (pick(own), pick(first));
    ensure!(own.len() >= wanted.len(), "{printed}");
    Ok((own, first))
}

pub fn users_and_groups(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let (own, first) = statuses(container, &["Uid:", "Gid:", "Groups:"])?;
    same("ids", own, first)?;
    let script = format!(
        "for f in uid_map gid_map setgroups; do cat /proc/self/$f; done; echo; \
         for f in uid_map gid_map setgroups; do cat /proc/{}/$f; done",
        container.inner_pid()?
    );
    let printed = container.sh(&script)?;
    let (own, first) = printed.split_once("\n\n").context("two maps")?;
    same("maps", own.trim(), first.trim())
}

pub fn cgroups(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    // As the host sees both.
    let mut session = container.session(&[], &["sh", "-c", "echo ready; exec sleep 1000"])?;
    session.expect("ready")?;
    let command = session.descendant("sleep")?;
    let found = fs::read_to_string(format!("/proc/{command}/cgroup"))?;
    same("cgroups", found, container.proc("cgroup")?)?;
    drop(session);
    // As the session sees both.
    let script = format!(
        "cat /proc/self/cgroup; echo; cat /proc/{}/cgroup",
        container.inner_pid()?
    );
    let printed = container.sh(&script)?;
    let (own, first) = printed.split_once("\n\n").context("two lists")?;
    same("cgroups in the session", own.trim(), first.trim())?;
    // A limit holds.
    let limit = pids_limit(container)?.filter(|limit| *limit < 200);
    if let Some(limit) = limit {
        let script = HOG.replace("LIMIT", &limit.to_string());
        let hog = container
            .attach(&[], &["python3", "-c", &script])?
            .succeeded()?;
        contains(&hog, "limited")?;
    }
    Ok(())
}

/// Starts processes, and waits for them: those that it would leave nobody in the container waits for, and they count.
const HOG: &str = "\
import os, signal
children = []
try:
    for _ in range(LIMIT):
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
except BlockingIOError:
    print('limited')
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
";

/// How many processes the container may have.
fn pids_limit(container: &Container) -> Result<Option<u32>> {
    let cgroups = container.proc("cgroup")?;
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let hierarchy = match controllers {
            "pids" => "/pids",
            "" => "",
            _ => continue,
        };
        let file = format!("/sys/fs/cgroup{hierarchy}{path}/pids.max");
        if let Ok(text) = fs::read_to_string(file) {
            return Ok(text.trim().parse().ok());
        }
    }
    Ok(None)
}

pub fn capabilities(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let wanted = [
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
    ];
    let (own, first) = statuses(container, &wanted)?;
    same("capabilities", own, first.clone())?;
    if first.iter().any(|line| line == "CapEff:\t0000000000000000") {
        let made = container.attach(&[], &["mknod", "/dev/shm/node", "c", "1", "3"])?;
        ensure!(!made.status.success(), "mknod works without capabilities");
    }
    Ok(())
}

pub fn labels(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let Ok(label) = container.proc("attr/current") else {
        // The kernel has no such module: nothing breaks.
        let read = container.attach(&[], &["cat", "/proc/self/attr/current"])?;
        return same("code", read.code(), Some(1));
    };
    same("label", container.sh("cat /proc/self/attr/current")?, label)
}

pub fn limits_and_seccomp(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let found = container.sh("cat /proc/self/oom_score_adj")?;
    same("oom_score_adj", found, container.proc("oom_score_adj")?)?;
    same(
        "limits",
        container.sh("cat /proc/self/limits")?,
        container.proc("limits")?,
    )?;
    let status = container.proc("status")?;
    if status.lines().any(|line| line == "Seccomp:\t2") {
        let mut command = container.cntr(&["-v", "attach", &container.pid.to_string(), "true"]);
        contains(&text(&finish(&mut command)?.stderr), "seccomp")?;
    }
    Ok(())
}
