//! Large reads and writes of files whose data travels by requests: it may be spliced.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, peer};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

pub fn add(suite: &mut Suite) {
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs, Kind::Tmpfs] {
        suite.test(format!("large_reads_{kind}"), move || every_size(kind));
        suite.test(format!("large_reads_while_truncated_{kind}"), move || {
            truncated(kind)
        });
    }
    suite.test("large_reads_of_many_threads", many_threads);
    suite.test("large_reads_are_given_up", given_up);
    suite.test("large_reads_of_pseudo_files", pseudo_files);
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs, Kind::Tmpfs] {
        suite.test(format!("large_writes_{kind}"), move || large_writes(kind));
    }
    suite.test("large_writes_that_fail", failing_writes);
}

/// A mount whose data is relayed, over `/dev/fuse` unless the run says otherwise.
fn relayed(kind: Kind) -> Result<Mount> {
    Mount::new(kind, &["data=relay"])
}

/// Bytes that tell where they are.
fn pattern(len: usize) -> Vec<u8> {
    let words = (0..len.div_ceil(8) as u64).flat_map(|word| (word * 8 + 1).to_le_bytes());
    words.take(len).collect()
}

/// Memory as O_DIRECT wants it: a request for each read.
struct Aligned(Vec<u8>);

impl Aligned {
    fn new(len: usize) -> Aligned {
        Aligned(vec![0xaa; len + 4096])
    }

    fn get(&mut self, len: usize) -> &mut [u8] {
        let skip = self.0.as_ptr().align_offset(4096);
        &mut self.0[skip..skip + len]
    }
}

fn direct(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .context("O_DIRECT")
}

fn every_size(kind: Kind) -> Result<()> {
    let mount = relayed(kind)?;
    let len = 3 * MIB + 777;
    let bytes = pattern(len);
    fs::write(mount.host("dense"), &bytes)?;
    // A hole in the middle, and one at the end.
    let mut holes = pattern(MIB);
    holes.resize(3 * MIB, 0);
    let sparse = File::create(mount.host("sparse"))?;
    sparse.write_all_at(&holes[..MIB], 0)?;
    sparse.set_len(holes.len() as u64)?;
    sparse.write_all_at(b"end", 2 * MIB as u64)?;
    holes[2 * MIB..2 * MIB + 3].copy_from_slice(b"end");
    let mut buffer = Aligned::new(2 * MIB);
    for (name, bytes) in [("dense", &bytes), ("sparse", &holes)] {
        let len = bytes.len();
        let file = direct(&mount.at(name))?;
        let sizes = [60, 64, 68, 128, 252, 256, 1020, 1024, 2048].map(|size| size * KIB);
        for size in sizes {
            for offset in [0, 4096, MIB - 4096, 2 * MIB, 3 * MIB - size.min(MIB)] {
                let wanted = &bytes[offset..len.min(offset + size)];
                let room = buffer.get(size);
                let got = file.read_at(room, offset as u64)?;
                ensure!(
                    got == wanted.len() && room[..got] == *wanted,
                    "{name}: {got} bytes of {size} at {offset}"
                );
            }
        }
        ensure!(file.read_at(buffer.get(MIB), 4 * MIB as u64)? == 0);
        ensure!(
            fs::read(mount.at(name))? == *bytes,
            "{name} through the cache"
        );
    }
    // An end one byte before that of the reply, at it, and one after.
    for len in [128 * KIB - 1, 128 * KIB, 128 * KIB + 1] {
        fs::write(mount.host("end"), &bytes[..len])?;
        let file = direct(&mount.at("end"))?;
        let room = buffer.get(128 * KIB);
        let got = file.read_at(room, 0)?;
        ensure!(got == len.min(128 * KIB) && room[..got] == bytes[..got]);
        ensure!(fs::read(mount.at("end"))? == bytes[..len]);
    }
    mount.close()
}

/// The host changes the length all the time: what is read is the file or zeros, and nothing hangs or fails.
fn truncated(kind: Kind) -> Result<()> {
    let mount = relayed(kind)?;
    let bytes = pattern(MIB);
    let path = mount.host("file");
    fs::write(&path, &bytes)?;
    let host = OpenOptions::new().write(true).open(&path)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let changes = scope.spawn(|| -> Result<()> {
            let mut random = fastrand::Rng::with_seed(1);
            while !over.load(Ordering::Relaxed) {
                host.set_len(random.u64(0..MIB as u64))?;
                host.write_all_at(&bytes, 0)?;
            }
            Ok(())
        });
        let reads = (|| -> Result<()> {
            let file = direct(&mount.at("file"))?;
            let mut buffer = Aligned::new(MIB);
            for round in 0..2000 {
                let size = [128 * KIB, 512 * KIB, MIB][round % 3];
                let room = buffer.get(size);
                room.fill(0xaa);
                let got = file.read_at(room, 0)?;
                for (at, pair) in room[..got].iter().zip(&bytes).enumerate() {
                    ensure!(
                        *pair.0 == *pair.1 || *pair.0 == 0,
                        "byte {at} of {got} is {:#x}",
                        pair.0
                    );
                }
            }
            Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        changes.join().expect("no panic")?;
        reads
    })?;
    mount.close()
}

/// Replies do not mix, and each thread that serves keeps one pipe and no more.
fn many_threads() -> Result<()> {
    let mut mount = relayed(Kind::Ext4)?;
    let bytes = pattern(4 * MIB);
    fs::write(mount.host("file"), &bytes)?;
    let round = |mount: &Mount| {
        thread::scope(|scope| {
            let readers: Vec<_> = (0..16)
                .map(|seed| {
                    let (path, bytes) = (mount.at("file"), &bytes);
                    scope.spawn(move || -> Result<()> {
                        let file = direct(&path)?;
                        let mut random = fastrand::Rng::with_seed(seed);
                        let mut buffer = Aligned::new(MIB);
                        for _ in 0..100 {
                            let size = 4096 * random.usize(1..=256);
                            let offset = 4096 * random.usize(0..1024);
                            let wanted = &bytes[offset..bytes.len().min(offset + size)];
                            let room = buffer.get(size);
                            let got = file.read_at(room, offset as u64)?;
                            ensure!(room[..got] == *wanted, "{size} bytes at {offset}");
                        }
                        Ok(())
                    })
                })
                .collect();
            readers
                .into_iter()
                .try_for_each(|reader| reader.join().expect("no panic"))
        })
    };
    round(&mount)?;
    let Some(server) = mount.server() else {
        return mount.close();
    };
    let before = server.descriptors();
    for _ in 0..3 {
        round(&mount)?;
    }
    let after = mount.server().context("the server runs")?.descriptors();
    // A thread that comes in later brings a descriptor of the device and a pipe.
    ensure!(after < before + 40, "{before} descriptors, then {after}");
    mount.close()
}

/// Readers that are killed in the middle leave nothing behind that a later reply would start with.
fn given_up() -> Result<()> {
    let mount = relayed(Kind::Ext4)?;
    let bytes = pattern(8 * MIB);
    fs::write(mount.host("file"), &bytes)?;
    let path = mount.at("file");
    for round in 0..40 {
        let mut reader = std::process::Command::new("dd")
            .arg(format!("if={}", path.display()))
            .args(["of=/dev/null", "bs=512K", "iflag=direct", "status=none"])
            .spawn()?;
        let mut buffer = Aligned::new(MIB);
        let file = direct(&path)?;
        for part in 0..round % 8 {
            let room = buffer.get(512 * KIB);
            file.read_at(room, (part * MIB) as u64)?;
            ensure!(room == &bytes[part * MIB..part * MIB + 512 * KIB]);
        }
        reader.kill()?;
        reader.wait()?;
    }
    ensure!(fs::read(&path)? == bytes);
    mount.close()
}

/// Files whose contents are made up by reading are read as ever.
fn pseudo_files() -> Result<()> {
    if peer() == Peer::Bind {
        return Err(Skip::new("a bind mount shows no mounts below").into());
    }
    let mount = relayed(Kind::Ext4)?;
    let proc = mount.host("proc");
    fs::create_dir(&proc)?;
    rustix::mount::mount_bind_recursive("/proc", &proc)?;
    let read = || -> Result<()> {
        let file = File::open(mount.at("proc/kallsyms"))?;
        let mut buffer = vec![0; 256 * KIB];
        let got = file.read_at(&mut buffer, 0)?;
        ensure!(got > 0, "fd {} is empty", file.as_raw_fd());
        let native = fs::read("/proc/kallsyms")?;
        ensure!(buffer[..got] == native[..got]);
        Ok(())
    };
    let outcome = read();
    // The server may still hold the file.
    rustix::mount::unmount(&proc, rustix::mount::UnmountFlags::DETACH)?;
    outcome?;
    mount.close()
}

/// A mount whose WRITE requests fit into the largest pipe that anybody may have.
fn with_smaller_requests(kind: Kind) -> Result<Mount> {
    Mount::new(kind, &["data=relay", "max_write=524288"])
}

/// Rows of writes of all sizes, other requests between them, several writers, and a file that is only appended to.
fn large_writes(kind: Kind) -> Result<()> {
    let mount = with_smaller_requests(kind)?;
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|seed| {
                let mount = &mount;
                scope.spawn(move || writer(mount, seed))
            })
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().expect("no panic"))
    })?;
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(mount.at("log"))?;
    let bytes = pattern(2 * MIB + 100);
    for piece in bytes.chunks(300_000) {
        (&log).write_all(piece)?;
    }
    ensure!(fs::read(mount.host("log"))? == bytes, "appended");
    drop(log);
    mount.close()
}

fn writer(mount: &Mount, seed: u64) -> Result<()> {
    let name = format!("file-{seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut expected = vec![0; 4 * MIB];
    let file = File::create(mount.at(&name))?;
    file.set_len(expected.len() as u64)?;
    let bytes = pattern(expected.len());
    for _ in 0..150 {
        let len = match random.u8(0..4) {
            0 => random.usize(1..5000),
            1 => 64 * KIB,
            2 => 128 * KIB * random.usize(1..=8),
            _ => random.usize(64 * KIB..MIB),
        };
        let offset = random.usize(0..expected.len() - len);
        let from = random.usize(0..bytes.len() - len);
        file.write_all_at(&bytes[from..from + len], offset as u64)?;
        expected[offset..offset + len].copy_from_slice(&bytes[from..from + len]);
        if random.bool() {
            ensure!(file.metadata()?.len() == expected.len() as u64);
            let _ = fs::metadata(mount.at("no such file"));
        }
    }
    ensure!(fs::read(mount.host(&name))? == expected, "file {seed}");
    Ok(())
}

/// The host's file system is full in the middle of a row of writes. What was not written does not turn up anywhere else.
fn failing_writes() -> Result<()> {
    let mount = with_smaller_requests(Kind::Ext4)?;
    let small = mount.host("small");
    fs::create_dir(&small)?;
    crate::support::tool::run(
        crate::support::tool::need("mount")?
            .args(["-t", "tmpfs", "-o", "size=3m,mode=755", "small"])
            .arg(&small),
    )?;
    let outcome = (|| -> Result<()> {
        if peer() == Peer::Bind {
            return Err(Skip::new("a bind mount shows no mounts below").into());
        }
        let bytes = pattern(MIB);
        for round in 0..5 {
            let full = File::create(mount.at("small/full"))?;
            let mut at = 0;
            let error = loop {
                match full.write_at(&bytes, at) {
                    Ok(written) => at += written as u64,
                    Err(error) => break error,
                }
                ensure!(at < 4 * MIB as u64, "round {round}: it takes {at} bytes");
            };
            ensure!(
                error.raw_os_error() == Some(libc::ENOSPC),
                "round {round}: {error}"
            );
            let other = File::create(mount.at("other"))?;
            for part in 0..3 {
                other.write_all_at(&bytes, (part * MIB) as u64)?;
            }
            let got = fs::read(mount.host("other"))?;
            ensure!(got.chunks(MIB).all(|part| part == bytes), "round {round}");
            drop(full);
            fs::remove_file(mount.at("small/full"))?;
        }
        Ok(())
    })();
    // The server may still hold the file.
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH)?;
    outcome?;
    mount.close()
}
