//! Makes the kernel forget names.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use super::LoadError;
use crate::job::Window;

const SWITCH: &str = "/proc/sys/vm/drop_caches";

/// Longest time that the machine has to become quiet again.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the machine is watched at a time. Its CPU time counts in steps of 10 ms.
const WATCH: Duration = Duration::from_millis(100);

/// CPUs in use up to which the machine is quiet.
const QUIET: f64 = 0.25;

/// Makes the kernel forget the names and inodes of all file systems, as far as nobody uses them, and waits until FUSE
/// servers have heard of it. What was not written yet in the file system of `dir` is written before: it would stay.
///
/// # Errors
/// The caller is not root, or `dir` cannot be written back.
pub fn drop_names(dir: &Path) -> Result<(), LoadError> {
    let prepare = |source| LoadError::Prepare {
        path: dir.to_owned(),
        source,
    };
    let handle = File::open(dir).map_err(prepare)?;
    rustix::fs::syncfs(&handle).map_err(|errno| prepare(errno.into()))?;
    drop(handle);
    fs::write(SWITCH, "2").map_err(LoadError::Drop)?;
    settle();
    Ok(())
}

/// Waits until the machine is quiet, but not for long: others may work on it.
fn settle() {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let window = Window::begin(&[]);
        std::thread::sleep(WATCH);
        let usage = window.end();
        if usage.cpu_total <= QUIET * usage.seconds {
            return;
        }
    }
}

/// Why names cannot be dropped here.
pub fn missing() -> Option<String> {
    (!nix::unistd::geteuid().is_root())
        .then(|| "only root can make the kernel forget names".to_owned())
}
