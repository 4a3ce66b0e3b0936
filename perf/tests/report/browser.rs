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
pub const TESTS: [(&str, Test); 3] = [
    ("a_browser_shows_the_page", shows),
    ("a_request_of_a_page_would_be_seen", sees),
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

/// What a browser makes of a page.
struct Seen {
    dom: String,
    console: Vec<String>,
    /// Requests by the page, not by the browser on its own account: a page in a file has no origin.
    requests: usize,
}

fn open(directory: &Path, name: &str) -> anyhow::Result<Seen> {
    let log = directory.join("net.json");
    let (dom, messages) = chromium(
        directory,
        &[
            "--dump-dom".into(),
            format!("--log-net-log={}", log.display()),
            format!("file://{}/{name}", directory.display()),
        ],
    )?;
    let log = fs::read_to_string(&log).context("chromium wrote no log of its network")?;
    let console = messages.lines().filter(|line| line.contains("CONSOLE"));
    Ok(Seen {
        dom,
        console: console.map(str::to_owned).collect(),
        requests: log.matches("\"initiator\":\"null\"").count(),
    })
}

fn shows() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    write_all(&specimen::run(5), directory.path())?;
    let Seen {
        dom,
        console,
        requests,
    } = open(directory.path(), "report.html")?;
    ensure!(dom.contains("What the FUSE view costs</h1>"), "{dom}");
    ensure!(
        dom.contains("tree-&lt;script&gt;"),
        "the name of a workload is not text"
    );
    ensure!(!dom.contains("<script"), "a script got into the page");
    ensure!(dom.matches("<svg").count() > 50, "charts are missing");
    ensure!(console.is_empty(), "{console:?}");
    ensure!(requests == 0, "{requests} requests by the page");
    Ok(())
}

/// That the test above would see what it looks for.
fn sees() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let image = "<img src=\"https://perf.invalid/x.png\"/>";
    fs::write(directory.path().join("open.html"), image)?;
    let seen = open(directory.path(), "open.html")?;
    ensure!(seen.requests > 0, "a request is not seen");

    write_all(&specimen::run(1), directory.path())?;
    let page = fs::read_to_string(directory.path().join("report.html"))?;
    let spoilt = page.replace("<h1>", &format!("{image}<h1>"));
    fs::write(directory.path().join("spoilt.html"), spoilt)?;
    let seen = open(directory.path(), "spoilt.html")?;
    ensure!(
        seen.requests == 0,
        "the page's policy lets requests through"
    );
    ensure!(!seen.console.is_empty(), "a complaint is not seen");
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
