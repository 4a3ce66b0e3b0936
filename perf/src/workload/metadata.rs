//! Single metadata operations, as many a second as there can be.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::{Measured, Workload, generator};
use crate::job::{Place, Size};
use crate::load::{Effect, Operation, caches, make_trees, tree};
use crate::result::{Axis, Better, Cache, TargetKind, WorkloadInfo};

/// Bytes of a small file.
const SMALL: usize = 4096;

/// Names that all clients together look up at full size. Servers that hold a descriptor for each have to stay below the
/// usual limits.
const LOOKUPS: u64 = 16_000;

/// Names that all clients together remove at most, at full size, and at any size.
const REMOVALS: u64 = 20_000;
const FEWEST_REMOVALS: u64 = 2_000;

/// Names per directory, where there are many.
pub(super) const PER_DIRECTORY: u64 = 1000;

/// The file that says what was prepared.
const STAMP: &str = ".prepared";

/// Part of the measured time that is spent before it, untimed.
const WARM_UP: f64 = 0.2;

/// One operation with a number of clients.
pub(super) struct Metadata {
    operation: Operation,
    clients: u32,
    about: &'static str,
    curve: Option<&'static str>,
    quick: bool,
}

/// The workloads of this group.
pub fn all() -> Vec<Box<dyn Workload>> {
    // Operation, whether it is measured with two clients, too, what it is.
    let operations = [
        (
            Operation::Stat,
            true,
            "attributes of 64 names that are cached",
        ),
        (
            Operation::Lookup,
            true,
            "attributes of names that the kernel has forgotten",
        ),
        (Operation::Fstat, false, "attributes of open files"),
        (Operation::Create, true, "make an empty file, close it"),
        (Operation::Open, true, "open a file, close it"),
        (
            Operation::ReadSmall,
            true,
            "open a file, read its 4 KiB, close it",
        ),
        (Operation::Chmod, false, "change permissions"),
        (
            Operation::Setxattr,
            false,
            "set an attribute of an open file",
        ),
        (
            Operation::Getxattr,
            false,
            "read an attribute of an open file",
        ),
        (Operation::Rename, true, "rename in one directory"),
        (Operation::Unlink, true, "remove empty files"),
        (Operation::Mkdir, false, "make directories"),
        (Operation::Rmdir, false, "remove empty directories"),
        (Operation::Symlink, false, "make symbolic links"),
        (Operation::Readlink, false, "read symbolic links"),
        (Operation::Link, false, "make hard links"),
        (
            Operation::Readdir,
            true,
            "read a directory of 1000 and the attributes of each entry",
        ),
        (Operation::Statfs, false, "usage of the file system"),
    ];
    let quick = [
        (Operation::Stat, 1),
        (Operation::Lookup, 1),
        (Operation::Create, 1),
        (Operation::Create, 2),
        (Operation::ReadSmall, 1),
        (Operation::Readdir, 1),
    ];
    let mut all: Vec<Box<dyn Workload>> = Vec::new();
    for (operation, two, about) in operations {
        for clients in if two { 1..=2 } else { 1..=1 } {
            all.push(Box::new(Metadata {
                operation,
                clients,
                about,
                curve: None,
                quick: quick.contains(&(operation, clients)),
            }));
        }
    }
    all
}

impl Metadata {
    /// A point of the curve `curve`.
    pub(super) fn point(
        operation: Operation,
        clients: u32,
        about: &'static str,
        curve: &'static str,
    ) -> Metadata {
        Metadata {
            operation,
            clients,
            about,
            curve: Some(curve),
            quick: false,
        }
    }

    /// Names of each client.
    fn files(&self, size: &Size) -> u64 {
        match self.operation {
            Operation::Lookup => size.count(LOOKUPS, 6400) / u64::from(self.clients),
            operation => operation.default_files(),
        }
    }

    /// Whether its files are made beside the target, before it is brought up. The others are made by the load generator,
    /// because they are used up or because they change.
    fn prepared(&self) -> bool {
        match self.operation.effect() {
            Effect::Keeps => self.operation != Operation::Rename,
            Effect::Learns => true,
            Effect::Makes | Effect::Removes => false,
        }
    }

    fn per_directory(&self) -> u64 {
        match self.operation {
            Operation::Lookup => PER_DIRECTORY,
            _ => 0,
        }
    }
}

impl Workload for Metadata {
    fn info(&self) -> WorkloadInfo {
        let suffix = match (self.curve, self.clients) {
            (None, 1) => String::new(),
            (_, clients) => format!("-{clients}c"),
        };
        let unit = match self.operation {
            Operation::Readdir => "entries/s",
            _ => "ops/s",
        };
        WorkloadInfo {
            name: match self.curve {
                None => format!("meta-{}{suffix}", self.operation),
                Some(_) => format!("scale-{}{suffix}", self.operation),
            },
            group: match self.curve {
                None => "metadata".to_owned(),
                Some(_) => "scaling".to_owned(),
            },
            about: self.about.to_owned(),
            unit: unit.to_owned(),
            better: Better::Higher,
            cache: match self.operation.effect() {
                Effect::Keeps => Cache::Warm,
                Effect::Makes | Effect::Removes | Effect::Learns => Cache::Fresh,
            },
            durable: false,
            baseline: "native".to_owned(),
            clients: self.clients,
            axis: self.curve.map(|curve| Axis {
                curve: curve.to_owned(),
                name: "clients".to_owned(),
                value: f64::from(self.clients),
            }),
            cntr_2018: None,
        }
    }

    fn quick(&self) -> bool {
        self.quick
    }

    fn applies(&self, kind: TargetKind) -> bool {
        let in_session = matches!(
            self.operation,
            Operation::ReadSmall | Operation::Create | Operation::Lookup
        );
        kind != TargetKind::Session || (in_session && self.curve.is_none())
    }

    fn missing(&self) -> Option<String> {
        match self.operation {
            Operation::Lookup => caches::missing(),
            _ => None,
        }
    }

    fn expected(&self, size: &Size) -> Duration {
        let work = match self.operation.effect() {
            Effect::Keeps => size.seconds * (1.0 + WARM_UP),
            // As long again to make what is removed, or to remove what was made.
            Effect::Makes | Effect::Removes => size.seconds * (1.0 + WARM_UP) * 2.5,
            Effect::Learns => size.seconds.min(2.0) + 2.0,
        };
        Duration::from_secs_f64(work + 0.5)
    }

    fn prepare(&self, native: &Place) -> anyhow::Result<()> {
        if !self.prepared() {
            return forget(&native.host);
        }
        let (clients, files) = (self.clients, self.files(&native.size));
        let wanted = format!("{} {clients} {files}", self.operation);
        prepare_once(&native.host, &wanted, || {
            let per_directory = self.per_directory();
            make_trees(
                self.operation,
                &native.host,
                clients,
                files,
                per_directory,
                SMALL,
            )?;
            Ok(())
        })
    }

    fn measure(&self, place: &Place) -> anyhow::Result<Measured> {
        let seconds = place.size.seconds;
        let mut arguments = vec![
            self.operation.name(),
            format!("--clients={}", self.clients),
            format!("--files={}", self.files(&place.size).max(1)),
            format!("--per-directory={}", self.per_directory()),
            format!("--seconds={seconds}"),
        ];
        if self.operation == Operation::Lookup {
            // In a container the load generator may not do it.
            caches::drop_names(&place.host)?;
            arguments.push("--no-drop".to_owned());
        } else if self.operation.effect() == Effect::Removes {
            // To make names takes ext4 much longer than to remove them.
            let most = place.size.count(REMOVALS, FEWEST_REMOVALS);
            arguments.push(format!("--operations={most}"));
        } else {
            arguments.push(format!("--warm-up={}", seconds * WARM_UP));
        }
        arguments.push(
            if self.prepared() {
                "--existing"
            } else {
                "--keep"
            }
            .to_owned(),
        );
        Ok(generator::measured(generator::load(place, &arguments)?))
    }

    /// Nothing: the load generator warms up itself.
    fn warm(&self, _place: &Place) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Makes the content of `dir` unless it is what was `wanted` the last time.
pub(super) fn prepare_once(
    dir: &Path,
    wanted: &str,
    make: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stamp = dir.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    forget(dir)?;
    make()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Removes what an earlier measurement has left in `dir`.
pub(super) fn forget(dir: &Path) -> anyhow::Result<()> {
    let failed = || {
        format!(
            "cannot remove what an earlier measurement left in {}",
            dir.display()
        )
    };
    match fs::remove_file(dir.join(STAMP)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(failed);
        }
        _ => {}
    }
    for client in 0.. {
        match fs::remove_dir_all(tree::client_dir(dir, client)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error).with_context(failed),
        }
    }
    Ok(())
}
