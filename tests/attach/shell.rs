//! What shells and man(1) are given.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{CNTR, cntr, contains, deadline, finish, same, text, unique};
use crate::list::{Sleep, docker, machine, states};
use crate::names::Tools;

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

const SUBCOMMANDS: [&str; 10] = [
    "attach",
    "exec",
    "ls",
    "run",
    "mount",
    "stat",
    "doctor",
    "demo",
    "completions",
    "man",
];

/// Engines that are scripts with their answers, and the containers that they name.
struct Engines {
    tools: Tools,
    /// How all names start that they give.
    name: String,
    _containers: Vec<Sleep>,
}

impl Engines {
    fn new() -> Result<Engines, Failed> {
        let tools = Tools::new();
        symlink(CNTR, tools.0.join("cntr"))?;
        let name = format!("web-{}", unique());
        let containers: Vec<Sleep> = (0..4).map(|_| Sleep::new()).collect::<Result<_, _>>()?;
        let of = |number: usize| (format!("{name}-{number}"), containers[number].pid());
        let ((first, pid), (second, its_pid), (third, last_pid)) = (of(1), of(2), of(3));
        tools
            .add("docker", &docker(&first, pid))
            // Another container that is called the same.
            .add("crun", &states(&first, containers[0].pid()))
            .add("runc", &states(&second, its_pid))
            .add("machinectl", &machine(&third, last_pid))
            .add("lxc-ls", "exit 1")
            .add("podman", "exec /bin/sleep 1000");
        Ok(Engines {
            tools,
            name,
            _containers: containers,
        })
    }

    /// `program`, which has the tools before all others.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Output, Failed> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(self.tools.0.clone()).chain(std::env::split_paths(&path));
        let paths = std::env::join_paths(paths).expect("no colon in a name");
        let mut command = Command::new(program);
        command.args(arguments).env("PATH", paths);
        finish(self.tools.without_daemons(&mut command))
    }

    /// What a real bash offers for the last of `words`.
    fn offered(&self, words: &[&str]) -> Result<Vec<String>, Failed> {
        self.offered_in(&words.join(" "), words)
    }

    /// What a real bash offers at the end of `line`, of which it has made `words`.
    fn offered_in(&self, line: &str, words: &[&str]) -> Result<Vec<String>, Failed> {
        let script = "\
            source <(cntr completions bash)\n\
            COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9; COMP_LINE=$0; COMP_POINT=${#COMP_LINE}\n\
            function=$(complete -p cntr | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
            $function cntr \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\" 2>/dev/null\n\
            printf '%s\\n' \"${COMPREPLY[@]}\"\n";
        let output = self.run("bash", &[&["--norc", "-c", script, line], words].concat())?;
        let text = text(&output.stdout);
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    }
}

/// `names` gives `expected`, if not at once then later: where much else runs, nobody answers within a second.
fn soon(
    what: &str,
    expected: &[String],
    names: impl Fn() -> Result<Vec<String>, Failed>,
) -> Result<(), Failed> {
    let end = Instant::now() + deadline();
    loop {
        let names = names()?;
        if names == expected || Instant::now() > end {
            return same(what, names.as_slice(), expected);
        }
    }
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

fn bash_completes() -> Result<(), Failed> {
    let engines = Engines::new()?;
    let offered = |words: &[&str]| engines.offered(words);
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
    let name = engines.name.as_str();
    let unique = ["2", "3"].map(|number| format!("{name}-{number}"));
    for line in [
        &["cntr", "attach", name][..],
        &["cntr", "exec", "-it", name],
    ] {
        soon(&format!("{line:?}"), &unique, || offered(line))?;
    }
    // Only what comes after the colon, which for bash is a word.
    let (line, rest) = (format!("cntr attach crun://{name}"), format!("//{name}"));
    let one = [format!("{rest}-1")];
    soon("one of two", &one, || {
        engines.offered_in(&line, &["cntr", "attach", "crun", ":", &rest])
    })?;
    // With a blank behind it, it is no part of what is typed.
    let words = ["cntr", "attach", "crun", ":", "--he"];
    let option = engines.offered_in("cntr attach crun: --he", &words)?;
    same("another word", option, vec!["--help".to_owned()])?;
    // A container, or a directory; a file is neither.
    let made = tempfile::Builder::new()
        .prefix(&format!("{name}-d"))
        .tempdir()?;
    fs::create_dir(made.path().join("inner"))?;
    fs::write(made.path().join("in-a-file"), "")?;
    soon("containers", &unique, || {
        offered(&["cntr", "attach", "--from", name])
    })?;
    let typed = made.path().join("in").display().to_string();
    let directory = format!("{}/", made.path().join("inner").display());
    same(
        "directories",
        offered(&["cntr", "attach", "--from", &typed])?,
        vec![directory],
    )
}

fn names_are_those_of_live_containers() -> Result<(), Failed> {
    let engines = Engines::new()?;
    let name = engines.name.as_str();
    let expected = [
        format!("crun://{name}-1"),
        format!("docker://{name}-1"),
        format!("{name}-2"),
        format!("{name}-3"),
    ];
    soon("names", &expected, || {
        let start = Instant::now();
        let output = engines.run(CNTR, &["__names"])?;
        // The tool that does not end has 1000 seconds.
        same("in time", start.elapsed() < Duration::from_secs(100), true)?;
        same("complaints", text(&output.stderr), String::new())?;
        // Other tests have containers, too.
        let names = text(&output.stdout);
        let own = names.lines().filter(|line| line.contains(name));
        Ok(own.map(str::to_owned).collect())
    })?;
    // Where there are no engines.
    let output = Tools::new().cntr(&["__names"])?;
    same("none", output.status.code(), Some(0))?;
    same("complaints", text(&output.stderr), String::new())
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
