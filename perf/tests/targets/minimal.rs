//! The minimal server: each operation through its mount does on the host what it should.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use perf::target::{Catalogue, Up};
use rustix::fs::{CWD, RenameFlags, XattrFlags};
use rustix::io::Errno;

use super::stage::*;

const ATTRIBUTE: &str = "user.minimal";

pub fn over_uring() -> Result<()> {
    each_operation("--transport=uring", "needs_uring = true")
}

pub fn classic() -> Result<()> {
    each_operation("--transport=classic", "")
}

pub fn with_passthrough() -> Result<()> {
    each_operation("--passthrough", "")
}

fn each_operation(option: &str, further: &str) -> Result<()> {
    let stage = Stage::new()?;
    let file = stage.path("minimal.toml");
    let text = format!(
        "[[target]]\nname = 'with-option'\nabout = 'the minimal server'\nkind = 'mount'\nprogram = '{{perf}}'\n\
         command = ['{{program}}', 'minimal', '{option}', '{{source}}', '{{mountpoint}}']\n\
         file_system = 'fuse.perf-minimal'\n{further}\n"
    );
    fs::write(&file, text)?;
    let targets = Catalogue::load(&[file], &engine())?.select(&["with-option".to_owned()])?;
    let up: Up = stage.up(&targets[0], 1)?;
    let place = place(&up);
    let both = Both {
        view: place.dir.clone(),
        host: stage.host(),
    };
    both.files().context("files")?;
    both.names().context("names")?;
    both.attributes().context("attributes")?;
    both.directories().context("directories")?;
    both.forgotten(place.servers[0].as_raw())
        .context("forgotten")?;
    for entry in fs::read_dir(&both.view)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    up.down()?;
    stage.end()
}

/// The directory, as it is shown and as it is.
struct Both {
    view: PathBuf,
    host: PathBuf,
}

impl Both {
    fn paths(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.view.join(name), self.host.join(name))
    }

    /// Make, write, append, truncate, read, sync.
    fn files(&self) -> Result<()> {
        let (view, host) = self.paths("file");
        let mut file = File::create_new(&view)?;
        ensure!(fails(File::create_new(&view), Errno::EXIST));
        file.write_all(b"some bytes")?;
        file.sync_all()?;
        file.sync_data()?;
        ensure!(fs::read(&host)? == b"some bytes");
        drop(file);
        OpenOptions::new()
            .append(true)
            .open(&view)?
            .write_all(b", and more")?;
        ensure!(fs::read(&host)? == b"some bytes, and more");
        let mut file = OpenOptions::new().read(true).write(true).open(&view)?;
        file.set_len(10)?;
        file.seek(SeekFrom::Start(5))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        ensure!(text == "bytes", "{text}");
        ensure!(file.metadata()?.len() == 10 && fs::metadata(&host)?.len() == 10);
        drop(file);
        fs::write(&view, "short")?;
        ensure!(fs::read(&host)? == b"short" && fs::read(&view)? == b"short");
        // Of the host, and larger than a request.
        let large: Vec<u8> = (0..3 << 20).map(|index: u32| (index / 7) as u8).collect();
        let (view, host) = self.paths("large");
        fs::write(&host, &large)?;
        ensure!(fs::read(&view)? == large);
        fs::write(&view, &large[..2 << 20])?;
        ensure!(fs::read(&host)? == large[..2 << 20]);
        // What has no name any more can still be used.
        let (view, host) = self.paths("nameless");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&view)?;
        fs::remove_file(&view)?;
        ensure!(!host.exists());
        file.write_all(b"still there")?;
        file.rewind()?;
        text.clear();
        file.read_to_string(&mut text)?;
        ensure!(text == "still there", "{text}");
        Ok(())
    }

    /// Look up, link, rename, remove, and what is neither file nor directory.
    fn names(&self) -> Result<()> {
        ensure!(fails(fs::metadata(self.view.join("none")), Errno::NOENT));
        let (view, host) = self.paths("link");
        symlink("target", &view)?;
        ensure!(fs::read_link(&host)? == Path::new("target"));
        ensure!(fs::read_link(&view)? == Path::new("target"));
        let (one, _) = self.paths("one");
        fs::write(&one, "one")?;
        let (two, on_host) = self.paths("two");
        fs::hard_link(&one, &two)?;
        ensure!(fs::metadata(&on_host)?.nlink() == 2 && fs::metadata(&two)?.nlink() == 2);
        fs::remove_file(&two)?;
        ensure!(!on_host.exists() && !two.exists());
        let rename = |from: &str, to: &str, flags| {
            rustix::fs::renameat_with(CWD, self.view.join(from), CWD, self.view.join(to), flags)
        };
        rename("one", "three", RenameFlags::empty())?;
        ensure!(fs::read(self.host.join("three"))? == b"one" && !one.exists());
        fs::write(self.view.join("other"), "other")?;
        ensure!(rename("three", "other", RenameFlags::NOREPLACE) == Err(Errno::EXIST));
        rename("three", "other", RenameFlags::EXCHANGE)?;
        ensure!(fs::read(self.host.join("three"))? == b"other");
        ensure!(fs::read(self.view.join("other"))? == b"one");
        let (view, host) = self.paths("fifo");
        mknod(
            &view,
            SFlag::S_IFIFO,
            Mode::from_bits_truncate(0o640),
            makedev(0, 0),
        )?;
        ensure!(fs::metadata(&host)?.file_type().is_fifo());
        ensure!(fs::metadata(&view)?.permissions().mode() & 0o777 == 0o640 & !umask()?);
        Ok(())
    }

    /// Permissions, owner, times, extended attributes, usage.
    fn attributes(&self) -> Result<()> {
        let (view, host) = self.paths("attributed");
        fs::write(&view, "x")?;
        fs::set_permissions(&view, Permissions::from_mode(0o751))?;
        std::os::unix::fs::chown(&view, Some(1234), Some(5678))?;
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 500_000_000);
        File::options()
            .write(true)
            .open(&view)?
            .set_modified(time)?;
        for path in [&view, &host] {
            let found = fs::metadata(path)?;
            ensure!(found.permissions().mode() & 0o7777 == 0o751, "{found:?}");
            ensure!((found.uid(), found.gid()) == (1234, 5678), "{found:?}");
            ensure!(found.modified()? == time, "{found:?}");
        }
        match rustix::fs::setxattr(&host, ATTRIBUTE, b"old", XattrFlags::CREATE) {
            // Before Linux 6.6 a tmpfs has none.
            Err(Errno::OPNOTSUPP) => {}
            made => {
                made?;
                self.extended(&view, &host)?;
            }
        }
        let (seen, there) = (
            rustix::fs::statvfs(&self.view)?,
            rustix::fs::statvfs(&self.host)?,
        );
        ensure!((seen.f_blocks, seen.f_files) == (there.f_blocks, there.f_files));
        Ok(())
    }

    fn extended(&self, view: &Path, host: &Path) -> Result<()> {
        let value = |path: &Path| {
            let mut value = [0; 16];
            let length = rustix::fs::getxattr(path, ATTRIBUTE, &mut value[..])?;
            Ok::<_, Errno>(value[..length].to_vec())
        };
        ensure!(value(view)? == b"old");
        let create = rustix::fs::setxattr(view, ATTRIBUTE, b"new", XattrFlags::CREATE);
        ensure!(create == Err(Errno::EXIST));
        rustix::fs::setxattr(view, ATTRIBUTE, b"new", XattrFlags::REPLACE)?;
        ensure!(value(host)? == b"new");
        let mut names = [0; 256];
        let length = rustix::fs::listxattr(view, &mut names[..])?;
        let names = String::from_utf8(names[..length].to_vec())?;
        ensure!(names.split('\0').any(|name| name == ATTRIBUTE), "{names:?}");
        rustix::fs::removexattr(view, ATTRIBUTE)?;
        ensure!(value(host) == Err(Errno::NODATA) && value(view) == Err(Errno::NODATA));
        // Of what cannot be opened.
        let link = self.view.join("link");
        let mut value = [0; 16];
        let found = rustix::fs::lgetxattr(&link, "trusted.minimal", &mut value[..]);
        ensure!(
            matches!(found, Err(Errno::NODATA | Errno::OPNOTSUPP)),
            "{found:?}"
        );
        Ok(())
    }

    /// Make, list, sync and remove them; more entries than one reply holds.
    fn directories(&self) -> Result<()> {
        let (view, host) = self.paths("directory");
        fs::create_dir(&view)?;
        let names: Vec<String> = (0..2000)
            .map(|number| format!("entry-{number:04}"))
            .collect();
        for name in &names {
            fs::write(host.join(name), "")?;
        }
        File::open(&view)?.sync_all()?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&view)? {
            let entry = entry?;
            ensure!(entry.file_type()?.is_file() && entry.metadata()?.len() == 0);
            found.push(entry.file_name().into_string().unwrap_or_default());
        }
        found.sort();
        ensure!(found == names, "{} entries", found.len());
        ensure!(fails(fs::remove_dir(&view), Errno::NOTEMPTY));
        for name in &names {
            fs::remove_file(view.join(name))?;
        }
        fs::remove_dir(&view)?;
        ensure!(!host.exists() && !view.exists());
        Ok(())
    }

    /// What is forgotten is closed.
    fn forgotten(&self, server: i32) -> Result<()> {
        let open = || -> Result<usize> {
            let files = fs::read_dir(format!("/proc/{server}/fd"))?.flatten();
            let links = files.filter_map(|file| fs::read_link(file.path()).ok());
            let named = |link: &PathBuf| link.to_string_lossy().contains("/forgotten-");
            Ok(links.filter(named).count())
        };
        let path = |number| self.view.join(format!("forgotten-{number}"));
        for number in 0..200 {
            fs::write(path(number), "")?;
        }
        ensure!(open()? >= 200, "each has a descriptor");
        for number in 0..200 {
            fs::remove_file(path(number))?;
        }
        // It is told by and by.
        for _ in 0..1000 {
            if open()? == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{} descriptors are still open", open()?)
    }
}

fn fails<T>(result: std::io::Result<T>, errno: Errno) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Of this process, which other tests use, too.
fn umask() -> Result<u32> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    Ok(u32::from_str_radix(line.context("no umask")?.trim(), 8)?)
}
