//! The file that a run leaves behind: everything that was measured, raw, and what it was measured on.
//!
//! The format is JSON. [`Run::version`] grows when a reader of an older version would misread a newer file; fields that
//! are only added do not change it. `perf/README.md` describes the format for other programs.

pub mod environment;
pub mod histogram;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

pub use environment::Environment;
pub use histogram::Latency;

/// Name of the format.
pub const SCHEMA: &str = "cntr-perf";

/// Version of the format that is written, and the newest that is read.
pub const VERSION: u32 = 1;

/// Why a file of results cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It is not JSON of this format.
    #[error("{path} is not a file of results")]
    Format {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// It was written by a newer program.
    #[error("{path} has version {found} of the format, this program reads up to {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        found: u32,
    },
}

/// One run of the suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of the suite and of the engine: `3.0.0-alpha.1`.
    pub suite: String,
    /// The command line.
    pub command: Vec<String>,
    /// Start, seconds since 1970.
    pub started: u64,
    /// End, seconds since 1970; of the last result while the run goes on.
    pub finished: u64,
    /// Whether everything that was planned was measured.
    pub state: State,
    /// Name of the profile.
    pub profile: String,
    /// Rounds that were asked for.
    pub rounds: u32,
    /// Factor on the sizes of workloads.
    pub scale: f64,
    /// What it was measured on.
    pub environment: Environment,
    /// What the pre-flight said.
    pub warnings: Vec<String>,
    /// The targets, in the order of the command line.
    pub targets: Vec<TargetInfo>,
    /// The workloads, in the order they were run.
    pub workloads: Vec<WorkloadInfo>,
    /// One row per workload and target, in order; none is missing for a workload that was reached.
    pub rows: Vec<Row>,
    /// Explanations of rows by `WORKLOAD/TARGET`, `WORKLOAD/*` or `GROUP:NAME/TARGET`.
    #[serde(default)]
    pub explanations: BTreeMap<String, String>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It goes on, or was killed.
    Running,
    /// Everything planned was measured.
    Complete,
    /// A signal ended it; the rows are those finished before.
    Interrupted,
}

/// A target as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetInfo {
    /// Name, as on the command line.
    pub name: String,
    /// What kind of target.
    pub kind: TargetKind,
    /// One line about it.
    pub about: String,
    /// The command that serves it or enters it, with the placeholders replaced; empty for a bind mount.
    pub command: Vec<String>,
    /// Version of the program, its first line of output.
    pub program_version: Option<String>,
    /// Parameters that were found or set: threads, timeouts, queue depth, max_background, transport.
    pub parameters: BTreeMap<String, String>,
    /// What was verified before it was measured.
    pub checks: Vec<Check>,
    /// Why it was not measured at all.
    pub unavailable: Option<String>,
}

/// Kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A bind mount of the directory: the reference.
    Native,
    /// A FUSE server that shows the directory at a mount point.
    Mount,
    /// A way to run commands in a container.
    Session,
}

/// One verified claim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// The claim: `is a FUSE mount`, `fsync reaches the backing file system`.
    pub claim: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// Whether a target that violates it is not measured at all.
    #[serde(default)]
    pub essential: bool,
}

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Seen to be true.
    Verified,
    /// Seen to be false.
    Violated,
    /// Cannot be told here.
    Unknown,
}

/// A workload as it was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadInfo {
    /// Unique name: `fio-read-random`, `meta-create-8`.
    pub name: String,
    /// Group: `data`, `metadata`, `trees`, `databases`, `servers`, `sessions`, `scaling`.
    pub group: String,
    /// One line about it.
    pub about: String,
    /// Unit of [`Sample::value`].
    pub unit: String,
    /// Which direction is better.
    pub better: Better,
    /// State of the caches at the start.
    pub cache: Cache,
    /// Whether it counts on fsync.
    pub durable: bool,
    /// Name of the target at 1.0: `native`, or `nsenter` for what only a session can do.
    pub baseline: String,
    /// Clients that work at once.
    pub clients: u32,
    /// For a workload that is one point of a curve.
    pub axis: Option<Axis>,
    /// The row of CNTR's table of 2018 that it repeats: name and the overhead published there, lower is better.
    pub cntr_2018: Option<(String, f64)>,
}

/// A point of a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Name of the curve, shared by its points: `create by clients`.
    pub curve: String,
    /// What is varied: `clients`, `files`, `mounts`.
    pub name: String,
    /// The value.
    pub value: f64,
}

/// Which direction of a value is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// A rate.
    Higher,
    /// A time or a size.
    Lower,
}

/// State of the caches when the measurement starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// Page cache, names and inodes were dropped, of the target and of the backing file system.
    Cold,
    /// The same work was done once before, untimed.
    Warm,
    /// The work makes its own files.
    Fresh,
}

/// What was measured of one workload on one target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Name of the workload.
    pub workload: String,
    /// Name of the target.
    pub target: String,
    /// Successful measurements.
    pub samples: Vec<Sample>,
    /// Failed measurements.
    pub failures: Vec<Failure>,
    /// Why it was not tried, if it was not: a tool is missing, the workload does not apply to the kind of target.
    pub skipped: Option<String>,
    /// Whether the workload can be measured on this kind of target at all.
    pub applies: bool,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Round, from 0. Samples of the same round belong together.
    pub round: u32,
    /// Position within the round, from 0.
    pub position: u32,
    /// The figure, in the workload's unit.
    pub value: f64,
    /// Operations in the measured window, where they are counted.
    pub operations: Option<f64>,
    /// What it cost.
    pub usage: Usage,
    /// Seconds that all of it took: preparation, mounting, warming up, the measured window, cleaning up.
    #[serde(default)]
    pub took: f64,
    /// Latencies of single operations.
    pub latency: Option<Latency>,
    /// Further figures by name, with the unit in the name: `server_rss_bytes`.
    #[serde(default)]
    pub extra: BTreeMap<String, f64>,
}

/// What a measured window cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Length of the window in seconds.
    pub seconds: f64,
    /// CPU time of all of the machine in seconds: clients, servers and the kernel's own threads.
    pub cpu_total: f64,
    /// CPU time the hypervisor gave to others while this machine wanted to run, in seconds; 0 where that is not told.
    #[serde(default)]
    pub cpu_stolen: f64,
    /// CPU time of the target's server in seconds, where it has one and it is known.
    pub cpu_server: Option<f64>,
    /// Context switches of all of the machine.
    pub switches_total: u64,
    /// Context switches of the server's threads that lived through the window.
    pub switches_server: Option<u64>,
}

/// A measurement that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Round, from 0.
    pub round: u32,
    /// What happened, with the tool's last words.
    pub error: String,
}

/// What gzip files start with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The text in `path`.
fn read(path: &Path) -> std::io::Result<String> {
    let bytes = fs::read(path)?;
    if !bytes.starts_with(&GZIP) {
        return String::from_utf8(bytes).map_err(std::io::Error::other);
    }
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text)?;
    Ok(text)
}

impl Run {
    /// Reads a file of results, compressed with gzip or not.
    ///
    /// # Errors
    /// It cannot be read, is not of this format, or of a newer version of it.
    pub fn load(path: &Path) -> Result<Run, ResultError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            version: u32,
        }
        let text = read(path).map_err(|source| ResultError::Read {
            path: path.to_owned(),
            source,
        })?;
        let format = |source| ResultError::Format {
            path: path.to_owned(),
            source,
        };
        let head: Head = serde_json::from_str(&text).map_err(format)?;
        if head.version > VERSION {
            return Err(ResultError::Version {
                path: path.to_owned(),
                found: head.version,
            });
        }
        serde_json::from_str(&text).map_err(format)
    }

    /// Writes the file, compressed if its name ends in `.gz`; a reader never sees half of it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ResultError> {
        let write = || -> std::io::Result<()> {
            let directory = path
                .parent()
                .filter(|directory| !directory.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            let mut file = tempfile::Builder::new()
                .prefix(".perf-")
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(directory)?;
            if path.extension().is_some_and(|extension| extension == "gz") {
                let mut compressed = GzEncoder::new(&mut file, Compression::best());
                serde_json::to_writer(&mut compressed, self)?;
                compressed.finish()?;
            } else {
                serde_json::to_writer_pretty(&mut file, self)?;
                file.write_all(b"\n")?;
            }
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| ResultError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// The workload of that name.
    pub fn workload(&self, name: &str) -> Option<&WorkloadInfo> {
        self.workloads.iter().find(|workload| workload.name == name)
    }

    /// The row of a workload on a target.
    pub fn row(&self, workload: &str, target: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.workload == workload && row.target == target)
    }
}
