//! PostgreSQL: pgbench's tpcb-like and select-only transactions, the data directory on the target.
//!
//! The cluster is made once, natively: data checksums on, everything that PostgreSQL does for durability on. All rounds
//! on all targets go on with the same cluster, so it ages for all alike; a round that fails, and one whose server did not
//! stop cleanly, leave a cluster that is made anew. Server settings are in `SETTINGS`: no checkpoint falls into a
//! measurement, one is made just before it, and the tables that grow are vacuumed then.
//!
//! The server listens on an abstract Unix socket only. A path on the target could be longer than the 107 bytes that a
//! socket may have, and a path elsewhere is not visible in every session; an abstract one is visible wherever client and
//! server share a network, which they do. Clients are authenticated by their user id (`peer`). PostgreSQL 14 is the first
//! that can do this.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use nix::unistd::{User, chown};
use tempfile::TempDir;

use super::{Measured, Workload, initial};
use crate::job::{Command, Place, Running, Size, tool};
use crate::result::{Better, Cache, Latency, TargetKind, WorkloadInfo};

/// User of the system that everything of PostgreSQL runs as: it refuses to run as root.
const USER: &str = "postgres";

/// Settings of the server that are not the default, and defaults that matter.
const SETTINGS: [&str; 11] = [
    "listen_addresses=",
    "shared_buffers=128MB",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "wal_sync_method=fdatasync",
    "checkpoint_timeout=1h",
    "max_wal_size=4GB",
    "autovacuum=off",
    "max_connections=20",
    "logging_collector=off",
];

/// Name of what [`initial`] notes about the cluster.
const CLUSTER: &str = "cluster";

/// Patience with the server's start.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Pgbench {
    select_only: bool,
    clients: u32,
}

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    [(false, 1), (false, 4), (true, 1), (true, 4)]
        .into_iter()
        .map(|(select_only, clients)| {
            Box::new(Pgbench {
                select_only,
                clients,
            }) as Box<dyn Workload>
        })
        .collect()
}

/// Branches of the bank; 15 MB each.
fn branches(size: &Size) -> u64 {
    size.count(10, 2)
}

/// A program of PostgreSQL. All come from the server's directory: what is in PATH may be a wrapper that picks a version.
fn program(name: &str) -> Result<PathBuf> {
    tool::find("initdb")
        .and_then(|path| path.canonicalize().ok())
        .map(|path| path.with_file_name(name))
        .filter(|path| path.exists())
        .with_context(|| format!("{name} is not installed"))
}

/// A command of PostgreSQL's user in the data directory.
fn command(place: &Place, name: &str) -> Result<Command> {
    Ok(place
        .command(program(name)?)
        .user(USER)
        .directory(place.dir.join("data"))
        .env("LC_ALL", "C")
        .env("PGDATABASE", "postgres"))
}

/// A server that runs. When dropped it is stopped the hard way, its children too.
struct Server<'a> {
    place: &'a Place,
    running: Option<Running>,
    host: String,
}

impl<'a> Server<'a> {
    fn start(place: &'a Place) -> Result<Server<'a>> {
        let host = format!("@perf-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let mut postgres = command(place, "postgres")?
            .arg("-D")
            .arg(place.dir.join("data"))
            .args(["-c", &format!("unix_socket_directories={host}")]);
        for setting in SETTINGS {
            postgres = postgres.args(["-c", setting]);
        }
        let server = Server {
            running: Some(postgres.spawn()?),
            place,
            host,
        };
        server.ready()?;
        Ok(server)
    }

    /// A client that knows where the server is.
    fn client(&self, name: &str) -> Result<Command> {
        Ok(command(self.place, name)?.env("PGHOST", &self.host))
    }

    fn ready(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            if self.client("pg_isready")?.arg("-q").run().is_ok() {
                return Ok(());
            }
            let control = &self.place.control;
            ensure!(control.interrupted().is_none(), "interrupted");
            if self.running.as_ref().is_none_or(Running::ended) {
                bail!("postgres does not start: {}", self.log());
            }
            ensure!(
                start.elapsed() < PATIENCE && !control.expired(),
                "postgres takes no connections after {:.0} s: {}",
                start.elapsed().as_secs_f64(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of what the server has said.
    fn log(&self) -> String {
        let output = self.running.as_ref().map(Running::output);
        let output = output.unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Asks the server to stop, from where it is: a signal to what enters a session may not reach it. pg_ctl does not
    /// wait: it would look for the server's pid file, which another session may still show for a moment.
    fn shut_down(&self, place: &Place, mode: &str) -> Result<()> {
        command(place, "pg_ctl")?
            .args(["stop", "-s", "-W", "-m", mode, "-D"])
            .arg(place.dir.join("data"))
            .run()?;
        Ok(())
    }

    /// Stops it cleanly and waits until it has ended.
    fn stop(mut self) -> Result<()> {
        self.shut_down(self.place, "fast")
            .with_context(|| format!("postgres says: {}", self.log()))?;
        if let Some(running) = self.running.take() {
            running.wait().context("postgres does not stop cleanly")?;
        }
        Ok(())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let Some(running) = self.running.as_ref().filter(|running| !running.ended()) else {
            return;
        };
        // Its children are process groups of their own, so killing it would leave them for a while.
        let control = self.place.control.for_cleanup(Duration::from_secs(10));
        let place = Place {
            control: control.clone(),
            ..self.place.clone()
        };
        if self.shut_down(&place, "immediate").is_ok() {
            while !running.ended() && !control.expired() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Pgbench {
    /// Makes the cluster and fills it.
    fn make(self, native: &Place, user: &User) -> Result<()> {
        let data = native.dir.join("data");
        initial::empty(&data)?;
        chown(&data, Some(user.uid), Some(user.gid))
            .with_context(|| format!("cannot give {} to {USER}", data.display()))?;
        command(native, "initdb")?
            .args(["-A", "peer", "-k", "--locale=C", "-E", "UTF8", "-D"])
            .arg(&data)
            .run()?;
        let server = Server::start(native)?;
        server
            .client("pgbench")?
            .args(["-i", "-q", "-s", &branches(&native.size).to_string()])
            .run()?;
        server.stop()
    }

    fn run(self, place: &Place) -> Result<Measured> {
        let user = User::from_name(USER)?.with_context(|| format!("there is no user {USER}"))?;
        let server = Server::start(place)?;
        let mut psql = server
            .client("psql")?
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
        for statement in [
            "VACUUM pgbench_branches, pgbench_tellers",
            "TRUNCATE pgbench_history",
            "CHECKPOINT",
        ] {
            psql = psql.args(["-c", statement]);
        }
        psql.run()
            .with_context(|| format!("postgres says: {}", server.log()))?;

        let log = Log::new(place, &user)?;
        // pgbench counts whole seconds.
        let seconds = (place.size.seconds.ceil() as u64).max(1);
        let mut pgbench = server
            .client("pgbench")?
            .args(["-n", "-T", &seconds.to_string()])
            .args(["-c", &self.clients.to_string()])
            .args(["-j", &self.clients.min(2).to_string()])
            .args(["-l", "--log-prefix"])
            .arg(log.prefix());
        if self.select_only {
            pgbench = pgbench.arg("-S");
        }
        let window = place.begin();
        let finished = pgbench.run();
        let usage = window.end();
        let finished = finished.with_context(|| format!("postgres says: {}", server.log()))?;
        server.stop()?;

        let histogram = log.read(place)?;
        let figure = |name| {
            field(&finished.stdout, name).with_context(|| {
                format!(
                    "pgbench does not report {name:?}: {}",
                    finished.stderr.trim()
                )
            })
        };
        let failed = figure("number of failed transactions: ").unwrap_or(0.0);
        ensure!(failed == 0.0, "{failed} transactions failed");
        Ok(Measured {
            value: figure("tps = ")?,
            operations: Some(figure("number of transactions actually processed: ")?),
            usage,
            latency: Latency::of(&histogram),
            extra: BTreeMap::new(),
        })
    }
}

/// Where pgbench writes a line for each transaction: beside the target. In a session nothing beside it may be visible,
/// there it is on the target: one write of 4 KiB for about 100 transactions.
struct Log {
    beside: Option<TempDir>,
}

impl Log {
    fn new(place: &Place, user: &User) -> Result<Log> {
        if !place.enter.is_empty() {
            return Ok(Log { beside: None });
        }
        let beside = tempfile::tempdir().context("cannot make a directory for pgbench's log")?;
        chown(beside.path(), Some(user.uid), Some(user.gid))
            .with_context(|| format!("cannot give {} to {USER}", beside.path().display()))?;
        Ok(Log {
            beside: Some(beside),
        })
    }

    /// As pgbench sees it.
    fn prefix(&self) -> PathBuf {
        match &self.beside {
            Some(beside) => beside.path().join("log"),
            None => "log".into(),
        }
    }

    /// As we see it.
    fn directory(&self, place: &Place) -> PathBuf {
        match &self.beside {
            Some(beside) => beside.path().to_owned(),
            None => place.host.join("data"),
        }
    }

    /// Latencies of all transactions. What was on the target is removed.
    fn read(&self, place: &Place) -> Result<Histogram<u64>> {
        let mut histogram = Histogram::new(3)?;
        let directory = self.directory(place);
        for entry in fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?
        {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with("log.") {
                continue;
            }
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            record(&mut histogram, &text)
                .with_context(|| format!("pgbench's log {}", path.display()))?;
            initial::remove(&path)?;
        }
        Ok(histogram)
    }
}

/// `CLIENT TRANSACTION MICROSECONDS SCRIPT SECONDS MICROSECONDS` in each line.
fn record(histogram: &mut Histogram<u64>, text: &str) -> Result<()> {
    for line in text.lines() {
        let microseconds: u64 = line
            .split_ascii_whitespace()
            .nth(2)
            .with_context(|| format!("the line {line:?} is too short"))?
            .parse()
            .with_context(|| format!("the line {line:?}"))?;
        histogram.record(microseconds * 1000)?;
    }
    Ok(())
}

/// The number after `name` in pgbench's report.
fn field(report: &str, name: &str) -> Option<f64> {
    let line = report.lines().find(|line| line.starts_with(name))?;
    let value = line[name.len()..].split_ascii_whitespace().next()?;
    value.split('/').next()?.parse().ok()
}

/// A server may have been left by a suite that was killed; making a new cluster below it would not end well.
fn left_over(data: &Path) -> Option<String> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let mut lines = text.lines().map(str::trim);
    let (pid, directory) = (lines.next()?.to_owned(), lines.next()?);
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split('\0');
    let server = words.next()?.ends_with("/postgres") && words.any(|word| word == directory);
    server.then_some(pid)
}

impl Workload for Pgbench {
    fn info(&self) -> WorkloadInfo {
        let kind = if self.select_only { "select" } else { "tpcb" };
        let plural = if self.clients == 1 { "" } else { "s" };
        WorkloadInfo {
            name: format!("pgbench-{kind}-{}", self.clients),
            group: "databases".into(),
            about: format!(
                "PostgreSQL, {}, {} client{plural}",
                if self.select_only {
                    "select only"
                } else {
                    "tpcb-like, each commit durable"
                },
                self.clients
            ),
            unit: "tx/s".into(),
            better: Better::Higher,
            cache: Cache::Warm,
            durable: !self.select_only,
            baseline: "native".into(),
            clients: self.clients,
            axis: None,
            cntr_2018: (!self.select_only && self.clients == 4).then(|| ("pgbench".into(), 0.4)),
        }
    }

    fn quick(&self) -> bool {
        !self.select_only && self.clients == 4
    }

    fn applies(&self, kind: TargetKind) -> bool {
        kind != TargetKind::Session || (!self.select_only && self.clients == 4)
    }

    fn missing(&self) -> Option<String> {
        if let Some(missing) = tool::missing(&["initdb", "setpriv", "sh", "find", "cat"]) {
            return Some(missing);
        }
        for name in ["postgres", "pgbench", "pg_ctl", "pg_isready", "psql"] {
            if let Err(error) = program(name) {
                return Some(error.to_string());
            }
        }
        if !matches!(User::from_name(USER), Ok(Some(_))) {
            return Some(format!("the system has no user {USER}"));
        }
        let version = program("postgres").ok().and_then(|path| {
            let line = tool::first_line(&[path.to_str()?, "--version"])?;
            let number: String = line
                .chars()
                .skip_while(|character| !character.is_ascii_digit())
                .take_while(char::is_ascii_digit)
                .collect();
            number.parse::<u32>().ok()
        });
        match version {
            Some(number) if number < 14 => Some(format!(
                "PostgreSQL 14 or later is needed, this is {number}"
            )),
            _ => None,
        }
    }

    fn expected(&self, size: &Size) -> Duration {
        // Making the cluster, start and stop.
        Duration::from_secs_f64(4.0 + 0.4 * branches(size) as f64 + size.seconds)
    }

    fn prepare(&self, native: &Place) -> Result<()> {
        let user = User::from_name(USER)?.with_context(|| format!("there is no user {USER}"))?;
        let data = native.dir.join("data");
        if let Some(pid) = left_over(&data) {
            bail!(
                "a server still runs in {}: end process {pid}",
                data.display()
            );
        }
        if data.join("postmaster.pid").exists() {
            initial::forget(&native.dir, CLUSTER)?;
        }
        let recipe = branches(&native.size).to_string();
        initial::once(&native.dir, CLUSTER, &recipe, || self.make(native, &user))?;
        initial::settle(&native.dir)
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let measured = self.run(place);
        if measured.is_err() {
            initial::forget(&place.host, CLUSTER)?;
        }
        measured
    }

    /// Reads all tables.
    fn warm(&self, place: &Place) -> Result<()> {
        place
            .command("sh")
            .directory(place.dir.join("data"))
            .args(["-c", "find base global -type f -exec cat {} + > /dev/null"])
            .run()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let report = "number of transactions actually processed: 2838\n\
                      tps = 2835.890098 (without initial connection time)\n";
        assert_eq!(field(report, "tps = "), Some(2835.890098));
        assert_eq!(
            field(report, "number of transactions actually processed: "),
            Some(2838.0)
        );
        assert_eq!(field(report, "latency average = "), None);
        assert_eq!(
            field(
                "number of transactions actually processed: 10/10\n",
                "number of transactions actually processed: "
            ),
            Some(10.0)
        );
        let mut histogram = Histogram::new(3).unwrap();
        record(
            &mut histogram,
            "0 1 3207 0 1795321247 196756\n3 1 2956 0 1795321247 196542\n",
        )
        .unwrap();
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() >= 3_207_000);
        assert!(record(&mut histogram, "0 1\n").is_err());
    }

    #[test]
    fn only_a_server_of_this_directory_counts_as_left_over() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(left_over(place.path()), None);
        let pid = std::process::id();
        let file = place.path().join("postmaster.pid");
        fs::write(&file, format!("{pid}\n/no/such/directory\n")).unwrap();
        assert_eq!(left_over(place.path()), None, "the process is another one");
    }
}
