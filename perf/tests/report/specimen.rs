//! A run as it might be, the same every time: 30 workloads and more on six targets, with all that can go wrong.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use perf::result::{
    Axis, Better, Cache, Check, Environment, Failure, Latency, Row, Run, SCHEMA, Sample, State,
    TargetInfo, TargetKind, Usage, VERSION, Verdict, WorkloadInfo,
};

/// A name that is dangerous in HTML, Markdown and a terminal.
pub const WEIRD_TARGET: &str = "f<u>&\"s'e\" |x|";

/// The same for a workload.
pub const WEIRD_WORKLOAD: &str = "tree-<script>alert(\"1\")</script>&|";

/// Targets, and how fast they are: metadata, data, trees, everything else.
const TARGETS: [(&str, [f64; 4]); 6] = [
    ("native", [1.0, 1.0, 1.0, 1.0]),
    ("cntr", [0.31, 0.985, 0.62, 0.93]),
    ("cntr-passthrough", [0.36, 1.02, 0.71, 1.07]),
    ("passthrough_ll", [0.09, 0.12, 0.15, 0.55]),
    ("bindfs", [0.018, 0.06, 0.05, 0.3]),
    (WEIRD_TARGET, [0.05, 0.4, 0.3, 0.8]),
];

/// Group, name, unit, native value.
const WORKLOADS: [(&str, &str, &str, f64); 26] = [
    ("limit", "null-round-trip", "ops/s", 95_000.0),
    ("limit", "null-round-trip-2c", "ops/s", 170_000.0),
    ("metadata", "meta-stat", "ops/s", 353_000.0),
    ("metadata", "meta-create", "ops/s", 102_000.0),
    ("metadata", "meta-open-close", "ops/s", 222_000.0),
    ("metadata", "meta-rename", "ops/s", 119_000.0),
    ("metadata", "meta-unlink", "ops/s", 123_000.0),
    ("metadata", "meta-getxattr", "ops/s", 255_000.0),
    ("metadata", "meta-create-2c", "ops/s", 160_000.0),
    ("data", "fio-read-sequential", "MB/s", 5_200.0),
    ("data", "fio-read-random", "MB/s", 1_800.0),
    ("data", "fio-write-sequential", "MB/s", 5_300.0),
    ("data", "fio-write-random", "MB/s", 1_600.0),
    ("data", "fio-append", "MB/s", 92.0),
    ("data", "fio-fsync", "MB/s", 43.0),
    ("data", "fio-direct-q16", "MB/s", 147.0),
    ("trees", "tree-untar", "s", 0.15),
    ("trees", "tree-walk-cold", "s", 0.42),
    ("trees", "tree-git-status", "s", 0.025),
    ("trees", "tree-compile", "s", 12.0),
    ("trees", WEIRD_WORKLOAD, "s", 0.06),
    ("databases", "pgbench-tpcb", "tps", 820.0),
    ("databases", "pgbench-select", "tps", 21_000.0),
    ("databases", "sqlite-insert", "inserts/s", 1_400.0),
    ("sessions", "attach-true", "ms", 8.1),
    ("sessions", "attach-find", "ms", 95.0),
];

fn workload(group: &str, name: &str, unit: &str) -> WorkloadInfo {
    WorkloadInfo {
        name: name.into(),
        group: group.into(),
        about: format!("What {name} does, in one line & no more"),
        unit: unit.into(),
        better: if matches!(unit, "s" | "ms" | "bytes") {
            Better::Lower
        } else {
            Better::Higher
        },
        cache: Cache::Warm,
        durable: name.contains("fsync"),
        baseline: "native".into(),
        clients: if name.ends_with("-2c") { 2 } else { 1 },
        axis: None,
        cntr_2018: match name {
            "tree-untar" => Some(("Unpack tarball".into(), 1.2)),
            "pgbench-tpcb" => Some(("PostgreSQL: pgbench".into(), 0.4)),
            "meta-create" => Some(("Compilebench: create".into(), 7.3)),
            _ => None,
        },
    }
}

fn target(name: &str) -> TargetInfo {
    let native = name == "native";
    TargetInfo {
        name: name.into(),
        kind: if native {
            TargetKind::Native
        } else {
            TargetKind::Mount
        },
        about: format!("{name} as it comes <b>not bold</b>"),
        command: match native {
            true => Vec::new(),
            false => vec![
                name.into(),
                "--source".into(),
                "/srv/perf & co".into(),
                "/mnt/a\"b".into(),
            ],
        },
        program_version: (!native).then(|| format!("{name} 1.14.7")),
        parameters: match native {
            true => BTreeMap::new(),
            false => BTreeMap::from([
                ("threads".to_owned(), "2".to_owned()),
                ("max_background".to_owned(), "64".to_owned()),
                ("attr_timeout".to_owned(), "1 s".to_owned()),
            ]),
        },
        checks: vec![
            Check {
                claim: "shows the directory".into(),
                verdict: Verdict::Verified,
                detail: "a file made beside it is seen".into(),
                essential: false,
            },
            Check {
                claim: "fsync reaches the backing file system".into(),
                verdict: if name == "bindfs" {
                    Verdict::Violated
                } else {
                    Verdict::Verified
                },
                detail: String::new(),
                essential: false,
            },
        ],
        unavailable: None,
    }
}

fn latency(random: &mut fastrand::Rng, typical: f64) -> Option<Latency> {
    let mut histogram = Histogram::<u64>::new(3).ok()?;
    for _ in 0..4000 {
        let tail = 1.0 / (1.0 - random.f64()).powf(0.35);
        let value = typical * (0.8 + 0.3 * random.f64()) * tail;
        histogram.record(value as u64 + 1).ok()?;
    }
    Latency::of(&histogram)
}

fn row(
    random: &mut fastrand::Rng,
    workload: &WorkloadInfo,
    target: usize,
    native: f64,
    rounds: u32,
    speed: f64,
) -> Row {
    let (name, _) = TARGETS[target];
    let samples = (0..rounds)
        .map(|round| {
            let noise = 1.0 + (random.f64() - 0.5) * 0.06;
            let value = match workload.better {
                Better::Higher => native * speed * noise,
                Better::Lower => native / speed * noise,
            };
            let cpu = 1.6 / speed.powf(0.7) * noise;
            Sample {
                round,
                position: target as u32,
                value,
                operations: (workload.group != "data").then_some(50_000.0),
                usage: Usage {
                    seconds: 1.5,
                    cpu_total: cpu,
                    cpu_stolen: 0.0,
                    cpu_server: (name != "native").then_some(cpu * (1.0 - speed.min(0.97)) * 0.6),
                    switches_total: (8_000.0 / speed) as u64,
                    switches_server: (name != "native").then_some((3_000.0 / speed) as u64),
                },
                took: 2.0,
                latency: match workload.group.as_str() {
                    "metadata" | "databases" => latency(random, 9_000.0 / speed),
                    _ => None,
                },
                extra: match workload.group.as_str() {
                    "scaling" => {
                        BTreeMap::from([("server_rss_bytes".to_owned(), 4e6 + 1e5 * random.f64())])
                    }
                    _ => BTreeMap::new(),
                },
            }
        })
        .collect();
    Row {
        workload: workload.name.clone(),
        target: name.into(),
        samples,
        failures: Vec::new(),
        skipped: None,
        applies: true,
    }
}

fn environment() -> Environment {
    Environment {
        kernel: "6.18.5 #1 SMP PREEMPT_DYNAMIC".into(),
        system: "Debian GNU/Linux 13 (trixie)".into(),
        cpu: "AMD EPYC 9B14 <96-Core>".into(),
        cpus: 2,
        memory: 25_769_803_776,
        virtualisation: "kvm".into(),
        governor: "none".into(),
        kernel_parameters: BTreeMap::from([("mitigations".into(), "auto".into())]),
        fuse_parameters: BTreeMap::from([("max_user_bgreq".into(), "4096".into())]),
        backing: "/srv/perf".into(),
        backing_file_system: "ext4 on /dev/vdb, rw,relatime".into(),
        tools: BTreeMap::from([
            ("fio".into(), "fio-3.39".into()),
            ("pgbench".into(), "pgbench (PostgreSQL) 17.2".into()),
        ]),
    }
}

/// The run, with this many rounds.
pub fn run(rounds: u32) -> Run {
    let mut random = fastrand::Rng::with_seed(3);
    let mut all: Vec<(WorkloadInfo, f64)> = WORKLOADS
        .iter()
        .map(|(group, name, unit, native)| (workload(group, name, unit), *native))
        .collect();
    for clients in [1_u32, 2, 4, 8, 16, 32, 64] {
        let mut info = workload("scaling", &format!("scale-create-{clients}"), "ops/s");
        info.clients = clients;
        info.axis = Some(Axis {
            curve: "create by clients".into(),
            name: "clients".into(),
            value: f64::from(clients),
        });
        all.push((info, 100_000.0 * f64::from(clients.min(2)) * 0.9));
    }
    for files in [1.0, 1e3, 1e6] {
        let mut info = workload("scaling", &format!("memory-{files}"), "bytes");
        info.axis = Some(Axis {
            curve: "memory per <inode>".into(),
            name: "files".into(),
            value: files,
        });
        all.push((info, 900.0 + 200.0 / files));
    }
    let mut rows = Vec::new();
    for (info, native) in &all {
        for (index, (target, speeds)) in TARGETS.iter().enumerate() {
            let class = match info.group.as_str() {
                "metadata" | "scaling" => 0,
                "data" => 1,
                "trees" => 2,
                _ => 3,
            };
            let mut speed = speeds[class] * (0.85 + 0.3 * random.f64());
            if *target == "native" {
                speed = 1.0;
            } else if info.name == "meta-stat" {
                speed = speed.sqrt().sqrt();
            }
            let mut row = row(&mut random, info, index, *native, rounds, speed);
            spoil(&mut row, info);
            rows.push(row);
        }
    }
    let mut targets: Vec<TargetInfo> = TARGETS.iter().map(|(name, _)| target(name)).collect();
    let mut gone = target("mergerfs");
    gone.unavailable = Some("mergerfs is not installed".into());
    gone.checks.clear();
    targets.push(gone);
    Run {
        schema: SCHEMA.into(),
        version: VERSION,
        suite: "3.0.0-alpha.1".into(),
        command: ["perf", "run", "--profile", "full"]
            .map(String::from)
            .to_vec(),
        started: 1_767_225_600,
        finished: 1_767_225_600 + 4_210,
        state: State::Complete,
        profile: "full".into(),
        rounds,
        scale: 1.0,
        environment: environment(),
        warnings: vec!["other processes used 0.3 CPUs while it was idle".into()],
        targets,
        workloads: all.into_iter().map(|(info, _)| info).collect(),
        rows,
        explanations: BTreeMap::from([
            (
                "metadata:*/cntr".into(),
                "one round trip of 10 us for each operation that the kernel does not cache".into(),
            ),
            (
                "*/bindfs".into(),
                "a thread switch & two path walks for each request".into(),
            ),
        ]),
    }
}

/// What goes wrong in a run.
fn spoil(row: &mut Row, info: &WorkloadInfo) {
    match (info.name.as_str(), row.target.as_str()) {
        ("tree-git-status", "bindfs") => {
            row.samples.clear();
            row.failures = (0..5)
                .map(|round| Failure {
                    round,
                    error: "git failed (exit status: 128): fatal: <unable> to read\nindex: \"Input/output error\"".into(),
                })
                .collect();
        }
        ("fio-direct-q16", "passthrough_ll") => {
            row.samples.truncate(3);
            row.failures.push(Failure {
                round: 3,
                error: "fio was ended after 120 s: it did not finish in time".into(),
            });
        }
        ("pgbench-select", "cntr") => row.samples[0].value *= 0.4,
        ("sqlite-insert", "cntr") => {
            for sample in &mut row.samples {
                sample.latency = None;
            }
        }
        ("sqlite-insert", "bindfs") => {
            for latency in row
                .samples
                .iter_mut()
                .filter_map(|sample| sample.latency.as_mut())
            {
                latency.histogram = None;
            }
        }
        _ => {}
    }
    let skip = match info.group.as_str() {
        "limit" if row.target != "native" => "measured once, beside the targets",
        "sessions" if row.target.starts_with("passthrough") || row.target == "bindfs" => {
            "only for sessions & native"
        }
        _ => return,
    };
    row.samples.clear();
    row.failures.clear();
    row.skipped = Some(skip.into());
}
