//! dbench: the file operations of an office's Samba server, replayed from the load file that comes with it. Its `Flush`
//! is an fsync.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Measured, Workload, initial, timed};
use crate::job::{Place, Size, tool};
use crate::result::{Better, Cache, WorkloadInfo};

/// Where distributions put the load file.
const LOADS: [&str; 4] = [
    "/usr/share/dbench/client.txt",
    "/usr/share/dbench/loadfiles/client.txt",
    "/usr/share/client.txt",
    "/usr/local/share/client.txt",
];

struct Dbench {
    clients: u32,
    cntr_2018: f64,
}

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    [(1, 1.4), (12, 0.95)]
        .into_iter()
        .map(|(clients, cntr_2018)| Box::new(Dbench { clients, cntr_2018 }) as Box<dyn Workload>)
        .collect()
}

fn load() -> Option<PathBuf> {
    LOADS
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// dbench counts whole seconds, and nothing in the first.
fn seconds(size: &Size) -> u64 {
    (size.seconds.ceil() as u64).max(2)
}

impl Workload for Dbench {
    fn info(&self) -> WorkloadInfo {
        let plural = if self.clients == 1 { "" } else { "s" };
        WorkloadInfo {
            name: format!("dbench-{}", self.clients),
            group: "servers".into(),
            about: format!(
                "file operations of a Samba server, {} client{plural}",
                self.clients
            ),
            unit: "MB/s".into(),
            better: Better::Higher,
            cache: Cache::Fresh,
            durable: true,
            baseline: "native".into(),
            clients: self.clients,
            axis: None,
            cntr_2018: Some((
                format!("dbench {} client{plural}", self.clients),
                self.cntr_2018,
            )),
        }
    }

    fn missing(&self) -> Option<String> {
        tool::missing(&["dbench"]).or_else(|| {
            load()
                .is_none()
                .then(|| format!("dbench's load file is not installed: {}", LOADS[0]))
        })
    }

    fn expected(&self, size: &Size) -> Duration {
        Duration::from_secs(seconds(size) + 1)
    }

    fn prepare(&self, native: &Place) -> Result<()> {
        initial::empty(&native.dir.join("clients"))?;
        initial::settle(&native.dir)
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let load = load().context("dbench's load file is gone")?;
        let command = place
            .command("dbench")
            .args([Path::new("-c"), &load])
            .args(["-t", &seconds(&place.size).to_string()])
            .args(["-D", "clients", &self.clients.to_string()]);
        let (mut measured, finished) = timed::run(place, command)?;
        let (throughput, latency) =
            parse(&finished.stdout).context("dbench reports no throughput")?;
        ensure!(
            throughput > 0.0,
            "dbench got nothing done in {:.1} s: {}",
            finished.seconds,
            finished.stderr
        );
        measured.value = throughput;
        measured.extra.insert("max_latency_ms".into(), latency);
        Ok(measured)
    }
}

/// Throughput in MB/s and the largest latency in ms:
/// `Throughput 113.727 MB/sec  1 clients  1 procs  max_latency=11.807 ms`.
fn parse(text: &str) -> Option<(f64, f64)> {
    let line = text.lines().rfind(|line| line.starts_with("Throughput "))?;
    let throughput = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let latency = line.split_once("max_latency=")?.1;
    Some((
        throughput,
        latency.split_ascii_whitespace().next()?.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_read() {
        let text = " Flush  374  2.767  11.015\n\n\
                    Throughput 113.727 MB/sec  1 clients  1 procs  max_latency=11.807 ms\n";
        assert_eq!(parse(text), Some((113.727, 11.807)));
        assert_eq!(parse("clients started\n"), None);
    }
}
