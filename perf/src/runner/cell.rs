//! One measurement: one workload, one target, one round.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::job::{Control, JobError, Place, Size};
use crate::result::Cache;
use crate::target::{Arena, Target, Up};
use crate::workload::{Measured, Workload};

/// Longest preparation.
const PREPARATION: Duration = Duration::from_secs(600);

/// What to measure, and where.
pub struct Cell<'a> {
    /// The workload.
    pub workload: &'a dyn Workload,
    /// The target.
    pub target: &'a Target,
    /// Where targets are brought up.
    pub arena: &'a Arena,
    /// The directory in the backing file system.
    pub host: &'a Path,
    /// How much to do.
    pub size: Size,
    /// Longest warm-up and measurement, each.
    pub limit: Duration,
    /// Interrupts.
    pub control: &'a Control,
}

/// Why there is no figure.
#[derive(Debug)]
pub enum CellError {
    /// A signal to the suite.
    Interrupted,
    /// Anything else, for the row.
    Failed(anyhow::Error),
}

impl Cell<'_> {
    /// Prepares, brings the target up, brings the caches into their state, measures, takes the target down.
    ///
    /// # Errors
    /// Any of it fails or takes too long.
    pub fn measure(&self) -> Result<Measured, CellError> {
        let result = self.attempt();
        match result {
            Ok(measured) => Ok(measured),
            Err(_) if self.control.interrupted().is_some() => Err(CellError::Interrupted),
            Err(error) if matches!(error.downcast_ref(), Some(JobError::Interrupted)) => {
                Err(CellError::Interrupted)
            }
            Err(error) => Err(CellError::Failed(error)),
        }
    }

    fn attempt(&self) -> anyhow::Result<Measured> {
        fs::create_dir_all(self.host)
            .and_then(|()| fs::set_permissions(self.host, PermissionsExt::from_mode(0o755)))
            .with_context(|| format!("cannot make {}", self.host.display()))?;
        let native = Place {
            dir: self.host.to_owned(),
            host: self.host.to_owned(),
            others: Vec::new(),
            enter: Vec::new(),
            servers: Vec::new(),
            connections: Vec::new(),
            size: self.size,
            control: self.control.with_deadline(PREPARATION),
        };
        self.workload
            .prepare(&native)
            .context("cannot prepare the workload")?;
        self.flush()?;
        let mut up = self
            .target
            .up(self.arena, self.host, self.workload.mounts(), self.control)
            .context("cannot bring up the target")?;
        let measured = self.on(&up);
        let died = up.died();
        // A failure to take it down is told only if the measurement itself did not fail.
        let down = up.down().context("cannot take down the target");
        if let Some(words) = died {
            return Err(match measured {
                Ok(_) => anyhow::anyhow!("the server died meanwhile: {words}"),
                Err(error) => error.context(format!("the server died: {words}")),
            });
        }
        let measured = measured?;
        down?;
        anyhow::ensure!(
            measured.value.is_finite() && measured.value > 0.0,
            "the figure is {}, which cannot be",
            measured.value
        );
        Ok(measured)
    }

    fn on(&self, up: &Up) -> anyhow::Result<Measured> {
        let place = || up.place(self.size, self.control.with_deadline(self.limit));
        match self.workload.info().cache {
            Cache::Warm => {
                self.workload.warm(&place()).context("while warming up")?;
                self.flush()?;
            }
            Cache::Cold => drop_caches()?,
            Cache::Fresh => {}
        }
        self.workload.measure(&place())
    }

    /// What was written before must not be written back during the measurement.
    fn flush(&self) -> anyhow::Result<()> {
        let directory = fs::File::open(self.host)?;
        nix::unistd::syncfs(&directory)
            .with_context(|| format!("cannot sync the file system of {}", self.host.display()))
    }
}

/// Drops pages, names and inodes of all file systems.
fn drop_caches() -> anyhow::Result<()> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
        .context("cannot drop the caches (root is needed): /proc/sys/vm/drop_caches")
}
