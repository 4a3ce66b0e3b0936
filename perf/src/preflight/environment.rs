//! What can change a result and can be read from the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use procfs::Current;

use super::machine;
use crate::job::tool;
use crate::result::Environment;
use crate::target::mountinfo;

/// Programs that workloads and sessions use, and how they tell their version.
const TOOLS: [(&str, &[&str]); 13] = [
    ("cc", &["cc", "--version"]),
    ("dbench", &["dbench", "--version"]),
    ("docker", &["docker", "--version"]),
    ("fio", &["fio", "--version"]),
    ("fusermount3", &["fusermount3", "--version"]),
    ("git", &["git", "--version"]),
    ("make", &["make", "--version"]),
    ("nsenter", &["nsenter", "--version"]),
    ("pgbench", &["pgbench", "--version"]),
    ("postgres", &["postgres", "--version"]),
    ("rustc", &["rustc", "--version"]),
    ("sqlite3", &["sqlite3", "--version"]),
    ("tar", &["tar", "--version"]),
];

/// Facts of the kernel, and the files that tell them.
const FACTS: [(&str, &str); 13] = [
    ("aslr", "/proc/sys/kernel/randomize_va_space"),
    (
        "clocksource",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    ),
    ("cpu_online", "/sys/devices/system/cpu/online"),
    (
        "dirty_background_ratio",
        "/proc/sys/vm/dirty_background_ratio",
    ),
    (
        "dirty_expire_centisecs",
        "/proc/sys/vm/dirty_expire_centisecs",
    ),
    ("dirty_ratio", "/proc/sys/vm/dirty_ratio"),
    ("io_uring_disabled", "/proc/sys/kernel/io_uring_disabled"),
    ("numa_nodes", "/sys/devices/system/node/online"),
    ("preempt", "/sys/kernel/debug/sched/preempt"),
    ("smt", "/sys/devices/system/cpu/smt/control"),
    ("swappiness", "/proc/sys/vm/swappiness"),
    (
        "transparent_hugepage",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ),
    ("turbo_off", "/sys/devices/system/cpu/intel_pstate/no_turbo"),
];

/// How the words of the kernel's command line begin that change results.
const SWITCHES: [&str; 21] = [
    "amd_pstate",
    "clocksource",
    "cpuidle",
    "haltpoll",
    "hugepages",
    "idle",
    "intel_idle",
    "intel_pstate",
    "iommu",
    "isolcpus",
    "mitigations",
    "nohz",
    "noht",
    "nosmt",
    "preempt",
    "processor",
    "rcu_nocbs",
    "swiotlb",
    "threadirqs",
    "transparent_hugepage",
    "tsc",
];

/// The machine, with `backing` as the directory that everything is stored in.
pub fn environment(backing: &Path) -> Environment {
    let uname = nix::sys::utsname::uname().ok();
    let kernel = uname.map(|name| {
        let (release, version) = (name.release(), name.version());
        format!(
            "{} {}",
            release.to_string_lossy(),
            version.to_string_lossy()
        )
    });
    let governors = machine::governors();
    let backing = backing
        .canonicalize()
        .unwrap_or_else(|_| backing.to_owned());
    Environment {
        kernel: kernel.unwrap_or_default(),
        system: system(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        cpu: cpu(),
        cpus: machine::cpus() as u32,
        memory: procfs::Meminfo::current().map_or(0, |memory| memory.mem_total),
        virtualisation: virtualisation(),
        governor: match governors.as_slice() {
            [] => "none".to_owned(),
            governors => governors.join(", "),
        },
        kernel_parameters: kernel_parameters(),
        fuse_parameters: fuse_parameters(),
        backing_file_system: file_system(&backing),
        backing: backing.display().to_string(),
        tools: tool::versions(&TOOLS),
    }
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Of several words, the one in brackets.
fn chosen(text: &str) -> &str {
    let inner = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(inner, _)| inner)
}

fn system(os_release: &str) -> String {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("unknown", |name| name.trim_matches(['"', '\'']))
        .to_owned()
}

fn cpu() -> String {
    let info = procfs::CpuInfo::current().ok();
    let model = info.and_then(|info| {
        let names = ["model name", "Model", "cpu model", "cpu"];
        let name = |name: &str| info.get_info(0)?.get(name).map(|text| (*text).to_owned());
        names.into_iter().find_map(name)
    });
    // ARM tells numbers only.
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn virtualisation() -> String {
    let hypervisor = procfs::CpuInfo::current().is_ok_and(|info| {
        info.flags(0)
            .is_some_and(|flags| flags.contains(&"hypervisor"))
    });
    let kind = line("/sys/hypervisor/type");
    if !hypervisor && kind.is_none() {
        return "none".to_owned();
    }
    let vendor = ["sys_vendor", "product_name"]
        .iter()
        .filter_map(|name| line(format!("/sys/class/dmi/id/{name}")))
        .collect::<Vec<_>>()
        .join(" ");
    let clock = line("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    let by_clock = clock.and_then(|clocks| {
        [("kvm-clock", "KVM"), ("hyperv", "Hyper-V"), ("xen", "Xen")]
            .into_iter()
            .find(|(clock, _)| clocks.contains(clock))
            .map(|(_, name)| name.to_owned())
    });
    Some(vendor)
        .filter(|vendor| !vendor.is_empty())
        .or(kind)
        .or(by_clock)
        .unwrap_or_else(|| "a hypervisor that does not tell its name".to_owned())
}

fn kernel_parameters() -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<String, String> = FACTS
        .iter()
        .filter_map(|(name, path)| Some(((*name).to_owned(), line(path)?)))
        .map(|(name, text)| (name, chosen(&text).to_owned()))
        .collect();
    let switches = switches(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    if !switches.is_empty() {
        parameters.insert("command_line".to_owned(), switches);
    }
    // Without debugfs, what the kernel was built with.
    if let Ok(name) = nix::sys::utsname::uname()
        && !parameters.contains_key("preempt")
    {
        let version = name.version().to_string_lossy();
        let preempt = version.split(' ').find(|word| word.starts_with("PREEMPT"));
        parameters.insert("preempt".to_owned(), preempt.unwrap_or("none").to_owned());
    }
    let vulnerabilities: Vec<String> = fs::read_dir("/sys/devices/system/cpu/vulnerabilities")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name(), line(entry.path())?)))
        .filter(|(_, text)| text != "Not affected")
        .map(|(name, text)| format!("{}: {text}", name.to_string_lossy()))
        .collect();
    parameters.insert("mitigations".to_owned(), mitigations(vulnerabilities));
    parameters
}

/// Of the kernel's command line, what changes results; the rest may be nobody's business.
fn switches(command_line: &str) -> String {
    let words = command_line
        .split_ascii_whitespace()
        .take_while(|word| *word != "--")
        .filter(|word| SWITCHES.iter().any(|switch| word.starts_with(switch)));
    words.collect::<Vec<_>>().join(" ")
}

fn mitigations(mut vulnerabilities: Vec<String>) -> String {
    vulnerabilities.sort();
    if vulnerabilities.is_empty() {
        "none needed".to_owned()
    } else {
        vulnerabilities.join("; ")
    }
}

fn fuse_parameters() -> BTreeMap<String, String> {
    fs::read_dir("/sys/module/fuse/parameters")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name, line(entry.path())?))
        })
        .collect()
}

/// Type, device, mount options, and of a disk the scheduler.
fn file_system(path: &Path) -> String {
    let Some(entry) = mountinfo::holding(path) else {
        return "unknown".to_owned();
    };
    let mut text = format!(
        "{} on {} ({})",
        entry.kind,
        entry.source,
        entry.all_options()
    );
    let (major, minor) = entry.device;
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition has the queue of its disk.
    let queue = [device.join("queue"), device.join("../queue")]
        .into_iter()
        .find(|queue| queue.is_dir());
    if let Some(queue) = queue {
        if let Some(scheduler) = line(queue.join("scheduler")) {
            text.push_str(&format!(", scheduler {}", chosen(&scheduler)));
        }
        match line(queue.join("rotational")).as_deref() {
            Some("1") => text.push_str(", rotating"),
            Some("0") => text.push_str(", not rotating"),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let found = environment(&std::env::temp_dir());
        assert!(found.kernel.starts_with(char::is_numeric), "{found:?}");
        assert!(
            !found.system.is_empty() && !found.cpu.is_empty(),
            "{found:?}"
        );
        assert!(found.cpus >= 1 && found.memory > 1 << 20, "{found:?}");
        assert!(!found.virtualisation.is_empty() && !found.governor.is_empty());
        assert!(found.kernel_parameters.contains_key("mitigations"));
        assert!(found.kernel_parameters.contains_key("preempt"));
        assert!(found.backing_file_system.contains(" on "), "{found:?}");
        assert!(Path::new(&found.backing).is_absolute());
    }

    #[test]
    fn texts() {
        assert_eq!(chosen("always [madvise] never"), "madvise");
        assert_eq!(chosen("tsc"), "tsc");
        assert_eq!(system("ID=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert_eq!(system(""), "unknown");
        let line = "root=/dev/vda mitigations=off quiet nohz_full=1 -- --idle=secret";
        assert_eq!(switches(line), "mitigations=off nohz_full=1");
        assert_eq!(mitigations(Vec::new()), "none needed");
        assert_eq!(
            mitigations(vec!["b: 2".to_owned(), "a: 1".to_owned()]),
            "a: 1; b: 2"
        );
    }
}
