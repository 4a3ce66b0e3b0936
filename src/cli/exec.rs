//! `cntr exec`: a command of the container's own.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use nix::unistd::Pid;

use super::Global;
use super::attach::{SessionArgs, conclude};
use crate::attach::{self, inside};

/// Run a command of the container's own, without the host's files
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ExecArgs {
    /// A process of the container; not needed inside a session
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub target: Option<i32>,
    /// Command to run [default: sh]
    #[arg(value_name = "COMMAND", last = true)]
    pub command: Vec<OsString>,
    #[command(flatten)]
    pub session: SessionArgs,
}

const EXAMPLES: &str = "\
Examples:
  cntr exec 1234 -- /bin/sh               like docker exec: the container's root, user, environment, directory
  cntr exec -- cat /etc/os-release        inside a session of `cntr attach`: in the container that it belongs to";

/// Runs `cntr exec`.
pub fn run(args: &ExecArgs, _global: &Global) -> anyhow::Result<ExitCode> {
    let wishes = args.session.wishes(&args.command);
    match args.target {
        Some(pid) => conclude(attach::exec(Pid::from_raw(pid), &wishes)),
        None => run_inside(args),
    }
}

/// Runs the command in the container that the session this process is in belongs to.
fn run_inside(args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let Some(session) = inside::Session::find() else {
        bail!(
            "this is no session of `cntr attach`: say which process of the container is meant, as in `cntr exec PID -- COMMAND`"
        );
    };
    let command: Vec<CString> = args
        .command
        .iter()
        .map(|argument| CString::new(argument.clone().into_vec()))
        .collect::<Result<_, _>>()
        .context("an argument contains NUL")?;
    let directory = args
        .session
        .workdir
        .clone()
        .unwrap_or_else(|| PathBuf::from("/"));
    conclude(Err(session.execute(command, &args.session.env, &directory)))
}
