//! The results, by kind of container and point of the acceptance list, as Markdown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use crate::checks::CHECKS;
use crate::command::Skip;
use crate::kind::{KINDS, Kind};

/// How a check ended.
enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// All that are known.
#[derive(Default)]
pub struct Table {
    outcomes: Mutex<BTreeMap<(String, &'static str), Outcome>>,
}

impl Table {
    pub fn add(&self, kind: &Kind, point: &'static str, result: &anyhow::Result<()>) {
        let outcome = match result {
            Ok(()) => Outcome::Passed,
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(Skip(reason)) => Outcome::Skipped(reason.clone()),
                None => Outcome::Failed(format!("{error:#}")),
            },
        };
        let mut outcomes = self.outcomes.lock().expect("nobody panics with it");
        outcomes.insert((kind.title(), point), outcome);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcomes = self.outcomes.lock().expect("nobody panics with it");
        let mut notes: Vec<String> = Vec::new();
        write!(out, "\n| container |")?;
        for check in CHECKS {
            write!(out, " {} |", check.point)?;
        }
        writeln!(out, "\n|---|{}", "---|".repeat(CHECKS.len()))?;
        for kind in KINDS {
            write!(out, "| {} {} |", kind.engine, kind.name.replace('_', " "))?;
            for check in CHECKS {
                let cell = match outcomes.get(&(kind.title(), check.point)) {
                    None => String::new(),
                    Some(Outcome::Passed) => "+".to_owned(),
                    Some(Outcome::Skipped(reason)) => format!("({})", note(&mut notes, reason)),
                    Some(Outcome::Failed(reason)) => {
                        format!("**no** ({})", note(&mut notes, reason))
                    }
                };
                write!(out, " {cell} |")?;
            }
            writeln!(out)?;
        }
        writeln!(out)?;
        for (number, reason) in notes.iter().enumerate() {
            writeln!(out, "({}) {}  ", number + 1, reason.replace('\n', " "))?;
        }
        Ok(())
    }
}

/// The number of a note, which is made if there is none like it.
fn note(notes: &mut Vec<String>, reason: &str) -> usize {
    match notes.iter().position(|known| known == reason) {
        Some(at) => at + 1,
        None => {
            notes.push(reason.to_owned());
            notes.len()
        }
    }
}
