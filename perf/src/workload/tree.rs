//! Work on a tree of source files: about 6,000 files, 50 MB, up to five directories deep.
//!
//! What a tool has done is checked beside the target, so a target that only pretends fails.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Measured, Workload, initial, source, timed};
use crate::job::{Command, Finished, Place, Size, tool};
use crate::result::{Better, Cache, TargetKind, WorkloadInfo};

/// One tool on one tree.
#[derive(Clone, Copy)]
pub(super) struct Tree {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) cache: Cache,
    pub(super) quick: bool,
    pub(super) session: bool,
    pub(super) cntr_2018: Option<(&'static str, f64)>,
    pub(super) tools: &'static [&'static str],
    /// Seconds that the work takes natively in the full profile.
    pub(super) seconds: f64,
    pub(super) prepare: fn(&Place) -> Result<()>,
    pub(super) command: fn(&Place) -> Command,
    pub(super) check: fn(&Place, &Finished) -> Result<()>,
}

/// All workloads of this file.
pub fn all() -> Vec<Box<dyn Workload>> {
    let reading = Tree {
        name: "",
        about: "",
        cache: Cache::Warm,
        quick: false,
        session: false,
        cntr_2018: None,
        tools: &[],
        seconds: 0.1,
        prepare: tree,
        command: |place| place.command("true"),
        check: |_, _| Ok(()),
    };
    let writing = |name, about, seconds| Tree {
        name,
        about,
        seconds,
        cache: Cache::Fresh,
        ..reading
    };
    let walk = |name, about, cache| Tree {
        name,
        about,
        cache,
        tools: &["find"],
        command: |place| plain(place, "find").args(["tree", "-type", "f", "-printf", "%s\\n"]),
        check: |place, finished| same(finished.stdout.lines().count(), files(&place.size)),
        ..reading
    };
    let trees = [
        Tree {
            quick: true,
            session: true,
            tools: &["tar"],
            prepare: |place| tarball(place, "tree.tar", "-cf"),
            command: |place| place.command("tar").args(["-xf", "tree.tar", "-C", "out"]),
            check: |place, _| same(source::count(&place.host.join("out"))?, files(&place.size)),
            ..writing("tree-untar", "tar -x of a tree", 1.5)
        },
        Tree {
            cntr_2018: Some(("unpack tarball", 1.2)),
            tools: &["tar", "gzip"],
            prepare: |place| tarball(place, "tree.tar.gz", "-czf"),
            command: |place| {
                place
                    .command("tar")
                    .args(["-xzf", "tree.tar.gz", "-C", "out"])
            },
            check: |place, _| same(source::count(&place.host.join("out"))?, files(&place.size)),
            ..writing("tree-unpack", "tar -xz of a compressed tree", 2.0)
        },
        walk(
            "tree-walk-cold",
            "find with sizes, caches dropped",
            Cache::Cold,
        ),
        Tree {
            quick: true,
            session: true,
            ..walk("tree-walk-warm", "find with sizes, again", Cache::Warm)
        },
        Tree {
            name: "tree-ls",
            about: "ls -lR",
            tools: &["ls"],
            command: |place| plain(place, "ls").args(["-lR", "tree"]),
            check: |place, finished| {
                let files_shown = finished.stdout.lines().filter(|line| line.starts_with('-'));
                same(files_shown.count(), files(&place.size))
            },
            ..reading
        },
        Tree {
            name: "tree-grep",
            about: "grep -r of a fixed word",
            tools: &["grep"],
            command: |place| plain(place, "grep").args(["-rF", source::NEEDLE, "tree"]),
            check: |place, finished| {
                same(
                    finished.stdout.lines().count(),
                    files(&place.size).div_ceil(100),
                )
            },
            ..reading
        },
        Tree {
            name: "git-status",
            about: "git status of a clean tree",
            quick: true,
            tools: &["git", "sh"],
            prepare: repository,
            command: |place| git(place, "status --porcelain"),
            check: |_, finished| same(finished.stdout.lines().count(), 0),
            ..reading
        },
        Tree {
            tools: &["git", "sh"],
            prepare: |place| {
                tree(place)?;
                initial::remove(&place.dir.join("tree/.git"))?;
                initial::settle(&place.dir)
            },
            command: |place| git(place, COMMIT),
            check: |place, _| {
                let head = place.host.join("tree/.git/refs/heads/main");
                fs::metadata(head).context("there is no commit")?;
                Ok(())
            },
            ..writing(
                "git-commit",
                "git init, add and commit of a whole tree",
                3.0,
            )
        },
        Tree {
            session: true,
            tools: &["gcc", "make", "as", "ld"],
            prepare: |place| {
                let units = units(&place.size);
                initial::once(&place.dir, "project", &units.to_string(), || {
                    source::project(&place.dir, units)
                })?;
                initial::empty(&place.dir.join("build"))?;
                initial::settle(&place.dir)
            },
            // Further temporary files of the compiler lie on the target too: a session may have no other place.
            command: |place| {
                place
                    .command("make")
                    .args(["-s", "-j2"])
                    .env("TMPDIR", place.dir.join("build"))
            },
            check: |place, _| {
                let program = place.host.join("build/program");
                fs::metadata(program).context("there is no program")?;
                Ok(())
            },
            ..writing("compile", "make -j2 of a C program of 40 files", 3.0)
        },
        Tree {
            tools: &["cp"],
            prepare: |place| {
                tree(place)?;
                initial::remove(&place.dir.join("copy"))?;
                initial::settle(&place.dir)
            },
            command: |place| place.command("cp").args(["-r", "tree", "copy"]),
            check: |place, _| same(source::count(&place.host.join("copy"))?, files(&place.size)),
            ..writing("tree-copy", "cp -r", 2.0)
        },
        Tree {
            tools: &["rm"],
            prepare: |place| {
                let root = place.dir.join("tree");
                initial::empty(&root)?;
                source::tree(&root, files(&place.size))?;
                initial::settle(&place.dir)
            },
            command: |place| place.command("rm").args(["-rf", "tree"]),
            check: |place, _| {
                ensure!(!place.host.join("tree").exists(), "the tree is still there");
                Ok(())
            },
            ..writing("tree-remove", "rm -rf", 2.0)
        },
    ];
    trees
        .into_iter()
        .map(|tree| Box::new(tree) as Box<dyn Workload>)
        .collect()
}

/// What `git` is to do for a commit of everything; each word `git` becomes the program.
const COMMIT: &str = "init -q -b main . && git add -A && git commit -q -m all";

/// Files of the tree.
pub(super) fn files(size: &Size) -> u64 {
    size.count(6000, 60)
}

fn units(size: &Size) -> u64 {
    size.count(40, 4)
}

/// The tree in `tree`, made once.
fn tree(place: &Place) -> Result<()> {
    let files = files(&place.size);
    let made = initial::once(&place.dir, "tree", &files.to_string(), || {
        let root = place.dir.join("tree");
        initial::empty(&root)?;
        source::tree(&root, files)
    })?;
    if made {
        initial::settle(&place.dir)?;
    }
    Ok(())
}

/// The tree in a tar file, made once, and an empty directory `out`.
pub(super) fn tarball(place: &Place, name: &str, how: &str) -> Result<()> {
    let files = files(&place.size);
    initial::once(&place.dir, name, &files.to_string(), || {
        tree(place)?;
        let command = place.command("tar").args([how, name, "-C", "tree", "."]);
        command.run()?;
        Ok(())
    })?;
    initial::empty(&place.dir.join("out"))?;
    initial::settle(&place.dir)
}

/// The tree as a repository with everything committed, made once.
fn repository(place: &Place) -> Result<()> {
    tree(place)?;
    let files = files(&place.size);
    initial::once(&place.dir, "repository", &files.to_string(), || {
        initial::remove(&place.dir.join("tree/.git"))?;
        git(place, COMMIT).run()?;
        initial::settle(&place.dir)
    })?;
    Ok(())
}

/// A tool whose output does not depend on the user's language.
fn plain(place: &Place, program: &str) -> Command {
    place.command(program).env("LC_ALL", "C")
}

/// git in the tree, with nobody's configuration and nothing in the background.
fn git(place: &Place, what: &str) -> Command {
    let program = tool::find("git").unwrap_or_else(|| "git".into());
    let mut command = plain(place, "sh")
        .directory(place.dir.join("tree"))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "2");
    let settings = [("gc.auto", "0"), ("maintenance.auto", "false")];
    for (number, (key, value)) in settings.into_iter().enumerate() {
        command = command
            .env(format!("GIT_CONFIG_KEY_{number}"), key)
            .env(format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    for person in ["AUTHOR", "COMMITTER"] {
        command = command
            .env(format!("GIT_{person}_NAME"), "perf")
            .env(format!("GIT_{person}_EMAIL"), "perf@localhost");
    }
    let script = format!("git {what}").replace("git ", "\"$0\" ");
    command.arg("-c").arg(script).arg(program)
}

/// Whether as much was found as there is.
pub(super) fn same(found: impl TryInto<u64>, expected: u64) -> Result<()> {
    let found = found.try_into().unwrap_or(u64::MAX);
    ensure!(
        found == expected,
        "{found} found where there should be {expected}"
    );
    Ok(())
}

impl Workload for Tree {
    fn info(&self) -> WorkloadInfo {
        WorkloadInfo {
            name: self.name.into(),
            group: "trees".into(),
            about: self.about.into(),
            unit: "s".into(),
            better: Better::Lower,
            cache: self.cache,
            durable: false,
            baseline: "native".into(),
            clients: 1,
            axis: None,
            cntr_2018: self.cntr_2018.map(|(row, value)| (row.into(), value)),
        }
    }

    fn quick(&self) -> bool {
        self.quick
    }

    fn applies(&self, kind: TargetKind) -> bool {
        self.session || kind != TargetKind::Session
    }

    fn missing(&self) -> Option<String> {
        tool::missing(self.tools)
    }

    fn expected(&self, size: &Size) -> Duration {
        // What is made anew for each round costs about as much again, warming too.
        Duration::from_secs_f64(0.2 + 2.0 * self.seconds * size.scale)
    }

    fn prepare(&self, native: &Place) -> Result<()> {
        (self.prepare)(native)
    }

    fn measure(&self, place: &Place) -> Result<Measured> {
        let (mut measured, finished) = timed::run(place, (self.command)(place))?;
        (self.check)(place, &finished).with_context(|| {
            format!(
                "{} ended with success, but: {}",
                self.name,
                finished.stderr.trim()
            )
        })?;
        if self.name != "compile" {
            measured.operations = Some(files(&place.size) as f64);
        }
        Ok(measured)
    }
}
