//! The page in a real browser, where there is one.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use perf::job::tool;
use perf::report::write_all;

use crate::specimen;

/// A test.
pub type Test = fn() -> anyhow::Result<()>;

/// Tests that need a browser.
pub const TESTS: [(&str, Test); 2] = [
    ("a_browser_shows_the_page", shows),
    ("a_browser_prints_the_page", prints),
];

/// Why they cannot run.
pub fn missing() -> Option<&'static str> {
    tool::find("chromium")
        .is_none()
        .then_some("chromium is not installed")
}

/// Runs it without a display, without a network and without a trace.
fn chromium(directory: &Path, arguments: &[String]) -> anyhow::Result<(String, String)> {
    let program = tool::find("chromium").context("it was there")?;
    let output = Command::new("timeout")
        .arg("120")
        .arg(program)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
        ])
        .arg(format!(
            "--user-data-dir={}",
            directory.join("profile").display()
        ))
        .args(arguments)
        .env("HOME", directory)
        .output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, err) = (text(output.stdout), text(output.stderr));
    ensure!(
        output.status.success(),
        "chromium: {}: {err}",
        output.status
    );
    Ok((out, err))
}

fn shows() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    write_all(&specimen::run(5), directory.path())?;
    let log = directory.path().join("net.json");
    let page = format!("file://{}/report.html", directory.path().display());
    let (dom, messages) = chromium(
        directory.path(),
        &[
            "--dump-dom".into(),
            format!("--log-net-log={}", log.display()),
            page,
        ],
    )?;
    ensure!(dom.contains("What the FUSE view costs</h1>"), "{dom}");
    ensure!(
        dom.contains("tree-&lt;script&gt;"),
        "the name of a workload is not text"
    );
    ensure!(!dom.contains("<script"), "a script got into the page");
    ensure!(dom.matches("<svg").count() > 50, "charts are missing");
    let console: Vec<&str> = messages
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect();
    ensure!(console.is_empty(), "{console:?}");
    let log = fs::read_to_string(&log).context("chromium wrote no log of its network")?;
    ensure!(log.contains("constants"), "this is no log: {log:.200}");
    // Anything that the page asks for has the page as its initiator.
    let asked = log.matches("\"initiator\":\"file://").count();
    ensure!(asked == 0, "{asked} requests by the page");
    Ok(())
}

fn prints() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    write_all(&specimen::run(5), directory.path())?;
    let pdf = directory.path().join("report.pdf");
    let page = format!("file://{}/report.html", directory.path().display());
    chromium(
        directory.path(),
        &[format!("--print-to-pdf={}", pdf.display()), page],
    )?;
    let bytes = fs::read(&pdf)?;
    ensure!(
        bytes.starts_with(b"%PDF-") && bytes.len() > 50_000,
        "{} bytes",
        bytes.len()
    );
    Ok(())
}
