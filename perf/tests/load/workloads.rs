//! Workloads on a directory that is its own target.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use perf::job::{Control, Place, Size};
use perf::result::{Better, TargetKind};
use perf::workload::{Workload, limit, metadata, scaling, transfer};

/// Of the curves, only these points.
const POINTS: [&str; 6] = [
    "scale-create-64c",
    "scale-read-small-16c",
    "scale-lookup-2c",
    "scale-files-1000",
    "scale-files-2000",
    "scale-mounts-4",
];

/// Small enough for a test.
const SIZE: Size = Size {
    scale: 0.002,
    seconds: 0.05,
};

fn all() -> Vec<Box<dyn Workload>> {
    [
        metadata::all(),
        transfer::all(),
        scaling::all_at(SIZE.scale),
        limit::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("names_are_unique", names_are_unique),
        Trial::test("the_quick_profile_is_small", the_quick_profile_is_small),
        Trial::test("a_failure_has_words", a_failure_has_words),
    ];
    for workload in all() {
        let info = workload.info();
        if info.group == "scaling" && !POINTS.contains(&info.name.as_str()) {
            continue;
        }
        let missing = workload.missing();
        if let Some(missing) = &missing {
            eprintln!("skipped: {}: {missing}", info.name);
        }
        let trial = Trial::test(info.name.clone(), move || rounds(workload.as_ref()));
        trials.push(trial.with_ignored_flag(missing.is_some()));
    }
    trials
}

fn place(dir: &Path, others: usize) -> Place {
    Place {
        dir: dir.to_owned(),
        host: dir.to_owned(),
        others: vec![PathBuf::from("/"); others],
        enter: Vec::new(),
        servers: vec![nix::unistd::getpid()],
        connections: Vec::new(),
        size: SIZE,
        control: Control::none().with_deadline(Duration::from_secs(120)),
    }
}

/// Two rounds: the second finds what the first has left.
fn rounds(workload: &dyn Workload) -> Result<(), Failed> {
    let info = workload.info();
    let dir = tempfile::tempdir()?;
    let place = place(dir.path(), workload.mounts() - 1);
    for _ in 0..2 {
        let work = || -> anyhow::Result<_> {
            workload.prepare(&place)?;
            workload.warm(&place)?;
            workload.measure(&place)
        };
        let measured = match work() {
            Ok(measured) => measured,
            Err(error)
                if info.name.ends_with("-direct")
                    && format!("{error:#}").contains("os error 22") =>
            {
                eprintln!("skipped: {}: this file system has no O_DIRECT", info.name);
                return Ok(());
            }
            Err(error) => return Err(format!("{error:#}").into()),
        };
        assert!(
            measured.value > 0.0 && measured.value.is_finite(),
            "{measured:?}"
        );
        assert!(
            measured
                .operations
                .is_some_and(|operations| operations >= 1.0)
        );
        assert!(measured.usage.seconds > 0.0 && measured.usage.cpu_server.is_some());
        assert!(
            measured
                .latency
                .is_some_and(|latency| latency.decode().is_some())
        );
        if info.name.starts_with("scale-files") {
            let known = measured.extra.get("files_looked_up");
            assert_eq!(known.copied(), info.axis.as_ref().map(|axis| axis.value));
            assert!(measured.extra.contains_key("server_rss_per_inode_bytes"));
        }
    }
    assert!(workload.expected(&SIZE) > Duration::ZERO);
    Ok(())
}

fn names_are_unique() -> Result<(), Failed> {
    for scale in [0.001, 0.01, 0.1, 0.3, 1.0] {
        let mut names = BTreeSet::new();
        for workload in [
            metadata::all(),
            transfer::all(),
            scaling::all_at(scale),
            limit::all(),
        ]
        .iter()
        .flatten()
        {
            let info = workload.info();
            assert!(names.insert(info.name.clone()), "{} at {scale}", info.name);
            assert_eq!(
                info.unit == "us",
                info.better == Better::Lower,
                "{}",
                info.name
            );
            assert!(workload.applies(TargetKind::Native), "{}", info.name);
        }
    }
    Ok(())
}

fn the_quick_profile_is_small() -> Result<(), Failed> {
    let quick: Vec<String> = all()
        .iter()
        .filter(|workload| workload.quick())
        .map(|workload| workload.info().name)
        .collect();
    assert_eq!(
        quick,
        [
            "meta-stat",
            "meta-lookup",
            "meta-create",
            "meta-create-2c",
            "meta-read-small",
            "meta-readdir",
            "uring-read-random-d16",
            "open-loop-read-small",
            "null-round-trip",
        ]
    );
    let in_session: Vec<String> = all()
        .iter()
        .filter(|workload| workload.applies(TargetKind::Session))
        .map(|workload| workload.info().name)
        .collect();
    assert_eq!(
        in_session,
        [
            "meta-lookup",
            "meta-lookup-2c",
            "meta-create",
            "meta-create-2c",
            "meta-read-small",
            "meta-read-small-2c",
        ]
    );
    Ok(())
}

/// What went wrong, and to which file, arrives from the load generator.
fn a_failure_has_words() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let workloads = metadata::all();
    let open = workloads
        .iter()
        .find(|workload| workload.info().name == "meta-open")
        .ok_or("meta-open is gone")?;
    let place = place(dir.path(), 0);
    open.prepare(&place).map_err(|error| format!("{error:#}"))?;
    std::fs::remove_file(dir.path().join("client-0/f0000007"))?;
    let text = match open.measure(&place) {
        Ok(measured) => return Err(format!("a file is missing: {measured:?}").into()),
        Err(error) => format!("{error:#}"),
    };
    assert!(
        text.contains("open of ") && text.contains("f0000007 failed"),
        "{text}"
    );
    assert!(text.contains("os error 2"), "{text}");
    Ok(())
}
