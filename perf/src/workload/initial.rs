//! Initial states of directories: what is made once and kept, what is made anew for every round.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Makes an empty directory of that path; what was there is removed.
pub fn empty(directory: &Path) -> Result<()> {
    remove(directory)?;
    fs::create_dir(directory).with_context(|| format!("cannot create {}", directory.display()))
}

/// Removes a file or a tree, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes something that lasts over rounds: calls `make` unless it has succeeded before in this directory with the same
/// `recipe`. Returns whether it was made now. The note of that is the file `.made-NAME`.
pub fn once(
    directory: &Path,
    name: &str,
    recipe: &str,
    make: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    let note = note(directory, name);
    if fs::read_to_string(&note).is_ok_and(|found| found == recipe) {
        return Ok(false);
    }
    remove(&note)?;
    make()?;
    fs::write(&note, recipe).with_context(|| format!("cannot write {}", note.display()))?;
    Ok(true)
}

/// Has the thing of that name made anew the next time.
pub fn forget(directory: &Path, name: &str) -> Result<()> {
    remove(&note(directory, name))
}

fn note(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!(".made-{name}"))
}

/// Writes everything back to the file system's device, so that this does not happen during the measurement.
pub fn settle(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|file| Ok(nix::unistd::syncfs(&file)?))
        .with_context(|| format!("cannot sync the file system of {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_kept_until_the_recipe_changes() {
        let place = tempfile::tempdir().unwrap();
        let mut made = 0;
        for recipe in ["one", "one", "two"] {
            once(place.path(), "thing", recipe, || {
                made += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(made, 2);
        let fails = || anyhow::bail!("no");
        assert!(once(place.path(), "thing", "three", fails).is_err());
        let again = once(place.path(), "thing", "two", || Ok(())).unwrap();
        assert!(again, "a failed attempt leaves nothing that could be kept");
        forget(place.path(), "thing").unwrap();
        assert!(once(place.path(), "thing", "two", || Ok(())).unwrap());
    }

    #[test]
    fn empty_means_empty() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("d");
        empty(&directory).unwrap();
        fs::create_dir(directory.join("sub")).unwrap();
        fs::write(directory.join("sub/file"), "x").unwrap();
        empty(&directory).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        remove(&directory).unwrap();
        remove(&directory).unwrap();
        settle(place.path()).unwrap();
    }
}
