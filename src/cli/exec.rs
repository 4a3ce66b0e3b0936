//! `cntr exec`: a command of the container's own.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap_complete::engine::ArgValueCompleter;

use super::attach::{SessionArgs, conclude};
use super::{Global, names};
use crate::attach::{self, Wishes, inside};
use crate::resolve::Reference;

/// Run a command of the container's own, without the host's files
#[derive(clap::Args, Debug)]
#[command(
    after_help = EXAMPLES,
    override_usage = "cntr exec [OPTIONS] CONTAINER [--] [COMMAND]...\n       cntr exec [OPTIONS] -- [COMMAND]..."
)]
pub struct ExecArgs {
    /// The container: its name or id, the number of a process of it, or SCHEME://NAME; not needed inside a session
    // What follows `--` is the command, whether a target came before it or not.
    #[arg(value_name = "CONTAINER", value_terminator = "--", add = ArgValueCompleter::new(names::complete))]
    pub target: Option<Reference>,
    /// Command to run [default: sh]
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
    #[command(flatten)]
    pub session: SessionArgs,
}

const EXAMPLES: &str = "\
Examples:
  cntr exec -it web /bin/sh               like docker exec: the container's root, user, environment, directory
  cntr exec -- cat /etc/os-release        inside a session of `cntr attach`: in the container that it belongs to";

/// Runs `cntr exec`.
pub fn run(args: &ExecArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let wishes = args.session.wishes(&args.command, global)?;
    match &args.target {
        Some(target) => {
            let process = args.session.find(target).map_err(|error| {
                if inside::Session::find().is_some() {
                    error.context("inside a session the command follows `--`")
                } else {
                    error
                }
            })?;
            conclude(attach::exec(process, &wishes))
        }
        None => run_inside(args, &wishes),
    }
}

/// Runs the command in the container that the session this process is in belongs to.
fn run_inside(args: &ExecArgs, wishes: &Wishes) -> anyhow::Result<ExitCode> {
    if wishes.dry_run.is_some() {
        bail!("--dry-run needs a container: inside a session nothing is joined");
    }
    let Some(session) = inside::Session::find() else {
        bail!(
            "this is no session of `cntr attach`: say which container is meant, as in `cntr exec NAME -- COMMAND`"
        );
    };
    if args.session.user.is_some() {
        bail!("inside a session a command has the session's user: give --user to `cntr attach`");
    }
    let command: Vec<CString> = args
        .command
        .iter()
        .map(|argument| CString::new(argument.as_bytes()))
        .collect::<Result<_, _>>()
        .context("an argument contains NUL")?;
    let directory = args
        .session
        .workdir
        .clone()
        .unwrap_or_else(|| PathBuf::from("/"));
    conclude(Err(session.execute(command, &wishes.settings, &directory)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Exec {
        #[command(flatten)]
        args: ExecArgs,
    }

    #[test]
    fn the_command_needs_no_dashes_after_a_target() {
        let parse = |line: &str| {
            let words = std::iter::once("exec").chain(line.split_whitespace());
            let args = Exec::try_parse_from(words).unwrap().args;
            let command: Vec<_> = args
                .command
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect();
            (
                args.target
                    .and_then(|target| target.name.parse::<i32>().ok()),
                args.session.env.len(),
                command.join(" "),
            )
        };
        for (line, expected) in [
            ("7", (Some(7), 0, "")),
            ("7 sh", (Some(7), 0, "sh")),
            ("-e A=b 7 sh -c x -e y", (Some(7), 1, "sh -c x -e y")),
            ("7 -- sh -c x", (Some(7), 0, "sh -c x")),
            ("7 git log -- file", (Some(7), 0, "git log -- file")),
            ("-- git log -- file", (None, 0, "git log -- file")),
            ("-- 7", (None, 0, "7")),
            ("-e A=b -- sh -c x", (None, 1, "sh -c x")),
            ("-e A=b 7 -- -x --", (Some(7), 1, "-x --")),
            ("7 -e A=b -- sh -e C=d", (Some(7), 1, "sh -e C=d")),
            ("7 --", (Some(7), 0, "")),
            ("", (None, 0, "")),
        ] {
            let (target, settings, command) = parse(line);
            assert_eq!((target, settings, command.as_str()), expected, "{line}");
        }
        assert!(Exec::try_parse_from(["exec", "no-scheme://sh"]).is_err());
    }
}
