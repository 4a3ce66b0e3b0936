//! What else the machine does: watched for a second.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::Duration;

use procfs::{CurrentSI, process::all_processes};

use super::Preflight;

const WATCH: Duration = Duration::from_secs(1);

/// Per cent of all CPUs that other work may take: more is said, much more refused.
const SOME: f64 = 5.0;
const MUCH: f64 = 50.0;

/// Per cent of the CPU time that the hypervisor may keep.
const STOLEN: f64 = 2.0;

/// CPU time of everything since the start, in ticks, and pages swapped.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    busy: u64,
    stolen: u64,
    total: u64,
    swapped: i64,
    /// By process: its name and its CPU time.
    processes: HashMap<i32, (String, u64)>,
}

impl Snapshot {
    fn take() -> Snapshot {
        let mut snapshot = Snapshot::default();
        if let Ok(stat) = procfs::KernelStats::current() {
            let cpu = stat.total;
            let stolen = cpu.steal.unwrap_or(0);
            let idle = cpu.idle + cpu.iowait.unwrap_or(0);
            snapshot.busy =
                cpu.user + cpu.nice + cpu.system + cpu.irq.unwrap_or(0) + cpu.softirq.unwrap_or(0);
            snapshot.stolen = stolen;
            snapshot.total = snapshot.busy + stolen + idle;
        }
        let pages = procfs::vmstat().unwrap_or_default();
        snapshot.swapped = ["pswpin", "pswpout"]
            .iter()
            .filter_map(|name| pages.get(*name))
            .sum();
        for stat in all_processes()
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|process| process.stat().ok())
        {
            let time = stat.utime + stat.stime;
            snapshot.processes.insert(stat.pid, (stat.comm, time));
        }
        snapshot
    }
}

pub fn check(preflight: &mut Preflight) {
    let before = Snapshot::take();
    thread::sleep(WATCH);
    let after = Snapshot::take();
    judge(&before, &after, &serves_fuse, preflight);
}

/// `serves_fuse` tells whether a process is a FUSE server.
fn judge(
    before: &Snapshot,
    after: &Snapshot,
    serves_fuse: &dyn Fn(i32) -> bool,
    preflight: &mut Preflight,
) {
    let total = after.total.saturating_sub(before.total).max(1) as f64;
    let share = |before: u64, after: u64| after.saturating_sub(before) as f64 * 100.0 / total;
    let busy = share(before.busy, after.busy);
    let mut active: Vec<(i32, &str, u64)> = after
        .processes
        .iter()
        .filter_map(|(pid, (name, time))| {
            let past = before.processes.get(pid).map_or(0, |(_, time)| *time);
            let spent = time.saturating_sub(past);
            (spent > 0 && *pid != std::process::id() as i32).then_some((*pid, name.as_str(), spent))
        })
        .collect();
    active.sort_by_key(|(pid, _, spent)| (std::cmp::Reverse(*spent), *pid));
    let names: Vec<String> = active
        .iter()
        .take(3)
        .map(|(pid, name, _)| format!("{name} ({pid})"))
        .collect();
    let names = match names.as_slice() {
        [] => String::new(),
        names => format!(" by {}", names.join(", ")),
    };
    if busy > MUCH {
        preflight.refuse(format!(
            "the machine is busy, {busy:.0} % of its CPU time are used{names}: end that, or wait"
        ));
    } else if busy > SOME {
        preflight.warn(format!(
            "{busy:.0} % of the CPU time are used{names}: end that for steadier results"
        ));
    }
    let stolen = share(before.stolen, after.stolen);
    if stolen > STOLEN {
        preflight.warn(format!(
            "the hypervisor keeps {stolen:.0} % of the CPU time for other machines: results will vary; repeat at another time"
        ));
    }
    if after.swapped > before.swapped {
        preflight.warn("memory is being swapped: end programs that use much");
    }
    let servers: Vec<String> = active
        .iter()
        .filter(|(pid, _, _)| serves_fuse(*pid))
        .map(|(pid, name, _)| format!("{name} ({pid})"))
        .collect();
    if !servers.is_empty() {
        preflight.warn(format!(
            "other FUSE servers are at work: {}: unmount what they serve",
            servers.join(", ")
        ));
    }
}

/// Whether a process has the device open.
fn serves_fuse(pid: i32) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|path| path.as_os_str() == "/dev/fuse"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(busy: u64, stolen: u64, total: u64, swapped: i64, sshfs: u64) -> Snapshot {
        let processes = HashMap::from([
            (7, ("cc1".to_owned(), busy)),
            (8, ("sshfs".to_owned(), sshfs)),
            (9, ("idle".to_owned(), 5)),
        ]);
        Snapshot {
            busy,
            stolen,
            total,
            swapped,
            processes,
        }
    }

    fn lines(after: &Snapshot) -> Preflight {
        let before = snapshot(100, 10, 1000, 50, 3);
        let mut preflight = Preflight::default();
        judge(&before, after, &|pid| pid == 8, &mut preflight);
        preflight
    }

    #[test]
    fn an_idle_machine() {
        assert_eq!(lines(&snapshot(102, 10, 1200, 50, 3)), Preflight::default());
        assert_eq!(lines(&snapshot(100, 10, 1000, 50, 3)), Preflight::default());
    }

    #[test]
    fn a_busy_machine() {
        let busy = lines(&snapshot(280, 10, 1200, 50, 3));
        assert_eq!(
            busy.refusals,
            ["the machine is busy, 90 % of its CPU time are used by cc1 (7): end that, or wait"]
        );
        let some = lines(&snapshot(120, 10, 1200, 50, 3));
        assert!(some.refusals.is_empty());
        assert_eq!(
            some.warnings,
            ["10 % of the CPU time are used by cc1 (7): end that for steadier results"]
        );
    }

    #[test]
    fn other_trouble() {
        let found = lines(&snapshot(101, 20, 1200, 51, 4));
        assert!(found.refusals.is_empty());
        assert_eq!(found.warnings.len(), 3, "{found:?}");
        assert!(found.warnings[0].contains("keeps 5 %"), "{found:?}");
        assert!(found.warnings[1].contains("swapped"), "{found:?}");
        assert!(found.warnings[2].contains("sshfs (8)"), "{found:?}");
    }

    #[test]
    fn this_machine_can_be_watched() {
        let snapshot = Snapshot::take();
        assert!(snapshot.total > 0 && snapshot.busy > 0);
        assert!(
            snapshot
                .processes
                .contains_key(&(std::process::id() as i32))
        );
    }
}
