//! How the server's threads share the CPUs with their callers.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::parameter::Uring;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, peer};
use crate::support::{rootless, wait};

/// How long requests come until a thread stands back, at most; other tests keep the CPUs busy meanwhile.
const LONG: Duration = Duration::from_secs(60);

pub fn add(suite: &mut Suite) {
    suite.test("threads_stand_back_while_they_are_busy", stand_back);
}

/// How many of the threads that serve rings there are, and how many of those run only if nobody else wants to.
fn threads(process: u32) -> Result<(usize, usize)> {
    let (mut all, mut back) = (0, 0);
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        if name.contains("(cntr-fuse-") {
            // The 41st field of the line is the policy; the third comes after the name.
            let policy = rest.split(' ').nth(41 - 3).context("no policy")?;
            all += 1;
            back += usize::from(policy.parse() == Ok(libc::SCHED_IDLE));
        }
    }
    Ok((all, back))
}

fn stand_back() -> Result<()> {
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
