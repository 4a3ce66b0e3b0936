//! Running programs of the machine.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use super::runner::Skip;

/// Where a program is, looked for in the search path and in the directories of system programs.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The program, or the reason why the test cannot run.
pub fn need(name: &str) -> Result<Command> {
    match find(name) {
        Some(path) => Ok(Command::new(path)),
        None => Err(Skip::new(format!("{name} is not installed")).into()),
    }
}

/// Runs to the end; an exit code other than 0 is an error that shows what was printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        printed(&output)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Both streams of a finished program.
pub fn printed(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
