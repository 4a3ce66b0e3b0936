//! How the server's threads share the CPUs with their callers.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::parameter::Uring;
use crate::support::privilege::Lack;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, Setup, peer};
use crate::support::{rootless, wait};

/// How long requests come until a thread stands back, at most; other tests keep the CPUs busy meanwhile.
const LONG: Duration = Duration::from_secs(60);

pub fn add(suite: &mut Suite) {
    suite.test("threads_stand_back_while_they_are_busy", stand_back);
    suite.test(
        "threads_that_could_not_come_back_do_not_stand_back",
        unprivileged,
    );
}

/// Requests of a thread that has many to serve, over some hundred looks of the monitor.
const MANY: usize = 20_000;

/// How many of the threads that serve rings there are, and how many of those run only if nobody else wants to.
fn threads(process: u32) -> Result<(usize, usize)> {
    let ring: Vec<_> = policies(process)?
        .into_iter()
        .filter(|(name, _)| name.contains("(cntr-fuse-"))
        .collect();
    let back = ring
        .iter()
        .filter(|(_, policy)| *policy == libc::SCHED_IDLE);
    Ok((ring.len(), back.count()))
}

/// Number, name and scheduling policy of all threads.
fn policies(process: u32) -> Result<Vec<(String, i32)>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        // The 41st field of the line is the policy; the third comes after the name.
        let policy = rest.split(' ').nth(41 - 3).context("no policy")?;
        found.push((name.to_owned(), policy.parse()?));
    }
    Ok(found)
}

/// A skip where no thread ever stands back.
fn need_rings_and_cpus() -> Result<()> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("is about this server").into());
    }
    rootless::need("CAP_SYS_NICE")?;
    if !Uring::is_enabled() {
        return Err(Skip::new("this kernel has no FUSE over io_uring").into());
    }
    if std::thread::available_parallelism()?.get() == 1 {
        return Err(Skip::new("there is one CPU only").into());
    }
    Ok(())
}

fn stand_back() -> Result<()> {
    need_rings_and_cpus()?;
    let mut mount = Mount::new(Kind::Tmpfs, &["cache=strict", "transport=uring"])?;
    fs::write(mount.host("file"), "text")?;
    let (path, over) = (mount.at("file"), AtomicBool::new(false));
    let server = mount.server().context("there is no server")?.pid();
    let stood_back = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = fs::metadata(&path);
            }
        });
        let start = Instant::now();
        let mut seen = false;
        while !seen && start.elapsed() < LONG {
            seen = threads(server).is_ok_and(|(_, back)| back > 0);
            std::thread::sleep(Duration::from_micros(500));
        }
        over.store(true, Ordering::Relaxed);
        seen
    });
    ensure!(stood_back, "no thread stands back");
    let forward = wait::until(wait::LONG, || {
        threads(server).is_ok_and(|(_, back)| back == 0)
    });
    ensure!(
        forward,
        "{:?} still stand back without requests",
        threads(server)?
    );
    mount.close()
}

/// Without `CAP_SYS_NICE` a thread stays what it once is: none is changed, and nothing is said about it.
fn unprivileged() -> Result<()> {
    need_rings_and_cpus()?;
    let setup = Setup {
        options: vec!["cache=strict".to_owned(), "transport=uring".to_owned()],
        lack: Some(Lack::SysNice),
        ..Setup::default()
    };
    let mut mount = Mount::with(Kind::Tmpfs, &setup)?;
    fs::write(mount.at("file"), "text")?;
    let path = mount.at("file");
    let server = mount.server().context("there is no server")?.pid();
    std::thread::scope(|scope| -> Result<()> {
        let caller = scope.spawn(|| (0..MANY).try_for_each(|_| fs::metadata(&path).map(drop)));
        while !caller.is_finished() {
            for (thread, policy) in policies(server)? {
                ensure!(policy == libc::SCHED_OTHER, "{thread}) has policy {policy}");
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(caller.join().expect("no panic")?)
    })?;
    ensure!(threads(server)?.0 > 0, "no thread serves a ring");
    ensure!(fs::read(&path)? == b"text");
    let log = mount.server().context("there is no server")?.log();
    ensure!(log.is_empty(), "it says: {log}");
    mount.close()
}
