//! Runs commands where a target is, with a deadline, and meters what they cost.

pub mod command;
pub mod control;
pub mod meter;
pub mod tool;

use std::ffi::OsString;
use std::path::PathBuf;

use nix::unistd::Pid;

pub use command::{Command, Finished, JobError, Running};
pub use control::Control;
pub use meter::Window;

/// How large a measurement is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Factor on numbers of files, bytes and transactions; 1.0 is the size of the full profile.
    pub scale: f64,
    /// Seconds of a measurement that ends by time.
    pub seconds: f64,
}

impl Size {
    /// `full` at this scale, but not below `least`.
    pub fn count(&self, full: u64, least: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(least)
    }
}

/// A directory on a target, and how to work there.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory as the jobs see it.
    pub dir: PathBuf,
    /// The same directory beside the target: on the host, in the backing file system.
    pub host: PathBuf,
    /// Mount points of further instances of the target, over the same directory.
    pub others: Vec<PathBuf>,
    /// Command line that enters the target, before the job's own; empty for mounts.
    pub enter: Vec<OsString>,
    /// The target's server, if it has one that is known.
    pub servers: Vec<Pid>,
    /// Its connections, by their number under `/sys/fs/fuse/connections`.
    pub connections: Vec<u32>,
    /// How much to do.
    pub size: Size,
    /// Interrupts and the deadline of this measurement.
    pub control: Control,
}

impl Place {
    /// A command that runs in this place, with its directory as the working directory.
    ///
    /// `program` is a path, or a name that [`tool::find`] knows.
    pub fn command(&self, program: impl Into<OsString>) -> Command {
        Command::new(self, program.into())
    }

    /// Starts to meter.
    pub fn begin(&self) -> Window {
        Window::begin(&self.servers)
    }
}
