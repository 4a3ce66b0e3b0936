//! When operations start, and what their latencies are.
//!
//! In a closed loop an operation starts when the one before has ended, and its latency counts from its start. In an open
//! loop it is due by a schedule that knows nothing of the operations before, and its latency counts from that time: an
//! operation that stalls delays those that are due meanwhile, and each of them shows it. A closed loop would leave them
//! out (coordinated omission).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Longest latency that is told apart, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// A clock in nanoseconds.
pub trait Clock {
    /// Now.
    fn now(&self) -> u64;
    /// Returns at this time, or at once if it is over.
    fn wait_until(&self, at: u64);
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic {
    epoch: Instant,
    spin: Duration,
}

impl Monotonic {
    /// Starts at 0. Watches the clock for the last `spin` of a wait.
    pub fn new(spin: Duration) -> Monotonic {
        Monotonic {
            epoch: Instant::now(),
            spin,
        }
    }
}

impl Clock for Monotonic {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn wait_until(&self, at: u64) {
        loop {
            let Some(left) = at.checked_sub(self.now()).filter(|left| *left > 0) else {
                return;
            };
            match Duration::from_nanos(left).checked_sub(self.spin) {
                Some(sleep) if !sleep.is_zero() => std::thread::sleep(sleep),
                _ => std::hint::spin_loop(),
            }
        }
    }
}

/// When the operations of one client are due, in nanoseconds since the start of the measurement.
#[derive(Clone, Debug)]
pub struct Schedule {
    interval: f64,
    due: f64,
    random: Option<fastrand::Rng>,
}

impl Schedule {
    /// Equal distances of `interval` nanoseconds from `first` on.
    pub fn even(interval: f64, first: f64) -> Schedule {
        Schedule {
            interval,
            due: first,
            random: None,
        }
    }

    /// Random distances, `interval` nanoseconds on average.
    pub fn poisson(interval: f64, seed: u64) -> Schedule {
        let mut schedule = Schedule {
            interval,
            due: 0.0,
            random: Some(fastrand::Rng::with_seed(seed)),
        };
        schedule.advance();
        schedule
    }

    /// When the next one is due.
    pub fn due(&self) -> u64 {
        self.due as u64
    }

    fn advance(&mut self) {
        self.due += match &mut self.random {
            None => self.interval,
            Some(random) => -(1.0 - random.f64()).ln() * self.interval,
        };
    }

    /// Gives up those that are due before `end`; returns how many.
    pub fn give_up(&mut self, end: u64) -> u64 {
        let mut count = 0;
        while self.due() < end {
            self.advance();
            count += 1;
        }
        count
    }
}

/// When operations start.
#[derive(Clone, Debug)]
pub enum Pace {
    /// When the one before has ended.
    Closed,
    /// When they are due.
    Open(Schedule),
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After this many calls.
    pub calls: u64,
    /// At this time.
    pub until: u64,
    /// After the last call, stop the other clients, too.
    pub for_all: bool,
}

/// What one client has done.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Latencies in nanoseconds.
    pub histogram: Histogram<u64>,
    /// Calls.
    pub calls: u64,
    /// What they did, in the unit of the operation.
    pub units: u64,
    /// Calls of an open loop that started more than one interval late.
    pub late: u64,
    /// How late the last call of an open loop started, in nanoseconds.
    pub lag: u64,
    /// When the last call ended.
    pub ended: u64,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Tally {
        Tally {
            histogram: Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are valid"),
            calls: 0,
            units: 0,
            late: 0,
            lag: 0,
            ended: 0,
        }
    }

    /// Counts one call that did `units`.
    pub fn record(&mut self, latency: u64, units: u64) {
        self.histogram.saturating_record(latency.max(1));
        self.calls += 1;
        self.units += units;
    }

    /// Adds what another client has done.
    pub fn add(&mut self, other: &Tally) {
        self.histogram += &other.histogram;
        self.calls += other.calls;
        self.units += other.units;
        self.late += other.late;
        self.lag = self.lag.max(other.lag);
        self.ended = self.ended.max(other.ended);
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

/// Performs operations until a limit is reached, `stop` is set or one fails, which sets it.
///
/// `base` is the time on `clock` that a schedule counts from. `perform` returns the units of work done.
///
/// # Errors
/// Those of `perform`.
pub fn drive<C: Clock, E>(
    clock: &C,
    pace: &mut Pace,
    base: u64,
    limits: &Limits,
    stop: &AtomicBool,
    tally: &mut Tally,
    mut perform: impl FnMut() -> Result<u64, E>,
) -> Result<(), E> {
    let mut calls = 0;
    let mut now = clock.now();
    tally.ended = now;
    loop {
        if calls >= limits.calls {
            if limits.for_all {
                stop.store(true, Ordering::Relaxed);
            }
            return Ok(());
        }
        // One call at least: a rate of nothing would say nothing.
        if (calls > 0 && now >= limits.until) || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let from = match pace {
            Pace::Closed => now,
            Pace::Open(schedule) => {
                let due = base + schedule.due();
                if due >= limits.until {
                    return Ok(());
                }
                tally.lag = now.saturating_sub(due);
                if due > now {
                    clock.wait_until(due);
                } else if tally.lag as f64 > schedule.interval {
                    tally.late += 1;
                }
                schedule.advance();
                due
            }
        };
        let result = perform();
        now = clock.now();
        tally.ended = now;
        match result {
            Ok(units) => tally.record(now - from, units),
            Err(error) => {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        calls += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MS: u64 = 1_000_000;
    const UNTIL: Limits = Limits {
        calls: u64::MAX,
        until: 10_000 * MS,
        for_all: false,
    };

    /// A clock that only waiting and working move on.
    #[derive(Default)]
    struct Fake(Cell<u64>);

    impl Clock for Fake {
        fn now(&self) -> u64 {
            self.0.get()
        }

        fn wait_until(&self, at: u64) {
            self.0.set(self.0.get().max(at));
        }
    }

    /// Operations of 0.1 ms, of which the 1000th stalls for 200 ms.
    fn stall_once(pace: &mut Pace) -> Tally {
        let clock = Fake::default();
        let mut tally = Tally::new();
        let mut calls = 0;
        drive(
            &clock,
            pace,
            0,
            &UNTIL,
            &AtomicBool::new(false),
            &mut tally,
            || {
                calls += 1;
                let takes = if calls == 1000 { 200 * MS } else { MS / 10 };
                clock.0.set(clock.0.get() + takes);
                Ok::<_, ()>(1)
            },
        )
        .unwrap();
        tally
    }

    #[test]
    fn an_open_loop_shows_whom_a_stall_delayed() {
        let tally = stall_once(&mut Pace::Open(Schedule::even(MS as f64, 0.0)));
        assert_eq!(tally.calls, 10_000);
        // 200 operations were due during the stall, and 22 more before the queue was gone.
        let p999 = tally.histogram.value_at_quantile(0.999);
        assert!(p999 > 180 * MS && p999 < 200 * MS, "{p999}");
        let p99 = tally.histogram.value_at_quantile(0.99);
        assert!(p99 > 100 * MS, "{p99}");
        assert_eq!(tally.histogram.count_between(MS, u64::MAX), 222);
        assert!(tally.late >= 198 && tally.late <= 222, "{}", tally.late);
        assert_eq!(tally.lag, 0);
    }

    #[test]
    fn a_closed_loop_leaves_them_out() {
        let tally = stall_once(&mut Pace::Closed);
        assert!(tally.calls > 90_000);
        assert!(tally.histogram.value_at_quantile(0.999) < MS);
        assert_eq!(tally.histogram.count_between(MS, u64::MAX), 1);
    }

    #[test]
    fn one_that_cannot_keep_up_says_so() {
        let clock = Fake::default();
        let mut tally = Tally::new();
        let mut pace = Pace::Open(Schedule::even(MS as f64, 0.0));
        drive(
            &clock,
            &mut pace,
            0,
            &UNTIL,
            &AtomicBool::new(false),
            &mut tally,
            || {
                clock.0.set(clock.0.get() + 2 * MS);
                Ok::<_, ()>(1)
            },
        )
        .unwrap();
        assert_eq!(tally.calls, 5000);
        let Pace::Open(mut schedule) = pace else {
            unreachable!()
        };
        assert_eq!(UNTIL.until - schedule.due(), 5000 * MS);
        assert_eq!(schedule.give_up(UNTIL.until), 5000);
        assert!(tally.lag > 4990 * MS);
    }

    #[test]
    fn random_arrivals_have_the_rate_and_the_seed() {
        let mut schedule = Schedule::poisson(MS as f64, 7);
        let first = schedule.due();
        let count = schedule.give_up(10_000 * MS);
        assert!((9_600..10_400).contains(&count), "{count}");
        assert_eq!(Schedule::poisson(MS as f64, 7).due(), first);
        assert_ne!(Schedule::poisson(MS as f64, 8).due(), first);
    }

    #[test]
    fn an_error_stops_all() {
        let stop = AtomicBool::new(false);
        let mut tally = Tally::new();
        let mut calls = 0;
        let result = drive(
            &Fake::default(),
            &mut Pace::Closed,
            0,
            &UNTIL,
            &stop,
            &mut tally,
            || {
                calls += 1;
                if calls == 3 { Err("broken") } else { Ok(1) }
            },
        );
        assert_eq!(result, Err("broken"));
        assert!(stop.load(Ordering::Relaxed));
        assert_eq!(tally.calls, 2);
    }
}
