//! What a window of time cost: CPU time and context switches, of the machine and of the target's server.

use std::fs;
use std::time::Instant;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::result::Usage;

/// A window that is open.
#[derive(Debug)]
pub struct Window {
    servers: Vec<Pid>,
    start: Instant,
    machine: Machine,
    server: Option<Server>,
}

#[derive(Clone, Copy, Debug)]
struct Machine {
    /// In seconds.
    busy: f64,
    /// In seconds.
    stolen: f64,
    switches: u64,
}

#[derive(Clone, Copy, Debug)]
struct Server {
    /// In seconds.
    cpu: f64,
    switches: u64,
}

impl Window {
    /// Opens a window over the machine and these servers.
    pub fn begin(servers: &[Pid]) -> Window {
        Window {
            servers: servers.to_vec(),
            server: read_servers(servers),
            machine: read_machine(),
            start: Instant::now(),
        }
    }

    /// Closes the window.
    pub fn end(self) -> Usage {
        let seconds = self.start.elapsed().as_secs_f64();
        let machine = read_machine();
        let server = self.server.zip(read_servers(&self.servers));
        Usage {
            seconds,
            cpu_total: (machine.busy - self.machine.busy).max(0.0),
            cpu_stolen: (machine.stolen - self.machine.stolen).max(0.0),
            cpu_server: server.map(|(before, after)| (after.cpu - before.cpu).max(0.0)),
            switches_total: machine.switches.saturating_sub(self.machine.switches),
            switches_server: server
                .map(|(before, after)| after.switches.saturating_sub(before.switches)),
        }
    }
}

/// Of `/proc/stat`: as busy everything but idle, iowait, steal and the guests' time, which is part of user time.
fn read_machine() -> Machine {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .unwrap_or(100) as f64;
    let mut machine = Machine {
        busy: 0.0,
        stolen: 0.0,
        switches: 0,
    };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("cpu") => {
                let times: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
                // user, nice, system, irq, softirq
                let busy: u64 = [0, 1, 2, 5, 6]
                    .iter()
                    .filter_map(|index| times.get(*index))
                    .sum();
                machine.busy = busy as f64 / ticks;
                machine.stolen = times.get(7).copied().unwrap_or(0) as f64 / ticks;
            }
            Some("ctxt") => {
                machine.switches = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            }
            _ => {}
        }
    }
    machine
}

/// Nothing if there is no server or one of them has ended.
fn read_servers(servers: &[Pid]) -> Option<Server> {
    if servers.is_empty() {
        return None;
    }
    let mut all = Server {
        cpu: 0.0,
        switches: 0,
    };
    for pid in servers {
        let time = clock_gettime(clock_getcpuclockid(*pid).ok()?).ok()?;
        all.cpu += time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9;
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            all.switches += status
                .lines()
                .filter(|line| line.contains("voluntary_ctxt_switches:"))
                .filter_map(|line| line.split(':').nth(1)?.trim().parse::<u64>().ok())
                .sum::<u64>();
        }
    }
    Some(all)
}

/// Resident memory of processes in bytes; nothing if there are none or one has ended.
pub fn resident(servers: &[Pid]) -> Option<u64> {
    if servers.is_empty() {
        return None;
    }
    servers
        .iter()
        .map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
            Some(kib * 1024)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let window = Window::begin(&[nix::unistd::getpid()]);
        let start = Instant::now();
        let mut sum = 0_u64;
        while start.elapsed().as_millis() < 100 {
            sum = std::hint::black_box(sum + 1);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        let usage = window.end();
        assert!(usage.seconds >= 0.1);
        let server = usage.cpu_server.unwrap();
        assert!(server > 0.02 && server < usage.seconds * 64.0, "{usage:?}");
        assert!(usage.switches_server.unwrap() >= 1);
        assert!(usage.switches_total >= 1);
        assert!(resident(&[nix::unistd::getpid()]).unwrap() > 100_000);
        assert_eq!(resident(&[]), None);
    }

    #[test]
    fn a_server_that_is_gone_has_no_figures() {
        assert!(read_servers(&[Pid::from_raw(i32::MAX - 1)]).is_none());
    }
}
