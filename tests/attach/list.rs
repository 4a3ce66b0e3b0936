//! D3: `cntr ls`. The engines are scripts with their answers.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::fake::{CNTR, Rootfs, Target, cntr, contains, same, text, unique};
use crate::names::Tools;

pub const CASES: &[Case] = crate::cases! {
    containers_of_every_engine_are_listed;
    a_container_is_listed_once;
    who_is_not_there_is_told_with_v_only;
    who_does_not_answer_holds_up_nobody_for_long;
    own_containers_and_sessions_are_listed;
};

/// A process that an engine can name; killed when dropped.
pub struct Sleep(Child);

impl Sleep {
    pub fn new() -> Result<Sleep, Failed> {
        let mut sleep = Command::new("sleep");
        Ok(Sleep(sleep.arg("1000").stdin(Stdio::null()).spawn()?))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// docker and podman with one container that runs, and one that has ended since.
pub fn docker(name: &str, pid: u32) -> String {
    format!(
        r#"case $* in 'container ls --quiet --no-trunc') echo 899635d5b5922bf0; echo 1234;;
'container inspect -- 899635d5b5922bf0 1234') echo '[{{"Id": "899635d5b5922bf0", "Name": "/{name}", "State": {{"Status": "running", "Pid": {pid}}},
"Config": {{"Image": "bb:1"}}}}]'; echo 'Error: No such container: 1234' >&2; exit 1;; *) exit 1;; esac"#
    )
}

/// `lxc list` and `incus list`.
fn instances(pid: u32) -> String {
    format!(
        r#"echo '[{{"name": "web", "status": "Running", "type": "container", "project": "shop", "config": {{"image.description": "bb:1"}},
"state": {{"pid": {pid}}}}}, {{"name": "vm", "type": "virtual-machine", "state": {{"pid": {pid}}}}}]'"#
    )
}

/// `runc list` and `crun list`.
pub fn states(name: &str, pid: u32) -> String {
    format!(
        r#"[ "$*" = "list --format json" ] && echo '[{{"id": "{name}", "pid": {pid}, "status": "running", "bundle": "bb:1"}}]'"#
    )
}

/// `machinectl list` and `machinectl show`.
pub fn machine(name: &str, pid: u32) -> String {
    format!(
        "case $1 in list) echo '{name} container systemd-nspawn bb 1 -';; \
         *) printf 'Name={name}\\nClass=container\\nLeader={pid}\\n';; esac"
    )
}

fn crictl(pid: u32) -> String {
    format!(
        r#"case $* in
'pods --output json') echo '{{"items": [{{"id": "41", "metadata": {{"name": "web-0", "namespace": "shop"}}}}]}}';;
'ps --all --output json') echo '{{"containers": [{{"id": "aaaa", "podSandboxId": "41", "metadata": {{"name": "web"}},
"image": {{"image": "sha256:1", "userSpecifiedImage": "bb:1"}}, "state": "CONTAINER_RUNNING"}}]}}';;
'inspect --output json aaaa') echo '{{"status": {{"id": "aaaa"}}, "info": {{"pid": {pid}}}}}';; *) exit 1;; esac"#
    )
}

fn listed(tools: &Tools, options: &[&str]) -> Result<Value, Failed> {
    let output = tools.cntr(&[&["--json", "ls"], options].concat())?;
    same("code", output.status.code(), Some(0))?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn containers_of_every_engine_are_listed() -> Result<(), Failed> {
    let tools = Tools::new();
    let _containerd = UnixListener::bind(tools.0.join("containerd.sock"))?;
    let _lxd = UnixListener::bind(tools.0.join("unix.socket"))?;
    let sleeps: Vec<Sleep> = (0..11).map(|_| Sleep::new()).collect::<Result<_, _>>()?;
    let pids: Vec<u32> = sleeps.iter().map(Sleep::pid).collect();
    let scripts = [
        ("docker", "docker", "web", docker("web", pids[0])),
        ("podman", "podman", "web", docker("web", pids[1])),
        (
            "lxc",
            "lxc-ls",
            "web",
            format!("printf 'NAME PID \\nweb  {} \\n'", pids[2]),
        ),
        ("lxd", "lxc", "shop/web", instances(pids[3])),
        ("incus", "incus", "shop/web", instances(pids[4])),
        ("machine", "machinectl", "web", machine("web", pids[5])),
        ("cri", "crictl", "shop/web-0/web", crictl(pids[6])),
        (
            "containerd",
            "ctr",
            "web",
            format!(
                "case $* in 'namespaces list --quiet') echo k8s.io;; \
                 '--namespace k8s.io containers list') printf 'CONTAINER IMAGE RUNTIME\\nweb bb:1 io.containerd.runc.v2\\n';; \
                 *) printf 'TASK PID STATUS\\nweb {} RUNNING\\nold 0 STOPPED\\n';; esac",
                pids[7]
            ),
        ),
        ("runc", "runc", "web", states("web", pids[8])),
        ("crun", "crun", "web", states("web", pids[9])),
        (
            "rkt",
            "rkt",
            "d5513d49-d14f-45d1-944b-39437798ddda",
            format!(
                "case $1 in list) printf 'd5513d49-d14f-45d1-944b-39437798ddda\\tweb\\tbb:1\\trunning\\n';; \
                 *) printf 'state=running\\npid={}\\n';; esac",
                pids[10]
            ),
        ),
    ];
    for (_, tool, _, script) in &scripts {
        tools.add(tool, script);
    }
    let all = listed(&tools, &[])?;
    let all = all["containers"].as_array().ok_or("no list")?;
    for ((engine, _, name, _), pid) in scripts.iter().zip(pids) {
        let one = all.iter().find(|one| one["pid"] == pid);
        let one = one.ok_or_else(|| format!("{engine} is missing in {all:?}"))?;
        same(engine, one["engine"].as_str(), Some(engine))?;
        same(engine, one["name"].as_str(), Some(name))?;
        if !["lxc", "machine", "rkt"].contains(engine) {
            same(engine, one["image"].as_str(), Some("bb:1"))?;
        }
        same(engine, one["user_namespace"]["kind"].as_str(), Some("own"))?;
    }
    let some = listed(&tools, &["-t", "docker,crun"])?;
    same("some", some["containers"].as_array().map(Vec::len), Some(2))?;
    let text = text(&tools.cntr(&["ls", "-t", "docker"])?.stdout);
    let row: Vec<&str> = text
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let pid = sleeps[0].pid().to_string();
    same(
        "row",
        row.join(" "),
        format!("docker 899635d5b592 web {pid} bb:1 -"),
    )
}

fn a_container_is_listed_once() -> Result<(), Failed> {
    let sleep = Sleep::new()?;
    let tools = Tools::new();
    // One that has ended, and another name for Docker.
    let gone = docker("gone", 4_194_305);
    tools.add("podman", &docker("web", sleep.pid()));
    tools.add("docker", &docker("web", sleep.pid()));
    let both = listed(&tools, &["-t", "docker,podman"])?;
    let engines = |list: &Value, pid: u32| -> Vec<String> {
        let all = list["containers"].as_array().into_iter().flatten();
        let of_it = all.filter(|one| one["pid"] == pid);
        of_it.map(|one| one["engine"].to_string()).collect()
    };
    let once = vec!["\"docker\"".to_owned()];
    same("engines", engines(&both, sleep.pid()), once)?;
    tools.add("docker", &gone).add("podman", &gone);
    let none = listed(&tools, &["-t", "docker,podman"])?;
    same("gone", engines(&none, 4_194_305), Vec::new())
}

fn who_is_not_there_is_told_with_v_only() -> Result<(), Failed> {
    let tools = Tools::new();
    let down = "Cannot connect to the Docker daemon. Is the docker daemon running?";
    tools.add("docker", &format!("echo '{down}' >&2; exit 1"));
    let types = ["ls", "-t", "docker,crun,lxd,containerd"];
    let silent = tools.cntr(&types)?;
    same("code", silent.status.code(), Some(0))?;
    same("said", text(&silent.stderr), String::new())?;
    // Sessions of other tests follow after an empty line.
    let printed = text(&silent.stdout);
    let containers = printed.lines().take_while(|line| !line.is_empty());
    same("lines", containers.count(), 1)?;
    let told = tools.cntr(&[&["-v"], &types[..]].concat())?;
    let said = text(&told.stderr);
    for part in [
        &format!("docker: {down}"),
        "crun: crun is not installed, or not on PATH",
        "lxd: its daemon has no socket at",
        "containerd: nobody answers at",
    ] {
        contains(&said, part)?;
    }
    Ok(())
}

fn who_does_not_answer_holds_up_nobody_for_long() -> Result<(), Failed> {
    let sleep = Sleep::new()?;
    let tools = Tools::new();
    tools.add("docker", &docker("web", sleep.pid()));
    tools.add("podman", "exec /bin/sleep 1000");
    let output = tools.cntr(&["ls", "-t", "docker,podman"])?;
    same("code", output.status.code(), Some(0))?;
    contains(&text(&output.stdout), "bb:1")?;
    contains(&text(&output.stderr), "podman: no answer within 5 seconds")
}

fn own_containers_and_sessions_are_listed() -> Result<(), Failed> {
    let root = Rootfs::new();
    let name = format!("test-{}", unique());
    let target = Target::sleeping(&root, &["--name", &name, "--userns"])?;
    let mut child = Command::new(CNTR)
        .args([
            "attach",
            &name,
            "--",
            "sh",
            "-c",
            "echo ready; exec sleep 1000",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let read = BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line);
    let json = cntr(&["--json", "ls", "-t", "cntr"]);
    let table = cntr(&["ls", "-t", "cntr"]);
    child.kill()?;
    child.wait()?;
    read?;
    let (json, table) = (json?, table?);
    same("errors", text(&table.stderr), String::new())?;
    let value: Value = serde_json::from_slice(&json.stdout)?;
    let find = |list: &str| -> Result<Value, Failed> {
        let all = value[list].as_array().ok_or("no list")?;
        let one = all.iter().find(|one| one["pid"] == target.pid);
        Ok(one.ok_or_else(|| format!("not in {value}"))?.clone())
    };
    let container = find("containers")?;
    same("name", container["name"].as_str(), Some(name.as_str()))?;
    same("image", container["image"].as_str(), Some(root.path()))?;
    same(
        "users",
        container["user_namespace"]["uids"][0]["outside"].as_u64(),
        Some(100_000),
    )?;
    let session = find("sessions")?;
    let reference = format!("cntr://{name}");
    same(
        "session",
        session["container"].as_str(),
        Some(reference.as_str()),
    )?;
    let text = text(&table.stdout);
    contains(&text, "0:100000:65536")?;
    contains(&text, "SESSION")?;
    contains(&text, &reference)
}
