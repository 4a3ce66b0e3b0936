//! What makes two runs differ beside the code.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::result::{Better, Run, TargetInfo, WorkloadInfo};

/// Something in which the runs differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs.
    pub what: String,
    /// In the first run.
    pub before: String,
    /// In the second run.
    pub after: String,
    /// Whether it forbids to compare them.
    pub forbids: bool,
}

/// Whether figures of the two mean the same.
pub(super) fn same(a: &WorkloadInfo, b: &WorkloadInfo) -> bool {
    (
        &a.unit,
        a.better,
        a.cache,
        a.durable,
        a.clients,
        &a.baseline,
    ) == (
        &b.unit,
        b.better,
        b.cache,
        b.durable,
        b.clients,
        &b.baseline,
    )
}

/// What its figures mean, in words.
pub(super) fn definition(workload: Option<&WorkloadInfo>) -> String {
    workload.map_or_else(String::new, |w| {
        let better = match w.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
        };
        let durable = if w.durable { ", durable" } else { "" };
        format!(
            "{}, {better} is better, {:?} caches, {} clients, against {}{durable}",
            w.unit, w.cache, w.clients, w.baseline
        )
    })
}

/// Everything but the definitions of workloads.
pub(super) fn differences(before: &Run, after: &Run) -> Vec<Difference> {
    let (a, b) = (&before.environment, &after.environment);
    let mut found = Vec::new();
    let mut compare = |what: &str, before: &str, after: &str, forbids: bool| {
        if before != after {
            let show = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
            found.push(Difference {
                what: what.to_owned(),
                before: show(before),
                after: show(after),
                forbids,
            });
        }
    };
    compare("kernel", &a.kernel, &b.kernel, true);
    compare("CPU", &a.cpu, &b.cpu, true);
    compare("CPUs", &a.cpus.to_string(), &b.cpus.to_string(), true);
    compare(
        "backing file system",
        &a.backing_file_system,
        &b.backing_file_system,
        true,
    );
    compare(
        "scale",
        &before.scale.to_string(),
        &after.scale.to_string(),
        true,
    );
    compare("virtualisation", &a.virtualisation, &b.virtualisation, true);
    compare("suite", &before.suite, &after.suite, false);
    compare("profile", &before.profile, &after.profile, false);
    compare(
        "rounds",
        &before.rounds.to_string(),
        &after.rounds.to_string(),
        false,
    );
    compare("system", &a.system, &b.system, false);
    compare("governor", &a.governor, &b.governor, false);
    compare(
        "memory",
        &a.memory.to_string(),
        &b.memory.to_string(),
        false,
    );
    for (of, before, after, forbids) in [
        ("tool", &a.tools, &b.tools, true),
        (
            "kernel parameter",
            &a.kernel_parameters,
            &b.kernel_parameters,
            false,
        ),
        (
            "fuse parameter",
            &a.fuse_parameters,
            &b.fuse_parameters,
            false,
        ),
    ] {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let value = |map: &BTreeMap<String, String>| map.get(name).cloned().unwrap_or_default();
            compare(
                &format!("{of} {name}"),
                &value(before),
                &value(after),
                forbids,
            );
        }
    }
    for target in &before.targets {
        if let Some(other) = after.targets.iter().find(|other| other.name == target.name) {
            let version = |of: &TargetInfo| of.program_version.clone().unwrap_or_default();
            let parameters = |of: &TargetInfo| {
                let all = of
                    .parameters
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"));
                all.collect::<Vec<String>>().join(" ")
            };
            let of = |what: &str| format!("{what} of {}", target.name);
            compare(&of("version"), &version(target), &version(other), false);
            compare(
                &of("parameters"),
                &parameters(target),
                &parameters(other),
                false,
            );
        }
    }
    found
}
