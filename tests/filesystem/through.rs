//! Kernel passthrough: what the kernel reads and writes by itself, and what it does not.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

use crate::support::backing::Kind;
use crate::support::counts::Counts;
use crate::support::mapping::Mapping;
use crate::support::mount::Mount;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, peer};
use crate::support::{rootless, tool, wait};

pub fn add(suite: &mut Suite) {
    for kind in Kind::ALL {
        suite.test(format!("data_is_not_relayed_{kind}"), move || {
            not_relayed(kind)
        });
    }
    suite.test("data_can_be_relayed", relayed);
    suite.test("pseudo_files_are_relayed", pseudo);
    suite.test("stacked_too_high_is_relayed", stacked);
    suite.test("files_with_set_id_bits_are_relayed", set_id);
    suite.test("idle_files_are_let_go", idle);
    suite.test("deleted_files_free_their_space", deleted);
    suite.test("host_says_what_cannot_be_written", refused);
    suite.test("reading_leaves_access_times_if_asked", access_times);
    suite.test("mapped_writes_change_the_times", mapped_times);
}

/// A mount with kernel passthrough.
fn through(kind: Kind, options: &[&str]) -> Result<Mount> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("is about this server").into());
    }
    rootless::need("kernel passthrough")?;
    let mut all = vec!["data=auto"];
    all.extend(options);
    let mut mount = Mount::new(kind, &all)?;
    let report = Counts::of(&mut mount)?.report;
    if !report.capabilities.iter().any(|name| name == "PASSTHROUGH") {
        mount.close()?;
        return Err(Skip::new("this kernel has no FUSE passthrough (Linux 6.9)").into());
    }
    Ok(mount)
}

const DATA: [&str; 4] = ["READ", "WRITE", "GETXATTR", "FALLOCATE"];

fn not_relayed(kind: Kind) -> Result<()> {
    let mut mount = through(kind, &[])?;
    let block = vec![7_u8; 4096];
    let path = mount.at("file");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    // The first write asks for file capabilities.
    file.write_all(&block)?;
    let before = Counts::of(&mut mount)?;
    for index in 1..256 {
        file.write_all_at(&block, index * 4096)?;
    }
    let mut appending = OpenOptions::new().append(true).open(&path)?;
    for _ in 0..256 {
        appending.write_all(b"appended")?;
    }
    let mut all = Vec::new();
    File::open(&path)?.read_to_end(&mut all)?;
    ensure!(all.len() == 256 * 4096 + 256 * 8, "{} bytes", all.len());
    let mut mapping = Mapping::shared(file.as_fd(), 0, 8192, true)?;
    let mut byte = [0];
    mapping.read(5000, &mut byte);
    ensure!(byte == [7]);
    mapping.write(100, b"through");
    mapping.sync()?;
    let host = fs::read(mount.host("file"))?;
    ensure!(host[100..107] == *b"through", "the host does not see it");
    // And the other way, at once: both have the same pages.
    let other = OpenOptions::new().write(true).open(mount.host("file"))?;
    other.write_all_at(b"host", 200)?;
    let mut seen = [0; 4];
    mapping.read(200, &mut seen);
    ensure!(seen == *b"host", "the mapping shows {seen:?}");
    file.read_exact_at(&mut seen, 200)?;
    ensure!(seen == *b"host", "read(2) shows {seen:?}");
    let after = Counts::of(&mut mount)?;
    let relayed = after.of_operations(&DATA) - before.of_operations(&DATA);
    // An overlay that has not copied a file up yet shows another inode afterwards.
    ensure!(relayed <= 2, "{relayed} requests for data");
    ensure!(after.report.file_system.backing_files > 0);
    drop((mapping, file, appending));
    mount.close()
}

fn relayed() -> Result<()> {
    let mut mount = through(Kind::Ext4, &["data=relay"]).or_else(|error| {
        // That option is what this is about.
        if error.downcast_ref::<Skip>().is_none() || peer() != Peer::Cntr {
            return Err(error);
        }
        Mount::new(Kind::Ext4, &["data=relay"])
    })?;
    fs::write(mount.at("file"), "text")?;
    ensure!(fs::read(mount.host("file"))? == b"text");
    let counts = Counts::of(&mut mount)?;
    ensure!(counts.of_operations(&["WRITE"]) > 0);
    ensure!(counts.report.file_system.backing_files == 0);
    mount.close()
}

fn pseudo() -> Result<()> {
    let mut mount = through(Kind::Ext4, &[])?;
    fs::create_dir(mount.host("proc"))?;
    mount_bind("/proc", mount.host("proc"))?;
    let check = || -> Result<()> {
        // Its size is 0, and it is made up when it is read.
        let text = fs::read_to_string(mount.at("proc/sys/kernel/random/uuid"))?;
        let again = fs::read_to_string(mount.at("proc/sys/kernel/random/uuid"))?;
        ensure!(text.len() == 37 && again.len() == 37, "{text:?}, {again:?}");
        ensure!(text != again, "cached: {text:?}");
        Ok(())
    };
    let result = check();
    let counts = Counts::of(&mut mount)?;
    rustix::mount::unmount(mount.host("proc"), rustix::mount::UnmountFlags::DETACH)?;
    result?;
    ensure!(counts.of_operations(&["READ"]) > 0);
    ensure!(counts.report.file_system.backing_files == 0);
    mount.close()
}

/// An overlay of an overlay is as high as file systems may be stacked: FUSE cannot come on top.
fn stacked() -> Result<()> {
    let mut mount = through(Kind::Tmpfs, &[])?;
    let host = mount.source().to_owned();
    for name in ["lower", "middle", "upper", "work", "one", "two"] {
        fs::create_dir(host.join(name))?;
    }
    fs::write(host.join("lower/file"), "text")?;
    let overlay = |lower: &Path, second: &Path, at: &Path| {
        let options = format!("lowerdir={}:{}", lower.display(), second.display());
        let options = std::ffi::CString::new(options).expect("no zero byte in it");
        mount_overlay(at, &options)
    };
    let mounted = overlay(&host.join("lower"), &host.join("middle"), &host.join("one"))
        .and_then(|()| overlay(&host.join("one"), &host.join("upper"), &host.join("two")));
    if let Err(error) = mounted {
        let _ = rustix::mount::unmount(host.join("one"), rustix::mount::UnmountFlags::DETACH);
        mount.close()?;
        return Err(Skip::new(format!("cannot mount overlay: {error}")).into());
    }
    let text = fs::read(mount.at("two/file"));
    let one = fs::read(mount.at("one/file"));
    let counts = Counts::of(&mut mount)?;
    for name in ["two", "one"] {
        rustix::mount::unmount(host.join(name), rustix::mount::UnmountFlags::DETACH)?;
    }
    ensure!(text? == b"text" && one? == b"text");
    // The lower overlay is not too high.
    ensure!(
        counts.report.file_system.backing_files == 1 && counts.of_operations(&["READ"]) > 0,
        "{:?}, {:?}",
        counts.report.file_system,
        counts.requests
    );
    mount.close()
}

fn mount_overlay(at: &Path, options: &std::ffi::CStr) -> rustix::io::Result<()> {
    mount("overlay", at, "overlay", MountFlags::empty(), Some(options))
}

fn set_id() -> Result<()> {
    let mut mount = through(Kind::Ext4, &[])?;
    fs::write(mount.host("program"), "old")?;
    fs::set_permissions(mount.host("program"), fs::Permissions::from_mode(0o6755))?;
    // Root may write to it without the bits going away.
    fs::write(mount.at("program"), "new")?;
    ensure!(fs::read(mount.host("program"))? == b"new");
    let mode = fs::metadata(mount.host("program"))?.mode();
    ensure!(mode & 0o7777 == 0o6755, "{mode:o}");
    // A file that gets them is relayed from the next open on that meets nobody else.
    fs::write(mount.at("other"), "old")?;
    let through = Counts::of(&mut mount)?.of_operations(&["WRITE"]);
    let kept = wait::until(wait::LONG, || {
        let path = mount.at("other");
        let written = fs::set_permissions(&path, fs::Permissions::from_mode(0o4755))
            .and_then(|()| fs::write(&path, "new"))
            .and_then(|()| fs::metadata(&path));
        written.is_ok_and(|after| after.mode() & 0o7777 == 0o4755)
    });
    ensure!(kept, "root's write clears the bits");
    ensure!(Counts::of(&mut mount)?.of_operations(&["WRITE"]) > through);
    mount.close()
}

fn idle() -> Result<()> {
    let mut mount = through(Kind::Ext4, &[])?;
    for index in 0..50 {
        fs::write(mount.at(format!("file-{index}")), "text")?;
    }
    let held = File::open(mount.at("file-7"))?;
    let counts = Counts::of(&mut mount)?;
    ensure!(
        counts.report.file_system.backing_files >= 40,
        "{:?}",
        counts.report.file_system
    );
    // Housekeeping comes by every few seconds, less often when there is nothing to do.
    let gone = wait::until(Duration::from_secs(60), || {
        let _ = fs::metadata(mount.path());
        Counts::of(&mut mount).is_ok_and(|counts| counts.report.file_system.backing_files <= 1)
    });
    ensure!(gone, "{:?}", Counts::of(&mut mount)?.report.file_system);
    // What is open works on, and what is not can be opened again.
    let mut text = [0; 4];
    held.read_exact_at(&mut text, 0)?;
    ensure!(text == *b"text");
    for _ in 0..2 {
        ensure!(fs::read(mount.at("file-8"))? == b"text");
    }
    drop(held);
    mount.close()
}

/// Nothing keeps a deleted file that nobody has open.
fn deleted() -> Result<()> {
    let mount = through(Kind::Ext4, &[])?;
    let free = |mount: &Mount| rustix::fs::statvfs(mount.source()).map(|seen| seen.f_bfree);
    let data = vec![1_u8; 8 << 20];
    fs::write(mount.at("large"), &data)?;
    File::open(mount.at("large"))?.sync_all()?;
    let before = free(&mount)?;
    fs::remove_file(mount.at("large"))?;
    let blocks = (data.len() / 4096) as u64 / 2;
    let freed = wait::until(wait::LONG, || {
        free(&mount).is_ok_and(|now| now >= before + blocks)
    });
    ensure!(freed, "{before} free blocks before, {} now", free(&mount)?);
    mount.close()
}

/// The kernel would say EIO if it could not open the host's file for writing.
fn refused() -> Result<()> {
    let mount = through(Kind::Ext4, &[])?;
    let write = |name: &str| {
        let opened = OpenOptions::new().write(true).open(mount.at(name));
        opened.map(drop).map_err(|error| error.raw_os_error())
    };
    let program = tool::find("busybox").context("busybox is needed")?;
    fs::copy(program, mount.host("busybox"))?;
    let mut sleeping = Command::new(mount.host("busybox"))
        .args(["sleep", "600"])
        .spawn();
    // A process that another test starts may still have the copy open for writing.
    for _ in 0..100 {
        match &sleeping {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                std::thread::sleep(Duration::from_millis(20));
                sleeping = Command::new(mount.host("busybox"))
                    .args(["sleep", "600"])
                    .spawn();
            }
            _ => break,
        }
    }
    let mut sleeping = sleeping?;
    let busy = write("busybox");
    sleeping.kill()?;
    sleeping.wait()?;
    ensure!(busy == Err(Some(libc::ETXTBSY)), "running: {busy:?}");
    fs::write(mount.host("immutable"), "text")?;
    fs::write(mount.host("appended"), "text")?;
    for (name, flag) in [
        ("immutable", IFlags::IMMUTABLE),
        ("appended", IFlags::APPEND),
    ] {
        let file = File::open(mount.host(name))?;
        let flags = ioctl_getflags(&file)?;
        ioctl_setflags(&file, flags | flag)?;
        let result = write(name);
        let read = fs::read(mount.at(name));
        let appended = OpenOptions::new().append(true).open(mount.at(name));
        ioctl_setflags(&file, flags)?;
        ensure!(result == Err(Some(libc::EPERM)), "{name}: {result:?}");
        ensure!(read? == b"text");
        ensure!(appended.is_ok() == (name == "appended"));
    }
    fs::create_dir(mount.host("readonly"))?;
    fs::write(mount.host("readonly/file"), "text")?;
    mount_bind(mount.host("readonly"), mount.host("readonly"))?;
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    let result = mount_remount(mount.host("readonly"), flags, "")
        .map(|()| (write("readonly/file"), fs::read(mount.at("readonly/file"))));
    rustix::mount::unmount(mount.host("readonly"), rustix::mount::UnmountFlags::DETACH)?;
    let (result, read) = result?;
    ensure!(result == Err(Some(libc::EROFS)), "read-only: {result:?}");
    ensure!(read? == b"text");
    mount.close()
}

fn access_times() -> Result<()> {
    for (options, changes) in [(&["noatime"][..], false), (&[], true)] {
        let mount = through(Kind::Ext4, options)?;
        fs::write(mount.host("file"), "text")?;
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = File::open(mount.host("file"))?;
        file.set_times(fs::FileTimes::new().set_accessed(long_ago))?;
        ensure!(fs::read(mount.at("file"))? == b"text");
        let after = fs::metadata(mount.host("file"))?.accessed()?;
        ensure!(
            (after != long_ago) == changes,
            "{options:?}: {after:?} on the host"
        );
        mount.close()?;
    }
    Ok(())
}

/// The server never hears of a write to a mapping; the host's file system does.
fn mapped_times() -> Result<()> {
    let mount = through(Kind::Ext4, &[])?;
    let path = mount.at("file");
    fs::write(&path, vec![0; 8192])?;
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.set_times(fs::FileTimes::new().set_modified(long_ago))?;
    ensure!(fs::metadata(&path)?.modified()? == long_ago);
    let mut mapping = Mapping::shared(file.as_fd(), 0, 8192, true)?;
    mapping.write(5000, b"mapped");
    mapping.sync()?;
    for read in [
        |_: &File, path: &Path| fs::metadata(path),
        |file: &File, _: &Path| file.metadata(),
    ] {
        let changed = wait::until(Duration::from_secs(5), || {
            read(&file, &path).is_ok_and(|seen| seen.modified().ok() > Some(long_ago))
        });
        ensure!(changed, "the time of the last change stays");
    }
    drop((mapping, file));
    mount.close()
}
