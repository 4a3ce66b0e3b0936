//! Targets as they are written down.
//!
//! ```toml
//! [[target]]
//! name = "bindfs"
//! about = "bindfs with its default options"
//! kind = "mount"                    # or "session"; "native" is only ours
//! program = "bindfs"                # a name in PATH, a path, {cntr}, or {perf}: the program that runs
//! command = ["{program}", "-f", "{source}", "{mountpoint}"]
//! version = ["{program}", "--version"]
//! foreground = true                 # false: it goes into the background once it has mounted
//! file_system = "fuse.bindfs"       # how the type in /proc/self/mountinfo begins
//! needs_uring = false               # the fuse module must have enable_uring=Y
//! requires = []                     # further programs
//! parameters = { threads = 1 }      # what is worth knowing; `transport` of our engine is checked
//! path_prefix = ""                  # for sessions: where the host's root directory is inside
//! leaves = []                       # for sessions: empty directories that it makes and does not remove
//! ```
//!
//! `{source}` is the directory, `{mountpoint}` where it is to appear, `{scratch}` and `{empty}` two empty directories, for
//! mounts on the same file
//! system as the source; `{pid}` the first process of the container, `{container}` its name for the engine, `{root}` its
//! root directory; `{cntr}` our own program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::TargetError;
use super::placeholder;
use crate::result::TargetKind;

/// One `[[target]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Unique name.
    pub name: String,
    /// One line about it.
    pub about: String,
    /// What kind of target.
    pub kind: TargetKind,
    /// The program that serves it or enters it: a name, a path, `{cntr}` or `{perf}`.
    pub program: Option<String>,
    /// The command line, with placeholders.
    #[serde(default)]
    pub command: Vec<String>,
    /// The command line that tells the version.
    #[serde(default)]
    pub version: Vec<String>,
    /// Whether the server stays in the foreground.
    #[serde(default = "yes")]
    pub foreground: bool,
    /// How the type of its file system begins. A mount is `fuse` unless it says more; a session without it shows the
    /// directory itself.
    pub file_system: Option<String>,
    /// Whether it needs FUSE over io_uring.
    #[serde(default)]
    pub needs_uring: bool,
    /// What is worth knowing about it.
    #[serde(default)]
    pub parameters: BTreeMap<String, toml::Value>,
    /// Further programs that it needs.
    #[serde(default)]
    pub requires: Vec<String>,
    /// For a session: where the root directory of the host is inside.
    #[serde(default)]
    pub path_prefix: PathBuf,
    /// For a session: empty directories that it makes and does not remove.
    #[serde(default)]
    pub leaves: Vec<PathBuf>,
}

fn yes() -> bool {
    true
}

/// Placeholders by the kind of target.
const OF_MOUNTS: &[&str] = &[
    "program",
    "cntr",
    "source",
    "mountpoint",
    "scratch",
    "empty",
];
const OF_SESSIONS: &[&str] = &["program", "cntr", "pid", "container", "root", "scratch"];

impl Spec {
    /// The targets in the text of `file`.
    ///
    /// # Errors
    /// It is not TOML of this form, or a target makes no sense.
    pub fn parse(text: &str, file: &Path) -> Result<Vec<Spec>, TargetError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Targets {
            #[serde(default)]
            target: Vec<Spec>,
        }
        let targets: Targets = toml::from_str(text).map_err(|source| TargetError::Format {
            file: file.to_owned(),
            source: Box::new(source),
        })?;
        let mut names = BTreeSet::new();
        for spec in &targets.target {
            let problem = spec
                .problem()
                .or_else(|| (!names.insert(&spec.name)).then(|| "stands there twice".to_owned()));
            if let Some(problem) = problem {
                return Err(TargetError::Invalid {
                    file: file.to_owned(),
                    target: spec.name.clone(),
                    problem,
                });
            }
        }
        Ok(targets.target)
    }

    fn problem(&self) -> Option<String> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        if self.name.is_empty() || !self.name.bytes().all(word) {
            return Some("a name has letters, digits, '-', '_', '.' and '+' only".to_owned());
        }
        if ["all", "found"].contains(&self.name.as_str()) {
            return Some("this name stands for all targets that are available".to_owned());
        }
        let known = match self.kind {
            TargetKind::Native => {
                let none = self.command.is_empty() && self.program.is_none();
                return (!none).then(|| "a native target has no command".to_owned());
            }
            TargetKind::Mount => OF_MOUNTS,
            TargetKind::Session => OF_SESSIONS,
        };
        if self.program.is_none() || self.command.is_empty() {
            return Some("`program` or `command` is missing".to_owned());
        }
        if self.kind == TargetKind::Mount {
            for needed in ["source", "mountpoint"] {
                if !self.uses(needed) {
                    return Some(format!("the command has no {{{needed}}}"));
                }
            }
            if !self.path_prefix.as_os_str().is_empty() || !self.leaves.is_empty() {
                return Some("`path_prefix` and `leaves` are for sessions".to_owned());
            }
        }
        if self.kind == TargetKind::Session && !self.foreground {
            return Some("`foreground` is for mounts".to_owned());
        }
        let unknown = |words: &[String], known: &[&str]| {
            let mut all = words.iter().flat_map(|word| placeholder::names(word));
            let name = all.find(|name| !known.contains(name))?;
            Some(format!(
                "{{{name}}} stands for nothing here; there are {}",
                braced(known)
            ))
        };
        unknown(&self.command, known).or_else(|| unknown(&self.version, &["program", "cntr"]))
    }

    /// Whether `{name}` is in its command line.
    pub fn uses(&self, name: &str) -> bool {
        self.command
            .iter()
            .any(|word| placeholder::names(word).any(|found| found == name))
    }

    /// How the type of its file system has to begin, if it has to be FUSE.
    pub fn fuse(&self) -> Option<&str> {
        match self.kind {
            TargetKind::Native => None,
            TargetKind::Mount => Some(self.file_system.as_deref().unwrap_or("fuse")),
            TargetKind::Session => self.file_system.as_deref(),
        }
    }

    /// Whether our own engine serves it.
    pub fn ours(&self) -> bool {
        self.program.as_deref() == Some("{cntr}")
    }

    /// Its parameters as text.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        self.parameters
            .iter()
            .map(|(name, value)| {
                let text = match value {
                    toml::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                (name.clone(), text)
            })
            .collect()
    }
}

/// Names as they are written in a command line.
fn braced(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        [[target]]
        name = "sample"
        about = "a server"
        kind = "mount"
        program = "sample-server"
        command = ["{program}", "-o", "dir={source}", "{mountpoint}"]
        version = ["{program}", "-V"]
        foreground = false
        file_system = "fuse.sample"
        needs_uring = true
        parameters = { threads = 4, attr_timeout = "1 s", cached = true }
        requires = ["fusermount3"]
    "#;

    fn parse(text: &str) -> Result<Vec<Spec>, TargetError> {
        Spec::parse(text, Path::new("my.toml"))
    }

    /// The error with its source, as it is printed.
    fn complaint(text: &str) -> String {
        format!("{:#}", anyhow::Error::new(parse(text).unwrap_err()))
    }

    #[test]
    fn everything_that_can_be_said() {
        let specs = parse(WHOLE).unwrap();
        let [spec] = &specs[..] else {
            panic!("{specs:?}")
        };
        assert_eq!(spec.name, "sample");
        assert_eq!(spec.kind, TargetKind::Mount);
        assert!(!spec.foreground && spec.needs_uring && !spec.ours());
        assert_eq!(spec.fuse(), Some("fuse.sample"));
        assert_eq!(spec.requires, ["fusermount3"]);
        let parameters: Vec<_> = spec.parameters().into_iter().collect();
        assert_eq!(parameters[0], ("attr_timeout".to_owned(), "1 s".to_owned()));
        assert_eq!(parameters[1], ("cached".to_owned(), "true".to_owned()));
        assert_eq!(parameters[2], ("threads".to_owned(), "4".to_owned()));
    }

    #[test]
    fn little_need_be_said() {
        let specs = parse("[[target]]\nname='x'\nabout='y'\nkind='native'").unwrap();
        assert!(specs[0].foreground);
        assert_eq!(specs[0].fuse(), None);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        let with = |from: &str, to: &str| complaint(&WHOLE.replace(from, to));
        let cases = [
            (with("about", "abuot"), "unknown field `abuot`"),
            (with("[[target]]", "[[targets]]"), "unknown field `targets`"),
            (with("about = \"a server\"", ""), "missing field `about`"),
            (with("\"mount\"", "\"mounts\""), "unknown variant `mounts`"),
            (
                with("{mountpoint}", "/mnt"),
                "target 'sample': the command has no {mountpoint}",
            ),
            (
                with("dir={source}", "dir={src}"),
                "the command has no {source}",
            ),
            (
                with("\"-o\"", "\"{pid}\""),
                "{pid} stands for nothing here; there are {program}, {cntr}, {source}",
            ),
            (
                with("-V", "{source}"),
                "{source} stands for nothing here; there are {program}, {cntr}",
            ),
            (with("\"sample\"", "\"a/b\""), "a name has letters"),
            (with("\"sample\"", "\"all\""), "stands for all targets"),
            (
                with("program = \"sample-server\"", ""),
                "`program` or `command` is missing",
            ),
            (
                with("\"mount\"", "\"native\""),
                "a native target has no command",
            ),
            (complaint(&(WHOLE.to_owned() + WHOLE)), "stands there twice"),
            (
                complaint("[[target]\nname"),
                "my.toml does not describe targets",
            ),
        ];
        for (complaint, expected) in cases {
            assert!(
                complaint.contains(expected),
                "{expected:?} is not in {complaint:?}"
            );
        }
    }
}
