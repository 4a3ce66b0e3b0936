//! Measures every workload made of tools, tiny, and looks at what it says.
//!
//! The work is done natively, or on a FUSE server's mount that is made anew for each round, where there is a command for
//! it: `PERF_TEST_MOUNT='cntr mount -d SOURCE TARGET -o allow_other'`. `PERF_TEST_ENTER='cntr attach PID --'`
//! enters a session for what applies to sessions. `PERF_TEST_SHOW=1` shows the figures.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use perf::job::{Control, Place, Size};
use perf::result::{Cache, TargetKind};
use perf::workload::{
    Workload, compilebench, dbench, enter, fio, fs_mark, gzip, pgbench, postmark, sqlite, tree, web,
};

const SIZE: Size = Size {
    scale: 0.02,
    seconds: 0.2,
};

fn main() {
    let all = [
        compilebench::all(),
        dbench::all(),
        enter::all(),
        fio::all(),
        fs_mark::all(),
        gzip::all(),
        pgbench::all(),
        postmark::all(),
        sqlite::all(),
        tree::all(),
        web::all(),
    ];
    let mut names = BTreeSet::new();
    let mut trials: Vec<Trial> = Vec::new();
    for workload in all.into_iter().flatten() {
        let name = workload.info().name;
        assert!(
            names.insert(name.clone()),
            "two workloads are called {name}"
        );
        trials.push(trial(name, workload, measure));
    }
    for workload in [pgbench::all().remove(1), web::all().remove(0)] {
        let name = format!("{} out of time leaves no process", workload.info().name);
        trials.push(trial(name, workload, out_of_time));
    }
    let mut arguments = Arguments::from_args();
    // Most of them wait for a disk or a clock.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    libtest_mimic::run(&arguments, trials).exit();
}

/// A test of a workload, skipped where its tools are missing.
fn trial(
    name: String,
    workload: Box<dyn Workload>,
    test: fn(&dyn Workload) -> Result<(), Failed>,
) -> Trial {
    Trial::ignorable_test(name, move || match workload.missing() {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => test(workload.as_ref()).map(|()| Completion::Completed),
    })
}

/// A directory, and where it is worked in.
struct Site {
    backing: tempfile::TempDir,
    mount: Option<Mount>,
}

/// A mount point, and the command that mounts something there.
struct Mount {
    point: tempfile::TempDir,
    command: String,
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount();
    }
}

impl Mount {
    /// A new instance, as for each measurement of a run.
    fn renew(&self, source: &Path) -> Result<(), Failed> {
        self.unmount();
        let command = self
            .command
            .replace("SOURCE", &source.display().to_string())
            .replace("TARGET", &self.point.path().display().to_string());
        let status = Command::new("sh").arg("-c").arg(&command).status()?;
        if !status.success() {
            return Err(format!("{command}: {status}").into());
        }
        Ok(())
    }

    fn unmount(&self) {
        let point = self.point.path();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if mounts.contains(&format!(" {} ", point.display())) {
            let _ = Command::new("umount").arg("-l").arg(point).status();
        }
    }
}

impl Site {
    fn new() -> Result<Site, Failed> {
        let directory = || {
            tempfile::Builder::new()
                .prefix("perf-tools-")
                .permissions(fs::Permissions::from_mode(0o755))
                .tempdir()
        };
        let mount = match std::env::var("PERF_TEST_MOUNT") {
            Ok(command) => Some(Mount {
                point: directory()?,
                command,
            }),
            Err(_) => None,
        };
        Ok(Site {
            backing: directory()?,
            mount,
        })
    }

    fn view(&self) -> &Path {
        match &self.mount {
            Some(mount) => mount.point.path(),
            None => self.backing.path(),
        }
    }

    /// Brings the target up over what was prepared.
    fn bring_up(&self) -> Result<(), Failed> {
        match &self.mount {
            Some(mount) => mount.renew(self.backing.path()),
            None => Ok(()),
        }
    }

    fn native(&self) -> Place {
        Place {
            dir: self.backing.path().to_owned(),
            host: self.backing.path().to_owned(),
            others: Vec::new(),
            enter: Vec::new(),
            servers: Vec::new(),
            connections: Vec::new(),
            size: SIZE,
            control: Control::none().with_deadline(Duration::from_secs(50)),
        }
    }

    /// For what can be done in a session, a mount namespace stands in for one unless there is a command to enter one.
    fn target(&self, kind: TargetKind) -> Place {
        let session = std::env::var("PERF_TEST_ENTER").unwrap_or("unshare --mount --".into());
        let enter = match kind {
            TargetKind::Session => session.as_str(),
            _ => "",
        };
        Place {
            dir: self.view().to_owned(),
            enter: enter.split_whitespace().map(Into::into).collect(),
            ..self.native()
        }
    }

    /// Processes that work below the directory, by their command line.
    fn processes(&self) -> Vec<String> {
        let below = |path: &Path| {
            let link = |name| fs::read_link(path.join(name)).unwrap_or_default();
            [link("cwd"), link("exe")]
                .iter()
                .any(|link| link.starts_with(self.backing.path()) || link.starts_with(self.view()))
        };
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| below(path))
            .map(|path| fs::read_to_string(path.join("cmdline")).unwrap_or_default())
            .collect()
    }

    fn quiet(&self) -> Result<(), Failed> {
        match self.processes().as_slice() {
            [] => Ok(()),
            left => Err(format!("processes are left: {left:?}").into()),
        }
    }
}

/// Two rounds; the second in a session where that applies.
fn measure(workload: &dyn Workload) -> Result<(), Failed> {
    let info = workload.info();
    let site = Site::new()?;
    let mut kinds = vec![TargetKind::Mount, TargetKind::Session];
    kinds.retain(|kind| workload.applies(*kind));
    let rounds = [kinds[0], *kinds.last().expect("it applies to something")];
    for kind in rounds {
        let place = site.target(kind);
        let wrong = |what: &str| Err(Failed::from(format!("{kind:?}: {what}")));
        workload
            .prepare(&site.native())
            .map_err(|error| format!("{kind:?}: prepare: {error:#}"))?;
        site.bring_up()?;
        if info.cache == Cache::Warm {
            workload
                .warm(&place)
                .map_err(|error| format!("{kind:?}: warm: {error:#}"))?;
        }
        let start = Instant::now();
        let measured = workload
            .measure(&place)
            .map_err(|error| format!("{kind:?}: {error:#}"))?;
        let took = start.elapsed().as_secs_f64();
        site.quiet()?;

        if !measured.value.is_finite() || measured.value <= 0.0 {
            return wrong(&format!("the value is {}", measured.value));
        }
        if info.unit == "s" && measured.value > took {
            return wrong(&format!("{} s of {took} s", measured.value));
        }
        if measured.operations.is_some_and(|count| count < 1.0) {
            return wrong(&format!("{:?} operations", measured.operations));
        }
        let usage = measured.usage;
        if usage.seconds <= 0.0 || usage.seconds > took {
            return wrong(&format!("a window of {} s in {took} s", usage.seconds));
        }
        let promised = ["fio-", "pgbench-", "web-", "enter"]
            .iter()
            .any(|name| info.name.starts_with(name));
        match &measured.latency {
            None if promised => return wrong("there is no latency"),
            Some(latency) => {
                let ordered = latency.p50 <= latency.p99
                    && latency.p99 <= latency.p999
                    && latency.p999 <= latency.max;
                if latency.count == 0 || latency.max == 0 || !ordered {
                    return wrong(&format!("strange latencies: {latency:?}"));
                }
            }
            None => {}
        }
        if std::env::var_os("PERF_TEST_SHOW").is_some() {
            eprintln!(
                "{} {kind:?}: {:.3} {}, {:?} operations, {took:.2} s, p99 {:?} ns, {:?}",
                info.name,
                measured.value,
                info.unit,
                measured.operations,
                measured.latency.map(|latency| latency.p99),
                measured.extra
            );
        }
    }
    Ok(())
}

/// The deadline passes in the middle of the work: an error, no process, and the next round is fine again.
fn out_of_time(workload: &dyn Workload) -> Result<(), Failed> {
    let site = Site::new()?;
    let text = |error: anyhow::Error| Failed::from(format!("{error:#}"));
    workload.prepare(&site.native()).map_err(text)?;
    site.bring_up()?;
    let place = Place {
        size: Size {
            scale: 1000.0,
            seconds: 30.0,
        },
        control: Control::none().with_deadline(Duration::from_secs(2)),
        ..site.target(TargetKind::Mount)
    };
    let start = Instant::now();
    match workload.measure(&place) {
        Ok(measured) => return Err(format!("it finished: {measured:?}").into()),
        Err(error) => {
            let error = format!("{error:#}");
            if !error.contains("did not finish in time") {
                return Err(format!("another error: {error}").into());
            }
        }
    }
    if start.elapsed() > Duration::from_secs(20) {
        return Err(format!("it took {:?} to give up", start.elapsed()).into());
    }
    site.quiet()?;
    workload.prepare(&site.native()).map_err(text)?;
    site.bring_up()?;
    workload
        .measure(&site.target(TargetKind::Mount))
        .map_err(text)?;
    site.quiet()
}
