//! How the descriptors of the process are shared out.
//!
//! Callers decide how many files are open, and for how long. What they keep must leave enough for what the server
//! needs to go on: any request may need a descriptor for a moment (to find an inode again, to list a directory), threads
//! that are put in the place of blocked ones have a device and a pipe each, and so on. So what is to stay open needs a
//! [`Claim`], and there are claims only for what is not reserved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Descriptors that inodes can always have, however many files are open: else each look at one would begin with
/// finding it again.
const FLOOR: usize = 64;

/// Descriptors a CPU may need: threads of both transports, with a ring or a device, and a pipe.
const FOR_A_CPU: usize = 8;

/// Enough for as many threads as there may be.
const RESERVE: usize = 16_384;

/// Directories kept between two answers at most.
const STREAMS: usize = 128;

/// Inodes are found again fast enough beyond this.
const BUDGET: usize = 500_000;

/// Who may have how many descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    /// Descriptors of inodes at most.
    pub budget: usize,
    /// Descriptors of inodes and of what is open; the rest is reserved.
    pub most: usize,
    /// What inodes can have of these in any case.
    pub floor: usize,
    /// Directories kept between two answers at most, a part of the reserve.
    pub streams: usize,
}

impl Shares {
    /// The shares of a process that may have `limit` descriptors, on so many CPUs. Inodes get `budget`, by default
    /// half of them all.
    pub fn of(limit: usize, cpus: usize, budget: Option<usize>) -> Shares {
        let reserve = (limit / 8).min(RESERVE) + FOR_A_CPU.saturating_mul(cpus);
        let reserve = reserve.min(limit / 4);
        Shares {
            budget: budget.unwrap_or((limit / 2).min(BUDGET)),
            most: limit - reserve,
            floor: FLOOR.min(limit / 16),
            streams: STREAMS.min(reserve / 4),
        }
    }
}

/// The right to keep descriptors for something that is open, until it is dropped.
pub struct Claim {
    claimed: Arc<AtomicUsize>,
    number: AtomicUsize,
}

impl Claim {
    /// Counts `number` descriptors in `claimed`.
    pub fn new(claimed: &Arc<AtomicUsize>, number: usize) -> Claim {
        claimed.fetch_add(number, Ordering::Relaxed);
        Claim {
            claimed: Arc::clone(claimed),
            number: AtomicUsize::new(number),
        }
    }

    /// Keeps what `other` has the right to as well.
    pub fn absorb(&self, mut other: Claim) {
        let number = std::mem::take(other.number.get_mut());
        self.number.fetch_add(number, Ordering::Relaxed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claimed
            .fetch_sub(*self.number.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_for_everybody() {
        for limit in [64, 256, 1024, 20_000, 1 << 20, usize::MAX] {
            for cpus in [1, 2, 64, 4096] {
                let shares = Shares::of(limit, cpus, None);
                let Shares {
                    budget,
                    most,
                    floor,
                    streams,
                } = shares;
                let reserve = limit - most;
                assert!(most >= limit / 4 * 3 && reserve >= limit.min(1 << 17) / 8);
                assert!(
                    budget < most && 0 < floor && floor <= most / 8,
                    "{shares:?}"
                );
                assert!(0 < streams && streams < reserve, "{shares:?}");
            }
        }
        assert_eq!(Shares::of(1024, 2, Some(16)).budget, 16);
        assert_eq!(Shares::of(1024, 2, None).most, 1024 - 128 - 16);
    }

    #[test]
    fn a_claim_ends_once() {
        let claimed = Arc::default();
        let (one, two) = (Claim::new(&claimed, 1), Claim::new(&claimed, 2));
        drop(Claim::new(&claimed, 5));
        assert_eq!(claimed.load(Ordering::Relaxed), 3);
        one.absorb(two);
        assert_eq!(claimed.load(Ordering::Relaxed), 3);
        drop(one);
        assert_eq!(claimed.load(Ordering::Relaxed), 0);
    }
}
