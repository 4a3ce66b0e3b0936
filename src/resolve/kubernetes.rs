//! Kubernetes: the API server tells the ids of a pod's containers, and this machine whether they run here.

use serde::Deserialize;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found, cri, docker, process};

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize, Default)]
struct Spec {
    #[serde(rename = "nodeName", default)]
    node: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(rename = "containerStatuses", default)]
    containers: Vec<Container>,
    #[serde(rename = "initContainerStatuses", default)]
    init: Vec<Container>,
    #[serde(rename = "ephemeralContainerStatuses", default)]
    ephemeral: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    image: String,
    /// `RUNTIME://ID`, once there is one.
    #[serde(rename = "containerID", default)]
    id: String,
    #[serde(default)]
    state: State,
}

#[derive(Deserialize, Default)]
struct State {
    waiting: Option<Reason>,
    terminated: Option<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
}

impl Container {
    /// Why it does not run.
    fn obstacle(&self) -> Option<String> {
        let reason = self
            .state
            .waiting
            .as_ref()
            .or(self.state.terminated.as_ref());
        match reason {
            Some(reason) if !reason.reason.is_empty() => Some(reason.reason.clone()),
            Some(_) => Some("not running".to_owned()),
            None if self.id.is_empty() => Some("not started".to_owned()),
            None => None,
        }
    }
}

/// Whether `name` is `NAMESPACE/POD` or `NAMESPACE/POD/CONTAINER`.
pub fn is_path(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    matches!(parts.len(), 2 | 3) && parts.iter().all(|part| is_label(part))
}

/// Whether Kubernetes could call something that.
fn is_label(part: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    !part.is_empty() && !part.starts_with(['-', '.']) && part.bytes().all(allowed)
}

pub fn begin(name: &str) -> Answer {
    let parts: Vec<&str> = name.split('/').collect();
    if !parts.iter().all(|part| is_label(part)) {
        return Answer::Unknown;
    }
    let (namespace, pod, container) = match parts[..] {
        [pod] => (None, pod, None),
        [namespace, pod] => (Some(namespace), pod, None),
        [namespace, pod, container] => (Some(namespace), pod, Some(container.to_owned())),
        _ => return Answer::Unknown,
    };
    let mut arguments = vec![
        "get",
        "pod",
        pod,
        "--output",
        "json",
        "--request-timeout",
        "4s",
    ];
    if let Some(namespace) = namespace {
        arguments.extend(["--namespace", namespace]);
    }
    Answer::Further(vec![Question::new(
        "kubectl",
        arguments,
        move |engine, _, output| read(engine, container.as_deref(), output, &process_of),
    )])
}

/// The process that has been longest in the cgroup of the container `id`.
fn process_of(id: &str) -> Option<i32> {
    process::first_in_cgroup(|_, path| {
        // Of CRI-O's two cgroups for a container one is its monitor's.
        let mut parts = path.split('/');
        parts.any(|part| part.contains(id) && !part.contains("conmon"))
    })
}

/// The containers of a pod: `here` finds those that run on this machine.
fn read(
    engine: Engine,
    container: Option<&str>,
    output: &Output,
    here: &dyn Fn(&str) -> Option<i32>,
) -> Answer {
    if !output.success {
        return if output.complaint.contains("(NotFound)") {
            Answer::Unknown
        } else {
            output.failed()
        };
    }
    let pod: Pod = match serde_json::from_str(&output.stdout) {
        Ok(pod) => pod,
        Err(error) => return Answer::Failed(format!("its answer cannot be understood: {error}")),
    };
    let Metadata { name, namespace } = &pod.metadata;
    let status = &pod.status;
    let wanted: Vec<&Container> = match container {
        // Who names a container may mean one that is not there for long.
        Some(container) => {
            let all = status
                .containers
                .iter()
                .chain(&status.init)
                .chain(&status.ephemeral);
            all.filter(|one| one.name == container).collect()
        }
        None => status.containers.iter().collect(),
    };
    let (mut found, mut questions) = (Vec::new(), Vec::new());
    let (mut stopped, mut elsewhere) = (None, None);
    for one in wanted {
        let path = format!("{namespace}/{name}/{}", one.name);
        if let Some(reason) = one.obstacle() {
            stopped = Some(format!("{path} ({reason})"));
            continue;
        }
        let (runtime, id) = one.id.split_once("://").unwrap_or(("", &one.id));
        if let Some(pid) = here(id) {
            found.push(Found::new(engine, path, pid).id(id).image(&one.image));
            continue;
        }
        let question = match runtime {
            "docker" => Some(docker::begin_with(id, path.clone())),
            _ => cri::begin_with(cri::Member::new(id, namespace, name, &one.name)),
        };
        let node = pod.spec.node.clone();
        match question {
            Some(question) => questions.push(question.or(move || absent(&path, &node))),
            None => elsewhere = Some(absent(&path, &node)),
        }
    }
    if !found.is_empty() {
        return Answer::Found(found);
    }
    if !questions.is_empty() {
        return Answer::Further(questions);
    }
    match (elsewhere, stopped) {
        (Some(answer), _) => answer,
        (None, Some(what)) => Answer::NotRunning(what),
        (None, None) if container.is_some() => Answer::Unknown,
        (None, None) => Answer::NotRunning(format!("{namespace}/{name} ({})", status.phase)),
    }
}

/// What to say about a container that runs, but not here.
fn absent(path: &str, node: &str) -> Answer {
    let own = nix::unistd::gethostname().unwrap_or_default();
    if node.is_empty() || own.to_string_lossy() == node {
        Answer::Refused(format!(
            "no process of {path} is to be seen on this machine"
        ))
    } else {
        Answer::Refused(format!("{path} runs on the node {node}: use cntr there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "namespace": "shop"},
      "spec": {"nodeName": "node-of-a-test", "containers": []},
      "status": {"phase": "Running",
        "initContainerStatuses": [{"name": "setup", "containerID": "containerd://0000",
          "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}],
        "containerStatuses": [
          {"name": "app", "image": "shop:1", "containerID": "containerd://aaaa", "state": {"running": {}}},
          {"name": "log", "image": "log:2", "containerID": "cri-o://bbbb", "state": {"running": {}}},
          {"name": "old", "containerID": "docker://cccc", "state": {"running": {}}},
          {"name": "sick", "containerID": "containerd://dddd", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}"#;

    fn said(container: Option<&str>, text: &str, here: &dyn Fn(&str) -> Option<i32>) -> Answer {
        let output = Output::of(true, text, "");
        read(Engine::Kubernetes, container, &output, here)
    }

    fn found(name: &str, id: &str, image: &str, pid: i32) -> Found {
        let path = format!("shop/web-0/{name}");
        Found::new(Engine::Kubernetes, path, pid)
            .id(id)
            .image(image)
    }

    #[test]
    fn containers_are_found_by_their_ids() {
        let here = |id: &str| match id {
            "aaaa" => Some(7),
            "bbbb" => Some(8),
            _ => None,
        };
        let app = found("app", "aaaa", "shop:1", 7);
        let log = found("log", "bbbb", "log:2", 8);
        assert_eq!(
            said(Some("app"), POD, &here),
            Answer::Found(vec![app.clone()])
        );
        assert_eq!(said(None, POD, &here), Answer::Found(vec![app, log]));
        let stopped =
            |name: &str, why: &str| Answer::NotRunning(format!("shop/web-0/{name} ({why})"));
        assert_eq!(
            said(Some("sick"), POD, &here),
            stopped("sick", "CrashLoopBackOff")
        );
        assert_eq!(
            said(Some("setup"), POD, &here),
            stopped("setup", "Completed")
        );
        assert_eq!(said(Some("nobody"), POD, &here), Answer::Unknown);
        let pending = r#"{"metadata": {"name": "web-0", "namespace": "shop"}, "status": {"phase": "Pending"}}"#;
        let pending = said(None, pending, &here);
        assert_eq!(
            pending,
            Answer::NotRunning("shop/web-0 (Pending)".to_owned())
        );
    }

    #[test]
    fn the_runtime_is_asked_for_those_without_a_cgroup() {
        let Answer::Further(questions) = said(Some("old"), POD, &|_| None) else {
            panic!("no question");
        };
        let asked = questions[0].arguments.join(" ".as_ref());
        assert_eq!(
            (questions[0].program, asked.to_str()),
            ("docker", Some("container inspect -- cccc"))
        );
        assert_eq!(
            absent("shop/web-0/app", "node-of-a-test"),
            Answer::Refused(
                "shop/web-0/app runs on the node node-of-a-test: use cntr there".to_owned()
            )
        );
    }

    #[test]
    fn errors() {
        let failed = |complaint: &str| {
            read(
                Engine::Kubernetes,
                None,
                &Output::of(false, "", complaint),
                &|_| None,
            )
        };
        let unknown = "Error from server (NotFound): pods \"web\" not found";
        assert_eq!(failed(unknown), Answer::Unknown);
        let down = "The connection to the server localhost:8080 was refused - did you specify the right host or port?";
        assert_eq!(failed(down), Answer::Failed(down.to_owned()));
        assert!(matches!(said(None, "[]", &|_| None), Answer::Failed(_)));
    }

    #[test]
    fn paths() {
        let asked = |name: &str| match begin(name) {
            Answer::Further(questions) => questions[0].arguments.join(" ".as_ref()),
            answer => panic!("{answer:?}"),
        };
        let get = "get pod web-0 --output json --request-timeout 4s";
        assert_eq!(asked("web-0"), get);
        for name in ["shop/web-0", "shop/web-0/app"] {
            assert!(is_path(name), "{name}");
            assert_eq!(asked(name), format!("{get} --namespace shop").as_str());
        }
        for name in ["web", "/srv/lxc/web", "a/b/c/d", "a//b", "-n/x", "A/b"] {
            assert!(!is_path(name), "{name}");
        }
        for name in ["-x", "a/b/c/d", "UPPER"] {
            assert_eq!(begin(name), Answer::Unknown, "{name}");
        }
    }
}
