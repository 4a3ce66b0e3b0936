//! What all threads measured, and what they do at the moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{CLASSIC, LOBBY, Pool, queue_of};
use crate::engine::metrics::{CacheStatistics, Detail, Measurements, QueueStatistics, Recorder};
use crate::engine::seat::Place;

/// What threads measured that have ended.
#[derive(Default)]
pub(super) struct Retired {
    /// Per team.
    recorders: BTreeMap<usize, Recorder>,
    cache: CacheStatistics,
}

impl Retired {
    pub(super) fn add(&mut self, place: &Place) {
        let recorder = self.recorders.entry(place.team);
        recorder
            .or_insert_with(Recorder::new)
            .merge(&place.recorder.lock());
        self.cache = self.cache.and(&place.cache.statistics());
    }
}

impl Pool {
    /// Measurements of all threads, past ones included.
    pub(in crate::engine) fn measurements(&self, detail: Detail) -> Measurements {
        // A thread that ends moves what it measured with this locked: it is found in one place or the other.
        let retired = self.retired.lock();
        let places: Vec<Arc<Place>> = self.places.read().clone();
        let mut cache = retired.cache;
        let mut teams: BTreeMap<usize, Vec<&Place>> = BTreeMap::new();
        for team in retired.recorders.keys() {
            teams.entry(*team).or_default();
        }
        for place in &places {
            cache = cache.and(&place.cache.statistics());
            teams.entry(place.team).or_default().push(place);
        }
        let mut all = Recorder::new();
        let mut queues = Vec::new();
        for (team, places) in teams {
            // One after the other: the histograms of all queues at once would take much memory.
            let mut recorder = Recorder::new();
            if let Some(past) = retired.recorders.get(&team) {
                recorder.merge(past);
            }
            for place in &places {
                recorder.merge(&place.recorder.lock());
            }
            all.merge(&recorder);
            let measured = recorder.total();
            // The lobby waits for the first request of each CPU. That it served one itself is worth telling.
            if team != LOBBY || measured.requests > 0 {
                queues.push(QueueStatistics {
                    name: name(team),
                    threads: places.len() as u64,
                    serving: count(&places, |place| place.since().is_some()),
                    blocked: count(&places, Place::is_away),
                    replaced: self.roster.lock().teams[team].replaced,
                    measured,
                    operations: recorder.operations(detail),
                });
            }
        }
        Measurements {
            operations: all.operations(detail),
            queues,
            cache,
        }
    }
}

fn count(places: &[&Place], what: impl Fn(&Place) -> bool) -> u64 {
    places.iter().filter(|place| what(place)).count() as u64
}

/// What the queue of a team is called.
fn name(team: usize) -> String {
    match (team, queue_of(team)) {
        (_, Some(cpu)) => format!("cpu {cpu}"),
        (CLASSIC, None) => "classic".to_owned(),
        _ => "lobby".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use fuse_proto::opcode::Opcode;
    use parking_lot::Mutex;

    use super::*;
    use crate::engine::metrics::CacheEvent;
    use crate::engine::pool::{Crew, team_of};
    use crate::engine::seat::Desk;

    struct Nobody;

    impl Crew for Nobody {
        fn hire(&self, _pool: &Arc<Pool>, _team: usize) -> bool {
            true
        }

        fn give_up(&self, _pool: &Arc<Pool>, _place: &Arc<Place>, _unique: u64) {}
    }

    fn enter(pool: &Arc<Pool>, team: usize) -> Arc<Place> {
        assert!(pool.enlist(team));
        pool.enter(team, Desk::Ring(Mutex::new(None)))
    }

    fn names(measurements: &Measurements) -> Vec<&str> {
        let queues = measurements.queues.iter();
        queues.map(|queue| queue.name.as_str()).collect()
    }

    #[test]
    fn measurements_are_merged_per_queue_and_over_all() {
        let pool = Pool::new(Box::new(Nobody), &[1, 0, 1, 1], 10);
        let (classic, lobby) = (enter(&pool, CLASSIC), enter(&pool, LOBBY));
        let (one, other) = (enter(&pool, team_of(1)), enter(&pool, team_of(1)));
        let forget = |place: &Place| {
            place.recorder.lock().record(Opcode::Forget, 100, None, 0);
            place.cache.count(CacheEvent::Forgotten, 1);
        };
        forget(&classic);
        for (place, nanoseconds) in [(&one, 1000), (&other, 3000)] {
            place.begin(1, 0, 1);
            let mut recorder = place.recorder.lock();
            recorder.record(Opcode::Read, nanoseconds, None, 10);
            recorder.record(Opcode::Lookup, nanoseconds, None, 0);
        }
        other.end();
        let check = |threads: [u64; 3]| {
            let all = pool.measurements(Detail::Percentiles);
            assert_eq!(names(&all), ["classic", "cpu 1"]);
            assert_eq!(all.queues[0].measured.requests, 1);
            let cpu = &all.queues[1];
            assert_eq!([cpu.threads, cpu.serving, cpu.replaced], threads);
            assert_eq!((cpu.measured.requests, cpu.measured.bytes), (4, 20));
            assert_eq!(cpu.operations.len(), 2);
            assert_eq!(cpu.measured.max_ns / 100, 30);
            let requests = |name: &str| {
                let operations = all.operations.iter();
                let mut of = operations.filter(|one| one.operation == name);
                of.next().map(|one| one.measured.requests)
            };
            assert_eq!((requests("READ"), requests("FORGET")), (Some(2), Some(1)));
            assert_eq!(all.cache.forgotten, 1);
        };
        check([2, 1, 0]);
        // What a thread measured stays when it ends.
        pool.leave(&other, true);
        pool.leave(&classic, true);
        check([1, 1, 0]);
        assert!(one.mark_away());
        assert!(pool.went_away(one.team));
        let all = pool.measurements(Detail::Percentiles);
        assert_eq!((all.queues[1].blocked, all.queues[1].replaced), (1, 1));
        lobby.recorder.lock().record(Opcode::Open, 1, None, 0);
        let all = pool.measurements(Detail::Percentiles);
        assert_eq!(names(&all), ["classic", "lobby", "cpu 1"]);
    }
}
