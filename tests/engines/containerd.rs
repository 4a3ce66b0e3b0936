//! containerd, by its own tool, in two of its namespaces.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::command::{Skip, finish, need, until};
use crate::container::{Container, End, Words, sleep, unique};
use crate::world::{mark, world};

pub fn default() -> Result<Container> {
    start("default")
}

pub fn other_namespace() -> Result<Container> {
    start("other")
}

/// A client of the daemon, which is started by the first.
fn client() -> Result<Command> {
    static DAEMON: OnceLock<Result<(), String>> = OnceLock::new();
    need("containerd")?;
    need("ctr")?;
    let started = DAEMON.get_or_init(|| daemon().map_err(|error| format!("{error:#}")));
    if let Err(reason) = started {
        return Skip::because(reason.clone());
    }
    plain_client()
}

fn plain_client() -> Result<Command> {
    let mut command = need("ctr")?;
    command.env("CONTAINERD_ADDRESS", socket());
    Ok(command)
}

/// Not the usual one, which Docker's daemon would use, too.
fn socket() -> std::path::PathBuf {
    world().path("containerd/socket")
}

fn daemon() -> Result<()> {
    let directory = world().path("containerd");
    fs::create_dir_all(&directory)?;
    let config = format!(
        "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{0}/socket\"\n",
        directory.display()
    );
    fs::write(directory.join("config.toml"), config)?;
    let log = fs::File::create(directory.join("log"))?;
    let mut child = need("containerd")?
        .arg("--config")
        .arg(directory.join("config.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let mut over = false;
    let answers = until(|| {
        over = child.try_wait()?.is_some();
        Ok(over || socket().exists() && finish(plain_client()?.arg("version"))?.status.success())
    })?;
    if over || !answers {
        let log = fs::read_to_string(directory.join("log"))?;
        bail!(
            "containerd does not run: {}",
            log.lines().last().unwrap_or_default()
        );
    }
    Ok(())
}

fn words(namespace: &str, words: &[&str]) -> Result<Words> {
    let mut command = client()?;
    command.args(["--namespace", namespace]).args(words);
    Ok(Words::of(&command))
}

fn start(namespace: &str) -> Result<Container> {
    let id = unique("containerd");
    client()?;
    let root = world().copy_of_root(&id, 0)?;
    let cgroup = format!("/{}/{id}", world().cgroup);
    let (root, mark, time) = (root.display().to_string(), mark(), sleep());
    let run = [
        "run",
        "--detach",
        "--cgroup",
        &cgroup,
        "--env",
        &mark,
        "--rootfs",
        &root,
        &id,
        "/bin/sleep",
        &time,
    ];
    finish(&mut words(namespace, &run)?.command())?.succeeded()?;
    let tasks = finish(&mut words(namespace, &["task", "list"])?.command())?.succeeded()?;
    let pid = tasks.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next() == Some(&id)).then(|| fields.next())?
    });
    let address = socket().into_os_string();
    Ok(Container {
        pid: pid
            .and_then(|pid| pid.parse().ok())
            .context(tasks.clone())?,
        names: vec![id.clone(), format!("containerd://{id}")],
        variables: vec![("CONTAINERD_ADDRESS".into(), address)],
        exec: Some(words(
            namespace,
            &["task", "exec", "--exec-id", &unique("exec"), &id],
        )?),
        end: End::Engine {
            stop: words(namespace, &["task", "kill", "--signal", "KILL", &id])?,
            remove: Some(words(namespace, &["task", "rm", &id])?),
        },
        child: None,
    })
}
