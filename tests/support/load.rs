//! Threads that keep a mount busy with everything at once.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::wait;

/// Running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `count` threads, each in a directory of its own. They go on when the mount gives errors.
    pub fn start(root: &Path, count: usize) -> Load {
        let (stop, done, failed) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Load {
            stop,
            done,
            failed,
            threads: Vec::new(),
        };
        for index in 0..count {
            let directory = root.join(format!("load-{index}"));
            let (stop, done, failed) = (load.stop.clone(), load.done.clone(), load.failed.clone());
            load.threads.push(thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(index as u64);
                let _ = fs::create_dir(&directory);
                while !stop.load(Ordering::Relaxed) {
                    if step(&directory, &mut random).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        load
    }

    /// Waits until this many operations were made.
    pub fn wait(&self, count: u64) -> Result<()> {
        let reached = wait::until(wait::LONG, || self.done.load(Ordering::Relaxed) >= count);
        ensure!(
            reached,
            "only {} operations within {:?}",
            self.done.load(Ordering::Relaxed),
            wait::LONG
        );
        Ok(())
    }

    /// Waits until an operation fails.
    pub fn wait_for_errors(&self) -> Result<()> {
        let failed = self.failed.load(Ordering::Relaxed);
        let reached = wait::until(wait::LONG, || self.failed.load(Ordering::Relaxed) > failed);
        ensure!(reached, "clients get no errors");
        Ok(())
    }

    /// Operations that failed so far.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ends the threads; an error names how many hang.
    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        if !wait::until(Duration::from_secs(20), || {
            self.threads.iter().all(JoinHandle::is_finished)
        }) {
            bail!(
                "{} clients hang",
                self.threads
                    .iter()
                    .filter(|thread| !thread.is_finished())
                    .count()
            );
        }
        Ok(())
    }
}

fn step(directory: &Path, random: &mut fastrand::Rng) -> std::io::Result<()> {
    let file = |random: &mut fastrand::Rng| -> PathBuf {
        directory.join(format!("f{}", random.u8(0..16)))
    };
    let path = file(random);
    match random.u8(0..10) {
        0 | 1 => fs::write(&path, vec![7; random.usize(0..40_000)]),
        2 => fs::read(&path).map(drop),
        3 => fs::metadata(&path).map(drop),
        4 => fs::remove_file(&path),
        5 => fs::rename(&path, file(random)),
        6 => fs::read_dir(directory)?.try_for_each(|entry| entry.map(drop)),
        7 => {
            let mut open = File::options().read(true).write(true).open(&path)?;
            open.seek(SeekFrom::Start(random.u64(0..50_000)))?;
            open.write_all(&[1; 100])?;
            open.rewind()?;
            open.read_exact(&mut [0; 10])
        }
        8 => fs::hard_link(&path, file(random)),
        _ => File::open(&path)?.sync_data(),
    }
}
