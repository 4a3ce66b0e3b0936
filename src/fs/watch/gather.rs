//! The events of some milliseconds, each thing once.

use std::collections::{HashMap, HashSet};

use crate::sys::fanotify::{Event, FileId, Happened};

/// What has happened to an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub happened: Happened,
    /// Nobody but threads that serve this mount did it.
    pub own: bool,
}

/// A name, in the directory that was recorded under this number.
type Named = (usize, Box<[u8]>);

/// What has happened since it was emptied.
#[derive(Default)]
pub struct Gathered {
    /// File ids, by the order in which they came up.
    inodes: HashMap<Box<[u8]>, usize>,
    changes: Vec<Change>,
    names: HashSet<Named>,
    /// Events were lost.
    pub overflow: bool,
    /// Number of events.
    pub events: u64,
}

impl Gathered {
    /// Adds `event`; `own` says that a thread did it that serves this mount.
    pub fn add(&mut self, event: &Event<'_>, own: bool) {
        self.events += 1;
        self.overflow |= event.happened.contains(Happened::Q_OVERFLOW);
        let Some(inode) = event.inode else { return };
        let number = match self.inodes.get(inode.bytes()) {
            Some(number) => *number,
            None => {
                self.inodes.insert(inode.bytes().into(), self.changes.len());
                self.changes.push(Change {
                    happened: Happened::empty(),
                    own: true,
                });
                self.changes.len() - 1
            }
        };
        let change = &mut self.changes[number];
        change.happened |= event.happened;
        change.own &= own;
        if let Some(name) = event.name.filter(|name| *name != b".") {
            self.names.insert((number, name.into()));
        }
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Takes everything out: each inode with what has happened to it, and the names that have changed in it.
    pub fn take(&mut self, mut each: impl FnMut(FileId<'_>, Change, &[Box<[u8]>])) {
        let mut names: Vec<Vec<Box<[u8]>>> = vec![Vec::new(); self.changes.len()];
        for (number, name) in self.names.drain() {
            names[number].push(name);
        }
        for (bytes, number) in self.inodes.drain() {
            if let Some(inode) = FileId::parse(&bytes) {
                each(inode, self.changes[number], &names[number]);
            }
        }
        *self = Gathered::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(handle: u8) -> Vec<u8> {
        let mut id = vec![0; 8];
        id.extend(1_u32.to_ne_bytes());
        id.extend([0; 4]);
        id.push(handle);
        id
    }

    #[test]
    fn each_thing_once() {
        let (one, two) = (id(1), id(2));
        let mut gathered = Gathered::default();
        for (id, happened, name, own) in [
            (&one, Happened::MODIFY, None, true),
            (&one, Happened::ATTRIB, None, false),
            (&two, Happened::CREATE, Some(&b"a"[..]), true),
            (&two, Happened::DELETE, Some(b"a"), true),
            (&two, Happened::CREATE, Some(b"b"), true),
        ] {
            let event = Event {
                happened,
                thread: 1,
                inode: FileId::parse(id),
                name,
            };
            gathered.add(&event, own);
        }
        assert_eq!(gathered.events, 5);
        let mut seen = Vec::new();
        gathered.take(|id, change, names| {
            let mut names: Vec<_> = names.iter().map(|name| name.to_vec()).collect();
            names.sort();
            seen.push((
                id.bytes().to_vec(),
                change.happened.bits(),
                change.own,
                names,
            ));
        });
        seen.sort();
        let changed = Happened::MODIFY | Happened::ATTRIB;
        let renamed = Happened::CREATE | Happened::DELETE;
        assert_eq!(
            seen,
            [
                (one, changed.bits(), false, vec![]),
                (
                    two,
                    renamed.bits(),
                    true,
                    vec![b"a".to_vec(), b"b".to_vec()]
                ),
            ]
        );
        assert!(gathered.is_empty());
    }
}
