//! gzip of one file of text.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Measured, Workload, initial, source, timed};
use crate::job::{Place, Size, tool};
use crate::result::{Better, Cache, WorkloadInfo};

struct Gzip;

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Gzip)]
}

impl Workload for Gzip {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: "gzip".into(),
            group: "trees".into(),
            about: "compress a file of 32 MiB".into(),
            unit: "s".into(),
            better: Better::Lower,
            cache: Cache::Warm,
            durable: false,
            baseline: "native".into(),
            clients: 1,
            axis: None,
            cntr_2018: Some(("gzip".into(), 1.0)),
        }
    }

    fn missing(&self) -> Option<String> {
        tool::missing(&["gzip", "cat"])
    }

    fn expected(&self, size: &Size) -> Duration {
        Duration::from_secs_f64(0.3 + 3.0 * size.scale)
    }

    fn prepare(&self, native: &Place) -> Result<()> {
        let bytes = native.size.count(32 << 20, 1 << 20);
        initial::once(&native.dir, "text", &bytes.to_string(), || {
            let path = native.dir.join("text");
            let write = || -> std::io::Result<()> {
                let mut file = BufWriter::new(File::create(&path)?);
                let mut random = fastrand::Rng::with_seed(3);
                let mut written = 0;
                while written < bytes {
                    let text = source::text(&mut random, 64 << 10);
                    file.write_all(text.as_bytes())?;
                    written += text.len() as u64;
                }
                file.flush()
            };
            write().with_context(|| format!("cannot write {}", path.display()))
        })?;
        initial::remove(&native.dir.join("text.gz"))?;
        initial::settle(&native.dir)
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        Ok(timed::run(place, place.command("gzip").args(["-k", "text"]))?.0)
    }

    /// Reads the file.
    fn warm(&self, place: &Place) -> Result<()> {
        place.command("cat").arg("text").run()?;
        Ok(())
    }
}
