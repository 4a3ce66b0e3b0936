//! One client of a load of metadata operations: its names, its open files, and the operation.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, XattrFlags};
use rustix::io::Errno;

use super::LoadError;
use super::operation::{Effect, Operation};
use super::tree::{self, Tree};

/// The attribute that is set and read.
const ATTRIBUTE: &std::ffi::CStr = c"user.perf";

/// Its value.
const VALUE: [u8; 32] = [b'v'; 32];

/// Room for names while a directory is read.
const LISTING: usize = 32 << 10;

/// Room for any target of a symbolic link.
const PATH_MAX: usize = 4096;

/// The file that is linked to.
const TARGET: &std::ffi::CStr = c"target";

/// A client.
pub struct Client {
    operation: Operation,
    path: PathBuf,
    dir: OwnedFd,
    tree: Tree,
    names: Vec<CString>,
    /// For renames.
    other_names: Vec<CString>,
    open: Vec<OwnedFd>,
    /// Operations done; of the batch, for one that makes or removes names.
    done: u64,
    /// Of one that removes names: those that are there before a batch.
    there: u64,
    buffer: Vec<u8>,
    listing: Vec<u8>,
}

impl Client {
    /// Makes what the operation needs in the directory `path`, unless it is `existing`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(
        operation: Operation,
        path: PathBuf,
        tree: Tree,
        block: usize,
        existing: bool,
    ) -> Result<Client, LoadError> {
        let prepare = |source| LoadError::Prepare {
            path: path.clone(),
            source,
        };
        if !existing {
            match operation.effect() {
                Effect::Keeps | Effect::Learns => tree.make(&path),
                Effect::Makes | Effect::Removes => tree.make_directories(&path),
            }
            .map_err(prepare)?;
        }
        let dir = tree::open_dir(&path).map_err(prepare)?;
        let names = tree.names();
        let mut client = Client {
            operation,
            dir,
            tree,
            other_names: match operation {
                Operation::Rename => tree.other_names(),
                _ => Vec::new(),
            },
            names,
            open: Vec::new(),
            done: 0,
            there: 0,
            buffer: vec![0; block.max(PATH_MAX)],
            listing: Vec::with_capacity(LISTING),
            path: path.clone(),
        };
        client.open_files().map_err(|errno| prepare(errno.into()))?;
        Ok(client)
    }

    fn open_files(&mut self) -> Result<(), Errno> {
        if self.operation.on_open_files() {
            for name in &self.names {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                self.open
                    .push(rustix::fs::openat(&self.dir, name, flags, Mode::empty())?);
            }
        }
        match self.operation {
            Operation::Getxattr => {
                for file in &self.open {
                    rustix::fs::fsetxattr(file, ATTRIBUTE, &VALUE, XattrFlags::empty())?;
                }
            }
            Operation::Link => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
                rustix::fs::openat(&self.dir, TARGET, flags, Mode::from_raw_mode(0o644))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Gets ready for a batch of up to `wanted` operations; returns how many there can be.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn ready(&mut self, wanted: u64) -> Result<u64, LoadError> {
        match self.operation.effect() {
            Effect::Keeps => return Ok(u64::MAX),
            Effect::Learns => {
                self.done = 0;
                return Ok(self.tree.files);
            }
            Effect::Makes | Effect::Removes => {}
        }
        let item = self.operation.item(0);
        let done = std::mem::take(&mut self.done);
        let batch = match self.operation.effect() {
            Effect::Makes => self.tree.files,
            _ => wanted.clamp(1, self.tree.files),
        };
        let result = if self.operation.effect() == Effect::Makes {
            self.each(0..done, |client, index| {
                tree::remove_item(&client.dir, &client.names[index], item)
            })
        } else {
            let there = self.there;
            self.there = batch.max(there);
            self.each((0..done).chain(there..batch), |client, index| {
                tree::make_item(&client.dir, &client.names[index], item)
            })
        };
        result.map_err(|(path, source)| LoadError::Prepare { path, source })?;
        Ok(batch)
    }

    fn each(
        &self,
        range: impl Iterator<Item = u64>,
        act: impl Fn(&Client, usize) -> Result<(), Errno>,
    ) -> Result<(), (PathBuf, io::Error)> {
        for index in range {
            let index = index as usize;
            act(self, index).map_err(|errno| (self.path_of(&self.names[index]), errno.into()))?;
        }
        Ok(())
    }

    /// Gives renamed files their first names again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn restore(&mut self) -> Result<(), LoadError> {
        if self.operation != Operation::Rename {
            return Ok(());
        }
        let files = self.names.len() as u64;
        self.each(0..files, |client, index| {
            let passes = client.done / files + u64::from((index as u64) < client.done % files);
            if passes.is_multiple_of(2) {
                return Ok(());
            }
            let (old, new) = (&client.other_names[index], &client.names[index]);
            rustix::fs::renameat(&client.dir, old, &client.dir, new)
        })
        .map_err(|(path, source)| LoadError::Prepare { path, source })
    }

    /// Performs one operation; returns what it counts for.
    ///
    /// # Errors
    /// The operation failed.
    pub fn perform(&mut self) -> Result<u64, LoadError> {
        let index = match self.names.len() as u64 {
            0 => 0,
            files => (self.done % files) as usize,
        };
        let units = self.step(index).map_err(|errno| LoadError::Operation {
            operation: self.operation,
            path: match self.names.get(index) {
                Some(name) if self.operation != Operation::Readdir => self.path_of(name),
                _ => self.path.clone(),
            },
            source: errno.into(),
        })?;
        self.done += 1;
        Ok(units)
    }

    fn path_of(&self, name: &CString) -> PathBuf {
        self.path
            .join(Path::new(OsStr::from_bytes(name.as_bytes())))
    }

    #[inline]
    fn step(&mut self, index: usize) -> Result<u64, Errno> {
        let dir = &self.dir;
        let reading = OFlags::RDONLY | OFlags::CLOEXEC;
        match self.operation {
            Operation::Stat | Operation::Lookup => {
                rustix::fs::statat(dir, &self.names[index], AtFlags::empty())?;
            }
            Operation::Fstat => {
                rustix::fs::fstat(&self.open[index])?;
            }
            Operation::Create => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o644);
                rustix::fs::openat(dir, &self.names[index], flags, mode)?;
            }
            Operation::Open => {
                rustix::fs::openat(dir, &self.names[index], reading, Mode::empty())?;
            }
            Operation::ReadSmall => {
                let file = rustix::fs::openat(dir, &self.names[index], reading, Mode::empty())?;
                if rustix::io::pread(&file, &mut self.buffer[..], 0)? == 0 {
                    return Err(Errno::NODATA);
                }
            }
            Operation::Chmod => {
                let pass = self.done / self.names.len() as u64;
                let mode = Mode::from_raw_mode(if pass.is_multiple_of(2) { 0o640 } else { 0o644 });
                rustix::fs::chmodat(dir, &self.names[index], mode, AtFlags::empty())?;
            }
            Operation::Setxattr => {
                let file = &self.open[index];
                rustix::fs::fsetxattr(file, ATTRIBUTE, &VALUE, XattrFlags::empty())?;
            }
            Operation::Getxattr => {
                rustix::fs::fgetxattr(&self.open[index], ATTRIBUTE, &mut self.buffer[..])?;
            }
            Operation::Rename => {
                let (mut old, mut new) = (&self.names[index], &self.other_names[index]);
                if (self.done / self.names.len() as u64) % 2 == 1 {
                    std::mem::swap(&mut old, &mut new);
                }
                rustix::fs::renameat(dir, old, dir, new)?;
            }
            Operation::Unlink => {
                rustix::fs::unlinkat(dir, &self.names[index], AtFlags::empty())?;
            }
            Operation::Rmdir => {
                rustix::fs::unlinkat(dir, &self.names[index], AtFlags::REMOVEDIR)?;
            }
            Operation::Mkdir => {
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::mkdirat(dir, &self.names[index], mode)?;
            }
            Operation::Symlink => {
                rustix::fs::symlinkat(TARGET, dir, &self.names[index])?;
            }
            Operation::Readlink => {
                rustix::fs::readlinkat_raw(dir, &self.names[index], &mut self.buffer[..])?;
            }
            Operation::Link => {
                rustix::fs::linkat(dir, TARGET, dir, &self.names[index], AtFlags::empty())?;
            }
            Operation::Readdir => return self.list(),
            Operation::Statfs => {
                rustix::fs::fstatfs(dir)?;
            }
            Operation::ReadSequential
            | Operation::ReadRandom
            | Operation::WriteSequential
            | Operation::WriteRandom => return Err(Errno::INVAL),
        }
        Ok(1)
    }

    fn list(&mut self) -> Result<u64, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.dir, c".", flags, Mode::empty())?;
        let mut entries = RawDir::new(&dir, self.listing.spare_capacity_mut());
        let mut count = 0;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                count += 1;
            }
        }
        Ok(count)
    }
}
