//! How long it takes to run a command in a session: attach, `true`, detach.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{Measured, Workload};
use crate::job::{Place, Size, tool};
use crate::result::{Better, Cache, Latency, TargetKind, WorkloadInfo};

struct Enter;

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Enter)]
}

fn times(size: &Size) -> u64 {
    size.count(100, 20)
}

impl Workload for Enter {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: "enter".into(),
            group: "sessions".into(),
            about: "enter, run true, leave: the median".into(),
            unit: "ms".into(),
            better: Better::Lower,
            cache: Cache::Warm,
            durable: false,
            baseline: "nsenter".into(),
            clients: 1,
            axis: None,
            cntr_2018: None,
        }
    }

    fn quick(&self) -> bool {
        true
    }

    fn applies(&self, kind: TargetKind) -> bool {
        kind == TargetKind::Session
    }

    fn missing(&self) -> Option<String> {
        tool::missing(&["true"])
    }

    fn expected(&self, size: &Size) -> Duration {
        // An engine's own exec takes 100 ms.
        Duration::from_millis(200 + 50 * times(size))
    }

    fn prepare(&self, _native: &Place) -> Result<()> {
        Ok(())
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let mut histogram = Histogram::<u64>::new(3)?;
        let mut all = Vec::new();
        let window = place.begin();
        for _ in 0..times(&place.size) {
            let seconds = place.command("true").run()?.seconds;
            histogram.record((seconds * 1e9) as u64)?;
            all.push(seconds);
        }
        let usage = window.end();
        all.sort_by(f64::total_cmp);
        let middle = all.len() / 2;
        let median = if all.len().is_multiple_of(2) {
            f64::midpoint(all[middle - 1], all[middle])
        } else {
            all[middle]
        };
        Ok(Measured {
            value: median * 1e3,
            operations: Some(all.len() as f64),
            usage,
            latency: Latency::of(&histogram),
            extra: BTreeMap::new(),
        })
    }

    fn warm(&self, place: &Place) -> Result<()> {
        place.command("true").run()?;
        Ok(())
    }
}
