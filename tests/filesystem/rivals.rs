//! A process of the host and one that uses the mount change the same ten thousand names at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::coherence::mount_of;
use crate::support::backing::{Kind, unlink};
use crate::support::runner::Suite;

const DIRECTORIES: usize = 50;
const NAMES: usize = 200;
const ROUNDS: u64 = 4;
/// Operations of each side in each round.
const OPERATIONS: usize = 15_000;
/// How long both sides may differ once nothing changes any more.
const LIMIT: Duration = Duration::from_secs(20);

pub fn add(suite: &mut Suite) {
    for kind in [Kind::Ext4, Kind::Tmpfs] {
        suite.long_test(
            format!("both_sides_agree_on_ten_thousand_names_{kind}"),
            Duration::from_secs(300),
            move || rivals(kind),
        );
    }
}

fn path(root: &Path, random: &mut fastrand::Rng) -> PathBuf {
    root.join(format!(
        "d{}/n{}",
        random.usize(0..DIRECTORIES),
        random.usize(0..NAMES)
    ))
}

/// One change; what the other side does may be in its way.
fn step(root: &Path, random: &mut fastrand::Rng) -> std::io::Result<()> {
    let path = path(root, random);
    match random.u8(0..14) {
        0..=2 => fs::write(&path, vec![b'a' + random.u8(0..26); random.usize(0..5000)]),
        3 => File::options()
            .append(true)
            .open(&path)?
            .write_all(b"appended"),
        4 => File::options()
            .write(true)
            .open(&path)?
            .set_len(random.u64(0..3000)),
        5 => fs::set_permissions(
            &path,
            fs::Permissions::from_mode(0o600 | random.u32(0..0o100)),
        ),
        6 | 7 => fs::rename(&path, self::path(root, random)),
        8 | 9 => Ok(unlink(&path)?),
        10 => {
            let _ = unlink(&path);
            symlink(format!("target-{}", random.u32(..)), &path)
        }
        11 => fs::hard_link(&path, self::path(root, random)),
        12 => {
            let _ = fs::read(&path);
            fs::symlink_metadata(&path).map(drop)
        }
        _ => {
            let directory = path.parent().unwrap_or(root);
            fs::read_dir(directory)?.try_for_each(|entry| entry.map(drop))
        }
    }
}

/// What there is at one name: mode with type, links, size, contents or target.
type Seen = (u32, u64, u64, Vec<u8>);

fn look(path: &Path) -> Option<Seen> {
    let stat = fs::symlink_metadata(path).ok()?;
    let contents = if stat.is_symlink() {
        fs::read_link(path)
            .ok()?
            .into_os_string()
            .into_encoded_bytes()
    } else if stat.is_dir() {
        Vec::new()
    } else {
        fs::read(path).ok()?
    };
    let size = if stat.is_dir() { 0 } else { stat.len() };
    Some((stat.mode(), stat.nlink(), size, contents))
}

/// The whole tree, by listings; and what all names lead to that are not listed.
fn tree(root: &Path) -> Result<BTreeMap<String, Option<Seen>>> {
    let mut all = BTreeMap::new();
    for directory in 0..DIRECTORIES {
        let listed: Vec<String> = fs::read_dir(root.join(format!("d{directory}")))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        for name in &listed {
            all.insert(format!("listed d{directory}/{name}"), None);
        }
        for number in 0..NAMES {
            let name = format!("d{directory}/n{number}");
            all.insert(name.clone(), look(&root.join(name)));
        }
    }
    Ok(all)
}

fn rivals(kind: Kind) -> Result<()> {
    let mount = mount_of(kind)?;
    for directory in 0..DIRECTORIES {
        fs::create_dir(mount.host(format!("d{directory}")))?;
    }
    let (host, view) = (mount.source(), mount.path());
    let barrier = Barrier::new(2);
    for round in 0..ROUNDS {
        thread::scope(|scope| {
            for (side, root) in [host, view].into_iter().enumerate() {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(round * 2 + side as u64);
                    barrier.wait();
                    for _ in 0..OPERATIONS {
                        let _ = step(root, &mut random);
                    }
                });
            }
        });
        let start = Instant::now();
        let truth = tree(host)?;
        loop {
            let shown = tree(view)?;
            if shown == truth {
                break;
            }
            let differing: Vec<_> = truth
                .keys()
                .chain(shown.keys())
                .filter(|name| truth.get(*name) != shown.get(*name))
                .take(3)
                .map(|name| (name, summary(&truth, name), summary(&shown, name)))
                .collect();
            ensure!(
                start.elapsed() < LIMIT,
                "round {round}: after {LIMIT:?} the mount does not show what the host has: {differing:?}"
            );
            thread::sleep(Duration::from_millis(20));
        }
        println!(
            "{kind} round {round}: the same after {:?} at most",
            start.elapsed()
        );
    }
    mount.close()
}

fn summary(tree: &BTreeMap<String, Option<Seen>>, name: &str) -> String {
    match tree.get(name) {
        None => "not listed".to_owned(),
        Some(None) => "nothing".to_owned(),
        Some(Some((mode, links, size, contents))) => {
            format!(
                "{mode:o} {links} {size} {:?}",
                String::from_utf8_lossy(&contents[..contents.len().min(20)])
            )
        }
    }
}
