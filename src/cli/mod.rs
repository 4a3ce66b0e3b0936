//! The command line: what was typed becomes a validated configuration, one file per subcommand.

mod attach;
mod completions;
mod demo;
mod doctor;
mod dry_run;
mod env_file;
mod exec;
mod ls;
mod man;
mod mount;
mod mount_helper;
mod mount_options;
mod mounter;
mod names;
mod run;
mod shorthand;
mod stat;

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

use crate::attach::privileges::{self, Use};
use crate::engine::mount::MountError;

/// Exit code of a failure of cntr itself, as docker's.
pub const FAILED: u8 = 125;

/// Options every subcommand takes.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Global {
    /// Say what is done and what is not; twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Attach to a running container with your own tools
///
/// `cntr attach NAME` opens a shell inside the container NAME, and brings the host's file system along: your
/// editor, debugger and shell work there although the container has none of them. The container's own files are at
/// /var/lib/cntr.
#[derive(Parser)]
#[command(name = "cntr", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cntr demo                            see it work, without any container engine
  cntr ls                              what there is to attach to
  cntr attach 1234                     a shell in the container of process 1234
  cntr attach 1234 -- gdb -p 1         one command there
  cntr exec 1234 -- /bin/sh            a command of the container's own, as docker exec
  cntr mount / /mnt -o ro              the file system engine alone
  cntr doctor                          what this machine can do

Exit codes: that of the command; 125 cntr itself failed, 126 the command cannot be executed,
127 it is not found, 128+n it was ended by signal n.";

#[derive(Subcommand)]
enum Command {
    Attach(attach::AttachArgs),
    Exec(exec::ExecArgs),
    Ls(ls::LsArgs),
    Run(run::RunArgs),
    Mount(mount::MountArgs),
    Stat(stat::StatArgs),
    Doctor(doctor::DoctorArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(name = "__names", hide = true)]
    Names(names::NamesArgs),
}

/// Runs the command the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    main_with(&[], &std::env::args_os().collect::<Vec<_>>())
}

/// Puts file capabilities out of force.
fn lay_down(later: Use) -> anyhow::Result<()> {
    privileges::lay_down(later).context("cannot give up file capabilities")
}

/// What ps(1) calls the processes of this program that it has started itself.
const NAME: &CStr = c"cntr";

/// Words between the name of a program that has cntr built in and cntr's own arguments.
static BUILT_INTO: OnceLock<Vec<OsString>> = OnceLock::new();

/// Runs a command line, the name of the program first: for programs that have cntr built in. Started with `prefix` as
/// their first arguments, they run cntr with the rest.
#[must_use]
pub fn main_with(prefix: &[OsString], arguments: &[OsString]) -> ExitCode {
    let _ = BUILT_INTO.set(prefix.to_vec());
    if arguments.first().is_some_and(is_mount_helper) {
        return finish(lay_down(Use::Never).and_then(|()| mount_helper::main(arguments)));
    }
    // Until it is known what for, and for good in most subcommands.
    if let Err(error) = lay_down(Use::Later) {
        return finish(Err(error));
    }
    // A program that cntr is built into has a command line of its own.
    if prefix.is_empty() {
        match completions::answer(arguments) {
            Ok(false) => {}
            Ok(true) => return ExitCode::SUCCESS,
            Err(error) => {
                let _ = error.print();
                return ExitCode::from(FAILED);
            }
        }
    }
    let arguments = shorthand::expand(arguments, command);
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(FAILED)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    log_to_stderr(cli.global.verbose);
    // One that was started by way of /proc is called `exe` otherwise.
    let _ = nix::sys::prctl::set_name(NAME);
    let later = match cli.command {
        Command::Attach(_) | Command::Exec(_) | Command::Doctor(_) => Use::Later,
        _ => Use::Never,
    };
    if let Err(error) = lay_down(later) {
        return finish(Err(error));
    }
    let global = &cli.global;
    if matches!(
        cli.command,
        Command::Ls(_) | Command::Stat(_) | Command::Doctor(_)
    ) {
        // Their output may be cut short, as by head(1).
        let _ = crate::sys::process::default_signal(nix::sys::signal::Signal::SIGPIPE);
    }
    finish(match &cli.command {
        Command::Attach(args) => attach::run(args, global),
        Command::Exec(args) => exec::run(args, global),
        Command::Ls(args) => ls::run(args, global),
        Command::Run(args) => run::run(args, global),
        Command::Mount(args) => mount::run(args, global),
        Command::Stat(args) => stat::run(args, global),
        Command::Doctor(args) => doctor::run(args, global),
        Command::Demo(args) => demo::run(args, global),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Names(args) => names::run(args),
    })
}

/// This program, even if its file has been replaced meanwhile.
fn own_program() -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0(OsStr::from_bytes(NAME.to_bytes()));
    command.args(BUILT_INTO.get().into_iter().flatten());
    command
}

/// Whether the program was called as mount(8) calls its helpers: `mount.fuse.cntr` or `mount.cntr`.
fn is_mount_helper(name: &OsString) -> bool {
    let name = Path::new(name).file_name().unwrap_or_default();
    name == "mount.fuse.cntr" || name == "mount.cntr"
}

fn log_to_stderr(verbose: u8) {
    use tracing_subscriber::filter::{EnvFilter, LevelFilter};
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("CNTR_LOG")
        .from_env_lossy();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .try_init();
}

/// Prints a failure with its causes and, where there is one, a hint; turns the outcome into an exit code.
fn finish(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cntr: {error:#}");
            if let Some(hint) = hint(&error) {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(FAILED)
        }
    }
}

fn hint(error: &anyhow::Error) -> Option<&'static str> {
    let remedy = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<MountError>()?.remedy());
    if remedy.is_some() {
        return remedy;
    }
    let errno = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    match errno {
        Some(libc::EPERM | libc::EACCES) if !nix::unistd::geteuid().is_root() => {
            Some("this needs root: try again with sudo; `cntr doctor` says what is missing")
        }
        Some(libc::EPERM | libc::ENODEV | libc::ENOSYS) => {
            Some("`cntr doctor` says what this machine lacks")
        }
        _ => None,
    }
}

/// The whole command line, for completions, the manual page and tests.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn mount_helpers_are_recognised_by_name() {
        assert!(is_mount_helper(&OsString::from("/sbin/mount.fuse.cntr")));
        assert!(is_mount_helper(&OsString::from("mount.cntr")));
        assert!(!is_mount_helper(&OsString::from("/usr/bin/cntr")));
    }
}
