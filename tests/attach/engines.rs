//! A30, D1: engines that name more than a container, or something that is none. The engines are scripts with their answers,
//! the containers are real.

use std::fs;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{BUSYBOX, Rootfs, Target, contains, limits_work, same, skip, text, unique};
use crate::names::{Tools, docker, target};

pub const CASES: &[Case] = crate::cases! {
    instances_of_lxd_and_incus_are_found;
    containers_of_a_kubelet_are_found;
    docker_is_asked_about_what_its_shim_does_not_know;
    pods_are_found_by_cgroup;
    pods_of_other_nodes_are_refused;
    pods_of_rkt_are_found;
    units_are_found_by_main_process_and_by_cgroup;
    network_namespaces_are_found_by_name needs "mount", "umount", "unshare";
    what_has_another_kernel_is_refused;
    root_finds_podmans_containers_of_users needs "unshare";
};

/// LXD's list of the container `web` of a project.
fn instances(kind: &str, pid: i32) -> String {
    format!(
        r#"[ "$*" = "list local: --all-projects --format json" ] || exit 1
echo '[{{"name": "web", "status": "Running", "type": "{kind}", "project": "shop", "state": {{"pid": {pid}}}}}]'"#
    )
}

fn instances_of_lxd_and_incus_are_found() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    for (scheme, tool) in [("lxd", "lxc"), ("incus", "incus")] {
        let tools = Tools::new();
        tools.add(tool, &instances("container", target.pid));
        // A tool without a daemon may want to set one up: it is not run.
        let said = tools.reason(&[&format!("{scheme}://web")])?;
        contains(&said, &format!("{scheme}: its daemon has no socket at"))?;
        let _listener = UnixListener::bind(tools.0.join("unix.socket"))?;
        let project = format!("{scheme}://shop/web");
        for name in ["web", "shop/web", &project] {
            same(name, tools.host_name(name)?, host_name.clone())?;
        }
        tools.add(tool, &instances("virtual-machine", target.pid));
        let said = tools.reason(&["web"])?;
        contains(&said, &format!("{scheme}://web: it is a virtual machine"))?;
        // From before there were projects.
        let old = instances("container", target.pid).replace(" --all-projects", "");
        let refuses = r#"case $* in *--all-projects*) echo "Error: unknown flag: --all-projects" >&2; exit 1;; esac"#;
        tools.add(tool, &format!("{refuses}\n{old}"));
        same("old", tools.host_name("web")?, host_name.clone())?;
    }
    Ok(())
}

/// crictl with one container of one pod.
fn crictl(inspection: &str) -> String {
    format!(
        r#"case $* in
'pods --output json') echo '{{"items": [{{"id": "41182903f7ca", "metadata": {{"name": "web-0", "namespace": "shop"}}, "state": "SANDBOX_READY"}}]}}';;
'ps --all --output json') echo '{{"containers": [
  {{"id": "899635d5b592", "podSandboxId": "41182903f7ca", "metadata": {{"name": "app"}}, "image": {{"image": "bb:1"}}, "state": "CONTAINER_RUNNING"}},
  {{"id": "7777aaaabbbb", "podSandboxId": "41182903f7ca", "metadata": {{"name": "old"}}, "image": {{"image": "bb:1"}}, "state": "CONTAINER_EXITED"}}]}}';;
'inspect --output json 899635d5b592') echo '{inspection}';;
*) echo "rpc error: code = NotFound" >&2; exit 1;; esac"#
    )
}

/// What containerd tells crictl.
fn inspection(pid: i32, runtime: &str) -> String {
    format!(
        r#"{{"status": {{"id": "899635d5b592"}}, "info": {{"pid": {pid}, "runtimeType": "{runtime}"}}}}"#
    )
}

fn containers_of_a_kubelet_are_found() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let tools = Tools::new();
    tools.add(
        "crictl",
        &crictl(&inspection(target.pid, "io.containerd.runc.v2")),
    );
    for name in [
        "app",
        "web-0",
        "shop/web-0",
        "shop/web-0/app",
        "899635d",
        "cri://899635d5b592",
    ] {
        same(name, tools.host_name(name)?, host_name.clone())?;
    }
    contains(
        &tools.reason(&["old"])?,
        "old: cri://shop/web-0/old (exited): start it first",
    )?;
    contains(
        &tools.reason(&["cri://nobody"])?,
        "nobody: no container is called that",
    )?;
    for (runtime, reason) in [
        ("io.containerd.kata.v2", "it is a virtual machine"),
        ("io.containerd.runsc.v1", "it runs in gVisor"),
    ] {
        tools.add("crictl", &crictl(&inspection(target.pid, runtime)));
        contains(&tools.reason(&["app"])?, reason)?;
    }
    tools.add(
        "crictl",
        "echo 'rpc error: unknown service runtime.v1.RuntimeService' >&2; exit 1",
    );
    contains(
        &tools.reason(&["cri://app"])?,
        "cri: the runtime here serves no kubelet",
    )
}

fn docker_is_asked_about_what_its_shim_does_not_know() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let tools = Tools::new();
    tools.add(
        "crictl",
        &crictl(r#"{"status": {"id": "899635d5b592"}, "info": {}}"#),
    );
    let by_id = docker("k8s_app_web-0", target.pid)
        .replace("inspect -- k8s_app_web-0", "inspect -- 899635d5b592");
    tools.add("docker", &by_id);
    same("shim", tools.host_name("cri://shop/web-0/app")?, host_name)
}

/// kubectl with one pod, whose container `app` has an id.
fn kubectl(id: &str, node: &str) -> String {
    format!(
        r#"[ "$1 $2 $3" = "get pod web-0" ] || {{ echo "Error from server (NotFound): pods \"$3\" not found" >&2; exit 1; }}
echo '{{"metadata": {{"name": "web-0", "namespace": "shop"}}, "spec": {{"nodeName": "{node}"}}, "status": {{"phase": "Running",
"containerStatuses": [{{"name": "app", "image": "bb", "containerID": "{id}", "state": {{"running": {{}}}}}},
{{"name": "sick", "containerID": "{id}", "state": {{"waiting": {{"reason": "CrashLoopBackOff"}}}}}}]}}}}'"#
    )
}

fn pods_are_found_by_cgroup() -> Result<(), Failed> {
    if !limits_work()? {
        return skip("there is no pids controller");
    }
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--pids", "20"])?;
    let cgroups = target.proc("cgroup");
    let mut parts = cgroups.split(['/', '\n']);
    let id = parts.find(|part| part.starts_with("cntr-"));
    let id = id.ok_or("the container is in no cgroup of its own")?;
    let tools = Tools::new();
    tools.add("kubectl", &kubectl(&format!("containerd://{id}"), "here"));
    let uts = fs::read_link(format!("/proc/{}/ns/uts", target.pid))?;
    for name in [
        "shop/web-0/app",
        "shop/web-0",
        "kubernetes://web-0",
        "k8s://shop/web-0",
    ] {
        let output = tools.cntr(&["exec", name, "--", "/bin/readlink", "/proc/self/ns/uts"])?;
        same(
            name,
            text(&output.stdout).trim(),
            &uts.display().to_string(),
        )?;
    }
    // Its servers are not asked about a word that may be anything.
    contains(
        &tools.reason(&["web-0"])?,
        "no container or process is called that",
    )?;
    contains(
        &tools.reason(&["shop/web-0/sick"])?,
        "kubernetes://shop/web-0/sick (CrashLoopBackOff): start it first",
    )?;
    contains(
        &tools.reason(&["kubernetes://shop/other"])?,
        "no container is called that",
    )
}

fn pods_of_other_nodes_are_refused() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let tools = Tools::new();
    tools.add(
        "kubectl",
        &kubectl("containerd://899635d5b592", "node-of-a-test"),
    );
    let elsewhere = "shop/web-0/app runs on the node node-of-a-test: use cntr there";
    contains(&tools.reason(&["shop/web-0"])?, elsewhere)?;
    tools.add("crictl", "echo 'rpc error: code = NotFound' >&2; exit 1");
    contains(&tools.reason(&["kubernetes://shop/web-0"])?, elsewhere)?;
    // The runtime of this machine knows better, and is asked by the id.
    tools.add(
        "crictl",
        &crictl(&inspection(target.pid, "io.containerd.runc.v2")),
    );
    same(
        "here",
        tools.host_name("kubernetes://shop/web-0")?,
        host_name,
    )
}

fn pods_of_rkt_are_found() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let tools = Tools::new();
    let status = |pid: i32| {
        format!(
            "printf 'state=running\\ncreated=2018-01-27 14:33:45 +0100 CET\\npid={pid}\\nexited=false\\n'"
        )
    };
    tools.add("rkt", &status(target.pid));
    same("pod", tools.host_name("66ceb509")?, host_name.clone())?;
    // Some versions name what has started the pod's first process.
    let parent = target.proc("status");
    let parent = parent.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent = parent.and_then(|pid| pid.trim().parse().ok());
    tools.add("rkt", &status(parent.ok_or("no parent")?));
    same("parent", tools.host_name("rkt://66ceb509")?, host_name)?;
    tools.add("rkt", "printf 'state=exited\\npid=-1\\nexited=true\\n'");
    contains(
        &tools.reason(&["rkt://66ceb509"])?,
        "rkt://66ceb509 (exited): start it first",
    )
}

/// systemctl for one unit.
fn systemctl(pid: i32, group: &str) -> String {
    format!(
        r#"case $4 in web.service|web) printf 'MainPID={pid}\nControlGroup={group}\nId=web.service\nLoadState=loaded\nActiveState=active\n';;
*) printf "MainPID=0\nControlGroup=\nId=$4\nLoadState=not-found\nActiveState=inactive\n";; esac"#
    )
}

/// A cgroup of the v2 hierarchy; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Option<Cgroup> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let group = Path::new(line.split(' ').nth(4)?).join(name);
        fs::create_dir(&group).ok()?;
        Some(Cgroup(group))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let start = std::time::Instant::now();
        // A process that was killed is in it until it has been waited for.
        while fs::remove_dir(&self.0).is_err() && start.elapsed().as_secs() < 10 {
            std::thread::yield_now();
        }
    }
}

fn units_are_found_by_main_process_and_by_cgroup() -> Result<(), Failed> {
    let name = format!("cntr-test-{}.service", unique());
    let cgroup = Cgroup::new(&name);
    let (_root, target, host_name) = target()?;
    let tools = Tools::new();
    tools.add("systemctl", &systemctl(target.pid, "/system.slice"));
    for name in ["web.service", "systemd://web", "unit://web.service"] {
        same(name, tools.host_name(name)?, host_name.clone())?;
    }
    // Many a unit is called like the container it starts: without its ending it has to be asked for.
    contains(
        &tools.reason(&["web"])?,
        "no container or process is called that",
    )?;
    contains(
        &tools.reason(&["systemd://other"])?,
        "other: no unit is called that",
    )?;
    tools.add("systemctl", &systemctl(0, "/no/such/group"));
    contains(
        &tools.reason(&["web.service"])?,
        "systemd://web.service (active, without a process): start it first",
    )?;
    let Some(cgroup) = cgroup else {
        return skip("no cgroup can be made in a v2 hierarchy");
    };
    fs::write(cgroup.0.join("cgroup.procs"), target.pid.to_string())?;
    let path = target.proc("cgroup");
    let path = path.lines().find_map(|line| line.strip_prefix("0::"));
    tools.add("systemctl", &systemctl(0, path.ok_or("no v2 cgroup")?));
    let found = tools.host_name("web.service");
    // Before its cgroup is removed.
    drop(target);
    same("by cgroup", found?, host_name)
}

/// A name of a network namespace, as ip-netns(8) makes it; removed when dropped.
struct Name(PathBuf);

impl Name {
    fn of(pid: u32) -> Result<Name, Failed> {
        fs::create_dir_all("/run/netns")?;
        let path = Path::new("/run/netns").join(format!("cntr-test-{}", unique()));
        fs::write(&path, "")?;
        let name = Name(path);
        let mut mount = Command::new("mount");
        let mount = mount.arg("--bind").arg(format!("/proc/{pid}/ns/net"));
        same("mount", mount.arg(&name.0).status()?.code(), Some(0))?;
        Ok(name)
    }

    fn name(&self) -> &str {
        let name = self.0.file_name().and_then(|name| name.to_str());
        name.expect("ASCII")
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs::remove_file(&self.0);
        // If nobody else has names there.
        let _ = fs::remove_dir("/run/netns");
    }
}

fn network_namespaces_are_found_by_name() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let name = Name::of(target.pid.cast_unsigned())?;
    let tools = Tools::new();
    for name in [name.name().to_owned(), format!("netns://{}", name.name())] {
        same(&name, tools.host_name(&name)?, host_name.clone())?;
    }
    let mut child = Command::new("unshare")
        .args(["--net", "sleep", "1000"])
        .stdin(Stdio::null())
        .spawn()?;
    let own = fs::read_link("/proc/self/ns/net")?;
    while fs::read_link(format!("/proc/{}/ns/net", child.id()))? == own {
        std::thread::yield_now();
    }
    let empty = Name::of(child.id());
    child.kill()?;
    child.wait()?;
    let empty = empty?;
    contains(
        &tools.reason(&[empty.name()])?,
        "(no process lives in this network namespace)",
    )?;
    contains(
        &tools.reason(&["netns://no-such-name"])?,
        "no network namespace is called that",
    )
}

fn root_finds_podmans_containers_of_users() -> Result<(), Failed> {
    let name = format!("test-{}", unique());
    let id = format!("{:064x}", std::process::id());
    // A shell that is called as the monitor, and started as that.
    let script = "unshare --user --map-root-user --mount --uts sleep 1000 & wait";
    let mut monitor = Command::new("/bin/sh");
    monitor.arg0("/usr/bin/conmon").uid(4711).gid(4711);
    monitor.args(["-c", script, "--api-version", "1", "-u", &id, "-n", &name]);
    let target = Target::by_hand(&mut monitor, "sleep")?;
    let tools = Tools::new();
    tools.add("podman", "echo 'Error: no such container' >&2; exit 125");
    let uts = fs::read_link(format!("/proc/{}/ns/uts", target.pid))?;
    for reference in [&name, &id, &format!("podman://{name}")] {
        let output = tools.cntr(&["exec", reference, "--", "readlink", "/proc/self/ns/uts"])?;
        same(
            reference,
            text(&output.stdout).trim(),
            &uts.display().to_string(),
        )?;
    }
    let listed = tools.cntr(&["ls", "-t", "podman"])?;
    contains(&text(&listed.stdout), &name)
}

fn what_has_another_kernel_is_refused() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let tools = Tools::new();
    let runtime = |name: &str| {
        let with = format!(r#""HostConfig": {{"Runtime": "{name}"}}, "State""#);
        docker("web", target.pid).replace(r#""State""#, &with)
    };
    for (name, reason) in [
        ("runsc", "docker://web: it runs in gVisor (runsc)"),
        (
            "io.containerd.kata.v2",
            "docker://web: it is a virtual machine (io.containerd.kata.v2)",
        ),
    ] {
        tools.add("docker", &runtime(name));
        contains(&tools.reason(&["web"])?, reason)?;
    }
    tools.add("docker", &runtime("crun"));
    same("crun", tools.host_name("web")?, host_name)?;
    // By what its process is.
    for (program, reason) in [
        (
            "qemu-system-x86_64",
            "it is a virtual machine (qemu-system)",
        ),
        ("firecracker", "it is a virtual machine (firecracker)"),
        ("runsc-sandbox", "it runs in gVisor (runsc-sandbox)"),
    ] {
        let path = tools.0.join(program);
        fs::copy(BUSYBOX, &path)?;
        let mut command = Command::new(&path);
        // busybox is what it is called as.
        let machine = Target::by_hand(command.arg0("sleep").arg("1000"), &short(program))?;
        tools.add("docker", &docker("web", machine.pid));
        contains(&tools.reason(&["web"])?, reason)?;
        contains(&tools.reason(&[&machine.pid.to_string()])?, reason)?;
    }
    Ok(())
}

/// What the kernel keeps of a program's name.
fn short(name: &str) -> String {
    name.chars().take(15).collect()
}
