//! A30, D1: containers by what their engines call them. The engines are scripts with their answers; the containers are real.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{
    CNTR, Rootfs, Target, cntr, contains, finish, installed, same, skip, text, unique,
};

pub const CASES: &[Case] = crate::cases! {
    names_of_every_engine_are_found;
    a_name_that_several_know_has_to_be_told_apart;
    each_reason_has_its_own_line;
    a_slow_engine_does_not_hold_up_others;
    command_lines_are_found;
    numbers_are_processes;
    a_number_that_was_a_process_is_nothing_else;
    a_process_younger_than_the_question_is_not_believed;
    an_engine_elsewhere_is_not_believed;
};

/// A directory of tools that is all there is on `PATH`, but for those of the host that the scripts need.
pub struct Tools(pub PathBuf);

impl Tools {
    pub fn new() -> Tools {
        let directory = std::env::temp_dir().join(format!("cntr-test-{}", unique()));
        fs::create_dir_all(&directory).expect("a directory below the temporary one");
        Tools(directory)
    }

    /// Makes `name` a script that is run with `$@`.
    pub fn add(&self, name: &str, script: &str) -> &Tools {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        self
    }

    pub fn cntr(&self, arguments: &[&str]) -> Result<Output, Failed> {
        let mut command = Command::new(CNTR);
        command.args(arguments).env("PATH", &self.0);
        finish(self.without_daemons(&mut command))
    }

    /// No daemon of this machine has a say.
    pub fn without_daemons<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("CONTAINERD_ADDRESS", self.0.join("containerd.sock"));
        command.env("CONTAINER_RUNTIME_ENDPOINT", self.0.join("cri.sock"));
        command.env("LXD_DIR", &self.0).env("INCUS_DIR", &self.0)
    }

    /// The host name that `cntr exec TARGET` finds.
    pub fn host_name(&self, target: &str) -> Result<String, Failed> {
        let output = self.cntr(&["exec", target, "--", "/bin/hostname"])?;
        if !output.status.success() {
            return Err(format!("{target}: {output:?}").into());
        }
        Ok(text(&output.stdout).trim().to_owned())
    }

    /// The one line with which `cntr attach TARGET` gives up.
    pub fn reason(&self, arguments: &[&str]) -> Result<String, Failed> {
        let output = self.cntr(&[&["attach"], arguments, &["--", "/bin/true"]].concat())?;
        same("exit code", output.status.code(), Some(125))?;
        let said = text(&output.stderr);
        same("lines", said.lines().count(), 1)?;
        Ok(said.trim().to_owned())
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `docker container inspect` for one container.
pub fn docker(name: &str, pid: impl std::fmt::Display) -> String {
    format!(
        r#"[ "$*" = "container inspect -- {name}" ] || {{ echo "Error: No such container: $4" >&2; exit 1; }}
echo '[{{"Name": "/{name}", "State": {{"Status": "running", "Pid": {pid}}}}}]'"#
    )
}

pub fn target() -> Result<(Rootfs, Target, String), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let output = target.exec(&[], &["/bin/hostname"])?;
    let host_name = text(&output.stdout).trim().to_owned();
    Ok((root, target, host_name))
}

fn names_of_every_engine_are_found() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let pid = target.pid;
    let socket = "containerd.sock";
    let state = format!(r#"echo '{{"id": "web", "pid": {pid}, "status": "running"}}'"#);
    let scripts: [(&str, &str, String); 7] = [
        ("docker", "docker", docker("web", pid)),
        ("podman", "podman", docker("web", pid)),
        (
            "lxc",
            "lxc-info",
            format!("printf 'State: RUNNING\\nPID: {pid}\\n'"),
        ),
        (
            "machine",
            "machinectl",
            format!("printf 'Leader={pid}\\nState=running\\n'"),
        ),
        (
            "containerd",
            "ctr",
            format!(
                "case $* in 'namespaces list --quiet') printf 'default\\nother\\n';; \
                 *other*) printf 'TASK PID STATUS\\nweb {pid} RUNNING\\n';; *) echo TASK PID STATUS;; esac"
            ),
        ),
        ("runc", "runc", state.clone()),
        ("crun", "crun", state),
    ];
    for (scheme, tool, script) in scripts {
        let tools = Tools::new();
        tools.add(tool, &script);
        let _listener = std::os::unix::net::UnixListener::bind(tools.0.join(socket))?;
        same(scheme, tools.host_name("web")?, host_name.clone())?;
        same(
            scheme,
            tools.host_name(&format!("{scheme}://web"))?,
            host_name.clone(),
        )?;
        let only = tools.cntr(&["exec", "-t", scheme, "web", "--", "/bin/hostname"])?;
        same(scheme, text(&only.stdout).trim(), &host_name)?;
    }
    Ok(())
}

fn a_name_that_several_know_has_to_be_told_apart() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let other = Rootfs::new();
    let other = Target::sleeping(&other, &[])?;
    let tools = Tools::new();
    tools
        .add("docker", &docker("web", target.pid))
        .add("podman", &docker("web", other.pid));
    let said = tools.reason(&["web"])?;
    for part in [
        &format!("docker://web (process {})", target.pid),
        &format!("podman://web (process {})", other.pid),
        "say which, as in `docker://web`",
    ] {
        contains(&said, part)?;
    }
    same(
        "docker's",
        tools.host_name("docker://web")?,
        host_name.clone(),
    )?;
    // Two that mean the same process mean the same.
    tools.add("podman", &docker("web", target.pid));
    same("both", tools.host_name("web")?, host_name)
}

fn each_reason_has_its_own_line() -> Result<(), Failed> {
    let tools = Tools::new();
    // In no command line of another test.
    let web = &format!("web-{}", unique());
    let down = "Cannot connect to the Docker daemon. Is the docker daemon running?";
    for (script, arguments, reason) in [
        (docker("other", 1), web.clone(), format!("{web}: no container or process is called that")),
        (docker(web, 0), web.clone(), format!("docker://{web} (running): start it first")),
        (format!("echo '{down}' >&2; exit 1"), format!("docker://{web}"), format!("docker: {down}")),
        (format!("echo '{down}' >&2; exit 1"), web.clone(), format!("(docker: {down})")),
        ("echo no JSON".to_owned(), format!("docker://{web}"), "docker: its answer cannot be understood".to_owned()),
        ("exit 1".to_owned(), format!("docker://{web}"), "its tool fails without a word".to_owned()),
        (
            "echo 'Error response from daemon: Multiple IDs found with provided prefix: web' >&2; exit 1".to_owned(),
            web.clone(),
            "Multiple IDs".to_owned(),
        ),
        (String::new(), format!("podman://{web}"), "podman: podman is not installed, or not on PATH".to_owned()),
    ] {
        tools.add("docker", &script);
        contains(&tools.reason(&[&arguments])?, &reason)?;
    }
    // What cannot be meant is said before anybody is asked.
    for wrong in ["dockre://web", "docker://", "lxc://-x"] {
        let output = tools.cntr(&["attach", wrong])?;
        same(wrong, output.status.code(), Some(125))?;
    }
    Ok(())
}

fn a_slow_engine_does_not_hold_up_others() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let tools = Tools::new();
    tools
        .add("docker", &docker("web", target.pid))
        .add("podman", "exec /bin/sleep 100");
    let start = Instant::now();
    same("docker's", tools.host_name("web")?, host_name)?;
    let time = start.elapsed();
    if time > Duration::from_secs(4) {
        return Err(format!("it took {time:?}").into());
    }
    contains(
        &tools.reason(&["nobody"])?,
        "podman: no answer within 5 seconds",
    )
}

fn command_lines_are_found() -> Result<(), Failed> {
    let root = Rootfs::new();
    // A time that nobody else sleeps.
    let time = format!("9{}", unique().replace('-', ""));
    let target = Target::run(&root, &[], &["/bin/sleep", &time])?;
    let tools = Tools::new();
    let part = format!("sleep {time}");
    for name in [part.clone(), format!("command://{part}")] {
        let output = tools.cntr(&["exec", &name, "--", "/bin/readlink", "/proc/self/ns/uts"])?;
        let uts = fs::read_link(format!("/proc/{}/ns/uts", target.pid))?;
        same(
            &name,
            text(&output.stdout).trim(),
            &uts.display().to_string(),
        )?;
    }
    // A container is meant before a command line is.
    let said = tools.reason(&[&format!("{part} and more")])?;
    contains(&said, "no container or process is called that")
}

fn numbers_are_processes() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let tools = Tools::new();
    // Nobody is asked about the number of a process.
    tools.add("docker", "exec /bin/sleep 100");
    for name in [
        target.pid.to_string(),
        format!("process_id://{}", target.pid),
        format!("process-id://{}", target.pid),
    ] {
        same(&name, tools.host_name(&name)?, host_name.clone())?;
    }
    tools.add("docker", &docker("4194305", target.pid));
    same("an id of digits", tools.host_name("4194305")?, host_name)?;
    contains(
        &tools.reason(&["process_id://4194305"])?,
        "4194305: there is no such process",
    )
}

fn a_number_that_was_a_process_is_nothing_else() -> Result<(), Failed> {
    let root = Rootfs::new();
    // The number is in the command line of a container's process, and is the start of another's id.
    let number = "4194304";
    let target = Target::run(&root, &[], &["/bin/sleep", number])?;
    let tools = Tools::new();
    tools.add("docker", &docker_by_id(number, "web", target.pid));
    let said = tools.reason(&[number])?;
    contains(&said, "4194304: there is no such process")?;
    contains(&said, "has to be said as docker://4194304")?;
    // Who says what is meant gets it.
    for (options, name) in [
        (vec!["docker://4194304"], "the id"),
        (vec!["-t", "docker", number], "the id in Docker"),
        (vec!["command://sleep 4194304"], "the command line"),
    ] {
        let exec = [&["exec"], &options[..], &["--", "/bin/true"]].concat();
        same(name, tools.cntr(&exec)?.status.code(), Some(0))?;
    }
    // A thread belongs to its process.
    let script = "import os, threading\n\
        def f():\n print(threading.get_native_id(), flush=True)\n threading.Event().wait()\n\
        threading.Thread(target=f).start()";
    if !installed("python3") {
        return skip("python3 is not installed, which has threads");
    }
    let mut child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let read = BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line);
    let exec = [
        "exec",
        line.trim(),
        "--",
        "sh",
        "-c",
        "echo $PPID; readlink /proc/self/ns/pid",
    ];
    let output = read.map_err(Failed::from).and_then(|_| cntr(&exec));
    let kept = fs::read_link(format!("/proc/{}/ns/pid", child.id()));
    child.kill()?;
    child.wait()?;
    let output = output?;
    same("of a thread", output.status.code(), Some(0))?;
    contains(&text(&output.stdout), &kept?.display().to_string())
}

/// `docker container inspect` for one container by the start of its id.
fn docker_by_id(id: &str, name: &str, pid: i32) -> String {
    docker(id, pid).replace(
        &format!(r#""Name": "/{id}""#),
        &format!(r#""Name": "/{name}""#),
    )
}

/// An engine that names a process which started after the question is asked again: the number may be that of another one.
fn a_process_younger_than_the_question_is_not_believed() -> Result<(), Failed> {
    let (_root, target, host_name) = target()?;
    let tools = Tools::new();
    let asked = tools.0.join("asked");
    let young = format!(
        "/bin/sleep 1000 >/dev/null 2>&1 </dev/null & echo $! >> {}; pid=$!",
        asked.display()
    );
    let first = format!(
        "pid={}; [ -e {} ] || {{ {young}; }}",
        target.pid,
        asked.display()
    );
    let pids = || -> Vec<i32> {
        let pids = fs::read_to_string(&asked).unwrap_or_default();
        pids.lines().filter_map(|pid| pid.parse().ok()).collect()
    };
    let kill_all = || {
        for pid in pids() {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    };
    tools.add("docker", &format!("{first}\n{}", docker_of_variable()));
    let found = tools.host_name("web");
    let started = pids().len();
    kill_all();
    same("the second answer's", found?, host_name)?;
    same("started", started, 1)?;
    fs::remove_file(&asked)?;
    tools.add("docker", &format!("{young}\n{}", docker_of_variable()));
    let said = tools.reason(&["web"]);
    let started = pids().len();
    kill_all();
    contains(
        &said?,
        "its process is another one each time the engine is asked",
    )?;
    same("started", started, 3)
}

/// `docker container inspect` for a container whose process is `$pid`.
fn docker_of_variable() -> String {
    docker("web", 7).replace("\"Pid\": 7", "\"Pid\": '$pid'")
}

fn an_engine_elsewhere_is_not_believed() -> Result<(), Failed> {
    let tools = Tools::new();
    tools.add("docker", &docker("web", 4_194_305));
    let elsewhere = |pid: u32| -> Result<(), Failed> {
        let reason = format!("docker://web (process {pid}): no container here has that process");
        tools.add("docker", &docker("web", pid));
        contains(&tools.reason(&["web"])?, &reason)
    };
    elsewhere(4_194_305)?;
    // One that happens to have a process of that number here.
    elsewhere(std::process::id())
}
