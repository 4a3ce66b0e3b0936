//! Small runs for the unit tests.

use crate::result::{
    Better, Cache, Environment, Row, Run, SCHEMA, Sample, State, TargetInfo, TargetKind, Usage,
    VERSION, WorkloadInfo,
};

pub(super) fn empty() -> Run {
    Run {
        schema: SCHEMA.into(),
        version: VERSION,
        suite: "3.0.0".into(),
        command: vec!["perf".into(), "run".into()],
        started: 1_000_000_000,
        finished: 1_000_000_100,
        state: State::Complete,
        profile: "full".into(),
        rounds: 5,
        scale: 1.0,
        environment: Environment::default(),
        warnings: Vec::new(),
        targets: Vec::new(),
        workloads: Vec::new(),
        rows: Vec::new(),
        explanations: Default::default(),
    }
}

pub(super) fn workload(name: &str, group: &str, unit: &str, better: Better) -> WorkloadInfo {
    WorkloadInfo {
        name: name.into(),
        group: group.into(),
        about: format!("about {name}"),
        unit: unit.into(),
        better,
        cache: Cache::Warm,
        durable: false,
        baseline: "native".into(),
        clients: 1,
        axis: None,
        cntr_2018: None,
    }
}

pub(super) fn target(name: &str) -> TargetInfo {
    TargetInfo {
        name: name.into(),
        kind: if name == "native" {
            TargetKind::Native
        } else {
            TargetKind::Mount
        },
        about: format!("about {name}"),
        command: Vec::new(),
        program_version: None,
        parameters: Default::default(),
        checks: Vec::new(),
        unavailable: None,
    }
}

/// A row with one sample per value, in rounds from 0.
pub(super) fn row(workload: &str, target: &str, values: &[f64]) -> Row {
    Row {
        workload: workload.into(),
        target: target.into(),
        applies: true,
        samples: (0..)
            .zip(values)
            .map(|(round, value)| Sample {
                round,
                position: 0,
                value: *value,
                operations: Some(1000.0),
                usage: Usage {
                    seconds: 1.0,
                    cpu_total: 0.5,
                    cpu_stolen: 0.0,
                    cpu_server: None,
                    switches_total: 10,
                    switches_server: None,
                },
                took: 2.0,
                latency: None,
                extra: Default::default(),
            })
            .collect(),
        failures: Vec::new(),
        skipped: None,
    }
}

/// One workload `meta-create` in `op/s`, native at 100 and further targets at these values.
pub(super) fn run(targets: &[(&str, &[f64])]) -> Run {
    let mut run = empty();
    run.workloads = vec![workload("meta-create", "metadata", "op/s", Better::Higher)];
    for (name, values) in [("native", &[100.0, 101.0, 99.0, 100.5, 99.5][..])]
        .iter()
        .chain(targets)
    {
        run.targets.push(target(name));
        run.rows.push(row("meta-create", name, values));
    }
    run
}
