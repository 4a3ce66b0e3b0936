//! Where things are measured: a bind mount, our engine, other FUSE servers, sessions in a container.
//!
//! | module | what it is |
//! |---|---|
//! | [`spec`] | targets as they are written down in TOML |
//! | [`catalogue`] | all that are known, those that were asked for |
//! | [`arena`] | the scratch directory and the container that targets share |
//! | [`up`] | a target that is ready, and its end |
//! | [`mod@verify`] | is it what it claims? |
//!
//! A target leaves nothing behind: no process, mount, FUSE connection or directory, however its server ends. Nothing waits
//! for a server longer than a deadline; one that does not answer has its connection aborted.

pub mod arena;
pub mod catalogue;
mod connection;
pub mod container;
mod durability;
pub mod error;
mod mount;
pub mod mountinfo;
mod placeholder;
mod server;
mod session;
pub mod spec;
pub mod up;
pub mod verify;

use std::ffi::OsString;
use std::path::Path;

pub use arena::Arena;
pub use catalogue::Catalogue;
pub use error::TargetError;
pub use spec::Spec;
pub use up::Up;
pub use verify::verify;

use crate::job::{Control, tool};
use crate::result::{TargetInfo, TargetKind};

/// Parameter of the fuse module that switches FUSE over io_uring on.
const ENABLE_URING: &str = "/sys/module/fuse/parameters/enable_uring";

/// Where a description comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Native and our engine.
    Ours,
    /// Other FUSE servers.
    Peers,
    /// Ways into a container.
    Sessions,
    /// A file of the user.
    User,
}

/// A target, on this machine.
#[derive(Clone, Debug)]
pub struct Target {
    spec: Spec,
    origin: Origin,
    /// The command line of our engine; empty if there is none.
    cntr: Vec<OsString>,
    /// The command line of the target's program; empty if there is none.
    program: Vec<OsString>,
}

impl Target {
    pub(crate) fn new(spec: Spec, origin: Origin, cntr: &[OsString]) -> Target {
        let program = match spec.program.as_deref() {
            Some("{cntr}") => cntr.to_vec(),
            Some("{perf}") => std::env::current_exe()
                .into_iter()
                .map(OsString::from)
                .collect(),
            Some(name) => tool::find(name).into_iter().map(OsString::from).collect(),
            None => Vec::new(),
        };
        Target {
            spec,
            origin,
            cntr: cntr.to_vec(),
            program,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What kind of target.
    pub fn kind(&self) -> TargetKind {
        self.spec.kind
    }

    /// Where its description comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// How it is described.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Why it cannot be measured on this machine, and what to do about it. Asks the docker engine for a target that needs
    /// one.
    pub fn unavailable(&self) -> Option<String> {
        let needs_engine =
            self.spec.ours() || self.spec.uses("cntr") || self.spec.command.is_empty();
        if self.cntr.is_empty() && needs_engine && self.kind() != TargetKind::Native {
            return Some(
                "our engine is not built: `cargo build --release`, or --cntr PATH".to_owned(),
            );
        }
        match &self.spec.program {
            Some(name) if self.program.is_empty() => {
                return Some(format!("{name} is not installed"));
            }
            _ => {}
        }
        let requires: Vec<&str> = self.spec.requires.iter().map(String::as_str).collect();
        tool::missing(&requires)
            .or_else(|| self.uring_missing())
            .or_else(|| {
                let docker = self.spec.uses("container");
                docker.then(container::docker).and_then(Result::err)
            })
    }

    fn uring_missing(&self) -> Option<String> {
        if !self.spec.needs_uring {
            return None;
        }
        match std::fs::read_to_string(ENABLE_URING) {
            Ok(text) if text.trim() == "Y" => None,
            Ok(_) => Some(format!(
                "FUSE over io_uring is off: `echo Y > {ENABLE_URING}`"
            )),
            Err(_) => Some("FUSE over io_uring needs Linux 6.14 and the fuse module".to_owned()),
        }
    }

    /// What a run keeps of it. What only shows when it is up is in [`Up`].
    pub fn info(&self) -> TargetInfo {
        TargetInfo {
            name: self.spec.name.clone(),
            kind: self.spec.kind,
            about: self.spec.about.clone(),
            command: self
                .command(&[])
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            program_version: self.version(),
            parameters: self.spec.parameters(),
            checks: Vec::new(),
            unavailable: self.unavailable(),
        }
    }

    /// The command line with the program and these values in it.
    fn command(&self, values: &placeholder::Values<'_>) -> Vec<OsString> {
        self.replace(&self.spec.command, values)
    }

    fn replace(&self, words: &[String], values: &placeholder::Values<'_>) -> Vec<OsString> {
        let mut line = Vec::new();
        for word in words {
            match word.as_str() {
                "{program}" => line.extend(self.program.iter().cloned()),
                "{cntr}" => line.extend(self.cntr.iter().cloned()),
                word => line.push(placeholder::replace(word, values)),
            }
        }
        line
    }

    /// Of all that the program prints, the line with its own name, else the first that is not about the library's helper.
    fn version(&self) -> Option<String> {
        let name = match self.spec.ours() {
            true => "cntr".into(),
            false => Path::new(self.program.first()?)
                .file_name()?
                .to_string_lossy(),
        };
        let words = self.replace(&self.spec.version, &[]);
        let (program, arguments) = words.split_first()?;
        let finished =
            crate::job::Command::on_host(program, &Control::none().with_deadline(up::SHORT))
                .args(arguments)
                .run()
                .ok()?;
        let text = finished.stdout + "\n" + &finished.stderr;
        let lines = || {
            text.lines()
                .map(str::trim)
                .filter(|line| line.bytes().any(|byte| byte.is_ascii_digit()))
        };
        lines()
            .find(|line| line.to_lowercase().contains(&*name))
            .or_else(|| lines().find(|line| !line.starts_with("fusermount")))
            .map(str::to_owned)
    }
}
