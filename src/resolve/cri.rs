//! Container runtimes that serve a kubelet (CRI), by crictl: containerd, CRI-O, and Docker behind a shim.
//!
//! Containers are called `NAMESPACE/POD/CONTAINER`. Three questions: the pods, the containers, and what of these matches. Pods
//! have to be asked for because only a kubelet labels its containers with them.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found, docker, sandbox};

/// Ids of containers are matched by their start from this length on.
const SHORTEST: usize = 4;

/// Where its configuration can be.
const CONFIGURATION: &str = "/etc/crictl.yaml";

/// Where runtimes listen. crictl tries some of them by itself, one after the other and each for seconds.
const SOCKETS: [&str; 5] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/cri-dockerd.sock",
    "/run/dockershim.sock",
];

#[derive(Deserialize)]
struct Pods {
    #[serde(default)]
    items: Vec<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    id: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(rename = "runtimeHandler", default)]
    runtime: String,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct Containers {
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    id: String,
    #[serde(rename = "podSandboxId", default)]
    pod: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    image: Image,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize, Default)]
struct Image {
    #[serde(rename = "userSpecifiedImage", default)]
    specified: String,
    #[serde(default)]
    image: String,
}

/// A container of a pod.
pub struct Member {
    id: String,
    image: String,
    runs: bool,
    /// What it does instead of running.
    state: String,
    namespace: String,
    pod: String,
    name: String,
    /// The runtime's name for what runs it, if it is not the default.
    runtime: String,
}

impl Member {
    /// One that runs.
    pub fn new(id: &str, namespace: &str, pod: &str, name: &str) -> Member {
        Member {
            id: id.to_owned(),
            image: String::new(),
            runs: true,
            state: String::new(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            name: name.to_owned(),
            runtime: String::new(),
        }
    }

    fn path(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.pod, self.name)
    }

    /// How well `name` means it, 0 the best.
    fn rank(&self, name: &str) -> Option<u8> {
        let pod = [&self.namespace, "/", &self.pod].concat();
        if name == self.id || name == self.path() || name == pod {
            Some(0)
        } else if name == self.name || name == self.pod {
            Some(1)
        } else if name.len() >= SHORTEST && self.id.starts_with(name) {
            Some(2)
        } else {
            None
        }
    }
}

pub fn begin() -> Answer {
    ask(choose_by_name)
}

pub fn begin_list() -> Answer {
    ask(|members, _| members.into_iter().filter(|one| one.runs).collect())
}

/// Those that `name` means best.
fn choose_by_name(members: Vec<Member>, name: &str) -> Vec<Member> {
    let best = members.iter().filter_map(|one| one.rank(name)).min();
    let is_meant = |one: &Member| best.is_some() && one.rank(name) == best;
    members.into_iter().filter(is_meant).collect()
}

/// Which of all containers are wanted by a name.
type Choice = fn(Vec<Member>, &str) -> Vec<Member>;

/// How to reach the runtime: as the user has configured, else the one that listens.
fn endpoint() -> Result<Vec<String>, Answer> {
    let given = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if given("CONTAINER_RUNTIME_ENDPOINT")
        || given("CRI_CONFIG_FILE")
        || Path::new(CONFIGURATION).exists()
    {
        return Ok(Vec::new());
    }
    match SOCKETS.iter().find(|socket| Path::new(socket).exists()) {
        Some(socket) => Ok(vec![
            "--runtime-endpoint".to_owned(),
            format!("unix://{socket}"),
        ]),
        None => Err(Answer::Absent(
            "no runtime of a kubelet listens here".to_owned(),
        )),
    }
}

/// The first question, unless there is nobody to answer it.
fn ask(choose: Choice) -> Answer {
    let options = match endpoint() {
        Ok(options) => options,
        Err(answer) => return answer,
    };
    let all = ["pods", "--output", "json"];
    let asked = question(&options.clone(), &all, move |_, _, output| {
        let pods: Pods = match read(output) {
            Ok(pods) => pods,
            Err(answer) => return answer,
        };
        let pods: HashMap<String, Pod> = pods
            .items
            .into_iter()
            .map(|pod| (pod.id.clone(), pod))
            .collect();
        let next = options.clone();
        let all = ["ps", "--all", "--output", "json"];
        let asked = question(&options, &all, move |_, name, output| {
            let containers: Containers = match read(output) {
                Ok(containers) => containers,
                Err(answer) => return answer,
            };
            let members = containers.containers.into_iter();
            let members = members.map(|one| member(one, &pods)).collect();
            inspect(&next, choose(members, name))
        });
        Answer::Further(vec![asked])
    });
    Answer::Further(vec![asked])
}

fn question(
    options: &[String],
    arguments: &[&str],
    read: impl Fn(Engine, &str, &Output) -> Answer + 'static,
) -> Question {
    let options = options.iter().map(String::as_str);
    Question::new("crictl", options.chain(arguments.iter().copied()), read)
}

/// What JSON says, or why there is none.
fn read<T: serde::de::DeserializeOwned>(output: &Output) -> Result<T, Answer> {
    if !output.success {
        let complaint = &output.complaint;
        // A containerd that serves Docker only.
        if complaint.contains("unknown service") || complaint.contains("Unimplemented") {
            return Err(Answer::Absent(
                "the runtime here serves no kubelet".to_owned(),
            ));
        }
        return Err(output.failed());
    }
    serde_json::from_str(&output.stdout).map_err(|error| not_understood(&error))
}

fn not_understood(error: &serde_json::Error) -> Answer {
    Answer::Failed(format!("its answer cannot be understood: {error}"))
}

fn member(container: Container, pods: &HashMap<String, Pod>) -> Member {
    let pod = pods.get(&container.pod);
    let Image { specified, image } = container.image;
    Member {
        runs: container.state == "CONTAINER_RUNNING",
        state: container
            .state
            .trim_start_matches("CONTAINER_")
            .to_lowercase(),
        namespace: pod.map_or_else(String::new, |pod| pod.metadata.namespace.clone()),
        pod: pod.map_or_else(String::new, |pod| pod.metadata.name.clone()),
        runtime: pod.map_or_else(String::new, |pod| pod.runtime.clone()),
        name: container.metadata.name,
        image: if specified.is_empty() {
            image
        } else {
            specified
        },
        id: container.id,
    }
}

/// Asks for the processes of those that run.
fn inspect(options: &[String], members: Vec<Member>) -> Answer {
    let (running, other): (Vec<_>, Vec<_>) = members.into_iter().partition(|one| one.runs);
    if running.is_empty() {
        return other.first().map_or(Answer::Unknown, |one| {
            Answer::NotRunning(format!("{} ({})", one.path(), one.state))
        });
    }
    if let [one] = &running[..]
        && let Some(reason) = sandbox::of_runtime(&one.runtime)
    {
        return Answer::Refused(reason);
    }
    Answer::Further(vec![question_about(options, running)])
}

/// The question for the processes of `members`.
fn question_about(options: &[String], members: Vec<Member>) -> Question {
    let ids: Vec<String> = members.iter().map(|one| one.id.clone()).collect();
    let mut arguments = vec!["inspect", "--output", "json"];
    arguments.extend(ids.iter().map(String::as_str));
    question(options, &arguments, move |engine, _, output| {
        inspected(engine, &members, output)
    })
}

/// The question for the process of one that somebody else knows; none if nobody here could answer it.
pub fn begin_with(member: Member) -> Option<Question> {
    let options = endpoint().ok()?;
    Some(question_about(&options, vec![member]))
}

/// What is known of `members` from their inspection: one object after the other, or a list of them.
fn inspected(engine: Engine, members: &[Member], output: &Output) -> Answer {
    let mut found = Vec::new();
    let (mut refused, mut without) = (None, Vec::new());
    for document in serde_json::Deserializer::from_str(&output.stdout).into_iter::<Value>() {
        let document = match document {
            Ok(document) => document,
            Err(error) => return not_understood(&error),
        };
        let list = match document {
            Value::Array(list) => list,
            one => vec![one],
        };
        for status in &list {
            let id = status.pointer("/status/id").and_then(Value::as_str);
            let Some(member) = members.iter().find(|one| Some(one.id.as_str()) == id) else {
                continue;
            };
            let runtime = status.pointer("/info/runtimeType").and_then(Value::as_str);
            if let Some(reason) = runtime.and_then(sandbox::of_runtime) {
                refused.get_or_insert(reason);
                continue;
            }
            match pid(status) {
                Some(pid) => found.push(
                    Found::new(engine, member.path(), pid)
                        .id(&member.id)
                        .image(&member.image),
                ),
                None => without.push((member.id.clone(), member.path())),
            }
        }
    }
    // A shim for Docker does not know processes; Docker does, by the same ids.
    if found.is_empty() && !without.is_empty() {
        let ask = |(id, path): (String, String)| docker::begin_with(&id, path);
        return Answer::Further(without.into_iter().map(ask).collect());
    }
    match (found.is_empty(), refused) {
        (false, _) => Answer::Found(found),
        (true, Some(reason)) => Answer::Refused(reason),
        (true, None) if !output.success => output.failed(),
        (true, None) => Answer::Unknown,
    }
}

/// The process in an inspection: of containerd and CRI-O, and of CRI-O before 1.13.
fn pid(status: &Value) -> Option<i32> {
    let known = ["/info/pid", "/pid"];
    let pid = known.iter().find_map(|path| status.pointer(path))?;
    let pid = match pid {
        Value::String(text) => text.parse().ok()?,
        number => i32::try_from(number.as_i64()?).ok()?,
    };
    (pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member_of(id: &str, name: &str) -> Member {
        Member {
            image: "bb:1".to_owned(),
            ..Member::new(id, "default", "pod-k1", name)
        }
    }

    fn said(output: &Output) -> Answer {
        let members = [member_of("899635d5b592", "k1")];
        inspected(Engine::Cri, &members, output)
    }

    fn found(pid: i32) -> Answer {
        let one = Found::new(Engine::Cri, "default/pod-k1/k1", pid);
        Answer::Found(vec![one.id("899635d5b592").image("bb:1")])
    }

    #[test]
    fn processes_are_found_in_inspections_of_every_runtime() {
        for (runtime, text) in [
            (
                "containerd",
                r#"{"status": {"id": "899635d5b592", "state": "CONTAINER_RUNNING"},
                    "info": {"sandboxID": "41", "pid": 16017, "runtimeType": "io.containerd.runc.v2"}}"#,
            ),
            (
                "CRI-O",
                r#"{"status": {"id": "899635d5b592"}, "info": {"sandboxID": "41", "pid": 16017, "runtimeSpec": {}}}"#,
            ),
            (
                "CRI-O before 1.13",
                r#"{"status": {"id": "899635d5b592"}, "pid": "16017", "sandboxId": "41"}"#,
            ),
            (
                "a list",
                r#"[{"status": {"id": "899635d5b592"}, "info": {"pid": 16017}}]"#,
            ),
            (
                "several documents",
                r#"{"status": {"id": "other"}, "info": {"pid": 7}} {"status": {"id": "899635d5b592"}, "info": {"pid": 16017}}"#,
            ),
        ] {
            assert_eq!(said(&Output::of(true, text, "")), found(16017), "{runtime}");
        }
        // Docker behind a shim: it has to be asked itself.
        let shim =
            r#"{"status": {"id": "899635d5b592", "state": "CONTAINER_RUNNING"}, "info": {}}"#;
        let Answer::Further(questions) = said(&Output::of(true, shim, "")) else {
            panic!("no further question");
        };
        assert_eq!(questions[0].program, "docker");
        assert_eq!(
            questions[0].arguments.join(" ".as_ref()),
            "container inspect -- 899635d5b592"
        );
        for (runtime, what) in [
            ("io.containerd.kata.v2", "virtual machine"),
            ("io.containerd.runsc.v1", "gVisor"),
        ] {
            let text = format!(
                r#"{{"status": {{"id": "899635d5b592"}}, "info": {{"pid": 7, "runtimeType": "{runtime}"}}}}"#
            );
            let answer = said(&Output::of(true, &text, ""));
            assert!(matches!(&answer, Answer::Refused(reason) if reason.contains(what)));
        }
        let gone = "rpc error: code = NotFound desc = an error occurred when try to find container";
        assert_eq!(
            said(&Output::of(false, "", gone)),
            Answer::Failed(gone.to_owned())
        );
        assert!(matches!(
            said(&Output::of(true, "no JSON", "")),
            Answer::Failed(_)
        ));
    }

    #[test]
    fn the_best_name_is_meant() {
        let members = || {
            vec![
                member_of("899635d5b592", "k1"),
                member_of("89960000aaaa", "8996"),
                Member::new("0123456789ab", "other", "pod-k1", "k1"),
            ]
        };
        let ids = |name: &str| {
            let chosen = choose_by_name(members(), name);
            let ids: Vec<String> = chosen.iter().map(|one| one.id[..4].to_owned()).collect();
            ids.join(" ")
        };
        assert_eq!(ids("default/pod-k1/k1"), "8996");
        assert_eq!(ids("default/pod-k1"), "8996 8996");
        assert_eq!(ids("k1"), "8996 0123");
        assert_eq!(ids("pod-k1"), "8996 8996 0123");
        // A name comes before the start of an id.
        assert_eq!(choose_by_name(members(), "8996").len(), 1);
        assert_eq!(ids("89963"), "8996");
        assert_eq!(ids("012"), "");
        assert_eq!(ids("nobody"), "");
    }

    #[test]
    fn containers_that_have_ended_are_not_asked_about() {
        let mut ended = member_of("899635d5b592", "k1");
        ended.runs = false;
        ended.state = "exited".to_owned();
        assert_eq!(
            inspect(&[], vec![ended]),
            Answer::NotRunning("default/pod-k1/k1 (exited)".to_owned())
        );
        assert_eq!(inspect(&[], Vec::new()), Answer::Unknown);
        let mut secure = member_of("899635d5b592", "k1");
        secure.runtime = "kata".to_owned();
        assert!(matches!(inspect(&[], vec![secure]), Answer::Refused(_)));
    }
}
