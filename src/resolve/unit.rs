//! Units of systemd: their main process, or the one that has been longest in their cgroup.

use super::ask::{Output, Question};
use super::{Answer, Engine, Found, process};

/// What names of units with processes end with.
const KINDS: [&str; 7] = [
    ".service", ".scope", ".slice", ".socket", ".mount", ".swap", ".timer",
];

/// Whether `name` says that it is a unit's.
pub fn is_whole_name(name: &str) -> bool {
    KINDS.iter().any(|kind| name.ends_with(kind))
}

pub fn begin(name: &str) -> Answer {
    let arguments = [
        "show",
        "--property=Id,LoadState,ActiveState,MainPID,ControlGroup",
        "--",
        name,
    ];
    Answer::Further(vec![Question::new("systemctl", arguments, read)])
}

fn read(engine: Engine, name: &str, output: &Output) -> Answer {
    if !output.success {
        let odd = output.complaint.contains("not a valid") || output.complaint.contains("Invalid");
        return if odd {
            Answer::Unknown
        } else {
            output.failed()
        };
    }
    let property = |wanted: &str| {
        let mut lines = output.stdout.lines();
        lines.find_map(|line| line.strip_prefix(wanted)?.strip_prefix('='))
    };
    let called = property("Id").filter(|id| !id.is_empty()).unwrap_or(name);
    let Some(state) = property("ActiveState") else {
        return Answer::Failed("its answer has no state".to_owned());
    };
    let main = property("MainPID").and_then(|pid| pid.parse().ok());
    let group = property("ControlGroup").filter(|path| path.len() > 1);
    let pid = main.filter(|pid| *pid > 0).or_else(|| {
        let group = group?;
        process::first_in_cgroup(|controllers, path| {
            let rest = path.strip_prefix(group);
            // The hierarchies that systemd keeps units in.
            matches!(controllers, "" | "name=systemd")
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    });
    match pid {
        Some(pid) => Answer::Found(vec![Found::new(engine, called, pid)]),
        None if property("LoadState") == Some("not-found") => Answer::Unknown,
        None if state == "active" => {
            Answer::NotRunning(format!("{called} (active, without a process)"))
        }
        None => Answer::NotRunning(format!("{called} ({state})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(success: bool, stdout: &str, complaint: &str) -> Answer {
        let output = Output::of(success, stdout, complaint);
        read(Engine::Systemd, "web", &output)
    }

    #[test]
    fn answers() {
        let running = "MainPID=812\nControlGroup=/system.slice/web.service\nId=web.service\nLoadState=loaded\nActiveState=active\n";
        let found = Found::new(Engine::Systemd, "web.service", 812);
        assert_eq!(said(true, running, ""), Answer::Found(vec![found]));
        let stopped =
            "MainPID=0\nControlGroup=\nId=web.service\nLoadState=loaded\nActiveState=inactive\n";
        assert_eq!(
            said(true, stopped, ""),
            Answer::NotRunning("web.service (inactive)".to_owned())
        );
        let exited = "MainPID=0\nControlGroup=/no/such/group\nId=web.service\nLoadState=loaded\nActiveState=active\n";
        assert_eq!(
            said(true, exited, ""),
            Answer::NotRunning("web.service (active, without a process)".to_owned())
        );
        let unknown =
            "MainPID=0\nControlGroup=\nId=web.service\nLoadState=not-found\nActiveState=inactive\n";
        assert_eq!(said(true, unknown, ""), Answer::Unknown);
        let odd = "Failed to get properties: Unit name we/b.service is not a valid unit name";
        assert_eq!(said(false, "", odd), Answer::Unknown);
        let down = "System has not been booted with systemd as init system (PID 1). Can't operate.";
        assert_eq!(said(false, "", down), Answer::Failed(down.to_owned()));
        assert!(matches!(said(true, "", ""), Answer::Failed(_)));
    }

    #[test]
    fn whole_names() {
        assert!(is_whole_name("nginx.service") && is_whole_name("init.scope"));
        assert!(!is_whole_name("nginx") && !is_whole_name("web.example"));
    }
}
