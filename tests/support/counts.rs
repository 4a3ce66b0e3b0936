//! What the server of a mount has done.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use cntr::control::{self, Report, Request};

use super::mount::Mount;
use super::wait;

/// Requests so far.
pub struct Counts {
    /// All the server tells.
    pub report: Report,
    /// Answered requests by the kernel's name of the operation.
    pub requests: BTreeMap<String, u64>,
}

impl Counts {
    /// Asks the server.
    pub fn of(mount: &mut Mount) -> Result<Counts> {
        let server = mount.server().context("there is no server")?.pid();
        // Right after the mount it may not answer yet.
        let found = wait::some(wait::LONG, || {
            control::find(&server.to_string(), Request::default()).ok()
        });
        let report = found.context("the server does not answer")?;
        let requests = report
            .operations
            .iter()
            .map(|row| (row.operation.clone(), row.measured.requests))
            .collect();
        Ok(Counts { report, requests })
    }

    /// Requests of these operations.
    pub fn of_operations(&self, names: &[&str]) -> u64 {
        names
            .iter()
            .filter_map(|name| self.requests.get(*name))
            .sum()
    }

    /// All requests.
    pub fn all(&self) -> u64 {
        self.requests.values().sum()
    }
}
