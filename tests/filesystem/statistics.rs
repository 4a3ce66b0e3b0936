//! What `cntr stat` tells of a mount.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::FlockOperation;
use serde_json::Value;

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::parameter::Uring;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, peer};
use crate::support::tool::run;
use crate::support::{rootless, wait};

pub fn add(suite: &mut Suite) {
    for transport in ["classic", "uring"] {
        let mut add = |name: &str, test: fn(&str) -> Result<()>| {
            suite.test(format!("{name}_{transport}"), move || {
                if peer() != Peer::Cntr {
                    return Err(Skip::new("only cntr has statistics").into());
                }
                if transport == "uring" && !Uring::is_enabled() {
                    return Err(Skip::new("this kernel has no FUSE over io_uring").into());
                }
                test(&format!("transport={transport}"))
            });
        };
        add("stat_finds_requests_in_their_queue", queues);
        add("stat_tells_what_was_asked_again", cache);
        add("stat_watch_has_percentiles_of_the_interval", interval);
        add("stat_watch_ends_after_count_intervals", count);
        add("stat_watch_ends_with_ctrl_c", interrupted);
        add("stat_watch_ends_with_the_server", server_ends);
        add("stat_watch_redraws_a_terminal", terminal);
    }
}

fn stat(options: &[&str], point: &Path) -> Command {
    let mut command = Command::new(rootless::binary());
    command.arg("stat").arg(point).args(options);
    command
}

fn report(point: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&run(&mut stat(&["--json"], point))?)?)
}

/// The entry of `list` whose `key` is `name`.
fn entry<'a>(list: &'a Value, key: &str, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|entry| entry[key] == name)
}

fn requests(report: &Value, operation: &str) -> u64 {
    let found = entry(&report["operations"], "operation", operation);
    found.map_or(0, |found| found["requests"].as_u64().unwrap_or(0))
}

fn queues(transport: &str) -> Result<()> {
    const COUNT: u64 = 150;
    // Nothing is cached, so that each access is a LOOKUP.
    let mount = Mount::new(Kind::Ext4, &[transport, "cache=strict"])?;
    fs::write(mount.host("file"), "")?;
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this)?;
    let cpu = (0..CpuSet::count()).rfind(|cpu| before.is_set(*cpu) == Ok(true));
    let cpu = cpu.context("no CPU")?;
    let mut one = CpuSet::new();
    one.set(cpu)?;
    sched_setaffinity(this, &one)?;
    let looked_up = (0..COUNT).try_for_each(|_| fs::metadata(mount.at("file")).map(drop));
    sched_setaffinity(this, &before)?;
    looked_up?;
    let name = match transport {
        "transport=classic" => "classic".to_owned(),
        _ => format!("cpu {cpu}"),
    };
    let lookups = || -> Result<u64> {
        let report = report(mount.path())?;
        let queue = entry(&report["queues"], "name", &name);
        Ok(queue.map_or(0, |queue| requests(queue, "LOOKUP")))
    };
    // A request is recorded after it was answered.
    let counted = wait::until(wait::LONG, || lookups().is_ok_and(|found| found >= COUNT));
    ensure!(counted, "{} of {COUNT} in queue {name}", lookups()?);
    let report = report(mount.path())?;
    ensure!(report["usage"]["user_ns"].as_u64().is_some());
    let text = run(&mut stat(&["--queues"], mount.path()))?;
    for expected in ["QUEUE", &name, "REPLACED", "cache ", "CPU ", "LOOKUP"] {
        ensure!(text.contains(expected), "no {expected} in\n{text}");
    }
    mount.close()
}

fn cache(transport: &str) -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[transport, "cache=strict"])?;
    fs::write(mount.host("file"), "text")?;
    for _ in 0..10 {
        fs::read(mount.at("file"))?;
        ensure!(fs::metadata(mount.at("missing")).is_err());
    }
    let figure = |name: &str| -> Result<u64> {
        let report = report(mount.path())?;
        report["cache"][name].as_u64().context("no such figure")
    };
    let reached = |name: &str, least: u64| {
        let reached = wait::until(wait::LONG, || {
            figure(name).is_ok_and(|count| count >= least)
        });
        ensure!(reached, "{name}: {:?}, not {least}", figure(name));
        anyhow::Ok(())
    };
    reached("no_such_names", 10)?;
    reached("repeated_lookups", 9)?;
    ensure!(figure("first_lookups")? == 1);
    ensure!(figure("forgotten")? == 0);
    let opens = [
        "opens_keeping_pages",
        "opens_dropping_pages",
        "direct_opens",
        "passthrough_opens",
    ];
    let opens: Result<Vec<u64>> = opens.iter().map(|name| figure(name)).collect();
    ensure!(opens?.iter().sum::<u64>() == 10);
    fs::remove_file(mount.at("file"))?;
    reached("forgotten", 1)?;
    mount.close()
}

/// A running `cntr stat --watch --json`.
struct Watching {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Watching {
    fn start(point: &Path, options: &[&str]) -> Result<Watching> {
        let mut child = stat(&["--json", "--watch", "0.05"], point)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no output")?;
        Ok(Watching {
            child,
            output: BufReader::new(output),
        })
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(
            serde_json::from_str(&line).with_context(|| line.clone())?,
        ))
    }

    /// The first interval with requests of `operation`.
    fn until(&mut self, operation: &str) -> Result<Value> {
        loop {
            let line = self.next()?.context("it ended")?;
            if requests(&line, operation) > 0 {
                return Ok(line);
            }
        }
    }

    /// How it ends, and what it says then.
    fn end(mut self) -> Result<(ExitStatus, String)> {
        while self.next()?.is_some() {}
        let mut said = String::new();
        let mut errors = self.child.stderr.take().context("no errors")?;
        errors.read_to_string(&mut said)?;
        Ok((self.child.wait()?, said))
    }
}

fn lock(file: &File, operation: FlockOperation) -> Result<()> {
    Ok(rustix::fs::flock(file.as_fd(), operation)?)
}

/// A lock that is waited for takes longer than those before it, which were free (locking and unlocking is SETLKW): the
/// median of the interval says so, the one since the start does not.
fn interval(transport: &str) -> Result<()> {
    const FREE: u64 = 200;
    let mount = Mount::new(Kind::Ext4, &[transport])?;
    fs::write(mount.host("file"), "")?;
    let file = File::open(mount.at("file"))?;
    for _ in 0..FREE / 2 {
        lock(&file, FlockOperation::LockExclusive)?;
        lock(&file, FlockOperation::Unlock)?;
    }
    wait::until(wait::LONG, || {
        report(mount.path()).is_ok_and(|report| requests(&report, "SETLKW") == FREE)
    });
    let mut watching = Watching::start(mount.path(), &[])?;
    ensure!(watching.next()?.is_some());
    // The host holds it, so that the waiter's is the only request.
    let holder = File::open(mount.host("file"))?;
    lock(&holder, FlockOperation::LockExclusive)?;
    let waiting = thread::spawn(move || lock(&file, FlockOperation::LockExclusive));
    let blocked = || -> Result<u64> {
        let report = report(mount.path())?;
        let queues = report["queues"].as_array().context("no queues")?;
        Ok(queues
            .iter()
            .filter_map(|queue| queue["blocked"].as_u64())
            .sum())
    };
    let begun = wait::until(wait::LONG, || blocked().is_ok_and(|blocked| blocked > 0));
    lock(&holder, FlockOperation::Unlock)?;
    if waiting.join().is_err() {
        bail!("the waiter panicked");
    }
    ensure!(begun, "the lock is not waited for");
    let line = watching.until("SETLKW")?;
    kill(
        Pid::from_raw(watching.child.id().cast_signed()),
        Signal::SIGINT,
    )?;
    ensure!(watching.end()?.0.success());
    let of = |report: &Value| -> Result<(u64, u64)> {
        let found = entry(&report["operations"], "operation", "SETLKW").context("no SETLKW")?;
        let number = |name: &str| found[name].as_u64().context("no number");
        Ok((number("requests")?, number("p50_ns")?))
    };
    let (requests, median) = of(&line)?;
    let (all, median_of_all) = of(&report(mount.path())?)?;
    ensure!(requests == 1 && all == FREE + 1, "{requests} of {all}");
    ensure!(
        median > median_of_all,
        "{median} ns after {median_of_all} ns"
    );
    ensure!(line["interval_ns"].as_u64() < line["uptime_ns"].as_u64());
    mount.close()
}

fn count(transport: &str) -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[transport])?;
    let mut watching = Watching::start(mount.path(), &["--count", "2"])?;
    for _ in 0..2 {
        let line = watching.next()?.context("too few lines")?;
        ensure!(line["interval_ns"].as_u64().is_some_and(|time| time > 0));
        ensure!(line["operations"].is_array() && line["queues"].is_array());
    }
    ensure!(watching.next()?.is_none(), "too many lines");
    let (status, said) = watching.end()?;
    ensure!(status.success() && said.is_empty(), "{status}: {said}");
    // The same for people: blocks, with an empty line between them.
    let text = run(&mut stat(&["-w", "0.05", "--count", "2"], mount.path()))?;
    ensure!(text.matches("requests/s").count() == 2, "{text}");
    ensure!(!text.contains('\x1b'), "{text:?}");
    mount.close()
}

fn interrupted(transport: &str) -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[transport])?;
    let mut watching = Watching::start(mount.path(), &[])?;
    ensure!(watching.next()?.is_some());
    kill(
        Pid::from_raw(watching.child.id().cast_signed()),
        Signal::SIGINT,
    )?;
    let (status, said) = watching.end()?;
    ensure!(status.success() && said.is_empty(), "{status}: {said}");
    mount.close()
}

fn server_ends(transport: &str) -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[transport])?;
    let mut watching = Watching::start(mount.path(), &[])?;
    ensure!(watching.next()?.is_some());
    mount.close()?;
    let (status, said) = watching.end()?;
    ensure!(status.code() == Some(125), "{status}: {said}");
    ensure!(
        said.lines().count() == 1 && said.contains("has ended"),
        "{said}"
    );
    Ok(())
}

/// What is shown on a terminal of 12 lines of 60 columns.
fn shown_on_a_terminal(command: &mut Command) -> Result<String> {
    let size = nix::pty::Winsize {
        ws_row: 12,
        ws_col: 60,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = nix::pty::openpty(Some(&size), None)?;
    let mut child = command
        .env("TERM", "xterm")
        .stdout(Stdio::from(pty.slave))
        .spawn()?;
    // The terminal has no other user left when the child has ended.
    command.stdout(Stdio::null());
    let mut shown = Vec::new();
    // Its end is an error.
    let _ = File::from(pty.master).read_to_end(&mut shown);
    ensure!(child.wait()?.success());
    Ok(String::from_utf8(shown)?)
}

fn terminal(transport: &str) -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[transport])?;
    fs::write(mount.at("file"), "text")?;
    fs::read(mount.at("file"))?;
    fs::read_dir(mount.path())?.count();
    let shown = shown_on_a_terminal(&mut stat(&["-w", "0.05", "--count", "2"], mount.path()))?;
    ensure!(!shown.contains("\x1b[2J"), "it flickers: {shown:?}");
    let frames: Vec<&str> = shown.split_terminator("\x1b[J").collect();
    // One since the start, two intervals.
    ensure!(frames.len() == 3, "{shown:?}");
    for (index, frame) in frames.iter().enumerate() {
        let lines: Vec<&str> = frame.split_terminator("\x1b[K").collect();
        let (last, lines) = lines.split_last().context("an empty frame")?;
        ensure!(last.trim().is_empty() && lines.len() <= 11, "{frame:?}");
        for line in lines {
            let line = line.trim_matches(['\r', '\n']);
            let line = line
                .split_once('A')
                .filter(|(up, _)| up.starts_with('\x1b'))
                .map_or(line, |(_, line)| line);
            ensure!(line.chars().count() <= 60, "{line:?}");
        }
        let expected = if index == 0 {
            "since the start"
        } else {
            "in the last"
        };
        ensure!(frame.contains(expected), "{frame:?}");
    }
    ensure!(frames[0].contains("more lines)"), "{:?}", frames[0]);
    mount.close()
}
