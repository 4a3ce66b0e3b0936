//! runc and crun, used by themselves. `ROOT/ID` is a container below another directory than the default (`--root`).

use std::path::Path;

use serde::Deserialize;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found};

#[derive(Deserialize)]
struct State {
    #[serde(default)]
    id: String,
    #[serde(default)]
    bundle: String,
    #[serde(default)]
    pid: i32,
    #[serde(default)]
    status: String,
}

fn program(engine: Engine) -> &'static str {
    match engine {
        Engine::Crun => "crun",
        _ => "runc",
    }
}

pub fn begin_list(engine: Engine) -> Answer {
    let arguments = ["list", "--format", "json"];
    Answer::Further(vec![Question::new(program(engine), arguments, list)])
}

/// A list, or null if there is nothing.
fn list(engine: Engine, _name: &str, output: &Output) -> Answer {
    if !output.success {
        return output.failed();
    }
    let states: Vec<State> = match serde_json::from_str::<Option<_>>(&output.stdout) {
        Ok(states) => states.unwrap_or_default(),
        Err(error) => return Answer::Failed(format!("its answer cannot be understood: {error}")),
    };
    let running = |one: &&State| one.pid > 0 && one.status != "stopped";
    let found = states.iter().filter(running);
    let found = found.map(|one| Found::new(engine, &one.id, one.pid).image(&one.bundle));
    Answer::Found(found.collect())
}

pub fn begin(engine: Engine, name: &str) -> Answer {
    let program = program(engine);
    Answer::Further(vec![match name.rsplit_once('/') {
        // No id has a slash. runc makes a directory that is not there.
        Some((root, _)) if !Path::new(root).is_absolute() || !Path::new(root).is_dir() => {
            return Answer::Unknown;
        }
        Some((root, id)) => Question::new(program, ["--root", root, "state", id], read),
        None => Question::new(program, ["state", name], read),
    }])
}

fn read(engine: Engine, name: &str, output: &Output) -> Answer {
    if !output.success {
        let complaint = &output.complaint;
        let missing = complaint.contains("/status") && complaint.contains("No such file");
        // A name that no container can have.
        let odd = complaint.contains("invalid");
        return if complaint.contains("does not exist") || missing || odd {
            Answer::Unknown
        } else {
            output.failed()
        };
    }
    match serde_json::from_str::<State>(&output.stdout) {
        Ok(State { pid, status, .. }) if pid > 0 && status != "stopped" => {
            Answer::Found(vec![Found::new(engine, name, pid)])
        }
        Ok(State { status, .. }) => Answer::NotRunning(format!("{name} ({status})")),
        Err(error) => Answer::Failed(format!("its answer cannot be understood: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(success: bool, stdout: &str, complaint: &str) -> Answer {
        let output = Output {
            success,
            stdout: stdout.to_owned(),
            complaint: complaint.to_owned(),
        };
        read(Engine::Runc, "plain", &output)
    }

    #[test]
    fn answers() {
        let found = Found::new(Engine::Runc, "plain", 19747);
        let running =
            r#"{"ociVersion": "1.0.2-dev", "id": "plain", "pid": 19747, "status": "running"}"#;
        assert_eq!(said(true, running, ""), Answer::Found(vec![found]));
        let stopped = r#"{"id": "plain", "pid": 0, "status": "stopped"}"#;
        assert_eq!(
            said(true, stopped, ""),
            Answer::NotRunning("plain (stopped)".to_owned())
        );
        for unknown in [
            "container does not exist",
            "invalid container ID format",
            "error opening file `/run/crun/plain/status`: No such file or directory",
        ] {
            assert_eq!(said(false, "", unknown), Answer::Unknown, "{unknown}");
        }
        assert!(matches!(
            said(false, "", "permission denied"),
            Answer::Failed(_)
        ));
        assert!(matches!(said(true, "no JSON", ""), Answer::Failed(_)));
    }

    #[test]
    fn other_directories() {
        let asked = |name: &str| match begin(Engine::Crun, name) {
            Answer::Further(questions) => questions[0].arguments.join(" ".as_ref()),
            answer => panic!("{answer:?}"),
        };
        assert_eq!(asked("web"), "state web");
        assert_eq!(asked("/proc/self/web"), "--root /proc/self state web");
        for nowhere in ["namespace/web", "/no/such/directory/web"] {
            assert_eq!(begin(Engine::Crun, nowhere), Answer::Unknown, "{nowhere}");
        }
    }

    #[test]
    fn lists() {
        let said = |text: &str| list(Engine::Runc, "", &Output::of(true, text, ""));
        let two = r#"[{"ociVersion": "1.0.2-dev", "id": "plain", "pid": 19747, "status": "running", "bundle": "/srv/plain"},
            {"id": "old", "pid": 0, "status": "stopped", "bundle": "/srv/old"}]"#;
        let found = Found::new(Engine::Runc, "plain", 19747).image("/srv/plain");
        assert_eq!(said(two), Answer::Found(vec![found]));
        assert_eq!(said("null"), Answer::Found(Vec::new()));
        assert!(matches!(said("{"), Answer::Failed(_)));
    }
}
