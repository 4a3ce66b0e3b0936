//! Paths that a session does not have: what is refused before it starts. The hiding is the file system's.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;

use super::bind::BindSpec;
use super::handshake::Failure;
use super::mounts::{Plan, open_in, path_in};
use super::source::Tree;
use super::step::Step;

/// Reads what was typed: a path in the session.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: OsString) -> Result<PathBuf, String> {
    // Slashes at the end and dots in between mean nothing.
    let path: PathBuf = Path::new(&text).components().collect();
    let fine = path.is_absolute()
        && path != Path::new("/")
        && path.components().all(|part| part != Component::ParentDir);
    if fine {
        Ok(path)
    } else {
        Err("an absolute path without \"..\", and not the root".to_owned())
    }
}

/// Where `path` is in `tree` when no symbolic link is on the way: the link itself, and what it leads to.
fn places(tree: &Tree, path: &Path) -> Vec<PathBuf> {
    let root = tree.root.as_fd();
    let real =
        |path: &Path, flags| path_in(root, &open_in(root, path, OFlag::O_PATH | flags).ok()?);
    let parent = path
        .parent()
        .and_then(|parent| real(parent, OFlag::empty()));
    let itself = parent
        .zip(path.file_name())
        .map(|(parent, name)| parent.join(name));
    let mut places = vec![itself.unwrap_or_else(|| path.to_owned())];
    places.extend(real(path, OFlag::empty()));
    places
}

/// Refuses to hide what the session needs, and what `binds` would show all the same; says what is not there.
///
/// # Errors
/// The path that cannot be hidden.
pub fn check(
    hidden: &[PathBuf],
    tree: &Tree,
    plan: &Plan,
    binds: &[BindSpec],
) -> Result<(), Failure> {
    for path in hidden {
        let refuse = |reason: String| {
            let object = format!("--hide {}", path.display());
            Err(Failure::new(Step::MakeView, object, reason))
        };
        let places = places(tree, path);
        let in_the_way = |place: &Path| place != path && place.starts_with(path);
        let above = |point: &Path| {
            in_the_way(point)
                || places
                    .iter()
                    .any(|hidden| point != hidden && point.starts_with(hidden))
        };
        if let Some(point) = plan.points().iter().find(|point| above(&point.path)) {
            return refuse(format!(
                "the session needs {}, which is below it",
                point.path.display()
            ));
        }
        if let Some(bind) = binds.iter().find(|bind| above(&bind.destination)) {
            return refuse(format!("--bind {} is below it", bind.destination.display()));
        }
        let points = plan.points();
        let below = |point: &&PathBuf| {
            let mut all = places.iter().chain([path]);
            all.any(|hidden| hidden.starts_with(point))
        };
        if let Some(point) = points.iter().map(|point| &point.path).find(below) {
            return refuse(format!(
                "{} is the container's, and nothing of it is hidden",
                point.display()
            ));
        }
        if let Some(point) = binds.iter().map(|bind| &bind.destination).find(below) {
            return refuse(format!(
                "{} is bound, and nothing is hidden in what is bound",
                point.display()
            ));
        }
        if tree.is_the_hosts() {
            let shows = |bind: &&BindSpec| {
                let bound = self::places(tree, &bind.path);
                let bound = bound.iter().chain([&bind.path]);
                bound.into_iter().any(|bound| {
                    let mut hidden = places.iter();
                    hidden.any(|hidden| bound.starts_with(hidden) || hidden.starts_with(bound))
                })
            };
            if let Some(bind) = binds.iter().find(shows) {
                return refuse(format!(
                    "--bind {} would show it: nothing is hidden in what is bound",
                    bind.path.display()
                ));
            }
        }
        if open_in(tree.root.as_fd(), path, OFlag::O_PATH | OFlag::O_NOFOLLOW).is_err() {
            tracing::warn!("--hide {}: nothing is there yet", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_to_hide_are_absolute() {
        let read = |text: &str| {
            parse(text.into()).map(|path| path.into_os_string().into_string().unwrap())
        };
        assert_eq!(read("/a//b/./c/"), Ok("/a/b/c".to_owned()));
        for wrong in ["", "a", "/", "//", "/a/..", "./a"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
