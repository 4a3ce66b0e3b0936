//! `cntr run`: a minimal container.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use nix::unistd::setsid;

use super::Global;
use crate::attach::environment::Setting;
use crate::attach::pty;
use crate::attach::status::{Extent, to_outside};
use crate::attach::supervise::Signals;
use crate::container::nameplate::Name;
use crate::container::{
    Container, ContainerError, Limits, Network, Privileges, Program, Spec, Volume,
};
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, Parenthood, exit_now, fork};

/// Run a command in a minimal container, as something to attach to
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Root directory of the container; may be empty with --pause
    pub rootfs: PathBuf,
    /// Command [default: /bin/sh if there is one, else as with --pause]
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
    /// Have a first process that only waits and reaps; it needs no file in the container
    #[arg(long, conflicts_with = "command")]
    pub pause: bool,
    /// Have an init as first process, which reaps and passes signals on to the command
    #[arg(long)]
    pub init: bool,
    /// Return at once, printing the process id of the container's first process
    #[arg(short, long)]
    pub detach: bool,
    /// What to call it, as in `cntr attach NAME` [default: cntr-PID]
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// Host name
    #[arg(long, value_name = "NAME", default_value = "cntr")]
    pub hostname: String,
    /// Have a user namespace [default: only if not root]
    #[arg(long)]
    pub userns: bool,
    /// Map user ids, several times for several ranges; implies --userns [default: 0:100000:65536 as root]
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", value_parser = parse_extent)]
    pub uid_map: Vec<Extent>,
    /// Map group ids [default: as the user ids]
    #[arg(long, value_name = "INSIDE:OUTSIDE:COUNT", value_parser = parse_extent)]
    pub gid_map: Vec<Extent>,
    /// User, and group, of the command: ids of the container
    #[arg(short, long, value_name = "UID[:GID]", value_parser = parse_user, default_value = "0")]
    pub user: (u32, u32),
    /// Capabilities of the container
    #[arg(long, value_enum, default_value_t)]
    pub caps: Privileges,
    /// Never gain privileges by executing something
    #[arg(long)]
    pub no_new_privileges: bool,
    /// Network
    #[arg(long, value_enum, default_value_t)]
    pub net: Network,
    /// Limit the memory: bytes, or with K, M or G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Limit the number of processes and threads
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub pids: Option<u64>,
    /// Limit the processor time: 0.5 is half of one processor
    #[arg(long, value_name = "NUMBER", value_parser = parse_cpus)]
    pub cpus: Option<f64>,
    /// Make the root directory read-only
    #[arg(long)]
    pub read_only: bool,
    /// Show a directory of the host in the container
    #[arg(long, value_name = "SOURCE:TARGET[:ro]")]
    pub volume: Vec<Volume>,
    /// Set a variable, or pass on the caller's value of it
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<Setting>,
    /// Directory to start in
    #[arg(short, long, value_name = "DIR", default_value = "/")]
    pub workdir: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  cntr run /srv/rootfs                             a shell of the container's own
  cntr run --detach --pause --name web DIR         an empty container; then: cntr attach web
  cntr run --userns --memory 64M --pids 20 DIR -- /bin/httpd -f
  cntr run --read-only --user 1000 --volume /srv/data:/data DIR

What this is not: a container engine. There are no images, no seccomp filter and no network but loopback (or the host's).
The container has its own mount, pid, uts, ipc, cgroup and, unless --net host, net namespace. /proc, /sys and /dev are
its own; directories for them are made if they are missing, and removed afterwards. As first process the command gets
only those signals that it handles: use --init for programs that do not expect that.";

fn parse_extent(text: &str) -> Result<Extent, String> {
    let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
    match numbers.map_err(|error| error.to_string())?[..] {
        [inside, outside, count] if count > 0 => Ok(Extent {
            inside,
            outside,
            count,
        }),
        _ => Err("expected INSIDE:OUTSIDE:COUNT".to_owned()),
    }
}

fn parse_user(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| format!("{text:?} is no id (names are not looked up)"))
    };
    match text.split_once(':') {
        Some((user, group)) => Ok((number(user)?, number(group)?)),
        None => number(text).map(|id| (id, id)),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a number of bytes, or one with K, M or G".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|size| *size > 0)
        .ok_or_else(|| "out of range".to_owned())
}

fn parse_cpus(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|cpus: &f64| *cpus > 0.0 && *cpus <= 8192.0)
        .ok_or_else(|| "expected a number above 0".to_owned())
}

impl RunArgs {
    fn spec(&self) -> anyhow::Result<Spec> {
        let root = self
            .rootfs
            .canonicalize()
            .with_context(|| format!("root directory {}", self.rootfs.display()))?;
        if !root.is_dir() {
            bail!(
                "root directory {} is not a directory",
                self.rootfs.display()
            );
        }
        let given: Vec<CString> = self
            .command
            .iter()
            .map(|argument| CString::new(argument.clone().into_vec()))
            .collect::<Result<_, _>>()
            .context("an argument contains NUL")?;
        let nothing_to_run = given.is_empty() && root.join("bin/sh").symlink_metadata().is_err();
        let program = if self.pause || nothing_to_run {
            Program::Pause
        } else {
            let command = if given.is_empty() {
                vec![c"/bin/sh".to_owned()]
            } else {
                given
            };
            if self.init {
                Program::Init(command)
            } else {
                Program::Command(command)
            }
        };
        let user_namespace = self.user_namespace();
        if let Some((uids, gids)) = &user_namespace {
            let (uid, gid) = self.user;
            for (what, id, map) in [("user", uid, uids), ("group", gid, gids)] {
                if to_outside(map, id).is_none() {
                    bail!(
                        "the user namespace of the container has no {what} {id}: see --uid-map and --gid-map"
                    );
                }
            }
        }
        let terminal = !self.detach && program != Program::Pause && pty::wanted();
        Ok(Spec {
            name: self.name.clone(),
            hostname: self.hostname.clone(),
            user_namespace,
            user: self.user,
            privileges: self.caps,
            no_new_privs: self.no_new_privileges,
            network: self.net,
            limits: Limits {
                memory: self.memory,
                pids: self.pids,
                cpus: self.cpus,
            },
            read_only: self.read_only,
            volumes: self.volume.clone(),
            settings: self.env.clone(),
            directory: self.workdir.clone(),
            terminal,
            ..Spec::new(root, program)
        })
    }

    fn user_namespace(&self) -> Option<(Vec<Extent>, Vec<Extent>)> {
        let root = nix::unistd::geteuid().is_root();
        if !self.userns && self.uid_map.is_empty() && self.gid_map.is_empty() && root {
            return None;
        }
        let default = |own: u32| match root {
            true => vec![Extent {
                inside: 0,
                outside: 100_000,
                count: 65_536,
            }],
            false => vec![Extent {
                inside: 0,
                outside: own,
                count: 1,
            }],
        };
        let uids = match self.uid_map.as_slice() {
            [] => default(nix::unistd::geteuid().as_raw()),
            map => map.to_vec(),
        };
        let gids = match (self.gid_map.as_slice(), root) {
            ([], true) => uids.clone(),
            ([], false) => default(nix::unistd::getegid().as_raw()),
            (map, _) => map.to_vec(),
        };
        Some((uids, gids))
    }
}

/// Runs `cntr run`.
pub fn run(args: &RunArgs, _global: &Global) -> anyhow::Result<ExitCode> {
    let spec = args.spec()?;
    if args.detach {
        return detach(&spec);
    }
    let signals = Signals::block().context("cannot take over signals")?;
    match Container::start(&spec, &signals) {
        Ok(container) => Ok(ExitCode::from(container.wait(&signals)?.code())),
        Err(error) => match not_executable(&error) {
            Some(code) => {
                eprintln!("cntr: {error}");
                Ok(ExitCode::from(code))
            }
            None => Err(error.into()),
        },
    }
}

/// What the container's keeper tells the process that started it.
#[derive(serde::Serialize, serde::Deserialize)]
enum Told {
    /// The process id of the container's first process.
    Runs(i32),
    /// Why there is no container, and the exit code for that.
    Failed(String, u8),
}

/// Leaves a process behind that waits for the container's end and removes what was made for it.
fn detach(spec: &Spec) -> anyhow::Result<ExitCode> {
    let (ours, theirs) = Channel::pair().context("cannot make a channel")?;
    if let Fork::Child =
        fork(Parenthood::Caller, 0).context("cannot start the container's keeper")?
    {
        drop(ours);
        keep(spec, theirs);
        exit_now(0);
    }
    drop(theirs);
    let heard = ours
        .receive()
        .context("cannot hear from the container's keeper")?;
    match heard.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()) {
        Some(Told::Runs(pid)) => {
            writeln!(io::stdout(), "{pid}").context("cannot print the process id")?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Told::Failed(text, code)) => {
            eprintln!("cntr: {text}");
            Ok(ExitCode::from(code))
        }
        None => bail!("the container's keeper died"),
    }
}

/// Starts the container, tells its process id, and stays until it ends. Neither the keeper nor the container holds
/// anything of the caller's: who reads the caller's output must not wait for the container.
fn keep(spec: &Spec, channel: Channel) {
    let _ = nix::sys::prctl::set_name(c"cntr-keeper");
    let tell = |told: &Told| {
        let text = serde_json::to_vec(told).expect("plain values");
        channel.send(&text, None)
    };
    let start = || -> anyhow::Result<(Container, Signals)> {
        setsid().context("cannot start a session")?;
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .context("cannot open /dev/null")?;
        nix::unistd::dup2_stdin(&null).context("stdin")?;
        nix::unistd::dup2_stdout(&null).context("stdout")?;
        nix::unistd::dup2_stderr(&null).context("stderr")?;
        let signals = Signals::block().context("cannot take over signals")?;
        Ok((Container::start(spec, &signals)?, signals))
    };
    match start() {
        Ok((container, signals)) => {
            // If nobody hears it the container has no owner; its end when this process ends is what is left to do.
            if tell(&Told::Runs(container.pid().as_raw())).is_ok() {
                drop(channel);
                let _ = container.wait(&signals);
            }
        }
        Err(error) => {
            let code = error
                .downcast_ref()
                .and_then(not_executable)
                .unwrap_or(super::FAILED);
            let _ = tell(&Told::Failed(format!("{error:#}"), code));
        }
    }
}

/// docker's exit codes for commands that cannot be executed.
fn not_executable(error: &ContainerError) -> Option<u8> {
    let ContainerError::Refused(refusal) = error else {
        return None;
    };
    let missing = matches!(refusal.errno, Some(libc::ENOENT | libc::ENOTDIR));
    (refusal.step == "execute").then_some(if missing { 127 } else { 126 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_maps_and_users_are_read() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("10"), Ok(10));
        assert!(parse_size("M").is_err());
        assert!(parse_size("99999999999G").is_err());
        assert_eq!(
            parse_extent("0:100000:65536"),
            Ok(Extent {
                inside: 0,
                outside: 100_000,
                count: 65_536
            })
        );
        assert!(parse_extent("0:1").is_err());
        assert_eq!(parse_user("7"), Ok((7, 7)));
        assert_eq!(parse_user("7:8"), Ok((7, 8)));
        assert!(parse_user("root").is_err());
        assert!(parse_cpus("0").is_err());
    }
}
