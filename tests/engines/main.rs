//! cntr with real containers: of every engine that runs here, and made by hand. Needs root and busybox; an engine that is not
//! there, or does not run, is said and counts as skipped. Numbers as A1 are those of the acceptance list.
//!
//! With `CNTR_TEST_TABLE=1` a table of the results follows.
#![allow(missing_docs, reason = "a test")]

mod bubblewrap;
mod by_hand;
mod checks;
mod command;
mod container;
mod containerd;
mod docker;
mod guardian;
mod interruption;
mod kind;
mod lxc;
mod lxd;
mod nspawn;
mod oci;
mod own;
#[path = "../support/parameter.rs"]
mod parameter;
mod podman;
mod table;
mod terminal;
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::sys::signal::Signal;

use checks::{CHECKS, Check};
use command::Skip;
use guardian::Role;
use kind::{KINDS, Sample};
use table::Table;

/// Why no test can run here.
fn unable() -> Option<String> {
    let reason = if !nix::unistd::geteuid().is_root() {
        "root is needed to enter containers"
    } else if !Path::new(world::BUSYBOX).is_file() {
        "/bin/busybox is missing (Debian: apt install busybox-static)"
    } else if !Path::new("/dev/fuse").exists() {
        "/dev/fuse is missing"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// What a result means for the test.
fn completion(result: &anyhow::Result<()>) -> Result<Completion, Failed> {
    match result {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(Skip(reason)) => Ok(Completion::ignored_with(reason)),
            None => Err(Failed::from(format!("{error:#}"))),
        },
    }
}

fn run(check: &Check, sample: &Sample, table: &Table) -> Result<Completion, Failed> {
    let result = (check.run)(sample);
    table.add(sample.kind, check.point, &result);
    completion(&result)
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Who starts the tests in the background of a script has them ignore these; no test of signals could pass.
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        cntr::sys::process::default_signal(signal).expect("a signal that can be caught");
    }
    // Most of the time engines are waited for.
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    arguments.test_threads.get_or_insert(2 * cpus);
    let mut unable = unable();
    if unable.is_none() && !arguments.list {
        match guardian::divide() {
            Role::Done(code) => return code,
            Role::Work(run) => {
                nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
                if let Err(error) = world::enter(&run) {
                    unable = Some(format!("{error:#}"));
                }
            }
        }
    }
    if let (Ok(kinds), None) = (std::env::var(interruption::HOLD), &unable) {
        interruption::hold(&kinds);
    }
    let table = Arc::new(Table::default());
    let samples: Vec<Arc<Sample>> = KINDS
        .iter()
        .map(|kind| Arc::new(Sample::new(kind)))
        .collect();
    let mut trials = Vec::new();
    // Check by check: neighbours have different containers, so that they need not wait for each other.
    for check in CHECKS {
        for sample in &samples {
            let name = format!("{}::{}_{}", sample.kind.title(), check.point, check.name);
            let (sample, table) = (Arc::clone(sample), Arc::clone(&table));
            let unable = unable.clone();
            trials.push(Trial::ignorable_test(name, move || match unable {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => run(check, &sample, &table),
            }));
        }
    }
    for (name, victim, kinds) in interruption::CASES {
        let name = format!("interruption::{name}");
        let unable = unable.clone();
        trials.push(Trial::ignorable_test(name, move || match unable {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => completion(&interruption::interrupted(*victim, kinds)),
        }));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if std::env::var_os("CNTR_TEST_TABLE").is_some() {
        print!("{table}");
    }
    conclusion.exit_code()
}
