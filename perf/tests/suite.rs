//! The suite as a user runs it: the program, on the real kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use perf::result::{Run, State};

/// A test and its name.
type Test = (&'static str, fn() -> Result<(), Failed>);

const TESTS: [Test; 7] = [
    ("a_small_run", a_small_run),
    ("an_interrupt_keeps_results", an_interrupt_keeps_results),
    ("failures_are_rows", failures_are_rows),
    ("wrong_input_is_named", wrong_input_is_named),
    ("list_shows_what_is_missing", list_shows_what_is_missing),
    ("report_and_compare", report_and_compare),
    ("the_engine_is_built_in", the_engine_is_built_in),
];

fn main() {
    let arguments = Arguments::from_args();
    let unable = prepare().err();
    let trials = TESTS
        .into_iter()
        .map(|(name, test)| {
            let unable = unable.clone();
            Trial::ignorable_test(name, move || match unable {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => test().map(|()| Completion::Completed),
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// A mount namespace of its own, so that nothing stays mounted if this program is killed.
fn prepare() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    if !Path::new("/dev/fuse").exists() {
        return Err("there is no /dev/fuse".to_owned());
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(None::<&str>, "/", None::<&str>, private, None::<&str>))
        .map_err(|error| format!("cannot make a mount namespace: {error}"))
}

fn suite() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perf"));
    command.stdin(Stdio::null());
    command
}

/// A run of two rounds, as small as possible, whatever else the machine does.
fn small(directory: &Path, arguments: &[&str]) -> Command {
    small_for("0.1", directory, arguments)
}

/// The same with measurements of that many seconds.
fn small_for(seconds: &str, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = suite();
    command
        .args([
            "run",
            "--force",
            "--rounds",
            "2",
            "--seconds",
            seconds,
            "--scale",
            "0.01",
        ])
        .arg("--backing")
        .arg(directory)
        .arg("--out")
        .arg(directory.join("out"))
        .args(arguments);
    command
}

fn result(directory: &Path) -> Result<Run, Failed> {
    Ok(Run::load(&directory.join("out/run.json"))?)
}

/// What must never remain: anything but the results in the directory, and mounts of it.
fn check_nothing_left(directory: &Path) -> Result<(), Failed> {
    let left: Vec<PathBuf> = fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("cntr-perf"))
        })
        .collect();
    if !left.is_empty() {
        return Err(format!("left behind: {left:?}").into());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let name = directory.to_string_lossy();
    match mounts.lines().find(|line| line.contains(name.as_ref())) {
        Some(line) => Err(format!("still mounted: {line}").into()),
        None => Ok(()),
    }
}

fn words(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn a_small_run() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let output = small(
        directory.path(),
        &[
            "--workload",
            "meta-create",
            "--workload",
            "meta-stat",
            "--target",
            "cntr",
        ],
    )
    .output()?;
    if !output.status.success() {
        return Err(words(&output).into());
    }
    let run = result(directory.path())?;
    assert_eq!(run.state, State::Complete);
    assert_eq!(run.rows.len(), 4, "{}", words(&output));
    for row in &run.rows {
        assert_eq!(row.samples.len(), 2, "{row:?}");
        assert!(row.failures.is_empty() && row.skipped.is_none(), "{row:?}");
        for sample in &row.samples {
            assert!(
                sample.value > 0.0 && sample.usage.seconds > 0.0,
                "{sample:?}"
            );
            assert!(
                sample
                    .latency
                    .as_ref()
                    .is_some_and(|latency| latency.count > 0)
            );
            assert_eq!(sample.usage.cpu_server.is_some(), row.target == "cntr");
        }
    }
    // Targets take turns.
    let first = |round: usize| {
        run.rows
            .iter()
            .find(|row| row.samples[round].position == 0)
            .map(|row| row.target.clone())
    };
    assert_ne!(first(0), first(1));
    let engine = run
        .targets
        .iter()
        .find(|target| target.name == "cntr")
        .ok_or("no cntr")?;
    assert!(!engine.checks.is_empty());
    for name in ["report.md", "report.html"] {
        assert!(
            directory.path().join("out").join(name).metadata()?.len() > 500,
            "{name}"
        );
    }
    check_nothing_left(directory.path())
}

/// Waits until a file of results is there.
fn wait_for_rows(child: &mut Child, directory: &Path) -> Result<(), Failed> {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if result(directory).is_ok_and(|run| !run.rows.is_empty()) {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("it ended too early: {status}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("no row within a minute".into())
}

fn an_interrupt_keeps_results() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let mut child = small_for(
        "1",
        directory.path(),
        &[
            "--workload",
            "meta-*",
            "--target",
            "native",
            "--target",
            "cntr",
        ],
    )
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()?;
    wait_for_rows(&mut child, directory.path())?;
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)?;
    let begun = Instant::now();
    let status = child.wait()?;
    assert_eq!(status.code(), Some(130));
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let run = result(directory.path())?;
    assert_eq!(run.state, State::Interrupted);
    assert!(!run.rows.is_empty());
    assert!(directory.path().join("out/report.html").exists());
    check_nothing_left(directory.path())
}

fn failures_are_rows() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let targets = directory.path().join("targets.toml");
    fs::write(
        &targets,
        r#"
[[target]]
name = "broken"
kind = "mount"
about = "does not start"
program = "false"
command = ["{program}", "{source}", "{mountpoint}"]
foreground = true
file_system = "fuse"

[[target]]
name = "absent"
kind = "mount"
about = "is not installed"
program = "no-such-file-server"
command = ["{program}", "{source}", "{mountpoint}"]
foreground = true
file_system = "fuse"
"#,
    )?;
    let targets = targets.to_string_lossy().into_owned();
    let output = small(
        directory.path(),
        &[
            "--targets",
            &targets,
            "--workload",
            "meta-create",
            "--target",
            "native",
            "--target",
            "broken",
            "--target",
            "absent",
        ],
    )
    .output()?;
    if !output.status.success() {
        return Err(words(&output).into());
    }
    let run = result(directory.path())?;
    assert_eq!(run.rows.len(), 3);
    assert_eq!(
        run.row("meta-create", "native")
            .map(|row| row.samples.len()),
        Some(2)
    );
    for name in ["broken", "absent"] {
        let row = run.row("meta-create", name).ok_or("no row")?;
        assert!(row.skipped.is_some(), "{row:?}");
    }
    check_nothing_left(directory.path())
}

fn wrong_input_is_named() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let cases: [(&[&str], &str); 5] = [
        (&["--workload", "no-such-work"], "no-such-work"),
        (&["--target", "no-such-target"], "no-such-target"),
        (&["--targets", "/no/such/file.toml"], "/no/such/file.toml"),
        (&["--scale", "0"], "above 0"),
        (&["--explain", "/no/such/notes.toml"], "/no/such/notes.toml"),
    ];
    for (arguments, word) in cases {
        let mut command = suite();
        let output = command
            .arg("run")
            .args(arguments)
            .current_dir(directory.path())
            .output()?;
        assert!(!output.status.success());
        let text = words(&output);
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
    let output = suite()
        .args(["run", "--backing", "/no/such/directory"])
        .output()?;
    assert!(
        words(&output).contains("/no/such/directory"),
        "{}",
        words(&output)
    );
    let mistyped = directory.path().join("mistyped");
    for arguments in [["load", "stat"].as_slice(), &["null"]] {
        let output = suite().args(arguments).arg(&mistyped).output()?;
        let text = words(&output);
        assert!(
            !output.status.success() && text.contains("mistyped"),
            "{text}"
        );
    }
    // Nothing was made.
    assert_eq!(fs::read_dir(directory.path())?.count(), 0);
    Ok(())
}

fn list_shows_what_is_missing() -> Result<(), Failed> {
    let output = suite()
        .args(["list", "--json"])
        .env("PATH", "/nowhere")
        .output()?;
    let listing: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let workloads = listing["workloads"].as_array().ok_or("no workloads")?;
    let targets = listing["targets"].as_array().ok_or("no targets")?;
    let named = |list: &[serde_json::Value], name: &str| {
        list.iter().find(|one| one["name"] == name).cloned()
    };
    let fio = workloads
        .iter()
        .find(|one| {
            one["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("fio-"))
        })
        .ok_or("no fio")?;
    let missing = fio["missing"].as_str().unwrap_or_default();
    assert!(missing.starts_with("fio"), "{missing}");
    assert_eq!(
        named(workloads, "meta-create").ok_or("no create")?["missing"],
        serde_json::Value::Null
    );
    assert!(named(targets, "bindfs").ok_or("no bindfs")?["unavailable"].is_string());
    let mut names: Vec<&str> = workloads
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "names are unique");
    let output = suite().arg("list").output()?;
    assert!(words(&output).contains("meta-create"));
    Ok(())
}

fn report_and_compare() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let output = small(
        directory.path(),
        &["--workload", "meta-stat", "--target", "native"],
    )
    .output()?;
    assert!(output.status.success(), "{}", words(&output));
    let file = directory.path().join("out/run.json");
    for format in ["table", "markdown", "html", "json"] {
        let output = suite()
            .arg("report")
            .arg(&file)
            .args(["--format", format])
            .output()?;
        assert!(
            output.status.success() && words(&output).contains("meta-stat"),
            "{format}"
        );
    }
    let output = suite().arg("compare").arg(&file).arg(&file).output()?;
    assert!(
        output.status.success() && words(&output).contains("meta-stat"),
        "{}",
        words(&output)
    );
    fs::write(&file, "{\"schema\": \"cntr-perf\", \"version\": 99}")?;
    let output = suite().arg("report").arg(&file).output()?;
    assert!(
        !output.status.success() && words(&output).contains("version 99"),
        "{}",
        words(&output)
    );
    Ok(())
}

fn the_engine_is_built_in() -> Result<(), Failed> {
    let output = suite().args(["cntr", "--version"]).output()?;
    assert!(words(&output).contains("cntr "), "{}", words(&output));
    Ok(())
}
