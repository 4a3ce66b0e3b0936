//! systemd-nspawn containers and other machines that systemd-machined knows.

use super::ask::{Output, Question};
use super::{Answer, Engine, Found, sandbox};

pub fn begin(name: &str) -> Answer {
    let arguments = [
        "show",
        "--property=Leader",
        "--property=State",
        "--property=Class",
        "--",
        name,
    ];
    Answer::Further(vec![Question::new("machinectl", arguments, read)])
}

fn read(engine: Engine, name: &str, output: &Output) -> Answer {
    if !output.success {
        return if output.complaint.contains("No machine") {
            Answer::Unknown
        } else {
            output.failed()
        };
    }
    let property = |wanted: &str| {
        output.stdout.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key == wanted).then_some(value)
        })
    };
    if property("Class") == Some("vm") {
        return Answer::Refused(sandbox::virtual_machine("machinectl"));
    }
    match property("Leader").and_then(|pid| pid.parse().ok()) {
        Some(pid) if pid > 0 => Answer::Found(vec![Found::new(engine, name, pid)]),
        _ => {
            let state = property("State").unwrap_or("without a process");
            Answer::NotRunning(format!("{name} ({state})"))
        }
    }
}

pub fn begin_list() -> Answer {
    let arguments = ["list", "--no-legend", "--no-pager"];
    Answer::Further(vec![Question::new("machinectl", arguments, names)])
}

/// A table whose first column is the name.
fn names(_engine: Engine, _name: &str, output: &Output) -> Answer {
    if !output.success {
        return output.failed();
    }
    let lines = output.stdout.lines();
    let names: Vec<&str> = lines
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    if names.is_empty() {
        return Answer::Unknown;
    }
    let show = ["show", "--property=Name,Leader,Class", "--"];
    let arguments = show.into_iter().chain(names);
    Answer::Further(vec![Question::new("machinectl", arguments, all)])
}

/// Properties of one machine after the other, with an empty line between them.
fn all(engine: Engine, _name: &str, output: &Output) -> Answer {
    let machines = output.stdout.split("\n\n");
    let found = machines.filter_map(|machine| {
        let property = |wanted: &str| {
            let mut lines = machine.lines();
            lines.find_map(|line| line.strip_prefix(wanted)?.strip_prefix('='))
        };
        let pid = property("Leader")?.parse().ok().filter(|pid| *pid > 0)?;
        let contained = property("Class") == Some("container");
        contained.then(|| Found::new(engine, property("Name").unwrap_or_default(), pid))
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
        read(Engine::Machine, "m1", &output)
    }

    #[test]
    fn answers() {
        let found = Found::new(Engine::Machine, "m1", 1234);
        assert_eq!(
            said(true, "Leader=1234\nState=running\n", ""),
            Answer::Found(vec![found])
        );
        assert!(matches!(
            said(true, "Leader=1234\nState=running\nClass=vm\n", ""),
            Answer::Refused(_)
        ));
        let closing = Answer::NotRunning("m1 (closing)".to_owned());
        assert_eq!(said(true, "Leader=0\nState=closing\n", ""), closing);
        let unknown = "Could not get path to machine: No machine 'm1' known";
        assert_eq!(said(false, "", unknown), Answer::Unknown);
        let down = "System has not been booted with systemd as init system (PID 1). Can't operate.";
        assert_eq!(said(false, "", down), Answer::Failed(down.to_owned()));
    }

    #[test]
    fn lists() {
        let table = "n1 container systemd-nspawn busybox 1.35 -\nvm vm libvirt-qemu - - -\n";
        let Answer::Further(questions) = names(Engine::Machine, "", &Output::of(true, table, ""))
        else {
            panic!("no further question");
        };
        let asked = questions[0].arguments.join(" ".as_ref());
        assert_eq!(asked, "show --property=Name,Leader,Class -- n1 vm");
        let shown = "Name=n1\nClass=container\nLeader=7\n\nName=vm\nClass=vm\nLeader=8\n";
        assert_eq!(
            all(Engine::Machine, "", &Output::of(true, shown, "")),
            Answer::Found(vec![Found::new(Engine::Machine, "n1", 7)])
        );
        let none = names(Engine::Machine, "", &Output::of(true, "\n", ""));
        assert_eq!(none, Answer::Unknown);
    }
}
