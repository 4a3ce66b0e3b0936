//! `cntr stat`: what a mount or session does.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};

use super::Global;
use crate::control::{self, Report};
use crate::engine::metrics::OperationStatistics;

/// Show the operations of a mount or session: counts, errors, rates and latencies
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatArgs {
    /// A mount point or a path below one; or the process id of a server, of a container with a session, or of any
    /// process in a session. Without it, all mounts and sessions are listed
    #[arg(value_name = "MOUNT|PID")]
    pub what: Option<String>,
    /// Repeat every SECONDS, with the rates of the last interval, until Ctrl-C
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    pub watch: Option<f64>,
}

const EXAMPLES: &str = "\
Examples:
  cntr stat                  all mounts and sessions on this host
  cntr stat /mnt             since it was mounted
  cntr stat /mnt --watch     live, every second
  cntr --json stat 1234      for programs

Latencies are those of the server: from the moment a request was read until it was answered.";

/// Runs `cntr stat`.
pub fn run(args: &StatArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Some(what) = &args.what else {
        if args.watch.is_some() {
            bail!("--watch needs a mount point or process id");
        }
        return list(global);
    };
    let report = control::find(what)?;
    let Some(seconds) = args.watch else {
        print(&report, None, global)?;
        return Ok(ExitCode::SUCCESS);
    };
    let interval = Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|interval| !interval.is_zero());
    let interval =
        interval.with_context(|| format!("--watch {seconds}: must be more than 0 seconds"))?;
    let mut before = report;
    loop {
        std::thread::sleep(interval);
        // The server, not whatever is mounted there now.
        let now = control::find(&before.pid.to_string())?;
        if std::io::stdout().is_terminal() && !global.json {
            print!("\x1b[H\x1b[2J");
        }
        print(&now, Some(&before), global)?;
        std::io::stdout().flush()?;
        before = now;
    }
}

fn list(global: &Global) -> anyhow::Result<ExitCode> {
    let reports = control::list()?;
    if global.json {
        println!("{}", serde_json::to_string(&reports)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = table(
        &[
            "PID", "KIND", "SOURCE", "TARGET", "REQUESTS", "INODES", "RSS", "UPTIME",
        ],
        &[0, 4, 5, 6, 7],
    );
    for report in &reports {
        table.add_row([
            report.pid.to_string(),
            report.served.kind.clone(),
            report.served.source.clone(),
            report.served.target.clone(),
            requests(report).to_string(),
            report.file_system.inodes.to_string(),
            size(report.resident_kib * 1024),
            duration(report.uptime_ns),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report, before: Option<&Report>, global: &Global) -> anyhow::Result<()> {
    if global.json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    println!("{}", summary(report));
    println!("{}", operations(report, before));
    Ok(())
}

/// The lines above the table.
fn summary(report: &Report) -> String {
    format!(
        "{} of {} at {}  server {}  connection {}  up {}\n\
         transport {}, FUSE {}, {} threads  inodes {}  descriptors {}  open files {}  RSS {}",
        report.served.kind,
        report.served.source,
        report.served.target,
        report.pid,
        report.connection,
        duration(report.uptime_ns),
        report.transport,
        report.protocol,
        report.threads,
        report.file_system.inodes,
        report.file_system.descriptors,
        report.file_system.handles,
        size(report.resident_kib * 1024),
    )
}

/// The table of operations, busiest first. With an earlier report the rates are those since then.
#[must_use]
pub fn operations(report: &Report, before: Option<&Report>) -> Table {
    let heads = [
        "OPERATION",
        "COUNT",
        "ERRORS",
        "RATE/S",
        "BYTES",
        "P50",
        "P99",
        "P99.9",
        "MAX",
    ];
    let mut table = table(&heads, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut rows: Vec<&OperationStatistics> = report.operations.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.requests));
    for row in rows {
        let earlier = before.and_then(|before| {
            before
                .operations
                .iter()
                .find(|old| old.operation == row.operation)
        });
        let requests = row.requests - earlier.map_or(0, |old| old.requests);
        let elapsed = report.uptime_ns - before.map_or(0, |before| before.uptime_ns);
        let rate = requests as f64 / (elapsed.max(1) as f64 / 1e9);
        table.add_row([
            row.operation.clone(),
            row.requests.to_string(),
            row.errors.to_string(),
            format!("{rate:.0}"),
            if row.bytes == 0 {
                String::new()
            } else {
                size(row.bytes)
            },
            duration(row.p50_ns),
            duration(row.p99_ns),
            duration(row.p999_ns),
            duration(row.max_ns),
        ]);
    }
    table
}

fn requests(report: &Report) -> u64 {
    report
        .operations
        .iter()
        .map(|operation| operation.requests)
        .sum()
}

fn table(heads: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(heads.iter().copied());
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Bytes with a binary unit.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Nanoseconds with a unit a person reads.
fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        1_000_000_000..120_000_000_000 => format!("{:.1} s", value / 1e9),
        120_000_000_000..7_200_000_000_000 => format!("{:.0} min", value / 60e9),
        _ => format!("{:.0} h", value / 3600e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!(size(17), "17 B");
        assert_eq!(size(3 << 20), "3.0 MiB");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(12_340), "12.3 us");
        assert_eq!(duration(5_000_000_000), "5.0 s");
        assert_eq!(duration(10_800_000_000_000), "3 h");
    }
}
