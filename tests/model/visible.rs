//! Changes made on the host behind the server's back are seen through the mount.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::fs::{CWD, XattrFlags};

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::parameter::patience;
use crate::support::wait;

/// Checks that every kind of change on the host is seen within `limit`. The mount has looked at everything before,
/// so that it has something to be stale with.
pub fn run(options: &[&str], limit: Duration) -> Result<()> {
    let mount = Mount::new(Kind::Ext4, options)?;
    let limit = limit * patience();
    let (host, view) = (mount.source().to_owned(), mount.path().to_owned());
    fs::create_dir(host.join("d"))?;
    let open = {
        fs::write(host.join("open"), "old")?;
        File::open(view.join("open"))?
    };
    for round in 0..5_u8 {
        let check = Check {
            host: &host,
            view: &view,
            limit,
            round,
        };
        check.all()?;
        let text = format!("open {round}");
        fs::write(host.join("open"), &text)?;
        check.seen("contents of an open file", || {
            let mut buffer = [0; 100];
            open.read_at(&mut buffer, 0)
                .is_ok_and(|got| &buffer[..got] == text.as_bytes())
        })?;
    }
    drop(open);
    mount.close()
}

struct Check<'a> {
    host: &'a Path,
    view: &'a Path,
    limit: Duration,
    round: u8,
}

impl Check<'_> {
    fn seen(&self, what: &str, condition: impl FnMut() -> bool) -> Result<()> {
        ensure!(
            wait::until(self.limit, condition),
            "not seen within {:?}: {what}",
            self.limit
        );
        Ok(())
    }

    fn warm(&self, name: &str) -> PathBuf {
        let path = self.view.join(name);
        let _ = fs::symlink_metadata(&path);
        let _ = fs::read(&path);
        let _ = fs::read_dir(self.view).map(Iterator::count);
        path
    }

    fn all(&self) -> Result<()> {
        let name = format!("d/file-{}", self.round);
        let on_host = self.host.join(&name);

        let path = self.warm(&name);
        ensure!(!path.exists(), "{name} exists before it was created");
        fs::write(&on_host, "one")?;
        self.seen("a new file", || path.exists())?;
        self.seen("contents", || {
            fs::read(&path).is_ok_and(|text| text == b"one")
        })?;
        self.seen("a new entry of a directory", || {
            fs::read_dir(self.view.join("d")).is_ok_and(|mut entries| {
                entries.any(|entry| entry.is_ok_and(|entry| entry.path() == path))
            })
        })?;

        self.warm(&name);
        fs::write(&on_host, "two")?;
        self.seen("contents of the same size", || {
            fs::read(&path).is_ok_and(|text| text == b"two")
        })?;

        self.warm(&name);
        File::options()
            .append(true)
            .open(&on_host)?
            .write_all(b" and more")?;
        self.seen("what was appended", || {
            fs::read(&path).is_ok_and(|text| text == b"two and more")
        })?;
        self.seen("the size", || {
            fs::metadata(&path).is_ok_and(|stat| stat.len() == 12)
        })?;

        self.warm(&name);
        File::options().write(true).open(&on_host)?.set_len(1)?;
        self.seen("a truncation", || {
            fs::read(&path).is_ok_and(|text| text == b"t")
        })?;

        self.warm(&name);
        fs::set_permissions(&on_host, fs::Permissions::from_mode(0o640))?;
        self.seen("chmod", || {
            fs::metadata(&path).is_ok_and(|stat| stat.permissions().mode() & 0o777 == 0o640)
        })?;

        let _ = get_xattr(&path);
        rustix::fs::setxattr(&on_host, "user.seen", &[self.round], XattrFlags::empty())?;
        self.seen("an extended attribute", || {
            get_xattr(&path) == Some(vec![self.round])
        })?;

        self.warm(&name);
        let moved = format!("d/moved-{}", self.round);
        self.warm(&moved);
        fs::rename(&on_host, self.host.join(&moved))?;
        self.seen("the old name of a renamed file", || !path.exists())?;
        self.seen("the new name of a renamed file", || {
            self.view.join(&moved).exists()
        })?;

        self.warm(&moved);
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(self.host.join(&moved))?);
        fs::write(self.host.join("new"), "replaced")?;
        fs::rename(self.host.join("new"), self.host.join(&moved))?;
        self.seen("a replaced file", || {
            fs::read(self.view.join(&moved)).is_ok_and(|text| text == b"replaced")
                && fs::metadata(self.view.join(&moved))
                    .is_ok_and(|stat| std::os::unix::fs::MetadataExt::ino(&stat) != inode)
        })?;

        self.warm(&moved);
        fs::remove_file(self.host.join(&moved))?;
        self.seen("a deletion", || !self.view.join(&moved).exists())?;

        let link = format!("link-{}", self.round);
        for target in ["first", "second"] {
            let _ = rustix::fs::unlinkat(CWD, self.host.join(&link), rustix::fs::AtFlags::empty());
            symlink(target, self.host.join(&link))?;
            self.seen("a symbolic link", || {
                fs::read_link(self.view.join(&link)).is_ok_and(|text| text == Path::new(target))
            })?;
        }

        let directory = format!("sub-{}", self.round);
        self.warm(&directory);
        fs::create_dir(self.host.join(&directory))?;
        self.seen("a new directory", || self.view.join(&directory).is_dir())?;
        fs::remove_dir(self.host.join(&directory))?;
        self.seen("a removed directory", || {
            !self.view.join(&directory).exists()
        })
    }
}

fn get_xattr(path: &Path) -> Option<Vec<u8>> {
    let mut buffer = vec![0_u8; 64];
    let len = rustix::fs::getxattr(path, "user.seen", buffer.as_mut_slice()).ok()?;
    buffer.truncate(len);
    Some(buffer)
}
