//! The limit of any operation that is not cached: the round trip to a server that answers from memory.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Measured, Workload, generator};
use crate::job::{Command, Control, Place, Running, Size};
use crate::load::Operation;
use crate::result::{Better, Cache, TargetKind, WorkloadInfo};
use crate::served;

/// Part of the measured time that is spent before it, untimed.
const WARM_UP: f64 = 0.2;

/// Time that the server has to come up, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether it has come up.
const LOOK: Duration = Duration::from_millis(5);

/// The workloads of this group.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![
        Box::new(NullRoundTrip { clients: 1 }),
        Box::new(NullRoundTrip { clients: 2 }),
    ]
}

/// The null server, beside the target.
struct NullRoundTrip {
    clients: u32,
}

impl Workload for NullRoundTrip {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: match self.clients {
                1 => "null-round-trip".to_owned(),
                clients => format!("null-round-trip-{clients}c"),
            },
            group: "limit".to_owned(),
            about: "attributes of an open file from a server that answers from memory: the limit of what is not cached"
                .to_owned(),
            unit: "ops/s".to_owned(),
            better: Better::Higher,
            cache: Cache::Warm,
            durable: false,
            baseline: "native".to_owned(),
            clients: self.clients,
            axis: None,
            cntr_2018: None,
        }
    }

    fn quick(&self) -> bool {
        self.clients == 1
    }

    /// It does not touch the target, so it is measured once a round.
    fn applies(&self, kind: TargetKind) -> bool {
        kind == TargetKind::Native
    }

    fn missing(&self) -> Option<String> {
        (!nix::unistd::geteuid().is_root())
            .then(|| "only root can mount the null server".to_owned())
    }

    fn expected(&self, size: &Size) -> Duration {
        Duration::from_secs_f64(size.seconds * (1.0 + WARM_UP) + 0.5)
    }

    fn prepare(&self, _native: &Place) -> anyhow::Result<()> {
        Ok(())
    }

    fn measure(&self, place: &Place) -> anyhow::Result<Measured> {
        let server = Server::start(&place.control)?;
        let seconds = place.size.seconds;
        let arguments = [
            Operation::Fstat.name(),
            "--existing".to_owned(),
            "--files=1".to_owned(),
            format!("--clients={}", self.clients),
            format!("--seconds={seconds}"),
            format!("--warm-up={}", seconds * WARM_UP),
            format!("--meter-pid={}", server.pid()?),
        ];
        let load = Command::on_host(generator::program()?, &place.control).arg("load");
        let outcome = generator::finish(load, &arguments, server.mount_point.path())?;
        server.end()?;
        Ok(generator::measured(outcome))
    }

    /// Nothing: the load generator warms up itself.
    fn warm(&self, _place: &Place) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A null server that runs; killed and unmounted when dropped.
struct Server {
    running: Option<Running>,
    mount_point: TempDir,
}

impl Server {
    fn start(control: &Control) -> anyhow::Result<Server> {
        let mount_point = tempfile::Builder::new()
            .prefix("perf-null-")
            .tempdir()
            .context("cannot make a mount point for the null server")?;
        let running = Command::on_host(generator::program()?, control)
            .arg("null")
            .arg(mount_point.path())
            .spawn()?;
        let server = Server {
            running: Some(running),
            mount_point,
        };
        let end = Instant::now() + PATIENCE;
        while let Some(running) = &server.running {
            let output = running.output();
            if output.lines().any(|line| line == served::READY) {
                return Ok(server);
            }
            if running.ended() || Instant::now() > end {
                bail!("the null server does not come up: {}", output.trim());
            }
            thread::sleep(LOOK);
        }
        unreachable!("it is there until it is ended");
    }

    fn pid(&self) -> anyhow::Result<nix::unistd::Pid> {
        let running = self.running.as_ref();
        running
            .map(Running::pid)
            .context("the null server has ended")
    }

    /// Asks it to end and waits for it.
    fn end(mut self) -> anyhow::Result<()> {
        if let Some(running) = self.running.take() {
            running.signal(Signal::SIGTERM);
            running.wait().context("the null server did not end well")?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.running.take());
        // If it was killed, its mount is dead, but still there.
        let _ = umount2(self.mount_point.path(), MntFlags::MNT_DETACH);
    }
}
