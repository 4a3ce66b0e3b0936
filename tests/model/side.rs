//! One of the two trees operations are made on: the mount, or the plain directory it is compared with.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{
    self, Access, AtFlags, CWD, Dev, FallocateFlags, FileType, FlockOperation, Gid, IFlags, Mode,
    OFlags, RawDir, RenameFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::observe::{Digest, Meta, Seen, extents};
use crate::op::{Name, Op, SLOTS, Step, Target, Time, USERS};
use crate::support::mapping::Mapping;

/// What a system call gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Done,
    Number(u64),
    Bytes(Digest),
    Names(Vec<String>),
    /// A rule that holds for one tree on its own was broken.
    Broken(String),
}

/// What one step did to one tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    pub result: Result<Value, Errno>,
    /// Attributes afterwards of everything the step names.
    pub seen: Vec<(String, Result<Meta, Errno>)>,
    /// Which of them got a new mtime and a new ctime.
    pub touched: Vec<(String, Option<(bool, bool)>)>,
}

/// A tree.
pub struct Side {
    root: OwnedFd,
    path: PathBuf,
    /// The same tree behind the server's back.
    host: Option<PathBuf>,
    slots: [Option<OwnedFd>; SLOTS],
    fine_times: bool,
}

const PAGE: u64 = 4096;

impl Side {
    /// A tree at `path`; `host` is where the same files are without the server; `fine_times`: a change is
    /// always seen in mtime and ctime.
    pub fn new(path: &Path, host: Option<&Path>, fine_times: bool) -> io::Result<Side> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Side {
            root: fs::openat(CWD, path, flags, Mode::empty())?,
            path: path.to_owned(),
            host: host.map(Path::to_owned),
            slots: Default::default(),
            fine_times,
        })
    }

    /// Makes the tree the working directory of this thread.
    pub fn enter(&self) {
        rustix::process::fchdir(&self.root).expect("the root of a run stays");
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is without the server.
    pub fn host(&self) -> Option<&Path> {
        self.host.as_deref()
    }

    /// Makes the step and says what it did.
    pub fn apply(&mut self, step: &Step) -> Effect {
        self.enter();
        let before = self.look(&step.op);
        let without = self.without_set_id(&step.op);
        let result = {
            let _assumed = USERS[step.user].assume();
            self.perform(without.as_ref().unwrap_or(&step.op))
        };
        let after = self.look(&step.op);
        // These make a slot another file, which may have the same inode number.
        let replaced = matches!(step.op, Op::Open { .. } | Op::Dup { .. });
        let touched = before
            .iter()
            .filter(|(label, _)| self.fine_times && !(replaced && label.starts_with("slot")))
            .filter_map(|(label, before)| {
                Some((
                    label,
                    before,
                    &after.iter().find(|(other, _)| other == label)?.1,
                ))
            })
            .map(|(label, before, after)| {
                let both = before.as_ref().ok().zip(after.as_ref().ok());
                (
                    label.clone(),
                    both.and_then(|(before, after)| before.touched(after)),
                )
            })
            .collect();
        let seen = after
            .into_iter()
            .map(|(label, seen)| (label, seen.map(|seen| seen.meta())))
            .collect();
        Effect {
            result,
            seen,
            touched,
        }
    }

    /// The chmod(2) `op` without set-id bits if the file is open: what root writes to it would keep them on the
    /// host, and loses them where the kernel writes by itself.
    fn without_set_id(&self, op: &Op) -> Option<Op> {
        let Op::Chmod { target, mode } = op else {
            return None;
        };
        let file = match target {
            Target::Slot(slot) => fs::fstat(self.slot(*slot).ok()?).ok()?,
            Target::Path(path) => fs::statat(CWD, &path.0, AtFlags::empty()).ok()?,
        };
        let open = self.slots.iter().flatten().any(|slot| {
            fs::fstat(slot)
                .is_ok_and(|slot| (slot.st_dev, slot.st_ino) == (file.st_dev, file.st_ino))
        });
        open.then(|| Op::Chmod {
            target: target.clone(),
            mode: mode & !(libc::S_ISUID | libc::S_ISGID),
        })
    }

    fn look(&self, op: &Op) -> Vec<(String, Result<Seen, Errno>)> {
        let mut out = Vec::new();
        for path in op.paths() {
            let parent = path.parent();
            for path in [path, parent] {
                out.push((format!("{path:?}"), Seen::path(&path)));
            }
        }
        for slot in op.slots() {
            if let Some(fd) = &self.slots[slot] {
                out.push((format!("slot {slot}"), Seen::open(fd.as_fd())));
            }
        }
        out
    }

    fn slot(&self, slot: usize) -> Result<BorrowedFd<'_>, Errno> {
        self.slots[slot]
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or(Errno::BADF)
    }

    fn perform(&mut self, op: &Op) -> Result<Value, Errno> {
        match op {
            Op::Open {
                slot,
                path,
                flags,
                mode,
            } => {
                // The number of the descriptor is free again before the file is opened, on both sides.
                self.slots[*slot] = None;
                self.slots[*slot] = Some(fs::openat(
                    CWD,
                    &path.0,
                    *flags,
                    Mode::from_raw_mode(*mode),
                )?);
                done()
            }
            Op::Close { slot } => self.slots[*slot]
                .take()
                .ok_or(Errno::BADF)
                .map(|_| Value::Done),
            Op::Dup { from, to } => {
                let fd = rustix::io::fcntl_dupfd_cloexec(self.slot(*from)?, 0)?;
                self.slots[*to] = Some(fd);
                done()
            }
            Op::Read { .. }
            | Op::Pread { .. }
            | Op::Write { .. }
            | Op::Pwrite { .. }
            | Op::DirectRead { .. }
            | Op::MapRead { .. }
            | Op::MapWrite { .. }
            | Op::CopyRange { .. }
            | Op::Sendfile { .. } => self.transfer(op),
            Op::Seek {
                slot,
                offset,
                whence,
            } => {
                let to = match whence {
                    0 => SeekFrom::Start(offset.unsigned_abs()),
                    1 => SeekFrom::Current(*offset),
                    _ => SeekFrom::End(*offset),
                };
                // Offsets in directories are the file system's business.
                let fd = self.slot(*slot)?;
                if is(fd, FileType::Directory) {
                    done()
                } else {
                    fs::seek(fd, to).map(Value::Number)
                }
            }
            Op::Extents { slot } => self.extents(*slot),
            Op::Truncate {
                target: Target::Slot(slot),
                len,
            } => fs::ftruncate(self.slot(*slot)?, *len).map(unit),
            Op::Truncate {
                target: Target::Path(path),
                len,
            } => nix::unistd::truncate(path.0.as_c_str(), len.cast_signed())
                .map_err(errno)
                .map(unit),
            Op::Fallocate {
                slot,
                mode,
                offset,
                len,
            } => fs::fallocate(
                self.slot(*slot)?,
                FallocateFlags::from_bits_retain(*mode),
                *offset,
                *len,
            )
            .map(unit),
            Op::Fsync { slot, data: true } => fs::fdatasync(self.slot(*slot)?).map(unit),
            Op::Fsync { slot, data: false } => fs::fsync(self.slot(*slot)?).map(unit),
            Op::Flock { slot, operation } => {
                const OPERATIONS: [FlockOperation; 3] = [
                    FlockOperation::NonBlockingLockShared,
                    FlockOperation::NonBlockingLockExclusive,
                    FlockOperation::NonBlockingUnlock,
                ];
                fs::flock(self.slot(*slot)?, OPERATIONS[usize::from(*operation)]).map(unit)
            }
            Op::RecordLock {
                slot,
                kind,
                start,
                len,
            } => {
                const KINDS: [i32; 3] = [libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK];
                let lock = libc::flock {
                    l_type: KINDS[usize::from(*kind)] as i16,
                    l_whence: libc::SEEK_SET as i16,
                    l_start: *start,
                    l_len: *len,
                    l_pid: 0,
                };
                fcntl(self.slot(*slot)?, FcntlArg::F_OFD_SETLK(&lock))
                    .map_err(errno)
                    .map(|_| Value::Done)
            }
            Op::ReadDirSlot { slot, limit } => list(self.slot(*slot)?, *limit),
            Op::LinkOpen { slot, to } => {
                fs::linkat(self.slot(*slot)?, c"", CWD, &to.0, AtFlags::EMPTY_PATH).map(unit)
            }
            Op::Chmod {
                target: Target::Slot(slot),
                mode,
            } => fs::fchmod(self.slot(*slot)?, Mode::from_raw_mode(*mode)).map(unit),
            Op::Chown {
                target: Target::Slot(slot),
                uid,
                gid,
                ..
            } => fs::fchown(
                self.slot(*slot)?,
                uid.map(Uid::from_raw),
                gid.map(Gid::from_raw),
            )
            .map(unit),
            Op::Utimens {
                target: Target::Slot(slot),
                atime,
                mtime,
                ..
            } => fs::futimens(self.slot(*slot)?, &times(*atime, *mtime)).map(unit),
            Op::SetXattr { .. }
            | Op::GetXattr { .. }
            | Op::ListXattr { .. }
            | Op::RemoveXattr { .. } => self.xattr(op),
            _ => by_name(op),
        }
    }

    fn transfer(&self, op: &Op) -> Result<Value, Errno> {
        // What goes through a FIFO never leaves the mount, nor do its times; `filesystem` has a test for FIFOs.
        for slot in op.slots() {
            if is(self.slot(slot)?, FileType::Fifo) {
                return Err(Errno::SPIPE);
            }
        }
        match op {
            Op::Read { slot, len } => {
                let mut buffer = vec![0; *len];
                let got = rustix::io::read(self.slot(*slot)?, &mut buffer)?;
                Ok(Value::Bytes(Digest::of(&buffer[..got])))
            }
            Op::Pread { slot, offset, len } => {
                let mut buffer = vec![0; *len];
                let got = rustix::io::pread(self.slot(*slot)?, &mut buffer, *offset)?;
                Ok(Value::Bytes(Digest::of(&buffer[..got])))
            }
            Op::Write { slot, len, byte } => {
                number(rustix::io::write(self.slot(*slot)?, &pattern(*len, *byte)))
            }
            Op::Pwrite {
                slot,
                offset,
                len,
                byte,
            } => number(rustix::io::pwrite(
                self.slot(*slot)?,
                &pattern(*len, *byte),
                *offset,
            )),
            Op::DirectRead { path, offset, len } => {
                let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let file = fs::openat(CWD, &path.0, flags, Mode::empty())?;
                let mut buffer = vec![0; *len + PAGE as usize];
                let skip = buffer.as_ptr().align_offset(PAGE as usize);
                let got = rustix::io::pread(file, &mut buffer[skip..skip + *len], *offset)?;
                Ok(Value::Bytes(Digest::of(&buffer[skip..skip + got])))
            }
            Op::MapRead { slot, offset, len } => {
                let Some((start, len)) = self.inside(*slot, *offset, *len)? else {
                    return done();
                };
                let within = (start % PAGE) as usize;
                let mapping =
                    Mapping::shared(self.slot(*slot)?, start - start % PAGE, within + len, false)?;
                let mut buffer = vec![0; len];
                mapping.read(within, &mut buffer);
                Ok(Value::Bytes(Digest::of(&buffer)))
            }
            Op::MapWrite {
                slot,
                offset,
                len,
                byte,
            } => {
                let Some((start, len)) = self.inside(*slot, *offset, *len)? else {
                    return done();
                };
                let within = (start % PAGE) as usize;
                let mut mapping =
                    Mapping::shared(self.slot(*slot)?, start - start % PAGE, within + len, true)?;
                mapping.write(within, &pattern(len, *byte));
                mapping.sync().map(unit)
            }
            Op::CopyRange {
                from,
                to,
                offset_in,
                offset_out,
                len,
            } => {
                let (mut at, mut into) = (*offset_in, *offset_out);
                number(fs::copy_file_range(
                    self.slot(*from)?,
                    Some(&mut at),
                    self.slot(*to)?,
                    Some(&mut into),
                    *len,
                ))
            }
            Op::Sendfile { from, to, len } => {
                number(fs::sendfile(self.slot(*to)?, self.slot(*from)?, None, *len))
            }
            other => unreachable!("{other:?} transfers nothing"),
        }
    }

    /// The part of a range of bytes that is inside the file: accessing a mapping beyond its end is fatal.
    fn inside(&self, slot: usize, offset: u64, len: usize) -> Result<Option<(u64, usize)>, Errno> {
        let fd = self.slot(slot)?;
        if !is(fd, FileType::RegularFile) {
            return Ok(None);
        }
        let size = fs::fstat(fd)?.st_size.cast_unsigned();
        let start = if size == 0 { 0 } else { offset % size };
        let len = (size - start).min(len as u64) as usize;
        Ok((len > 0).then_some((start, len)))
    }

    /// Where data and holes are. Two files with the same history may differ in that, so the mount is compared with
    /// the same file on the host.
    fn extents(&self, slot: usize) -> Result<Value, Errno> {
        let fd = self.slot(slot)?;
        if !is(fd, FileType::RegularFile) {
            return done();
        }
        let mut got = extents(fd)?;
        let Some(host) = self.behind(fd) else {
            return done();
        };
        for _ in 0..5 {
            let Ok(file) = File::open(&host) else {
                return done();
            };
            let expected = extents(file.as_fd())?;
            if got == expected {
                return done();
            }
            // Pages may be written back at any time, which changes what counts as data.
            fs::fsync(fd)?;
            got = extents(fd)?;
            if got != expected {
                continue;
            }
        }
        let expected = File::open(&host)
            .map_err(|_| Errno::IO)
            .and_then(|file| extents(file.as_fd()))?;
        Ok(Value::Broken(format!(
            "extents {got:?}, on the host {expected:?}"
        )))
    }

    /// The file on the host behind an open one, if it still has its name.
    fn behind(&self, fd: BorrowedFd<'_>) -> Option<PathBuf> {
        use std::os::fd::AsRawFd;
        let host = self.host.as_ref()?;
        let name = fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok()?;
        let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let path = host.join(name.strip_prefix(&self.path).ok()?);
        let same = fs::lstat(&path).ok()?.st_ino == fs::fstat(fd).ok()?.st_ino;
        same.then_some(path)
    }

    fn xattr(&self, op: &Op) -> Result<Value, Errno> {
        match op {
            Op::SetXattr {
                target,
                name,
                value,
                flags,
            } => {
                let flags = XattrFlags::from_bits_retain(*flags);
                match target {
                    Target::Slot(slot) => fs::fsetxattr(self.slot(*slot)?, *name, value, flags),
                    Target::Path(path) => fs::lsetxattr(&path.0, *name, value, flags),
                }
                .map(unit)
            }
            Op::GetXattr { target, name, room } => {
                let mut buffer = vec![0_u8; *room];
                let len = match target {
                    Target::Slot(slot) => {
                        fs::fgetxattr(self.slot(*slot)?, *name, buffer.as_mut_slice())?
                    }
                    Target::Path(path) => fs::lgetxattr(&path.0, *name, buffer.as_mut_slice())?,
                };
                if *room == 0 {
                    Ok(Value::Number(len as u64))
                } else {
                    Ok(Value::Bytes(Digest::of(&buffer[..len])))
                }
            }
            Op::ListXattr { target } => {
                let mut buffer = vec![0_u8; 65536];
                let len = match target {
                    Target::Slot(slot) => fs::flistxattr(self.slot(*slot)?, buffer.as_mut_slice())?,
                    Target::Path(path) => fs::llistxattr(&path.0, buffer.as_mut_slice())?,
                };
                Ok(Value::Names(xattr_names(&buffer[..len])))
            }
            Op::RemoveXattr {
                target: Target::Slot(slot),
                name,
            } => fs::fremovexattr(self.slot(*slot)?, *name).map(unit),
            Op::RemoveXattr {
                target: Target::Path(path),
                name,
            } => fs::lremovexattr(&path.0, *name).map(unit),
            other => unreachable!("{other:?} is not about extended attributes"),
        }
    }
}

/// Operations that need nothing but names, relative to the working directory.
fn by_name(op: &Op) -> Result<Value, Errno> {
    let follow = |follow: bool| {
        if follow {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        }
    };
    match op {
        Op::Mkdir { path, mode } => fs::mkdirat(CWD, &path.0, Mode::from_raw_mode(*mode)).map(unit),
        Op::Rmdir { path } => fs::unlinkat(CWD, &path.0, AtFlags::REMOVEDIR).map(unit),
        Op::Unlink { path } => fs::unlinkat(CWD, &path.0, AtFlags::empty()).map(unit),
        Op::Rename { from, to, flags } => fs::renameat_with(
            CWD,
            &from.0,
            CWD,
            &to.0,
            RenameFlags::from_bits_retain(*flags),
        )
        .map(unit),
        Op::Link { from, to, follow } => {
            let flags = if *follow {
                AtFlags::SYMLINK_FOLLOW
            } else {
                AtFlags::empty()
            };
            fs::linkat(CWD, &from.0, CWD, &to.0, flags).map(unit)
        }
        Op::Symlink { target, path } => fs::symlinkat(&target.0, CWD, &path.0).map(unit),
        Op::Readlink { path } => fs::readlinkat(CWD, &path.0, Vec::new())
            .map(|target| Value::Bytes(Digest::of(target.as_bytes()))),
        Op::Mknod { path, kind, mode } => {
            // A number for local use: nothing drives it.
            let device: Dev = if *kind == libc::S_IFCHR {
                fs::makedev(60, 7)
            } else {
                0
            };
            fs::mknodat(
                CWD,
                &path.0,
                FileType::from_raw_mode(*kind),
                Mode::from_raw_mode(*mode),
                device,
            )
            .map(unit)
        }
        Op::Chmod {
            target: Target::Path(path),
            mode,
        } => fs::chmodat(CWD, &path.0, Mode::from_raw_mode(*mode), AtFlags::empty()).map(unit),
        Op::Chown {
            target: Target::Path(path),
            uid,
            gid,
            follow: f,
        } => fs::chownat(
            CWD,
            &path.0,
            uid.map(Uid::from_raw),
            gid.map(Gid::from_raw),
            follow(*f),
        )
        .map(unit),
        Op::Utimens {
            target: Target::Path(path),
            atime,
            mtime,
            follow: f,
        } => fs::utimensat(CWD, &path.0, &times(*atime, *mtime), follow(*f)).map(unit),
        Op::ReadDir { path, from } => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            list(
                fs::openat(CWD, &path.0, flags, Mode::empty())?.as_fd(),
                *from,
            )
        }
        Op::Stat { path, follow: f } => fs::statat(CWD, &path.0, follow(*f)).map(drop).map(unit),
        Op::Access { path, mode } => fs::accessat(
            CWD,
            &path.0,
            Access::from_bits_retain(u32::from(*mode)),
            AtFlags::EACCESS,
        )
        .map(unit),
        Op::StatFs { path } => fs::statvfs(&path.0).map(|stat| {
            let text = format!(
                "{} {} {} {}",
                stat.f_bsize, stat.f_frsize, stat.f_blocks, stat.f_namemax
            );
            Value::Names(vec![text])
        }),
        Op::GetFlags { path } => {
            fs::ioctl_getflags(for_flags(path)?).map(|flags| Value::Number(u64::from(flags.bits())))
        }
        Op::SetFlags { path, flags } => {
            const CHANGEABLE: IFlags = IFlags::APPEND
                .union(IFlags::IMMUTABLE)
                .union(IFlags::NODUMP);
            let file = for_flags(path)?;
            let others = fs::ioctl_getflags(&file)? - CHANGEABLE;
            fs::ioctl_setflags(&file, others | IFlags::from_bits_retain(*flags)).map(unit)
        }
        Op::Populate { path, count } => {
            for number in 0..*count {
                let name = [path.bytes(), format!("/many-{number}").as_bytes()].concat();
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
                fs::openat(CWD, Name::new(name).0, flags, Mode::from_raw_mode(0o644))?;
            }
            done()
        }
        other => unreachable!("{other:?} needs more than a name"),
    }
}

/// Opens a file to ask for its flags. FUSE only has them for files and directories, ext4 for some others too.
fn for_flags(path: &Name) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = fs::openat(CWD, &path.0, flags, Mode::empty())?;
    let has_flags = is(fd.as_fd(), FileType::RegularFile) || is(fd.as_fd(), FileType::Directory);
    if has_flags { Ok(fd) } else { Err(Errno::NOTTY) }
}

/// Names and types in a directory, sorted; that seeking to the place after an entry gives the rest is checked too.
pub fn list(fd: BorrowedFd<'_>, from: usize) -> Result<Value, Errno> {
    if !is(fd, FileType::Directory) {
        return Err(Errno::NOTDIR);
    }
    fs::seek(fd, SeekFrom::Start(0))?;
    let (mut names, cookies) = entries(fd)?;
    if let Some(cookie) = from.checked_sub(1).and_then(|index| cookies.get(index)) {
        fs::seek(fd, SeekFrom::Start(*cookie))?;
        let (rest, _) = entries(fd)?;
        if rest != names[from..] {
            return Ok(Value::Broken(format!(
                "after entry {from} of {names:?} comes {rest:?}"
            )));
        }
    }
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Ok(Value::Broken(format!("a name is there twice: {names:?}")));
    }
    Ok(Value::Names(names))
}

fn entries(fd: BorrowedFd<'_>) -> Result<(Vec<String>, Vec<u64>), Errno> {
    let mut buffer = vec![MaybeUninit::uninit(); 2048];
    let mut directory = RawDir::new(fd, &mut buffer);
    let (mut names, mut cookies) = (Vec::new(), Vec::new());
    while let Some(entry) = directory.next() {
        let entry = entry?;
        names.push(format!(
            "{} {:?}",
            entry.file_name().to_bytes().escape_ascii(),
            entry.file_type()
        ));
        cookies.push(entry.next_entry_cookie());
    }
    Ok((names, cookies))
}

/// The names of a list as listxattr gives it, sorted.
pub fn xattr_names(list: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = list
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.sort();
    names
}

fn is(fd: BorrowedFd<'_>, kind: FileType) -> bool {
    fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind)
}

fn times(atime: Time, mtime: Time) -> Timestamps {
    let spec = |time| match time {
        Time::Now => Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_NOW,
        },
        Time::Omit => Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_OMIT,
        },
        Time::At(tv_sec, tv_nsec) => Timespec { tv_sec, tv_nsec },
    };
    Timestamps {
        last_access: spec(atime),
        last_modification: spec(mtime),
    }
}

fn pattern(len: usize, byte: u8) -> Vec<u8> {
    (0..len).map(|index| byte ^ (index / 509) as u8).collect()
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}

fn unit((): ()) -> Value {
    Value::Done
}

fn done() -> Result<Value, Errno> {
    Ok(Value::Done)
}

fn number(result: Result<usize, Errno>) -> Result<Value, Errno> {
    result.map(|number| Value::Number(number as u64))
}
