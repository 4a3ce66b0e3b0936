//! Who is believed, and why there is no container to attach to.

use super::{Answer, Engine, Found};

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
    /// It is no container that can be entered.
    #[error("{what}: {reason}")]
    Refused {
        /// What was found.
        what: String,
        /// Why not.
        reason: String,
    },
    /// What is named is not to be seen, or is no container's.
    #[error(
        "{what}: no container here has that process: the engine runs on another machine or in another pid namespace"
    )]
    Elsewhere {
        /// What was found.
        what: String,
    },
    /// What is named changes all the time.
    #[error(
        "{what}: its process is another one each time the engine is asked: it is being restarted; see its log"
    )]
    Restless {
        /// What was found.
        what: String,
    },
}

fn list(before: &str, items: &[String], after: &str) -> String {
    if items.is_empty() {
        return String::new();
    }
    format!("{before}{}{after}", items.join("; "))
}

/// What follows from the answers of all who were asked.
pub(super) fn decide(name: &str, answers: Vec<(Engine, Answer)>) -> Result<Found, Unresolved> {
    let reference = name.to_owned();
    let mut found: Vec<Found> = Vec::new();
    let (mut ambiguous, mut stopped, mut asked) = (Vec::new(), None, Vec::new());
    let mut engines = answers.iter().map(|(engine, _)| *engine);
    let only = engines
        .next()
        .filter(|first| engines.all(|engine| engine == *first));
    let (mut unavailable, mut refused) = (None, None);
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
            Answer::Refused(reason) => {
                let what = format!("{engine}://{name}");
                refused.get_or_insert(Unresolved::Refused { what, reason });
            }
            Answer::Ambiguous(what) => ambiguous.push(format!("{engine}: {what}")),
            Answer::Failed(reason) | Answer::Late(reason) | Answer::Absent(reason)
                if only == Some(engine) =>
            {
                unavailable.get_or_insert(Unresolved::Unavailable { engine, reason });
            }
            Answer::Failed(reason) | Answer::Late(reason) => {
                asked.push(format!("{engine}: {reason}"))
            }
            Answer::Unknown | Answer::Absent(_) | Answer::Further(_) => {}
        }
    }
    match (found.len(), ambiguous.is_empty(), stopped) {
        (1, true, _) => Ok(found.remove(0)),
        (0, true, Some(what)) => Err(Unresolved::NotRunning { reference, what }),
        (0, true, None) => {
            if let Some(reason) = refused.or(unavailable) {
                return Err(reason);
            }
            let number = reference.parse::<u64>().is_ok();
            let what = match only {
                Some(Engine::ProcessId) => "there is no such process",
                Some(Engine::Netns) => "no network namespace is called that: see `ip netns`",
                Some(Engine::Systemd) => "no unit is called that",
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
                    engine: Engine::Command | Engine::Netns,
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
        Found::new(engine, name, pid)
    }

    fn one(engine: Engine, name: &str, pid: i32) -> (Engine, Answer) {
        (engine, Answer::Found(vec![found(engine, name, pid)]))
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
