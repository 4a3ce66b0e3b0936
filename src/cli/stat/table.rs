//! The tables: servers, operations, queues.

use std::cmp::Reverse;

use comfy_table::{CellAlignment, Table, presets};

use super::unit::{duration, size};
use crate::control::Report;
use crate::engine::metrics::{Measured, OperationStatistics, QueueStatistics};

/// A table whose columns are all numbers but those of `words`.
fn table(heads: &[&str], words: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(heads.iter().copied());
    for index in (0..heads.len()).filter(|index| !words.contains(index)) {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// One line for each server.
pub fn servers(reports: &[Report]) -> Table {
    let heads = [
        "PID", "KIND", "SOURCE", "TARGET", "REQUESTS", "INODES", "RSS", "UPTIME",
    ];
    let mut table = table(&heads, &[1, 2, 3]);
    for report in reports {
        table.add_row([
            report.pid.to_string(),
            report.served.kind.clone(),
            report.served.source.clone(),
            report.served.target.clone(),
            report.total().requests.to_string(),
            report.file_system.inodes.to_string(),
            size(report.resident_kib * 1024),
            duration(report.uptime_ns),
        ]);
    }
    table
}

/// The operations that were asked for, busiest first.
pub fn operations(report: &Report) -> Table {
    let bytes = bytes_head(report);
    let heads = [
        "OPERATION",
        "COUNT",
        "ERRORS",
        "RATE/S",
        bytes,
        "P50",
        "P99",
        "P99.9",
        "MAX",
    ];
    let mut table = table(&heads, &[0]);
    let mut rows: Vec<&OperationStatistics> = report.operations.iter().collect();
    rows.sort_by_key(|row| Reverse(row.measured.requests));
    for row in rows {
        let mut cells = vec![row.operation.clone()];
        cells.extend(measured(report, &row.measured));
        table.add_row(cells);
    }
    table
}

/// The queues, in the order of their CPUs.
pub fn queues(report: &Report) -> Table {
    let bytes = bytes_head(report);
    let heads = [
        "QUEUE", "COUNT", "ERRORS", "RATE/S", bytes, "P50", "P99", "P99.9", "MAX", "THREADS",
        "BUSY", "BLOCKED", "REPLACED",
    ];
    let mut table = table(&heads, &[0]);
    for queue in &report.queues {
        let mut cells = vec![queue.name.clone()];
        cells.extend(measured(report, &queue.measured));
        let QueueStatistics {
            threads,
            serving,
            blocked,
            replaced,
            ..
        } = queue;
        cells.extend([threads, serving, blocked, replaced].map(ToString::to_string));
        table.add_row(cells);
    }
    table
}

/// Whether more than one queue had requests.
pub fn has_several_queues(report: &Report) -> bool {
    let queues = report.queues.iter();
    queues.filter(|queue| queue.measured.requests > 0).count() > 1
}

/// Bytes since the start are a sum; those of an interval are a rate.
fn bytes_head(report: &Report) -> &'static str {
    if report.interval_ns.is_some() {
        "BYTES/S"
    } else {
        "BYTES"
    }
}

/// The cells from COUNT to MAX.
fn measured(report: &Report, measured: &Measured) -> [String; 8] {
    let bytes = match report.interval_ns {
        Some(_) => measured.bytes_per_second as u64,
        None => measured.bytes,
    };
    let latency = |nanoseconds: u64| match nanoseconds {
        0 => "-".to_owned(),
        _ => duration(nanoseconds),
    };
    [
        measured.requests.to_string(),
        measured.errors.to_string(),
        format!("{:.0}", measured.requests_per_second),
        if measured.bytes == 0 {
            String::new()
        } else {
            size(bytes)
        },
        latency(measured.p50_ns),
        latency(measured.p99_ns),
        latency(measured.p999_ns),
        latency(measured.max_ns),
    ]
}
