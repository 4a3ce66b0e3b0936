//! nginx serves static files from the target, ApacheBench asks for them.
//!
//! nginx picks one of 200 files of 10 to 100 KiB for each request. Its configuration, logs and temporary files lie
//! beside the target; it keeps no file open between requests.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{Measured, Workload, initial, source};
use crate::job::{Command, Place, Running, Size, tool};
use crate::result::{Better, Cache, Latency, WorkloadInfo};

const FILES: usize = 200;
const CLIENTS: u32 = 8;

struct Web;

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Web)]
}

fn requests(size: &Size) -> u64 {
    size.count(60_000, 500)
}

fn configuration(root: &Path, beside: &Path, port: u16) -> String {
    let beside = beside.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path \"{beside}/{name}\";\n"))
        .collect();
    // The last file takes what rounding leaves.
    let share = 100.0 / FILES as f64;
    let mut files: String = (1..FILES)
        .map(|number| format!("{share}% /{number};\n"))
        .collect();
    files += "* /0;\n";
    format!(
        "daemon off;\nuser root root;\nworker_processes 2;\npid \"{beside}/pid\";\nerror_log stderr error;\n\
         events {{ worker_connections 256; }}\n\
         http {{\naccess_log off;\nsendfile on;\nopen_file_cache off;\nkeepalive_requests 1000000000;\n{temporary}\
         split_clients \"$request_id\" $file {{\n{files}}}\n\
         server {{\nlisten 127.0.0.1:{port};\nroot \"{}\";\nlocation = /any {{ rewrite ^ $file last; }}\n}}\n}}\n",
        root.display()
    )
}

/// Waits until it takes connections.
fn ready(server: &Running, port: u16, place: &Place) -> Result<()> {
    let start = Instant::now();
    loop {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        if server.ended() {
            bail!("nginx ended at once: {}", server.output().trim());
        }
        ensure!(place.control.interrupted().is_none(), "interrupted");
        ensure!(
            start.elapsed() < Duration::from_secs(10) && !place.control.expired(),
            "nginx takes no connections after {:.0} s: {}",
            start.elapsed().as_secs_f64(),
            server.output().trim()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Workload for Web {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: "web-static".into(),
            group: "servers".into(),
            about: "nginx serves files of 10 to 100 KiB, 8 connections".into(),
            unit: "req/s".into(),
            better: Better::Higher,
            cache: Cache::Warm,
            durable: false,
            baseline: "native".into(),
            clients: CLIENTS,
            axis: None,
            cntr_2018: Some(("apachebench".into(), 1.5)),
        }
    }

    fn missing(&self) -> Option<String> {
        tool::missing(&["nginx", "ab", "sh", "cat"])
    }

    fn expected(&self, size: &Size) -> Duration {
        Duration::from_secs_f64(0.5 + 4.0 * size.scale)
    }

    fn prepare(&self, native: &Place) -> Result<()> {
        initial::once(&native.dir, "www", "1", || {
            let www = native.dir.join("www");
            initial::empty(&www)?;
            let mut random = fastrand::Rng::with_seed(2);
            for number in 0..FILES {
                let length = random.usize(10 << 10..=100 << 10);
                let path = www.join(number.to_string());
                fs::write(&path, source::text(&mut random, length))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        })?;
        initial::settle(&native.dir)
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let beside = tempfile::tempdir().context("cannot make a directory for nginx")?;
        let at = |name: &str| beside.path().join(name);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.local_addr())
            .context("no free port")?
            .port();
        fs::write(
            at("conf"),
            configuration(&place.dir.join("www"), beside.path(), port),
        )
        .context("cannot write nginx's configuration")?;
        let server = place
            .command("nginx")
            .args(["-e", "stderr", "-p"])
            .arg(beside.path())
            .arg("-c")
            .arg(at("conf"))
            .spawn()?;
        ready(&server, port, place)?;

        let count = requests(&place.size);
        let ab = Command::on_host("ab", &place.control)
            .args(["-q", "-l", "-k", "-c", &CLIENTS.to_string()])
            .args(["-n", &count.to_string(), "-e"])
            .arg(at("csv"))
            .arg(format!("http://127.0.0.1:{port}/any"));
        let window = place.begin();
        let finished = ab.run();
        let usage = window.end();
        let said = server.output();
        // The master ends its workers; both are of one process group, which is killed if that fails.
        server.signal(Signal::SIGTERM);
        let stopped = server.wait();
        let report = finished.with_context(|| format!("nginx says: {}", said.trim()))?;
        stopped.context("nginx does not stop")?;
        let figure = |name| field(&report.stdout, name);
        for name in ["Failed requests:", "Non-2xx responses:"] {
            let failed = figure(name).unwrap_or(0.0);
            ensure!(failed == 0.0, "{name} {failed} of {count}: {}", said.trim());
        }
        let csv = fs::read_to_string(at("csv")).context("ab wrote no percentiles")?;
        Ok(Measured {
            value: figure("Requests per second:").context("ab reports no rate")?,
            operations: figure("Complete requests:"),
            usage,
            latency: Some(
                latency(&csv, count).with_context(|| format!("ab's percentiles: {csv:?}"))?,
            ),
            extra: figure("Transfer rate:")
                .map(|kib| ("mb_per_second".into(), kib * 1024.0 / 1e6))
                .into_iter()
                .collect(),
        })
    }

    /// Reads all files.
    fn warm(&self, place: &Place) -> Result<()> {
        place
            .command("sh")
            .args(["-c", "cat www/* > /dev/null"])
            .run()?;
        Ok(())
    }
}

/// The number after `name` in ab's report.
fn field(report: &str, name: &str) -> Option<f64> {
    let line = report.lines().find(|line| line.starts_with(name))?;
    line[name.len()..]
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Of ab's table of percents and milliseconds. It has whole percents only: p99.9 is the slowest, as an upper bound.
fn latency(csv: &str, count: u64) -> Option<Latency> {
    let table: Vec<(u32, f64)> = csv
        .lines()
        .skip(1)
        .filter_map(|line| {
            let (percent, milliseconds) = line.split_once(',')?;
            Some((percent.parse().ok()?, milliseconds.parse().ok()?))
        })
        .collect();
    let at = |percent| {
        let (_, milliseconds) = table.iter().find(|row| row.0 == percent)?;
        Some((milliseconds * 1e6) as u64)
    };
    let mean = table.iter().map(|row| row.1).sum::<f64>() / table.len() as f64;
    Some(Latency {
        count,
        mean: mean * 1e6,
        p50: at(50)?,
        p99: at(99)?,
        p999: at(100)?,
        max: at(100)?,
        histogram: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let report =
            "Complete requests:      20000\nRequests per second:    49182.95 [#/sec] (mean)\n";
        assert_eq!(field(report, "Requests per second:"), Some(49182.95));
        assert_eq!(field(report, "Non-2xx responses:"), None);
        let csv = "Percentage served,Time in ms\n0,0.034\n50,0.1\n99,0.331\n100,2.999\n";
        let latency = latency(csv, 20).unwrap();
        assert_eq!((latency.p50, latency.p99), (100_000, 331_000));
        assert_eq!((latency.p999, latency.max), (2_999_000, 2_999_000));
        assert!(super::latency("Percentage served,Time in ms\n", 0).is_none());
    }
}
