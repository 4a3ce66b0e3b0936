//! Test suites of others: pjdfstest (POSIX) and fsx (data), run on the mount and natively.
//!
//! They are installed from the crate registry when they are missing. What they give natively is what the mount must
//! give; the table of expected failures is pinned, and one that passes is a failure.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use support::backing::{self, Kind};
use support::mount::Mount;
use support::runner::{Skip, Suite};
use support::server::{Peer, peer};
use support::tool;

const PJDFSTEST: (&str, &str) = ("pjdfstest", "0.2.2");
const FSX: (&str, &str) = ("fsx", "0.3.2");
/// Test cases of this version of pjdfstest.
const CASES: usize = 398;
/// Test cases that are skipped natively, and why.
fn expected_skip(kind: Kind, name: &str) -> bool {
    // They remount the file system read-only, which natively would be that of the machine.
    let remounts = name.contains("::erofs_");
    // xfs allows more links than can be made in reasonable time.
    let many_links = kind == Kind::Xfs && name == "link::link_count_max";
    remounts || many_links
}
/// Where the mount gives something else than the same file system natively: test case, type, outcome, reason. One that
/// gives the native outcome after all is a failure, so that this table stays true.
const DIFFERENT: [(&str, Kind, &str, &str); 1] = [(
    "link::link_count_max",
    Kind::Ext4,
    "skipped",
    "pathconf(3) derives the largest number of links from the type of the file system and does not know FUSE",
)];

/// Long enough to build a suite on a slow machine.
const LIMIT: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    let mut suite = Suite::new("conformance");
    for kind in [Kind::Ext4, Kind::Xfs] {
        suite.long_test(format!("pjdfstest_{kind}"), LIMIT, move || {
            pjdfstest(kind, &[])
        });
    }
    suite.long_test("pjdfstest_strict", LIMIT, || {
        pjdfstest(Kind::Ext4, &["cache=strict"])
    });
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Tmpfs] {
        suite.long_test(format!("fsx_{kind}"), LIMIT, move || {
            fsx(kind, &PLAIN, &[1, 2, 3], false)
        });
        suite.long_test(format!("fsx_all_operations_{kind}"), LIMIT, move || {
            fsx(kind, &ALL, &[4, 5], false)
        });
    }
    suite.long_test("fsx_while_the_host_writes", LIMIT, || {
        fsx(Kind::Ext4, &ALL, &[6, 7], true)
    });
    suite.run()
}

/// The installed program; installs it first if need be.
fn install((name, version): (&str, &str)) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("conformance");
    let program = root.join("bin").join(name);
    if program.exists() {
        return Ok(program);
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "install",
            "--locked",
            "--version",
            &format!("={version}"),
            "--root",
        ])
        .arg(&root)
        .arg(name);
    match tool::run(&mut command) {
        Ok(_) => Ok(program),
        Err(error) => {
            let reason = format!("{error:#}");
            Err(Skip::new(format!(
                "{name} cannot be installed: {}",
                reason.lines().last().unwrap_or_default()
            ))
            .into())
        }
    }
}

/// What a test case gave, by its name.
type Outcomes = BTreeMap<String, String>;

fn pjdfstest(kind: Kind, options: &[&str]) -> Result<()> {
    let program = install(PJDFSTEST)?;
    let mount = Mount::new(kind, options)?;
    // The name of a socket has room for 107 bytes, so this must not be deep.
    let native = backing::area(kind)?;
    let expected = run_pjdfstest(&program, &native, None)?;
    backing::remove(&native)?;
    let got = run_pjdfstest(&program, mount.path(), None)?;
    let mut problems = Vec::new();
    for (name, expected) in &expected {
        let got = got.get(name).map_or("missing", String::as_str);
        let different = DIFFERENT
            .iter()
            .find(|known| peer() != Peer::Bind && (known.0, known.1) == (name.as_str(), kind));
        let wanted = different.map_or(expected.as_str(), |known| known.2);
        if got == wanted {
            continue;
        }
        // Some cases race with themselves or with what else the machine does: once more, alone.
        let alone = run_pjdfstest(&program, mount.path(), Some(name))?;
        if alone.get(name).is_some_and(|again| again == wanted) {
            eprintln!("{kind}: {name}: {got} at first, {wanted} when it ran again alone");
        } else {
            problems.push(format!(
                "{name}: {got} instead of {wanted}, natively {expected}"
            ));
        }
    }
    problems.extend(
        expected
            .iter()
            .filter(|(name, outcome)| {
                outcome.as_str()
                    != if expected_skip(kind, name) {
                        "skipped"
                    } else {
                        "ok"
                    }
            })
            .map(|(name, outcome)| format!("natively {name}: {outcome}")),
    );
    if expected.len() != CASES {
        problems.push(format!("{} cases instead of {CASES}", expected.len()));
    }
    if problems.is_empty() {
        mount.close()
    } else {
        bail!("{}", problems.join("\n"))
    }
}

/// Runs all cases, or the one that is named.
fn run_pjdfstest(program: &Path, root: &Path, case: Option<&str>) -> Result<Outcomes> {
    let directory = padded(root);
    backing::make_directory(&directory)?;
    let other = backing::area(Kind::Tmpfs)?;
    let configuration = other.join("pjdfstest.toml");
    fs::write(&configuration, configuration_with(&unprivileged()?))?;
    let output = Command::new(program)
        .arg("-c")
        .arg(&configuration)
        .arg("-s")
        .arg(&other)
        .arg("-p")
        .arg(&directory)
        .args(case)
        // A panic is how a case fails; where it did is not of interest.
        .env("RUST_BACKTRACE", "0")
        .output()?;
    backing::remove(&directory)?;
    backing::remove(&other)?;
    let outcomes = outcomes(&output);
    ensure!(
        !outcomes.is_empty(),
        "pjdfstest did nothing: {}",
        tool::printed(&output)
    );
    Ok(outcomes)
}

/// Cases about the longest path crash in this version when the length of the directory is 9 modulo 127.
fn padded(root: &Path) -> PathBuf {
    let name = root.join("s");
    if name.as_os_str().len() % 127 == 9 {
        root.join("s-")
    } else {
        name
    }
}

fn outcomes(output: &Output) -> Outcomes {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter(|line| line.contains("::") && !line.starts_with(char::is_whitespace))
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(name, outcome)| (name.to_owned(), outcome.trim().to_owned()))
        .collect()
}

/// Two ordinary users of this machine, each with the group of its name.
fn unprivileged() -> Result<[&'static str; 2]> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let group = fs::read_to_string("/etc/group")?;
    let known = |name: &&str| {
        [&passwd, &group]
            .iter()
            .all(|file| file.lines().any(|l| l.starts_with(&format!("{name}:"))))
    };
    let mut found = ["daemon", "bin", "games", "mail", "nobody"]
        .into_iter()
        .filter(known);
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => Err(Skip::new("no two ordinary users with groups of the same name").into()),
    }
}

fn configuration_with([first, second]: &[&str; 2]) -> String {
    format!(
        "[features]\nposix_fallocate = {{}}\nrename_ctime = {{}}\nutime_now = {{}}\nutimensat = {{}}\n\
         [settings]\nnaptime = 0.02\nallow_remount = false\nexpected_failures = []\n\
         [dummy_auth]\nentries = [[\"{first}\", \"{first}\"], [\"{second}\", \"{second}\"]]\n"
    )
}

/// Relative frequencies of operations.
type Weights = [(&'static str, u32)];

const PLAIN: [(&str, u32); 5] = [
    ("close_open", 1),
    ("invalidate", 1),
    ("truncate", 10),
    ("fsync", 1),
    ("fdatasync", 1),
];
const ALL: [(&str, u32); 10] = [
    ("close_open", 2),
    ("invalidate", 2),
    ("truncate", 5),
    ("fsync", 1),
    ("fdatasync", 1),
    ("posix_fallocate", 5),
    ("punch_hole", 5),
    ("sendfile", 5),
    ("posix_fadvise", 3),
    ("copy_file_range", 5),
];

fn fsx(kind: Kind, weights: &'static Weights, seeds: &[u64], host_writes: bool) -> Result<()> {
    let program = install(FSX)?;
    let mount = Mount::new(kind, &[])?;
    let configuration = mount.reference().join("fsx.toml");
    let lines: Vec<String> = weights
        .iter()
        .map(|(name, weight)| format!("{name} = {weight}\n"))
        .collect();
    fs::write(&configuration, format!("[weights]\n{}", lines.concat()))?;
    let stop = AtomicBool::new(false);
    let host = mount.host("written-by-host");
    let result = thread::scope(|scope| {
        let writer = host_writes.then(|| scope.spawn(|| write_on_host(&host, &stop)));
        let result = seeds.iter().try_for_each(|seed| {
            let output = Command::new(&program)
                .arg("-f")
                .arg(&configuration)
                .args(["-N", "20000", "-S", &seed.to_string(), "-P"])
                .arg(mount.reference())
                .arg(mount.at(format!("fsx-{seed}")))
                .output()
                .context("cannot run fsx")?;
            let printed = tool::printed(&output);
            let tail: Vec<&str> = printed.lines().rev().take(15).collect();
            ensure!(
                output.status.success() && printed.contains("A-OK"),
                "seed {seed}: {}, last line first:\n{}",
                output.status,
                tail.join("\n")
            );
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        if let Some(writer) = writer {
            writer.join().expect("the writer does not panic")?;
        }
        result
    });
    result?;
    mount.close()
}

/// Another process of the host: writes other files, replaces and removes them.
fn write_on_host(directory: &Path, stop: &AtomicBool) -> Result<()> {
    fs::create_dir(directory)?;
    let mut round = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let path = directory.join(format!("file-{}", round % 20));
        fs::write(&path, vec![round as u8; 1 + round * 37 % 100_000])?;
        if round.is_multiple_of(7) {
            fs::rename(&path, directory.join("renamed"))?;
        }
        round += 1;
    }
    ensure!(round > 0, "the host wrote nothing");
    Ok(())
}
