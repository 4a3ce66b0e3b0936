//! Starts the threads of a session, each with its transport.

use std::sync::Arc;

use super::pool::{Crew, Pool, queue_of};
use super::seat::{Desk, Place};
use super::server::Shared;
use super::uring::Begin;
use super::{Errno, FileSystem, queue, uring};

/// Threads that serve `shared`.
pub(super) struct Hands<F> {
    pub(super) shared: Arc<Shared<F>>,
}

impl<F: FileSystem> Crew for Hands<F> {
    fn hire(&self, pool: &Arc<Pool>, team: usize) -> bool {
        match queue_of(team) {
            Some(queue) => uring::start(&self.shared, pool, queue, Begin::Register),
            None => queue::start(&self.shared, pool),
        }
    }

    fn give_up(&self, pool: &Arc<Pool>, place: &Arc<Place>, unique: u64) {
        if let Desk::Device(device) = &place.desk {
            if place.claim(unique) {
                let _ = device.reply_error(unique, Errno::EINTR);
            }
            return;
        }
        let Some(queue) = queue_of(place.team) else {
            return;
        };
        if !place.call_relief() {
            return;
        }
        let begin = Begin::Relieve(Arc::clone(place), unique);
        if !pool.enlist(place.team) {
            place.send_relief_away();
        } else if !uring::start(&self.shared, pool, queue, begin) {
            pool.resign(place.team, true);
            place.send_relief_away();
        }
    }
}
