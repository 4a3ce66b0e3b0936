//! fanotify(7): being told what happens on whole file systems, in terms of file handles and names.
//!
//! What is read from a group is kernel input, but parsed as if it were not: a record that makes no sense is left out,
//! an event that does ends the reading of its buffer. Nothing here panics.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use bitflags::bitflags;
use libc::{
    FAN_EVENT_INFO_TYPE_DFID as INFO_DFID, FAN_EVENT_INFO_TYPE_DFID_NAME as INFO_DFID_NAME,
    FAN_EVENT_INFO_TYPE_FID as INFO_FID, FAN_EVENT_INFO_TYPE_NEW_DFID_NAME as INFO_NEW_DFID_NAME,
    FAN_EVENT_INFO_TYPE_OLD_DFID_NAME as INFO_OLD_DFID_NAME, FANOTIFY_METADATA_VERSION as VERSION,
};

use super::handle::Handle;

bitflags! {
    /// What happened, `FAN_*`. The kernel may report several things that happened to one object at once.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Happened: u64 {
        /// Contents or size have changed.
        const MODIFY = libc::FAN_MODIFY;
        /// Attributes, extended ones or the number of links have changed.
        const ATTRIB = libc::FAN_ATTRIB;
        /// A file that was open for writing was closed.
        const CLOSE_WRITE = libc::FAN_CLOSE_WRITE;
        /// A name of the directory is gone, by a rename.
        const MOVED_FROM = libc::FAN_MOVED_FROM;
        /// A name of the directory is new, by a rename.
        const MOVED_TO = libc::FAN_MOVED_TO;
        /// A name of the directory is new.
        const CREATE = libc::FAN_CREATE;
        /// A name of the directory is gone.
        const DELETE = libc::FAN_DELETE;
        /// It was renamed.
        const MOVE_SELF = libc::FAN_MOVE_SELF;
        /// All three of a rename in one event, which [`Events`] takes apart. Linux 5.17.
        const RENAME = libc::FAN_RENAME;
        /// Events were lost.
        const Q_OVERFLOW = libc::FAN_Q_OVERFLOW;
        /// Directories as well; about a directory.
        const ONDIR = libc::FAN_ONDIR;
    }
}

impl Happened {
    /// To inodes.
    pub const TO_INODES: Happened = Happened::MODIFY
        .union(Happened::ATTRIB)
        .union(Happened::CLOSE_WRITE)
        .union(Happened::MOVE_SELF)
        .union(Happened::ONDIR);

    /// To names.
    pub const TO_NAMES: Happened = Happened::MOVED_FROM
        .union(Happened::MOVED_TO)
        .union(Happened::CREATE)
        .union(Happened::DELETE)
        .union(Happened::ONDIR);
}

/// What a group tells about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Inodes, by their handles.
    Inodes,
    /// Names, by the handle of their directory.
    Names,
}

/// How many events the kernel keeps until they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// As many as there are.
    #[default]
    Unlimited,
    /// `fs.fanotify.max_queued_events`; what is more is lost, and said so.
    Limited,
}

/// `struct fanotify_event_metadata`.
const METADATA: usize = 24;
/// `struct fanotify_event_info_header`.
const INFO_HEADER: usize = 4;
/// File system id, and length and type of the handle.
const ID_HEAD: usize = 16;

/// A group: what was marked in it is told about.
#[derive(Debug)]
pub struct Group {
    fd: OwnedFd,
    report: Report,
    renames: Renames,
}

/// How renames are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renames {
    /// In one event, with the names: [`Happened::RENAME`].
    Whole,
    /// In three: two with the names, one with the inode.
    Parts,
}

impl Group {
    /// A group without marks.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN` in the initial user namespace, `EINVAL` before Linux 5.9, or 5.17 for whole renames,
    /// `ENOSYS` without fanotify.
    pub fn new(report: Report, renames: Renames, queue: Queue) -> io::Result<Group> {
        let mut flags = libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_UNLIMITED_MARKS
            | libc::FAN_REPORT_TID;
        flags |= match (report, renames) {
            (Report::Inodes, _) => libc::FAN_REPORT_FID,
            (Report::Names, Renames::Parts) => libc::FAN_REPORT_DFID_NAME,
            (Report::Names, Renames::Whole) => libc::FAN_REPORT_DFID_NAME_TARGET,
        };
        if queue == Queue::Unlimited {
            flags |= libc::FAN_UNLIMITED_QUEUE;
        }
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::fanotify_init(flags, libc::O_RDONLY as libc::c_uint) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the system call has just returned this descriptor, nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Group {
            fd,
            report,
            renames,
        })
    }

    /// Asks for what happens on the whole file system that `object` is on; that must not be an `O_PATH` descriptor.
    /// Does not keep the file system from being unmounted.
    ///
    /// # Errors
    /// `ENODEV`, `EXDEV` or `EOPNOTSUPP` if the file system cannot be watched as a whole.
    pub fn mark(&self, object: &impl AsFd) -> io::Result<()> {
        self.change(libc::FAN_MARK_ADD, object)
    }

    /// Takes a mark back.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn unmark(&self, object: &impl AsFd) -> io::Result<()> {
        self.change(libc::FAN_MARK_REMOVE, object)
    }

    /// Says nothing of what is written to the inode behind `object`, which may be an `O_PATH` descriptor. As long as the
    /// kernel caches that inode: this does not keep it.
    ///
    /// # Errors
    /// `EINVAL` before Linux 5.19.
    pub fn mute(&self, object: &impl AsFd) -> io::Result<()> {
        let flags = libc::FAN_MARK_IGNORED_MASK
            | libc::FAN_MARK_IGNORED_SURV_MODIFY
            | libc::FAN_MARK_EVICTABLE;
        self.ignore(libc::FAN_MARK_ADD | flags, object)
    }

    /// Takes [`mute`](Self::mute) back.
    ///
    /// # Errors
    /// `ENOENT` if it says something.
    pub fn unmute(&self, object: &impl AsFd) -> io::Result<()> {
        self.ignore(libc::FAN_MARK_REMOVE | libc::FAN_MARK_IGNORED_MASK, object)
    }

    fn ignore(&self, flags: libc::c_uint, object: &impl AsFd) -> io::Result<()> {
        let path = CString::new(format!("/proc/self/fd/{}", object.as_fd().as_raw_fd()))?;
        // SAFETY: `path` ends with NUL and outlives the call; it is absolute, so the directory means nothing.
        let result = unsafe {
            libc::fanotify_mark(
                self.fd.as_raw_fd(),
                flags,
                Happened::MODIFY.bits(),
                libc::AT_FDCWD,
                path.as_ptr(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn change(&self, what: libc::c_uint, object: &impl AsFd) -> io::Result<()> {
        let mask = match (self.report, self.renames) {
            (Report::Inodes, Renames::Parts) => Happened::TO_INODES,
            (Report::Names, Renames::Parts) => Happened::TO_NAMES,
            (Report::Inodes, Renames::Whole) => Happened::TO_INODES - Happened::MOVE_SELF,
            (Report::Names, Renames::Whole) => {
                (Happened::TO_NAMES - Happened::MOVED_FROM - Happened::MOVED_TO) | Happened::RENAME
            }
        };
        // SAFETY: no path is given, so the descriptor's object is meant; no memory is passed.
        let result = unsafe {
            libc::fanotify_mark(
                self.fd.as_raw_fd(),
                what | libc::FAN_MARK_FILESYSTEM,
                mask.bits(),
                object.as_fd().as_raw_fd(),
                std::ptr::null(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Reads some events into `buffer`, to be given to [`Events::new`]; 0 bytes if there are none at the moment.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match nix::unistd::read(&self.fd, buffer) {
                Ok(len) => return Ok(len),
                Err(nix::errno::Errno::EAGAIN) => return Ok(0),
                Err(nix::errno::Errno::EINTR) => (),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What events call the file system that `fd` is on.
///
/// # Errors
/// Those of fstatfs(2).
pub fn file_system_id(fd: &impl AsFd) -> io::Result<[u8; 8]> {
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `stat` has the size of `struct statfs` and outlives the call.
    let result = unsafe { libc::fstatfs(fd.as_fd().as_raw_fd(), stat.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed above, and every bit pattern is a valid `struct statfs`.
    let stat = unsafe { stat.assume_init() };
    // SAFETY: `fsid_t` is two 32-bit integers without padding, as the array of the same size is without them.
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, [u8; 8]>(stat.f_fsid) })
}

/// An inode in an event: the id of its file system and its file handle, as the kernel wrote them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId<'a>(&'a [u8]);

impl<'a> FileId<'a> {
    /// All of it, which is the same exactly for the same inode.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Reads back what [`bytes`](Self::bytes) gave, or the start of an information record.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<FileId<'a>> {
        let len = usize::try_from(number(bytes, 8)?).ok()?;
        let end = ID_HEAD.checked_add(len)?;
        Some(FileId(bytes.get(..end)?))
    }

    /// The [`bytes`](Self::bytes) of the inode that `handle` names on the file system with this id.
    #[must_use]
    pub fn encode(file_system: [u8; 8], handle: &Handle) -> Box<[u8]> {
        let (kind, bytes) = handle.parts();
        let len = (bytes.len() as u32).to_ne_bytes();
        [&file_system, &len[..], &kind.to_ne_bytes(), bytes]
            .concat()
            .into()
    }

    /// Id of the file system, as of [`file_system_id`].
    #[must_use]
    pub fn file_system(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[..8]);
        id
    }

    /// The file handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        let kind = number(self.0, 12).unwrap_or_default().cast_signed();
        Handle::new(kind, &self.0[ID_HEAD..])
    }
}

/// Something that has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// What.
    pub happened: Happened,
    /// By which thread, as this process numbers them; 0 for one that it cannot see.
    pub thread: i32,
    /// To which inode, or in which directory.
    pub inode: Option<FileId<'a>>,
    /// To which name in it.
    pub name: Option<&'a [u8]>,
}

/// Events in a buffer. One of a rename is given as the three it stands for.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    bytes: &'a [u8],
    /// What is left of a rename, the last first.
    parts: [Option<Event<'a>>; 2],
}

impl<'a> Events<'a> {
    /// Those in `bytes`, which a group was read into.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Events<'a> {
        Events {
            bytes,
            parts: [None; 2],
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_ne_bytes(bytes.get(at..end)?.try_into().ok()?))
}

/// What an information record says: the inode, and the name in it.
fn information(kind: u8, body: &[u8]) -> Option<(FileId<'_>, Option<&[u8]>)> {
    let named = matches!(
        kind,
        INFO_DFID_NAME | INFO_OLD_DFID_NAME | INFO_NEW_DFID_NAME
    );
    if !named && !matches!(kind, INFO_FID | INFO_DFID) {
        return None;
    }
    let id = FileId::parse(body)?;
    if !named {
        return Some((id, None));
    }
    let rest = body.get(id.0.len()..)?;
    let name = rest.split(|&byte| byte == 0).next()?;
    Some((id, Some(name).filter(|name| !name.is_empty())))
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let part = self.parts[1].take().or_else(|| self.parts[0].take());
        if part.is_some() {
            return part;
        }
        let bytes = self.bytes;
        let len = usize::try_from(number(bytes, 0)?).ok()?;
        let head = usize::from(u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?));
        if bytes[4] != VERSION || head < METADATA || len < head || len > bytes.len() {
            self.bytes = &[];
            return None;
        }
        let (event, rest) = bytes.split_at(len);
        self.bytes = rest;
        let mask = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
        let mut found = Event {
            happened: Happened::from_bits_retain(mask),
            thread: number(event, 20)?.cast_signed(),
            inode: None,
            name: None,
        };
        let mut records = &event[head..];
        while let Some(&[kind, _, low, high]) = records.get(..INFO_HEADER) {
            let len = usize::from(u16::from_ne_bytes([low, high]));
            let Some(body) = records.get(INFO_HEADER..len) else {
                break;
            };
            if let Some((inode, name)) = information(kind, body) {
                let part = |happened| {
                    Some(Event {
                        happened: happened | (found.happened & Happened::ONDIR),
                        inode: Some(inode),
                        name,
                        ..found
                    })
                };
                match (kind, found.happened.contains(Happened::RENAME)) {
                    (INFO_NEW_DFID_NAME, true) => self.parts[1] = part(Happened::MOVED_TO),
                    (INFO_FID, true) => self.parts[0] = part(Happened::MOVE_SELF),
                    _ if found.inode.is_none() => {
                        (found.inode, found.name) = (Some(inode), name);
                    }
                    // The inode that a name is about.
                    _ => {}
                }
            }
            records = &records[len..];
        }
        if found.happened.contains(Happened::RENAME) {
            found.happened.remove(Happened::RENAME);
            found.happened |= Happened::MOVED_FROM;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(handle: &[u8]) -> Vec<u8> {
        let mut id = vec![1, 2, 3, 4, 5, 6, 7, 8];
        id.extend((handle.len() as u32).to_ne_bytes());
        id.extend(0x81_i32.to_ne_bytes());
        id.extend(handle);
        id
    }

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0];
        // The kernel fills up to a multiple of four.
        let len = (INFO_HEADER + body.len()).next_multiple_of(4);
        record.extend((len as u16).to_ne_bytes());
        record.extend(body);
        record.resize(len, 0);
        record
    }

    fn event(mask: Happened, thread: i32, records: &[Vec<u8>]) -> Vec<u8> {
        let records = records.concat();
        let mut event = ((METADATA + records.len()) as u32).to_ne_bytes().to_vec();
        event.extend([VERSION, 0]);
        event.extend((METADATA as u16).to_ne_bytes());
        event.extend(mask.bits().to_ne_bytes());
        event.extend((-1_i32).to_ne_bytes());
        event.extend(thread.to_ne_bytes());
        event.extend(records);
        event
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        let mut named = id(b"parent");
        named.extend(b"name\0");
        let buffer = [
            event(Happened::CREATE, 7, &[record(INFO_DFID_NAME, &named)]),
            event(Happened::Q_OVERFLOW, 0, &[]),
            event(
                Happened::ATTRIB,
                8,
                &[record(9, b"new"), record(INFO_FID, &id(b"file"))],
            ),
        ]
        .concat();
        let events: Vec<Event<'_>> = Events::new(&buffer).collect();
        assert_eq!(events.len(), 3);
        assert_eq!(
            (events[0].happened, events[0].thread),
            (Happened::CREATE, 7)
        );
        assert_eq!(events[0].name, Some(&b"name"[..]));
        let parent = events[0].inode.unwrap();
        assert_eq!(parent.file_system(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(parent.handle(), Handle::new(0x81, b"parent"));
        assert_eq!(FileId::parse(parent.bytes()), Some(parent));
        assert_eq!(
            (events[1].happened, events[1].inode),
            (Happened::Q_OVERFLOW, None)
        );
        let file = events[2].inode.unwrap();
        assert_eq!(file.handle(), Handle::new(0x81, b"file"));
        let encoded = FileId::encode(file.file_system(), &file.handle());
        assert_eq!(*encoded, *file.bytes());
        assert_eq!(events[2].name, None);
    }

    #[test]
    fn a_rename_is_three_events() {
        let named = |dir: &[u8], name: &[u8]| [id(dir), name.to_vec(), vec![0]].concat();
        let records = [
            record(INFO_OLD_DFID_NAME, &named(b"from", b"old")),
            record(INFO_NEW_DFID_NAME, &named(b"to", b"new")),
            record(INFO_FID, &id(b"moved")),
        ];
        let buffer = [
            event(Happened::RENAME | Happened::ONDIR, 7, &records),
            event(Happened::MODIFY, 8, &[record(INFO_FID, &id(b"file"))]),
            // The kernel could not say what was moved, nor where from.
            event(Happened::RENAME, 9, &records[1..2]),
        ]
        .concat();
        let seen: Vec<_> = Events::new(&buffer)
            .map(|event| {
                let handle = event.inode.map(|inode| inode.handle());
                (event.happened, event.thread, handle, event.name)
            })
            .collect();
        let handle = |bytes: &[u8]| Some(Handle::new(0x81, bytes));
        let dir = Happened::ONDIR;
        let expected = [
            (
                Happened::MOVED_FROM | dir,
                7,
                handle(b"from"),
                Some(&b"old"[..]),
            ),
            (Happened::MOVED_TO | dir, 7, handle(b"to"), Some(b"new")),
            (Happened::MOVE_SELF | dir, 7, handle(b"moved"), None),
            (Happened::MODIFY, 8, handle(b"file"), None),
            (Happened::MOVED_FROM, 9, None, None),
            (Happened::MOVED_TO, 9, handle(b"to"), Some(b"new")),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_torn_buffer_ends_at_the_tear() {
        let one = event(Happened::MODIFY, 1, &[record(INFO_FID, &id(b"file"))]);
        let buffer = [one.clone(), one.clone()].concat();
        for len in 0..buffer.len() {
            let events: Vec<Event<'_>> = Events::new(&buffer[..len]).collect();
            assert_eq!(events.len(), len / one.len(), "{len} bytes");
        }
    }

    #[test]
    fn records_that_lie_are_left_out() {
        // A handle longer than its record, a record longer than its event, one shorter than its own head.
        let mut long_handle = id(b"file");
        long_handle[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
        let mut long_record = record(INFO_FID, &id(b"file"));
        long_record[2..4].copy_from_slice(&u16::MAX.to_ne_bytes());
        let mut short_record = record(INFO_FID, &id(b"file"));
        short_record[2..4].copy_from_slice(&1_u16.to_ne_bytes());
        let after = record(INFO_FID, &id(b"after"));
        for (records, found) in [
            (vec![record(INFO_FID, &long_handle), after.clone()], true),
            (vec![long_record, after.clone()], false),
            (vec![short_record, after], false),
        ] {
            let buffer = event(Happened::ATTRIB, 1, &records);
            let events: Vec<Event<'_>> = Events::new(&buffer).collect();
            assert_eq!(events.len(), 1);
            assert_eq!(events[0].inode.is_some(), found);
        }
        // Lengths and versions that cannot be.
        for (at, bytes) in [
            (0, [0_u8; 4]),
            (0, [255; 4]),
            (4, [2, 0, 24, 0]),
            (4, [3, 0, 8, 0]),
        ] {
            let mut buffer = event(Happened::ATTRIB, 1, &[]);
            buffer[at..at + 4].copy_from_slice(&bytes);
            assert_eq!(Events::new(&buffer).count(), 0);
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_read(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            len in 0_u32..300,
            record in any::<u16>(),
        ) {
            prop_assert!(Events::new(&bytes).count() < 300);
            // Further in: a head that makes sense.
            if bytes.len() >= 28 {
                bytes[..4].copy_from_slice(&len.to_ne_bytes());
                bytes[4..8].copy_from_slice(&[VERSION, 0, METADATA as u8, 0]);
                bytes[24] %= 4;
                bytes[26..28].copy_from_slice(&(record % 64).to_ne_bytes());
                for event in Events::new(&bytes) {
                    if let Some(inode) = event.inode {
                        prop_assert!(inode.bytes().len() >= ID_HEAD);
                        let _ = inode.handle();
                    }
                }
            }
        }
    }
}
