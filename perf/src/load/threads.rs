//! Data operations on threads: one system call at a time each.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::LoadError;
use super::data::Job;
use super::gate::Gate;
use super::pace::{Clock, Monotonic, Tally};

/// One of the threads of a client.
pub(super) fn lane(
    job: &Arc<Job>,
    lane: u32,
    clock: Monotonic,
    gate: &Gate,
) -> Result<Tally, LoadError> {
    let mut random = job.random(lane);
    let (mut buffer, begin) = job.buffer(&mut random);
    let block = &mut buffer[begin..begin + job.block];
    let mut tally = Tally::new();
    let file = job.open();
    let begun = gate.pass();
    let file = file?;
    let until = job.until(begun);
    let mut now = clock.now();
    tally.ended = now;
    while (now < until || tally.calls == 0)
        && let Some(number) = job.take()
    {
        let offset = job.offset(number, &mut random);
        let bytes = if job.writes() {
            job.moved(file.write_at(block, offset))?
        } else {
            job.moved(file.read_at(block, offset))?
        };
        if job.syncs(number) {
            file.sync_all().map_err(|error| job.failed(error))?;
        }
        let end = clock.now();
        tally.record(end - now, bytes);
        tally.ended = end;
        now = end;
    }
    Ok(tally)
}
