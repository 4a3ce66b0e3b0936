//! The lines above the tables.

use super::unit::{duration, ratio, size};
use crate::control::Report;
use crate::fs::Statistics;

/// What is served, by whom and how; what the server holds and uses; what the kernel's caches had to ask.
pub fn summary(report: &Report) -> Vec<String> {
    let served = &report.served;
    let mut lines = vec![
        format!(
            "{} of {} at {}  server {}  connection {}  up {}",
            served.kind,
            served.source,
            served.target,
            report.pid,
            report.connection,
            duration(report.uptime_ns),
        ),
        format!(
            "transport {}, FUSE {}, {} threads",
            report.transport, report.protocol, report.threads
        ),
    ];
    let held: Vec<String> = held(report)
        .iter()
        .map(|(label, value)| format!("{label} {value}"))
        .collect();
    lines.push(format!("holds  {}", held.join("  ")));
    lines.push(throughput(report));
    lines.extend(usage(report));
    for (index, (label, value)) in cache(report).iter().enumerate() {
        let head = if index == 0 { "cache" } else { "" };
        lines.push(format!("{head:<7}{label:<12}{value}"));
    }
    lines
}

/// What the server holds at the moment: a label and a value each.
fn held(report: &Report) -> Vec<(&'static str, String)> {
    let state = &report.file_system;
    vec![
        ("inodes", state.inodes.to_string()),
        ("descriptors", state.descriptors.to_string()),
        ("open files", state.handles.to_string()),
        ("backing files", state.backing_files.to_string()),
        ("mounts", mounts(state)),
        ("RSS", size(report.resident_kib * 1024)),
    ]
}

/// Host mounts that inodes are known on, and whether the host tells what changes there.
fn mounts(state: &Statistics) -> String {
    let all = state.covered_mounts + state.uncovered_mounts;
    let mut text = format!(
        "{all} ({} watched, {} events",
        state.covered_mounts, state.events
    );
    if state.overflows > 0 {
        text += &format!(", {} times too many", state.overflows);
    }
    text + ")"
}

/// All operations together.
fn throughput(report: &Report) -> String {
    let total = report.total();
    let span = match report.interval_ns {
        Some(nanoseconds) => format!("in the last {}", duration(nanoseconds)),
        None => "since the start".to_owned(),
    };
    format!(
        "rates  {:.0} requests/s, {}/s, {} errors {span}",
        total.requests_per_second,
        size(total.bytes_per_second as u64),
        total.errors,
    )
}

/// What the server needed for them; nothing if it does not tell.
fn usage(report: &Report) -> Option<String> {
    let usage = report.usage?;
    let percent = |nanoseconds: u64| {
        let share = ratio(nanoseconds, report.span_ns()).unwrap_or(0.0);
        format!("{:.1} %", 100.0 * share)
    };
    let mut line = format!(
        "CPU    {} user, {} system",
        percent(usage.user_ns),
        percent(usage.system_ns)
    );
    let requests = report.total().requests;
    let switches = usage.voluntary_switches + usage.involuntary_switches;
    if let (Some(cpu), Some(switches)) =
        (ratio(usage.cpu_ns(), requests), ratio(switches, requests))
    {
        let cpu = duration(cpu as u64);
        line += &format!("; {cpu} and {switches:.2} context switches a request");
    }
    Some(line)
}

/// What the kernel asked although it caches, and what it was told: a label and a value each, without what did not occur.
fn cache(report: &Report) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let Some(cache) = report.cache else {
        return lines;
    };
    let lookups = report.requests("LOOKUP");
    if lookups > 0 || cache.forgotten > 0 {
        let value = format!(
            "{lookups}: {} new, {} asked again, {} no such name; {} inodes given back",
            cache.first_lookups, cache.repeated_lookups, cache.no_such_names, cache.forgotten
        );
        lines.push(("lookups", value));
    }
    let attributes = report.requests("GETATTR") + report.requests("STATX");
    if attributes > 0 {
        let each = each(ratio(attributes, lookups), "lookup");
        lines.push(("attributes", format!("{attributes} asked again{each}")));
    }
    let opens = report.requests("OPEN") + report.requests("CREATE");
    let reads = report.requests("READ");
    if opens > 0 {
        let value = format!(
            "{opens}: {} keep cached pages, {} drop them, {} direct, {} passthrough",
            cache.opens_keeping_pages,
            cache.opens_dropping_pages,
            cache.direct_opens,
            cache.passthrough_opens
        );
        lines.push(("opens", value));
    }
    if reads > 0 {
        lines.push((
            "reads",
            format!("{reads}{}", each(ratio(reads, opens), "open")),
        ));
    }
    let (plus, plain) = (report.requests("READDIRPLUS"), report.requests("READDIR"));
    if plus + plain > 0 {
        let value = format!("{plus} reads with attributes, {plain} without");
        lines.push(("directories", value));
    }
    if let Some(told) = report.notifications
        && told.inodes + told.names + told.prunes > 0
    {
        let value = format!(
            "{} inodes, {} names to drop; {} inodes to give back; {} refused",
            told.inodes, told.names, told.prunes, told.refused
        );
        lines.push(("told", value));
    }
    lines
}

fn each(ratio: Option<f64>, what: &str) -> String {
    ratio.map_or_else(String::new, |ratio| {
        format!(" ({ratio:.2} for each {what})")
    })
}
