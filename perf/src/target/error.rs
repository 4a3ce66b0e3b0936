//! Why a target cannot be used.

use std::path::PathBuf;

use nix::errno::Errno;

use crate::job::JobError;

/// Why a target cannot be described, brought up or taken down.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A file of targets cannot be read.
    #[error("cannot read the targets in {file}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file of targets is not what it should be.
    #[error("{file} does not describe targets")]
    Format {
        /// The file.
        file: PathBuf,
        /// The reason, with the line.
        source: Box<toml::de::Error>,
    },
    /// One target of a file makes no sense.
    #[error("{file}: target '{target}': {problem}")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Name of the target.
        target: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no such target.
    #[error("there is no target '{name}'; there are {known}")]
    Unknown {
        /// The name, or the pattern that fits none.
        name: String,
        /// All names.
        known: String,
    },
    /// The program given for our engine is none.
    #[error("{path} is not a program; build it with `cargo build --release`")]
    Engine {
        /// As given.
        path: PathBuf,
    },
    /// It cannot be used on this machine.
    #[error("{target} is not available: {reason}")]
    Unavailable {
        /// Name of the target.
        target: String,
        /// What is missing and what to do about it.
        reason: String,
    },
    /// A directory for mount points cannot be made or removed.
    #[error("cannot prepare {path}")]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// Other users cannot get there, which databases have to.
    #[error(
        "{path} is closed to other users, and databases run as one; use another directory or `chmod o+x {path}`"
    )]
    Closed {
        /// The directory that is closed.
        path: PathBuf,
    },
    /// Something cannot be mounted.
    #[error("cannot mount {what} at {path}")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// The mount point.
        path: PathBuf,
        /// The reason.
        source: Errno,
    },
    /// A server or what enters a container cannot be run.
    #[error("{target} cannot be started")]
    Start {
        /// Name of the target.
        target: String,
        /// The reason.
        source: JobError,
    },
    /// A server ended instead of serving.
    #[error("the server of {target} ended before it had mounted ({words})")]
    Ended {
        /// Name of the target.
        target: String,
        /// How, with the last that it said.
        words: String,
    },
    /// A server neither mounted nor ended.
    #[error("the server of {target} had not mounted after {seconds:.0} s and was ended{}{words}", if words.is_empty() { "" } else { ": " })]
    Late {
        /// Name of the target.
        target: String,
        /// How long it was waited for.
        seconds: f64,
        /// The last that it said.
        words: String,
    },
    /// It is mounted, but does not answer.
    #[error("{target} is mounted but does not answer{}{words}", if words.is_empty() { "" } else { ": " })]
    Mute {
        /// Name of the target.
        target: String,
        /// The reason, or the last that the server said.
        words: String,
    },
    /// No command can be run in the directory through a session.
    #[error("{target} cannot run a command in the container")]
    Enter {
        /// Name of the target.
        target: String,
        /// The reason.
        source: JobError,
    },
    /// The container of the sessions cannot be made.
    #[error("cannot make a container: {step}")]
    Container {
        /// What failed.
        step: &'static str,
        /// The reason.
        source: JobError,
    },
    /// The container was made, but its first process is not there.
    #[error(
        "the container of {engine} has no process on this machine: is the engine on another one?"
    )]
    Elsewhere {
        /// What made it.
        engine: &'static str,
    },
    /// A signal to the suite.
    #[error("interrupted")]
    Interrupted,
    /// It went down, but not as it should have.
    #[error("{target}: {}", complaints.join("; "))]
    Left {
        /// Name of the target.
        target: String,
        /// What was found.
        complaints: Vec<String>,
    },
}
