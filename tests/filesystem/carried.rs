//! Reads that are not answered from memory, and syncs: what waits for a disk, or for another server.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::mpsc::channel;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use rustix::fs::Advice;

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::parameter::Uring;
use crate::support::privilege::Lack;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, Setup, peer};
use crate::support::signal::ThreadId;

/// More than there are CPUs on most machines: beyond that, reads of a disk are carried.
const READERS: usize = 16;

const MIB: usize = 1 << 20;

pub fn add(suite: &mut Suite) {
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs, Kind::Overlay] {
        suite.test(format!("cold_reads_{kind}"), move || cold(kind));
    }
    suite.test("cold_reads_through_another_server", remote);
    suite.test("a_read_that_never_ends_is_interrupted", interrupted);
    suite.test("directories_are_synced_beside_the_queues", directories);
    suite.test("io_uring_that_is_refused_is_done_without", refused);
    suite.test(
        "io_uring_that_is_demanded_and_refused_is_an_error",
        demanded,
    );
}

/// Contents with a hole, and an end that is on no boundary.
fn contents() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..4 * MIB + 123).map(|i| (i % 251) as u8).collect();
    bytes[MIB..2 * MIB].fill(0);
    bytes
}

/// Makes the file on the host, with nothing of it in memory.
fn make(mount: &Mount) -> Result<Vec<u8>> {
    let bytes = contents();
    let file = File::create(mount.host("file"))?;
    file.write_all_at(&bytes[..MIB], 0)?;
    file.write_all_at(&bytes[2 * MIB..], 2 * MIB as u64)?;
    file.sync_all()?;
    drop_pages(&file)?;
    Ok(bytes)
}

fn drop_pages(file: &File) -> Result<()> {
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed).context("fadvise")
}

/// Reads `len` bytes at `offset` of a file opened with `flags`, of which nothing is in memory.
fn read(mount: &Mount, flags: i32, offset: usize, len: usize) -> Result<Vec<u8>> {
    drop_pages(&File::open(mount.host("file"))?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(mount.at("file"))?;
    drop_pages(&file)?;
    let mut buffer = vec![0xaa; len + 4096];
    let skip = buffer.as_ptr().align_offset(4096);
    let got = file.read_at(&mut buffer[skip..skip + len], offset as u64)?;
    Ok(buffer[skip..skip + got].to_vec())
}

fn check(mount: &Mount, bytes: &[u8]) -> Result<()> {
    let all = [
        (0, 0, bytes.len()),
        (0, 0, bytes.len() + MIB),
        (0, 4095, 3),
        (0, MIB - 5, MIB + 10),
        (0, bytes.len() - 7, 100),
        (0, bytes.len(), 100),
        (0, bytes.len() + MIB, 100),
        (libc::O_DIRECT, 0, MIB),
        (libc::O_DIRECT, 2 * MIB - 4096, 8192),
        (libc::O_DIRECT, 4 * MIB, 4096),
        (libc::O_DIRECT, 5 * MIB, 4096),
    ];
    for (flags, offset, len) in all {
        let got = read(mount, flags, offset, len)?;
        let start = offset.min(bytes.len());
        let expected = &bytes[start..bytes.len().min(start + len)];
        ensure!(
            got == expected,
            "{len} bytes at {offset}: {} instead of {} bytes, or others",
            got.len(),
            expected.len()
        );
    }
    // Some of it is in memory, and the next is not.
    drop_pages(&File::open(mount.host("file"))?)?;
    File::open(mount.host("file"))?.read_at(&mut [0; 1], 0)?;
    ensure!(fs::read(mount.at("file"))? == bytes);
    // Many at a time.
    drop_pages(&File::open(mount.host("file"))?)?;
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                scope.spawn(move || -> Result<()> {
                    for round in 0..32 {
                        let offset = (reader + round * READERS) * 8192;
                        let got = read(mount, libc::O_DIRECT, offset, 8192)?;
                        ensure!(got == bytes[offset..offset + 8192], "at {offset}");
                    }
                    Ok(())
                })
            })
            .collect();
        readers
            .into_iter()
            .try_for_each(|reader| reader.join().expect("no panic"))
    })
}

/// Many sync a file and the directory it is in at the same time.
fn syncs(mount: &Mount) -> Result<()> {
    let sync = || -> Result<()> {
        let file = OpenOptions::new().write(true).open(mount.at("file"))?;
        let directory = File::open(mount.path())?;
        for _ in 0..8 {
            file.write_all_at(b"text", 0)?;
            file.sync_all().context("fsync")?;
            file.write_all_at(b"text", 0)?;
            file.sync_data().context("fdatasync")?;
            directory.sync_all().context("fsync of a directory")?;
            directory.sync_data().context("fdatasync of a directory")?;
        }
        rustix::fs::syncfs(&directory).context("syncfs")
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..READERS).map(|_| scope.spawn(sync)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"))
    })
}

fn cold(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &["data=relay"])?;
    let bytes = make(&mount)?;
    check(&mount, &bytes)?;
    syncs(&mount)?;
    mount.close()
}

/// Whether programs may use io_uring here.
fn io_uring_is_allowed() -> bool {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").map_or(true, |text| text.trim() == "0")
}

/// Whether the server has a ring of tokio-uring: it is made for the first work that is handed over.
fn has_ring(mount: &mut Mount) -> Result<bool> {
    let pid = mount.server().context("there is a server")?.pid();
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .any(|link| link.to_string_lossy().contains("io_uring")))
}

fn remote() -> Result<()> {
    let first = Mount::new(Kind::Ext4, &["data=relay"])?;
    let bytes = make(&first)?;
    let mut second = first.view(&["data=relay"])?;
    ensure!(fs::read(second.at("file"))? == bytes);
    for (offset, len) in [(0, MIB), (5, 7), (4 * MIB, 4096), (5 * MIB, 1)] {
        let mut got = vec![0; len];
        let read = File::open(second.at("file"))?.read_at(&mut got, offset as u64)?;
        let start = offset.min(bytes.len());
        ensure!(got[..read] == bytes[start..bytes.len().min(start + len)]);
    }
    let file = OpenOptions::new().write(true).open(second.at("file"))?;
    file.write_all_at(b"text", 0)?;
    file.sync_all()?;
    file.sync_data()?;
    ensure!(&fs::read(first.host("file"))?[..4] == b"text");
    if peer() == Peer::Cntr && io_uring_is_allowed() {
        ensure!(has_ring(&mut second)?, "nothing was carried by tokio-uring");
    }
    drop(file);
    second.close()?;
    first.close()
}

fn interrupted() -> Result<()> {
    let mut first = Mount::new(Kind::Ext4, &["data=relay"])?;
    make(&first)?;
    let second = first.view(&["data=relay"])?;
    // Such a file is read around the kernel's cache: the kernel interrupts no other reads on the classic transport.
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .open(second.at("file"))?;
    first
        .server()
        .context("there is a server")?
        .signal(Signal::SIGSTOP);
    let (tell, told) = channel();
    let result = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            tell.send(ThreadId::current()).expect("it is waited for");
            file.read_at(&mut [0; 4096], 3 * MIB as u64)
        });
        let thread = told.recv().expect("it says who it is");
        let waits = thread.wait_until_in(libc::SYS_pread64);
        thread.interrupt();
        let result = reader.join().expect("no panic");
        ensure!(waits, "it never read");
        Ok(result)
    });
    first
        .server()
        .context("there is a server")?
        .signal(Signal::SIGCONT);
    let result = result?;
    ensure!(
        matches!(&result, Err(error) if error.kind() == ErrorKind::Interrupted),
        "{result:?}"
    );
    // Both go on.
    let bytes = contents();
    ensure!(fs::read(second.at("file"))? == bytes);
    drop(file);
    second.close()?;
    first.close()
}

fn directories() -> Result<()> {
    let first = Mount::new(Kind::Ext4, &[])?;
    fs::create_dir(first.host("dir"))?;
    for cache in ["cache=coherent", "cache=1"] {
        // With coherent caches the kernel opens directories without asking.
        let options: &[&str] = if peer() == Peer::Cntr { &[cache] } else { &[] };
        let mut second = first.view(options)?;
        let directory = File::open(second.at("dir"))?;
        directory.sync_all().context("fsync")?;
        directory.sync_data().context("fdatasync")?;
        if peer() == Peer::Cntr && io_uring_is_allowed() {
            ensure!(has_ring(&mut second)?, "{cache}: not by tokio-uring");
        }
        drop(directory);
        second.close()?;
    }
    first.close()
}

/// A server that gets no ring of any kind.
fn without_io_uring(transport: &str) -> Result<Setup> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("it is about the server").into());
    }
    Ok(Setup {
        options: vec!["data=relay".to_owned(), transport.to_owned()],
        lack: Some(Lack::IoUring),
        verbose: true,
        ..Setup::default()
    })
}

fn refused() -> Result<()> {
    let setup = without_io_uring("transport=auto")?;
    let mut first = Mount::with(Kind::Ext4, &setup)?;
    let bytes = make(&first)?;
    check(&first, &bytes)?;
    syncs(&first)?;
    // What is remote would always be carried.
    let mut second = first.view_with(&setup)?;
    ensure!(&fs::read(second.at("file"))?[4..] == &bytes[4..]);
    syncs(&second)?;
    for mount in [&mut first, &mut second] {
        let log = mount.server().context("there is a server")?.log();
        let said = log.matches("FUSE over io_uring cannot be used").count();
        ensure!(said == usize::from(Uring::is_enabled()), "{log}");
        ensure!(!has_ring(mount)?, "it was not refused");
    }
    let log = second.server().context("there is a server")?.log();
    let said = log.matches("tokio-uring cannot be used").count();
    ensure!(said == 1, "{log}");
    second.close()?;
    first.close()
}

fn demanded() -> Result<()> {
    let setup = without_io_uring("transport=uring")?;
    let error = match Mount::with(Kind::Ext4, &setup) {
        Ok(_) => bail!("it is mounted"),
        Err(error) if error.is::<Skip>() => return Err(error),
        Err(error) => error.to_string(),
    };
    let (ended, printed) = error.split_once('\n').context("it printed nothing")?;
    ensure!(ended.contains("exit status: 125"), "{error}");
    let line = printed.trim_end();
    ensure!(
        line.lines().count() == 1
            && line.starts_with("cntr: FUSE over io_uring cannot be used: ")
            && line.contains("Operation not permitted")
            && line.contains("kernel.io_uring_disabled"),
        "{error}"
    );
    Ok(())
}
