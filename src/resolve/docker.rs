//! Docker and Podman, whose `inspect` looks alike.

use serde::Deserialize;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found, sandbox};

/// What is read of an inspection.
#[derive(Deserialize)]
struct Inspected {
    #[serde(rename = "Id", default)]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "State")]
    state: State,
    #[serde(rename = "Config", default)]
    config: Config,
    #[serde(rename = "HostConfig", default)]
    host: HostConfig,
    /// Podman's name of the runtime, which may be a path.
    #[serde(rename = "OCIRuntime", default)]
    runtime: String,
}

#[derive(Deserialize, Default)]
struct Config {
    #[serde(rename = "Image", default)]
    image: String,
}

#[derive(Deserialize, Default)]
struct HostConfig {
    #[serde(rename = "Runtime", default)]
    runtime: String,
}

#[derive(Deserialize)]
struct State {
    #[serde(rename = "Status", default)]
    status: String,
    #[serde(rename = "Pid", default)]
    pid: i32,
}

fn program(engine: Engine) -> &'static str {
    match engine {
        Engine::Podman => "podman",
        _ => "docker",
    }
}

pub fn begin(engine: Engine, name: &str) -> Answer {
    Answer::Further(vec![Question::new(
        program(engine),
        ["container", "inspect", "--", name],
        read,
    )])
}

/// The question for the process of a container that somebody else knows, and calls `name`.
pub fn begin_with(id: &str, name: String) -> Question {
    let arguments = ["container", "inspect", "--", id];
    Question::new("docker", arguments, move |engine, _, output| {
        match read(engine, &name, output) {
            Answer::Found(found) => {
                let called = |one| Found {
                    name: name.clone(),
                    ..one
                };
                Answer::Found(found.into_iter().map(called).collect())
            }
            answer => answer,
        }
    })
}

fn read(engine: Engine, name: &str, output: &Output) -> Answer {
    if !output.success {
        let complaint = output.complaint.to_lowercase();
        return if complaint.contains("no such container") || complaint.contains("no such object") {
            Answer::Unknown
        } else if complaint.contains("multiple ids") || complaint.contains("more than one") {
            Answer::Ambiguous(output.complaint.clone())
        } else {
            output.failed()
        };
    }
    let inspected: Vec<Inspected> = match serde_json::from_str(&output.stdout) {
        Ok(inspected) => inspected,
        Err(error) => return Answer::Failed(format!("its answer cannot be understood: {error}")),
    };
    inspected
        .first()
        .map_or(Answer::Unknown, |container| container.answer(engine, name))
}

impl Inspected {
    /// What it says about the container, which has been called `name`.
    fn answer(&self, engine: Engine, name: &str) -> Answer {
        // Docker's names start with a slash.
        let called = match self.name.trim_start_matches('/') {
            "" => name,
            called => called,
        };
        if self.state.pid <= 0 {
            return Answer::NotRunning(format!("{called} ({})", self.state.status));
        }
        let runtimes = [&self.host.runtime, &self.runtime];
        if let Some(reason) = runtimes.iter().find_map(|name| sandbox::of_runtime(name)) {
            return Answer::Refused(reason);
        }
        let found = Found::new(engine, called, self.state.pid);
        Answer::Found(vec![found.id(&self.id).image(&self.config.image)])
    }
}

pub fn begin_list(engine: Engine) -> Answer {
    let arguments = ["container", "ls", "--quiet", "--no-trunc"];
    Answer::Further(vec![Question::new(program(engine), arguments, ids)])
}

/// One id a line; the process is not among what can be listed.
fn ids(engine: Engine, _name: &str, output: &Output) -> Answer {
    if !output.success {
        return output.failed();
    }
    let mut arguments = vec!["container", "inspect", "--"];
    arguments.extend(output.stdout.split_ascii_whitespace());
    if arguments.len() == 3 {
        return Answer::Unknown;
    }
    Answer::Further(vec![Question::new(program(engine), arguments, all)])
}

/// Those that run, if some have ended meanwhile, too.
fn all(engine: Engine, _name: &str, output: &Output) -> Answer {
    let Ok(inspected) = serde_json::from_str::<Vec<Inspected>>(&output.stdout) else {
        return output.failed();
    };
    let answers = inspected.iter().map(|one| one.answer(engine, &one.id));
    let found = answers.filter_map(|answer| match answer {
        Answer::Found(found) => Some(found),
        _ => None,
    });
    Answer::Found(found.flatten().collect())
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
        read(Engine::Docker, "we", &output)
    }

    #[test]
    fn answers() {
        let running = r#"[{"Id": "ab", "Name": "/web", "State": {"Status": "running", "Pid": 1475}, "Config": {"Image": "bb"},
                 "HostConfig": {"Runtime": "runc"}}]"#;
        let found = Found::new(Engine::Docker, "web", 1475).id("ab").image("bb");
        assert_eq!(said(true, running, ""), Answer::Found(vec![found]));
        let stopped = r#"[{"Name": "web", "State": {"Status": "exited", "Pid": 0}}]"#;
        assert_eq!(
            said(true, stopped, ""),
            Answer::NotRunning("web (exited)".to_owned())
        );
        for unknown in [
            "Error: No such container: we",
            "Error response from daemon: No such container: we",
            "Error: inspecting object: no such container we",
        ] {
            assert_eq!(said(false, "[]", unknown), Answer::Unknown);
        }
        let several = "Error response from daemon: Multiple IDs found with provided prefix: we";
        assert_eq!(
            said(false, "[]", several),
            Answer::Ambiguous(several.to_owned())
        );
        let down = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";
        assert_eq!(said(false, "", down), Answer::Failed(down.to_owned()));
        for odd in ["", "{}", "[{}]", "[{\"State\": 7}]"] {
            assert!(matches!(said(true, odd, ""), Answer::Failed(_)), "{odd}");
        }
        assert_eq!(said(true, "[]", ""), Answer::Unknown);
        for (sandbox, what) in [
            (r#""HostConfig": {"Runtime": "runsc"}"#, "gVisor"),
            (
                r#""HostConfig": {"Runtime": "io.containerd.kata.v2"}"#,
                "virtual machine",
            ),
            (
                r#""OCIRuntime": "/usr/bin/kata-runtime""#,
                "virtual machine",
            ),
        ] {
            let text = format!(r#"[{{"Name": "/web", "State": {{"Pid": 7}}, {sandbox}}}]"#);
            let answer = said(true, &text, "");
            assert!(
                matches!(&answer, Answer::Refused(reason) if reason.contains(what)),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn lists() {
        let list = |text: &str| ids(Engine::Podman, "", &Output::of(true, text, ""));
        assert_eq!(list(""), Answer::Unknown);
        let Answer::Further(questions) = list("ab\ncd\n") else {
            panic!("no further question");
        };
        assert_eq!(questions[0].program, "podman");
        let asked = questions[0].arguments.join(" ".as_ref());
        assert_eq!(asked, "container inspect -- ab cd");
        // One has ended meanwhile.
        let text = r#"[{"Id": "ab", "Name": "/web", "State": {"Pid": 7}, "Config": {"Image": "bb"}},
            {"Id": "ef", "Name": "/sick", "State": {"Status": "exited", "Pid": 0}}]"#;
        let found = Found::new(Engine::Docker, "web", 7).id("ab").image("bb");
        let output = Output::of(false, text, "Error: No such container: cd");
        assert_eq!(all(Engine::Docker, "", &output), Answer::Found(vec![found]));
        let down = Output::of(false, "", "down");
        assert_eq!(
            all(Engine::Docker, "", &down),
            Answer::Failed("down".to_owned())
        );
    }
}
