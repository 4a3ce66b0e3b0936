//! runc and crun without an engine above them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::command::{finish, need};
use crate::container::{Container, End, Words, sleep, unique};
use crate::world::{mark, world};

/// Where ids of the host begin that containers with a user namespace have.
const SHIFT: u32 = 900_000;

pub fn runc() -> Result<Container> {
    start(&Runtime::new("runc")?, 0)
}

pub fn crun() -> Result<Container> {
    start(&Runtime::new("crun")?, 0)
}

pub fn crun_with_user_namespace() -> Result<Container> {
    start(&Runtime::new("crun")?, SHIFT)
}

pub fn runc_with_user_namespace() -> Result<Container> {
    start(&Runtime::new("runc")?, SHIFT)
}

struct Runtime {
    program: &'static str,
}

impl Runtime {
    fn new(program: &'static str) -> Result<Runtime> {
        need(program)?;
        Ok(Runtime { program })
    }

    fn command(&self) -> Result<Command> {
        let runtime = need(self.program)?;
        if self.program != "crun" {
            return Ok(runtime);
        }
        // It refuses to run where v1 and v2 of cgroups are beside each other, if v2 has a controller.
        let script =
            "! test -d /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; exec \"$@\"";
        let mut command = need("unshare")?;
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command.arg(runtime.get_program());
        command.arg("--cgroup-manager=cgroupfs");
        Ok(command)
    }

    fn words(&self, words: &[&str]) -> Result<Words> {
        Ok(Words::of(self.command()?.args(words)))
    }
}

fn start(runtime: &Runtime, shift: u32) -> Result<Container> {
    let id = unique(runtime.program);
    let bundle = world().path(&id);
    fs::create_dir_all(&bundle)?;
    world().copy_of_root(&format!("{id}/rootfs"), shift)?;
    finish(runtime.command()?.arg("spec").current_dir(&bundle))?.succeeded()?;
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    adapt(&mut config, &id, shift)?;
    fs::write(&file, config.to_string())?;
    let mut run = runtime.command()?;
    run.args(["run", "--detach", "--bundle"])
        .arg(&bundle)
        .arg(&id);
    finish(&mut run)?.succeeded()?;
    let state = finish(runtime.command()?.args(["state", &id]))?.succeeded()?;
    let state: Value = serde_json::from_str(&state)?;
    let pid = state["pid"].as_i64().context("no pid in the state")?;
    Ok(Container {
        pid: pid.try_into()?,
        names: vec![id.clone(), format!("{}://{id}", runtime.program)],
        variables: Vec::new(),
        exec: Some(runtime.words(&["exec", &id])?),
        end: End::Engine {
            stop: runtime.words(&["kill", &id, "KILL"])?,
            remove: Some(runtime.words(&["delete", &id])?),
        },
        child: None,
    })
}

/// Makes the specification that the runtime proposes one of a container that sleeps.
fn adapt(config: &mut Value, id: &str, shift: u32) -> Result<()> {
    let process = &mut config["process"];
    process["terminal"] = json!(false);
    process["args"] = json!(["/bin/sleep", sleep()]);
    // More cannot be had without CAP_SYS_RESOURCE.
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]);
    let variables = process["env"].as_array_mut().context("no variables")?;
    variables.push(json!(mark()));
    config["hostname"] = json!(id);
    let linux = &mut config["linux"];
    linux["cgroupsPath"] = json!(format!("/{}/{id}", world().cgroup));
    if shift > 0 {
        let namespaces = linux["namespaces"]
            .as_array_mut()
            .context("no namespaces")?;
        namespaces.push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": shift, "size": 65536}]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    }
    Ok(())
}
