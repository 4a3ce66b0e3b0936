//! Data operations through io_uring: one ring for each client, as many tasks as operations are to be in flight.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio_uring::buf::{BoundedBuf, Slice};
use tokio_uring::fs::File;
use tokio_uring::{Runtime, builder};

use super::LoadError;
use super::data::Job;
use super::gate::Gate;
use super::pace::{Clock, Monotonic, Tally};

/// Fewest entries of a ring.
const ENTRIES: u32 = 8;

/// Whether the kernel lets us have a ring.
pub(super) fn available() -> io::Result<()> {
    runtime(1).map(drop)
}

fn runtime(depth: u32) -> io::Result<Runtime> {
    Runtime::new(builder().entries(depth.next_power_of_two().max(ENTRIES)))
}

/// One client. Its tasks share the thread.
pub(super) fn lane(job: &Arc<Job>, clock: Monotonic, gate: &Gate) -> Result<Tally, LoadError> {
    let ready = runtime(job.depth)
        .map_err(LoadError::Ring)
        .and_then(|runtime| Ok((runtime, job.open()?)));
    let buffers: Vec<_> = (0..job.depth)
        .map(|task| {
            let mut random = job.random(task);
            let (buffer, begin) = job.buffer(&mut random);
            (buffer.slice(begin..begin + job.block), random)
        })
        .collect();
    let tally = Rc::new(RefCell::new(Tally::new()));
    let begun = gate.pass();
    let (runtime, file) = ready?;
    tally.borrow_mut().ended = clock.now();
    let result = runtime.block_on(async {
        let file = Rc::new(File::from_std(file));
        let tasks: Vec<_> = buffers
            .into_iter()
            .map(|(buffer, random)| {
                tokio_uring::spawn(
                    Task {
                        job: Arc::clone(job),
                        file: Rc::clone(&file),
                        tally: Rc::clone(&tally),
                        clock,
                        until: job.until(begun),
                        random,
                    }
                    .work(buffer),
                )
            })
            .collect();
        let mut all = Ok(());
        for task in tasks {
            let one = task
                .await
                .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            all = all.and(one);
        }
        let Some(file) = Rc::into_inner(file) else {
            unreachable!("all tasks have ended");
        };
        let closed = file.close().await.map_err(|error| job.failed(error));
        all.and(closed)
    });
    result.map(|()| tally.take())
}

struct Task {
    job: Arc<Job>,
    file: Rc<File>,
    tally: Rc<RefCell<Tally>>,
    clock: Monotonic,
    until: u64,
    random: fastrand::Rng,
}

impl Task {
    /// One operation at least: a rate of nothing would say nothing.
    fn goes_on(&self, now: u64) -> bool {
        now < self.until || self.tally.borrow().calls == 0
    }

    async fn work(mut self, mut buffer: Slice<Vec<u8>>) -> Result<(), LoadError> {
        let mut now = self.clock.now();
        while self.goes_on(now)
            && let Some(number) = self.job.take()
        {
            let offset = self.job.offset(number, &mut self.random);
            let result;
            (result, buffer) = if self.job.writes() {
                self.file.write_at(buffer, offset).submit().await
            } else {
                self.file.read_at(buffer, offset).await
            };
            let bytes = self.job.moved(result)?;
            if self.job.syncs(number) {
                let synced = self.file.sync_all().await;
                synced.map_err(|error| self.job.failed(error))?;
            }
            let end = self.clock.now();
            let mut tally = self.tally.borrow_mut();
            tally.record(end - now, bytes);
            tally.ended = end;
            now = end;
        }
        Ok(())
    }
}
