//! What shells and man(1) are given.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{CNTR, cntr, contains, finish, same, text};

pub const CASES: &[Case] = crate::cases! {
    bash_completes needs "bash";
    a_script_for_bash_is_one needs "bash";
    a_script_for_zsh_is_one needs "zsh";
    a_script_for_fish_is_one needs "fish";
    a_module_for_nushell_is_one needs "nu";
    names_are_those_of_live_containers;
    every_subcommand_has_a_manual_page;
    manual_pages_have_no_mistakes needs "man";
};

const SUBCOMMANDS: [&str; 9] = [
    "attach",
    "exec",
    "run",
    "mount",
    "stat",
    "doctor",
    "demo",
    "completions",
    "man",
];

/// A directory with cntr and fake tools of engines, for the start of `PATH`.
fn tools() -> Result<tempfile::TempDir, Failed> {
    let directory = tempfile::tempdir()?;
    symlink(CNTR, directory.path().join("cntr"))?;
    let scripts = [
        (
            "docker",
            "test \"$1\" = ps && printf 'web-1\\nweb-2\\nother\\n'",
        ),
        // It has an answer and does not end.
        ("podman", "echo web-3; exec sleep 1000"),
        ("lxc-ls", "exit 1"),
        (
            "machinectl",
            "echo 'machine container systemd-nspawn'; echo other",
        ),
        ("runc", ":"),
        ("crun", ":"),
    ];
    for (name, script) in scripts {
        let path = directory.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(directory)
}

fn with_tools(program: &str, tools: &Path) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools.to_owned()).chain(std::env::split_paths(&path));
    let mut command = Command::new(program);
    command.env(
        "PATH",
        std::env::join_paths(paths).expect("no colon in a name"),
    );
    command
}

/// The script for a shell is in `$1` of what checks it.
fn check(shell: &str, arguments: &[&str]) -> Result<(), Failed> {
    let script = cntr(&["completions", if shell == "nu" { "nushell" } else { shell }])?;
    same("code", script.status.code(), Some(0))?;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), &script.stdout)?;
    let output = finish(Command::new(shell).args(arguments).arg(file.path()))?;
    same(&format!("{output:?}"), output.status.code(), Some(0))?;
    same("complaints", text(&output.stderr), String::new())
}

fn a_script_for_bash_is_one() -> Result<(), Failed> {
    check("bash", &["-n"])
}

fn a_script_for_zsh_is_one() -> Result<(), Failed> {
    check("zsh", &["-n"])
}

fn a_script_for_fish_is_one() -> Result<(), Failed> {
    check("fish", &["--no-execute"])
}

fn a_module_for_nushell_is_one() -> Result<(), Failed> {
    check("nu", &["--no-config-file"])
}

/// What a real bash offers for the last of `words`.
fn offered(tools: &Path, words: &[&str]) -> Result<Vec<String>, Failed> {
    let script = "\
        source <(cntr completions bash)\n\
        COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9; COMP_LINE=\"$*\"; COMP_POINT=${#COMP_LINE}\n\
        function=$(complete -p cntr | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
        $function cntr \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\" 2>/dev/null\n\
        printf '%s\\n' \"${COMPREPLY[@]}\"\n";
    let mut bash = with_tools("bash", tools);
    let output = finish(bash.args(["--norc", "-c", script, "bash"]).args(words))?;
    Ok(text(&output.stdout)
        .lines()
        .map(|line| line.trim().to_owned())
        .collect())
}

fn bash_completes() -> Result<(), Failed> {
    let tools = tools()?;
    let offered = |words: &[&str]| offered(tools.path(), words);
    let subcommands = offered(&["cntr", ""])?;
    for name in SUBCOMMANDS {
        same(
            &format!("{name} in {subcommands:?}"),
            subcommands.iter().any(|one| one == name),
            true,
        )?;
    }
    same(
        "what is hidden",
        subcommands.iter().any(|one| one.contains("__")),
        false,
    )?;
    same(
        "attach",
        offered(&["cntr", "att"])?,
        vec!["attach".to_owned()],
    )?;
    same(
        "option",
        offered(&["cntr", "exec", "--env-"])?,
        vec!["--env-file".to_owned()],
    )?;
    let types = offered(&["cntr", "attach", "--type", "do"])?;
    same("types", types, vec!["docker".to_owned()])?;
    for line in [
        &["cntr", "attach", "web"][..],
        &["cntr", "exec", "-it", "web"],
    ] {
        let names = offered(line)?;
        same(
            &format!("{line:?}"),
            names,
            ["web-1", "web-2", "web-3"].map(str::to_owned).to_vec(),
        )?;
    }
    Ok(())
}

fn names_are_those_of_live_containers() -> Result<(), Failed> {
    let tools = tools()?;
    let start = Instant::now();
    let output = finish(with_tools(CNTR, tools.path()).arg("__names"))?;
    same(
        "names",
        text(&output.stdout),
        "machine\nother\nweb-1\nweb-2\nweb-3\n".to_owned(),
    )?;
    // The tool that does not end has 1000 seconds.
    same("in time", start.elapsed() < Duration::from_secs(100), true)?;
    // Where there are no engines.
    let empty = tempfile::tempdir()?;
    let mut command = Command::new(CNTR);
    let output = finish(command.arg("__names").env("PATH", empty.path()))?;
    same(
        "none",
        (output.status.code(), output.stdout.len()),
        (Some(0), 0),
    )
}

/// The pages, in a directory that is made.
fn pages() -> Result<tempfile::TempDir, Failed> {
    let directory = tempfile::tempdir()?;
    let made = directory.path().join("man1");
    let output = cntr(&["man", made.to_str().ok_or("an odd path")?])?;
    same(&format!("{output:?}"), output.status.code(), Some(0))?;
    Ok(directory)
}

fn every_subcommand_has_a_manual_page() -> Result<(), Failed> {
    let directory = pages()?;
    let read = |name: &str| fs::read_to_string(directory.path().join("man1").join(name));
    let overview = read("cntr.1")?;
    for name in SUBCOMMANDS {
        contains(&overview, &format!("cntr\\-{name}(1)"))?;
        contains(&read(&format!("cntr-{name}.1"))?, ".SH SYNOPSIS")?;
    }
    contains(&read("cntr-attach.1")?, "\\-\\-env\\-file")?;
    let count = fs::read_dir(directory.path().join("man1"))?.count();
    same("pages", count, SUBCOMMANDS.len() + 1)?;
    let failed = cntr(&["man", "/proc/no/such"])?;
    same("code", failed.status.code(), Some(125))?;
    contains(&text(&failed.stderr), "/proc/no/such: ")
}

fn manual_pages_have_no_mistakes() -> Result<(), Failed> {
    let directory = pages()?;
    for entry in fs::read_dir(directory.path().join("man1"))? {
        let path = entry?.path();
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file"]).arg(&path);
        let output = finish(man.env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8"))?;
        same(&format!("{output:?}"), output.status.code(), Some(0))?;
        same(
            &path.display().to_string(),
            text(&output.stderr),
            String::new(),
        )?;
    }
    Ok(())
}
