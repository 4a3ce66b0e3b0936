//! Every operation once, natively.

use std::fs;
use std::path::Path;

use clap::ValueEnum;
use libtest_mimic::{Failed, Trial};
use perf::load::{Engine, LoadError, Operation, Outcome, measure, null};

use super::{arguments, is_root};

type Test = fn() -> Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Operation::value_variants()
        .iter()
        .map(|operation| {
            let root_only = *operation == Operation::Lookup;
            if root_only && !is_root() {
                eprintln!("skipped: lookup, which only root can measure");
            }
            Trial::test(format!("operation_{operation}"), move || once(*operation))
                .with_ignored_flag(root_only && !is_root())
        })
        .collect();
    let tests: [(&str, Test); 10] = [
        ("operations_are_counted", operations_are_counted),
        ("batches_are_refilled", batches_are_refilled),
        ("an_open_loop_has_its_rate", an_open_loop_has_its_rate),
        ("too_high_a_rate_is_said", too_high_a_rate_is_said),
        ("engines_move_the_same_data", engines_move_the_same_data),
        ("what_is_there_is_left_alone", what_is_there_is_left_alone),
        ("renames_are_undone", renames_are_undone),
        ("the_first_error_ends_it", the_first_error_ends_it),
        ("arguments_that_do_not_fit", arguments_that_do_not_fit),
        ("an_outcome_is_json", an_outcome_is_json),
    ];
    trials.extend(
        tests
            .into_iter()
            .map(|(name, test)| Trial::test(name, test)),
    );
    if !is_root() {
        eprintln!("skipped: the null server, which only root can mount");
    }
    trials.push(
        Trial::test(
            "each_fstat_asks_the_null_server",
            each_fstat_asks_the_null_server,
        )
        .with_ignored_flag(!is_root()),
    );
    trials
}

fn run(dir: &Path, words: &[&str]) -> Result<Outcome, LoadError> {
    let mut words = words.to_vec();
    words.push(dir.to_str().expect("a path of ASCII"));
    measure(&arguments(&words))
}

/// All files and directories below `dir`.
fn count(dir: &Path) -> usize {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| match entry.unwrap().path() {
            path if path.is_dir() && !path.is_symlink() => 1 + count(&path),
            _ => 1,
        })
        .sum()
}

fn once(operation: Operation) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let name = operation.name();
    let outcome = run(
        dir.path(),
        &[&name, "--clients", "2", "--seconds", "0.05", "--size", "1M"],
    )?;
    assert_eq!(outcome.errors, 0);
    assert!(outcome.operations > 0, "{outcome:?}");
    assert!(outcome.seconds > 0.0 && outcome.rate > 0.0);
    let latency = outcome.latency.as_ref().expect("latencies");
    assert!(latency.p50 > 0 && latency.p50 <= latency.p999 && latency.p999 <= latency.max);
    let counted = latency.decode().expect("a histogram").len();
    assert_eq!(counted, latency.count);
    match operation {
        Operation::Readdir => assert_eq!(outcome.operations, counted * 1000),
        _ => assert_eq!(outcome.operations, counted),
    }
    if operation.is_data() || operation == Operation::ReadSmall {
        assert_eq!(outcome.bytes, outcome.operations * 4096);
    }
    assert_eq!(count(dir.path()), 0, "nothing is left");
    assert!(outcome.table().to_string().contains(&name));
    Ok(())
}

fn operations_are_counted() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    for operation in ["open", "unlink", "create", "write-random"] {
        let words = [
            operation,
            "-n",
            "101",
            "-c",
            "3",
            "-f",
            "10",
            "--size",
            "64K",
            "--warm-up",
            "0.01",
        ];
        let outcome = run(dir.path(), &words)?;
        assert_eq!(outcome.operations, 101, "{operation}");
        assert_eq!(outcome.latency.expect("latencies").count, 101);
    }
    Ok(())
}

fn batches_are_refilled() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    for operation in ["unlink", "mkdir", "rmdir", "create", "symlink", "link"] {
        let outcome = run(dir.path(), &[operation, "-n", "23", "-f", "5"])?;
        assert_eq!(outcome.operations, 23, "{operation}");
        let outcome = run(dir.path(), &[operation, "-s", "0.02", "-f", "5", "-c", "2"])?;
        assert!(outcome.seconds >= 0.02 && outcome.usage.seconds >= 0.02);
    }
    let words = [
        "create",
        "-n",
        "5",
        "-f",
        "3",
        "--per-directory",
        "2",
        "--keep",
    ];
    run(dir.path(), &words)?;
    let client = dir.path().join("client-0");
    assert!(client.join("d00000/f0000000").exists() && client.join("d00000/f0000001").exists());
    assert!(
        !client.join("d00001/f0000002").exists(),
        "the second batch had two"
    );
    Ok(())
}

fn an_open_loop_has_its_rate() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    for arrivals in ["even", "poisson"] {
        let words = [
            "stat",
            "--rate",
            "1000",
            "-c",
            "2",
            "-n",
            "100",
            "--arrivals",
            arrivals,
        ];
        let outcome = run(dir.path(), &words)?;
        let kept = outcome.schedule.expect("an open loop");
        assert_eq!((outcome.operations, kept.unstarted), (100, 0));
        // It cannot be faster than its schedule; how slow it is depends on the machine.
        assert!(outcome.seconds > 0.05, "{}", outcome.seconds);
    }
    Ok(())
}

fn too_high_a_rate_is_said() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let outcome = run(dir.path(), &["open", "--rate", "1e9", "-s", "0.05"])?;
    let kept = outcome.schedule.expect("an open loop");
    assert!(
        kept.fell_behind && kept.unstarted > 1_000_000 && kept.late > 0,
        "{kept:?}"
    );
    assert!(outcome.table().to_string().contains("FELL BEHIND"));
    Ok(())
}

fn engines_move_the_same_data() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    for (operation, fsync) in [("read-sequential", false), ("write-random", true)] {
        for engine in ["io-uring", "threads"] {
            let mut words = vec![operation, "-n", "64", "--block", "8K", "--size", "256K"];
            words.extend(["--depth", "4", "--engine", engine]);
            if fsync {
                words.extend(["--fsync", "8"]);
            }
            let outcome = match run(dir.path(), &words) {
                Err(error @ LoadError::Ring(_)) => {
                    eprintln!("skipped: {error}");
                    continue;
                }
                other => other?,
            };
            assert_eq!((outcome.operations, outcome.bytes), (64, 64 * 8192));
            let expected = match engine {
                "threads" => Engine::Threads,
                _ => Engine::IoUring,
            };
            assert_eq!(outcome.engine, expected);
            words.push("--direct");
            match run(dir.path(), &words) {
                Err(LoadError::Prepare { source, .. }) if source.raw_os_error() == Some(22) => {
                    eprintln!("skipped: this file system has no O_DIRECT");
                }
                other => assert_eq!(other?.bytes, 64 * 8192),
            }
        }
    }
    Ok(())
}

fn what_is_there_is_left_alone() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    run(dir.path(), &["read-small", "-n", "1", "-f", "20", "--keep"])?;
    assert_eq!(count(dir.path()), 21);
    run(
        dir.path(),
        &["read-small", "-n", "50", "-f", "20", "--existing"],
    )?;
    assert_eq!(count(dir.path()), 21);
    let error = run(
        dir.path(),
        &["read-small", "-n", "50", "-f", "21", "--existing"],
    )
    .unwrap_err();
    assert!(matches!(error, LoadError::Operation { .. }), "{error:?}");
    let error = run(dir.path(), &["read-random", "-n", "1", "--existing"]).unwrap_err();
    assert!(matches!(error, LoadError::Prepare { .. }), "{error:?}");
    Ok(())
}

fn renames_are_undone() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    for operations in ["7", "10", "13"] {
        run(
            dir.path(),
            &["rename", "-n", operations, "-f", "10", "--keep"],
        )?;
        let client = dir.path().join("client-0");
        for number in 0..10 {
            assert!(
                client.join(format!("f{number:07}")).exists(),
                "{operations} {number}"
            );
        }
        assert_eq!(count(&client), 10);
    }
    Ok(())
}

fn the_first_error_ends_it() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("client-0"))?;
    fs::create_dir(dir.path().join("client-1"))?;
    let error = run(dir.path(), &["open", "-c", "2", "--existing"]).unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(
        text.contains("open of ") && text.contains("os error 2"),
        "{text}"
    );
    // Either client may be the first.
    let path = |client| dir.path().join(format!("client-{client}/f0000000"));
    assert!(
        [0, 1]
            .iter()
            .any(|client| text.contains(&path(client).display().to_string())),
        "{text}"
    );
    Ok(())
}

fn arguments_that_do_not_fit() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    for words in [
        &["read-random", "--rate", "5"][..],
        &["stat", "--fsync", "5"],
        &["stat", "--no-drop"],
        &["create", "--existing"],
        &["readdir", "--per-directory", "5"],
        &["lookup", "--no-drop", "--warm-up", "1"],
        &["read-random", "--size", "1K"],
        &["read-random", "--direct", "--block", "1000"],
    ] {
        let error = run(dir.path(), words).unwrap_err();
        assert!(matches!(error, LoadError::Arguments(_)), "{error:?}");
    }
    assert_eq!(count(dir.path()), 0);
    Ok(())
}

fn an_outcome_is_json() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let outcome = run(dir.path(), &["stat", "-n", "10"])?;
    let text = serde_json::to_string(&outcome)?;
    for field in [
        "\"operation\":\"stat\"",
        "\"engine\":\"threads\"",
        "\"histogram\":\"",
    ] {
        assert!(text.contains(field), "{text}");
    }
    let again: Outcome = serde_json::from_str(&text)?;
    assert_eq!(again.latency, outcome.latency);
    Ok(())
}

fn each_fstat_asks_the_null_server() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let server = null::start(dir.path(), None).map_err(|error| format!("{error:#}"))?;
    let words = ["fstat", "-n", "500", "-c", "2", "-f", "1", "--existing"];
    let outcome = run(dir.path(), &words)?;
    assert_eq!(outcome.operations, 500);
    let monitor = server.monitor().expect("it runs");
    let asked = monitor
        .operations()
        .into_iter()
        .find(|statistics| statistics.operation == "GETATTR")
        .map_or(0, |statistics| statistics.measured.requests);
    assert!(asked >= 500, "{asked}");
    drop(server);
    assert_eq!(count(dir.path()), 0, "it is unmounted");
    Ok(())
}
