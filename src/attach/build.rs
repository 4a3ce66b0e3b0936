//! Failed builds of Nix that wait for somebody to look at them: `breakpointHook` of nixpkgs keeps a process in the sandbox, with
//! the build's environment, where the build has stopped. A session starts there.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::mounts::open_in;
use super::target::Target;

/// What Nix sets for every build: its top directory.
const VARIABLE: &[u8] = b"NIX_BUILD_TOP=";

/// Where the build that `target` belongs to has stopped, relative to the target's root; none if it is no build.
#[must_use]
pub fn directory(target: &Target) -> Option<PathBuf> {
    let is_set = |entry: &Vec<u8>| entry.starts_with(VARIABLE);
    target.environment.iter().find(|entry| is_set(entry))?;
    let directory = below(&target.link("root").ok()?, &target.link("cwd").ok()?)?;
    // Whoever has it as working directory may have removed it.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    open_in(target.root.as_fd(), &directory, flags).ok()?;
    Some(directory)
}

/// The part of `path` below `root`; none if it is elsewhere, or the root itself.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(root).ok()?;
    (rest != Path::new("")).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_relative_to_the_root() {
        for (root, path, expected) in [
            ("/", "/build/source", Some("build/source")),
            ("/chroot/root", "/chroot/root/build", Some("build")),
            ("/chroot/root", "/chroot/rooted", None),
            ("/", "/", None),
            ("/a", "/b", None),
        ] {
            let found = below(Path::new(root), Path::new(path));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{root} {path}");
        }
    }
}
