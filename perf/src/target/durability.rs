//! Does fsync through a target reach the backing file system?
//!
//! A mebibyte is written through the target. The kernel tells how much of the backing file waits to be written to the disk:
//! after fsync(2) through the target, that is nothing. A server that ignores fsync, or a cache that swallows it, leaves it
//! as it was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;

use cntr::sys::file::{CacheState, cache_state};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs};

use super::verify::{Seen, TIME};
use crate::job::Place;
use crate::result::Verdict;

const LENGTH: usize = 1 << 20;
const NAME: &str = "durable";

/// What was seen; and whether writes wait in the kernel's cache of the target before the server hears of them, if it can
/// be told.
pub fn seen(place: &Place) -> io::Result<(Seen, Option<bool>)> {
    let unknown = |reason: String| Ok(((Verdict::Unknown, reason), None));
    // The bytes of a session come from a file on the host: it has no input.
    let data: Vec<u8> = (0..LENGTH).map(|_| fastrand::u8(..)).collect();
    let path = place.host.join(NAME);
    let mut open = None;
    if place.enter.is_empty() {
        let mut file = File::create(place.dir.join(NAME))?;
        file.write_all(&data)?;
        open = Some(file);
    } else {
        fs::write(place.host.join("source"), &data)?;
        run(place, "dd", &["if=source", &format!("of={NAME}"), "bs=1M"])?;
    }
    let backing = File::options().read(true).write(true).open(&path)?;
    let arrived = backing.metadata()?.len();
    let before = match cache_state(backing.as_fd()) {
        Ok(state) => state,
        Err(error) => {
            return unknown(format!(
                "the kernel does not tell what is dirty: {error}; Linux 6.5 does"
            ));
        }
    };
    match &open {
        Some(file) => file.sync_all()?,
        None => run(place, "sync", &[NAME])?,
    }
    let after = cache_state(backing.as_fd())?;
    let complete = fs::read(&path)? == data;
    let kind = fstatfs(&backing)?.filesystem_type();
    let reason = if kind == TMPFS_MAGIC {
        Some("tmpfs does not store durably".to_owned())
    } else if kind == OVERLAYFS_SUPER_MAGIC {
        Some("overlayfs does not tell what is dirty".to_owned())
    } else {
        None
    };
    // Closing the file, as a session's command does, ends the delay.
    let writeback = open.is_some().then_some(arrived < LENGTH as u64);
    Ok((judge(arrived, before, after, complete, reason), writeback))
}

fn judge(
    arrived: u64,
    before: CacheState,
    after: CacheState,
    complete: bool,
    reason: Option<String>,
) -> Seen {
    let waits = |state: CacheState| state.dirty + state.writeback;
    if !complete {
        return (
            Verdict::Violated,
            "after fsync, the file on the host does not have what was written".to_owned(),
        );
    }
    if let Some(reason) = reason {
        return (Verdict::Unknown, reason);
    }
    if waits(after) > 0 {
        let detail = format!(
            "after fsync, {} of {} pages of the file on the host are not on the disk",
            waits(after),
            after.cached
        );
        return (Verdict::Violated, detail);
    }
    if arrived < LENGTH as u64 {
        let detail = format!(
            "of {LENGTH} bytes, {arrived} had reached the host before fsync and all after; nothing is dirty then"
        );
        return (Verdict::Verified, detail);
    }
    if waits(before) == 0 {
        let detail = "the file on the host was never dirty: its file system writes at once, or does not tell";
        return (Verdict::Unknown, detail.to_owned());
    }
    let detail = format!(
        "{} dirty pages on the host before fsync, none after",
        waits(before)
    );
    (Verdict::Verified, detail)
}

fn run(place: &Place, program: &str, arguments: &[&str]) -> io::Result<()> {
    let mut place = place.clone();
    place.control = place.control.with_deadline(TIME);
    let command = place.command(program).args(arguments);
    command.run().map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(dirty: u64, writeback: u64) -> CacheState {
        CacheState {
            cached: 256,
            dirty,
            writeback,
            ..CacheState::default()
        }
    }

    #[test]
    fn verdicts() {
        let all = LENGTH as u64;
        let cases = [
            (
                (all, state(256, 0), state(0, 0), true, None),
                Verdict::Verified,
            ),
            (
                (all, state(0, 256), state(0, 0), true, None),
                Verdict::Verified,
            ),
            (
                (all, state(256, 0), state(256, 0), true, None),
                Verdict::Violated,
            ),
            (
                (all, state(256, 0), state(0, 1), true, None),
                Verdict::Violated,
            ),
            (
                (all, state(0, 0), state(0, 0), true, None),
                Verdict::Unknown,
            ),
            ((0, state(0, 0), state(0, 0), true, None), Verdict::Verified),
            (
                (0, state(0, 0), state(0, 0), false, None),
                Verdict::Violated,
            ),
            (
                (
                    all,
                    state(0, 0),
                    state(0, 0),
                    true,
                    Some("tmpfs".to_owned()),
                ),
                Verdict::Unknown,
            ),
            (
                (0, state(0, 0), state(0, 0), false, Some("tmpfs".to_owned())),
                Verdict::Violated,
            ),
        ];
        for ((arrived, before, after, complete, reason), expected) in cases {
            let (verdict, detail) = judge(arrived, before, after, complete, reason.clone());
            assert_eq!(
                verdict, expected,
                "{arrived} {before:?} {after:?} {complete} {reason:?}: {detail}"
            );
        }
    }
}
