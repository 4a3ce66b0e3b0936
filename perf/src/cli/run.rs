//! `perf run`: measures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::statfs::statfs;

use super::CatalogueArgs;
use crate::job::Control;
use crate::preflight;
use crate::report;
use crate::result::{Run, TargetKind};
use crate::runner::plan::{self, Plan, Profile};
use crate::runner::{self, Start};
use crate::target::{Catalogue, Target};
use crate::workload;

/// Arguments of `perf run`.
#[derive(clap::Args, Debug)]
#[command(after_help = NOTES)]
pub struct RunArgs {
    /// How thorough
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,

    /// Measure on this target; `found` for all that can be used here, patterns like 'cntr*'. What
    /// ratios are made with - native, and nsenter for sessions - is always measured [default: cntr]
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,

    /// Measure this workload or group; patterns like 'fio-*' [default: those of the profile]
    #[arg(long = "workload", value_name = "NAME")]
    workloads: Vec<String>,

    #[command(flatten)]
    catalogue: CatalogueArgs,

    /// Directory for the files of workloads; its file system is what native means
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    backing: PathBuf,

    /// Directory for the results [default: perf-results/TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// How often everything is measured; intervals need five
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Factor on numbers and sizes of files [default: 1 for full, 0.05 for quick]
    #[arg(long, value_name = "FACTOR", value_parser = positive)]
    scale: Option<f64>,

    /// Length of measurements that end by time [default: 2 for full, 0.5 for quick]
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    seconds: Option<f64>,

    /// Longest measurement; what takes longer has failed [default: 120 for full, 30 for quick]
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    limit: Option<f64>,

    /// File with explanations of results, for the report
    #[arg(long, value_name = "FILE")]
    explain: Option<PathBuf>,

    /// Measure although the pre-flight refuses
    #[arg(long)]
    force: bool,

    /// Exit with 2 unless everything that was asked for could be measured
    #[arg(long)]
    strict: bool,
}

const NOTES: &str = "\
Targets take turns within every round. Each measurement has a fresh mount. The results so far are on disk after each
workload; Ctrl-C unmounts, removes what was made, and keeps them.

Exit codes: 0 measured (also if some of it failed: the report says what; --strict makes that 2), 1 not measured,
130 interrupted.";

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("a number above 0 is needed".to_owned()),
    }
}

/// Runs `perf run`.
///
/// # Errors
/// The choice is not possible, the pre-flight refuses, or the results cannot be written.
pub fn run(arguments: &RunArgs) -> anyhow::Result<ExitCode> {
    let catalogue = arguments.catalogue.load()?;
    let targets = with_baselines(&catalogue, catalogue.select(&arguments.targets)?)?;
    let mut size = arguments.profile.size();
    size.scale = arguments.scale.unwrap_or(size.scale);
    size.seconds = arguments.seconds.unwrap_or(size.seconds);
    let workloads = plan::select_workloads(
        workload::all(size.scale),
        &arguments.workloads,
        arguments.profile,
    )?;
    let explanations = match &arguments.explain {
        Some(path) => report::explain::load(path)?,
        None => Default::default(),
    };
    let backing = fs::canonicalize(&arguments.backing)
        .with_context(|| format!("cannot use --backing {}", arguments.backing.display()))?;
    let control = Control::install().context("cannot take over signals")?;

    let scale = size.scale.max(0.1);
    let mut checked = preflight::check(&backing, (BYTES * scale) as u64, (FILES * scale) as u64);
    if arguments.force {
        checked = checked.forced();
    }
    if !checked.refusals.is_empty() {
        for refusal in &checked.refusals {
            eprintln!("perf: {refusal}");
        }
        bail!("nothing was measured; --force measures all the same");
    }
    let mut warnings = checked.warnings;
    if arguments.rounds < 5 {
        warnings.push(format!(
            "{} rounds are too few for intervals: five are needed",
            arguments.rounds
        ));
    }
    for warning in &warnings {
        eprintln!("perf: warning: {warning}");
    }

    let out = output(arguments.out.as_deref())?;
    let start = Start {
        plan: Plan {
            profile: arguments.profile,
            targets,
            workloads,
            rounds: arguments.rounds,
            size,
            limit: arguments
                .limit
                .map_or(arguments.profile.limit(), Duration::from_secs_f64),
        },
        environment: preflight::environment(&backing),
        backing,
        out: out.clone(),
        warnings,
        command: std::env::args().collect(),
    };
    let mut measured = runner::run(start, &control)?;
    measured.explanations.extend(explanations);
    report::table::print(&measured)?;
    eprintln!();
    for path in report::write_all(&measured, &out)? {
        eprintln!("{}", path.display());
    }
    Ok(match control.interrupted() {
        Some(signal) => ExitCode::from(128 + signal as u8),
        None if arguments.strict && !complete(&measured) => ExitCode::from(INCOMPLETE),
        None => ExitCode::SUCCESS,
    })
}

/// Adds what ratios are made with: native, and nsenter where there are sessions.
fn with_baselines(catalogue: &Catalogue, chosen: Vec<Target>) -> anyhow::Result<Vec<Target>> {
    let sessions = chosen
        .iter()
        .any(|target| target.kind() == TargetKind::Session);
    let needed = ["native", "nsenter"]
        .into_iter()
        .take(if sessions { 2 } else { 1 });
    let mut all = Vec::new();
    for name in needed {
        if !chosen.iter().any(|target| target.name() == name) {
            all.extend(catalogue.select(&[name.to_owned()])?);
        }
    }
    all.extend(chosen);
    Ok(all)
}

/// Exit code of a strict run that is not complete.
const INCOMPLETE: u8 = 2;

/// Whether there is a sample of every round, wherever a workload applies to a target.
fn complete(run: &Run) -> bool {
    run.rows.iter().all(|row| match &row.skipped {
        Some(_) => !row.applies,
        None => row.samples.len() == run.rounds as usize,
    })
}

/// Bytes that a run of scale 1 may need at once.
const BYTES: f64 = 8e9;

/// Files that a run of scale 1 may need at once, for a dozen targets.
const FILES: f64 = 1.3e7;

/// The directory for the results, made if it does not exist.
fn output(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match asked {
        Some(path) => path.to_owned(),
        None => Path::new("perf-results")
            .join(jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()),
    };
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    // Better now than after an hour of measuring.
    tempfile::tempfile_in(&path)
        .with_context(|| format!("cannot write results to {}", path.display()))?;
    let type_of_out = statfs(&path)?.filesystem_type();
    if type_of_out == nix::sys::statfs::FUSE_SUPER_MAGIC {
        eprintln!("perf: warning: {} is on a FUSE file system", path.display());
    }
    Ok(path)
}
