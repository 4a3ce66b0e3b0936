//! From what a user calls a container to a process of it.
//!
//! | module | what it is |
//! |---|---|
//! | `mod` | what can be asked for, and how it is found |
//! | `engine` | who can be asked |
//! | `ask` | runs the engines' own tools beside each other, with a deadline |
//! | `docker`, `lxc`, `lxd`, `machine`, `kubernetes`, `cri`, `containerd`, `oci`, `rkt`, `unit` | one kind of engine each: what to ask it, what its answers mean |
//! | `conmon` | Podman containers of ordinary users, for root |
//! | `own` | containers of `cntr run` |
//! | `netns` | processes by the name of their network namespace |
//! | `process` | processes by number, by command line and by cgroup |
//! | `sandbox` | what looks like a container, but is none of this kernel's |
//! | `verdict` | who is believed, and why there is no container to attach to |
//!
//! All engines whose tool is installed are asked at the same time. One that knows the name wins; of several the user has to
//! choose. Nothing is run by a shell, and what a tool prints is believed only as far as it makes sense.
//!
//! What a tool prints is a number, and while it prints that the process may end and the number come to mean another one. So
//! the process is held as soon as it is known, and if it is younger than the question the question is asked again.

mod ask;
mod conmon;
mod containerd;
mod cri;
mod docker;
mod engine;
mod kubernetes;
mod lxc;
mod lxd;
mod machine;
mod netns;
mod oci;
mod own;
mod process;
mod rkt;
mod sandbox;
mod unit;
mod verdict;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use nix::unistd::Pid;

pub use engine::Engine;
pub use verdict::Unresolved;

use ask::{Patience, Question, ask_all};
use verdict::decide;

use crate::sys::pinned::{Moment, PinError, Pinned};

/// How long an engine may take to answer.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How often engines are asked about a container whose process is another one each time.
const ROUNDS: usize = 3;

/// No process has a larger number.
const LARGEST_PID: u64 = 4 << 20;

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
    /// Its id there, if that is something else than its name.
    pub id: String,
    /// What it was made of, as far as that is known.
    pub image: String,
}

impl Found {
    fn new(engine: Engine, name: impl Into<String>, pid: i32) -> Found {
        Found {
            engine,
            name: name.into(),
            pid: Pid::from_raw(pid),
            id: String::new(),
            image: String::new(),
        }
    }

    /// What it is called, in full: `SCHEME://NAME`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}://{}", self.engine, self.name)
    }

    fn id(self, id: impl Into<String>) -> Found {
        Found {
            id: id.into(),
            ..self
        }
    }

    fn image(self, image: impl Into<String>) -> Found {
        Found {
            image: image.into(),
            ..self
        }
    }
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

impl Answer {
    /// Whether something is called that.
    fn knows(&self) -> bool {
        matches!(
            self,
            Answer::Found(_) | Answer::NotRunning(_) | Answer::Ambiguous(_) | Answer::Refused(_)
        )
    }

    /// Leaves only containers that have `name` as their whole name: it is the number of a process that may have ended, and
    /// must not become a container whose id happens to start with it.
    fn keep_whole_names(&mut self, engine: Engine, name: &str) {
        let hint = format!("the start of an id has to be said as {engine}://{name}");
        match self {
            Answer::Found(found) => {
                found.retain(|one| one.name == name);
                if found.is_empty() {
                    *self = Answer::Failed(hint);
                }
            }
            Answer::NotRunning(what) if what.split(' ').next() != Some(name) => {
                *self = Answer::Failed(hint);
            }
            Answer::Ambiguous(_) | Answer::Refused(_) => *self = Answer::Failed(hint),
            _ => {}
        }
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
    /// Something is that nothing can be attached to, for this reason.
    Refused(String),
    /// More has to be asked first.
    Further(Vec<Question>),
    /// It cannot say: its daemon does not run, or does not let this user ask.
    Failed(String),
    /// It has not answered in time.
    Late(String),
    /// It is not used on this machine, because of this.
    Absent(String),
}

/// A process of what `reference` says, looked for in `engines`, all if there are none; the process is held.
///
/// # Errors
/// See [`Unresolved`].
pub fn resolve(reference: &Reference, engines: &[Engine]) -> Result<(Found, Pinned), Unresolved> {
    let search = Search {
        name: &reference.name,
        only: reference.engine,
        engines,
    };
    if search.wants(Engine::ProcessId)
        && let Some((found, process)) = process::by_number(search.name)?
    {
        return admit(found, process);
    }
    // Whether the last process there was has been there at all, and what it was of.
    let (mut seen, mut what) = (false, String::new());
    for _ in 0..ROUNDS {
        let asked = Moment::now();
        let found = search.ask()?;
        match Pinned::open(found.pid) {
            Ok(process) if process.started().is_some_and(|started| started < asked) => {
                return admit(found, process);
            }
            // The container has been started since, or its process has ended and the number is that of another one.
            Ok(_) => seen = true,
            Err(PinError::System(error)) => {
                return Err(Unresolved::Unavailable {
                    engine: found.engine,
                    reason: format!("process {} cannot be held: {error}", found.pid),
                });
            }
            Err(PinError::Nobody | PinError::Thread(_)) => seen = false,
        }
        what = found.to_string();
        // What was started while the engine was asked is older than the next question.
        std::thread::sleep(Moment::resolution());
    }
    Err(if seen {
        Unresolved::Restless { what }
    } else {
        Unresolved::Elsewhere { what }
    })
}

/// All containers there are, and what could not be looked at.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that run, by engine and name. One that several engines know is the first one's.
    pub found: Vec<Found>,
    /// Engines that are not there, or whose daemon does not answer, and why.
    pub silent: Vec<(Engine, String)>,
    /// Engines that have not answered in time.
    pub late: Vec<(Engine, String)>,
}

/// All running containers of `engines`, of all if there are none. Nobody is waited for longer than `deadline`.
#[must_use]
pub fn list(engines: &[Engine], deadline: Duration) -> Listing {
    let search = Search {
        name: "",
        only: None,
        engines,
    };
    let (mut questions, mut answers) = (Vec::new(), Vec::new());
    for engine in Engine::ALL.into_iter().filter(|one| search.wants(*one)) {
        match engine.begin_list() {
            Some(Answer::Further(first)) => {
                questions.extend(first.into_iter().map(|question| (engine, question)));
            }
            Some(answer) => answers.push((engine, answer)),
            None => {}
        }
    }
    answers.extend(ask_all("", questions, deadline, Patience::Everybody));
    if search.wants(Engine::Podman) {
        answers.push((Engine::Podman, Answer::Found(conmon::list())));
    }
    answers.sort_by_key(|(engine, _)| *engine);
    let mut listing = Listing::default();
    for (engine, answer) in answers {
        match answer {
            Answer::Found(mut found) => {
                found.sort_by(|a, b| a.name.cmp(&b.name));
                for one in found {
                    let known = listing.found.iter().any(|known| known.pid == one.pid);
                    // What an engine names may have ended, or be on another machine.
                    if !known && Pinned::open(one.pid).is_ok_and(|process| !process.has_ended()) {
                        listing.found.push(one);
                    }
                }
            }
            Answer::Failed(reason) | Answer::Absent(reason) => {
                listing.silent.push((engine, reason));
            }
            Answer::Late(reason) => listing.late.push((engine, reason)),
            Answer::Unknown
            | Answer::NotRunning(_)
            | Answer::Ambiguous(_)
            | Answer::Refused(_)
            | Answer::Further(_) => {}
        }
    }
    listing
}

/// Refuses what is no container of this kernel.
fn admit(found: Found, process: Pinned) -> Result<(Found, Pinned), Unresolved> {
    let what = found.to_string();
    if let Some(reason) = sandbox::of_process(process.pid()) {
        return Err(Unresolved::Refused { what, reason });
    }
    // An engine of another machine, to which its tool may be connected, names processes of that.
    let mounts = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    if found.engine.always_has_mounts() && mounts(&found.pid.to_string()) == mounts("self") {
        return Err(Unresolved::Elsewhere { what });
    }
    Ok((found, process))
}

/// What is looked for, and where.
struct Search<'a> {
    name: &'a str,
    only: Option<Engine>,
    engines: &'a [Engine],
}

impl Search<'_> {
    fn wants(&self, engine: Engine) -> bool {
        match self.only {
            Some(only) => engine == only,
            None => self.engines.is_empty() || self.engines.contains(&engine),
        }
    }

    /// Whether the user has said where to look.
    fn is_narrow(&self) -> bool {
        self.only.is_some() || !self.engines.is_empty()
    }

    /// Whether the name is, or was, the number of a process.
    fn is_number(&self) -> bool {
        let number: Option<u64> = self.name.parse().ok();
        let number = number.filter(|number| number.to_string() == self.name);
        self.wants(Engine::ProcessId) && number.is_some_and(|number| number <= LARGEST_PID)
    }

    /// Asks everybody once.
    fn ask(&self) -> Result<Found, Unresolved> {
        let mut questions = Vec::new();
        let mut answers = Vec::new();
        let asked_for = self.is_narrow();
        for engine in Engine::ALL.into_iter().filter(|one| self.wants(*one)) {
            match engine.begin(self.name, asked_for) {
                Some(Answer::Further(first)) => {
                    questions.extend(first.into_iter().map(|question| (engine, question)));
                }
                Some(answer) => answers.push((engine, answer)),
                None => {}
            }
        }
        answers.extend(ask_all(
            self.name,
            questions,
            DEADLINE,
            Patience::SecondOpinion,
        ));
        answers.sort_by_key(|(engine, _)| *engine);
        if self.is_number() {
            for (engine, answer) in &mut answers {
                answer.keep_whole_names(*engine, self.name);
            }
        }
        // Names of containers come first: a command line may contain anything, and who lives in a named network
        // namespace often is a container's.
        let mut named = answers.iter().any(|(_, answer)| answer.knows());
        if self.wants(Engine::Podman) && !named {
            let mut answer = conmon::find(self.name);
            if self.is_number() {
                answer.keep_whole_names(Engine::Podman, self.name);
            }
            named |= answer.knows();
            if answer.knows() {
                answers.push((Engine::Podman, answer));
            }
        }
        if self.wants(Engine::Netns) && (asked_for || !named) {
            let answer = netns::find(self.name);
            named |= answer.knows();
            answers.push((Engine::Netns, answer));
        }
        if self.wants(Engine::Command) {
            if asked_for {
                let answer = process::by_command(self.name, process::Where::Everywhere);
                answers.push((Engine::Command, answer));
            } else if !named && !self.is_number() {
                let answer = process::by_command(self.name, process::Where::InContainers);
                answers.push((Engine::Command, answer));
            }
        }
        if self.wants(Engine::ProcessId) {
            answers.push((Engine::ProcessId, Answer::Unknown));
        }
        decide(self.name, answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
