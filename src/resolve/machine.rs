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
}
