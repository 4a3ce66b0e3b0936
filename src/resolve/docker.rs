//! Docker and Podman, whose `inspect` looks alike.

use nix::unistd::Pid;
use serde::Deserialize;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found};

/// What is read of an inspection.
#[derive(Deserialize)]
struct Inspected {
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "State")]
    state: State,
}

#[derive(Deserialize)]
struct State {
    #[serde(rename = "Status", default)]
    status: String,
    #[serde(rename = "Pid", default)]
    pid: i32,
}

pub fn begin(engine: Engine, name: &str) -> Answer {
    let program = match engine {
        Engine::Podman => "podman",
        _ => "docker",
    };
    Answer::Further(vec![Question::new(
        program,
        ["container", "inspect", "--", name],
        read,
    )])
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
    let Some(container) = inspected.first() else {
        return Answer::Unknown;
    };
    // Docker's names start with a slash.
    let called = match container.name.trim_start_matches('/') {
        "" => name,
        called => called,
    };
    if container.state.pid <= 0 {
        return Answer::NotRunning(format!("{called} ({})", container.state.status));
    }
    Answer::Found(vec![Found {
        engine,
        name: called.to_owned(),
        pid: Pid::from_raw(container.state.pid),
    }])
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
        let running =
            r#"[{"Id": "ab", "Name": "/web", "State": {"Status": "running", "Pid": 1475}}]"#;
        let found = Found {
            engine: Engine::Docker,
            name: "web".to_owned(),
            pid: Pid::from_raw(1475),
        };
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
    }
}
