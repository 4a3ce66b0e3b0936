//! What was measured, on what, and how: the words around the figures.

use crate::result::{Run, TargetInfo, TargetKind, Verdict};
use crate::stats;

use super::analysis::{Analysis, FASTER, SLOWER, incomplete};
use super::figure;
use super::sheet::Sheet;

/// One line about the run: what it was.
pub fn headline(run: &Run) -> String {
    format!(
        "{} {}, profile {}, {} rounds, scale {}",
        run.schema, run.suite, run.profile, run.rounds, run.scale
    )
}

/// When the run was, and how long it took.
pub fn when(run: &Run) -> String {
    format!(
        "{}, took {}",
        figure::date(run.started),
        figure::span(run.finished.saturating_sub(run.started))
    )
}

/// What the reader must know before the figures.
pub fn cautions(run: &Run) -> Vec<String> {
    let ended = incomplete(run.state).map(str::to_owned);
    ended
        .into_iter()
        .chain(run.warnings.iter().cloned())
        .collect()
}

/// The environment by name.
pub fn environment(run: &Run) -> Sheet {
    let environment = &run.environment;
    let mut sheet = Sheet::new(&["what", "value"]);
    let memory = figure::bytes(environment.memory as f64);
    let cpus = environment.cpus.to_string();
    let command = run.command.join(" ");
    for (name, value) in [
        ("kernel", &environment.kernel),
        ("system", &environment.system),
        ("CPU", &environment.cpu),
        ("CPUs", &cpus),
        ("memory", &memory),
        ("virtualisation", &environment.virtualisation),
        ("governor", &environment.governor),
        ("backing directory", &environment.backing),
        ("backing file system", &environment.backing_file_system),
        ("command", &command),
    ] {
        sheet.words([name, value.as_str()]);
    }
    for (of, map) in [
        ("kernel", &environment.kernel_parameters),
        ("fuse", &environment.fuse_parameters),
        ("tool", &environment.tools),
    ] {
        for (name, value) in map {
            sheet.words([format!("{of}: {name}"), value.clone()]);
        }
    }
    sheet
}

/// What kind of target, in words.
pub fn kind(target: &TargetInfo) -> &'static str {
    match target.kind {
        TargetKind::Native => "native bind mount",
        TargetKind::Mount => "FUSE mount",
        TargetKind::Session => "session",
    }
}

/// A verdict in a word.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Verified => "verified",
        Verdict::Violated => "VIOLATED",
        Verdict::Unknown => "unknown",
    }
}

/// Everything about a target, by name.
pub fn target(target: &TargetInfo) -> Vec<(String, String)> {
    let mut facts = vec![("kind".to_owned(), kind(target).to_owned())];
    if let Some(reason) = &target.unavailable {
        facts.push(("NOT AVAILABLE".into(), reason.clone()));
    }
    if !target.command.is_empty() {
        facts.push(("command".into(), target.command.join(" ")));
    }
    if let Some(version) = &target.program_version {
        facts.push(("version".into(), version.clone()));
    }
    for (name, value) in &target.parameters {
        facts.push((name.clone(), value.clone()));
    }
    for check in &target.checks {
        let mut text = verdict(check.verdict).to_owned();
        if !check.detail.is_empty() {
            text = format!("{text}: {}", check.detail);
        }
        facts.push((check.claim.clone(), text));
    }
    facts
}

/// How it was measured and how to read it, one sentence or two each.
pub fn method(analysis: &Analysis<'_>) -> Vec<String> {
    let rounds = analysis.run.rounds as usize;
    let example: Vec<f64> = (0..rounds).map(|round| round as f64).collect();
    let interval = stats::estimate(&example, stats::LEVEL).and_then(|estimate| estimate.interval);
    let coverage = interval.map_or_else(
        || "One round has no interval: nothing here can be told from chance.".to_owned(),
        |interval| {
            format!(
                "With {rounds} rounds an interval holds the true median with a probability of {:.2} %.",
                interval.coverage * 100.0
            )
        },
    );
    vec![
        "The targets are interleaved: every round measures every target once for a workload, so that drift of the machine \
         hits all of them alike."
            .into(),
        format!(
            "Figures are medians over the rounds, intervals come from order statistics and assume no distribution. {coverage}"
        ),
        "A ratio is the speed relative to the baseline: 1.00 is as fast, 0.50 takes twice as long. It is the median of the \
         ratios of samples of the same round."
            .into(),
        format!(
            "Ratios below {SLOWER} or above {FASTER} are flagged and want an explanation, unless the interval holds 1.00: then \
             the difference may be chance."
        ),
        "Outliers (modified z-score above 3.5) are said and never removed. Means over groups are geometric means of ratios, and \
         say of how many workloads: failed and skipped ones are not in them."
            .into(),
        "CPU time is that of all of the machine in the measured window, so it holds clients, servers and the kernel's threads; \
         the server's part is given where the server is known."
            .into(),
    ]
}
