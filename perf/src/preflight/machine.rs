//! What about the machine makes results worse.

use std::fs;
use std::path::Path;

use procfs::Current;

use super::Preflight;

/// Fewer are shared by clients and server.
const MANY_CPUS: usize = 4;

/// Memory that caches and databases should find, in bytes.
const MEMORY: u64 = 1 << 30;

pub fn check(preflight: &mut Preflight) {
    let governors = governors();
    if governors.iter().any(|governor| governor != "performance") {
        preflight.warn(format!(
            "the CPU governor is {}: `cpupower frequency-set -g performance`",
            governors.join(", ")
        ));
    }
    let cpus = cpus();
    if cpus < MANY_CPUS {
        preflight.warn(format!(
            "there are {cpus} CPUs, which clients and servers share: look at the CPU time beside the throughput"
        ));
    }
    if on_battery(Path::new("/sys/class/power_supply")) {
        preflight.warn("the machine runs on its battery: plug it in");
    }
    if let Ok(memory) = procfs::Meminfo::current() {
        let used = memory.swap_total.saturating_sub(memory.swap_free);
        if used > 0 {
            preflight.warn(format!(
                "{} MiB are swapped out: `swapoff -a && swapon -a` brings them back",
                used >> 20
            ));
        }
        if let Some(available) = memory.mem_available.filter(|available| *available < MEMORY) {
            preflight.warn(format!(
                "{} MiB of memory are available, warm caches may not stay: end other programs",
                available >> 20
            ));
        }
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.contains("zram") {
        preflight.warn(
            "swap space is compressed memory (zram), which costs CPU time: `swapoff /dev/zram0`",
        );
    }
}

/// CPU governors in use, each once; none where the machine has no choice.
pub fn governors() -> Vec<String> {
    let mut governors: Vec<String> = fs::read_dir("/sys/devices/system/cpu")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|cpu| fs::read_to_string(cpu.path().join("cpufreq/scaling_governor")).ok())
        .map(|governor| governor.trim().to_owned())
        .collect();
    governors.sort();
    governors.dedup();
    governors
}

/// CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whether there is a power supply, and none is plugged in.
fn on_battery(supplies: &Path) -> bool {
    let mut online = fs::read_dir(supplies)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|supply| {
            let kind = fs::read_to_string(supply.path().join("type")).unwrap_or_default();
            kind.trim() == "Mains"
        })
        .map(|supply| fs::read_to_string(supply.path().join("online")).unwrap_or_default())
        .peekable();
    online.peek().is_some() && online.all(|online| online.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batteries() {
        let directory = tempfile::tempdir().unwrap();
        let supply = |name: &str, kind: &str, online: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("type"), format!("{kind}\n")).unwrap();
            fs::write(path.join("online"), format!("{online}\n")).unwrap();
        };
        assert!(!on_battery(directory.path()));
        supply("BAT0", "Battery", "0");
        assert!(!on_battery(directory.path()));
        supply("AC", "Mains", "0");
        assert!(on_battery(directory.path()));
        supply("AC", "Mains", "1");
        assert!(!on_battery(directory.path()));
    }
}
