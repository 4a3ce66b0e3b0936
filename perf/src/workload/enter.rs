//! How long it takes to run a command in a session: attach, `true`, detach.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use nix::sys::signal::Signal;
use procfs::Current;

use super::{Measured, Workload};
use crate::job::{Place, Running, Size, tool};
use crate::result::{Axis, Better, Cache, Latency, TargetKind, WorkloadInfo};
use crate::stats;

/// Longest start of another session.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sessions that are open meanwhile, of the curve by sessions.
const OTHERS: [usize; 4] = [0, 4, 16, 48];

/// What the other sessions do: nothing, for longer than any measurement.
const IDLE: &str = "1000";

struct Enter {
    /// Sessions that are open meanwhile.
    others: usize,
    /// Whether it is a point of the curve.
    curve: bool,
}

/// How long it takes to enter.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Enter {
        others: 0,
        curve: false,
    })]
}

/// How long it takes to enter while other sessions are open.
pub fn curve() -> Vec<Box<dyn Workload>> {
    OTHERS
        .into_iter()
        .map(|others| {
            Box::new(Enter {
                others,
                curve: true,
            }) as Box<dyn Workload>
        })
        .collect()
}

fn times(size: &Size) -> u64 {
    size.count(100, 20)
}

/// Memory that is left on this machine, in bytes.
fn available() -> Option<u64> {
    procfs::Meminfo::current().ok()?.mem_available
}

/// Waits until another session runs its command.
fn wait_for(session: &Running) -> Result<()> {
    let begun = Instant::now();
    while session.output().is_empty() {
        ensure!(!session.ended(), "a session ended: {}", session.output());
        ensure!(begun.elapsed() < PATIENCE, "a session does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

impl Workload for Enter {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: match self.curve {
                true => format!("scale-sessions-{}", self.others),
                false => "enter".into(),
            },
            group: if self.curve { "scaling" } else { "sessions" }.into(),
            about: match self.curve {
                true => format!(
                    "enter, run true, leave while {} other sessions are open: the median",
                    self.others
                ),
                false => "enter, run true, leave: the median".into(),
            },
            unit: "ms".into(),
            better: Better::Lower,
            cache: Cache::Warm,
            durable: false,
            baseline: "nsenter".into(),
            clients: 1,
            axis: self.curve.then(|| Axis {
                curve: "entering by open sessions".into(),
                name: "sessions".into(),
                value: self.others as f64 + 1.0,
            }),
            cntr_2018: None,
        }
    }

    fn quick(&self) -> bool {
        !self.curve
    }

    fn applies(&self, kind: TargetKind) -> bool {
        kind == TargetKind::Session
    }

    fn missing(&self) -> Option<String> {
        tool::missing(&["true", "sh"])
    }

    fn expected(&self, size: &Size) -> Duration {
        // An engine's own exec takes 100 ms.
        Duration::from_millis(200 + 50 * (times(size) + self.others as u64))
    }

    fn prepare(&self, _native: &Place) -> Result<()> {
        Ok(())
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let before = available();
        let mut others = Vec::new();
        for _ in 0..self.others {
            let script = format!("echo open; exec sleep {IDLE}");
            others.push(place.command("sh").arg("-c").arg(script).spawn()?);
        }
        for other in &others {
            wait_for(other)?;
        }
        let after = available();

        let mut histogram = Histogram::<u64>::new(3)?;
        let mut all = Vec::new();
        let window = place.begin();
        for _ in 0..times(&place.size) {
            let seconds = place.command("true").run()?.seconds;
            histogram.record((seconds * 1e9) as u64)?;
            all.push(seconds);
        }
        let usage = window.end();
        let median = stats::median(&all).context("nothing was timed")?;
        let mut extra = BTreeMap::new();
        if let (Some((before, after)), 1..) = (before.zip(after), self.others) {
            let each = before.saturating_sub(after) as f64 / self.others as f64;
            extra.insert("machine_memory_per_session_bytes".to_owned(), each);
        }
        for other in others {
            other.signal(Signal::SIGTERM);
            // How it ends does not matter.
            let _ = other.wait_any();
        }
        Ok(Measured {
            value: median * 1e3,
            operations: Some(all.len() as f64),
            usage,
            latency: Latency::of(&histogram),
            extra,
        })
    }

    fn warm(&self, place: &Place) -> Result<()> {
        place.command("true").run()?;
        Ok(())
    }
}
