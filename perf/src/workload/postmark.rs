//! PostMark: a mail server's many small files that live shortly. Nothing is synced.
//!
//! It counts whole seconds, so the rate is that of the whole process: files are created, transactions done, files deleted.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Measured, Workload, initial, timed};
use crate::job::{Place, Size, tool};
use crate::result::{Better, Cache, WorkloadInfo};

struct Postmark;

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Postmark)]
}

fn transactions(size: &Size) -> u64 {
    size.count(10_000, 500)
}

fn script(size: &Size) -> String {
    format!(
        "set location files\nset size 500 100000\nset number {}\nset transactions {}\nset seed 42\nrun\nquit\n",
        size.count(500, 50),
        transactions(size)
    )
}

impl Workload for Postmark {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: "postmark".into(),
            group: "servers".into(),
            about: "mail server: create, read, append, delete files of 0.5 to 100 kB".into(),
            unit: "tx/s".into(),
            better: Better::Higher,
            cache: Cache::Fresh,
            durable: false,
            baseline: "native".into(),
            clients: 1,
            axis: None,
            cntr_2018: Some(("postmark".into(), 7.1)),
        }
    }

    fn missing(&self) -> Option<String> {
        tool::missing(&["postmark"])
    }

    fn expected(&self, size: &Size) -> Duration {
        Duration::from_secs_f64(0.3 + 3.0 * size.scale)
    }

    fn prepare(&self, native: &Place) -> Result<()> {
        initial::empty(&native.dir.join("files"))?;
        fs::write(native.dir.join("script"), script(&native.size))
            .context("cannot write PostMark's script")?;
        initial::settle(&native.dir)
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let count = transactions(&place.size);
        let (measured, finished) =
            timed::rate(place, place.command("postmark").arg("script"), count)?;
        // It ends with success whatever happens.
        ensure!(
            finished.stdout.contains("deleted (")
                && !finished.stdout.contains("Error")
                && finished.stderr.is_empty(),
            "postmark failed: {} {}",
            finished.stdout.trim(),
            finished.stderr.trim()
        );
        Ok(measured)
    }
}
