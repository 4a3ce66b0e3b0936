//! Attributes, times, extended attributes, inode numbers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, IFlags, StatxFlags, Timespec, Timestamps, XattrFlags, utimensat};
use rustix::io::Errno;

use crate::coherence::requests;
use crate::support::backing::Kind;
use crate::support::kernel;
use crate::support::mount::Mount;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, peer};
use crate::support::{rootless, wait};

pub fn add(suite: &mut Suite) {
    suite.test("atime_and_mtime_are_not_swapped", times);
    suite.test("reading_updates_atime", reading);
    suite.test("times_before_1970", times_before_1970);
    suite.test("times_of_a_symlink", times_of_symlink);
    suite.test("chmod_of_a_socket", chmod_of_socket);
    suite.test("xattr_of_a_symlink", xattr_of_symlink);
    suite.test("labels_are_not_asked_for_where_there_are_none", labels);
    for kind in Kind::ALL {
        suite.test(format!("xattrs_{kind}"), move || xattrs(kind));
        suite.test(format!("inode_numbers_are_the_hosts_{kind}"), move || {
            inode_numbers(kind)
        });
    }
    suite.test("inode_numbers_are_the_same_in_two_mounts", two_mounts);
    suite.test("birth_time", birth_time);
    suite.test("statfs", statfs);
    suite.test("file_flags", file_flags);
}

fn set(
    path: &Path,
    atime: (i64, i64),
    mtime: (i64, i64),
    flags: AtFlags,
) -> rustix::io::Result<()> {
    let spec = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    utimensat(
        CWD,
        path,
        &Timestamps {
            last_access: spec(atime),
            last_modification: spec(mtime),
        },
        flags,
    )
}

fn get(path: &Path) -> Result<((i64, i64), (i64, i64))> {
    let stat = fs::symlink_metadata(path)?;
    Ok((
        (stat.atime(), stat.atime_nsec()),
        (stat.mtime(), stat.mtime_nsec()),
    ))
}

fn times() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.at("file"), "")?;
    set(
        &mount.at("file"),
        (1000, 123_456_789),
        (2000, 987_654_321),
        AtFlags::empty(),
    )?;
    for path in [mount.at("file"), mount.host("file")] {
        ensure!(
            get(&path)? == ((1000, 123_456_789), (2000, 987_654_321)),
            "{:?}",
            get(&path)?
        );
    }
    // One of them only, and the present.
    set(
        &mount.at("file"),
        (0, rustix::fs::UTIME_OMIT),
        (3000, 1),
        AtFlags::empty(),
    )?;
    ensure!(get(&mount.host("file"))? == ((1000, 123_456_789), (3000, 1)));
    set(
        &mount.at("file"),
        (0, rustix::fs::UTIME_NOW),
        (0, rustix::fs::UTIME_OMIT),
        AtFlags::empty(),
    )?;
    let (atime, mtime) = get(&mount.host("file"))?;
    ensure!(
        atime.0 > 1_700_000_000 && mtime == (3000, 1),
        "{atime:?} {mtime:?}"
    );
    mount.close()
}

fn reading() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), "text")?;
    set(&mount.host("file"), (1000, 0), (2000, 0), AtFlags::empty())?;
    ensure!(fs::read(mount.at("file"))? == b"text");
    for path in [mount.host("file"), mount.at("file")] {
        let (atime, mtime) = get(&path)?;
        ensure!(
            atime.0 > 1_700_000_000 && mtime == (2000, 0),
            "{}: {atime:?} {mtime:?}",
            path.display()
        );
    }
    mount.close()
}

fn times_before_1970() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.at("file"), "")?;
    set(
        &mount.at("file"),
        (-1, 500_000_000),
        (-2_000_000_000, 999_999_999),
        AtFlags::empty(),
    )?;
    for path in [mount.at("file"), mount.host("file")] {
        ensure!(
            get(&path)? == ((-1, 500_000_000), (-2_000_000_000, 999_999_999)),
            "{:?}",
            get(&path)?
        );
    }
    mount.close()
}

fn times_of_symlink() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    symlink("nowhere", mount.at("link"))?;
    set(&mount.at("link"), (5, 6), (7, 8), AtFlags::SYMLINK_NOFOLLOW)?;
    ensure!(get(&mount.host("link"))? == ((5, 6), (7, 8)));
    std::os::unix::fs::lchown(mount.at("link"), Some(1000), Some(1001))?;
    let stat = fs::symlink_metadata(mount.host("link"))?;
    ensure!((stat.uid(), stat.gid()) == (1000, 1001));
    mount.close()
}

fn chmod_of_socket() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let listener = UnixListener::bind(mount.host("socket"))?;
    fs::set_permissions(mount.at("socket"), fs::Permissions::from_mode(0o600))
        .context("chmod of a socket")?;
    ensure!(fs::metadata(mount.host("socket"))?.mode() & 0o7777 == 0o600);
    drop(listener);
    let made = UnixListener::bind(mount.at("made")).context("bind in the view")?;
    let stat = fs::metadata(mount.host("made"))?;
    ensure!(stat.mode() & libc::S_IFMT == libc::S_IFSOCK);
    // Whoever connects to the name in the view reaches the one who bound it there.
    std::os::unix::net::UnixStream::connect(mount.at("made")).context("connect in the view")?;
    drop(made);
    mount.close()
}

fn xattr_of_symlink() -> Result<()> {
    rootless::need("trusted attributes")?;
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.at("file"), "")?;
    symlink("file", mount.at("link"))?;
    let link = mount.at("link");
    rustix::fs::lsetxattr(&link, "trusted.name", b"value", XattrFlags::empty())
        .context("xattr of a symlink")?;
    let mut buffer = [0; 100];
    let len = rustix::fs::lgetxattr(mount.host("link"), "trusted.name", &mut buffer)?;
    ensure!(&buffer[..len] == b"value");
    ensure!(
        rustix::fs::lgetxattr(mount.host("file"), "trusted.name", &mut buffer)
            == Err(Errno::NODATA),
        "on the file"
    );
    ensure!(
        rustix::fs::lsetxattr(&link, "user.name", b"v", XattrFlags::empty()) == Err(Errno::PERM),
        "user. on a link"
    );
    rustix::fs::lremovexattr(&link, "trusted.name")?;
    ensure!(rustix::fs::lgetxattr(&link, "trusted.name", &mut buffer) == Err(Errno::NODATA));
    mount.close()
}

/// `ls -l` asks for the SELinux label of each file, which the kernel does not cache, unless it hears that there are none.
fn labels() -> Result<()> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("this is what cntr answers").into());
    }
    if fs::read_to_string("/proc/filesystems")?.contains("selinuxfs") {
        return Err(Skip::new("SELinux is on").into());
    }
    rootless::need("attributes of security modules")?;
    let mount = Mount::new(Kind::Ext4, &[])?;
    let label = "security.selinux";
    let mut buffer = [0; 64];
    fs::write(mount.host("file"), "")?;
    let get = |path: &Path, buffer: &mut [u8]| rustix::fs::lgetxattr(path, label, buffer);
    ensure!(get(&mount.at("file"), &mut buffer) == Err(Errno::OPNOTSUPP));
    ensure!(
        rustix::fs::lgetxattr(mount.at("file"), "security.other", &mut buffer)
            == Err(Errno::NODATA)
    );
    // One that is there is there.
    let value = b"system_u:object_r:etc_t:s0";
    rustix::fs::setxattr(mount.at("file"), label, value, XattrFlags::CREATE)?;
    for path in [mount.at("file"), mount.host("file")] {
        let len = get(&path, &mut buffer)?;
        ensure!(&buffer[..len] == value);
    }
    rustix::fs::removexattr(mount.at("file"), label)?;

    (0..100).try_for_each(|file| fs::write(mount.host(format!("file-{file}")), ""))?;
    let list = || -> Result<()> {
        let list = Command::new("ls").arg("-l").arg(mount.path()).output()?;
        ensure!(list.status.success() && list.stdout.split(|&byte| byte == b'\n').count() == 103);
        Ok(())
    };
    // Other tests change files of the same file system, which costs answers that were just on their way.
    let mut numbers = Vec::new();
    let few = wait::until(wait::LONG, || {
        let before = requests(&mount).unwrap_or(u64::MAX);
        let listed = list();
        numbers.push(requests(&mount).unwrap_or(0).wrapping_sub(before));
        listed.is_ok() && numbers.last().is_some_and(|number| *number < 50)
    });
    ensure!(few, "listings of 100 files took {numbers:?} requests");
    mount.close()
}

fn xattrs(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    fs::write(mount.at("file"), "")?;
    let path = mount.at("file");
    let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr(&path, name, value, flags);
    let plain = mount.reference().join("file");
    fs::write(&plain, "")?;
    let natively = rustix::fs::setxattr(&plain, "user.large", b"", XattrFlags::CREATE);
    if natively == Err(Errno::OPNOTSUPP) {
        ensure!(set("user.large", b"", XattrFlags::CREATE) == natively);
        mount.close()?;
        return Err(Skip::new(format!("{kind} has no user attributes on this kernel")).into());
    }
    let value: Vec<u8> = (0..3000_u32).map(|i| i as u8).collect();
    set("user.large", &value, XattrFlags::CREATE)?;
    ensure!(set("user.large", b"", XattrFlags::CREATE) == Err(Errno::EXIST));
    ensure!(set("user.other", b"", XattrFlags::REPLACE) == Err(Errno::NODATA));
    set("user.empty", b"", XattrFlags::empty())?;
    let mut buffer = vec![0_u8; 65536];
    let len = rustix::fs::getxattr(&path, "user.large", buffer.as_mut_slice())?;
    ensure!(buffer[..len] == value);
    ensure!(
        rustix::fs::getxattr(&path, "user.large", &mut buffer[..10]) == Err(Errno::RANGE),
        "too small a buffer"
    );
    ensure!(rustix::fs::getxattr(&path, "user.empty", buffer.as_mut_slice())? == 0);
    ensure!(rustix::fs::getxattr(&path, "user.none", buffer.as_mut_slice()) == Err(Errno::NODATA));
    let list = |path: &Path| -> Result<Vec<u8>> {
        let mut buffer = vec![0_u8; 65536];
        let len = rustix::fs::listxattr(path, buffer.as_mut_slice())?;
        buffer.truncate(len);
        Ok(buffer)
    };
    ensure!(list(&path)? == list(&mount.host("file"))?);
    rustix::fs::removexattr(&path, "user.large")?;
    ensure!(
        rustix::fs::getxattr(mount.host("file"), "user.large", buffer.as_mut_slice())
            == Err(Errno::NODATA)
    );
    mount.close()
}

fn populate(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("a/b/c"))?;
    for name in ["one", "a/two", "a/b/three", "a/b/c/four"] {
        fs::write(root.join(name), name)?;
    }
    symlink("one", root.join("link"))?;
    fs::hard_link(root.join("one"), root.join("a/hard"))?;
    Ok(())
}

/// Inode number from stat and from the directory, by path.
fn numbers(root: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let path = entry.path();
            let stat = fs::symlink_metadata(&path)?;
            let listed = std::os::unix::fs::DirEntryExt::ino(&entry);
            ensure!(
                listed == stat.ino(),
                "{}: d_ino {listed}, st_ino {}",
                path.display(),
                stat.ino()
            );
            found.insert(path.strip_prefix(root)?.to_owned(), stat.ino());
            if stat.is_dir() {
                todo.push(path);
            }
        }
    }
    found.insert(PathBuf::new(), fs::metadata(root)?.ino());
    Ok(found)
}

fn inode_numbers(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    populate(mount.source())?;
    let expected = numbers(mount.source())?;
    ensure!(
        numbers(mount.path())? == expected,
        "{:?}\n{expected:?}",
        numbers(mount.path())?
    );
    mount.close()
}

fn two_mounts() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    populate(mount.source())?;
    let second = mount.again(&[])?;
    let (first_numbers, second_numbers) = (numbers(mount.path())?, numbers(second.path())?);
    ensure!(first_numbers == second_numbers);
    second.close()?;
    let third = mount.again(&[])?;
    ensure!(numbers(third.path())? == first_numbers);
    third.close()?;
    mount.close()
}

fn birth_time() -> Result<()> {
    kernel::need("the birth time of files on FUSE", (6, 6))?;
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("file"), "")?;
    let birth = |path: PathBuf| -> Result<(i64, u32)> {
        let stat = rustix::fs::statx(
            CWD,
            path,
            AtFlags::empty(),
            StatxFlags::BTIME | StatxFlags::BASIC_STATS,
        )?;
        ensure!(
            stat.stx_mask & StatxFlags::BTIME.bits() != 0,
            "statx gives no btime"
        );
        Ok((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
    };
    ensure!(birth(mount.at("file"))? == birth(mount.host("file"))?);
    mount.close()
}

fn statfs() -> Result<()> {
    let mount = Mount::new(Kind::Tmpfs, &[])?;
    let shown = |path: &Path| -> Result<[u64; 4]> {
        let stat = rustix::fs::statvfs(path)?;
        Ok([stat.f_blocks, stat.f_frsize, stat.f_namemax, stat.f_files])
    };
    ensure!(
        shown(mount.path())? == shown(mount.source())?,
        "{:?} {:?}",
        shown(mount.path()),
        shown(mount.source())
    );
    mount.close()
}

fn file_flags() -> Result<()> {
    rootless::need("CAP_LINUX_IMMUTABLE")?;
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.at("file"), "text")?;
    let file = fs::File::open(mount.at("file"))?;
    let before = rustix::fs::ioctl_getflags(&file).context("FS_IOC_GETFLAGS")?;
    rustix::fs::ioctl_setflags(&file, before | IFlags::APPEND).context("FS_IOC_SETFLAGS")?;
    let on_host = rustix::fs::ioctl_getflags(fs::File::open(mount.host("file"))?)?;
    ensure!(on_host.contains(IFlags::APPEND));
    let error = fs::write(mount.at("file"), "replaced").expect_err("it is append-only");
    ensure!(error.raw_os_error() == Some(libc::EPERM), "{error}");
    rustix::fs::ioctl_setflags(&file, before)?;
    fs::write(mount.at("file"), "replaced")?;
    drop(file);
    mount.close()
}
