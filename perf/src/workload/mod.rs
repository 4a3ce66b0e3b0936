//! What is measured.
//!
//! A workload is measured in rounds. Before each measurement [`Workload::prepare`] brings the directory into its initial
//! state, beside the target, then the target is brought up over it, the caches are brought into the state that the
//! workload asks for, and [`Workload::measure`] does the work through the target.

pub mod compilebench;
pub mod dbench;
pub mod enter;
pub mod fio;
pub mod fs_mark;
pub mod generator;
pub mod gzip;
pub mod initial;
pub mod limit;
pub mod metadata;
pub mod pgbench;
pub mod postmark;
pub mod scaling;
pub mod source;
pub mod sqlite;
pub mod timed;
pub mod transfer;
pub mod tree;
pub mod web;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{Place, Size};
use crate::result::{Latency, TargetKind, Usage, WorkloadInfo};

/// What one measurement brought.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The figure, in the workload's unit.
    pub value: f64,
    /// Operations in the measured window, where they are counted.
    pub operations: Option<f64>,
    /// What the measured window cost.
    pub usage: Usage,
    /// Latencies of single operations.
    pub latency: Option<Latency>,
    /// Further figures by name, with the unit in the name.
    pub extra: BTreeMap<String, f64>,
}

/// One thing to measure.
pub trait Workload: Send + Sync {
    /// Name, unit, direction.
    fn info(&self) -> WorkloadInfo;

    /// Whether the quick profile has it.
    fn quick(&self) -> bool {
        false
    }

    /// Whether it can be measured on this kind of target.
    fn applies(&self, kind: TargetKind) -> bool {
        kind != TargetKind::Session
    }

    /// Why it cannot be measured on this machine: a tool that is not installed, by name.
    fn missing(&self) -> Option<String> {
        None
    }

    /// Number of mounts of the target that are to exist meanwhile; all but one in [`Place::others`].
    fn mounts(&self) -> usize {
        1
    }

    /// Time that preparation and measurement take natively, for the estimate. The deadline is a multiple of it.
    fn expected(&self, size: &Size) -> Duration;

    /// Brings the directory of `native` into the initial state. It is empty before the first round; afterwards it is as
    /// the last measurement left it, so what that has not changed need not be made again.
    ///
    /// # Errors
    /// It cannot be prepared.
    fn prepare(&self, native: &Place) -> anyhow::Result<()>;

    /// Does the work through the target and meters it with [`Place::begin`]. Processes that it starts have ended when it
    /// returns.
    ///
    /// # Errors
    /// The work fails; the error becomes part of the row.
    fn measure(&self, place: &Place) -> anyhow::Result<Measured>;

    /// Does the work once untimed, for a workload whose caches are warm. By default measures and forgets.
    ///
    /// # Errors
    /// The work fails.
    fn warm(&self, place: &Place) -> anyhow::Result<()> {
        self.measure(place).map(|_| ())
    }
}

/// Every workload, sized by `scale`, in the order of a run: the limit first, then from single operations to applications.
pub fn all(scale: f64) -> Vec<Box<dyn Workload>> {
    [
        limit::all(),
        metadata::all(),
        transfer::all(),
        fio::all(),
        tree::all(),
        compilebench::all(),
        gzip::all(),
        pgbench::all(),
        sqlite::all(),
        dbench::all(),
        fs_mark::all(),
        postmark::all(),
        web::all(),
        enter::all(),
        scaling::all_at(scale),
        enter::curve(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
