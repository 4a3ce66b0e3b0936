//! Network namespaces with a name, as ip-netns(8) makes them: the processes that live in one.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{Answer, Engine, Found, process};

/// Where the names are.
const DIRECTORY: &str = "/run/netns";

pub fn find(name: &str) -> Answer {
    if name.contains('/') || name == "." || name == ".." {
        return Answer::Unknown;
    }
    let identity = |path: String| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let Some(namespace) = identity(format!("{DIRECTORY}/{name}")) else {
        return Answer::Unknown;
    };
    let lives = |pid: &i32| identity(format!("/proc/{pid}/ns/net")) == Some(namespace);
    // Who asks may be in it.
    let ancestors = process::ancestors();
    let inside: Vec<i32> = process::all()
        .filter(lives)
        .filter(|pid| !ancestors.contains(pid))
        .collect();
    // A process that another one of them has started belongs to that.
    let starts = |pid: &&i32| process::parent(**pid).is_none_or(|above| !inside.contains(&above));
    let found: Vec<Found> = inside
        .iter()
        .filter(starts)
        .map(|pid| Found::new(Engine::Netns, name, *pid))
        .collect();
    if found.is_empty() {
        Answer::NotRunning(format!(
            "{name} (no process lives in this network namespace)"
        ))
    } else {
        Answer::Found(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_none_can_have() {
        for name in ["..", ".", "../net", "no-such-namespace-of-a-test"] {
            assert_eq!(find(name), Answer::Unknown, "{name}");
        }
    }
}
