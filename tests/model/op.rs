//! What the model test does: one system call, or a few that belong together, with all its arguments.
//!
//! Paths are relative to the root of a run. Open files are named by slots, so that an operation means the same after
//! others were removed from the sequence.

use std::ffi::CString;
use std::fmt;

use rustix::fs::OFlags;

use crate::support::user::{ALICE, BOB, CAROL, ROOT, User};

/// Slots for open files.
pub const SLOTS: usize = 8;

/// Those who act; steps name them by index.
pub const USERS: [User; 5] = [
    ROOT,
    ALICE,
    BOB,
    CAROL,
    User {
        umask: 0o077,
        ..ROOT
    },
];

/// A path, printed readably.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(pub CString);

impl Name {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Name {
        Name(CString::new(bytes).expect("names have no NUL"))
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The directory the name is in.
    pub fn parent(&self) -> Name {
        match self.bytes().iter().rposition(|&b| b == b'/') {
            Some(at) => Name::new(&self.bytes()[..at]),
            None => Name::new("."),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.bytes().escape_ascii().to_string();
        if text.len() > 60 {
            write!(f, "\"{}...\" ({} bytes)", &text[..40], self.bytes().len())
        } else {
            write!(f, "\"{text}\"")
        }
    }
}

/// A time for utimensat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Time {
    Now,
    Omit,
    At(i64, i64),
}

/// What a slot or path is used for in an operation that takes either.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    Slot(usize),
    Path(Name),
}

/// One step of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Index into [`USERS`].
    pub user: usize,
    pub op: Op,
}

/// An operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    Open {
        slot: usize,
        path: Name,
        flags: OFlags,
        mode: u32,
    },
    Close {
        slot: usize,
    },
    Dup {
        from: usize,
        to: usize,
    },
    Read {
        slot: usize,
        len: usize,
    },
    Pread {
        slot: usize,
        offset: u64,
        len: usize,
    },
    Write {
        slot: usize,
        len: usize,
        byte: u8,
    },
    Pwrite {
        slot: usize,
        offset: u64,
        len: usize,
        byte: u8,
    },
    DirectRead {
        path: Name,
        offset: u64,
        len: usize,
    },
    Seek {
        slot: usize,
        offset: i64,
        whence: u8,
    },
    Extents {
        slot: usize,
    },
    Truncate {
        target: Target,
        len: u64,
    },
    Fallocate {
        slot: usize,
        mode: u32,
        offset: u64,
        len: u64,
    },
    CopyRange {
        from: usize,
        to: usize,
        offset_in: u64,
        offset_out: u64,
        len: usize,
    },
    Sendfile {
        from: usize,
        to: usize,
        len: usize,
    },
    MapWrite {
        slot: usize,
        offset: u64,
        len: usize,
        byte: u8,
    },
    MapRead {
        slot: usize,
        offset: u64,
        len: usize,
    },
    Fsync {
        slot: usize,
        data: bool,
    },
    Mkdir {
        path: Name,
        mode: u32,
    },
    Rmdir {
        path: Name,
    },
    Unlink {
        path: Name,
    },
    Rename {
        from: Name,
        to: Name,
        flags: u32,
    },
    Link {
        from: Name,
        to: Name,
        follow: bool,
    },
    LinkOpen {
        slot: usize,
        to: Name,
    },
    Symlink {
        target: Name,
        path: Name,
    },
    Readlink {
        path: Name,
    },
    Mknod {
        path: Name,
        kind: u32,
        mode: u32,
    },
    Chmod {
        target: Target,
        mode: u32,
    },
    Chown {
        target: Target,
        uid: Option<u32>,
        gid: Option<u32>,
        follow: bool,
    },
    Utimens {
        target: Target,
        atime: Time,
        mtime: Time,
        follow: bool,
    },
    SetXattr {
        target: Target,
        name: &'static str,
        value: Vec<u8>,
        flags: u32,
    },
    GetXattr {
        target: Target,
        name: &'static str,
        room: usize,
    },
    ListXattr {
        target: Target,
    },
    RemoveXattr {
        target: Target,
        name: &'static str,
    },
    ReadDir {
        path: Name,
        from: usize,
    },
    ReadDirSlot {
        slot: usize,
        limit: usize,
    },
    Stat {
        path: Name,
        follow: bool,
    },
    Access {
        path: Name,
        mode: u8,
    },
    StatFs {
        path: Name,
    },
    Flock {
        slot: usize,
        operation: u8,
    },
    RecordLock {
        slot: usize,
        kind: u8,
        start: i64,
        len: i64,
    },
    GetFlags {
        path: Name,
    },
    SetFlags {
        path: Name,
        flags: u32,
    },
    Populate {
        path: Name,
        count: usize,
    },
}

impl Op {
    /// The paths whose attributes it may change.
    pub fn paths(&self) -> Vec<Name> {
        use Op::*;
        let target = |target: &Target| match target {
            Target::Path(path) => vec![path.clone()],
            Target::Slot(_) => vec![],
        };
        match self {
            Open { path, .. }
            | DirectRead { path, .. }
            | Mkdir { path, .. }
            | Rmdir { path }
            | Unlink { path }
            | Symlink { path, .. }
            | Readlink { path }
            | Mknod { path, .. }
            | ReadDir { path, .. }
            | Stat { path, .. }
            | Access { path, .. }
            | StatFs { path }
            | GetFlags { path }
            | SetFlags { path, .. }
            | Populate { path, .. } => vec![path.clone()],
            Rename { from, to, .. } | Link { from, to, .. } => vec![from.clone(), to.clone()],
            LinkOpen { to, .. } => vec![to.clone()],
            Truncate { target: t, .. }
            | Chmod { target: t, .. }
            | Chown { target: t, .. }
            | Utimens { target: t, .. }
            | SetXattr { target: t, .. }
            | GetXattr { target: t, .. }
            | ListXattr { target: t }
            | RemoveXattr { target: t, .. } => target(t),
            _ => vec![],
        }
    }

    /// The open files whose attributes it may change.
    pub fn slots(&self) -> Vec<usize> {
        use Op::*;
        let target = |target: &Target| match target {
            Target::Path(_) => vec![],
            Target::Slot(slot) => vec![*slot],
        };
        match self {
            Open { slot, .. }
            | Close { slot }
            | Read { slot, .. }
            | Pread { slot, .. }
            | Write { slot, .. }
            | Pwrite { slot, .. }
            | Seek { slot, .. }
            | Extents { slot }
            | Fallocate { slot, .. }
            | MapWrite { slot, .. }
            | MapRead { slot, .. }
            | Fsync { slot, .. }
            | LinkOpen { slot, .. }
            | ReadDirSlot { slot, .. }
            | Flock { slot, .. }
            | RecordLock { slot, .. } => vec![*slot],
            Dup { from, to } | CopyRange { from, to, .. } | Sendfile { from, to, .. } => {
                vec![*from, *to]
            }
            Truncate { target: t, .. }
            | Chmod { target: t, .. }
            | Chown { target: t, .. }
            | Utimens { target: t, .. }
            | SetXattr { target: t, .. }
            | GetXattr { target: t, .. }
            | ListXattr { target: t }
            | RemoveXattr { target: t, .. } => target(t),
            _ => vec![],
        }
    }

    /// The first word of its printed form.
    pub fn kind(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '{']).next().unwrap_or_default().to_owned()
    }
}
