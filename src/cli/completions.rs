//! `cntr completions`: what shells need to complete cntr's command line.
//!
//! Bash, Elvish, Fish, PowerShell and Zsh get a short script that asks cntr itself, with an environment variable, so that it
//! fits whatever version is installed. Nushell gets a module that knows the options, and asks for names only.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap_complete::env::{Bash, CompleteEnv, Elvish, EnvCompleter, Fish, Powershell, Zsh};
use clap_complete_nushell::Nushell;

/// Print a script that completes cntr's subcommands, options and the names of live containers
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  cntr completions bash > /etc/bash_completion.d/cntr
  cntr completions zsh > /usr/local/share/zsh/site-functions/_cntr
  cntr completions fish > ~/.config/fish/completions/cntr.fish
  cntr completions elvish >> ~/.config/elvish/rc.elv
  cntr completions nushell > cntr.nu; then, in config.nu: use cntr.nu *

cntr has to be on PATH. Engines that do not say within a second which containers they have are left out. A name that
several engines know is completed as ENGINE://NAME.")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell that can complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// Bash
    Bash,
    /// Elvish
    Elvish,
    /// Fish
    Fish,
    /// Nushell
    Nushell,
    /// PowerShell
    Powershell,
    /// Zsh
    Zsh,
}

/// The environment variable by which a script asks.
const VARIABLE: &str = "CNTR_COMPLETE";

/// What the program is called.
const NAME: &str = "cntr";

/// Runs `cntr completions`.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    let completer: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Elvish => &Elvish,
        Shell::Fish => &Fish,
        Shell::Powershell => &Powershell,
        Shell::Zsh => &Zsh,
        Shell::Nushell => {
            std::io::stdout().write_all(nushell().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    completer.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
    if args.shell == Shell::Bash {
        script = bash(&script);
    }
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Answers a script that asks how `arguments` go on; false if none does.
///
/// # Errors
/// Those of clap, for a shell that it does not know.
pub fn answer(arguments: &[OsString]) -> Result<bool, clap::Error> {
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(super::command)
        .var(VARIABLE)
        .try_complete(arguments.to_vec(), directory.as_deref())
}

/// clap's script for Bash, called by one that knows what Bash makes of colons.
fn bash(script: &[u8]) -> Vec<u8> {
    let script = String::from_utf8_lossy(script);
    let script = script.replace(" -F _clap_complete_cntr ", " -F _cntr ");
    (script + include_str!("completions.bash")).into_bytes()
}

/// The module for Nushell: clap's, with the names of containers where one is expected.
fn nushell() -> String {
    const COMPLETER: &str = "nu-complete cntr names";
    let mut script = Vec::new();
    clap_complete::generate(Nushell, &mut super::command(), NAME, &mut script);
    let script = String::from_utf8_lossy(&script);
    let mut lines = Vec::new();
    let mut expects_container = false;
    for line in script.lines() {
        let text = line.trim_start();
        if text.starts_with("export extern") {
            let names = ["attach", "exec"];
            expects_container = names
                .iter()
                .any(|name| text.contains(&format!("\"{NAME} {name}\"")));
        }
        // `target: string  # what it is`; with a question mark if it may be left out.
        let rest = text
            .strip_prefix("target: string")
            .or_else(|| text.strip_prefix("target?: string"));
        match rest.filter(|_| expects_container) {
            Some(rest) => {
                let start = &line[..line.len() - rest.len()];
                lines.push(format!("{start}@\"{COMPLETER}\"{rest}"));
            }
            None => lines.push(line.to_owned()),
        }
        if text == "module completions {" {
            lines.push(format!(
                "\n  def \"{COMPLETER}\" [] {{\n    ^{NAME} __names | lines\n  }}"
            ));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nushell_asks_for_names_of_containers() {
        let script = nushell();
        for expected in [
            "def \"nu-complete cntr names\" []",
            "^cntr __names | lines",
            "export extern \"cntr attach\"",
            "target: string@\"nu-complete cntr names\"",
            "target?: string@\"nu-complete cntr names\"",
        ] {
            assert!(script.contains(expected), "{expected} is not in {script}");
        }
    }
}
