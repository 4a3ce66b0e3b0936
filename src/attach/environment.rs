//! The environment of the command.
//!
//! A session has the container's environment, with these differences because its tools are the host's:
//!
//! * `PATH` and `SHELL` are the caller's, or those of the container that the files come from; `SHELL` only if it is there.
//! * `TERM`, `COLORTERM`, `TERM_PROGRAM`, `NO_COLOR`, `LANG`, `LANGUAGE` and `LC_*` are the caller's: they describe the
//!   terminal and the person in front of it. Where the caller has none, the container's stay.
//! * `LD_*` are left out: they make the loader read libraries of the container, which do not fit host programs.
//! * `HOME` is the container's, or with `--user` that user's; without one it is taken from the container's passwd file, else it is `/`.
//! * `TZ` is the container's; without one, and if the container has no `/etc/localtime`, it is `UTC`, which is the
//!   container's zone then.
//! * `CNTR_BASE_DIR` and `CNTR_TARGET` say where the container is and which of its processes the session belongs to
//!   (a pid of the container's namespace); `cntr exec` without a target uses them.
//! * `--env` comes last. Nothing else of the caller's environment gets in.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

/// A request of the user about one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Give it this value.
    Set(OsString, OsString),
    /// Give it the caller's value; nothing happens if the caller has none.
    Pass(OsString),
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        match text.split_once('=') {
            Some(("", _)) => Err("the name of the variable is missing".to_owned()),
            Some((name, value)) => Ok(Setting::Set(name.into(), value.into())),
            None if text.is_empty() => Err("the name of the variable is missing".to_owned()),
            None => Ok(Setting::Pass(text.into())),
        }
    }
}

/// Variables in order; a name occurs once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(Vec<(OsString, OsString)>);

const USERS: &[&str] = &[
    "TERM",
    "COLORTERM",
    "TERM_PROGRAM",
    "NO_COLOR",
    "LANG",
    "LANGUAGE",
];

/// Where tools are looked for if the caller has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Environment {
    /// The caller's.
    #[must_use]
    pub fn own() -> Environment {
        Environment(std::env::vars_os().collect())
    }

    /// From `NAME=value` entries.
    #[must_use]
    pub fn from_entries(entries: &[Vec<u8>]) -> Environment {
        let mut environment = Environment::default();
        for entry in entries {
            // A name may not be empty; what has no '=' is no variable.
            let Some(split) = entry.iter().skip(1).position(|byte| *byte == b'=') else {
                continue;
            };
            let (name, value) = (&entry[..=split], &entry[split + 2..]);
            environment.set(
                OsString::from_vec(name.to_vec()),
                OsString::from_vec(value.to_vec()),
            );
        }
        environment
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    }

    /// Sets `name`.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes out what `predicate` names.
    pub fn remove(&mut self, predicate: impl Fn(&[u8]) -> bool) {
        self.0.retain(|(name, _)| !predicate(name.as_bytes()));
    }

    /// Sets `name` unless it has a value.
    pub fn set_default(&mut self, name: &str, value: impl Into<OsString>) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    /// Takes over the caller's terminal and language.
    fn adopt_terminal(&mut self, caller: &Environment) {
        for (name, value) in &caller.0 {
            if USERS.iter().any(|listed| name == *listed) || name.as_bytes().starts_with(b"LC_") {
                self.set(name, value);
            }
        }
    }

    /// Makes the container's environment one for the host's tools, which are found on `path`.
    pub fn adopt_tools(&mut self, path: OsString, shell: Option<&OsString>, caller: &Environment) {
        self.remove(|name| name.starts_with(b"LD_"));
        self.set("PATH", path);
        match shell {
            Some(shell) => self.set("SHELL", shell),
            None => self.remove(|name| name == b"SHELL"),
        }
        self.adopt_terminal(caller);
    }

    /// Applies the user's wishes.
    pub fn apply(&mut self, settings: &[Setting], caller: &Environment) {
        for setting in settings {
            match setting {
                Setting::Set(name, value) => self.set(name, value),
                Setting::Pass(name) => {
                    if let Some((name, value)) = caller.0.iter().find(|(other, _)| other == name) {
                        self.set(name, value);
                    }
                }
            }
        }
    }

    /// As execve(2) wants it; what contains NUL is left out.
    #[must_use]
    pub fn to_entries(&self) -> Vec<CString> {
        let entry = |(name, value): &(OsString, OsString)| {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            CString::new(entry.into_vec()).ok()
        };
        self.0.iter().filter_map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(entries: &[&str]) -> Environment {
        Environment::from_entries(
            &entries
                .iter()
                .map(|entry| entry.as_bytes().to_vec())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn the_containers_variables_stay_and_the_callers_do_not_leak() {
        let mut session = environment(&[
            "A=1",
            "PATH=/c",
            "LD_PRELOAD=/x.so",
            "TERM=dumb",
            "E=a=b",
            "broken",
            "=x",
        ]);
        let caller = environment(&[
            "PATH=/h",
            "SECRET=s",
            "TERM=xterm",
            "LC_ALL=C",
            "SHELL=/bin/zsh",
            "P=q",
        ]);
        session.adopt_tools("/h".into(), caller.get("SHELL"), &caller);
        session.apply(
            &[
                "P".parse().unwrap(),
                "N=v=w".parse().unwrap(),
                "NONE".parse().unwrap(),
            ],
            &caller,
        );
        let expected = environment(&[
            "A=1",
            "PATH=/h",
            "TERM=xterm",
            "E=a=b",
            "SHELL=/bin/zsh",
            "LC_ALL=C",
            "P=q",
            "N=v=w",
        ]);
        assert_eq!(session, expected);
        assert!("=x".parse::<Setting>().is_err());
    }
}
