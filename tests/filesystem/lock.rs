//! Locks, shared with processes of the host.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::runner::Suite;
use crate::support::signal::ThreadId;
use crate::support::tool;

pub fn add(suite: &mut Suite) {
    suite.test("flock_conflicts_with_the_host", flock_both_ways);
    suite.test("record_locks_conflict_with_the_host", record_both_ways);
    suite.test("locks_are_released_by_close", released);
    suite.test("locks_conflict_between_processes", processes);
    suite.test("blocked_lock_is_interrupted", interrupted);
    suite.test("no_interrupt_is_lost", never_lost);
    suite.test("blocked_lock_is_killed", killed);
    suite.test("blocked_locks_delay_nobody", blocked);
}

fn open(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().read(true).write(true).open(path)?)
}

fn area(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

/// A lock that belongs to the open file: conflicts with those of this process too.
fn try_open_file_lock(file: &File, kind: i32, start: i64, len: i64) -> bool {
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&area(kind, start, len))).is_ok()
}

/// A traditional lock, which belongs to the process.
fn try_process_lock(file: &File, kind: i32, start: i64, len: i64) -> bool {
    fcntl(file.as_fd(), FcntlArg::F_SETLK(&area(kind, start, len))).is_ok()
}

fn flock_both_ways() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), "")?;
    for (holder, other) in [
        (mount.host("file"), mount.at("file")),
        (mount.at("file"), mount.host("file")),
    ] {
        let (holder, other) = (open(&holder)?, open(&other)?);
        rustix::fs::flock(&holder, FlockOperation::NonBlockingLockExclusive)?;
        let result = rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared);
        ensure!(
            result == Err(Errno::WOULDBLOCK),
            "both have the lock: {result:?}"
        );
        rustix::fs::flock(&holder, FlockOperation::NonBlockingLockShared)?;
        rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared)?;
        let result = rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
        ensure!(
            result == Err(Errno::WOULDBLOCK),
            "exclusive beside a shared lock: {result:?}"
        );
        rustix::fs::flock(&holder, FlockOperation::NonBlockingUnlock)?;
        rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive)?;
        rustix::fs::flock(&other, FlockOperation::NonBlockingUnlock)?;
    }
    mount.close()
}

fn record_both_ways() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), vec![0; 1000])?;
    for (holder, other) in [
        (mount.host("file"), mount.at("file")),
        (mount.at("file"), mount.host("file")),
    ] {
        let (holder, other) = (open(&holder)?, open(&other)?);
        ensure!(try_open_file_lock(&holder, libc::F_WRLCK, 100, 100));
        ensure!(
            !try_process_lock(&other, libc::F_RDLCK, 150, 10),
            "the range is locked by the other side"
        );
        ensure!(
            try_process_lock(&other, libc::F_WRLCK, 200, 10),
            "another range is free"
        );
        ensure!(
            !try_open_file_lock(&holder, libc::F_RDLCK, 205, 10),
            "and then it is not"
        );
        // Who is in the way is told.
        let mut query = area(libc::F_WRLCK, 0, 0);
        fcntl(other.as_fd(), FcntlArg::F_GETLK(&mut query))?;
        ensure!(
            i32::from(query.l_type) == libc::F_WRLCK,
            "F_GETLK says nobody has a lock"
        );
        ensure!(
            (query.l_start, query.l_len) == (100, 100),
            "F_GETLK: {} + {}",
            query.l_start,
            query.l_len
        );
        ensure!(try_open_file_lock(&holder, libc::F_UNLCK, 0, 0));
        ensure!(
            try_process_lock(&other, libc::F_WRLCK, 100, 100),
            "the range was unlocked"
        );
        ensure!(try_process_lock(&other, libc::F_UNLCK, 0, 0));
    }
    mount.close()
}

fn released() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), "")?;
    for _ in 0..20 {
        let (first, second, third) = (
            open(&mount.at("file"))?,
            open(&mount.at("file"))?,
            open(&mount.at("file"))?,
        );
        // A program another test starts has a copy of every open file, and its locks, until it is executed.
        let locked = crate::support::wait::until(crate::support::wait::LONG, || {
            rustix::fs::flock(&first, FlockOperation::NonBlockingLockExclusive).is_ok()
                && try_open_file_lock(&second, libc::F_WRLCK, 0, 10)
                && try_process_lock(&third, libc::F_WRLCK, 10, 10)
        });
        ensure!(locked, "nobody has the lock, but it cannot be had");
        drop((first, second, third));
        let host = open(&mount.host("file"))?;
        let free = crate::support::wait::until(crate::support::wait::LONG, || {
            rustix::fs::flock(&host, FlockOperation::NonBlockingLockExclusive).is_ok()
                && try_open_file_lock(&host, libc::F_WRLCK, 0, 20)
        });
        ensure!(free, "a lock outlives its file");
    }
    mount.close()
}

fn processes() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), "")?;
    let held = open(&mount.at("file"))?;
    rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive)?;
    for path in [mount.at("file"), mount.host("file")] {
        let status = tool::need("flock")?
            .arg("--nonblock")
            .arg(&path)
            .arg("true")
            .status()?;
        ensure!(
            status.code() == Some(1),
            "flock of {}: {status}",
            path.display()
        );
    }
    drop(held);
    for path in [mount.at("file"), mount.host("file")] {
        tool::run(
            tool::need("flock")?
                .args(["--timeout", "30"])
                .arg(&path)
                .arg("true"),
        )?;
    }
    mount.close()
}

fn interrupted() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), "")?;
    let holder = open(&mount.host("file"))?;
    ensure!(try_open_file_lock(&holder, libc::F_WRLCK, 0, 0));
    rustix::fs::flock(&holder, FlockOperation::NonBlockingLockExclusive)?;
    type Wait = fn(&File) -> std::io::Result<()>;
    let waits: [(&str, libc::c_long, Wait); 3] = [
        ("F_SETLKW", libc::SYS_fcntl, |file| {
            fcntl(file.as_fd(), FcntlArg::F_SETLKW(&area(libc::F_WRLCK, 0, 0)))
                .map(drop)
                .map_err(Into::into)
        }),
        ("F_OFD_SETLKW", libc::SYS_fcntl, |file| {
            fcntl(
                file.as_fd(),
                FcntlArg::F_OFD_SETLKW(&area(libc::F_WRLCK, 0, 0)),
            )
            .map(drop)
            .map_err(Into::into)
        }),
        ("flock", libc::SYS_flock, |file| {
            rustix::fs::flock(file, FlockOperation::LockExclusive).map_err(Into::into)
        }),
    ];
    for (what, call, wait) in waits {
        let file = open(&mount.at("file"))?;
        let (sender, receiver) = channel();
        let result = thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let _ = sender.send(ThreadId::current());
                wait(&file)
            });
            let id = receiver.recv().expect("the thread says who it is");
            let blocked = id.wait_until_in(call);
            id.interrupt();
            // Without an answer to the signal this would hang; the watchdog then aborts the connection.
            (blocked, waiter.join().expect("no panic"))
        });
        ensure!(result.0, "{what} did not block: {:?}", result.1);
        ensure!(
            result
                .1
                .as_ref()
                .is_err_and(|e| e.raw_os_error() == Some(libc::EINTR)),
            "{what}: {:?}",
            result.1
        );
        // Nothing of the request is left: the lock is free for others once the holder goes.
    }
    drop(holder);
    let free = crate::support::wait::until(crate::support::wait::LONG, || {
        open(&mount.host("file")).is_ok_and(|host| {
            try_open_file_lock(&host, libc::F_WRLCK, 0, 0)
                && rustix::fs::flock(&host, FlockOperation::NonBlockingLockExclusive).is_ok()
        })
    });
    ensure!(free, "an interrupted request got the lock later");
    mount.close()
}

/// Signals that come at every moment between the system call and the server: the kernel itself loses some of them on the
/// way to a server over io_uring.
fn never_lost() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), "")?;
    let holder = open(&mount.host("file"))?;
    rustix::fs::flock(&holder, FlockOperation::NonBlockingLockExclusive)?;
    let file = open(&mount.at("file"))?;
    let over = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        // Requests that the server has to deal with before it gets to the lock.
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = mount.at("nothing").metadata();
                }
            });
        }
        let rounds = || -> Result<()> {
            for round in 0..400_u32 {
                let (sender, receiver) = channel();
                let waiter = scope.spawn({
                    let file = &file;
                    move || {
                        let _ = sender.send(ThreadId::current());
                        rustix::fs::flock(file, FlockOperation::LockExclusive)
                    }
                });
                let id = receiver.recv()?;
                let moment = Instant::now() + Duration::from_micros(u64::from(round % 100) * 2);
                while Instant::now() < moment {
                    std::hint::spin_loop();
                }
                // One that comes before the system call means nothing: again, until one is heard.
                let heard = crate::support::wait::until(crate::support::wait::LONG, || {
                    waiter.is_finished() || {
                        id.interrupt();
                        waiter.is_finished()
                    }
                });
                if !heard {
                    // Lets the waiter go, or the scope would never end.
                    rustix::fs::flock(&holder, FlockOperation::NonBlockingUnlock)?;
                }
                let ended = waiter.join().expect("no panic");
                ensure!(heard, "round {round}: a signal does not end the wait");
                ensure!(ended == Err(Errno::INTR), "round {round}: {ended:?}");
            }
            Ok(())
        };
        let result = rounds();
        over.store(true, Ordering::Relaxed);
        result
    });
    result?;
    drop((holder, file));
    mount.close()
}

fn killed() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), "")?;
    let holder = open(&mount.host("file"))?;
    rustix::fs::flock(&holder, FlockOperation::NonBlockingLockExclusive)?;
    let mut waiter = tool::need("flock")?
        .arg(mount.at("file"))
        .arg("true")
        .spawn()?;
    let syscall = format!("/proc/{}/syscall", waiter.id());
    let blocked = crate::support::wait::until(crate::support::wait::LONG, || {
        fs::read_to_string(&syscall)
            .is_ok_and(|text| text.starts_with(&format!("{} ", libc::SYS_flock)))
    });
    waiter.kill()?;
    let ended = crate::support::wait::until(crate::support::wait::LONG, || {
        waiter.try_wait().is_ok_and(|s| s.is_some())
    });
    ensure!(blocked, "flock(1) did not block");
    ensure!(ended, "a process that waits for a lock cannot be killed");
    drop(holder);
    mount.close()
}

fn blocked() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), "")?;
    fs::write(mount.host("other"), "text")?;
    let holder = open(&mount.host("file"))?;
    ensure!(try_open_file_lock(&holder, libc::F_WRLCK, 0, 0));
    let count = thread::available_parallelism()?.get() * 2 + 3;
    let (sender, receiver) = channel();
    thread::scope(|scope| -> Result<()> {
        let waiters: Vec<_> = (0..count)
            .map(|_| {
                let (sender, path) = (sender.clone(), mount.at("file"));
                scope.spawn(move || -> Result<()> {
                    let file = open(&path)?;
                    let _ = sender.send(ThreadId::current());
                    fcntl(
                        file.as_fd(),
                        FcntlArg::F_OFD_SETLKW(&area(libc::F_WRLCK, 0, 0)),
                    )?;
                    Ok(())
                })
            })
            .collect();
        let all_blocked = (0..count).all(|_| {
            receiver
                .recv()
                .is_ok_and(|id| id.wait_until_in(libc::SYS_fcntl))
        });
        // Served meanwhile, in every way. The bound is far above what it takes and far below a hang.
        let (done, served) = channel();
        let root = mount.path().to_owned();
        thread::spawn(move || {
            let work = || -> std::io::Result<()> {
                for index in 0..100 {
                    fs::metadata(root.join("other"))?;
                    fs::read(root.join("other"))?;
                    fs::write(root.join(format!("new-{index}")), "text")?;
                    fs::read_dir(&root)?.count();
                }
                Ok(())
            };
            let _ = done.send(work());
        });
        let result = served.recv_timeout(Duration::from_secs(20));
        drop(holder);
        let waited: Vec<Result<()>> = waiters
            .into_iter()
            .map(|waiter| waiter.join().expect("no panic"))
            .collect();
        ensure!(all_blocked, "a waiter did not block");
        ensure!(
            matches!(result, Ok(Ok(()))),
            "with {count} blocked locks other requests are not served: {result:?}"
        );
        waited.into_iter().collect()
    })?;
    mount.close()
}
