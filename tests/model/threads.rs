//! The model test in eight threads: each in a tree of its own, and all in a shared directory with operations whose
//! outcome does not depend on their order.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use anyhow::{Result, bail, ensure};

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::user;
use crate::{SEQUENCE, generate, lockstep, number, pair, tree};

const THREADS: usize = 8;
const ROUNDS: usize = 60;

pub fn run(kind: Kind, operations: usize) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    fs::create_dir(mount.host("shared"))?;
    fs::set_permissions(mount.host("shared"), fs::Permissions::from_mode(0o777))?;
    let first = number("CNTR_MODEL_SEED", 1);
    let problems = Mutex::new(Vec::new());
    let winners: Vec<AtomicUsize> = (0..ROUNDS).map(|_| AtomicUsize::new(0)).collect();
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for index in 0..THREADS {
            let (mount, problems, winners, barrier) = (&mount, &problems, &winners, &barrier);
            scope.spawn(move || {
                user::separate_thread();
                barrier.wait();
                let result = shared(&mount.at("shared"), index, winners).and_then(|()| {
                    own(
                        kind,
                        mount,
                        first * 1000 + index as u64,
                        operations / THREADS,
                    )
                });
                if let Err(error) = result {
                    problems
                        .lock()
                        .expect("no panic while held")
                        .push(format!("thread {index}: {error:#}"));
                }
            });
        }
    });
    let mut problems = problems.into_inner()?;
    for (round, winners) in winners
        .iter()
        .enumerate()
        .filter(|(_, winners)| winners.load(Ordering::Relaxed) != 1)
    {
        problems.push(format!(
            "{} threads created race-{round} exclusively",
            winners.load(Ordering::Relaxed)
        ));
    }
    if let Err(error) = check_shared(&mount) {
        problems.push(format!("{error:#}"));
    }
    if problems.is_empty() {
        mount.close()
    } else {
        bail!("{}", problems.join("\n"))
    }
}

/// Sequences of the model in a tree of the thread; the last one is compared as a whole while the others go on.
fn own(kind: Kind, mount: &Mount, seed: u64, operations: usize) -> Result<()> {
    for round in 0..operations.div_ceil(SEQUENCE) as u64 {
        let seed = seed + round * 100;
        let (mut mounted, mut plain) = pair(mount)?;
        let deviation = lockstep(
            &mut mounted,
            &mut plain,
            &generate::sequence(kind, seed, SEQUENCE),
        );
        rustix::process::chdir("/")?;
        if let Some(deviation) = deviation {
            bail!("sequence of seed {seed}: {deviation}");
        }
        tree::remove(&mounted);
        tree::remove(&plain);
    }
    Ok(())
}

fn shared(directory: &Path, index: usize, winners: &[AtomicUsize]) -> Result<()> {
    for (round, winners) in winners.iter().enumerate() {
        if OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(directory.join(format!("race-{round}")))
            .is_ok()
        {
            winners.fetch_add(1, Ordering::Relaxed);
        }
        let mut log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(directory.join("log"))?;
        log.write_all(format!("{index} {round}\n").as_bytes())?;
        let mine = directory.join(format!("own-{index}-{round}"));
        fs::write(&mine, mine.as_os_str().as_encoded_bytes())?;
        fs::hard_link(&mine, directory.join(format!("link-{index}-{round}")))?;
        fs::rename(&mine, directory.join(format!("renamed-{index}-{round}")))?;
        // All rename to the same name: it always exists afterwards and nobody fails.
        File::create(directory.join(format!("new-{index}")))?;
        fs::rename(
            directory.join(format!("new-{index}")),
            directory.join("current"),
        )?;
        ensure!(
            directory.join("current").exists(),
            "a name that is only replaced does not exist"
        );
        let _ = fs::create_dir_all(directory.join("deep/er/still"));
        fs::create_dir(directory.join(format!("deep/er/still/{index}-{round}")))?;
    }
    Ok(())
}

fn check_shared(mount: &Mount) -> Result<()> {
    for root in [mount.at("shared"), mount.host("shared")] {
        let log = fs::read_to_string(root.join("log"))?;
        ensure!(
            log.lines().count() == THREADS * ROUNDS,
            "{} lines in the log",
            log.lines().count()
        );
        for index in 0..THREADS {
            for round in 0..ROUNDS {
                ensure!(
                    log.lines().any(|line| line == format!("{index} {round}")),
                    "line {index} {round} is lost"
                );
                let name = root.join(format!("link-{index}-{round}"));
                let renamed = root.join(format!("renamed-{index}-{round}"));
                ensure!(
                    fs::read(&name)? == fs::read(&renamed)?,
                    "{} differs from its link",
                    name.display()
                );
            }
        }
        let count = fs::read_dir(root.join("deep/er/still"))?.count();
        ensure!(count == THREADS * ROUNDS, "{count} directories");
        let names = fs::read_dir(&root)?.count();
        ensure!(
            names == THREADS * ROUNDS * 2 + ROUNDS + 3,
            "{names} names in the shared directory"
        );
    }
    Ok(())
}
