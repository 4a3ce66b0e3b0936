//! The kernel's end of a FUSE mount, as shown in `/sys/fs/fuse/connections`.

use std::fs;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "/sys/fs/fuse/connections";

/// A FUSE connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    minor: u32,
}

impl Connection {
    /// The connection of the mount with this minor device number.
    pub fn new(minor: u32) -> Connection {
        Connection { minor }
    }

    /// Its number, which a later one may get.
    pub fn minor(self) -> u32 {
        self.minor
    }

    fn path(self) -> PathBuf {
        Path::new(DIRECTORY).join(self.minor.to_string())
    }

    /// The kernel still has it.
    pub fn exists(self) -> bool {
        self.path().exists()
    }

    /// Requests the kernel waits for.
    pub fn waiting(self) -> Option<u64> {
        fs::read_to_string(self.path().join("waiting"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Makes every pending and future request fail: the way out of a hang.
    pub fn abort(self) {
        if let Err(error) = fs::write(self.path().join("abort"), "1") {
            eprintln!("cannot abort FUSE connection {}: {error}", self.minor);
        }
    }
}

/// Makes the directory of connections visible to this process.
pub fn mount_control() -> Result<(), String> {
    if fs::read_dir(DIRECTORY).is_err() {
        return Err(format!(
            "{DIRECTORY} does not exist: the kernel has no FUSE"
        ));
    }
    if super::mountinfo::at(Path::new(DIRECTORY)).is_none() {
        rustix::mount::mount(
            "none",
            DIRECTORY,
            "fusectl",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .map_err(|error| format!("cannot mount fusectl: {error}"))?;
    }
    Ok(())
}
