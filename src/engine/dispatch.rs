//! A decoded request becomes a call of the file system, and its outcome a reply encoded in place.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuse_proto::dirent::{DirentPlusWriter, DirentWriter};
use fuse_proto::flags::{
    FsyncFlags, GetattrFlags, IoctlFlags, LkFlags, OpenFlags, OpenInFlags, ReleaseFlags,
    SetattrValid, SetxattrFlags, WriteFlags,
};
use fuse_proto::{Dialect, EncodeError, Extensions, Operation, ReplyWriter, Request};
use fuse_proto::{
    fuse_attr_out, fuse_copy_file_range_in, fuse_copy_file_range_out, fuse_create_in,
    fuse_entry_out, fuse_ioctl_out, fuse_lk_in, fuse_lk_out, fuse_lseek_out, fuse_open_out,
    fuse_setattr_in, fuse_statfs_out, fuse_statx_out, fuse_write_out,
};

use super::metrics::CacheEvent;
use super::outcome::{Answer, Grant, Outcome, take_back, unencodable};
use super::{
    Attributes, Context, CopyRequest, Creation, Entry, Errno, FileHandle, FileSystem, IoctlRequest,
    LockRequest, NodeId, Opened, Payload, ReadRequest, Result, SetAttr, SetTime, WriteRequest,
};

/// Serves one request that wants a reply. Those that do not, and INIT, are the queue's.
pub(super) fn dispatch<F: FileSystem>(
    fs: &F,
    cx: &Context<'_>,
    request: &Request<'_>,
    piped: Option<Payload<'_>>,
    dialect: Dialect,
    payload: &mut [u8],
) -> Outcome {
    match serve(fs, cx, request, piped, dialect, payload) {
        Ok(outcome) => outcome,
        Err(errno) => errno.into(),
    }
}

fn serve<F: FileSystem>(
    fs: &F,
    cx: &Context<'_>,
    request: &Request<'_>,
    piped: Option<Payload<'_>>,
    dialect: Dialect,
    payload: &mut [u8],
) -> Result<Outcome> {
    let node = cx.root.node(request.header.nodeid);
    let done = |encoded: std::result::Result<usize, EncodeError>| {
        Ok(Outcome::of(
            encoded.map(Answer::Payload).map_err(unencodable),
        ))
    };
    let empty = || Ok(Outcome::of(Ok(Answer::Payload(0))));
    match &request.operation {
        Operation::Lookup { name } => {
            let found = fs.lookup(cx, node, os(name));
            if matches!(
                &found,
                Err(Errno::ENOENT)
                    | Ok(Entry {
                        node: NodeId(0),
                        ..
                    })
            ) {
                cx.count(CacheEvent::NoSuchName);
            }
            let mut entry = found?;
            entry.node = NodeId(cx.root.number(entry.node));
            Ok(entry_outcome(&entry, payload, dialect))
        }
        Operation::Getattr(arg) => {
            let fh = (GetattrFlags::from_bits_retain(arg.getattr_flags).contains(GetattrFlags::FH))
                .then_some(FileHandle(arg.fh));
            done(attributes(&fs.getattr(cx, node, fh)?, payload, dialect))
        }
        Operation::Statx(arg) => {
            let fh = (GetattrFlags::from_bits_retain(arg.getattr_flags).contains(GetattrFlags::FH))
                .then_some(FileHandle(arg.fh));
            let statx = fs.statx(cx, node, fh, arg.sx_flags, arg.sx_mask)?;
            let (attr_valid, attr_valid_nsec) = ttl(statx.ttl);
            let out = fuse_statx_out {
                attr_valid,
                attr_valid_nsec,
                stat: statx.stat,
                ..Default::default()
            };
            done(ReplyWriter::new(payload, dialect).statx(&out))
        }
        Operation::Setattr(arg) => {
            let (fh, set) = set_attr(arg);
            done(attributes(
                &fs.setattr(cx, node, fh, &set)?,
                payload,
                dialect,
            ))
        }
        Operation::Readlink => {
            let len = fs.readlink(cx, node, payload)?;
            Ok(Outcome::of(Ok(Answer::Payload(len))))
        }
        Operation::Symlink { name, target, ext } => {
            let creation = Creation {
                mode: 0o777,
                umask: 0,
                rdev: 0,
                kill_suidgid: false,
                extensions: *ext,
            };
            let entry = fs.symlink(cx, node, os(name), target, &creation)?;
            Ok(entry_outcome(&entry, payload, dialect))
        }
        Operation::Mknod { arg, name, ext } => {
            let creation = Creation {
                mode: arg.mode,
                umask: arg.umask,
                rdev: arg.rdev,
                kill_suidgid: false,
                extensions: *ext,
            };
            let entry = fs.mknod(cx, node, os(name), &creation)?;
            Ok(entry_outcome(&entry, payload, dialect))
        }
        Operation::Mkdir { arg, name, ext } => {
            let creation = Creation {
                mode: arg.mode,
                umask: arg.umask,
                rdev: 0,
                kill_suidgid: false,
                extensions: *ext,
            };
            let entry = fs.mkdir(cx, node, os(name), &creation)?;
            Ok(entry_outcome(&entry, payload, dialect))
        }
        Operation::Unlink { name } => {
            fs.unlink(cx, node, os(name))?;
            empty()
        }
        Operation::Rmdir { name } => {
            fs.rmdir(cx, node, os(name))?;
            empty()
        }
        Operation::Rename {
            newdir,
            flags,
            name,
            newname,
        } => {
            fs.rename(
                cx,
                (node, os(name)),
                (cx.root.node(*newdir), os(newname)),
                *flags,
            )?;
            empty()
        }
        Operation::Link { oldnodeid, name } => {
            let entry = fs.link(cx, cx.root.node(*oldnodeid), node, os(name))?;
            Ok(entry_outcome(&entry, payload, dialect))
        }
        Operation::Open(arg) => {
            let kill =
                OpenInFlags::from_bits_retain(arg.open_flags).contains(OpenInFlags::KILL_SUIDGID);
            let opened = fs.open(cx, node, arg.flags, kill)?;
            cx.count(cache_event(&opened));
            let encoded = ReplyWriter::new(payload, dialect).open(&open_out(&opened));
            Ok(Outcome::granting(encoded, Grant::Open(node, opened.fh)))
        }
        Operation::Create { arg, name, ext } => {
            let (entry, opened) = fs.create(cx, node, os(name), arg.flags, &creation(arg, ext))?;
            cx.count(cache_event(&opened));
            Ok(create_outcome(&entry, &opened, payload, dialect))
        }
        Operation::Tmpfile { arg, ext, .. } => {
            let (entry, opened) = fs.tmpfile(cx, node, arg.flags, &creation(arg, ext))?;
            Ok(create_outcome(&entry, &opened, payload, dialect))
        }
        Operation::Read(arg) => {
            let size = arg
                .size
                .min(u32::try_from(payload.len()).unwrap_or(u32::MAX));
            let read = ReadRequest {
                offset: arg.offset,
                size,
                flags: arg.flags,
            };
            let data = fs.read(cx, node, FileHandle(arg.fh), &read)?;
            Ok(Outcome::of(Ok(Answer::Data(data, size as usize))))
        }
        Operation::Write { arg, data } => {
            let flags = WriteFlags::from_bits_retain(arg.write_flags);
            let write = WriteRequest {
                offset: arg.offset,
                flags: arg.flags,
                kill_suidgid: flags.contains(WriteFlags::KILL_SUIDGID),
                from_cache: flags.contains(WriteFlags::CACHE),
            };
            let data = piped.unwrap_or(Payload::Bytes(data));
            let size = fs.write(cx, node, FileHandle(arg.fh), &write, data)?;
            let out = fuse_write_out {
                size,
                ..Default::default()
            };
            let answer = ReplyWriter::new(payload, dialect)
                .write(&out)
                .map(Answer::Payload)
                .map_err(unencodable);
            Ok(Outcome {
                answer,
                grant: Grant::Nothing,
                written: u64::from(size),
            })
        }
        Operation::Statfs => {
            let st = fs.statfs(cx, node)?;
            done(ReplyWriter::new(payload, dialect).statfs(&fuse_statfs_out { st }))
        }
        Operation::Release(arg) => {
            let unlock = ReleaseFlags::from_bits_retain(arg.release_flags)
                .contains(ReleaseFlags::FLOCK_UNLOCK);
            fs.release(node, FileHandle(arg.fh), unlock.then_some(arg.lock_owner));
            empty()
        }
        Operation::Fsync(arg) => {
            fs.fsync(cx, node, FileHandle(arg.fh), data_only(arg.fsync_flags))?;
            empty()
        }
        Operation::Setxattr { arg, name, value } => {
            let kill = SetxattrFlags::from_bits_retain(arg.setxattr_flags)
                .contains(SetxattrFlags::ACL_KILL_SGID);
            fs.setxattr(cx, node, name, value, arg.flags, kill)?;
            empty()
        }
        Operation::Getxattr { arg, name } => xattr(arg.size, payload, dialect, |out| {
            fs.getxattr(cx, node, name, out)
        }),
        Operation::Listxattr(arg) => xattr(arg.size, payload, dialect, |out| {
            fs.listxattr(cx, node, out)
        }),
        Operation::Removexattr { name } => {
            fs.removexattr(cx, node, name)?;
            empty()
        }
        Operation::Flush(arg) => {
            fs.flush(cx, node, FileHandle(arg.fh), arg.lock_owner)?;
            empty()
        }
        Operation::Opendir(arg) => {
            let opened = fs.opendir(cx, node, arg.flags)?;
            let encoded = ReplyWriter::new(payload, dialect).open(&open_out(&opened));
            Ok(Outcome::granting(
                encoded,
                Grant::OpenDirectory(node, opened.fh),
            ))
        }
        Operation::Readdir(arg) => {
            let size = payload.len().min(arg.size as usize);
            let mut out = DirentWriter::new(&mut payload[..size]);
            fs.readdir(cx, node, FileHandle(arg.fh), arg.offset, &mut out)?;
            Ok(Outcome::of(Ok(Answer::Payload(out.len()))))
        }
        Operation::Readdirplus(arg) => {
            let size = payload.len().min(arg.size as usize);
            let mut out = DirentPlusWriter::new(&mut payload[..size]);
            let filled = fs.readdirplus(cx, node, FileHandle(arg.fh), arg.offset, &mut out);
            let len = out.len();
            match filled {
                Ok(()) => Ok(Outcome {
                    answer: Ok(Answer::Payload(len)),
                    grant: Grant::Entries(len),
                    written: 0,
                }),
                Err(errno) => {
                    take_back(fs, Grant::Entries(len), payload);
                    Err(errno)
                }
            }
        }
        Operation::Releasedir(arg) => {
            fs.releasedir(node, FileHandle(arg.fh));
            empty()
        }
        Operation::Fsyncdir(arg) => {
            fs.fsyncdir(cx, node, FileHandle(arg.fh), data_only(arg.fsync_flags))?;
            empty()
        }
        Operation::Syncfs(_) => {
            fs.syncfs(cx, node)?;
            empty()
        }
        Operation::Access(arg) => {
            fs.access(cx, node, arg.mask)?;
            empty()
        }
        Operation::Getlk(arg) => {
            let lk = fs.getlk(cx, node, FileHandle(arg.fh), &lock(arg, false))?;
            done(ReplyWriter::new(payload, dialect).lk(&fuse_lk_out { lk }))
        }
        Operation::Setlk(arg) => {
            fs.setlk(cx, node, FileHandle(arg.fh), &lock(arg, false))?;
            empty()
        }
        Operation::Setlkw(arg) => {
            fs.setlk(cx, node, FileHandle(arg.fh), &lock(arg, true))?;
            empty()
        }
        Operation::Fallocate(arg) => {
            fs.fallocate(
                cx,
                node,
                FileHandle(arg.fh),
                arg.offset,
                arg.length,
                arg.mode,
            )?;
            empty()
        }
        Operation::Lseek(arg) => {
            let offset = fs.lseek(cx, node, FileHandle(arg.fh), arg.offset, arg.whence)?;
            done(ReplyWriter::new(payload, dialect).lseek(&fuse_lseek_out { offset }))
        }
        Operation::CopyFileRange(arg) => {
            // The answer has 32 bits, so no more may be copied than it can tell.
            let copied = fs.copy_file_range(cx, &copy(node, arg, u64::from(!0xfff_u32)))?;
            let out = fuse_write_out {
                size: u32::try_from(copied).unwrap_or(u32::MAX),
                ..Default::default()
            };
            let answer = ReplyWriter::new(payload, dialect)
                .write(&out)
                .map(Answer::Payload)
                .map_err(unencodable);
            Ok(Outcome {
                answer,
                grant: Grant::Nothing,
                written: copied,
            })
        }
        Operation::CopyFileRange64(arg) => {
            let bytes_copied = fs.copy_file_range(cx, &copy(node, arg, u64::MAX))?;
            let out = fuse_copy_file_range_out { bytes_copied };
            let encoded = ReplyWriter::new(payload, dialect).copy_file_range_64(&out);
            let answer = encoded.map(Answer::Payload).map_err(unencodable);
            Ok(Outcome {
                answer,
                grant: Grant::Nothing,
                written: bytes_copied,
            })
        }
        Operation::Ioctl { arg, data } => {
            let flags = IoctlFlags::from_bits_retain(arg.flags);
            if flags.contains(IoctlFlags::UNRESTRICTED) {
                return Err(Errno::ENOTTY);
            }
            let ioctl = IoctlRequest {
                command: arg.cmd,
                argument: arg.arg,
                input: data,
                directory: flags.contains(IoctlFlags::DIR),
                compat: flags.contains(IoctlFlags::COMPAT),
            };
            let head = size_of::<fuse_ioctl_out>();
            let room = payload.len().min(head + arg.out_size as usize);
            let (result, len) = fs.ioctl(
                cx,
                node,
                FileHandle(arg.fh),
                &ioctl,
                &mut payload[head..room],
            )?;
            let out = fuse_ioctl_out {
                result,
                ..Default::default()
            };
            done(
                ReplyWriter::new(&mut payload[..head], dialect)
                    .ioctl(&out)
                    .map(|head| head + len),
            )
        }
        // FORGET, BATCH_FORGET, INTERRUPT, DESTROY, NOTIFY_REPLY and INIT do not come here.
        _ => Err(Errno::ENOSYS),
    }
}

fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

fn ttl(ttl: Duration) -> (u64, u32) {
    (ttl.as_secs(), ttl.subsec_nanos())
}

fn data_only(flags: u32) -> bool {
    FsyncFlags::from_bits_retain(flags).contains(FsyncFlags::FDATASYNC)
}

pub(super) fn attributes(
    attributes: &Attributes,
    payload: &mut [u8],
    dialect: Dialect,
) -> std::result::Result<usize, EncodeError> {
    let (attr_valid, attr_valid_nsec) = ttl(attributes.ttl);
    let out = fuse_attr_out {
        attr_valid,
        attr_valid_nsec,
        attr: attributes.attr,
        ..Default::default()
    };
    ReplyWriter::new(payload, dialect).attr(&out)
}

/// An [`Entry`] as the kernel wants it.
#[must_use]
pub fn entry_out(entry: &Entry) -> fuse_entry_out {
    let (entry_valid, entry_valid_nsec) = ttl(entry.entry_ttl);
    let (attr_valid, attr_valid_nsec) = ttl(entry.attr_ttl);
    fuse_entry_out {
        nodeid: entry.node.0,
        generation: entry.generation,
        entry_valid,
        attr_valid,
        entry_valid_nsec,
        attr_valid_nsec,
        attr: entry.attr,
    }
}

fn entry_outcome(entry: &Entry, payload: &mut [u8], dialect: Dialect) -> Outcome {
    let grant = if entry.node == NodeId(0) {
        Grant::Nothing
    } else {
        Grant::Lookup(entry.node)
    };
    Outcome::granting(
        ReplyWriter::new(payload, dialect).entry(&entry_out(entry)),
        grant,
    )
}

/// What becomes of what the kernel has cached of a file.
fn cache_event(opened: &Opened) -> CacheEvent {
    if opened.flags.contains(OpenFlags::PASSTHROUGH) {
        CacheEvent::OpenPassthrough
    } else if opened.flags.contains(OpenFlags::DIRECT_IO) {
        CacheEvent::OpenDirect
    } else if opened.flags.contains(OpenFlags::KEEP_CACHE) {
        CacheEvent::OpenKeepsPages
    } else {
        CacheEvent::OpenDropsPages
    }
}

fn open_out(opened: &Opened) -> fuse_open_out {
    fuse_open_out {
        fh: opened.fh.0,
        open_flags: opened.flags.bits(),
        backing_id: opened.backing_id,
    }
}

fn create_outcome(entry: &Entry, opened: &Opened, payload: &mut [u8], dialect: Dialect) -> Outcome {
    let encoded = ReplyWriter::new(payload, dialect).create(&entry_out(entry), &open_out(opened));
    Outcome::granting(encoded, Grant::Create(entry.node, opened.fh))
}

fn creation<'a>(arg: &fuse_create_in, extensions: &Extensions<'a>) -> Creation<'a> {
    Creation {
        mode: arg.mode,
        umask: arg.umask,
        rdev: 0,
        kill_suidgid: OpenInFlags::from_bits_retain(arg.open_flags)
            .contains(OpenInFlags::KILL_SUIDGID),
        extensions: *extensions,
    }
}

fn set_attr(arg: &fuse_setattr_in) -> (Option<FileHandle>, SetAttr) {
    let valid = SetattrValid::from_bits_retain(arg.valid);
    let time = |given: SetattrValid, now: SetattrValid, seconds: u64, nanoseconds: u32| {
        if valid.contains(now) {
            Some(SetTime::Now)
        } else {
            valid
                .contains(given)
                .then_some(SetTime::At(seconds.cast_signed(), nanoseconds))
        }
    };
    let set = SetAttr {
        mode: valid.contains(SetattrValid::MODE).then_some(arg.mode),
        uid: valid.contains(SetattrValid::UID).then_some(arg.uid),
        gid: valid.contains(SetattrValid::GID).then_some(arg.gid),
        size: valid.contains(SetattrValid::SIZE).then_some(arg.size),
        atime: time(
            SetattrValid::ATIME,
            SetattrValid::ATIME_NOW,
            arg.atime,
            arg.atimensec,
        ),
        mtime: time(
            SetattrValid::MTIME,
            SetattrValid::MTIME_NOW,
            arg.mtime,
            arg.mtimensec,
        ),
        ctime: valid
            .contains(SetattrValid::CTIME)
            .then_some((arg.ctime.cast_signed(), arg.ctimensec)),
        kill_suidgid: valid.contains(SetattrValid::KILL_SUIDGID),
    };
    (
        valid
            .contains(SetattrValid::FH)
            .then_some(FileHandle(arg.fh)),
        set,
    )
}

fn lock(arg: &fuse_lk_in, wait: bool) -> LockRequest {
    let flock = LkFlags::from_bits_retain(arg.lk_flags).contains(LkFlags::FLOCK);
    LockRequest {
        owner: arg.owner,
        lock: arg.lk,
        flock,
        wait,
    }
}

fn copy(from: NodeId, arg: &fuse_copy_file_range_in, most: u64) -> CopyRequest {
    CopyRequest {
        from: (from, FileHandle(arg.fh_in), arg.off_in),
        to: (NodeId(arg.nodeid_out), FileHandle(arg.fh_out), arg.off_out),
        len: arg.len.min(most),
        flags: arg.flags,
    }
}

/// Answers a request for an attribute or their list: its bytes, or its length if no bytes are wanted.
fn xattr(
    size: u32,
    payload: &mut [u8],
    dialect: Dialect,
    get: impl FnOnce(&mut [u8]) -> Result<usize>,
) -> Result<Outcome> {
    let size = payload.len().min(size as usize);
    let len = get(&mut payload[..size])?;
    let encoded = if size == 0 {
        let len = u32::try_from(len).map_err(|_| Errno::ERANGE)?;
        ReplyWriter::new(payload, dialect).xattr_size(len)
    } else {
        Ok(len)
    };
    Ok(Outcome::of(
        encoded.map(Answer::Payload).map_err(unencodable),
    ))
}
