//! From what a user calls a container to a process of it.
//!
//! | module | what it is |
//! |---|---|
//! | `mod` | what can be asked for, and who is believed |
//! | `ask` | runs the engines' own tools beside each other, with a deadline |
//! | `docker`, `lxc`, `machine`, `containerd`, `oci` | one kind of engine each: what to ask it, what its answers mean |
//! | `process` | processes by number and by command line |
//!
//! All engines whose tool is installed are asked at the same time. One that knows the name wins; of several the user has to
//! choose. Nothing is run by a shell, and what a tool prints is believed only as far as it makes sense.

mod ask;
mod containerd;
mod docker;
mod lxc;
mod machine;
mod oci;
mod process;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use nix::unistd::Pid;

use ask::{Question, ask_all};

/// How long an engine may take to answer.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Where containers can be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Engine {
    /// Docker, by name, id or the start of an id
    Docker,
    /// Podman, by name, id or the start of an id
    Podman,
    /// LXC, by name, or by directory and name (/srv/lxc/web)
    Lxc,
    /// systemd-nspawn and other machines of machinectl, by name
    #[value(alias = "nspawn", alias = "machinectl")]
    Machine,
    /// containerd, by id, in every namespace
    #[value(alias = "ctr")]
    Containerd,
    /// runc, by id, or by root directory and id
    Runc,
    /// crun, by id, or by root directory and id
    Crun,
    /// A process, by its number
    #[value(alias = "process-id", alias = "pid")]
    ProcessId,
    /// A process, by a part of its command line; without being asked for only processes in containers
    Command,
}

impl Engine {
    const ALL: [Engine; 9] = [
        Engine::Docker,
        Engine::Podman,
        Engine::Lxc,
        Engine::Machine,
        Engine::Containerd,
        Engine::Runc,
        Engine::Crun,
        Engine::ProcessId,
        Engine::Command,
    ];

    /// What it is called in `scheme://name`.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
            Engine::Lxc => "lxc",
            Engine::Machine => "machine",
            Engine::Containerd => "containerd",
            Engine::Runc => "runc",
            Engine::Crun => "crun",
            Engine::ProcessId => "process_id",
            Engine::Command => "command",
        }
    }

    fn of_scheme(scheme: &str) -> Option<Engine> {
        clap::ValueEnum::from_str(scheme, true).ok()
    }

    /// What to ask it about `name`; none if it is not asked. Or what is known without asking.
    fn begin(self, name: &str) -> Option<Answer> {
        match self {
            Engine::Docker | Engine::Podman => Some(docker::begin(self, name)),
            Engine::Lxc => Some(lxc::begin(name)),
            Engine::Machine => Some(machine::begin(name)),
            Engine::Containerd => Some(containerd::begin()),
            Engine::Runc | Engine::Crun => Some(oci::begin(self, name)),
            Engine::ProcessId | Engine::Command => None,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.scheme())
    }
}

/// What a user calls a container: `NAME`, or `SCHEME://NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The only one to ask, if the user says so.
    pub engine: Option<Engine>,
    /// The name, id, number or part of a command line.
    pub name: String,
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Reference, String> {
        let (engine, name) = match text.split_once("://") {
            Some((scheme, name)) => {
                let engine = Engine::of_scheme(scheme).ok_or_else(|| {
                    let known: Vec<_> = Engine::ALL.iter().map(|one| one.scheme()).collect();
                    format!(
                        "nothing is called {scheme}://; there are {}",
                        known.join(", ")
                    )
                })?;
                (Some(engine), name)
            }
            None => (None, text),
        };
        if name.is_empty() || name.contains('\0') {
            return Err("the name of a container, or the number of a process of it".to_owned());
        }
        // Tools would take it for an option.
        if name.starts_with('-') && engine != Some(Engine::Command) {
            return Err("no container's name starts with a dash".to_owned());
        }
        Ok(Reference {
            engine,
            name: name.to_owned(),
        })
    }
}

/// A container that can be attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who knows it.
    pub engine: Engine,
    /// What it is called there, enough to tell it from others.
    pub name: String,
    /// Its first process, or the one that was asked for.
    pub pid: Pid,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}://{} (process {})",
            self.engine, self.name, self.pid
        )
    }
}

/// What an engine says about a name.
#[derive(Debug, PartialEq)]
enum Answer {
    /// These are called that.
    Found(Vec<Found>),
    /// Nothing is.
    Unknown,
    /// Something is, but it does not run.
    NotRunning(String),
    /// Several are, says the engine itself.
    Ambiguous(String),
    /// More has to be asked first.
    Further(Vec<Question>),
    /// It cannot say: its daemon does not run, or does not let this user ask.
    Failed(String),
    /// It is not used on this machine, because of this.
    Absent(String),
}

/// Why there is no container to attach to: one line, with what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Nobody knows it.
    #[error("{reference}: {what}{}", list(" (", .asked, ")"))]
    Unknown {
        /// What was asked for.
        reference: String,
        /// What there is not.
        what: &'static str,
        /// What those said who were asked: that they know nothing, or why they cannot tell.
        asked: Vec<String>,
    },
    /// It does not run.
    #[error("{reference}: {what}: start it first")]
    NotRunning {
        /// What was asked for.
        reference: String,
        /// Which one, and what it does instead.
        what: String,
    },
    /// There are several.
    #[error("{reference} can be several: {}; say which, as in `{}`", .candidates.join(", "), .example)]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// What it can be.
        candidates: Vec<String>,
        /// How to say one of them.
        example: String,
    },
    /// The one that was to be asked cannot be.
    #[error("{engine}: {reason}")]
    Unavailable {
        /// Who.
        engine: Engine,
        /// Why not.
        reason: String,
    },
}

fn list(before: &str, items: &[String], after: &str) -> String {
    if items.is_empty() {
        return String::new();
    }
    format!("{before}{}{after}", items.join("; "))
}

/// A process of what `reference` says, looked for in `engines`, all if there are none.
///
/// # Errors
/// See [`Unresolved`].
pub fn resolve(reference: &Reference, engines: &[Engine]) -> Result<Found, Unresolved> {
    let name = &reference.name;
    let wanted = |engine: Engine| match reference.engine {
        Some(only) => engine == only,
        None => engines.is_empty() || engines.contains(&engine),
    };
    if wanted(Engine::ProcessId)
        && let Some(found) = process::by_number(name)
    {
        return Ok(found);
    }
    let mut questions = Vec::new();
    let mut answers = Vec::new();
    for engine in Engine::ALL.into_iter().filter(|one| wanted(*one)) {
        match engine.begin(name) {
            Some(Answer::Further(first)) => {
                questions.extend(first.into_iter().map(|question| (engine, question)));
            }
            Some(answer) => answers.push((engine, answer)),
            None => {}
        }
    }
    answers.extend(ask_all(name, questions, DEADLINE));
    answers.sort_by_key(|(engine, _)| *engine);
    if wanted(Engine::Command) {
        // Names of containers come first: a command line may contain anything.
        let named = answers.iter().any(|(_, answer)| {
            matches!(
                answer,
                Answer::Found(_) | Answer::NotRunning(_) | Answer::Ambiguous(_)
            )
        });
        let asked_for = reference.engine.is_some() || !engines.is_empty();
        if !named || asked_for {
            let place = if asked_for {
                process::Where::Everywhere
            } else {
                process::Where::InContainers
            };
            answers.push((Engine::Command, process::by_command(name, place)));
        }
    }
    if wanted(Engine::ProcessId) {
        answers.push((Engine::ProcessId, Answer::Unknown));
    }
    decide(name, answers)
}

/// What follows from the answers of all who were asked.
fn decide(name: &str, answers: Vec<(Engine, Answer)>) -> Result<Found, Unresolved> {
    let reference = name.to_owned();
    let mut found: Vec<Found> = Vec::new();
    let (mut ambiguous, mut stopped, mut asked) = (Vec::new(), None, Vec::new());
    let only = match answers.as_slice() {
        [(engine, _)] => Some(*engine),
        _ => None,
    };
    for (engine, answer) in answers {
        match answer {
            Answer::Found(candidates) => {
                for candidate in candidates {
                    // The tools of containerd see what Docker has made as well, runc what all of them have.
                    if found.iter().all(|known| known.pid != candidate.pid) {
                        found.push(candidate);
                    }
                }
            }
            Answer::NotRunning(what) => {
                stopped.get_or_insert(format!("{engine}://{what}"));
            }
            Answer::Ambiguous(what) => ambiguous.push(format!("{engine}: {what}")),
            Answer::Failed(reason) | Answer::Absent(reason) if only == Some(engine) => {
                return Err(Unresolved::Unavailable { engine, reason });
            }
            Answer::Failed(reason) => asked.push(format!("{engine}: {reason}")),
            Answer::Unknown | Answer::Absent(_) | Answer::Further(_) => {}
        }
    }
    match (found.len(), ambiguous.is_empty(), stopped) {
        (1, true, _) => Ok(found.remove(0)),
        (0, true, Some(what)) => Err(Unresolved::NotRunning { reference, what }),
        (0, true, None) => {
            let number = reference.parse::<u64>().is_ok();
            let what = match only {
                Some(Engine::ProcessId) => "there is no such process",
                Some(Engine::Command) => "no process has that in its command line",
                Some(_) => "no container is called that",
                None if number => "there is no such process, and no container is called that",
                None => "no container or process is called that",
            };
            Err(Unresolved::Unknown {
                reference,
                what,
                asked,
            })
        }
        _ => {
            let example = match found.first() {
                Some(Found {
                    engine: Engine::Command,
                    pid,
                    ..
                }) => format!("process_id://{pid}"),
                Some(found) => format!("{}://{}", found.engine, found.name),
                None => "docker://the whole id".to_owned(),
            };
            let candidates = found.iter().map(ToString::to_string).chain(ambiguous);
            Err(Unresolved::Ambiguous {
                reference,
                candidates: candidates.collect(),
                example,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(engine: Engine, name: &str, pid: i32) -> Found {
        Found {
            engine,
            name: name.to_owned(),
            pid: Pid::from_raw(pid),
        }
    }

    fn one(engine: Engine, name: &str, pid: i32) -> (Engine, Answer) {
        (engine, Answer::Found(vec![found(engine, name, pid)]))
    }

    #[test]
    fn references() {
        let parse = |text: &str| text.parse::<Reference>();
        let plain = parse("web").unwrap();
        assert_eq!((plain.engine, plain.name.as_str()), (None, "web"));
        for (text, engine, name) in [
            ("docker://web", Engine::Docker, "web"),
            ("nspawn://m1", Engine::Machine, "m1"),
            ("process-id://12", Engine::ProcessId, "12"),
            ("process_id://12", Engine::ProcessId, "12"),
            ("command://-f x", Engine::Command, "-f x"),
            ("podman://a://b", Engine::Podman, "a://b"),
        ] {
            let parsed = parse(text).unwrap();
            assert_eq!(
                (parsed.engine, parsed.name.as_str()),
                (Some(engine), name),
                "{text}"
            );
        }
        assert!(
            parse("dockre://web")
                .unwrap_err()
                .contains("docker, podman")
        );
        for wrong in ["", "docker://", "-x", "lxc://-n", "a\0b"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        // What it is called is what it is read back from.
        for engine in Engine::ALL {
            assert_eq!(Engine::of_scheme(engine.scheme()), Some(engine));
        }
    }

    #[test]
    fn one_that_knows_the_name_wins() {
        let answers = vec![
            (Engine::Docker, Answer::Failed("no daemon".to_owned())),
            (Engine::Podman, Answer::Absent(String::new())),
            one(Engine::Lxc, "web", 7),
            // The same process.
            one(Engine::Runc, "0123", 7),
        ];
        assert_eq!(decide("web", answers), Ok(found(Engine::Lxc, "web", 7)));
    }

    #[test]
    fn each_reason_has_its_own_line() {
        let text = |answers| decide("web", answers).unwrap_err().to_string();
        assert_eq!(
            text(vec![
                (Engine::Docker, Answer::Unknown),
                (Engine::Lxc, Answer::Failed("no daemon".to_owned())),
            ]),
            "web: no container or process is called that (lxc: no daemon)"
        );
        assert_eq!(
            text(vec![
                (
                    Engine::Docker,
                    Answer::NotRunning("web (exited)".to_owned())
                ),
                (Engine::Lxc, Answer::Unknown),
            ]),
            "web: docker://web (exited): start it first"
        );
        assert_eq!(
            text(vec![
                one(Engine::Docker, "web", 7),
                one(Engine::Lxc, "web", 8)
            ]),
            "web can be several: docker://web (process 7), lxc://web (process 8); say which, as in `docker://web`"
        );
        assert_eq!(
            text(vec![(
                Engine::Docker,
                Answer::Absent("not installed".to_owned())
            )]),
            "docker: not installed"
        );
        assert_eq!(
            text(vec![(
                Engine::Docker,
                Answer::Failed("no daemon".to_owned())
            )]),
            "docker: no daemon"
        );
    }
}
