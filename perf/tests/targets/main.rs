//! Targets for real: they come up, are what they claim, go down and leave nothing behind, however their server behaves.
//!
//! The minimal server is the program that runs as `PROGRAM minimal ...`: here, that is this test.

mod broken;
mod claims;
mod minimal;
#[path = "../../../tests/support/parameter.rs"]
mod parameter;
mod session;
mod stage;
mod working;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use perf::result::TargetKind;

use stage::*;

fn trial(
    name: impl Into<String>,
    unable: &Option<String>,
    body: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    let unable = unable.clone();
    Trial::ignorable_test(name, move || {
        if let Some(reason) = unable {
            return Ok(Completion::ignored_with(reason));
        }
        match body() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(Skip(reason)) => Ok(Completion::ignored_with(reason)),
                None => Err(Failed::from(format!("{error:#}"))),
            },
        }
    })
}

/// A mount namespace of its own, so that nothing stays mounted if this program is killed.
fn prepare() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    if !Path::new("/dev/fuse").exists() {
        return Err("there is no /dev/fuse".to_owned());
    }
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| {
            nix::mount::mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)
        })
        .map_err(|error| format!("cannot make a mount namespace: {error}"))
}

/// The command of `perf` that a target starts.
#[derive(clap::Parser)]
enum Cli {
    Minimal(perf::minimal::MinimalArgs),
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("minimal") {
        let Cli::Minimal(arguments) = clap::Parser::parse();
        return perf::minimal::run(&arguments).unwrap_or_else(|error| {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        });
    }
    let arguments = Arguments::from_args();
    let unable = prepare().err();
    let _uring = parameter::Uring::enable();
    let mut trials = Vec::new();
    for target in catalogue().targets() {
        let name = target.name().to_owned();
        let title = format!("target::{name}");
        let kind = target.kind();
        trials.push(trial(title, &unable, move || match kind {
            TargetKind::Session => session::enters(&name),
            _ => working::mounts(&name),
        }));
    }
    type Body = fn() -> Result<()>;
    let further: [(&str, Body); 18] = [
        ("several_instances", working::several_instances),
        ("dropped", working::dropped),
        (
            "shares_the_view_of_connections",
            working::shares_the_view_of_connections,
        ),
        (
            "goes_into_the_background",
            working::goes_into_the_background,
        ),
        ("fails_at_start", broken::fails_at_start),
        ("never_mounts", broken::never_mounts),
        ("never_answers", broken::never_answers),
        ("dies_meanwhile", broken::dies_meanwhile),
        ("stops_answering", broken::stops_answering),
        ("in_use", broken::in_use),
        ("claims_to_be_fuse", claims::claims_to_be_fuse),
        ("native_on_fuse", claims::native_on_fuse),
        ("another_directory", claims::another_directory),
        ("ignores_fsync", claims::ignores_fsync),
        ("delays_writes", claims::delays_writes),
        ("each_operation_of_the_minimal", minimal::over_uring),
        ("each_operation_of_the_minimal_classic", minimal::classic),
        (
            "each_operation_of_the_minimal_with_passthrough",
            minimal::with_passthrough,
        ),
    ];
    trials.extend(further.map(|(name, body)| trial(name, &unable, body)));
    libtest_mimic::run(&arguments, trials).exit_code()
}
