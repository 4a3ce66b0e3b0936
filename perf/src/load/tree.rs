//! The files that operations work on: for each client a directory of its own, with numbered names.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::operation::Item;

/// The names of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Number of names.
    pub files: u64,
    /// Names per directory; 0 puts all into one.
    pub per_directory: u64,
    /// What they name.
    pub item: Item,
}

/// The directory of a client.
pub fn client_dir(dir: &Path, client: u32) -> PathBuf {
    dir.join(format!("client-{client}"))
}

/// Opens a directory.
///
/// # Errors
/// It cannot be opened.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

impl Tree {
    /// All names, relative to the client's directory.
    pub fn names(&self) -> Vec<CString> {
        self.numbered("f")
    }

    /// As many other names.
    pub fn other_names(&self) -> Vec<CString> {
        self.numbered("g")
    }

    fn numbered(&self, letter: &str) -> Vec<CString> {
        (0..self.files)
            .map(|number| {
                let name = match number.checked_div(self.per_directory) {
                    None => format!("{letter}{number:07}"),
                    Some(directory) => format!("d{directory:05}/{letter}{number:07}"),
                };
                CString::new(name).expect("no NUL")
            })
            .collect()
    }

    /// Makes the directory, replacing an old one, and those below it, but no names yet.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make_directories(&self, dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(dir)?,
        }
        if self.per_directory > 0 {
            for directory in 0..self.files.div_ceil(self.per_directory) {
                fs::create_dir(dir.join(format!("d{directory:05}")))?;
            }
        }
        Ok(())
    }

    /// Makes the directory, replacing an old one, and everything in it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make(&self, dir: &Path) -> io::Result<()> {
        self.make_directories(dir)?;
        let handle = open_dir(dir)?;
        for name in self.names() {
            make_item(&handle, &name, self.item)?;
        }
        Ok(())
    }
}

/// Makes one.
///
/// # Errors
/// Those of the file system.
pub fn make_item(dir: impl AsFd, name: &CString, item: Item) -> rustix::io::Result<()> {
    match item {
        Item::File(bytes) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))?;
            let content = [b'x'; 4096];
            let mut left = bytes;
            while left > 0 {
                left -= rustix::io::write(&file, &content[..left.min(content.len())])?;
            }
            Ok(())
        }
        Item::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Item::Link => rustix::fs::symlinkat(c"target", dir, name),
    }
}

/// Removes one.
///
/// # Errors
/// Those of the file system.
pub fn remove_item(dir: impl AsFd, name: &CString, item: Item) -> rustix::io::Result<()> {
    let flags = match item {
        Item::Directory => AtFlags::REMOVEDIR,
        Item::File(_) | Item::Link => AtFlags::empty(),
    };
    rustix::fs::unlinkat(dir, name, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_spread_over_directories() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree {
            files: 25,
            per_directory: 10,
            item: Item::File(5000),
        };
        let path = client_dir(dir.path(), 3);
        for _ in 0..2 {
            tree.make(&path).unwrap();
        }
        let names = tree.names();
        assert_eq!(names.len(), 25);
        assert_eq!(names[24].to_str().unwrap(), "d00002/f0000024");
        for name in names {
            let file = path.join(name.to_str().unwrap());
            assert_eq!(fs::metadata(file).unwrap().len(), 5000);
        }
        assert_eq!(fs::read_dir(path).unwrap().count(), 3);
    }
}
