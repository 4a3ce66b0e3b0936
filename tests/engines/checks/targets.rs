//! A30, D1 and D2: containers by name, those that are not there, and commands of their own in them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};

use super::{contains, same};
use crate::command::{finish, text};
use crate::container::{Container, unique};
use crate::kind::Sample;
use crate::world::MARK;

pub fn names(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let number = format!("process_id://{}", container.pid);
    for name in container.names.iter().chain([&number]) {
        // One that has no pid namespace is told from others by the whole of what it is.
        let script = "readlink /proc/self/ns/pid /proc/self/ns/uts /proc/self/ns/user; cat /proc/$CNTR_TARGET/cmdline";
        let mut attach = container.cntr(&["attach", name, "--", "sh", "-c", script]);
        let printed = finish(&mut attach)?
            .succeeded()
            .with_context(|| name.clone())?;
        let mut expected = String::new();
        for kind in ["pid", "uts", "user"] {
            expected += &format!("{}\n", container.namespace(kind)?);
        }
        expected += &container.proc("cmdline")?;
        same(name, printed, expected)?;
    }
    Ok(())
}

/// The one line with which cntr gives up on `name`.
fn reason(container: &Container, name: &str) -> Result<String> {
    for verb in ["exec", "attach"] {
        let output = finish(&mut container.cntr(&[verb, name, "--", "true"]))?;
        let said = text(&output.stderr);
        ensure!(output.code() == Some(125), "{output}");
        ensure!(said.lines().count() == 1, "{output}");
        if verb == "attach" {
            return Ok(said.trim().to_owned());
        }
    }
    unreachable!("attach comes last")
}

pub fn who_is_not_there(sample: &Sample) -> Result<()> {
    let first = sample.container()?;
    // The scheme of its engine.
    let scheme = first.0.names.iter().find_map(|name| name.split_once("://"));
    let scheme = scheme.context("a name with a scheme")?.0.to_owned();
    drop(first);
    let mut container = sample.kind.start()?;
    let unknown = match scheme.as_str() {
        "command" => "no process has that in its command line",
        _ => "called that",
    };
    let nobody = format!("{scheme}://{}", unique("nobody"));
    contains(&reason(&container, &nobody)?, unknown)?;
    let name = container.names.iter().find(|name| name.contains("://"));
    let name = name.context("a name with a scheme")?.clone();
    let number = format!("process_id://{}", container.pid);
    container.stop()?;
    contains(&reason(&container, &number)?, "there is no such process")?;
    let stopped = reason(&container, &name)?;
    let removed = container.remove()?;
    if removed && scheme != "command" {
        contains(&stopped, "start it first")?;
        contains(&reason(&container, &name)?, unknown)
    } else {
        contains(&stopped, unknown)
    }
}

/// What a command can see of itself, a fact in each line.
const FACTS: &str = "\
echo root $(stat -c %d:%i /)
echo directory $(pwd)
echo ids $(id -u) $(id -g) $(id -G)
for n in cgroup ipc mnt net pid time user uts; do echo namespace $n $(readlink /proc/self/ns/$n); done
while read line; do echo cgroup $line; done < /proc/self/cgroup
while read name rest; do case $name in Cap*|NoNewPrivs:) echo status $name $rest;; esac; done < /proc/self/status
env | while read line; do echo variable $line; done";

pub fn exec(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let facts = |printed: &str| -> BTreeSet<String> {
        let differs = |line: &str| {
            let known = sample.kind.exec_differs.iter();
            known.into_iter().any(|start| line.starts_with(start))
        };
        let lines = printed.lines().map(str::trim);
        lines
            .filter(|line| !differs(line))
            .map(str::to_owned)
            .collect()
    };
    let code = container.exec(&["/bin/sh", "-c", "exit 42"])?.code();
    same("code", code, Some(42))?;
    let ours = container.exec(&["/bin/sh", "-c", FACTS])?.succeeded()?;
    let Some(engine) = &container.exec else {
        // Nothing to compare with; it is in the container all the same.
        let root = fs::metadata(container.path(""))?;
        contains(&ours, &format!("root {}:{}\n", root.dev(), root.ino()))?;
        if container.path("proc/self").exists() {
            for kind in ["mnt", "pid", "user"] {
                contains(
                    &ours,
                    &format!("namespace {kind} {}", container.namespace(kind)?),
                )?;
            }
        }
        return contains(&ours, &format!("variable MARK={MARK}"));
    };
    let mut command = engine.command();
    command.args(["/bin/sh", "-c", FACTS]);
    let theirs = finish(&mut command)?.succeeded()?;
    let (ours, theirs) = (facts(&ours), facts(&theirs));
    ensure!(
        ours == theirs,
        "only cntr's: {:?}; only the engine's: {:?}",
        ours.difference(&theirs).collect::<Vec<_>>(),
        theirs.difference(&ours).collect::<Vec<_>>()
    );
    Ok(())
}
