//! fs_mark: creates files of 16 KiB and syncs each before it closes it.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Measured, Workload, initial, timed};
use crate::job::{Place, Size, tool};
use crate::result::{Better, Cache, WorkloadInfo};

struct FsMark;

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![Box::new(FsMark)]
}

fn files(size: &Size) -> u64 {
    size.count(1000, 40)
}

impl Workload for FsMark {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: "fs-mark".into(),
            group: "servers".into(),
            about: "create, write 16 KiB, fsync, close".into(),
            unit: "files/s".into(),
            better: Better::Higher,
            cache: Cache::Fresh,
            durable: true,
            baseline: "native".into(),
            clients: 1,
            axis: None,
            cntr_2018: Some(("fs-mark".into(), 1.0)),
        }
    }

    fn missing(&self) -> Option<String> {
        tool::missing(&["fs_mark"])
    }

    fn expected(&self, size: &Size) -> Duration {
        Duration::from_secs_f64(0.3 + 3.0 * size.scale)
    }

    fn prepare(&self, native: &Place) -> Result<()> {
        initial::empty(&native.dir.join("files"))?;
        initial::settle(&native.dir)
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let count = files(&place.size);
        // It makes files beside its log, so that must not be /dev/null.
        let command = place
            .command("fs_mark")
            .args([
                "-d", "files", "-l", "log", "-S", "1", "-L", "1", "-s", "16384",
            ])
            .args(["-n", &count.to_string()]);
        let (mut measured, finished) = timed::rate(place, command, count)?;
        measured.value = parse(&finished.stdout).context("fs_mark reports no rate")?;
        Ok(measured)
    }
}

/// The fourth column of the last line: files per second.
fn parse(text: &str) -> Option<f64> {
    let line = text.lines().rfind(|line| !line.trim().is_empty())?;
    line.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read() {
        let text = "FSUse%        Count         Size    Files/sec     App Overhead\n    \
                    70          200        16384       2337.7             1265\n";
        assert_eq!(parse(text), Some(2337.7));
        assert_eq!(parse("FSUse% Count Size Files/sec App Overhead\n"), None);
    }
}
