//! `cntr attach`: the host's tools in a container.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueHint;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap_complete::engine::ArgValueCompleter;

use super::env_file::{self, EnvFileError};
use super::mount_options::cache;
use super::{Global, dry_run, names};
use crate::attach::bind::BindSpec;
use crate::attach::environment::Setting;
use crate::attach::handshake::{DEADLINE, Failure};
use crate::attach::label::LabelWish;
use crate::attach::passwd::UserSpec;
use crate::attach::preview::Show;
use crate::attach::source::Source;
use crate::attach::step::{Fault, Step};
use crate::attach::supervise::Exit;
use crate::attach::view::Access;
use crate::attach::{self, TerminalWish, Wishes, hide, pty};
use crate::fs::CachePolicy;
use crate::resolve::{self, Engine, Reference};
use crate::sys::pinned::Pinned;

/// Open a shell, or run a command of the host, inside a container
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct AttachArgs {
    /// The container: its name or id, the number of a process of it, or SCHEME://NAME as in docker://web
    #[arg(value_name = "CONTAINER", add = ArgValueCompleter::new(names::complete))]
    pub target: Reference,
    /// Command to run [default: $SHELL -l]
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
    #[command(flatten)]
    pub session: SessionArgs,
    /// Whether the session may change the host's files [default: rw, but ro if the container has a user namespace]
    #[arg(long, value_name = "rw|ro", value_parser = parse_access)]
    pub host: Option<Access>,
    /// How the host's files are cached: strict (not at all), coherent (until they change) or for that many seconds
    /// [default: coherent]
    #[arg(long, value_name = "strict|coherent|ttl=SECONDS", value_parser = parse_cache)]
    pub cache: Option<CachePolicy>,
    /// Have the files of another container or of a directory, instead of the host's
    #[arg(long, value_name = "CONTAINER|DIR", value_hint = ValueHint::DirPath, add = ArgValueCompleter::new(names::complete_with_directories))]
    pub from: Option<From>,
    /// Have a path of the host natively: a socket, a FIFO, a device, a directory at full speed; can be given several times
    #[arg(long, value_name = "PATH[:DEST][:ro]", value_parser = OsStringValueParser::new().try_map(BindSpec::parse))]
    pub bind: Vec<BindSpec>,
    /// Have a path not be there, whichever way it is come at; can be given several times
    #[arg(long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(hide::parse))]
    pub hide: Vec<PathBuf>,
    /// Give files that the session makes on the host to this user of the host; HOME is its home
    #[arg(long, value_name = "USER[:GROUP]")]
    pub effective_user: Option<UserSpec>,
}

/// What `attach` and `exec` have in common.
#[derive(clap::Args, Debug)]
pub struct SessionArgs {
    /// Where to look for the container [default: everywhere]; `-t TYPE` for short
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<Engine>,
    /// Keep standard input open, as it always is; with -t it has to be a terminal
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal [default: if standard input and output are terminals]; before a TYPE: see --type
    #[arg(short, long)]
    pub tty: bool,
    /// Set a variable, or pass on the caller's value of it; can be given several times
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<Setting>,
    /// Set the variables in a file: lines NAME=VALUE, or NAME for the caller's value; --env comes after it
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Be this user of the container [default: as its process]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<UserSpec>,
    /// Directory to start in [default: that of the container's process]
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Print what would be done and do nothing: what is joined, mounted and taken over, and why
    #[arg(long)]
    pub dry_run: bool,
    /// AppArmor profile of the command, or `off` for cntr's own [default: the container's]
    #[arg(long, value_name = "PROFILE|off")]
    pub apparmor: Option<LabelWish>,
    /// SELinux context of the command, or `off` for cntr's own [default: the container's]
    #[arg(long, value_name = "CONTEXT|off")]
    pub selinux: Option<LabelWish>,
    /// Fail at a step of the set-up, for tests: STEP, STEP:kill or STEP:hang
    #[arg(long, hide = true)]
    pub fail_at: Option<Fault>,
    /// Milliseconds the set-up may take
    #[arg(long, hide = true, default_value_t = DEADLINE.as_millis() as u64)]
    pub deadline: u64,
}

const EXAMPLES: &str = "\
Examples:
  cntr attach web                         a shell with your tools; the container is at /var/lib/cntr
  cntr attach docker://web -- strace -p 1 trace the first process of Docker's container
  cntr attach -t podman,lxc web           only Podman and LXC are asked
  cntr attach 1234 vim /var/lib/cntr/etc/app.conf
  tar c . | cntr attach web -- tar x -C /var/lib/cntr/srv
  cntr attach --host ro web               look, but change nothing on the host
  cntr attach --from toolbox web          the tools of the container toolbox instead of the host's
  cntr attach --hide /root --hide /etc/shadow web   what the session must not see
  cntr attach --bind /run/docker.sock web the host's Docker can be used in the session
  cntr attach --dry-run web               what would be joined, mounted and taken over
  CNTR_BASE_DIR=/c cntr attach web        have the container at /c instead

With -i and -t it is called as docker exec is: a terminal if both are given, else it is an error that standard input is none; with
-t alone the output is a terminal's, and there is no input unless it is typed. A -t before a TYPE is --type, before anything else
--tty.

A number is a process, or the whole name of a container; the start of an id of digits only is docker://123. All engines whose
tool is installed are asked at once.

The session has the container's namespaces, cgroups, users, capabilities and limits. /proc, /sys, /dev and the passwd,
group, hosts, hostname, resolv.conf and localtime files in /etc are the container's, everything else in / is the host's.
It has the container's environment, but your PATH, SHELL, TERM, COLORTERM, LANG and LC_*. It starts in the directory where
the container's process is. Nothing is written to the container or the host, and nothing is left when the command ends.";

/// Where the files of a session come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A directory: what has a slash in it, and no scheme.
    Directory(PathBuf),
    /// Another container.
    Container(Reference),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        let is_path = text.contains('/') && !text.contains("://");
        if is_path || matches!(text, "." | "..") {
            Ok(From::Directory(PathBuf::from(text)))
        } else {
            text.parse().map(From::Container)
        }
    }
}

fn parse_access(text: &str) -> Result<Access, String> {
    match text {
        "rw" => Ok(Access::ReadWrite),
        "ro" => Ok(Access::ReadOnly),
        _ => Err("rw or ro".to_owned()),
    }
}

fn parse_cache(text: &str) -> Result<CachePolicy, String> {
    cache(text).map_err(|error| error.to_string())
}

impl SessionArgs {
    /// A process of what `target` says.
    pub(super) fn find(&self, target: &Reference) -> anyhow::Result<Pinned> {
        let (found, process) = resolve::resolve(target, &self.types)?;
        tracing::info!("the target is {found}");
        Ok(process)
    }

    /// What --env-file and --env say about variables, in the order in which it counts.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, EnvFileError> {
        let mut settings = Vec::new();
        for path in &self.env_file {
            settings.extend(env_file::read(path)?);
        }
        settings.extend_from_slice(&self.env);
        Ok(settings)
    }

    /// Whether the command gets a terminal.
    pub(super) fn terminal(&self) -> anyhow::Result<TerminalWish> {
        if !self.tty {
            return Ok(TerminalWish::IfCaller);
        }
        if self.interactive && !pty::is_terminal(pty::stdin()) {
            bail!("the input device is not a TTY: leave out -t, or -i if there is nothing to type");
        }
        Ok(TerminalWish::Always)
    }

    /// What the session code calls the same.
    pub(super) fn wishes(&self, command: &[OsString], global: &Global) -> anyhow::Result<Wishes> {
        let show: Show = if global.json {
            dry_run::json
        } else {
            dry_run::table
        };
        Ok(Wishes {
            command: command.to_vec(),
            settings: self.settings()?,
            terminal: self.terminal()?,
            user: self.user.clone(),
            directory: self.workdir.clone(),
            base: attach::base_directory(),
            apparmor: self.apparmor.clone().unwrap_or_default(),
            selinux: self.selinux.clone().unwrap_or_default(),
            dry_run: self.dry_run.then_some(show),
            deadline: Duration::from_millis(self.deadline),
            fault: self.fail_at,
            ..Wishes::default()
        })
    }
}

/// Runs `cntr attach`.
pub fn run(args: &AttachArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let source = match &args.from {
        None => Source::Host,
        Some(From::Directory(path)) => Source::Directory(path.clone()),
        Some(From::Container(reference)) => {
            let pid = args.session.find(reference);
            let name = &reference.name;
            let hint = || format!("--from (a directory would be given with a slash, as ./{name})");
            Source::Process(pid.with_context(hint)?)
        }
    };
    let wishes = Wishes {
        access: args.host,
        binds: args.bind.clone(),
        hidden: args.hide.clone(),
        cache: args.cache.unwrap_or_default(),
        effective_user: args.effective_user.clone(),
        ..args.session.wishes(&args.command, global)?
    };
    let process = args.session.find(&args.target)?;
    conclude(attach::attach(process, source, &wishes))
}

/// The exit code for the end of a session: the command's; 126 and 127 if it could not be executed.
pub(super) fn conclude(outcome: Result<Exit, Failure>) -> anyhow::Result<ExitCode> {
    match outcome {
        Ok(exit) => Ok(ExitCode::from(exit.code())),
        Err(failure) if failure.step == Step::Execute && failure.errno.is_some() => {
            eprintln!("cntr: {failure}");
            let missing = matches!(failure.errno, Some(libc::ENOENT | libc::ENOTDIR));
            Ok(ExitCode::from(if missing { 127 } else { 126 }))
        }
        Err(failure) => Err(failure.into()),
    }
}
