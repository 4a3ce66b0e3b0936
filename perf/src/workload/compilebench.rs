//! The three rows of compilebench, which imitates what builds of the kernel do to a file system.
//!
//! compilebench itself is a Python program that few have; this repeats its access pattern with `tar` and `cat`: trees are
//! created, read, and written to as a compiler does, an object beside each source, without a compiler's CPU time.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::tree::{Tree, files, same, tarball};
use super::{Workload, initial, source};
use crate::job::Place;
use crate::result::Cache;

/// Trees that are worked on one after the other.
const TREES: [&str; 3] = ["a", "b", "c"];

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    let create = Tree {
        name: "compilebench-create",
        about: "create three trees",
        cache: Cache::Fresh,
        quick: false,
        session: false,
        cntr_2018: Some(("compilebench create", 7.3)),
        tools: &["tar", "sh", "find", "cat"],
        seconds: 3.0,
        prepare: |place| {
            tarball(place, "tree.tar", "-cf")?;
            for tree in TREES {
                initial::empty(&place.dir.join("out").join(tree))?;
            }
            initial::settle(&place.dir)
        },
        command: |place| each(place, "tar -xf tree.tar -C out/$t"),
        check: |place, _| {
            let found = source::count(&place.host.join("out"))?;
            same(found, TREES.len() as u64 * files(&place.size))
        },
    };
    let read = Tree {
        name: "compilebench-read",
        about: "read all files of three trees, again",
        cache: Cache::Warm,
        cntr_2018: Some(("compilebench read tree", 13.3)),
        seconds: 0.3,
        prepare: trees,
        // Bytes are counted: nothing may be left out.
        command: |place| each(place, "find out/$t -type f -exec cat {} + | wc -c"),
        check: |place, finished| {
            let expected = bytes(&place.host.join("out"))?;
            let found = finished
                .stdout
                .lines()
                .map(|line| line.trim().parse::<u64>());
            same(found.sum::<Result<u64, _>>()?, expected)
        },
        ..create
    };
    let compile = Tree {
        name: "compilebench-compile",
        about: "read three trees, write an object beside each source",
        cache: Cache::Fresh,
        cntr_2018: Some(("compilebench compile", 2.3)),
        seconds: 2.0,
        prepare: |place| {
            trees(place)?;
            objects(place)?;
            for tree in TREES {
                without_objects(&place.dir.join("out").join(tree))?;
            }
            initial::settle(&place.dir)
        },
        command: |place| {
            each(
                place,
                "find out/$t -type f -exec cat {} + > /dev/null && tar -xf objects.tar -C out/$t",
            )
        },
        check: |place, _| {
            let sources = files(&place.size);
            let found = source::count(&place.host.join("out"))?;
            same(found, TREES.len() as u64 * (sources + sources.div_ceil(4)))
        },
        ..create
    };
    [create, read, compile]
        .into_iter()
        .map(|tree| Box::new(tree) as Box<dyn Workload>)
        .collect()
}

/// Runs `script` for each tree `$t`.
fn each(place: &Place, script: &str) -> crate::job::Command {
    let script = format!("set -e; for t in {}; do {script}; done", TREES.join(" "));
    place.command("sh").arg("-c").arg(script)
}

/// The trees, made once.
fn trees(place: &Place) -> Result<()> {
    initial::once(&place.dir, "trees", &files(&place.size).to_string(), || {
        let out = place.dir.join("out");
        initial::empty(&out)?;
        for tree in TREES {
            source::tree(&out.join(tree), files(&place.size))?;
        }
        initial::settle(&place.dir)
    })?;
    Ok(())
}

/// A tar file with an object for each C source, made once. Objects are about as large as the sources.
fn objects(place: &Place) -> Result<()> {
    let files = files(&place.size);
    initial::once(&place.dir, "objects", &files.to_string(), || {
        let scratch = place.dir.join("scratch");
        initial::empty(&scratch)?;
        source::tree(&scratch, files)?;
        for path in source::below(&scratch)? {
            if path.extension().is_some_and(|ending| ending == "c") {
                let object = path.with_extension("o");
                fs::rename(&path, &object)
                    .with_context(|| format!("cannot rename {}", path.display()))?;
            } else {
                initial::remove(&path)?;
            }
        }
        let tar = place.command("tar");
        tar.args(["-cf", "objects.tar", "-C", "scratch", "."])
            .run()?;
        initial::remove(&scratch)
    })?;
    Ok(())
}

fn without_objects(root: &Path) -> Result<()> {
    for path in source::below(root)? {
        if path.as_os_str().as_bytes().ends_with(b".o") {
            initial::remove(&path)?;
        }
    }
    Ok(())
}

/// Bytes of all files below `root`.
fn bytes(root: &Path) -> Result<u64> {
    let mut bytes = 0;
    for path in source::below(root)? {
        bytes += path.metadata()?.len();
    }
    Ok(bytes)
}
