//! C1, C3 and C6 to C8: how a command runs and ends.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::same;
use crate::command::{Running, finish, text};
use crate::container::SECRET;
use crate::kind::Sample;
use crate::world::MARK;

pub fn exit_codes(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    for (words, code) in [
        (&["sh", "-c", "exit 42"][..], 42),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["no-such-program"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let output = container.attach(&[], words)?;
        same(&output.to_string(), output.code(), Some(code))?;
        let lines = text(&output.stderr).lines().count();
        same("lines", lines, usize::from((126..128).contains(&code)))?;
    }
    let pid = container.pid.to_string();
    let output = finish(&mut container.cntr(&["attach", "--no-such-option", &pid]))?;
    ensure!(output.code() == Some(125), "{output}");
    Ok(())
}

pub fn pipes(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let output = container.feed(b"a\nb", &["wc", "-c"])?;
    same("bytes", text(&output.stdout).trim(), "3")?;
    // Every byte there is, many times; through pipes on both sides.
    let bytes: Vec<u8> = (0..4_000_000_u32)
        .map(|n| (n % 251) as u8 ^ (n >> 12) as u8)
        .collect();
    let pid = container.pid.to_string();
    let cntr = container.cntr(&["attach", &pid, "--", "cat"]);
    let words: Vec<_> = std::iter::once(cntr.get_program())
        .chain(cntr.get_args())
        .collect();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "cat | \"$@\" | cat", "sh"]).args(words);
    let variables = cntr
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    shell.env_clear().envs(variables);
    let output = Running::start(&mut shell, &bytes)?.end()?;
    ensure!(
        output.stdout == bytes,
        "{} bytes came back, not the same",
        output.stdout.len()
    );
    Ok(())
}

pub fn signals(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    for (signal, code) in [
        (Signal::SIGTERM, 7),
        (Signal::SIGHUP, 8),
        (Signal::SIGINT, 9),
    ] {
        let script = "trap 'exit 7' TERM; trap 'exit 8' HUP; trap 'exit 9' INT; echo ready; \
                      while :; do sleep 0.02; done";
        let mut session = container.session(&[], &["sh", "-c", script])?;
        session.expect("ready")?;
        kill(Pid::from_raw(session.pid()), signal)?;
        same(signal.as_str(), session.end()?.code(), Some(code))?;
    }
    Ok(())
}

pub fn environment(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let options = ["--env", "GIVEN=a b", "--env", "LANG", "--workdir", "/usr"];
    let output = container.attach(&options, &["sh", "-c", "pwd; cat /proc/self/environ"])?;
    let printed = output.succeeded()?;
    let (directory, environment) = printed.split_once('\n').context("two lines")?;
    same("directory", directory, "/usr")?;
    let variables: BTreeMap<&str, &str> = environment
        .split('\0')
        .filter_map(|entry| entry.split_once('='))
        .collect();
    same("GIVEN", variables.get("GIVEN"), Some(&"a b"))?;
    same("TERM", variables.get("TERM"), Some(&"dumb"))?;
    ensure!(!variables.contains_key(SECRET), "{environment:?}");
    same("MARK", variables.get("MARK"), Some(&MARK))?;
    // Everything of the container's that is not the tools' or the terminal's.
    let theirs = container.proc("environ")?;
    for (name, value) in theirs.split('\0').filter_map(|entry| entry.split_once('=')) {
        let replaced = [
            "PATH", "SHELL", "TERM", "LANG", "PWD", "SHLVL", "_", "OLDPWD",
        ];
        if !replaced.contains(&name) && !name.starts_with("LC_") && !name.starts_with("LD_") {
            same(name, variables.get(name), Some(&value))?;
        }
    }
    Ok(())
}

/// The session ends with the container if it has a pid namespace; its engine can stop and remove it.
pub fn the_container_stops(sample: &Sample) -> Result<()> {
    drop(sample.container()?);
    let mut container = sample.kind.start()?;
    let mut session = container.session(&[], &["sh", "-c", "echo ready; exec sleep 1000"])?;
    session.expect("ready")?;
    let ends = container.has_own("pid")?;
    container.stop()?;
    if ends {
        let output = session.end()?;
        ensure!(output.code() == Some(137), "{output}");
    } else {
        // It goes on, as is documented.
        ensure!(!session.has_ended()?, "the session has ended");
        kill(Pid::from_raw(session.pid()), Signal::SIGTERM)?;
        same("code", session.end()?.code(), Some(143))?;
    }
    container.remove()?;
    Ok(())
}
