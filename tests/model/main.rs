//! Model test: random operations are made on the mount and on a plain directory of the same file system, and
//! everything a program can see must be the same: results, error numbers, attributes, which times changed, extended
//! attributes, listings, contents. Besides, the mount must show exactly what the host shows of the same file.
//!
//! Environment: `CNTR_MODEL_OPS` (operations of the longest test, default 20,000), `CNTR_MODEL_SEED` (first seed,
//! default 1; a failure prints the seed of its sequence). See `support` for more.

mod generate;
mod observe;
mod op;
mod shrink;
mod side;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod tree;
mod visible;

use std::collections::HashSet;
use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use op::{Op, Step};
use rustix::io::Errno;
use side::{Effect, Side};
use support::backing::{self, Kind};
use support::mount::Mount;
use support::runner::Suite;
use support::server::{Peer, peer};
use support::user;

/// Steps of one sequence: short enough to shrink quickly.
const SEQUENCE: usize = 1000;

fn main() -> ExitCode {
    let operations = number("CNTR_MODEL_OPS", 20_000) as usize;
    let limit = Duration::from_secs(120 + operations as u64 / 100);
    let mut suite = Suite::new("model");
    for kind in Kind::ALL {
        let operations = if kind == Kind::Ext4 {
            operations
        } else {
            operations / 5
        };
        suite.long_test(format!("random_operations_{kind}"), limit, move || {
            random_operations(kind, &[], operations)
        });
    }
    suite.long_test("random_operations_strict", limit, move || {
        random_operations(Kind::Ext4, &["cache=strict"], operations / 5)
    });
    suite.long_test("random_operations_ttl", limit, move || {
        random_operations(Kind::Ext4, &["cache=1"], operations / 5)
    });
    suite.long_test("threads_ext4", limit, move || {
        threads::run(Kind::Ext4, operations / 4)
    });
    suite.long_test("threads_tmpfs", limit, move || {
        threads::run(Kind::Tmpfs, operations / 4)
    });
    suite.test("host_changes_are_seen_in_time", || {
        visible::run(&[], Duration::from_secs(2))
    });
    suite.test("host_changes_are_seen_in_time_with_cache_1", || {
        visible::run(&["cache=1"], Duration::from_secs(2))
    });
    suite.test("host_changes_are_seen_at_once_with_cache_strict", || {
        visible::run(&["cache=strict"], Duration::ZERO)
    });
    suite.run()
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

fn random_operations(kind: Kind, options: &[&str], operations: usize) -> Result<()> {
    let mount = Mount::new(kind, options)?;
    user::separate_thread();
    let first = number("CNTR_MODEL_SEED", 1);
    let (mut reports, mut kinds) = (Vec::new(), HashSet::new());
    for seed in first..first + operations.div_ceil(SEQUENCE) as u64 {
        let steps = generate::sequence(kind, seed, SEQUENCE);
        if let Some(deviation) = replay(&mount, &steps)? {
            // One example of each kind is enough.
            if !kinds.insert(deviation.kind.clone()) {
                continue;
            }
            reports.push(explain(&mount, seed, steps, deviation));
            if reports.len() == 8 {
                break;
            }
        }
    }
    // The working directory would keep the mount busy.
    env::set_current_dir("/")?;
    if reports.is_empty() {
        mount.close()
    } else {
        bail!("{}", reports.join("\n"))
    }
}

fn explain(mount: &Mount, seed: u64, mut steps: Vec<Step>, deviation: Deviation) -> String {
    steps.truncate(deviation.index + 1);
    let kind = deviation.kind.clone();
    let steps = shrink::minimal(
        steps,
        Duration::from_secs(15),
        |fewer| matches!(replay(mount, fewer), Ok(Some(other)) if other.kind == kind),
    );
    let deviation = match replay(mount, &steps) {
        Ok(Some(again)) => again,
        _ => deviation,
    };
    let mut text = format!(
        "CNTR_MODEL_SEED={seed}, reduced to {} steps:\n",
        steps.len()
    );
    for step in &steps {
        text += &format!("  as {}: {:?}\n", step.user, step.op);
    }
    text + &deviation.to_string()
}

/// The two trees behave differently.
pub struct Deviation {
    /// The step after which it was seen.
    index: usize,
    /// The operation and what differs: while shrinking, another difference does not count.
    kind: String,
    text: String,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)
    }
}

/// A pair of empty trees.
pub fn pair(mount: &Mount) -> Result<(Side, Side)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // One level more than needed: a symbolic link may point to the parent.
    let run = Path::new(&format!("run-{number}")).join("top");
    let (host, plain) = (mount.host(&run), mount.reference().join(&run));
    for path in [&host, &plain] {
        for directory in [path.parent().expect("it has two levels"), path.as_path()] {
            backing::make_directory(directory)?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o777))?;
        }
    }
    let fine = observe::fine_grained(&plain)?;
    let mounted = Side::new(&mount.at(&run), Some(&host), fine)
        .context("the new directory is not in the mount")?;
    Ok((mounted, Side::new(&plain, None, fine)?))
}

/// Makes the steps on a new pair of trees and gives the first deviation.
fn replay(mount: &Mount, steps: &[Step]) -> Result<Option<Deviation>> {
    let (mut mounted, mut plain) = pair(mount)?;
    let deviation = lockstep(&mut mounted, &mut plain, steps);
    env::set_current_dir("/")?;
    tree::remove(&mounted);
    tree::remove(&plain);
    Ok(deviation)
}

/// Makes the steps on two trees side by side.
pub fn lockstep(mounted: &mut Side, plain: &mut Side, steps: &[Step]) -> Option<Deviation> {
    for (index, step) in steps.iter().enumerate() {
        let mut expected = plain.apply(step);
        let got = mounted.apply(step);
        for ((_, expected), (_, got)) in expected.seen.iter_mut().zip(&got.seen) {
            if let (Ok(expected), Ok(got)) = (expected, got) {
                expected.allow_older_atime(got);
            }
        }
        if got != expected && !excused(step, &expected, &got) {
            return Some(difference(index, step, &expected, &got));
        }
    }
    let problems = tree::compare(mounted, plain);
    (!problems.is_empty()).then(|| Deviation {
        index: steps.len().saturating_sub(1),
        kind: "final comparison".to_owned(),
        text: problems.join("\n  "),
    })
}

/// Both refuse and nothing else happened, but the kernel gives another reason on a FUSE mount because it checks
/// something of its own before it asks the server.
fn excused(step: &Step, expected: &Effect, got: &Effect) -> bool {
    let same_otherwise = expected.seen == got.seen && expected.touched == got.touched;
    let (native, mounted) = match (expected.result.as_ref(), got.result.as_ref()) {
        (Err(native), Err(mounted)) => (native, mounted),
        (Err(native), Ok(_)) => {
            // It allows what it does not know to be forbidden for an append-only or immutable file: to ask for the permission, and to
            // remove the default ACL of what is no directory, which is nothing to do.
            let harmless = match &step.op {
                Op::Access { .. } => true,
                Op::RemoveXattr { name, .. } => *name == "system.posix_acl_default",
                _ => false,
            };
            return harmless && *native == Errno::PERM && same_otherwise && peer() != Peer::Bind;
        }
        _ => return false,
    };
    let known = match &step.op {
        // It knows the type and the mode, but not that a file is append-only or immutable, which only the server sees.
        _ if (*native, *mounted) == (Errno::PERM, Errno::ACCESS) => true,
        Op::Unlink { .. }
        | Op::Rmdir { .. }
        | Op::Rename { .. }
        | Op::Link { .. }
        | Op::Mkdir { .. }
        | Op::Mknod { .. }
        | Op::Symlink { .. }
        | Op::Open { .. } => {
            let checked_first = [Errno::ISDIR, Errno::NOTDIR, Errno::EXIST, Errno::NOTEMPTY];
            *native == Errno::PERM && checked_first.contains(mounted)
        }
        // btrfs has a reason of its own not to read a directory.
        Op::Read { .. } | Op::Pread { .. } => *native == Errno::INVAL && *mounted == Errno::ISDIR,
        // Without a name space it knows, it checks the permission to write first.
        Op::SetXattr { name, .. } | Op::RemoveXattr { name, .. } => {
            *name == "unknown.x" && (*native, *mounted) == (Errno::OPNOTSUPP, Errno::ACCESS)
        }
        _ => false,
    };
    same_otherwise && known && peer() != Peer::Bind
}

fn difference(index: usize, step: &Step, expected: &Effect, got: &Effect) -> Deviation {
    let mut what = Vec::new();
    let mut text = format!("{:?} as {}\n", step.op, step.user);
    if expected.result != got.result {
        what.push("result");
        text += &format!(
            "  result: expected {:?}, got {:?}\n",
            expected.result, got.result
        );
    }
    for ((label, expected), (_, got)) in expected.seen.iter().zip(&got.seen).filter(|(e, g)| e != g)
    {
        what.push("attributes");
        text += &format!("  {label}: expected {expected:?}\n    got {got:?}\n");
    }
    for ((label, expected), (_, got)) in expected
        .touched
        .iter()
        .zip(&got.touched)
        .filter(|(e, g)| e != g)
    {
        what.push("times");
        text += &format!("  {label}: (mtime, ctime) changed: expected {expected:?}, got {got:?}\n");
    }
    what.dedup();
    Deviation {
        index,
        kind: format!("{} {}", step.op.kind(), what.join("+")),
        text,
    }
}
