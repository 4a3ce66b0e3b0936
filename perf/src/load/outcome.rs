//! What a load brought.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::{Deserialize, Serialize};

use super::operation::Operation;
use crate::result::{Latency, Usage};

/// What a load brought. Everything counts the measured time only, not what was prepared before and in between.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What was done.
    pub operation: Operation,
    /// Clients that worked at once.
    pub clients: u32,
    /// How the operations were given to the kernel.
    pub engine: Engine,
    /// Why it is not the engine that was preferred.
    pub engine_reason: Option<String>,
    /// Operations done, in `unit`.
    pub operations: u64,
    /// What `operations` counts: `operations` or `entries` of directories.
    pub unit: String,
    /// Measured time in seconds.
    pub seconds: f64,
    /// Operations that failed: 0, as the first one ends the run with an error.
    pub errors: u64,
    /// `operations` per second.
    pub rate: f64,
    /// Bytes read or written.
    pub bytes: u64,
    /// Latencies of single calls; for directories, of a whole pass over one.
    pub latency: Option<Latency>,
    /// What it cost: the machine, and the processes that were to be metered.
    pub usage: Usage,
    /// For an open loop, how it kept its schedule.
    pub schedule: Option<Kept>,
}

/// How operations are given to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// A system call each, on threads.
    Threads,
    /// Through a ring.
    IoUring,
}

/// How an open loop kept its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Operations a second that were asked for.
    pub wanted_rate: f64,
    /// Operations a second that were done.
    pub achieved_rate: f64,
    /// Operations that started more than one interval late.
    pub late: u64,
    /// Operations that were due and not started when the time was over.
    pub unstarted: u64,
    /// How late the schedule was at the end, in seconds.
    pub lag_seconds: f64,
    /// The schedule was late by more than a hundredth of the measured time: this rate is too much.
    pub fell_behind: bool,
}

impl Outcome {
    /// A table for people.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        let clients = match self.clients {
            1 => "1 client".to_owned(),
            clients => format!("{clients} clients"),
        };
        table.add_row(["operation", &format!("{}, {clients}", self.operation)]);
        let engine = match self.engine {
            Engine::Threads => "threads",
            Engine::IoUring => "io_uring",
        };
        table.add_row(["engine", engine]);
        if let Some(reason) = &self.engine_reason {
            table.add_row(["", reason]);
        }
        let done = format!("{} in {:.3} s", self.operations, self.seconds);
        table.add_row([&self.unit, &done]);
        table.add_row(["rate", &format!("{:.0} {}/s", self.rate, self.unit)]);
        if self.bytes > 0 {
            let rate = self.bytes as f64 / self.seconds / 1e6;
            table.add_row(["data", &format!("{rate:.1} MB/s")]);
        }
        if let Some(latency) = &self.latency {
            let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
            let text = format!(
                "mean {:.1}  p50 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} us",
                latency.mean / 1e3,
                us(latency.p50),
                us(latency.p99),
                us(latency.p999),
                us(latency.max)
            );
            table.add_row(["latency", &text]);
        }
        let mut cost = format!(
            "{:.2} s CPU, {} context switches",
            self.usage.cpu_total, self.usage.switches_total
        );
        if let Some(server) = self.usage.cpu_server {
            cost += &format!("; metered processes {server:.2} s CPU");
        }
        table.add_row(["cost", &cost]);
        if let Some(kept) = &self.schedule {
            let verdict = if kept.fell_behind {
                format!(
                    "FELL BEHIND by {:.3} s: {} operations were due and not started",
                    kept.lag_seconds, kept.unstarted
                )
            } else {
                "kept".to_owned()
            };
            let text = format!(
                "{:.0}/s wanted, {:.0}/s achieved, {} started late; {verdict}",
                kept.wanted_rate, kept.achieved_rate, kept.late
            );
            table.add_row(["schedule", &text]);
        }
        table
    }
}
