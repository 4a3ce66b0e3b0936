//! containerd, by its own tool: the tasks of every namespace.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found};
use nix::errno::Errno;

/// Ids of containers are matched by their start from this length on: shorter ones are names.
const SHORTEST: usize = 4;

/// Where its daemon listens.
const SOCKET: &str = "/run/containerd/containerd.sock";

pub fn begin() -> Answer {
    // Without a daemon its tool waits for one.
    let socket = std::env::var_os("CONTAINERD_ADDRESS").unwrap_or_else(|| SOCKET.into());
    if let Err(error) = UnixStream::connect(&socket) {
        let socket = Path::new(&socket).display();
        let reason = format!("nobody answers at {socket}: {}", reason(&error));
        return match error.kind() {
            ErrorKind::NotFound => Answer::Absent(reason),
            _ => Answer::Failed(reason),
        };
    }
    let arguments = ["namespaces", "list", "--quiet"];
    Answer::Further(vec![Question::new("ctr", arguments, namespaces)])
}

/// The error without its number.
fn reason(error: &std::io::Error) -> &'static str {
    Errno::from_raw(error.raw_os_error().unwrap_or_default()).desc()
}

fn namespaces(_engine: Engine, _name: &str, output: &Output) -> Answer {
    if !output.success {
        return output.failed();
    }
    let namespaces = output.stdout.split_ascii_whitespace();
    let tasks =
        |namespace| Question::new("ctr", ["--namespace", namespace, "tasks", "list"], tasks);
    Answer::Further(namespaces.map(tasks).collect())
}

/// A table of TASK, PID and STATUS.
fn tasks(engine: Engine, name: &str, output: &Output) -> Answer {
    if !output.success {
        return output.failed();
    }
    let mut exact = Vec::new();
    let mut by_start = Vec::new();
    for line in output.stdout.lines().skip(1) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [task, pid, status] = fields[..] else {
            continue;
        };
        if task == name {
            exact.push((task, pid, status));
        } else if name.len() >= SHORTEST && task.starts_with(name) {
            by_start.push((task, pid, status));
        }
    }
    let known = if exact.is_empty() { by_start } else { exact };
    let mut found = Vec::new();
    let mut stopped = None;
    for (task, pid, status) in known {
        match pid.parse() {
            Ok(pid) if pid > 0 && status != "STOPPED" => found.push(Found::new(engine, task, pid)),
            _ => stopped = Some(format!("{task} ({})", status.to_lowercase())),
        }
    }
    match (found.is_empty(), stopped) {
        (false, _) => Answer::Found(found),
        (true, Some(what)) => Answer::NotRunning(what),
        (true, None) => Answer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stdout: &str) -> Output {
        Output {
            success: true,
            stdout: stdout.to_owned(),
            complaint: String::new(),
        }
    }

    #[test]
    fn all_namespaces_are_asked() {
        let Answer::Further(questions) =
            namespaces(Engine::Containerd, "k1", &output("default\nk8s.io\n"))
        else {
            panic!("no further questions");
        };
        let asked: Vec<_> = questions
            .iter()
            .map(|one| one.arguments.join(" ".as_ref()))
            .collect();
        assert_eq!(
            asked,
            [
                "--namespace default tasks list",
                "--namespace k8s.io tasks list"
            ]
        );
        assert_eq!(
            namespaces(Engine::Containerd, "k1", &output("")),
            Answer::Further(Vec::new())
        );
    }

    #[test]
    fn tasks_are_found_by_id_and_by_its_start() {
        let table = "TASK    PID      STATUS    \nk1      17082    RUNNING\nk2      0        STOPPED\nabcdef  7        RUNNING\nabcdeg  8        RUNNING\n";
        let said = |name: &str| tasks(Engine::Containerd, name, &output(table));
        let found = |name: &str, pid| Found::new(Engine::Containerd, name, pid);
        assert_eq!(said("k1"), Answer::Found(vec![found("k1", 17082)]));
        assert_eq!(said("k2"), Answer::NotRunning("k2 (stopped)".to_owned()));
        assert_eq!(said("k"), Answer::Unknown);
        assert_eq!(said("abcdef"), Answer::Found(vec![found("abcdef", 7)]));
        assert_eq!(
            said("abcd"),
            Answer::Found(vec![found("abcdef", 7), found("abcdeg", 8)])
        );
    }
}
