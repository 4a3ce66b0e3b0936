//! Docker: daemons with directories and sockets of their own.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

use crate::command::{Skip, finish, need, text, until};
use crate::container::{Container, End, Words, sleep, unique};
use crate::world::{mark, world};

/// A daemon; what its clients have to know.
struct Daemon {
    host: OsString,
}

pub fn default() -> Result<Container> {
    plain()?.run(&[])
}

pub fn strict() -> Result<Container> {
    plain()?.run(&[
        "--user=1000",
        "--read-only",
        "--cap-drop=ALL",
        "--pids-limit=20",
    ])
}

pub fn userns_remap() -> Result<Container> {
    static DAEMON: OnceLock<Result<Daemon, String>> = OnceLock::new();
    need("newuidmap")?;
    get(&DAEMON, "docker-remap", &["--userns-remap=dockremap"])?.run(&[])
}

fn plain() -> Result<&'static Daemon> {
    static DAEMON: OnceLock<Result<Daemon, String>> = OnceLock::new();
    get(&DAEMON, "docker", &[])
}

fn get(
    daemon: &'static OnceLock<Result<Daemon, String>>,
    name: &str,
    options: &[&str],
) -> Result<&'static Daemon> {
    need("docker")?;
    need("dockerd")?;
    let started =
        daemon.get_or_init(|| Daemon::start(name, options).map_err(|error| format!("{error:#}")));
    started
        .as_ref()
        .or_else(|error| Skip::because(error.clone()))
}

impl Daemon {
    fn start(name: &str, options: &[&str]) -> Result<Daemon> {
        let world = world();
        let directory = world.path(name);
        fs::create_dir_all(&directory)?;
        let socket = directory.join("socket");
        let mut host = OsString::from("unix://");
        host.push(&socket);
        let log = fs::File::create(directory.join("log"))?;
        let mut command = need("dockerd")?;
        command
            .arg("--host")
            .arg(&host)
            .arg("--data-root")
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .arg(format!("--cgroup-parent=/{}/{name}", world.cgroup))
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command.spawn()?;
        let daemon = Daemon { host };
        let mut over = false;
        let answers =
            until(|| {
                over = child.try_wait()?.is_some();
                Ok(over
                    || socket.exists() && finish(daemon.client()?.arg("version"))?.status.success())
            })?;
        if over || !answers {
            let log = fs::read_to_string(directory.join("log"))?;
            let end: Vec<_> = log.lines().rev().take(3).collect();
            return Err(anyhow!("dockerd does not run: {}", end.join(" / ")));
        }
        let archive = world.image()?;
        finish(daemon.client()?.arg("import").arg(archive).arg("box:1"))?.succeeded()?;
        Ok(daemon)
    }

    fn client(&self) -> Result<Command> {
        let mut command = need("docker")?;
        command.env("DOCKER_HOST", &self.host);
        Ok(command)
    }

    fn words(&self, words: &[&str]) -> Result<Words> {
        Ok(Words::of(self.client()?.args(words)))
    }

    fn run(&self, options: &[&str]) -> Result<Container> {
        let name = unique("docker");
        let mut command = self.client()?;
        command
            .args([
                "run",
                "--detach",
                "--network=none",
                "--env",
                &mark(),
                "--name",
            ])
            .arg(&name)
            .args(options)
            .args(["box:1", "/bin/sleep", &sleep()]);
        let id = finish(&mut command)?.succeeded()?.trim().to_owned();
        ensure!(id.len() == 64, "{id:?} is no id");
        let format = ["inspect", "--format", "{{.State.Pid}}", &id];
        let inspected = finish(self.client()?.args(format))?;
        let pid = text(&inspected.stdout);
        let start = &id[..12];
        Ok(Container {
            pid: pid.trim().parse().context(pid)?,
            names: vec![
                name.clone(),
                format!("docker://{name}"),
                start.to_owned(),
                id.clone(),
            ],
            variables: vec![("DOCKER_HOST".into(), self.host.clone())],
            exec: Some(self.words(&["exec", &id])?),
            end: End::Engine {
                stop: self.words(&["stop", "--time=0", &id])?,
                remove: Some(self.words(&["rm", &id])?),
            },
            child: None,
        })
    }
}
