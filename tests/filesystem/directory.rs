//! Listing, removing, mounts below the directory.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::backing::Kind;
use crate::support::kernel;
use crate::support::mount::Mount;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, peer};
use crate::support::wait;

pub fn add(suite: &mut Suite) {
    for kind in Kind::ALL {
        suite.test(format!("thousand_entries_{kind}"), move || {
            thousand_entries(kind)
        });
        suite.test(format!("remove_a_tree_{kind}"), move || remove_tree(kind));
    }
    suite.test("remove_while_listing", remove_while_listing);
    suite.test("dot_dot", dot_dot);
    suite.test("mounts_below_are_seen", mounts_below);
    suite.test("files_of_two_mounts_are_not_confused", two_file_systems);
    suite.test("host_unmounts_what_was_visited", unmount_on_host);
}

fn thousand_entries(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    fs::create_dir(mount.at("dir"))?;
    let names: BTreeSet<String> = (0..1000)
        .map(|i| format!("entry-{i}-{}", "x".repeat(i % 200)))
        .collect();
    for (index, name) in names.iter().enumerate() {
        let root = if index % 2 == 0 {
            mount.at("dir")
        } else {
            mount.host("dir")
        };
        File::create(root.join(name))?;
    }
    for round in 0..2 {
        let mut seen = BTreeSet::new();
        for entry in fs::read_dir(mount.at("dir"))? {
            let entry = entry?;
            let stat = entry.metadata()?;
            ensure!(
                std::os::unix::fs::DirEntryExt::ino(&entry) == stat.ino(),
                "{:?}",
                entry.file_name()
            );
            ensure!(entry.file_type()?.is_file());
            let name = entry.file_name().into_string().expect("names are ASCII");
            ensure!(seen.insert(name), "a name twice");
        }
        ensure!(
            seen == names,
            "round {round}: {} of {} names",
            seen.len(),
            names.len()
        );
    }
    mount.close()
}

fn remove_tree(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    for directory in 0..50 {
        let directory = mount.at(format!("tree/{directory}/deep/er"));
        fs::create_dir_all(&directory)?;
        for file in 0..100 {
            File::create(directory.join(format!("file-{file}")))?;
        }
    }
    fs::remove_dir_all(mount.at("tree")).context("rm -rf of 5,000 files")?;
    ensure!(!mount.host("tree").exists() && !mount.at("tree").exists());
    mount.close()
}

fn remove_while_listing() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    for name in 0..3000 {
        File::create(mount.host(format!("file-{name}")))?;
    }
    let mut count = 0;
    for entry in fs::read_dir(mount.path())? {
        fs::remove_file(entry?.path())?;
        count += 1;
    }
    ensure!(count == 3000, "{count} of 3000 were listed");
    ensure!(fs::read_dir(mount.source())?.count() == 0);
    mount.close()
}

fn dot_dot() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::create_dir_all(mount.at("a/b"))?;
    let ino = |path: std::path::PathBuf| fs::metadata(path).map(|stat| stat.ino());
    ensure!(ino(mount.at("a/b/.."))? == ino(mount.at("a"))?);
    // Moved: its parent is another one.
    fs::create_dir(mount.at("c"))?;
    fs::rename(mount.at("a/b"), mount.at("c/b"))?;
    ensure!(ino(mount.at("c/b/.."))? == ino(mount.host("c"))?);
    // Out of the view: the parent of the mount point, not that of the source.
    let above = mount.path().parent().expect("it is no root").to_owned();
    ensure!(ino(mount.at(".."))? == ino(above)?);
    mount.close()
}

/// Mounts a tmpfs that lives as long as the value.
struct Below<'a>(&'a Path);

impl<'a> Below<'a> {
    fn new(point: &'a Path) -> Result<Below<'a>> {
        fs::create_dir_all(point)?;
        mount(
            "below",
            point,
            "tmpfs",
            MountFlags::empty(),
            Some(c"size=16m,mode=755"),
        )
        .context("cannot mount tmpfs")?;
        Ok(Below(point))
    }
}

impl Drop for Below<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

fn mounts_below() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let point = mount.host("sub");
    let below = Below::new(&point)?;
    fs::write(point.join("file"), "below")?;
    // Mounted before the server started.
    let later = mount.again(&[])?;
    ensure!(fs::read(later.at("sub/file"))? == b"below");
    fs::write(later.at("sub/new"), "made in the view")?;
    ensure!(fs::read(point.join("new"))? == b"made in the view");
    let error = fs::rename(later.at("sub/new"), later.at("new")).expect_err("across file systems");
    ensure!(error.raw_os_error() == Some(libc::EXDEV), "{error}");
    let error = fs::remove_dir(later.at("sub")).expect_err("a mount point");
    ensure!(
        matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY)),
        "{error}"
    );
    later.close()?;
    // And while it runs. A bind mount is a private copy.
    if peer() != Peer::Bind {
        let seen = wait::until(Duration::from_secs(2), || {
            fs::read(mount.at("sub/file")).is_ok_and(|t| t == b"below")
        });
        ensure!(seen, "a mount made on the host is not seen within 2 s");
    }
    drop(below);
    mount.close()
}

fn two_file_systems() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let points = ["one", "two", "three"].map(|name| mount.host(name));
    let mut below = Vec::new();
    for point in &points {
        below.push(Below::new(point)?);
        for file in 0..20 {
            // On each tmpfs the same inode numbers.
            fs::write(
                point.join(format!("file-{file}")),
                format!("{} {file}", point.display()),
            )?;
        }
    }
    let view = mount.again(&[])?;
    let mut known = HashMap::new();
    for name in ["one", "two", "three"] {
        for file in 0..20 {
            let path = view.at(name).join(format!("file-{file}"));
            let stat = fs::metadata(&path)?;
            let text = fs::read_to_string(&path)?;
            ensure!(
                text == format!("{} {file}", mount.host(name).display()),
                "{} reads {text:?}",
                path.display()
            );
            if let Some(other) = known.insert((stat.dev(), stat.ino()), path.clone()) {
                anyhow::bail!(
                    "{} and {} have one st_dev and st_ino",
                    path.display(),
                    other.display()
                );
            }
        }
    }
    view.close()?;
    drop(below);
    mount.close()
}

fn unmount_on_host() -> Result<()> {
    if peer() == Peer::Bind {
        return Err(Skip::new("a bind mount pins what is mounted below").into());
    }
    let mount = Mount::new(Kind::Ext4, &[])?;
    let point = mount.host("sub");
    let below = Below::new(&point)?;
    for file in 0..100 {
        fs::write(point.join(format!("file-{file}")), "text")?;
    }
    for entry in fs::read_dir(mount.at("sub"))? {
        fs::read(entry?.path())?;
    }
    // The kernel forgets what is not in use, so must the server.
    let unmounted = wait::until(Duration::from_secs(10), || {
        kernel::drop_caches();
        unmount(&point, UnmountFlags::empty()).is_ok()
    });
    ensure!(
        unmounted,
        "the server pins a file system that was only visited"
    );
    std::mem::forget(below);
    ensure!(fs::read_dir(&point)?.count() == 0);
    let gone = wait::until(Duration::from_secs(2), || {
        fs::read_dir(mount.at("sub")).is_ok_and(|list| list.count() == 0)
    });
    ensure!(gone, "the view still shows what was unmounted");
    mount.close()
}
