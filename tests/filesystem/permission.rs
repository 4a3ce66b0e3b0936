//! Who may do what, and whom new files belong to.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, OFlags, XattrFlags};

use crate::support::backing::Kind;
use crate::support::counts::Counts;
use crate::support::kernel;
use crate::support::mount::Mount;
use crate::support::rootless;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, peer};
use crate::support::user::{ALICE, BOB, CAROL, ROOT, User};

pub fn add(suite: &mut Suite) {
    suite.test("new_files_belong_to_the_caller", owner);
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Tmpfs] {
        suite.test(format!("default_acl_overrides_umask_{kind}"), move || {
            default_acl(kind)
        });
        suite.test(format!("set_id_bits_are_cleared_{kind}"), move || {
            set_id_bits(kind)
        });
    }
    suite.test("set_group_id_directory", set_group_id_directory);
    suite.test("supplementary_groups_count", supplementary_groups);
    suite.test("access_is_refused", access);
    suite.test("access_by_acl", access_by_acl);
    suite.test("sticky_directory", sticky);
    suite.test("read_only_mount", read_only);
    suite.test("paths_of_ordinary_users_cost_nothing", ordinary_user);
}

/// The same work on the mount and on a plain directory must give the same.
fn same<T: PartialEq + Debug>(mount: &Mount, work: impl Fn(&Path) -> Result<T>) -> Result<T> {
    let expected = work(&mount.reference()).context("on the plain directory")?;
    let got = work(mount.path()).context("on the mount")?;
    ensure!(got == expected, "expected {expected:?}\n     got {got:?}");
    let host = work_names(mount)?;
    ensure!(host, "the mount and the host do not show the same");
    Ok(got)
}

/// Mode and owner of everything at the top are the host's.
fn work_names(mount: &Mount) -> Result<bool> {
    for entry in fs::read_dir(mount.source())? {
        let entry = entry?;
        let (host, view) = (
            entry.metadata()?,
            fs::symlink_metadata(mount.at(entry.file_name()))?,
        );
        if (host.mode(), host.uid(), host.gid()) != (view.mode(), view.uid(), view.gid()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open_to_all(root: &Path) -> Result<()> {
    fs::set_permissions(root, Permissions::from_mode(0o777))?;
    Ok(())
}

fn seen(path: &Path) -> Result<(u32, u32, u32)> {
    let stat = fs::symlink_metadata(path)?;
    Ok((stat.mode(), stat.uid(), stat.gid()))
}

fn owner() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let mut kinds = vec!["file", "dir", "link", "fifo", "node"];
    // O_TMPFILE on FUSE.
    if kernel::is_at_least(6, 1) {
        kinds.push("unnamed");
    }
    let modes = same(&mount, |root| {
        open_to_all(root)?;
        for user in [ALICE, BOB, CAROL] {
            let name = |what: &str| root.join(format!("{what}-{}", user.uid));
            user.run(|| -> Result<()> {
                File::create(name("file"))?;
                fs::create_dir(name("dir"))?;
                symlink("x", name("link"))?;
                rustix::fs::mknodat(
                    CWD,
                    name("fifo"),
                    FileType::Fifo,
                    Mode::from_raw_mode(0o666),
                    0,
                )?;
                rustix::fs::mknodat(
                    CWD,
                    name("node"),
                    FileType::RegularFile,
                    Mode::from_raw_mode(0o666),
                    0,
                )?;
                if kinds.contains(&"unnamed") {
                    let fd = rustix::fs::openat(
                        CWD,
                        root,
                        OFlags::TMPFILE | OFlags::WRONLY,
                        Mode::from_raw_mode(0o666),
                    )?;
                    // Before Linux 6.10 an ordinary user may not link a descriptor.
                    rustix::fs::linkat(
                        CWD,
                        format!("/proc/self/fd/{}", fd.as_raw_fd()),
                        CWD,
                        name("unnamed"),
                        rustix::fs::AtFlags::SYMLINK_FOLLOW,
                    )?;
                }
                Ok(())
            })?;
        }
        let mut all = Vec::new();
        for user in [ALICE, BOB, CAROL] {
            for what in &kinds {
                let seen = seen(&root.join(format!("{what}-{}", user.uid)))?;
                ensure!(
                    (seen.1, seen.2) == (user.uid, user.gid),
                    "{what} of {} belongs to {seen:?}",
                    user.uid
                );
                all.push(seen);
            }
        }
        Ok(all)
    })?;
    ensure!(modes.len() == 3 * kinds.len());
    mount.close()
}

/// user::rw-, user:1001:rw-, group::r--, mask::rw-, other::---
fn acl(other: u16) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 7, 1001),
        (4, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, other, u32::MAX),
    ] {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

fn default_acl(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    same(&mount, |root| {
        open_to_all(root)?;
        let directory = root.join("dir");
        fs::create_dir(&directory)?;
        open_to_all(&directory)?;
        rustix::fs::setxattr(
            &directory,
            "system.posix_acl_default",
            &acl(5),
            XattrFlags::empty(),
        )?;
        let strict = User {
            umask: 0o077,
            ..ALICE
        };
        strict.run(|| -> Result<()> {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o666)
                .open(directory.join("file"))?;
            fs::create_dir(directory.join("sub"))?;
            rustix::fs::mknodat(
                CWD,
                directory.join("fifo"),
                FileType::Fifo,
                Mode::from_raw_mode(0o664),
                0,
            )?;
            // Without a default ACL the umask counts.
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o666)
                .open(root.join("plain"))?;
            Ok(())
        })?;
        let mut all = Vec::new();
        for name in ["dir/file", "dir/sub", "dir/fifo", "plain"] {
            let path = root.join(name);
            let mut values = Vec::new();
            for kind in ["system.posix_acl_access", "system.posix_acl_default"] {
                let mut buffer = vec![0_u8; 1000];
                let value = rustix::fs::getxattr(&path, kind, buffer.as_mut_slice())
                    .map(|len| buffer[..len].to_vec());
                values.push(value.map_err(rustix::io::Errno::raw_os_error));
            }
            all.push((name, seen(&path)?, values));
        }
        ensure!(
            all[0].1.0 & 0o777 == 0o664,
            "the file has mode {:o}: the umask was applied",
            all[0].1.0
        );
        ensure!(
            all[3].1.0 & 0o777 == 0o600,
            "the umask was not applied: {:o}",
            all[3].1.0
        );
        Ok(all)
    })?;
    mount.close()
}

fn set_id_bits(kind: Kind) -> Result<()> {
    type Change = fn(&Path) -> Result<()>;
    let changes: [(&str, Change); 6] = [
        ("write", |path| {
            Ok(OpenOptions::new()
                .append(true)
                .open(path)?
                .write_all(b"x")?)
        }),
        ("truncate", |path| Ok(nix::unistd::truncate(path, 1)?)),
        ("ftruncate", |path| {
            Ok(OpenOptions::new().write(true).open(path)?.set_len(2)?)
        }),
        ("open with O_TRUNC", |path| {
            OpenOptions::new().write(true).truncate(true).open(path)?;
            Ok(())
        }),
        ("fallocate", |path| {
            let file = OpenOptions::new().write(true).open(path)?;
            Ok(rustix::fs::fallocate(
                &file,
                FallocateFlags::empty(),
                0,
                5000,
            )?)
        }),
        ("read", |path| fs::read(path).map(drop).map_err(Into::into)),
    ];
    let mount = Mount::new(kind, &[])?;
    // Before Linux 5.11 the kernel decides what fallocate clears on a mount, and not as all file systems do.
    let unlike = |what: &str| what == "fallocate" && !kernel::is_at_least(5, 11);
    let result = same(&mount, |root| {
        open_to_all(root)?;
        let mut all = Vec::new();
        for (what, change) in changes.iter().filter(|(what, _)| !unlike(what)) {
            for user in [ROOT, ALICE, CAROL] {
                for mode in [0o6777, 0o2767, 0o6666] {
                    let path = root.join(format!("{what}-{}-{mode:o}", user.uid));
                    fs::write(&path, "text")?;
                    chown(&path, Some(0), Some(0))?;
                    fs::set_permissions(&path, Permissions::from_mode(mode))?;
                    user.run(|| change(&path))
                        .with_context(|| format!("{what} by {}", user.uid))?;
                    all.push((
                        *what,
                        user.uid,
                        format!("{mode:o}"),
                        format!("{:o}", fs::metadata(&path)?.mode()),
                    ));
                }
            }
        }
        // The owner changes: cleared, also for root.
        let path = root.join("chown");
        fs::write(&path, "text")?;
        fs::set_permissions(&path, Permissions::from_mode(0o6755))?;
        chown(&path, Some(1000), Some(1000))?;
        all.push((
            "chown",
            0,
            String::new(),
            format!("{:o}", fs::metadata(&path)?.mode()),
        ));
        Ok(all)
    })?;
    let mode = |what: &str, uid: u32| {
        result
            .iter()
            .find(|entry| (entry.0, entry.1) == (what, uid))
            .map(|entry| entry.3.as_str())
    };
    // Root of a user namespace does not keep them.
    let kept = if rootless::is_inside() {
        "100777"
    } else {
        "106777"
    };
    ensure!(mode("write", 1000) == Some("100777") && mode("write", 0) == Some(kept));
    mount.close()
}

fn set_group_id_directory() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let outsider = User {
        uid: 1003,
        gid: 1003,
        groups: &[],
        umask: 0,
    };
    let result = same(&mount, |root| {
        open_to_all(root)?;
        let directory = root.join("shared");
        fs::create_dir(&directory)?;
        chown(&directory, Some(0), Some(2000))?;
        fs::set_permissions(&directory, Permissions::from_mode(0o2777))?;
        let mut all = Vec::new();
        for user in [ALICE, CAROL, outsider] {
            let name = |what: &str| directory.join(format!("{what}-{}", user.uid));
            user.run(|| -> Result<()> {
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o2775)
                    .open(name("file"))?;
                fs::create_dir(name("dir"))?;
                // Whoever is in the group may set the bit, others lose it without an error.
                File::create(name("chmod"))?;
                fs::set_permissions(name("chmod"), Permissions::from_mode(0o2755))?;
                Ok(())
            })?;
            for what in ["file", "dir", "chmod"] {
                let (mode, uid, gid) = seen(&name(what))?;
                all.push((what, uid, gid, format!("{mode:o}")));
            }
        }
        Ok(all)
    })?;
    ensure!(
        result
            .iter()
            .all(|(what, uid, gid, _)| *gid == 2000 || panic!("{what} of {uid} has group {gid}"))
    );
    ensure!(
        result[0].3 == "102755",
        "alice is in the group and keeps the bit: {:?}",
        result[0]
    );
    ensure!(
        result[6].3 == "100775",
        "an outsider does not: {:?}",
        result[6]
    );
    mount.close()
}

fn supplementary_groups() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let outsider = User {
        uid: 1003,
        gid: 1003,
        groups: &[],
        umask: 0,
    };
    let result = same(&mount, |root| {
        let directory = root.join("group");
        fs::create_dir(&directory)?;
        chown(&directory, Some(0), Some(2000))?;
        fs::set_permissions(&directory, Permissions::from_mode(0o770))?;
        Ok([ALICE, BOB, CAROL, outsider].map(|user| {
            let path = directory.join(format!("of-{}", user.uid));
            user.run(|| {
                File::create(&path)
                    .map(drop)
                    .map_err(|error| error.raw_os_error())
            })
        }))
    })?;
    ensure!(
        result == [Ok(()), Ok(()), Ok(()), Err(Some(libc::EACCES))],
        "{result:?}"
    );
    mount.close()
}

fn access() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let result = same(&mount, |root| {
        open_to_all(root)?;
        fs::write(root.join("secret"), "text")?;
        fs::set_permissions(root.join("secret"), Permissions::from_mode(0o600))?;
        fs::create_dir(root.join("closed"))?;
        fs::write(root.join("closed/file"), "text")?;
        fs::set_permissions(root.join("closed"), Permissions::from_mode(0o711))?;
        Ok(ALICE.run(|| {
            let code = |result: std::io::Result<()>| result.map_err(|error| error.raw_os_error());
            vec![
                code(fs::read(root.join("secret")).map(drop)),
                code(fs::write(root.join("secret"), "")),
                code(fs::read(root.join("closed/file")).map(drop)),
                code(fs::read_dir(root.join("closed")).map(drop)),
                code(fs::write(root.join("closed/new"), "")),
                code(fs::remove_file(root.join("closed/file"))),
                code(fs::set_permissions(
                    root.join("secret"),
                    Permissions::from_mode(0o666),
                )),
                code(chown(root.join("secret"), Some(1000), None)),
                code(fs::rename(root.join("closed/file"), root.join("mine"))),
            ]
        }))
    })?;
    ensure!(
        result[0] == Err(Some(libc::EACCES)) && result[2] == Ok(()),
        "{result:?}"
    );
    mount.close()
}

fn access_by_acl() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let result = same(&mount, |root| {
        let path = root.join("file");
        fs::write(&path, "text")?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        rustix::fs::setxattr(
            &path,
            "system.posix_acl_access",
            &acl(0),
            XattrFlags::empty(),
        )?;
        let read = |user: User| {
            user.run(|| {
                fs::read(&path)
                    .map(drop)
                    .map_err(|error| error.raw_os_error())
            })
        };
        let before = (read(BOB), read(ALICE), seen(&path)?);
        // chmod changes the mask.
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        Ok((before, read(BOB), seen(&path)?))
    })?;
    ensure!(
        result.0.0 == Ok(()) && result.0.1 == Err(Some(libc::EACCES)) && result.1.is_err(),
        "{result:?}"
    );
    // Changed on the host.
    rustix::fs::setxattr(
        mount.host("file"),
        "system.posix_acl_access",
        &acl(5),
        XattrFlags::empty(),
    )?;
    let allowed = crate::support::wait::until(std::time::Duration::from_secs(2), || {
        ALICE.run(|| fs::read(mount.at("file")).is_ok())
    });
    ensure!(
        allowed,
        "an ACL changed on the host does not count within 2 s"
    );
    mount.close()
}

fn sticky() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let result = same(&mount, |root| {
        let directory = root.join("tmp");
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o1777))?;
        let path = directory.join("file");
        ALICE.run(|| File::create(&path).map(drop))?;
        let by_bob = BOB.run(|| fs::remove_file(&path).map_err(|error| error.raw_os_error()));
        let by_alice = ALICE.run(|| fs::remove_file(&path).map_err(|error| error.raw_os_error()));
        Ok((by_bob, by_alice))
    })?;
    ensure!(result == (Err(Some(libc::EPERM)), Ok(())), "{result:?}");
    mount.close()
}

fn read_only() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &["ro"])?;
    fs::write(mount.host("file"), "text")?;
    fs::create_dir(mount.host("dir"))?;
    ensure!(fs::read(mount.at("file"))? == b"text");
    let file = mount.at("file");
    let results: [(&str, std::io::Result<()>); 13] = [
        (
            "open for writing",
            OpenOptions::new().write(true).open(&file).map(drop),
        ),
        ("create", File::create(mount.at("new")).map(drop)),
        ("mkdir", fs::create_dir(mount.at("new"))),
        ("rmdir", fs::remove_dir(mount.at("dir"))),
        ("unlink", fs::remove_file(&file)),
        ("rename", fs::rename(&file, mount.at("other"))),
        ("link", fs::hard_link(&file, mount.at("other"))),
        ("symlink", symlink("x", mount.at("link"))),
        (
            "chmod",
            fs::set_permissions(&file, Permissions::from_mode(0o600)),
        ),
        ("chown", chown(&file, Some(1), Some(1))),
        (
            "truncate",
            nix::unistd::truncate(&file, 0).map_err(Into::into),
        ),
        (
            "setxattr",
            rustix::fs::setxattr(&file, "user.x", b"", XattrFlags::empty()).map_err(Into::into),
        ),
        (
            "mknod",
            rustix::fs::mknodat(
                CWD,
                mount.at("fifo"),
                FileType::Fifo,
                Mode::from_raw_mode(0o600),
                0,
            )
            .map_err(Into::into),
        ),
    ];
    for (what, result) in results {
        ensure!(
            result
                .as_ref()
                .is_err_and(|e| e.raw_os_error() == Some(libc::EROFS)),
            "{what}: {result:?}"
        );
    }
    let flags = rustix::fs::statvfs(mount.path())?.f_flag;
    ensure!(
        flags.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        "statvfs does not say so: {flags:?}"
    );
    mount.close()
}

/// The ACL of the root is looked at for each path that is walked: it must be cached as any other.
fn ordinary_user() -> Result<()> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("is about this server").into());
    }
    let mut mount = Mount::new(Kind::Ext4, &["cache=600"])?;
    if !base_is_possible() {
        mount.close()?;
        return Err(Skip::new("a detached mount cannot be cloned (Linux 6.15)").into());
    }
    fs::create_dir(mount.host("directory"))?;
    fs::write(mount.host("directory/file"), "text")?;
    let path = mount.at("directory/file");
    let walk = || {
        ALICE.run(|| -> std::io::Result<()> {
            (0..200).try_for_each(|_| fs::metadata(&path).map(drop))
        })
    };
    walk()?;
    let before = Counts::of(&mut mount)?;
    walk()?;
    let after = Counts::of(&mut mount)?;
    let asked = after.all() - before.all();
    ensure!(
        asked < 20,
        "{asked} requests for 200 looks: {:?}",
        after.requests
    );
    mount.close()
}

fn base_is_possible() -> bool {
    let options = cntr::engine::mount::MountOptions::default();
    cntr::engine::mount::DetachedMount::new(&options)
        .is_ok_and(|mount| mount.root == cntr::engine::Root::Based)
}
