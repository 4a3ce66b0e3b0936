//! The two meanings of `-t`: `-t docker` says where to look, as cntr has it; `-t` alone asks for a terminal, as
//! `docker exec` has it.
//!
//! clap knows `-t` as the short form of `--tty` only. So where a list of types follows it, it is written out as `--type`
//! before clap sees it. A `-t` in a cluster (`-it`) always asks for a terminal.

use std::ffi::{OsStr, OsString};

use clap::ValueEnum;

use crate::resolve::Engine;

/// The subcommands that have both.
const SUBCOMMANDS: [&str; 2] = ["attach", "exec"];

/// Writes out `-t TYPE[,TYPE]` as `--type TYPE[,TYPE]` in `arguments`, of which the first is the program's name. `root`
/// describes the command line; it is only asked if there is a `-t`.
#[must_use]
pub fn expand(arguments: &[OsString], root: impl FnOnce() -> clap::Command) -> Vec<OsString> {
    let mut out = arguments.to_vec();
    let is_short = |word: &OsString| word.as_encoded_bytes().starts_with(b"-t");
    let Some(start) = subcommand(arguments).filter(|_| arguments.iter().any(is_short)) else {
        return out;
    };
    let root = root();
    let Some(command) = arguments[start]
        .to_str()
        .and_then(|name| root.find_subcommand(name))
    else {
        return out;
    };
    let mut at = start + 1;
    let mut positionals = 0;
    // What follows the container's name belongs to the command, from the first word that is no option.
    while at < out.len() && positionals < 2 {
        let word = out[at].to_str().unwrap_or_default().to_owned();
        let next = out.get(at + 1);
        match word.as_str() {
            "--" => break,
            "-t" if next.is_some_and(|next| is_types(next)) => {
                out[at] = "--type".into();
                at += 1;
            }
            "-" => positionals += 1,
            long if long.starts_with("--") => {
                let name = &long[2..];
                let takes = |arg: &clap::Arg| arg.get_long() == Some(name) && takes_value(arg);
                at += usize::from(command.get_arguments().any(takes));
            }
            short if short.starts_with('-') => match short.strip_prefix("-t") {
                Some(types) if is_types(OsStr::new(types)) => {
                    out[at] = format!("--type={types}").into();
                }
                _ => at += usize::from(ends_with_option(&short[1..], command)),
            },
            _ => positionals += 1,
        }
        at += 1;
    }
    out
}

/// Where the name of one of the subcommands is. All options before it are switches.
fn subcommand(arguments: &[OsString]) -> Option<usize> {
    let is_switch = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with('-'));
    let at = arguments.iter().skip(1).position(|word| !is_switch(word))? + 1;
    SUBCOMMANDS
        .iter()
        .any(|name| arguments[at] == *name)
        .then_some(at)
}

fn takes_value(arg: &clap::Arg) -> bool {
    arg.get_action().takes_values()
}

/// Whether the last letter of a cluster of short options is one whose value is the next word.
fn ends_with_option(cluster: &str, command: &clap::Command) -> bool {
    let takes = |letter: char| {
        command
            .get_arguments()
            .any(|arg| arg.get_short() == Some(letter) && takes_value(arg))
    };
    // After the first that takes a value comes its value.
    cluster
        .char_indices()
        .find(|(_, letter)| takes(*letter))
        .is_some_and(|(at, letter)| at + letter.len_utf8() == cluster.len())
}

/// Whether `word` is a list of types.
fn is_types(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| {
        word.split(',')
            .all(|name| Engine::from_str(name, false).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let words: Vec<String> = expand(&words, crate::cli::command)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn a_list_of_types_is_told_from_a_wish_for_a_terminal() {
        for (line, expected) in [
            ("cntr attach -t docker web", "cntr attach --type docker web"),
            ("cntr exec -tlxc web", "cntr exec --type=lxc web"),
            (
                "cntr -v attach -t podman,lxc web -t docker",
                "cntr -v attach --type podman,lxc web --type docker",
            ),
            (
                "cntr exec -e A=b --workdir /x -vit -t process-id 7 ls",
                "cntr exec -e A=b --workdir /x -vit --type process-id 7 ls",
            ),
            ("cntr exec -ve A -t pid 7", "cntr exec -ve A --type pid 7"),
            ("cntr exec -t web docker", "cntr exec -t web docker"),
            ("cntr exec -t dockre web", "cntr exec -t dockre web"),
            ("cntr exec -it docker sh", "cntr exec -it docker sh"),
            ("cntr exec -ti docker sh", "cntr exec -ti docker sh"),
            // The value of an option, the command, and other subcommands.
            ("cntr exec -e -t docker sh", "cntr exec -e -t docker sh"),
            ("cntr exec web ls -t docker", "cntr exec web ls -t docker"),
            ("cntr exec -- ls -t docker", "cntr exec -- ls -t docker"),
            ("cntr mount -t docker /x", "cntr mount -t docker /x"),
            ("cntr", "cntr"),
            ("cntr exec -t", "cntr exec -t"),
        ] {
            assert_eq!(expanded(line), expected, "{line}");
        }
    }
}
