//! `perf report` and `perf compare` as commands.

use std::fs;
use std::process::{Command, ExitCode, Output, Stdio};

use anyhow::{Context, ensure};
use clap::Parser;
use perf::report::{CompareArgs, ReportArgs, compare, run};
use perf::result::Run;

use crate::specimen;

/// Says that this program is to be the command.
const VARIABLE: &str = "PERF_TEST_COMMAND";

#[derive(Parser)]
enum Cli {
    Report(ReportArgs),
    Compare(CompareArgs),
}

/// Is the command, if it was started as that.
pub fn as_program() -> Option<ExitCode> {
    std::env::var_os(VARIABLE)?;
    let result = match Cli::parse() {
        Cli::Report(args) => run(&args),
        Cli::Compare(args) => compare::run(&args),
    };
    Some(result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::from(101)
    }))
}

fn perf(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(VARIABLE, "1")
        .env("COLUMNS", "140")
        .args(arguments);
    Ok(command)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn formats() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("run.json");
    let results = file.to_str().context("a path")?;
    specimen::run(5).save(&file)?;
    for (format, begin) in [
        ("table", "cntr-perf 3.0.0-alpha.1"),
        ("markdown", "# What"),
        ("html", "<!DOCTYPE html>"),
        ("json", "{\n  \"schema\": \"cntr-perf\""),
    ] {
        let output = perf(&["report", results, "--format", format])?.output()?;
        ensure!(output.status.success(), "{output:?}");
        ensure!(
            text(&output).starts_with(begin),
            "{format}: {:.100}",
            text(&output)
        );
        let copy = directory.path().join(format);
        let output = perf(&[
            "report",
            results,
            "--format",
            format,
            "-o",
            copy.to_str().context("a path")?,
        ])?
        .output()?;
        ensure!(
            output.status.success() && output.stdout.is_empty(),
            "{output:?}"
        );
        ensure!(fs::read_to_string(copy)?.starts_with(begin));
    }
    let output = perf(&["report", "/no/such/file.json"])?.output()?;
    ensure!(output.status.code() == Some(101));
    ensure!(String::from_utf8_lossy(&output.stderr).contains("cannot read /no/such/file.json"));
    Ok(())
}

pub fn explanations() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("run.json.gz");
    let reasons = directory.path().join("why.toml");
    specimen::run(5).save(&file)?;
    fs::write(
        &reasons,
        "[explanations]\n\"fio-append/passthrough_ll\" = \"no writeback cache\"\n",
    )?;
    let (results, toml) = (
        file.to_str().context("a path")?,
        reasons.to_str().context("a path")?,
    );
    let output = perf(&["report", results, "--format", "markdown", "--explain", toml])?.output()?;
    ensure!(text(&output).contains("no writeback cache"), "{output:?}");
    ensure!(
        !Run::load(&file)?
            .explanations
            .contains_key("fio-append/passthrough_ll")
    );
    let output = perf(&["report", results, "--explain", toml, "--save"])?.output()?;
    ensure!(output.status.success());
    let saved = Run::load(&file)?;
    ensure!(saved.explanations["fio-append/passthrough_ll"] == "no writeback cache");
    ensure!(saved.explanations.contains_key("*/bindfs"));
    Ok(())
}

pub fn regression() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (a, b, few) = (path("a.json"), path("b.json"), path("few.json"));
    let before = specimen::run(8);
    before.save(a.as_ref())?;
    specimen::run(3).save(few.as_ref())?;
    let mut after = before.clone();
    after.environment.kernel = "6.19.0".into();
    let row = after
        .rows
        .iter_mut()
        .find(|row| row.workload == "meta-rename" && row.target == "cntr")
        .context("it is there")?;
    for sample in &mut row.samples {
        sample.value *= 0.7;
    }
    after.save(b.as_ref())?;

    let output = perf(&["compare", &a, &b, "--fail-on-regression", "10"])?.output()?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let table = text(&output);
    ensure!(
        table.starts_with("WARNING: these runs cannot be compared"),
        "{table:.200}"
    );
    let line = table
        .lines()
        .find(|line| line.contains("meta-rename") && line.contains(" cntr "))
        .context("its line")?;
    ensure!(line.contains("-30.0 %") && line.contains('!'), "{line}");
    let marked = table.lines().filter(|line| line.contains(" !")).count();
    ensure!(marked == 1, "{marked} lines are marked");

    let output = perf(&["compare", &a, &b, "--fail-on-regression", "40"])?.output()?;
    ensure!(output.status.success(), "{output:?}");
    let output = perf(&["compare", &b, &a, "--fail-on-regression", "0"])?.output()?;
    ensure!(
        output.status.success(),
        "faster is no regression: {output:?}"
    );
    let output = perf(&["compare", &few, &few, "--fail-on-regression", "10"])?.output()?;
    ensure!(
        output.status.code() == Some(2),
        "three rounds cannot tell: {output:?}"
    );

    let output = perf(&["compare", &a, &b, "--json"])?.output()?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        json["differences"][0]["what"] == "kernel" && json["differences"][0]["forbids"] == true
    );
    let changes = json["changes"].as_array().context("changes")?;
    ensure!(
        changes
            .iter()
            .filter(|change| change["significant"] == true)
            .count()
            == 1
    );
    let output = perf(&["compare", &a, &b, "--markdown"])?.output()?;
    ensure!(text(&output).contains("\n## Changes ("), "{output:?}");
    Ok(())
}

pub fn broken_pipe() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("run.json");
    specimen::run(5).save(&file)?;
    let results = file.to_str().context("a path")?;
    for arguments in [
        &["report", results, "--format", "html"][..],
        &["compare", results, results, "--json"],
    ] {
        let mut child = perf(arguments)?
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Both write more than a pipe holds, so they meet its end.
        drop(child.stdout.take());
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    Ok(())
}
