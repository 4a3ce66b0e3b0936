//! containerd, by its own tool: the tasks of every namespace.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found};

/// Ids of containers are matched by their start from this length on: shorter ones are names.
const SHORTEST: usize = 4;

/// Where its daemon listens.
const SOCKET: &str = "/run/containerd/containerd.sock";

pub fn begin() -> Answer {
    ask(namespaces)
}

pub fn begin_list() -> Answer {
    ask(all_namespaces)
}

/// The first question, unless there is nobody to answer it.
fn ask(read: fn(Engine, &str, &Output) -> Answer) -> Answer {
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
    Answer::Further(vec![Question::new("ctr", arguments, read)])
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

/// The containers of each namespace, for their images, and then its tasks.
fn all_namespaces(_engine: Engine, _name: &str, output: &Output) -> Answer {
    if !output.success {
        return output.failed();
    }
    let namespaces = output.stdout.split_ascii_whitespace();
    let containers = |namespace: &str| {
        let arguments = ["--namespace", namespace, "containers", "list"];
        let namespace = namespace.to_owned();
        Question::new("ctr", arguments, move |_, _, output| {
            let images = images(&output.stdout);
            let arguments = ["--namespace", &namespace, "tasks", "list"];
            Answer::Further(vec![Question::new(
                "ctr",
                arguments,
                move |engine, _, output| all(engine, &images, output),
            )])
        })
    };
    Answer::Further(namespaces.map(containers).collect())
}

/// A table of CONTAINER, IMAGE and RUNTIME.
fn images(table: &str) -> HashMap<String, String> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    });
    rows.collect()
}

fn all(engine: Engine, images: &HashMap<String, String>, output: &Output) -> Answer {
    if !output.success {
        return output.failed();
    }
    let found = output.stdout.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [task, pid, status] = fields[..] else {
            return None;
        };
        let pid = pid
            .parse()
            .ok()
            .filter(|pid| *pid > 0 && status != "STOPPED")?;
        let image = images.get(task).map_or("", String::as_str);
        Some(Found::new(engine, task, pid).image(image))
    });
    Answer::Found(found.collect())
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

    #[test]
    fn lists() {
        let table = "CONTAINER    IMAGE                     RUNTIME                  \nk1           docker.io/library/bb:1    io.containerd.runc.v2    \n";
        let images = images(table);
        let tasks = output(
            "TASK    PID      STATUS    \nk1      17082    RUNNING\nk2      7        STOPPED\n",
        );
        let found = Found::new(Engine::Containerd, "k1", 17082).image("docker.io/library/bb:1");
        assert_eq!(
            all(Engine::Containerd, &images, &tasks),
            Answer::Found(vec![found])
        );
    }
}
