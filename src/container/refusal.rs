//! What a container's first process says when it cannot be what it should.

use std::fmt::Display;
use std::io;
use std::path::Path;

/// A step of the set-up that failed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("cannot {step} {object}: {reason}")]
pub struct Refusal {
    /// What was being done.
    pub step: String,
    /// To what.
    pub object: String,
    /// Why not.
    pub reason: String,
    /// The system's error number, if the system refused.
    pub errno: Option<i32>,
}

impl Refusal {
    /// The system refused `step` on `object`.
    #[must_use]
    pub fn new(step: &str, object: &dyn Display, error: &io::Error) -> Refusal {
        let errno = error.raw_os_error();
        let reason = errno.map_or_else(
            || error.to_string(),
            |n| nix::errno::Errno::from_raw(n).desc().to_owned(),
        );
        Refusal {
            step: step.to_owned(),
            object: object.to_string(),
            reason,
            errno,
        }
    }
}

/// Says what failed.
pub trait At<T> {
    /// Adds the step and the path.
    ///
    /// # Errors
    /// Those of the receiver.
    fn at(self, step: &str, path: impl AsRef<Path>) -> Result<T, Refusal>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, step: &str, path: impl AsRef<Path>) -> Result<T, Refusal> {
        self.map_err(|error| Refusal::new(step, &path.as_ref().display(), &error))
    }
}
