//! `cntr __names`: the names of live containers, for completion. Whoever waits at the prompt does not wait long.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Duration;

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};

use crate::resolve::{self, Found, Reference};

/// Print the names of live containers
#[derive(clap::Args, Debug)]
pub struct NamesArgs {}

/// How long engines may take to answer.
const DEADLINE: Duration = Duration::from_secs(1);

/// Runs `cntr __names`.
pub fn run(_args: &NamesArgs) -> anyhow::Result<ExitCode> {
    for name in names(&live()) {
        println!("{name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Containers whose name starts with what was typed.
pub fn complete(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else {
        return Vec::new();
    };
    matching(&live(), typed)
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// The same, and directories; what is a path already is no container's name.
pub fn complete_with_directories(typed: &OsStr) -> Vec<CompletionCandidate> {
    let is_path = typed
        .to_str()
        .is_none_or(|typed| typed.starts_with(['/', '.']));
    let mut candidates = if is_path { Vec::new() } else { complete(typed) };
    candidates.extend(PathCompleter::dir().complete(typed));
    candidates
}

/// What the engines know that answer in time.
fn live() -> Vec<Found> {
    resolve::list(&[], DEADLINE).found
}

/// Those that start with `typed`; once that says which engine, all are called in full.
fn matching(found: &[Found], typed: &str) -> Vec<String> {
    let mut names = if typed.contains("://") {
        sorted(found.iter().map(Found::reference))
    } else {
        names(found)
    };
    names.retain(|name| name.starts_with(typed));
    names
}

/// What to call each of them, as briefly as it is understood.
fn names(found: &[Found]) -> Vec<String> {
    sorted(found.iter().map(|one| {
        let others = found.iter().filter(|other| other.name == one.name);
        if others.count() == 1 && is_enough(&one.name) {
            one.name.clone()
        } else {
            one.reference()
        }
    }))
}

/// Whether `name` alone is taken for a container's: a number is a process's.
fn is_enough(name: &str) -> bool {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let reference = name.parse::<Reference>();
    !is_number && reference.is_ok_and(|reference| reference.engine.is_none())
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;
    use crate::resolve::Engine;

    fn found(all: &[(Engine, &str)]) -> Vec<Found> {
        let one = |(pid, (engine, name)): (i32, &(Engine, &str))| Found {
            engine: *engine,
            name: (*name).to_owned(),
            pid: Pid::from_raw(pid),
            id: String::new(),
            image: String::new(),
        };
        (1..).zip(all).map(one).collect()
    }

    #[test]
    fn names_are_as_brief_as_they_are_understood() {
        let found = found(&[
            (Engine::Docker, "web"),
            (Engine::Docker, "db"),
            (Engine::Docker, "1234"),
            (Engine::Podman, "web"),
            (Engine::Cri, "shop/web-0/web"),
            (Engine::Runc, "docker://odd"),
        ]);
        let all = [
            "db",
            "docker://1234",
            "docker://web",
            "podman://web",
            "runc://docker://odd",
            "shop/web-0/web",
        ];
        assert_eq!(names(&found), all);
        for name in names(&found) {
            assert!(name.parse::<Reference>().is_ok(), "{name}");
        }
        assert_eq!(matching(&found, "d"), &all[..3]);
        assert_eq!(
            matching(&found, "docker://"),
            ["docker://1234", "docker://db", "docker://web"]
        );
        assert_eq!(matching(&found, "podman://x"), Vec::<String>::new());
    }
}
