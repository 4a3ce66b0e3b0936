//! What a container is to be like.

use std::ffi::{CString, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use super::nameplate::Name;
use crate::attach::environment::Setting;
use crate::attach::status::Extent;

/// A directory of the host in the container: `SOURCE:TARGET[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Path on the host.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Volume, String> {
        let (source, target, read_only) = match text.split(':').collect::<Vec<_>>()[..] {
            [source, target] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            [source, target, "rw"] => (source, target, false),
            _ => return Err("expected SOURCE:TARGET or SOURCE:TARGET:ro".to_owned()),
        };
        if source.is_empty() || !target.starts_with('/') {
            return Err("the target has to be an absolute path".to_owned());
        }
        Ok(Volume {
            source: source.into(),
            target: target.into(),
            read_only,
        })
    }
}

/// What the container's first process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Nothing but to reap what is orphaned, until SIGTERM; needs no file in the container.
    Pause,
    /// It becomes this command.
    Command(Vec<CString>),
    /// It starts this command, passes signals on to it and reaps what is orphaned.
    Init(Vec<CString>),
}

/// Limits enforced by cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// CPUs, as a share of time: 0.5 is half of one.
    pub cpus: Option<f64>,
}

/// Which capabilities the container has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Privileges {
    /// Those docker gives by default.
    #[default]
    Default,
    /// All that cntr has.
    All,
    /// None.
    None,
}

/// A network namespace of the container's own, or the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    /// Only the loopback interface.
    #[default]
    None,
    /// The host's.
    Host,
}

/// A container.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What to call it on the host, if it is given a name.
    pub name: Option<Name>,
    /// Its root directory on the host.
    pub root: PathBuf,
    /// Its host name.
    pub hostname: String,
    /// What its first process does.
    pub program: Program,
    /// Its user namespace, if it has one: the maps of user and of group ids.
    pub user_namespace: Option<(Vec<Extent>, Vec<Extent>)>,
    /// User and group id of the first process, as ids of the container.
    pub user: (u32, u32),
    /// Capabilities.
    pub privileges: Privileges,
    /// Whether exec never gives privileges.
    pub no_new_privs: bool,
    /// Network.
    pub network: Network,
    /// Limits.
    pub limits: Limits,
    /// Whether its root directory may only be read.
    pub read_only: bool,
    /// Directories of the host.
    pub volumes: Vec<Volume>,
    /// Variables.
    pub settings: Vec<Setting>,
    /// Where the command starts.
    pub directory: PathBuf,
    /// Whether the command gets a terminal.
    pub terminal: bool,
}

impl Spec {
    /// A container in `root` that does `program`, with all defaults.
    #[must_use]
    pub fn new(root: PathBuf, program: Program) -> Spec {
        Spec {
            name: None,
            root,
            hostname: "cntr".to_owned(),
            program,
            user_namespace: None,
            user: (0, 0),
            privileges: Privileges::Default,
            no_new_privs: false,
            network: Network::None,
            limits: Limits::default(),
            read_only: false,
            volumes: Vec::new(),
            settings: Vec::new(),
            directory: PathBuf::from("/"),
            terminal: false,
        }
    }

    /// The command, if there is one.
    #[must_use]
    pub fn command(&self) -> &[CString] {
        match &self.program {
            Program::Pause => &[],
            Program::Command(command) | Program::Init(command) => command,
        }
    }
}

/// The environment of every container before the user's settings.
#[must_use]
pub fn base_environment(spec: &Spec) -> Vec<(&'static str, OsString)> {
    let mut variables = vec![
        ("PATH", crate::attach::environment::DEFAULT_PATH.into()),
        ("HOME", if spec.user.0 == 0 { "/root" } else { "/" }.into()),
        ("HOSTNAME", spec.hostname.clone().into()),
        ("container", "cntr".into()),
    ];
    if spec.terminal {
        variables.push((
            "TERM",
            std::env::var_os("TERM").unwrap_or_else(|| "xterm".into()),
        ));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        let volume: Volume = "/a:/b:ro".parse().unwrap();
        assert_eq!(
            volume,
            Volume {
                source: "/a".into(),
                target: "/b".into(),
                read_only: true
            }
        );
        for wrong in ["/a", "/a:b", ":/b", "/a:/b:xx", "/a:/b:ro:1"] {
            assert!(wrong.parse::<Volume>().is_err(), "{wrong}");
        }
    }
}
