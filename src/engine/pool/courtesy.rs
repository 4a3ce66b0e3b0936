//! Threads with a ring let their callers stay on their CPU.
//!
//! A reply wakes the caller while the thread that has sent it is still running, and the scheduler looks for an idle CPU for the
//! one that wakes up. So a process alone on its machine goes from CPU to CPU, and with nearly every request one is woken
//! from its sleep, which costs more than the request. A CPU that only runs threads of the policy `SCHED_IDLE` counts as
//! idle: the caller of such a thread stays where it is.
//!
//! Such a thread runs only if nobody else wants to. So the monitor, which looks every few milliseconds while there are
//! requests, makes a thread stand back only while it serves many, and while the machine is not crowded.
//! It comes forward again before it blocks, when it has little to do, and if it seems to wait for its CPU; if it
//! was right to, because there was a request for it, none stands back for a second, then two, up to sixteen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use super::LOBBY;
use crate::engine::seat::{Desk, Place};
use crate::sys::capability;
use crate::sys::scheduling::{self, Crowd, ThreadState};

/// Requests between two looks that make a thread a busy one.
const MANY: u64 = 12;

/// Looks without a request after which it is not.
const PAUSE: u32 = 10;

/// Threads for each CPU that want to run make a crowd if there are more.
const CROWDED: usize = 2;

/// Looks at a crowd after which all come forward: threads that wake each other make one for a moment.
const CROWDED_LOOKS: u32 = 3;

/// How long nobody stands back after there was a crowd.
const CROWD: Duration = Duration::from_millis(50);

/// How long nobody stands back after one had to wait for its CPU.
const PENALTY: Duration = Duration::from_secs(1);
const LONGEST_PENALTY: Duration = Duration::from_secs(16);

/// What was seen of a thread.
struct Seen {
    place: Arc<Place>,
    served: u64,
    /// Looks since its last request.
    still: u32,
    /// Whether it wants to run, once that was asked.
    state: Option<ThreadState>,
    /// It wanted to run at the last look, and had served nothing since the one before.
    waits: bool,
    /// It was made to come forward at the last look because it waited.
    suspect: bool,
}

impl Seen {
    /// Whether the thread wants to run; false if that cannot be told.
    fn wants_to_run(&mut self) -> bool {
        if self.state.is_none() {
            self.state = self.place.state().ok();
        }
        self.state.as_ref().is_some_and(ThreadState::is_runnable)
    }
}

/// Decides which threads stand back.
pub(super) struct Courtesy {
    /// What wants to run on the machine, and its CPUs; none if no thread may stand back.
    crowd: Option<(Crowd, usize)>,
    not_before: Instant,
    penalty: Duration,
    /// Looks at a crowd in a row.
    crowded: u32,
    seen: Vec<Seen>,
}

impl Courtesy {
    /// Nobody stands back.
    pub(super) fn new() -> Courtesy {
        let may_return = capability::is_initial(capability::SYS_NICE);
        let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
        let cpus = cpus
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| *count > 1 && may_return && scheduling::is_ordinary());
        Courtesy {
            crowd: cpus.and_then(|cpus| Some((Crowd::new().ok()?, cpus))),
            not_before: Instant::now(),
            penalty: PENALTY,
            crowded: 0,
            seen: Vec::new(),
        }
    }

    /// A look of the monitor at the threads at `places`.
    pub(super) fn look(&mut self, places: &[Arc<Place>]) {
        let Some((crowd, cpus)) = &self.crowd else {
            return;
        };
        self.seen
            .retain(|seen| places.iter().any(|place| Arc::ptr_eq(place, &seen.place)));
        for place in places {
            let known = |seen: &Seen| Arc::ptr_eq(place, &seen.place);
            let rings = matches!(place.desk, Desk::Ring(_)) && place.team != LOBBY;
            if rings && !self.seen.iter().any(known) {
                self.seen.push(Seen {
                    place: Arc::clone(place),
                    served: place.served(),
                    still: 0,
                    state: None,
                    waits: false,
                    suspect: false,
                });
            }
        }
        let now = Instant::now();
        let mut busy = Vec::new();
        let mut backs = false;
        for seen in &mut self.seen {
            let progress = seen.place.served() - seen.served;
            seen.served += progress;
            if std::mem::take(&mut seen.suspect) && progress > 0 {
                self.not_before = now + self.penalty;
                self.penalty = (self.penalty * 2).min(LONGEST_PENALTY);
            }
            if !seen.place.stands_back() {
                if progress >= MANY {
                    busy.push(Arc::clone(&seen.place));
                }
                continue;
            }
            if progress > 0 {
                (seen.still, seen.waits) = (0, false);
            } else {
                seen.still += 1;
                let waits = seen.wants_to_run();
                let waited = std::mem::replace(&mut seen.waits, waits);
                seen.suspect = waited && seen.waits;
            }
            if seen.suspect || seen.still >= PAUSE {
                (seen.still, seen.waits) = (0, false);
                seen.place.come_forward();
            } else {
                backs = true;
            }
        }
        if !backs && (busy.is_empty() || now < self.not_before) {
            return;
        }
        // The calling thread is one of them.
        let crowded = crowd
            .count()
            .map_or(true, |count| count > CROWDED * cpus + 1);
        self.crowded = if crowded { self.crowded + 1 } else { 0 };
        if self.crowded < CROWDED_LOOKS {
            if now >= self.not_before && !crowded {
                busy.iter().for_each(|place| place.stand_back());
            }
            if now >= self.not_before + LONGEST_PENALTY * 4 {
                self.penalty = PENALTY;
            }
        } else {
            self.not_before = self.not_before.max(now + CROWD);
            self.rest();
        }
    }

    /// All come forward: nobody looks from now on, or the machine is crowded.
    pub(super) fn rest(&mut self) {
        for seen in &mut self.seen {
            seen.place.come_forward();
            (seen.still, seen.waits) = (0, false);
        }
    }
}
