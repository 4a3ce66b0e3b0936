//! The threads of a session: enough of each team can take requests, however many are blocked.
//!
//! A team serves the requests of one source: one team those of `/dev/fuse`, and with FUSE over io_uring one team for
//! each CPU those of its queue. A thread that blocks - said so by
//! [`Context::block_in_place`](super::Context::block_in_place), or noticed by the monitor after [`SLOW`] - is no longer
//! counted, and another one takes its turn. When it comes back and there are enough without it, a thread of the
//! classic transport rests as a spare; a spare that is not needed for [`SPARE_REST`] ends. Threads with a ring wait in
//! the kernel, which prefers the one that was busy last.
//!
//! The monitor sleeps while nothing happens. Serving threads wake it at the start of a busy period, at most once in
//! [`QUIET`].

mod courtesy;
mod survey;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use super::seat::{Desk, Place, nanoseconds};
use courtesy::Courtesy;
use survey::Retired;

/// A request in service for this long blocks its thread, whether the file system said so or not.
pub(super) const SLOW: Duration = Duration::from_millis(3);

/// The monitor rests after this long without a request.
const QUIET: Duration = Duration::from_millis(100);

/// Freed memory is given back in a pause, at most this often.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// How often the file system may tend to itself: soon after requests, seldom without any.
const TEND_SOON: Duration = Duration::from_secs(1);
const TEND_SELDOM: Duration = Duration::from_secs(8);

/// How often the callers of requests that take as long are looked at: over io_uring the kernel loses an interrupt whose
/// signal comes between the queueing of a request and its delivery.
const LOST_INTERRUPTS: Duration = Duration::from_millis(250);

/// An interrupted request that is not answered by then is answered `EINTR` on behalf of its thread.
const GIVE_UP: Duration = Duration::from_millis(100);

/// How long a spare thread waits to be needed.
const SPARE_REST: Duration = Duration::from_secs(10);

/// Interrupts kept because the request they are for is not in service yet, and for how long: by then it was answered.
const EARLY_INTERRUPTS: usize = 64;
const EARLY_INTERRUPT_LIFE: Duration = Duration::from_secs(1);

/// The team that reads `/dev/fuse`.
pub(super) const CLASSIC: usize = 0;

/// The team of the one thread that gets the first request of each queue of a ring.
pub(super) const LOBBY: usize = 1;

/// The team of `queue`, over io_uring.
pub(super) fn team_of(queue: u16) -> usize {
    LOBBY + 1 + usize::from(queue)
}

/// The queue of a team, over io_uring.
pub(super) fn queue_of(team: usize) -> Option<u16> {
    u16::try_from(team.checked_sub(LOBBY + 1)?).ok()
}

/// What the pool needs from the transports.
pub(super) trait Crew: Send + Sync + 'static {
    /// Starts one more thread of `team`; false if it cannot be started.
    fn hire(&self, pool: &Arc<Pool>, team: usize) -> bool;
    /// Answers request `unique`, in service at `place`, with `EINTR`, now or soon.
    fn give_up(&self, pool: &Arc<Pool>, place: &Arc<Place>, unique: u64);
}

/// The threads of one team, by what they do.
#[derive(Default)]
struct Team {
    /// How many shall be active.
    target: usize,
    /// Able to take a request, or serving one without being blocked.
    active: usize,
    /// Waiting to be needed.
    spare: usize,
    /// Spare ones that were called and have not woken yet.
    called: usize,
    /// How often another one took the place of one that blocked.
    replaced: u64,
}

/// All teams.
struct Roster {
    teams: Vec<Team>,
    /// All threads that run.
    threads: usize,
}

/// The threads of one session.
pub(super) struct Pool {
    crew: Box<dyn Crew>,
    /// How many threads may run at most.
    limit: usize,
    roster: Mutex<Roster>,
    needed: Condvar,
    ended: Condvar,
    places: RwLock<Vec<Arc<Place>>>,
    retired: Mutex<Retired>,
    over: AtomicBool,
    start: Instant,
    monitor_awake: AtomicBool,
    monitor: Mutex<()>,
    monitor_wake: Condvar,
    early: Mutex<Vec<(u64, Instant)>>,
    early_count: AtomicUsize,
}

impl Pool {
    /// Teams of `targets` active threads each; at most `limit` threads in all.
    pub(super) fn new(crew: Box<dyn Crew>, targets: &[usize], limit: usize) -> Arc<Pool> {
        let team = |target: &usize| Team {
            target: *target,
            ..Team::default()
        };
        Arc::new(Pool {
            crew,
            limit,
            roster: Mutex::new(Roster {
                teams: targets.iter().map(team).collect(),
                threads: 0,
            }),
            needed: Condvar::new(),
            ended: Condvar::new(),
            places: RwLock::new(Vec::new()),
            retired: Mutex::default(),
            over: AtomicBool::new(false),
            start: Instant::now(),
            monitor_awake: AtomicBool::new(false),
            monitor: Mutex::new(()),
            monitor_wake: Condvar::new(),
            early: Mutex::new(Vec::new()),
            early_count: AtomicUsize::new(0),
        })
    }

    /// Nanoseconds since the pool was made.
    pub(super) fn now(&self) -> u64 {
        nanoseconds(self.start)
    }

    /// The mount is gone, or shall be: no thread fetches any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// How many threads there are, in all.
    pub(super) fn threads(&self) -> usize {
        self.roster.lock().threads
    }

    /// Tells all threads to end: wakes those that rest and interrupts those that fetch.
    pub(super) fn finish(&self) {
        self.over.store(true, Ordering::Release);
        let roster = self.roster.lock();
        self.needed.notify_all();
        self.ended.notify_all();
        drop(roster);
        for place in self.places.read().iter() {
            place.signal();
        }
        self.wake_monitor();
    }

    /// Starts as many threads of `team` as shall be active; false if one of them cannot be started.
    pub(super) fn fill(self: &Arc<Pool>, team: usize) -> bool {
        while self.is_short(team) {
            if !self.enlist(team) {
                return false;
            }
            if !self.crew.hire(self, team) {
                self.resign(team, true);
                return false;
            }
        }
        true
    }

    fn is_short(&self, team: usize) -> bool {
        let roster = self.roster.lock();
        roster.teams[team].active < roster.teams[team].target
    }

    /// From now on `target` threads of `team` shall be active; [`fill`](Self::fill) starts those that lack.
    pub(super) fn set_target(&self, team: usize, target: usize) {
        self.roster.lock().teams[team].target = target;
    }

    /// Counts a thread of `team` that is about to be started; false if there are too many already.
    pub(super) fn enlist(&self, team: usize) -> bool {
        let mut roster = self.roster.lock();
        if roster.threads >= self.limit {
            return false;
        }
        roster.threads += 1;
        roster.teams[team].active += 1;
        true
    }

    /// A thread of `team` starts to serve requests of `desk`.
    pub(super) fn enter(&self, team: usize, desk: Desk) -> Arc<Place> {
        let place = Arc::new(Place::new(team, desk));
        place.sit_down();
        self.places.write().push(Arc::clone(&place));
        place
    }

    /// A thread leaves its place for good.
    pub(super) fn leave(&self, place: &Arc<Place>, active: bool) {
        // Both locked, so that whoever reads the measurements finds what was measured here once.
        let mut retired = self.retired.lock();
        self.places
            .write()
            .retain(|other| !Arc::ptr_eq(other, place));
        retired.add(place);
        drop(retired);
        if place.mark_back() {
            self.came_back(place.team);
        }
        self.resign(place.team, active);
    }

    /// One thread of `team` less.
    pub(super) fn resign(&self, team: usize, active: bool) {
        let mut roster = self.roster.lock();
        roster.threads -= 1;
        roster.teams[team].active -= usize::from(active);
        self.ended.notify_all();
    }

    /// An active thread of `team` blocks: see that another one is active. False if there can be none.
    pub(super) fn went_away(self: &Arc<Pool>, team: usize) -> bool {
        let mut roster = self.roster.lock();
        let threads = roster.threads;
        let own = &mut roster.teams[team];
        own.active -= 1;
        if own.active >= own.target || self.is_over() {
            return true;
        }
        if own.spare > own.called {
            own.called += 1;
            own.active += 1;
            own.replaced += 1;
            self.needed.notify_one();
            return true;
        }
        if threads >= self.limit {
            return own.active > 0;
        }
        own.active += 1;
        own.replaced += 1;
        roster.threads += 1;
        drop(roster);
        if self.crew.hire(self, team) {
            return true;
        }
        self.resign(team, true);
        self.roster.lock().teams[team].active > 0
    }

    /// A blocked thread of `team` goes on.
    pub(super) fn came_back(&self, team: usize) {
        self.roster.lock().teams[team].active += 1;
    }

    /// Called by an active thread of the classic `team` without a request: rests while there are enough others. False
    /// if the thread shall end; it is not counted as active then.
    pub(super) fn stay(&self, team: usize) -> bool {
        let mut roster = self.roster.lock();
        let own = &mut roster.teams[team];
        if own.active <= own.target {
            return true;
        }
        own.active -= 1;
        own.spare += 1;
        let deadline = Instant::now() + SPARE_REST;
        loop {
            // Looked at with the roster locked, as `finish` notifies: it cannot be missed.
            let timed_out =
                self.is_over() || self.needed.wait_until(&mut roster, deadline).timed_out();
            let own = &mut roster.teams[team];
            // Who calls a spare thread counts it as active for it.
            if own.called > 0 {
                own.called -= 1;
                own.spare -= 1;
                return true;
            }
            if timed_out || self.is_over() {
                own.spare -= 1;
                return false;
            }
        }
    }

    /// Whether every thread of `team` but the one at `place` is in a request.
    pub(super) fn others_serve(&self, place: &Arc<Place>) -> bool {
        let places = self.places.read();
        let mut others = places
            .iter()
            .filter(|other| other.team == place.team && !Arc::ptr_eq(other, place));
        others.all(|other| other.since().is_some())
    }

    /// Waits until all threads have ended; at most `patience` after the session is over. Returns how many are left.
    pub(super) fn wait(&self, patience: Duration) -> usize {
        let mut roster = self.roster.lock();
        while !self.is_over() && roster.threads > 0 {
            self.ended.wait(&mut roster);
        }
        let deadline = Instant::now() + patience;
        while roster.threads > 0 && Instant::now() < deadline {
            let moment = Instant::now() + Duration::from_millis(10);
            if self
                .ended
                .wait_until(&mut roster, moment.min(deadline))
                .timed_out()
            {
                drop(roster);
                for place in self.places.read().iter() {
                    place.signal();
                }
                roster = self.roster.lock();
            }
        }
        roster.threads
    }

    /// Waits until the session is over, and then until nothing is served any more, but not longer than `patience`.
    pub(super) fn wait_for_rest(&self, patience: Duration) {
        let mut roster = self.roster.lock();
        while !self.is_over() && roster.threads > 0 {
            self.ended.wait(&mut roster);
        }
        drop(roster);
        let deadline = Instant::now() + patience;
        let serves = |place: &Arc<Place>| place.serving().is_some();
        while self.places.read().iter().any(serves) && Instant::now() < deadline {
            for place in self.places.read().iter().filter(|place| serves(place)) {
                place.signal();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The kernel wants request `unique` interrupted.
    pub(super) fn interrupt(&self, unique: u64) {
        // The thread that has read the request may not have taken it into service yet: it looks at this list after
        // it did, and one of the two sees the other.
        let mut early = self.early.lock();
        if early.len() == EARLY_INTERRUPTS {
            early.remove(0);
        }
        early.push((unique, Instant::now()));
        self.early_count.store(early.len(), Ordering::SeqCst);
        drop(early);
        let places = self.places.read();
        if let Some(place) = places.iter().find(|place| place.serving() == Some(unique)) {
            self.take_early_interrupt(unique);
            place.interrupt(unique);
        }
        drop(places);
        self.wake_monitor();
    }

    /// Whether `unique` was asked to be interrupted before it was in service.
    pub(super) fn take_early_interrupt(&self, unique: u64) -> bool {
        if self.early_count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let mut early = self.early.lock();
        let found = early.iter().position(|(other, _)| *other == unique);
        if let Some(index) = found {
            early.swap_remove(index);
            self.early_count.store(early.len(), Ordering::SeqCst);
        }
        found.is_some()
    }

    /// Called at the start of every request: cheap while the monitor is awake.
    pub(super) fn busy(&self) {
        if !self.monitor_awake.load(Ordering::Relaxed) {
            self.wake_monitor();
        }
    }

    /// Body of the thread that lets the file system tend to itself by `job`.
    pub(super) fn tend(&self, job: impl Fn()) {
        let mut interval = TEND_SOON;
        let mut served = 0;
        loop {
            let deadline = Instant::now() + interval;
            let mut roster = self.roster.lock();
            while !self.is_over() && !self.ended.wait_until(&mut roster, deadline).timed_out() {}
            drop(roster);
            if self.is_over() {
                return;
            }
            job();
            let now = self.places.read().iter().map(|place| place.served()).sum();
            interval = if now == served {
                (interval * 2).min(TEND_SELDOM)
            } else {
                TEND_SOON
            };
            served = now;
        }
    }

    fn forget_early_interrupts(&self) {
        if self.early_count.load(Ordering::Relaxed) > 0 {
            let mut early = self.early.lock();
            early.retain(|(_, came)| came.elapsed() < EARLY_INTERRUPT_LIFE);
            self.early_count.store(early.len(), Ordering::SeqCst);
        }
    }

    fn wake_monitor(&self) {
        let _guard = self.monitor.lock();
        self.monitor_awake.store(true, Ordering::Relaxed);
        self.monitor_wake.notify_one();
    }

    /// Body of the monitor thread: replaces blocked threads, repeats interrupts, gives interrupted requests up.
    pub(super) fn monitor(self: &Arc<Pool>) {
        let mut idle_since = Instant::now();
        let mut trimmed = Instant::now();
        let mut interrupted: Vec<(u64, Instant)> = Vec::new();
        let mut looked = Instant::now();
        let mut courtesy = Courtesy::new();
        while !self.is_over() {
            let places: Vec<Arc<Place>> = self.places.read().clone();
            courtesy.look(&places);
            let now = self.now();
            let look = looked.elapsed() >= LOST_INTERRUPTS;
            if look {
                looked = Instant::now();
            }
            for place in &places {
                let Some(since) = place.since() else { continue };
                idle_since = Instant::now();
                if u128::from(now.saturating_sub(since)) >= SLOW.as_nanos() && place.mark_away() {
                    place.come_forward();
                    self.went_away(place.team);
                }
                let long = u128::from(now.saturating_sub(since)) >= LOST_INTERRUPTS.as_nanos();
                if look
                    && long
                    && let Some(unique) = place.abandoned()
                {
                    place.interrupt(unique);
                }
                if let Some(unique) = place.serving().filter(|_| place.interrupted()) {
                    let asked = match interrupted.iter().find(|(other, _)| *other == unique) {
                        Some((_, asked)) => *asked,
                        None => {
                            interrupted.push((unique, Instant::now()));
                            Instant::now()
                        }
                    };
                    if asked.elapsed() >= GIVE_UP {
                        self.crew.give_up(self, place, unique);
                    } else {
                        place.signal();
                    }
                }
            }
            self.forget_early_interrupts();
            interrupted
                .retain(|(unique, _)| places.iter().any(|place| place.serving() == Some(*unique)));
            let mut guard = self.monitor.lock();
            if idle_since.elapsed() < QUIET {
                self.monitor_wake.wait_for(&mut guard, SLOW);
            } else if !self.is_over() {
                if trimmed.elapsed() > TRIM_INTERVAL {
                    // A kernel that has forgotten a million inodes leaves as many holes.
                    crate::sys::memory::trim();
                    trimmed = Instant::now();
                }
                courtesy.rest();
                self.monitor_awake.store(false, Ordering::Relaxed);
                self.monitor_wake.wait(&mut guard);
                idle_since = Instant::now();
            }
        }
    }
}
