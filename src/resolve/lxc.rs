//! LXC. `DIRECTORY/NAME` is a container below another directory than the configured one (`lxc.lxcpath`).

use std::path::Path;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found};

pub fn begin(name: &str) -> Answer {
    let [state, pid, by_name] = ["--state", "--pid", "--name"];
    Answer::Further(vec![match name.rsplit_once('/') {
        // No name has a slash.
        Some((directory, _)) if !Path::new(directory).is_absolute() => return Answer::Unknown,
        Some((directory, name)) => {
            let arguments = ["--lxcpath", directory, state, pid, by_name, name];
            Question::new("lxc-info", arguments, read)
        }
        None => Question::new("lxc-info", [state, pid, by_name, name], read),
    }])
}

fn read(engine: Engine, name: &str, output: &Output) -> Answer {
    // Some versions complain on standard output.
    let said = format!("{}\n{}", output.stdout, output.complaint);
    if said.contains("doesn't exist") || said.contains("does not exist") {
        return Answer::Unknown;
    }
    if !output.success {
        return output.failed();
    }
    let field = |wanted: &str| {
        output.stdout.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim().eq_ignore_ascii_case(wanted)).then(|| value.trim())
        })
    };
    match field("pid").and_then(|pid| pid.parse().ok()) {
        Some(pid) if pid > 0 => Answer::Found(vec![Found::new(engine, name, pid)]),
        _ => match field("state") {
            Some(state) => Answer::NotRunning(format!("{name} ({})", state.to_lowercase())),
            None => Answer::Failed("its answer has neither a state nor a process".to_owned()),
        },
    }
}

pub fn begin_list() -> Answer {
    let arguments = ["--running", "--fancy", "--fancy-format", "NAME,PID"];
    Answer::Further(vec![Question::new("lxc-ls", arguments, list)])
}

/// A table of NAME and PID.
fn list(engine: Engine, _name: &str, output: &Output) -> Answer {
    if !output.success {
        return output.failed();
    }
    let lines = output.stdout.lines().skip(1);
    let found = lines.filter_map(|line| {
        let (name, pid) = line.trim().split_once(char::is_whitespace)?;
        let pid = pid.trim().parse().ok().filter(|pid| *pid > 0)?;
        Some(Found::new(engine, name, pid))
    });
    Answer::Found(found.collect())
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
        read(Engine::Lxc, "web", &output)
    }

    #[test]
    fn answers() {
        let found = Found::new(Engine::Lxc, "web", 1234);
        let running = "State:          RUNNING\nPID:            1234\n";
        assert_eq!(said(true, running, ""), Answer::Found(vec![found]));
        let stopped = Answer::NotRunning("web (stopped)".to_owned());
        assert_eq!(said(true, "State:          STOPPED\n", ""), stopped);
        assert_eq!(said(false, "web doesn't exist\n", ""), Answer::Unknown);
        assert_eq!(said(false, "", "web doesn't exist"), Answer::Unknown);
        assert!(matches!(said(true, "", ""), Answer::Failed(_)));
        assert!(matches!(
            said(false, "", "Permission denied"),
            Answer::Failed(_)
        ));
    }

    #[test]
    fn other_directories() {
        let asked = |name: &str| match begin(name) {
            Answer::Further(questions) => questions[0].arguments.join(" ".as_ref()),
            answer => panic!("{answer:?}"),
        };
        assert_eq!(asked("web"), "--state --pid --name web");
        assert_eq!(
            asked("/srv/lxc/web"),
            "--lxcpath /srv/lxc --state --pid --name web"
        );
        assert_eq!(begin("namespace/web"), Answer::Unknown);
    }

    #[test]
    fn lists() {
        let table = "NAME  PID  \nidmap 7020 \npriv  6197 \nold   -\n";
        let found = |name, pid| Found::new(Engine::Lxc, name, pid);
        assert_eq!(
            list(Engine::Lxc, "", &Output::of(true, table, "")),
            Answer::Found(vec![found("idmap", 7020), found("priv", 6197)])
        );
        let none = list(Engine::Lxc, "", &Output::of(true, "", ""));
        assert_eq!(none, Answer::Found(Vec::new()));
    }
}
