//! Sessions in fake containers of every shape. Needs root and busybox; numbers as in A1 are those of the acceptance list.
#![allow(missing_docs, reason = "a test")]

mod bind;
mod container;
mod engines;
mod fake;
mod files;
mod from;
mod hide;
mod identity;
mod list;
mod names;
mod owner;
#[path = "../support/parameter.rs"]
mod parameter;
mod process;
mod rootless;
mod sandbox;
mod setup;
mod shell;
mod terminal;
mod tools;
mod user;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::sys::signal::Signal;
use parameter::Uring;

/// A test: its name, what it needs, and what it does.
pub struct Case {
    pub name: &'static str,
    pub needs: &'static [&'static str],
    pub run: fn() -> Result<(), Failed>,
}

/// Names a function's tests.
#[macro_export]
macro_rules! cases {
    ($($name:ident $(needs $($tool:literal),+)?;)*) => {
        &[$($crate::Case { name: stringify!($name), needs: &[$($($tool),+)?], run: $name }),*]
    };
}

/// Why no test can run here.
fn unable() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        Some("root is needed to enter containers")
    } else if !std::path::Path::new(fake::BUSYBOX).is_file() {
        Some("/bin/busybox is missing (Debian: apt install busybox-static)")
    } else if !std::path::Path::new("/dev/fuse").exists() {
        Some("/dev/fuse is missing")
    } else {
        None
    }
}

fn run(case: &Case) -> Result<Completion, Failed> {
    if let Some(reason) = unable() {
        return Ok(Completion::ignored_with(reason));
    }
    let missing = |tool: &&&str| !fake::installed(tool);
    if let Some(tool) = case.needs.iter().find(missing) {
        return Ok(Completion::ignored_with(format!("{tool} is not installed")));
    }
    (case.run)()?;
    Ok(fake::skipped().map_or(Completion::Completed, Completion::ignored_with))
}

fn main() {
    let arguments = Arguments::from_args();
    // Who starts the tests in the background of a script has them ignore these; no test of signals could pass.
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        cntr::sys::process::default_signal(signal).expect("a signal that can be caught");
    }
    let groups: &[(&str, &'static [Case])] = &[
        ("bind", bind::CASES),
        ("container", container::CASES),
        ("engines", engines::CASES),
        ("hide", hide::CASES),
        ("identity", identity::CASES),
        ("files", files::CASES),
        ("from", from::CASES),
        ("list", list::CASES),
        ("names", names::CASES),
        ("owner", owner::CASES),
        ("process", process::CASES),
        ("rootless", rootless::CASES),
        ("sandbox", sandbox::CASES),
        ("setup", setup::CASES),
        ("shell", shell::CASES),
        ("terminal", terminal::CASES),
        ("tools", tools::CASES),
        ("user", user::CASES),
    ];
    let mut trials = Vec::new();
    for (group, cases) in groups {
        for case in *cases {
            let name = format!("{group}::{}", case.name);
            trials.push(Trial::ignorable_test(name, || run(case)));
        }
    }
    let uring = Uring::enable();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(uring);
    conclusion.exit();
}
