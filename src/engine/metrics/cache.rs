//! What answers say about the kernel's caches.
//!
//! A server does not see what the kernel answers from its caches. It sees what it is asked again, and it knows what it
//! allowed the kernel to keep: that is counted here, by the thread that serves, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheEvent {
    /// A LOOKUP found an inode that the kernel did not know.
    FirstLookup,
    /// A LOOKUP found an inode that the kernel knew already: a name that had expired or was dropped, or another name.
    RepeatedLookup,
    /// A LOOKUP found no such name.
    NoSuchName,
    /// A file was opened, and the kernel keeps what it has cached of it.
    OpenKeepsPages,
    /// A file was opened, and the kernel drops what it has cached of it.
    OpenDropsPages,
    /// A file was opened to be read and written around the page cache.
    OpenDirect,
    /// A file was opened that the kernel reads and writes by itself.
    OpenPassthrough,
    /// The kernel gave an inode back.
    Forgotten,
}

/// How many kinds there are.
const KINDS: usize = CacheEvent::Forgotten as usize + 1;

/// The events of one thread, which alone counts them.
#[derive(Default)]
pub(in crate::engine) struct CacheEvents([AtomicU64; KINDS]);

impl CacheEvents {
    /// Counts `count` more of `event`.
    pub(in crate::engine) fn count(&self, event: CacheEvent, count: u64) {
        let counter = &self.0[event as usize];
        // One writer, so nothing is lost.
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    pub(in crate::engine) fn statistics(&self) -> CacheStatistics {
        let of = |event: CacheEvent| self.0[event as usize].load(Ordering::Relaxed);
        CacheStatistics {
            first_lookups: of(CacheEvent::FirstLookup),
            repeated_lookups: of(CacheEvent::RepeatedLookup),
            no_such_names: of(CacheEvent::NoSuchName),
            opens_keeping_pages: of(CacheEvent::OpenKeepsPages),
            opens_dropping_pages: of(CacheEvent::OpenDropsPages),
            direct_opens: of(CacheEvent::OpenDirect),
            passthrough_opens: of(CacheEvent::OpenPassthrough),
            forgotten: of(CacheEvent::Forgotten),
        }
    }
}

/// What the answers to the kernel's requests say about its caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheStatistics {
    /// LOOKUPs of inodes that the kernel did not know.
    pub first_lookups: u64,
    /// LOOKUPs of inodes that the kernel knew already: their name had expired or was dropped, or it was another name.
    pub repeated_lookups: u64,
    /// LOOKUPs of names that do not exist.
    pub no_such_names: u64,
    /// Opens (OPEN, CREATE) after which the kernel keeps what it has cached of the file.
    pub opens_keeping_pages: u64,
    /// Opens after which it drops that.
    pub opens_dropping_pages: u64,
    /// Opens of files that are read and written around the page cache.
    pub direct_opens: u64,
    /// Opens of files that the kernel reads and writes by itself.
    pub passthrough_opens: u64,
    /// Inodes the kernel gave back.
    pub forgotten: u64,
}

impl CacheStatistics {
    fn with(&self, other: &CacheStatistics, join: impl Fn(u64, u64) -> u64) -> CacheStatistics {
        CacheStatistics {
            first_lookups: join(self.first_lookups, other.first_lookups),
            repeated_lookups: join(self.repeated_lookups, other.repeated_lookups),
            no_such_names: join(self.no_such_names, other.no_such_names),
            opens_keeping_pages: join(self.opens_keeping_pages, other.opens_keeping_pages),
            opens_dropping_pages: join(self.opens_dropping_pages, other.opens_dropping_pages),
            direct_opens: join(self.direct_opens, other.direct_opens),
            passthrough_opens: join(self.passthrough_opens, other.passthrough_opens),
            forgotten: join(self.forgotten, other.forgotten),
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn and(&self, other: &CacheStatistics) -> CacheStatistics {
        self.with(other, u64::saturating_add)
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &CacheStatistics) -> CacheStatistics {
        self.with(before, u64::saturating_sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_kind() {
        let (one, other) = (CacheEvents::default(), CacheEvents::default());
        one.count(CacheEvent::FirstLookup, 1);
        one.count(CacheEvent::Forgotten, 40);
        other.count(CacheEvent::Forgotten, 2);
        let before = one.statistics();
        let all = before.and(&other.statistics());
        assert_eq!((all.first_lookups, all.forgotten), (1, 42));
        let since = all.since(&before);
        assert_eq!((since.first_lookups, since.forgotten), (0, 2));
    }
}
