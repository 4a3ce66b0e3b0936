//! `cntr stat`: what a mount or session does.

mod screen;
mod summary;
mod table;
pub(super) mod unit;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::Global;
use crate::control::{self, Report, Request};
use screen::Screen;
use watch::Watch;

/// Show what a mount or session does: operations, queues, rates, latencies, caches, memory and CPU time
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = EXPLANATION)]
pub struct StatArgs {
    /// A mount point or a path below one; or the process id of a server, of a container with a session, or of any
    /// process in a session. Without it, all mounts and sessions are listed
    #[arg(value_name = "MOUNT|PID")]
    pub what: Option<String>,
    /// Show what happened every SECONDS, until Ctrl-C
    ///
    /// Counts, rates, latencies and CPU time are those of the last interval. A terminal is redrawn, and shows what
    /// happened since the start until the first interval is over; to a file or pipe one block follows the other, with
    /// --json one line. Ctrl-C is the regular end: exit code 0. If the server ends the exit code is 125.
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    pub watch: Option<f64>,
    /// End after N intervals
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Show the queues, also if only one of them had requests
    ///
    /// Over io_uring there is a queue for each CPU that had requests, and `classic` for what comes over /dev/fuse. With
    /// --json all queues are always there, each with its operations.
    #[arg(short, long)]
    pub queues: bool,
}

/// Examples, and what follows them.
macro_rules! examples {
    ($rest:literal) => {
        concat!(
            "\
Examples:
  cntr stat                             all mounts and sessions on this host
  cntr stat /mnt                        since it was mounted
  cntr stat /mnt --watch                live, every second
  cntr stat /mnt --watch 10 --count 6   six times ten seconds
  cntr --json stat 1234                 for programs
  cntr --json stat /mnt --watch         one line of JSON for each second

",
            $rest
        )
    };
}

const EXAMPLES: &str = examples!("`--help` says what each figure means.");

const EXPLANATION: &str = examples!(
    "\
Latencies are those of the server: from the moment a request was read until it was answered. \
P50, P99 and P99.9 are percentiles, told apart to 1 %. \
With --watch they are those of the last interval; so is MAX, to 1 %.

Queues: THREADS it has; BUSY ones have a request in service; BLOCKED ones are stuck in one for long, or wait in it, so that \
another thread serves in their place; REPLACED is how often that happened.

CPU: time of the server's process, all of its threads, as a share of one CPU. user is its own code, system the kernel's on \
its behalf, the host's file system included. Context switches are those of its threads.

Cache: a server does not see what the kernel answers by itself. It sees what it is asked.

lookups: LOOKUP requests. new: of an inode the kernel did not know; asked again: of one that it knew, since the name had \
expired or was dropped, or it is another name; no such name; given back: inodes the kernel has forgotten.

attributes: GETATTR and STATX requests. A lookup brings the attributes, too: they had expired or were dropped, or the \
caller wanted them fresh.

opens: OPEN and CREATE requests, and what the kernel was told of the pages it may have cached of the file: keep them, drop \
them, go around them (direct), read and write the host's file by itself (passthrough).

reads: READ requests: pages that were not cached, mostly many at once, and reads around the page cache.

directories: READDIRPLUS and READDIR requests.

told: inodes and names whose change the server told the kernel of; inodes it asked the kernel to give back. refused: mostly \
because the kernel did not know them any more."
);

/// Runs `cntr stat`.
///
/// # Errors
/// [`control::ControlError`], and those of writing.
pub fn run(args: &StatArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Some(what) = &args.what else {
        if args.watch.is_some() {
            bail!("--watch needs a mount point or process id");
        }
        return list(global);
    };
    let frame = |report: &Report| {
        if global.json {
            return Ok(vec![serde_json::to_string(report)?]);
        }
        Ok(text(report, args.queues))
    };
    let mut screen = Screen::new(global.json || args.watch.is_none());
    let Some(seconds) = args.watch else {
        let report = control::find(what, Request::default())?;
        screen.show(frame(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    let interval = Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|interval| !interval.is_zero());
    let watch = Watch {
        interval: interval
            .with_context(|| format!("--watch {seconds}: must be more than 0 seconds"))?,
        count: args.count,
    };
    let report = control::find(what, Request { histograms: true })?;
    watch.run(report, screen, frame)
}

fn list(global: &Global) -> anyhow::Result<ExitCode> {
    let reports = control::list()?;
    if global.json {
        println!("{}", serde_json::to_string(&reports)?);
    } else {
        println!("{}", table::servers(&reports));
    }
    Ok(ExitCode::SUCCESS)
}

/// A report for people, line by line.
fn text(report: &Report, queues: bool) -> Vec<String> {
    let mut lines = summary::summary(report);
    let mut add = |table: comfy_table::Table| {
        lines.push(String::new());
        lines.extend(
            table
                .to_string()
                .lines()
                .map(|line| line.trim_end().to_owned()),
        );
    };
    add(table::operations(report));
    if queues || table::has_several_queues(report) {
        add(table::queues(report));
    }
    lines
}
