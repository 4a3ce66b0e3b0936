//! rkt: the first process of a pod.

use std::fs;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found};

pub fn begin(name: &str) -> Answer {
    Answer::Further(vec![Question::new("rkt", ["status", name], read)])
}

pub fn begin_list() -> Answer {
    let arguments = ["list", "--full", "--no-legend"];
    Answer::Further(vec![Question::new("rkt", arguments, list)])
}

/// A table with a line for each app of a pod, the pod's UUID in the first.
fn list(_engine: Engine, _name: &str, output: &Output) -> Answer {
    if !output.success {
        return output.failed();
    }
    let running = |line: &&str| line.split_ascii_whitespace().any(|word| word == "running");
    let pods = output.stdout.lines().filter(running).filter_map(|line| {
        let uuid = line.split_ascii_whitespace().next()?;
        (uuid.len() == 36 && uuid.matches('-').count() == 4).then(|| uuid.to_owned())
    });
    let status = |uuid: String| {
        let arguments = ["status".to_owned(), uuid.clone()];
        let arguments = arguments.iter().map(String::as_str);
        Question::new("rkt", arguments, move |engine, _, output| {
            read(engine, &uuid, output)
        })
    };
    let questions: Vec<Question> = pods.map(status).collect();
    if questions.is_empty() {
        return Answer::Unknown;
    }
    Answer::Further(questions)
}

fn read(engine: Engine, name: &str, output: &Output) -> Answer {
    if !output.success {
        let unknown = ["no matches found", "UUID", "pod does not exist"];
        return if unknown.iter().any(|text| output.complaint.contains(text)) {
            Answer::Unknown
        } else {
            output.failed()
        };
    }
    let field = |wanted: &str| {
        let mut lines = output.stdout.lines();
        lines.find_map(|line| line.strip_prefix(wanted)?.strip_prefix('='))
    };
    let Some(state) = field("state") else {
        return Answer::Failed("its answer has no state".to_owned());
    };
    match field("pid").and_then(|pid| pid.parse().ok()) {
        Some(pid) if pid > 0 && state == "running" => {
            Answer::Found(vec![Found::new(engine, name, first(pid))])
        }
        _ => Answer::NotRunning(format!("{name} ({state})")),
    }
}

/// Some versions name what has started the pod's first process instead of that: it is the first child then.
fn first(pid: i32) -> i32 {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    if namespace(pid) != namespace(std::process::id().cast_signed()) {
        return pid;
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let mut children = children.split_ascii_whitespace();
    let child = children.next().and_then(|child| child.parse().ok());
    child
        .filter(|child| namespace(*child) != namespace(pid))
        .unwrap_or(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(success: bool, stdout: &str, complaint: &str) -> Answer {
        let output = Output::of(success, stdout, complaint);
        read(Engine::Rkt, "66ceb509", &output)
    }

    #[test]
    fn answers() {
        let running = "state=running\ncreated=2018-01-27 14:33:45.27 +0100 CET\nstarted=2018-01-27 14:33:45.37 +0100 CET\n\
                       networks=default:ip4=172.16.28.7\npid=2147483647\nexited=false\n";
        let found = Found::new(Engine::Rkt, "66ceb509", i32::MAX);
        assert_eq!(said(true, running, ""), Answer::Found(vec![found]));
        let exited = "state=exited\npid=-1\nexited=true\napp-etcd=0\n";
        assert_eq!(
            said(true, exited, ""),
            Answer::NotRunning("66ceb509 (exited)".to_owned())
        );
        let unknown = "status: problem retrieving pod: no matches found for \"66ceb509\"";
        assert_eq!(said(false, "", unknown), Answer::Unknown);
        assert!(matches!(said(true, "", ""), Answer::Failed(_)));
        assert!(matches!(
            said(false, "", "cannot open store"),
            Answer::Failed(_)
        ));
    }

    #[test]
    fn lists() {
        let table = "d5513d49-d14f-45d1-944b-39437798ddda\tetcd\tcoreos.com/etcd:v2\trunning\t2015-12-15\tdefault\n\
                     \tlog\tlog:1\t\t\t\n66ceb509-3f6b-4c1e-8c1e-0f2f2d6f7f0a\tweb\tweb:1\texited\t2015-12-15\t\n";
        let Answer::Further(questions) = list(Engine::Rkt, "", &Output::of(true, table, "")) else {
            panic!("no further question");
        };
        assert_eq!(questions.len(), 1);
        let asked = questions[0].arguments.join(" ".as_ref());
        assert_eq!(asked, "status d5513d49-d14f-45d1-944b-39437798ddda");
        assert_eq!(
            list(Engine::Rkt, "", &Output::of(true, "", "")),
            Answer::Unknown
        );
    }
}
