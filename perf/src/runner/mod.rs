//! Plans a run, measures round by round, saves what it has.
//!
//! Workloads are measured one after the other. Within a workload the targets take turns in every round, each round
//! starting with another one, so that all members of a ratio were measured within the same minute. Each measurement has
//! a fresh mount over a directory of its target's own. After each workload the results so far are on disk.

pub mod cell;
pub mod plan;
pub mod progress;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::job::Control;
use crate::result::{Check, Environment, Failure, Row, Run, SCHEMA, State, VERSION, Verdict};
use crate::target::{Arena, Target, verify};
use crate::workload::Workload;
use cell::{Cell, CellError};
pub use plan::{Plan, Profile};
use progress::Progress;

/// A target whose measurements of a workload fail this often, and never succeed, is not tried again.
const FAILURES: usize = 2;

/// What a run starts from.
pub struct Start {
    /// What is to be measured.
    pub plan: Plan,
    /// Directory for the files of workloads; the run makes a directory of its own in it.
    pub backing: PathBuf,
    /// Directory for the results; it exists.
    pub out: PathBuf,
    /// What the pre-flight said.
    pub warnings: Vec<String>,
    /// What it is measured on.
    pub environment: Environment,
    /// Command line of the suite.
    pub command: Vec<String>,
}

/// Name of the file of results in the output directory.
pub const RESULT: &str = "run.json";

/// Measures everything that is planned. Ends early, but in order, after a signal.
///
/// # Errors
/// The directories cannot be made or the results not be saved. A target or workload that fails is not an error but part
/// of the results.
pub fn run(start: Start, control: &Control) -> anyhow::Result<Run> {
    let stage = tempfile::Builder::new()
        .prefix("cntr-perf-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(&start.backing)
        .with_context(|| format!("cannot make a directory in {}", start.backing.display()))?;
    // Other users, PostgreSQL's for one, have to reach the mounts.
    let scratch = tempfile::Builder::new()
        .prefix("cntr-perf-mounts-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .context("cannot make a directory for mount points")?;
    let arena = Arena::new(
        scratch.path().to_owned(),
        stage.path().to_owned(),
        control.clone(),
    )?;
    let now = seconds();
    let mut runner = Runner {
        run: Run {
            schema: SCHEMA.to_owned(),
            version: VERSION,
            suite: env!("CARGO_PKG_VERSION").to_owned(),
            command: start.command,
            started: now,
            finished: now,
            state: State::Running,
            profile: start.plan.profile.to_string(),
            rounds: start.plan.rounds,
            scale: start.plan.size.scale,
            environment: start.environment,
            warnings: start.warnings,
            targets: Vec::new(),
            workloads: Vec::new(),
            rows: Vec::new(),
            explanations: Default::default(),
        },
        progress: Progress::new(&start.plan),
        plan: start.plan,
        arena,
        stage: stage.path().to_owned(),
        file: start.out.join(RESULT),
        control: control.clone(),
    };
    let measured = runner.measure();
    runner.progress.finish();
    let Runner {
        mut run,
        arena,
        file,
        ..
    } = runner;
    // Mounts first: removing the stage must not go through one of them.
    if let Err(error) = arena.end() {
        run.warnings.push(format!("cleaning up: {error:#}"));
    }
    let keep = stage.path().to_owned();
    if let Err(error) = stage.close() {
        run.warnings
            .push(format!("cannot remove {}: {error}", keep.display()));
    }
    run.finished = seconds();
    run.state = match control.interrupted() {
        Some(_) => State::Interrupted,
        None => State::Complete,
    };
    run.save(&file)?;
    measured?;
    Ok(run)
}

struct Runner {
    run: Run,
    plan: Plan,
    arena: Arena,
    stage: PathBuf,
    file: PathBuf,
    control: Control,
    progress: Progress,
}

impl Runner {
    fn measure(&mut self) -> anyhow::Result<()> {
        let targets = std::mem::take(&mut self.plan.targets);
        let workloads = std::mem::take(&mut self.plan.workloads);
        for target in &targets {
            let info = self.inspect(target);
            self.run.targets.push(info);
        }
        self.save()?;
        for workload in &workloads {
            if self.control.interrupted().is_some() {
                break;
            }
            let rows = self.rows(workload.as_ref(), &targets);
            // An interrupt may have come before the first sample: then there is nothing to tell of this workload.
            if self.control.interrupted().is_some() && rows.iter().all(|row| row.samples.is_empty())
            {
                break;
            }
            self.run.workloads.push(workload.info());
            self.run.rows.extend(rows);
            self.save()?;
            self.progress
                .workload_done(&self.run, &workload.info().name);
        }
        Ok(())
    }

    fn save(&mut self) -> anyhow::Result<()> {
        self.run.finished = seconds();
        Ok(self.run.save(&self.file)?)
    }

    /// Brings the target up once and verifies its claims.
    fn inspect(&mut self, target: &Target) -> crate::result::TargetInfo {
        let mut info = target.info();
        if let Some(reason) = target.unavailable() {
            info.unavailable = Some(reason);
            return info;
        }
        self.progress.show("checking", target.name());
        let host = self.stage.join("verify").join(target.name());
        let verified = || -> anyhow::Result<(Vec<Check>, _)> {
            fs::create_dir_all(&host).with_context(|| format!("cannot make {}", host.display()))?;
            let mut up = target.up(&self.arena, &host, 1, &self.control)?;
            let checks = verify(target, &mut up, &host);
            let parameters = up.parameters().clone();
            up.down()?;
            Ok((checks, parameters))
        };
        match verified() {
            Ok((checks, parameters)) => {
                let lie = checks
                    .iter()
                    .find(|check| check.verdict == Verdict::Violated && check.essential);
                info.unavailable =
                    lie.map(|check| format!("not {}: {}", check.claim, check.detail));
                info.checks = checks;
                info.parameters.extend(parameters);
            }
            Err(error) => info.unavailable = Some(format!("{error:#}")),
        }
        let _ = fs::remove_dir_all(&host);
        info
    }

    /// Measures one workload on all targets.
    fn rows(&mut self, workload: &dyn Workload, targets: &[Target]) -> Vec<Row> {
        let info = workload.info();
        let missing = workload.missing();
        let mut rows: Vec<Row> = targets
            .iter()
            .zip(&self.run.targets)
            .map(|(target, described)| Row {
                workload: info.name.clone(),
                target: target.name().to_owned(),
                samples: Vec::new(),
                failures: Vec::new(),
                applies: workload.applies(target.kind()),
                skipped: if !workload.applies(target.kind()) {
                    Some(format!("{} does not apply to this target", info.name))
                } else {
                    missing.clone().or_else(|| described.unavailable.clone())
                },
            })
            .collect();
        let active: Vec<usize> = (0..rows.len())
            .filter(|index| rows[*index].skipped.is_none())
            .collect();
        for row in rows.iter().filter(|row| row.skipped.is_some()) {
            self.progress.skip(workload, &row.target);
        }
        for round in 0..self.plan.rounds {
            for position in 0..active.len() {
                let index = active[(position + round as usize) % active.len()];
                let (row, target) = (&mut rows[index], &targets[index]);
                if row.samples.is_empty() && row.failures.len() >= FAILURES {
                    self.progress.skip_one(workload, target.name());
                    continue;
                }
                if self.control.interrupted().is_some() {
                    break;
                }
                self.progress
                    .show(&info.name, &format!("{} {}", target.name(), round + 1));
                let begun = Instant::now();
                let cell = Cell {
                    workload,
                    target,
                    arena: &self.arena,
                    host: &self.stage.join(target.name()).join(&info.name),
                    size: self.plan.size,
                    limit: self.plan.limit,
                    control: &self.control,
                };
                match cell.measure() {
                    Ok(measured) => row.samples.push(crate::result::Sample {
                        round,
                        position: position as u32,
                        value: measured.value,
                        operations: measured.operations,
                        usage: measured.usage,
                        took: begun.elapsed().as_secs_f64(),
                        latency: measured.latency,
                        extra: measured.extra,
                    }),
                    Err(CellError::Interrupted) => break,
                    Err(CellError::Failed(error)) => {
                        let error = format!("{error:#}");
                        self.progress.failed(&info.name, target.name(), &error);
                        row.failures.push(Failure { round, error });
                    }
                }
                self.progress
                    .measured(workload, target.name(), begun.elapsed());
            }
        }
        for target in targets {
            remove(&self.stage.join(target.name()).join(&info.name));
        }
        rows
    }
}

/// Removes what a workload has left; what cannot be removed now goes with the stage.
fn remove(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
}

/// Seconds since 1970.
fn seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}
