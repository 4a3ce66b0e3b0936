//! LXD and Incus, which are asked alike: the instances of this machine in every project. `PROJECT/NAME` is one of a project.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ask::{Output, Question};
use super::{Answer, Engine, Found, sandbox};

/// What is read of an instance.
#[derive(Deserialize)]
struct Instance {
    name: String,
    #[serde(default)]
    status: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    project: String,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize)]
struct State {
    #[serde(default)]
    pid: i32,
}

#[derive(Deserialize, Default)]
struct Config {
    #[serde(rename = "image.description", default)]
    image: String,
}

impl Instance {
    /// What tells it from all others.
    fn path(&self) -> String {
        match self.project.as_str() {
            "" | "default" => self.name.clone(),
            project => format!("{project}/{}", self.name),
        }
    }

    fn pid(&self) -> i32 {
        self.state.as_ref().map_or(0, |state| state.pid)
    }
}

/// The tool, the variable that says where the daemon's directory is, and where its socket can be.
fn tool(engine: Engine) -> (&'static str, &'static str, &'static [&'static str]) {
    match engine {
        Engine::Incus => (
            "incus",
            "INCUS_DIR",
            &["/var/lib/incus/unix.socket", "/run/incus/unix.socket"],
        ),
        _ => (
            "lxc",
            "LXD_DIR",
            &[
                "/var/snap/lxd/common/lxd/unix.socket",
                "/var/lib/lxd/unix.socket",
            ],
        ),
    }
}

pub fn begin(engine: Engine) -> Answer {
    ask(engine, named)
}

/// The question for all of them.
fn ask(engine: Engine, read: fn(Engine, &str, &Output) -> Answer) -> Answer {
    let (program, variable, sockets) = tool(engine);
    // Without a daemon the tool may want to set one up; that of some systems even to install it.
    let directory = std::env::var_os(variable).filter(|value| !value.is_empty());
    let sockets: Vec<PathBuf> = match &directory {
        Some(directory) => vec![Path::new(directory).join("unix.socket")],
        None => sockets.iter().map(PathBuf::from).collect(),
    };
    if !sockets.iter().any(|socket| socket.exists()) {
        let places: Vec<_> = sockets.iter().map(|path| path.as_os_str()).collect();
        let places = places.join(&OsString::from(" or "));
        return Answer::Absent(format!(
            "its daemon has no socket at {}",
            places.to_string_lossy()
        ));
    }
    let all = ["list", "local:", "--all-projects", "--format", "json"];
    Answer::Further(vec![Question::new(
        program,
        all,
        move |engine, name, output| {
            // Before there were projects.
            if !output.success && output.complaint.contains("unknown flag") {
                let plain = ["list", "local:", "--format", "json"];
                return Answer::Further(vec![Question::new(program, plain, read)]);
            }
            read(engine, name, output)
        },
    )])
}

fn instances(output: &Output) -> Result<Vec<Instance>, Answer> {
    if !output.success {
        return Err(output.failed());
    }
    serde_json::from_str(&output.stdout)
        .map_err(|error| Answer::Failed(format!("its answer cannot be understood: {error}")))
}

fn named(engine: Engine, name: &str, output: &Output) -> Answer {
    let instances = match instances(output) {
        Ok(instances) => instances,
        Err(answer) => return answer,
    };
    let is_called = |one: &&Instance| one.name == name || one.path() == name;
    let (mut found, mut other) = (Vec::new(), Answer::Unknown);
    for one in instances.iter().filter(is_called) {
        if one.kind == "virtual-machine" {
            other = Answer::Refused(sandbox::virtual_machine(engine.scheme()));
        } else if one.pid() > 0 {
            found.push(Found::new(engine, one.path(), one.pid()).image(&one.config.image));
        } else {
            let status = one.status.to_lowercase();
            other = Answer::NotRunning(format!("{} ({status})", one.path()));
        }
    }
    if found.is_empty() {
        other
    } else {
        Answer::Found(found)
    }
}

pub fn begin_list(engine: Engine) -> Answer {
    ask(engine, running)
}

fn running(engine: Engine, _name: &str, output: &Output) -> Answer {
    let instances = match instances(output) {
        Ok(instances) => instances,
        Err(answer) => return answer,
    };
    let containers = instances.iter().filter(|one| one.kind != "virtual-machine");
    let found = containers
        .filter(|one| one.pid() > 0)
        .map(|one| Found::new(engine, one.path(), one.pid()).image(&one.config.image));
    Answer::Found(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"[
      {"name": "l1", "status": "Running", "status_code": 103, "type": "container", "project": "default",
       "config": {"image.description": "bb"}, "state": {"status": "Running", "pid": 11983, "processes": 2}},
      {"name": "l1", "status": "Running", "type": "container", "project": "web", "config": {},
       "state": {"status": "Running", "pid": 12000}},
      {"name": "l2", "status": "Stopped", "type": "container", "project": "default", "state": {"pid": 0}},
      {"name": "l3", "status": "Stopped", "type": "container", "project": "default", "state": null},
      {"name": "vm", "status": "Running", "type": "virtual-machine", "project": "default", "state": {"pid": 9}}]"#;

    #[test]
    fn answers() {
        let said = |name: &str| named(Engine::Lxd, name, &Output::of(true, LIST, ""));
        let first = Found::new(Engine::Lxd, "l1", 11983).image("bb");
        let second = Found::new(Engine::Lxd, "web/l1", 12000);
        assert_eq!(said("l1"), Answer::Found(vec![first, second.clone()]));
        assert_eq!(said("web/l1"), Answer::Found(vec![second.clone()]));
        let first = Found::new(Engine::Lxd, "l1", 11983).image("bb");
        assert_eq!(
            running(Engine::Lxd, "", &Output::of(true, LIST, "")),
            Answer::Found(vec![first, second])
        );
        for name in ["l2", "l3"] {
            assert_eq!(said(name), Answer::NotRunning(format!("{name} (stopped)")));
        }
        assert!(
            matches!(said("vm"), Answer::Refused(reason) if reason.contains("virtual machine"))
        );
        assert_eq!(said("l"), Answer::Unknown);
        let down = "Error: Get \"http://unix.socket/1.0\": dial unix: connect: connection refused";
        let failed = named(Engine::Lxd, "l1", &Output::of(false, "", down));
        assert_eq!(failed, Answer::Failed(down.to_owned()));
        let odd = named(Engine::Lxd, "l1", &Output::of(true, "{}", ""));
        assert!(matches!(odd, Answer::Failed(_)));
    }
}
