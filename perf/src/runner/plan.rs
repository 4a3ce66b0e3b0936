//! What is to be measured.

use std::fmt;
use std::time::Duration;

use crate::job::Size;
use crate::target::Target;
use crate::workload::Workload;

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Some workloads of each kind, small: under three minutes
    Quick,
    /// Everything
    Full,
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Profile::Quick => "quick",
            Profile::Full => "full",
        })
    }
}

impl Profile {
    /// Sizes of its measurements.
    pub fn size(self) -> Size {
        match self {
            Profile::Quick => Size {
                scale: 0.05,
                seconds: 0.5,
            },
            Profile::Full => Size {
                scale: 1.0,
                seconds: 2.0,
            },
        }
    }

    /// Longest measurement.
    pub fn limit(self) -> Duration {
        match self {
            Profile::Quick => Duration::from_secs(30),
            Profile::Full => Duration::from_secs(120),
        }
    }
}

/// What is to be measured, in order.
pub struct Plan {
    /// Name of the choice.
    pub profile: Profile,
    /// Where it is measured; the baseline is among them.
    pub targets: Vec<Target>,
    /// What is measured.
    pub workloads: Vec<Box<dyn Workload>>,
    /// How often.
    pub rounds: u32,
    /// How much.
    pub size: Size,
    /// Longest measurement; what takes longer has failed.
    pub limit: Duration,
}

/// Why a choice cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No workload has that name.
    #[error("there is no workload or group {pattern:?}: `perf list` shows what there is")]
    NoWorkload {
        /// What was asked for.
        pattern: String,
    },
    /// It is not a pattern.
    #[error("{pattern:?} is not a pattern")]
    Pattern {
        /// What was asked for.
        pattern: String,
        /// The reason.
        source: glob::PatternError,
    },
}

/// The workloads whose name or group matches one of `patterns` (`*`, `?`, `[...]`), or without patterns those of the
/// profile.
///
/// # Errors
/// A pattern matches nothing.
pub fn select_workloads(
    all: Vec<Box<dyn Workload>>,
    patterns: &[String],
    profile: Profile,
) -> Result<Vec<Box<dyn Workload>>, PlanError> {
    if patterns.is_empty() {
        return Ok(all
            .into_iter()
            .filter(|workload| profile == Profile::Full || workload.quick())
            .collect());
    }
    let mut chosen = vec![false; all.len()];
    for pattern in patterns {
        let glob = glob::Pattern::new(pattern).map_err(|source| PlanError::Pattern {
            pattern: pattern.clone(),
            source,
        })?;
        let mut found = false;
        for (workload, chosen) in all.iter().zip(&mut chosen) {
            let info = workload.info();
            if glob.matches(&info.name) || glob.matches(&info.group) {
                *chosen = true;
                found = true;
            }
        }
        if !found {
            return Err(PlanError::NoWorkload {
                pattern: pattern.clone(),
            });
        }
    }
    Ok(all
        .into_iter()
        .zip(chosen)
        .filter_map(|(workload, chosen)| chosen.then_some(workload))
        .collect())
}
