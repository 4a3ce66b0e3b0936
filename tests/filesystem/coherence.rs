//! What the host changes behind the mount's back is seen soon, and nothing is asked again without a change.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::XattrFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, unmount};

use crate::support::backing::{Kind, unlink};
use crate::support::counts::Counts;
use crate::support::kernel;
use crate::support::mount::Mount;
use crate::support::parameter::Uring;
use crate::support::runner::Suite;
use crate::support::server::{Peer, peer};
use crate::support::{rootless, runner::Skip, wait};

/// No change may take longer to be seen, on a machine under any load.
const LIMIT: Duration = Duration::from_secs(5);

pub fn add(suite: &mut Suite) {
    for kind in [
        Kind::Ext4,
        Kind::Tmpfs,
        Kind::Xfs,
        Kind::Btrfs,
        Kind::Overlay,
    ] {
        suite.test(format!("host_changes_are_seen_{kind}"), move || {
            changes(kind)
        });
    }
    suite.test("half_of_all_changes_are_seen_within_50_ms", staleness);
    suite.test("nothing_is_asked_again_without_a_change", || {
        asked_again(Kind::Ext4, true)
    });
    suite.test("an_overlay_is_asked_again_after_a_second", || {
        asked_again(Kind::Overlay, false)
    });
    suite.test(
        "changes_through_a_bind_mount_are_seen_at_the_other",
        bind_mount,
    );
    suite.test("a_mount_made_or_removed_below_is_seen", mounted_below);
    suite.test("links_of_proc_are_not_kept", links_of_proc);
    suite.test("listings_of_proc_are_not_kept", listings_of_proc);
    suite.test("walking_again_asks_for_nothing", walking_again);
    suite.test("a_deleted_file_gives_its_space_back", deleted);
    suite.test("heavy_writers_are_not_listened_to", heavy_writer);
    suite.test("a_file_that_the_kernel_knows_is_told_of_once", told_once);
    suite.test("inodes_to_forget_are_gathered", gathered);
}

/// A mount that has listened for a moment: what was asked before that is not kept for long.
pub fn mount_of(kind: Kind) -> Result<Mount> {
    if peer() == Peer::Bindfs {
        return Err(Skip::new("bindfs caches for a second").into());
    }
    Mount::new(kind, &["cache=coherent"])
}

/// Waits until `condition` holds; how long that took.
fn seen(what: &str, mut condition: impl FnMut() -> bool) -> Result<Duration> {
    let start = Instant::now();
    while !condition() {
        ensure!(start.elapsed() < LIMIT, "not seen within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(start.elapsed())
}

struct Pair {
    host: PathBuf,
    view: PathBuf,
    took: Vec<(&'static str, Duration)>,
}

impl Pair {
    /// Has the kernel cache everything about `name`.
    fn warm(&self, name: &str) -> PathBuf {
        let path = self.view.join(name);
        for _ in 0..2 {
            let _ = fs::symlink_metadata(&path);
            let _ = fs::read(&path);
            let _ = fs::read_link(&path);
            let _ = fs::read_dir(&self.view).map(Iterator::count);
        }
        path
    }

    fn seen(&mut self, what: &'static str, condition: impl FnMut() -> bool) -> Result<()> {
        self.took.push((what, seen(what, condition)?));
        Ok(())
    }

    fn all(&mut self, round: u32) -> Result<()> {
        let (name, other) = (format!("file-{round}"), format!("other-{round}"));
        let on_host = self.host.join(&name);
        let stat = |path: &Path| fs::symlink_metadata(path).ok();
        let lists = |directory: &Path, name: &str| {
            fs::read_dir(directory).is_ok_and(|mut all| {
                all.any(|entry| entry.is_ok_and(|entry| entry.file_name() == *name))
            })
        };

        let path = self.warm(&name);
        ensure!(!path.exists(), "{name} exists before it was made");
        fs::write(&on_host, "one")?;
        self.seen("a name that was not there", || path.exists())?;
        let view = self.view.clone();
        self.seen("a new name in the listing", || lists(&view, &name))?;
        self.seen("its contents", || {
            fs::read(&path).is_ok_and(|text| text == b"one")
        })?;

        self.warm(&name);
        fs::write(&on_host, "two")?;
        self.seen("contents", || {
            fs::read(&path).is_ok_and(|text| text == b"two")
        })?;
        self.warm(&name);
        File::options()
            .append(true)
            .open(&on_host)?
            .write_all(b" and more")?;
        self.seen("size", || stat(&path).is_some_and(|stat| stat.len() == 12))?;
        let open = File::open(&path)?;
        let mut buffer = [0; 20];
        let _ = std::os::unix::fs::FileExt::read_at(&open, &mut buffer, 0);
        fs::write(&on_host, "three")?;
        self.seen("contents of an open file", || {
            std::os::unix::fs::FileExt::read_at(&open, &mut buffer, 0)
                .is_ok_and(|len| &buffer[..len] == b"three")
        })?;
        drop(open);
        self.warm(&name);
        File::options().write(true).open(&on_host)?.set_len(1)?;
        self.seen("a truncation", || {
            fs::read(&path).is_ok_and(|text| text == b"t")
        })?;

        self.warm(&name);
        fs::set_permissions(&on_host, fs::Permissions::from_mode(0o640))?;
        self.seen("chmod", || {
            stat(&path).is_some_and(|stat| stat.mode() & 0o777 == 0o640)
        })?;
        self.warm(&name);
        chown(&on_host, Some(12), Some(34))?;
        self.seen("chown", || {
            stat(&path).is_some_and(|stat| (stat.uid(), stat.gid()) == (12, 34))
        })?;
        self.warm(&name);
        match rustix::fs::setxattr(&on_host, "user.seen", &[1], XattrFlags::empty()) {
            // A tmpfs has no such attributes before Linux 6.6.
            Err(rustix::io::Errno::OPNOTSUPP) if !kernel::is_at_least(6, 6) => (),
            result => {
                result?;
                let changed = stat(&on_host).context("the file is gone")?;
                let time = |stat: &fs::Metadata| (stat.ctime(), stat.ctime_nsec());
                self.seen("setxattr", || {
                    stat(&path).is_some_and(|stat| time(&stat) == time(&changed))
                })?;
            }
        }

        self.warm(&name);
        self.warm(&other);
        fs::hard_link(&on_host, self.host.join(&other))?;
        self.seen("the number of links", || {
            stat(&path).is_some_and(|stat| stat.nlink() == 2)
        })?;
        let path_other = self.view.join(&other);
        self.seen("the name of a link", || {
            stat(&path_other).is_some_and(|stat| stat.nlink() == 2)
        })?;
        self.warm(&other);
        fs::remove_file(self.host.join(&other))?;
        self.seen("a deletion", || stat(&path_other).is_none())?;
        self.seen("a deletion in the listing", || !lists(&view, &other))?;
        self.seen("the number of links", || {
            stat(&path).is_some_and(|stat| stat.nlink() == 1)
        })?;

        self.warm(&other);
        fs::rename(&on_host, self.host.join(&other))?;
        self.seen("the old name", || stat(&path).is_none())?;
        self.seen("the new name", || stat(&path_other).is_some())?;
        self.warm(&other);
        fs::write(self.host.join("new"), "replaced")?;
        fs::rename(self.host.join("new"), self.host.join(&other))?;
        self.seen("a replaced file", || {
            fs::read(&path_other).is_ok_and(|text| text == b"replaced")
        })?;

        let link = format!("link-{round}");
        symlink("first", self.host.join(&link))?;
        let path = self.warm(&link);
        self.seen("a link", || {
            fs::read_link(&path).is_ok_and(|to| to == Path::new("first"))
        })?;
        unlink(&self.host.join(&link))?;
        symlink("second", self.host.join(&link))?;
        self.seen("a replaced link", || {
            fs::read_link(&path).is_ok_and(|to| to == Path::new("second"))
        })?;

        let directory = format!("directory-{round}");
        let path = self.warm(&directory);
        fs::create_dir(self.host.join(&directory))?;
        self.seen("a directory", || path.is_dir())?;
        let _ = fs::read_dir(&path)?.count();
        fs::write(self.host.join(&directory).join("in"), "")?;
        self.seen("a file in an empty directory", || lists(&path, "in"))?;
        fs::remove_dir_all(self.host.join(&directory))?;
        self.seen("a removed directory", || stat(&path).is_none())
    }
}

fn changes(kind: Kind) -> Result<()> {
    let mount = mount_of(kind)?;
    let mut pair = Pair {
        host: mount.source().to_owned(),
        view: mount.path().to_owned(),
        took: Vec::new(),
    };
    // Each change takes a second to be seen there.
    let rounds = if rootless::is_inside() { 1 } else { 3 };
    for round in 0..rounds {
        pair.all(round)?;
    }
    let Some((what, slowest)) = pair.took.iter().max_by_key(|(_, took)| *took) else {
        return mount.close();
    };
    println!(
        "{kind}: {} changes, the slowest: {what} after {slowest:?}",
        pair.took.len()
    );
    mount.close()
}

fn staleness() -> Result<()> {
    rootless::need("fanotify")?;
    let mount = mount_of(Kind::Ext4)?;
    fs::write(mount.host("file"), "")?;
    let (host, view) = (mount.host("file"), mount.at("file"));
    let mut took = Vec::new();
    for number in 0..300_u32 {
        let mode = 0o600 | number & 0o77;
        // Changes come in all phases of the server's rounds.
        std::thread::sleep(Duration::from_millis(u64::from(number % 23)));
        let other = mode ^ 1;
        fs::set_permissions(&host, fs::Permissions::from_mode(other))?;
        seen("chmod", || {
            fs::metadata(&view).is_ok_and(|stat| stat.mode() & 0o777 == other)
        })?;
        fs::set_permissions(&host, fs::Permissions::from_mode(mode))?;
        took.push(seen("chmod", || {
            fs::metadata(&view).is_ok_and(|stat| stat.mode() & 0o777 == mode)
        })?);
    }
    took.sort();
    let quantile = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!(
        "staleness: median {:?}, 90% {:?}, 99% {:?}",
        quantile(50),
        quantile(90),
        quantile(99)
    );
    ensure!(
        quantile(50) < Duration::from_millis(50),
        "median {:?}",
        quantile(50)
    );
    mount.close()
}

/// Requests the server has answered, without those that only let go of something.
pub fn requests(mount: &Mount) -> Result<u64> {
    let output = Command::new(rootless::binary())
        .args(["stat", "--json"])
        .arg(mount.path())
        .output()?;
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cntr stat prints no JSON")?;
    let report = report.get(0).unwrap_or(&report);
    let operations = report["operations"]
        .as_array()
        .context("there are no operations")?;
    let counted = operations.iter().filter(|one| {
        !matches!(
            one["operation"].as_str(),
            Some("FORGET" | "BATCH_FORGET" | "INTERRUPT")
        )
    });
    Ok(counted.filter_map(|one| one["requests"].as_u64()).sum())
}

fn asked_again(kind: Kind, covered: bool) -> Result<()> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("requests are counted by cntr").into());
    }
    if covered {
        rootless::need("fanotify")?;
    }
    let mount = mount_of(kind)?;
    fs::create_dir(mount.host("directory"))?;
    fs::write(mount.host("directory/file"), "text")?;
    symlink("directory/file", mount.host("link"))?;
    // What these events are about is not kept before they are over.
    let look = || -> Result<()> {
        ensure!(fs::metadata(mount.at("directory/file"))?.len() == 4);
        ensure!(fs::metadata(mount.at("link"))?.len() == 4);
        ensure!(fs::metadata(mount.at("directory/none")).is_err());
        Ok(())
    };
    let still = || -> Result<u64> {
        let before = requests(&mount)?;
        for _ in 0..1000 {
            look()?;
        }
        Ok(requests(&mount)? - before)
    };
    if covered {
        // Other tests change files of the same file system, which only costs answers that were just on their way.
        let mut counts = Vec::new();
        let flat = wait::until(wait::LONG, || {
            counts.push(still().unwrap_or(u64::MAX));
            counts.last().is_some_and(|count| *count == 0)
        });
        ensure!(flat, "1000 looks took {counts:?} requests");
        // What was asked in the first moments of the mount is asked once more.
        let flat = wait::until(wait::LONG, || {
            std::thread::sleep(Duration::from_millis(1200));
            counts.push(still().unwrap_or(u64::MAX));
            counts.last().is_some_and(|count| *count == 0)
        });
        ensure!(flat, "after a while, 1000 looks took {counts:?} requests");
    } else {
        look()?;
        let before = requests(&mount)?;
        std::thread::sleep(Duration::from_millis(1500));
        look()?;
        let after = requests(&mount)?;
        ensure!(after > before, "nothing was asked after more than a second");
    }
    mount.close()
}

fn bind_mount() -> Result<()> {
    let mount = mount_of(Kind::Ext4)?;
    for name in ["one", "two"] {
        fs::create_dir(mount.host(name))?;
    }
    fs::write(mount.host("one/file"), "")?;
    mount_bind(mount.host("one"), mount.host("two"))?;
    let result: Result<()> = (|| {
        for number in 0..20 {
            let other = mount.at("two/file");
            for _ in 0..3 {
                let _ = fs::read(&other);
                let _ = fs::read_dir(mount.at("two"))?.count();
                std::thread::sleep(Duration::from_millis(5));
            }
            // Through the mount: the server makes this change itself, and only one of the two names is the caller's.
            let text = format!("text {number}");
            fs::write(mount.at("one/file"), &text)?;
            seen("contents below the other name", || {
                fs::read_to_string(&other).is_ok_and(|got| got == text)
            })?;
            let made = format!("made-{number}");
            fs::write(mount.at("one").join(&made), "")?;
            seen("a listing below the other name", || {
                fs::read_dir(mount.at("two")).is_ok_and(|all| all.count() == number + 2)
            })?;
            ensure!(fs::metadata(mount.at("two").join(&made)).is_ok());
        }
        Ok(())
    })();
    unmount(mount.host("two"), UnmountFlags::DETACH)?;
    result?;
    mount.close()
}

fn mounted_below() -> Result<()> {
    let served = mount_of(Kind::Ext4)?;
    fs::create_dir(served.host("point"))?;
    fs::write(served.host("point/below"), "")?;
    for round in 0..3 {
        for _ in 0..3 {
            ensure!(served.at("point/below").exists());
            ensure!(!served.at("point/above").exists());
            std::thread::sleep(Duration::from_millis(5));
        }
        mount(
            "tmpfs",
            served.host("point"),
            "tmpfs",
            MountFlags::empty(),
            None,
        )?;
        fs::write(served.host("point/above"), "")?;
        let appeared = seen("a mount", || served.at("point/above").exists());
        let hidden = !served.at("point/below").exists();
        unmount(served.host("point"), UnmountFlags::DETACH)?;
        appeared?;
        ensure!(
            hidden,
            "round {round}: what is below the mount is still seen"
        );
        seen("an unmount", || served.at("point/below").exists())?;
    }
    served.close()
}

fn links_of_proc() -> Result<()> {
    let served = mount_of(Kind::Ext4)?;
    fs::create_dir(served.host("proc"))?;
    mount_bind_recursive("/proc", served.host("proc"))?;
    let file = |name: &str| File::create(served.host(name));
    let (first, second) = (file("first")?, file("second")?);
    // The link of a descriptor leads elsewhere when that is used for another file.
    let slot = rustix::io::dup(&first)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&slot);
    let link = served.at(format!("proc/{}/fd/{number}", std::process::id()));
    let result: Result<()> = (|| {
        let mut slot = slot;
        for round in 0..50 {
            let (file, name) = if round % 2 == 0 {
                (&second, "second")
            } else {
                (&first, "first")
            };
            fs::read_link(&link)?;
            rustix::io::dup2(file, &mut slot)?;
            seen("the target of a link in proc", || {
                fs::read_link(&link).is_ok_and(|target| target.ends_with(name))
            })?;
        }
        Ok(())
    })();
    unmount(served.host("proc"), UnmountFlags::DETACH)?;
    result?;
    served.close()
}

fn listings_of_proc() -> Result<()> {
    let served = mount_of(Kind::Ext4)?;
    fs::create_dir(served.host("proc"))?;
    mount_bind_recursive("/proc", served.host("proc"))?;
    // The time of the directory's last change never changes, whatever is opened.
    let view = served.at(format!("proc/{}/fd", std::process::id()));
    let held = File::open(served.host("proc"))?;
    let result: Result<()> = (|| {
        for _ in 0..50 {
            // A high number: reading the directory needs a descriptor, too, which gets the lowest one.
            let file = rustix::io::fcntl_dupfd_cloexec(&held, 700)?;
            let number = std::os::fd::AsRawFd::as_raw_fd(&file).to_string();
            let is_listed = || {
                fs::read_dir(&view).is_ok_and(|list| {
                    list.flatten()
                        .any(|entry| *entry.file_name() == *number.as_str())
                })
            };
            seen("a new descriptor in proc", is_listed)?;
            // Another test may have got the number meanwhile, but not for long.
            drop(file);
            seen("a closed descriptor in proc", || !is_listed())?;
        }
        Ok(())
    })();
    drop(held);
    unmount(served.host("proc"), UnmountFlags::DETACH)?;
    result?;
    served.close()
}

/// Walks the tree at `path` as find(1) does.
fn walk(path: &Path) -> std::io::Result<usize> {
    let mut count = 1;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        entry.metadata()?;
        if entry.file_type()?.is_dir() {
            count += walk(&entry.path())?;
        } else {
            count += 1;
        }
    }
    Ok(count)
}

fn walking_again() -> Result<()> {
    rootless::need("fanotify")?;
    if peer() != Peer::Cntr {
        return Err(Skip::new("requests are counted by cntr").into());
    }
    let mount = mount_of(Kind::Ext4)?;
    for directory in 0..20 {
        let path = mount.host(format!("tree/{directory}"));
        fs::create_dir_all(&path)?;
        (0..100).try_for_each(|file| fs::write(path.join(format!("file-{file}")), "text"))?;
    }
    let walk = || walk(&mount.at("tree")).context("walking");
    // Other tests change files of the same file system, which only costs answers that were just on their way.
    let mut counts = Vec::new();
    let flat = wait::until(wait::LONG, || {
        let before = requests(&mount).unwrap_or(u64::MAX);
        let walked = walk().is_ok_and(|count| count == 2021);
        counts.push(requests(&mount).unwrap_or(0).wrapping_sub(before));
        walked && counts.last() == Some(&0)
    });
    ensure!(flat, "walks took {counts:?} requests");
    // What the host changes is in the next listing.
    for round in 0..20 {
        let (made, gone) = (format!("tree/{round}/made"), format!("tree/{round}/file-7"));
        fs::write(mount.host(&made), "")?;
        fs::remove_file(mount.host(&gone))?;
        seen("a new and a removed name in a listing", || {
            let list = fs::read_dir(mount.at(format!("tree/{round}")));
            let names: Vec<_> = list.map_or_else(
                |_| Vec::new(),
                |list| list.flatten().map(|entry| entry.file_name()).collect(),
            );
            names.iter().any(|name| name == "made") && names.iter().all(|name| name != "file-7")
        })?;
    }
    ensure!(walk()? == 2021);
    mount.close()
}

fn deleted() -> Result<()> {
    if !kernel::is_at_least(6, 18) {
        return Err(
            Skip::new("what the host deletes before it is watched needs Linux 6.18").into(),
        );
    }
    let mount = mount_of(Kind::Tmpfs)?;
    let free = || rustix::fs::statvfs(mount.source()).map(|stat| stat.f_bfree * stat.f_frsize);
    fs::write(mount.host("large"), vec![1; 64 << 20])?;
    ensure!(fs::metadata(mount.at("large"))?.len() == 64 << 20);
    let before = free()?;
    fs::remove_file(mount.host("large"))?;
    let back = wait::until(wait::LONG, || {
        free().is_ok_and(|free| free >= before + (60 << 20))
    });
    ensure!(back, "the space of a deleted file is not given back");
    mount.close()
}

/// Each write makes an event, which costs as much as a small write itself: not if the kernel writes by itself, again and
/// again. Afterwards what the host writes is seen as before.
fn heavy_writer() -> Result<()> {
    rootless::need("fanotify")?;
    if peer() != Peer::Cntr {
        return Err(Skip::new("is about this server").into());
    }
    let mut mount = Mount::new(Kind::Ext4, &["cache=coherent", "data=auto"])?;
    let report = Counts::of(&mut mount)?.report;
    let watched = wait::until(Duration::from_secs(2), || {
        let _ = fs::read_dir(mount.path());
        Counts::of(&mut mount).is_ok_and(|counts| counts.report.file_system.covered_mounts > 0)
    });
    if !watched || !report.capabilities.iter().any(|name| name == "PASSTHROUGH") {
        mount.close()?;
        return Err(Skip::new("needs fanotify and FUSE passthrough (Linux 6.9)").into());
    }
    let server = mount.server().context("there is a server")?.pid();
    let file = File::create(mount.at("file"))?;
    let inode = fs::metadata(mount.host("file"))?.ino();
    let mut written = 0;
    let muted = wait::until(wait::LONG, || {
        written += 1;
        file.write_all_at(b"written", written * 7).is_ok() && ignores_writes(server, inode)
    });
    ensure!(muted, "each of {written} writes is told");
    // What is known of the file lives for a moment only.
    let size = fs::metadata(mount.host("file"))?.len() + 5;
    append(&mount.host("file"), b"other")?;
    seen("what the host appends meanwhile", || {
        fs::metadata(mount.at("file")).is_ok_and(|now| now.len() == size)
    })?;
    drop(file);
    let heard = wait::until(wait::LONG, || !ignores_writes(server, inode));
    ensure!(heard, "writes are not told after the last writer has gone");
    append(&mount.host("file"), b"again")?;
    seen("what the host appends afterwards", || {
        fs::metadata(mount.at("file")).is_ok_and(|now| now.len() == size + 5)
    })?;
    mount.close()
}

/// Only of what the kernel may not have known yet it is told a second time.
fn told_once() -> Result<()> {
    rootless::need("fanotify")?;
    if peer() != Peer::Cntr {
        return Err(Skip::new("is about this server").into());
    }
    let mut mount = Mount::new(Kind::Tmpfs, &["cache=coherent"])?;
    let told = |mount: &mut Mount| -> Result<u64> {
        let told = Counts::of(mount)?.report.notifications;
        Ok(told.context("notifications are counted")?.inodes)
    };
    let watched = wait::until(wait::LONG, || {
        let _ = fs::read_dir(mount.path());
        Counts::of(&mut mount).is_ok_and(|counts| counts.report.file_system.covered_mounts > 0)
    });
    if !watched {
        mount.close()?;
        return Err(Skip::new("needs fanotify").into());
    }
    if !kernel::is_at_least(6, 14) {
        mount.close()?;
        return Err(
            Skip::new("that the kernel counts the inodes it drops needs Linux 6.14").into(),
        );
    }
    fs::write(mount.host("file"), "")?;
    fs::metadata(mount.at("file"))?;
    append(&mount.host("file"), b"text")?;
    seen("what the host appends", || {
        fs::metadata(mount.at("file")).is_ok_and(|now| now.len() == 4)
    })?;
    // What has happened before may be told again until a second has passed.
    std::thread::sleep(Duration::from_millis(1500));
    fs::metadata(mount.at("file"))?;
    let before = told(&mut mount)?;
    append(&mount.host("file"), b"text")?;
    seen("what the host appends", || {
        fs::metadata(mount.at("file")).is_ok_and(|now| now.len() == 8)
    })?;
    std::thread::sleep(Duration::from_millis(300));
    let now = told(&mut mount)?;
    ensure!(now > before, "nothing was told");
    std::thread::sleep(Duration::from_millis(1200));
    let later = told(&mut mount)?;
    ensure!(later == now, "told {} more times later", later - now);
    mount.close()
}

/// Where only FORGET and INTERRUPT come from `/dev/fuse`, the kernel gathers inodes to forget.
fn gathered() -> Result<()> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("requests are counted by cntr").into());
    }
    if !Uring::is_enabled() {
        return Err(Skip::new("this kernel has no FUSE over io_uring").into());
    }
    let mut mount = Mount::new(Kind::Tmpfs, &["transport=uring"])?;
    const FILES: u64 = 1000;
    let mut asked = Vec::new();
    let few = wait::until(wait::LONG, || {
        asked.push(requests_to_forget(&mut mount, FILES));
        // A machine that is busy with other tests removes few files in the time they are gathered.
        matches!(asked.last(), Some(Ok(count)) if *count < FILES * 3 / 4)
    });
    ensure!(few, "{FILES} files were forgotten in {asked:?} requests");
    mount.close()
}

/// Makes and removes `files`; how many requests tell the server to forget them.
fn requests_to_forget(mount: &mut Mount, files: u64) -> Result<u64> {
    let forgets = |mount: &mut Mount| -> Result<u64> {
        Ok(Counts::of(mount)?.of_operations(&["FORGET", "BATCH_FORGET"]))
    };
    let paths: Vec<_> = (0..files)
        .map(|file| mount.at(format!("file-{file}")))
        .collect();
    paths
        .iter()
        .try_for_each(|path| File::create(path).map(drop))?;
    let before = forgets(mount)?;
    paths.iter().try_for_each(fs::remove_file)?;
    let gone = wait::until(wait::LONG, || {
        Counts::of(mount).is_ok_and(|counts| counts.report.file_system.inodes < files / 10)
    });
    ensure!(gone, "removed files are not forgotten");
    Ok(forgets(mount)? - before)
}

fn append(path: &Path, text: &[u8]) -> Result<()> {
    let mut file = File::options().append(true).open(path)?;
    Ok(file.write_all(text)?)
}

/// Whether a fanotify group of `server` ignores what is written to `inode`.
fn ignores_writes(server: u32, inode: u64) -> bool {
    let Ok(all) = fs::read_dir(format!("/proc/{server}/fdinfo")) else {
        return false;
    };
    let mark = format!("fanotify ino:{inode:x} ");
    all.flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .any(|line| line.starts_with(&mark) && line.contains("ignored_mask:2"))
}
