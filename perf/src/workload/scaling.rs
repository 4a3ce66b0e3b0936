//! How cost and memory grow with clients, files and mounts.

use std::time::Duration;

use anyhow::Context;

use super::metadata::{Metadata, PER_DIRECTORY, prepare_once};
use super::{Measured, Workload, generator};
use crate::job::meter::resident;
use crate::job::{Place, Size};
use crate::load::{Operation, caches, make_trees};
use crate::result::{Axis, Better, Cache, TargetKind, WorkloadInfo};

/// Clients of the curves by clients.
const CLIENTS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Files of the curve by files, at full size.
const FILES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Number of files that only a run at full size has.
const MANY: u64 = 1_000_000;

/// Mounts of the curve by mounts.
const MOUNTS: [usize; 4] = [1, 4, 16, 64];

/// Files looked up with several mounts, at full size.
const MOUNT_FILES: u64 = 20_000;

/// Longest time that a walk over many files may take, in seconds.
const LONGEST: f64 = 60.0;

/// Files a second that can be made and looked up natively, at least: for the estimate.
const MAKING: f64 = 25_000.0;

/// The workloads of this group at full size.
pub fn all() -> Vec<Box<dyn Workload>> {
    all_at(1.0)
}

/// The workloads of this group at a scale. Below 1.0 the largest number of files is less than a million, and the point
/// of the curve says how many there are.
pub fn all_at(scale: f64) -> Vec<Box<dyn Workload>> {
    let mut all: Vec<Box<dyn Workload>> = Vec::new();
    let curves = [
        (
            Operation::Create,
            "make an empty file, close it",
            "create by clients",
        ),
        (
            Operation::ReadSmall,
            "open a file, read its 4 KiB, close it",
            "open, read and close by clients",
        ),
        (
            Operation::Lookup,
            "attributes of names that the kernel has forgotten",
            "lookup by clients",
        ),
    ];
    for (operation, about, curve) in curves {
        for clients in CLIENTS {
            all.push(Box::new(Metadata::point(operation, clients, about, curve)));
        }
    }
    let mut numbers = Vec::from(FILES.map(|files| match files {
        MANY if scale < 1.0 => ((MANY as f64 * scale) as u64).max(FILES[0]),
        files => files,
    }));
    numbers.sort_unstable();
    numbers.dedup();
    for files in numbers {
        all.push(Box::new(Files { files }));
    }
    for mounts in MOUNTS {
        all.push(Box::new(Mounts { mounts }));
    }
    all
}

/// Looks each file up once.
fn walk(place: &Place, files: u64, seconds: f64) -> anyhow::Result<Measured> {
    let arguments = [
        Operation::Lookup.name(),
        "--existing".to_owned(),
        "--no-drop".to_owned(),
        format!("--files={files}"),
        format!("--per-directory={PER_DIRECTORY}"),
        format!("--operations={files}"),
        format!("--seconds={seconds}"),
    ];
    let mut measured = generator::measured(generator::load(place, &arguments)?);
    measured.value = 1e6 / measured.value;
    Ok(measured)
}

fn prepare(native: &Place, files: u64) -> anyhow::Result<()> {
    prepare_once(&native.host, &format!("tree {files}"), || {
        make_trees(Operation::Lookup, &native.host, 1, files, PER_DIRECTORY, 0)?;
        Ok(())
    })
}

fn info(name: String, about: String, axis: Axis) -> WorkloadInfo {
    WorkloadInfo {
        name,
        group: "scaling".to_owned(),
        about,
        unit: "us".to_owned(),
        better: Better::Lower,
        cache: Cache::Fresh,
        durable: false,
        baseline: "native".to_owned(),
        clients: 1,
        axis: Some(axis),
        cntr_2018: None,
    }
}

/// Time of a lookup, and memory of the server for an inode that the kernel knows.
struct Files {
    files: u64,
}

impl Workload for Files {
    fn info(&self) -> WorkloadInfo {
        info(
            format!("scale-files-{}", self.files),
            format!(
                "time of a lookup in a walk over {} files that the kernel has forgotten; memory of the server for each",
                self.files
            ),
            Axis {
                curve: "lookup by files".to_owned(),
                name: "files".to_owned(),
                value: self.files as f64,
            },
        )
    }

    fn missing(&self) -> Option<String> {
        caches::missing()
    }

    fn expected(&self, _size: &Size) -> Duration {
        Duration::from_secs_f64(self.files as f64 / MAKING + 3.0)
    }

    fn prepare(&self, native: &Place) -> anyhow::Result<()> {
        prepare(native, self.files)
    }

    fn measure(&self, place: &Place) -> anyhow::Result<Measured> {
        caches::drop_names(&place.host)?;
        let before = resident(&place.servers);
        let mut measured = walk(place, self.files, LONGEST)?;
        let after = resident(&place.servers);
        let known = measured.operations.unwrap_or(0.0);
        measured.extra.insert("files_looked_up".to_owned(), known);
        if let Some((before, after)) = before.zip(after) {
            let grown = after.saturating_sub(before) as f64;
            measured.extra.extend([
                ("server_rss_before_bytes".to_owned(), before as f64),
                ("server_rss_bytes".to_owned(), after as f64),
                ("server_rss_per_inode_bytes".to_owned(), grown / known),
            ]);
        }
        Ok(measured)
    }
}

/// Time of a lookup while further mounts of the same target exist, and memory of the server for a mount.
struct Mounts {
    mounts: usize,
}

impl Workload for Mounts {
    fn info(&self) -> WorkloadInfo {
        info(
            format!("scale-mounts-{}", self.mounts),
            format!(
                "time of a lookup while {} mounts of the target are in use; memory of the servers for each",
                self.mounts
            ),
            Axis {
                curve: "lookup by mounts".to_owned(),
                name: "mounts".to_owned(),
                value: self.mounts as f64,
            },
        )
    }

    fn missing(&self) -> Option<String> {
        caches::missing()
    }

    fn mounts(&self) -> usize {
        self.mounts
    }

    fn applies(&self, kind: TargetKind) -> bool {
        kind != TargetKind::Session
    }

    fn expected(&self, size: &Size) -> Duration {
        let files = size.count(MOUNT_FILES, 2000) as f64;
        Duration::from_secs_f64(files / MAKING + 3.0 + self.mounts as f64 * 0.05)
    }

    fn prepare(&self, native: &Place) -> anyhow::Result<()> {
        prepare(native, native.size.count(MOUNT_FILES, 2000))
    }

    fn measure(&self, place: &Place) -> anyhow::Result<Measured> {
        let files = place.size.count(MOUNT_FILES, 2000);
        anyhow::ensure!(
            place.others.len() + 1 == self.mounts,
            "the target has {} mounts, {} are wanted",
            place.others.len() + 1,
            self.mounts
        );
        caches::drop_names(&place.host)?;
        for other in &place.others {
            place
                .command("ls")
                .arg("-l")
                .arg(other)
                .run()
                .with_context(|| format!("cannot use the mount {}", other.display()))?;
        }
        let mut measured = walk(place, files, LONGEST)?;
        if let Some(bytes) = resident(&place.servers) {
            let each = bytes as f64 / self.mounts as f64;
            measured.extra.extend([
                ("server_rss_bytes".to_owned(), bytes as f64),
                ("server_rss_per_mount_bytes".to_owned(), each),
            ]);
        }
        Ok(measured)
    }
}
