//! Making and renaming files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, Dev, FileType, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::support::backing::Kind;
use crate::support::kernel;
use crate::support::mount::Mount;
use crate::support::rootless;
use crate::support::runner::{Skip, Suite};

pub fn add(suite: &mut Suite) {
    suite.test("exclusive_creation", exclusive_creation);
    suite.test("exclusive_creation_has_one_winner", one_winner);
    for kind in Kind::ALL {
        suite.test(format!("rename_noreplace_{kind}"), move || noreplace(kind));
        suite.test(format!("rename_exchange_{kind}"), move || exchange(kind));
        suite.test(format!("unnamed_file_{kind}"), move || unnamed_file(kind));
    }
    suite.test("rename_over_an_open_file", rename_over_open);
    suite.test("unlinked_open_file", unlinked_open);
    suite.test("hard_links", hard_links);
    suite.test("fifo_is_not_opened_by_the_server", fifo);
    suite.test("device_number_is_kept", device);
    suite.test("longest_names", longest_names);
    suite.test("names_that_are_not_utf8", not_utf8);
}

fn exclusive_creation() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options
        .open(mount.at("new"))
        .context("O_CREAT|O_EXCL of a new name")?;
    file.write_all(b"text")?;
    drop(file);
    ensure!(fs::read(mount.host("new"))? == b"text");
    ensure!(fs::metadata(mount.host("new"))?.mode() & 0o7777 == 0o600);
    let error = options.open(mount.at("new")).expect_err("it exists");
    ensure!(error.raw_os_error() == Some(libc::EEXIST), "{error}");
    // A name the kernel believes to be free, made on the host meanwhile.
    ensure!(!mount.at("other").exists());
    fs::write(mount.host("other"), "host")?;
    let error = options
        .open(mount.at("other"))
        .expect_err("it exists on the host");
    ensure!(error.raw_os_error() == Some(libc::EEXIST), "{error}");
    ensure!(fs::read(mount.host("other"))? == b"host");
    mount.close()
}

fn one_winner() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    for round in 0..50 {
        let name = format!("race-{round}");
        // Half of them on the host.
        let paths = [
            mount.at(&name),
            mount.host(&name),
            mount.at(&name),
            mount.host(&name),
        ];
        let wins = thread::scope(|scope| {
            let threads: Vec<_> = paths
                .iter()
                .map(|path| {
                    scope.spawn(move || {
                        OpenOptions::new()
                            .write(true)
                            .create_new(true)
                            .open(path)
                            .is_ok()
                    })
                })
                .collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().ok())
                .filter(|won| *won)
                .count()
        });
        ensure!(wins == 1, "{wins} created {name}");
    }
    mount.close()
}

fn noreplace(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    for name in ["a", "b"] {
        fs::write(mount.at(name), name)?;
    }
    let rename = |from: &str, to: &str| {
        renameat_with(
            CWD,
            mount.at(from),
            CWD,
            mount.at(to),
            RenameFlags::NOREPLACE,
        )
    };
    ensure!(
        rename("a", "b") == Err(Errno::EXIST),
        "{:?}",
        rename("a", "b")
    );
    rename("a", "c").context("RENAME_NOREPLACE to a free name")?;
    ensure!(fs::read(mount.host("c"))? == b"a" && fs::read(mount.host("b"))? == b"b");
    ensure!(!mount.host("a").exists() && !mount.at("a").exists());
    mount.close()
}

fn exchange(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    fs::write(mount.at("file"), "text")?;
    fs::create_dir(mount.at("dir"))?;
    fs::write(mount.at("dir/inside"), "inside")?;
    renameat_with(
        CWD,
        mount.at("file"),
        CWD,
        mount.at("dir"),
        RenameFlags::EXCHANGE,
    )
    .context("RENAME_EXCHANGE")?;
    for root in [mount.path(), mount.source()] {
        ensure!(fs::read(root.join("dir"))? == b"text");
        ensure!(fs::read(root.join("file/inside"))? == b"inside");
    }
    mount.close()
}

fn unnamed_file(kind: Kind) -> Result<()> {
    kernel::need("O_TMPFILE on FUSE", (6, 1))?;
    let mount = Mount::new(kind, &[])?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let unnamed =
        |directory: &Path| rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(0o640));
    if unnamed(&mount.reference()).err() == Some(Errno::OPNOTSUPP) {
        ensure!(unnamed(mount.path()).err() == Some(Errno::OPNOTSUPP));
        mount.close()?;
        return Err(Skip::new(format!("{kind} has no O_TMPFILE on this kernel")).into());
    }
    let fd = unnamed(mount.path()).context("O_TMPFILE")?;
    rustix::io::write(&fd, b"text")?;
    ensure!(rustix::fs::fstat(&fd)?.st_nlink == 0);
    ensure!(fs::read_dir(mount.path())?.count() == 0);
    rustix::fs::linkat(&fd, c"", CWD, mount.at("named"), AtFlags::EMPTY_PATH)
        .context("linkat of an unnamed file")?;
    drop(fd);
    ensure!(fs::read(mount.host("named"))? == b"text");
    ensure!(fs::metadata(mount.at("named"))?.nlink() == 1);
    let fd = rustix::fs::openat(
        CWD,
        mount.path(),
        flags | OFlags::EXCL,
        Mode::from_raw_mode(0o640),
    )?;
    let linked = rustix::fs::linkat(&fd, c"", CWD, mount.at("never"), AtFlags::EMPTY_PATH);
    ensure!(
        linked == Err(Errno::NOENT),
        "O_TMPFILE|O_EXCL can be linked: {linked:?}"
    );
    drop(fd);
    mount.close()
}

fn rename_over_open() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.at("old"), "old")?;
    fs::write(mount.at("new"), "new")?;
    let mut open = File::open(mount.at("old"))?;
    fs::rename(mount.at("new"), mount.at("old"))?;
    let mut text = String::new();
    open.read_to_string(&mut text)?;
    ensure!(text == "old", "the open file reads {text}");
    ensure!(fs::read(mount.at("old"))? == b"new");
    ensure!(open.metadata()?.nlink() == 0);
    drop(open);
    mount.close()
}

fn unlinked_open() -> Result<()> {
    for kind in [Kind::Ext4, Kind::Tmpfs] {
        let mount = Mount::new(kind, &[])?;
        fs::write(mount.at("file"), "text")?;
        let mut open = OpenOptions::new()
            .read(true)
            .append(true)
            .open(mount.at("file"))?;
        fs::remove_file(mount.at("file"))?;
        open.write_all(b" more")?;
        open.rewind()?;
        let mut text = String::new();
        open.read_to_string(&mut text)?;
        ensure!(text == "text more", "{kind}: read {text:?}");
        let stat = open.metadata()?;
        ensure!((stat.nlink(), stat.len()) == (0, 9), "{kind}: {stat:?}");
        open.set_len(2)?;
        ensure!(open.metadata()?.len() == 2);
        ensure!(
            fs::read_dir(mount.source())?.count() == 0,
            "{kind}: something is left on the host"
        );
        drop(open);
        mount.close()?;
    }
    Ok(())
}

fn hard_links() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::create_dir(mount.at("dir"))?;
    fs::write(mount.at("one"), "text")?;
    ensure!(fs::metadata(mount.at("one"))?.nlink() == 1);
    fs::hard_link(mount.at("one"), mount.at("dir/two"))?;
    for name in ["one", "dir/two"] {
        ensure!(fs::metadata(mount.at(name))?.nlink() == 2, "{name}");
    }
    ensure!(fs::metadata(mount.at("one"))?.ino() == fs::metadata(mount.at("dir/two"))?.ino());
    fs::write(mount.at("dir/two"), "other")?;
    ensure!(fs::read(mount.at("one"))? == b"other");
    fs::remove_file(mount.at("one"))?;
    ensure!(fs::metadata(mount.at("dir/two"))?.nlink() == 1);
    // Made on the host: both names are one file in the view too.
    fs::write(mount.host("h1"), "host")?;
    fs::hard_link(mount.host("h1"), mount.host("h2"))?;
    ensure!(fs::metadata(mount.at("h1"))?.ino() == fs::metadata(mount.at("h2"))?.ino());
    mount.close()
}

fn fifo() -> Result<()> {
    let mut mount = Mount::new(Kind::Ext4, &[])?;
    rustix::fs::mknodat(
        CWD,
        mount.at("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )?;
    ensure!(
        fs::symlink_metadata(mount.host("fifo"))?
            .file_type()
            .is_fifo()
    );
    // All of these would block for ever, or wake the writer below, if the server opened it.
    let writer = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(mount.host("fifo"));
    ensure!(
        writer
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(libc::ENXIO)),
        "{writer:?}"
    );
    fs::set_permissions(
        mount.at("fifo"),
        std::os::unix::fs::PermissionsExt::from_mode(0o640),
    )?;
    fs::metadata(mount.at("fifo"))?;
    std::os::unix::fs::chown(mount.at("fifo"), Some(1000), Some(1000))?;
    rustix::fs::utimensat(
        CWD,
        mount.at("fifo"),
        &rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec {
                tv_sec: 1000,
                tv_nsec: 0,
            },
            last_modification: rustix::fs::Timespec {
                tv_sec: 2000,
                tv_nsec: 0,
            },
        },
        AtFlags::empty(),
    )?;
    fs::rename(mount.at("fifo"), mount.at("renamed"))?;
    let stat = fs::symlink_metadata(mount.host("renamed"))?;
    ensure!(
        (stat.mode() & 0o7777, stat.uid(), stat.atime(), stat.mtime()) == (0o640, 1000, 1000, 2000),
        "{stat:?}"
    );
    // The server must not hold it open either.
    if let Some(server) = mount.server() {
        for fd in fs::read_dir(format!("/proc/{}/fd", server.pid()))?.flatten() {
            let opened = fs::read_link(fd.path()).is_ok_and(|target| target.ends_with("renamed"));
            let flags = fs::read_to_string(format!(
                "/proc/{}/fdinfo/{}",
                server.pid(),
                fd.file_name().display()
            ));
            let path_only = flags.is_ok_and(|text| {
                text.lines().any(|line| {
                    line.strip_prefix("flags:")
                        .and_then(|text| i32::from_str_radix(text.trim(), 8).ok())
                        .is_some_and(|flags| flags & libc::O_PATH != 0)
                })
            });
            ensure!(!opened || path_only, "the server has the FIFO open");
        }
    }
    // A reader and a writer in the view talk to each other.
    let path = mount.at("renamed");
    let text = thread::scope(|scope| {
        let reader = scope.spawn(|| fs::read(&path));
        fs::write(mount.at("renamed"), "through the pipe")
            .map(|()| reader.join().expect("no panic"))
    })??;
    ensure!(text == b"through the pipe");
    mount.close()
}

fn device() -> Result<()> {
    rootless::need("device nodes")?;
    let mount = Mount::new(Kind::Ext4, &[])?;
    let number: Dev = rustix::fs::makedev(300, 70_000);
    rustix::fs::mknodat(
        CWD,
        mount.at("char"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o600),
        number,
    )?;
    for root in [mount.path(), mount.source()] {
        let stat = rustix::fs::lstat(root.join("char"))?;
        ensure!(
            stat.st_rdev == number,
            "{:x} instead of {number:x}",
            stat.st_rdev
        );
    }
    mount.close()
}

fn longest_names() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let name = "n".repeat(255);
    fs::write(mount.at(&name), "text")?;
    ensure!(fs::read(mount.host(&name))? == b"text");
    ensure!(
        fs::read_dir(mount.path())?
            .next()
            .is_some_and(|entry| entry.is_ok_and(|e| e.file_name() == *name))
    );
    let error = fs::write(mount.at("n".repeat(256)), "text").expect_err("one byte too many");
    ensure!(error.raw_os_error() == Some(libc::ENAMETOOLONG), "{error}");
    // A path of nearly 4096 bytes.
    let mut path = mount.path().to_owned();
    while path.as_os_str().len() < 3700 {
        path.push(&name);
        let _ = fs::remove_file(&path);
        fs::create_dir(&path)?;
    }
    fs::write(path.join("leaf"), "deep")?;
    ensure!(fs::read(path.join("leaf"))? == b"deep");
    mount.close()
}

fn not_utf8() -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let mount = Mount::new(Kind::Ext4, &[])?;
    for bytes in [&b"caf\xe9"[..], b"\xff\xfe", b"a\nb", b" ", b"\\", b"..."] {
        let name = std::ffi::OsStr::from_bytes(bytes);
        fs::write(mount.at(name), bytes)?;
        ensure!(fs::read(mount.host(name))? == bytes, "{name:?}");
    }
    ensure!(fs::read_dir(mount.path())?.count() == 6);
    mount.close()
}
