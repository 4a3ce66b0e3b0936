//! What a server needs of the machine.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

/// What the server process has used since it started, over all its threads, past ones included (getrusage(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// CPU time of the server's own code, in nanoseconds.
    pub user_ns: u64,
    /// CPU time of the kernel on its behalf: the host's file system and the FUSE device.
    pub system_ns: u64,
    /// How often a thread waited for something, a request mostly.
    pub voluntary_switches: u64,
    /// How often a thread lost its CPU to another one.
    pub involuntary_switches: u64,
}

impl Usage {
    /// That of this process.
    #[must_use]
    pub fn own() -> Option<Usage> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        Some(Usage {
            user_ns: nanoseconds(usage.user_time()),
            system_ns: nanoseconds(usage.system_time()),
            voluntary_switches: count(usage.voluntary_context_switches()),
            involuntary_switches: count(usage.involuntary_context_switches()),
        })
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Usage) -> Usage {
        Usage {
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
            voluntary_switches: self
                .voluntary_switches
                .saturating_sub(before.voluntary_switches),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(before.involuntary_switches),
        }
    }

    /// CPU time in all, in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }
}

fn nanoseconds(time: TimeVal) -> u64 {
    let microseconds = u64::try_from(time.tv_usec()).unwrap_or(0);
    let time = Duration::from_secs(count(time.tv_sec())) + Duration::from_micros(microseconds);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn count(number: libc::c_long) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Resident memory of this process in KiB.
#[must_use]
pub fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * 4
}
