//! Sessions in fake containers of every shape. Needs root and busybox; numbers as in A1 are those of the acceptance list.
#![allow(missing_docs, reason = "a test")]

mod container;
mod fake;
mod files;
mod identity;
mod process;
mod setup;
mod terminal;

use libtest_mimic::{Arguments, Failed, Trial};

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

fn main() {
    let arguments = Arguments::from_args();
    let ready = if !nix::unistd::geteuid().is_root() {
        Err("root is needed to enter containers")
    } else if !std::path::Path::new(fake::BUSYBOX).is_file() {
        Err("/bin/busybox is missing (Debian: apt install busybox-static)")
    } else if !std::path::Path::new("/dev/fuse").exists() {
        Err("/dev/fuse is missing")
    } else {
        Ok(())
    };
    if let Err(reason) = ready {
        eprintln!("skipped: {reason}");
    }
    let groups: &[(&str, &[Case])] = &[
        ("container", container::CASES),
        ("identity", identity::CASES),
        ("files", files::CASES),
        ("process", process::CASES),
        ("setup", setup::CASES),
        ("terminal", terminal::CASES),
    ];
    let mut trials = Vec::new();
    for (group, cases) in groups {
        for case in *cases {
            let missing: Vec<_> = case
                .needs
                .iter()
                .filter(|tool| !fake::installed(tool))
                .collect();
            if !missing.is_empty() {
                eprintln!("skipped: {group}::{} needs {missing:?}", case.name);
            }
            let run = case.run;
            let trial = Trial::test(format!("{group}::{}", case.name), run);
            trials.push(trial.with_ignored_flag(ready.is_err() || !missing.is_empty()));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}
