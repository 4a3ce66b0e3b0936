//! LXD: a daemon with a directory of its own. Its containers run `/sbin/init`, which is busybox's.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::command::{Running, Skip, finish, need, until};
use crate::container::{Container, End, Words, sleep, unique};
use crate::world::{MARK, world};

/// What `lxd init` is told: a pool of plain directories, and no network.
const PRESEED: &str = "\
config: {}
storage_pools:
- name: default
  driver: dir
profiles:
- name: default
  devices:
    root: {path: /, pool: default, type: disk}
";

const METADATA: &str = "\
architecture: x86_64
creation_date: 1700000000
properties: {description: box, os: box, release: '1'}
";

pub fn unprivileged() -> Result<Container> {
    launch(&[])
}

pub fn privileged() -> Result<Container> {
    launch(&["--config=security.privileged=true"])
}

fn directory() -> PathBuf {
    world().path("lxd")
}

fn tool(program: &str) -> Result<Command> {
    let mut command = need(program)?;
    command.envs(variables());
    Ok(command)
}

fn variables() -> [(OsString, OsString); 2] {
    [
        ("LXD_DIR".into(), directory().join("var").into()),
        ("LXD_CONF".into(), directory().join("conf").into()),
    ]
}

fn daemon() -> Result<()> {
    for name in ["var", "conf"] {
        fs::create_dir_all(directory().join(name))?;
    }
    let log = fs::File::create(directory().join("log"))?;
    let mut lxd = tool("lxd")?
        .args(["--group", "root"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let mut over = false;
    let answers = until(|| {
        over = lxd.try_wait()?.is_some();
        let ready = finish(tool("lxd")?.args(["waitready", "--timeout=5"]))?;
        Ok(over || ready.status.success())
    })?;
    if over || !answers {
        let log = fs::read_to_string(directory().join("log"))?;
        let last = log.lines().last().unwrap_or_default();
        return Skip::because(format!("lxd does not run: {last}"));
    }
    let mut init = tool("lxd")?;
    init.args(["init", "--preseed"]);
    Running::start(&mut init, PRESEED.as_bytes())?
        .end()?
        .succeeded()?;
    let image = image()?;
    let mut import = tool("lxc")?;
    import
        .args(["image", "import"])
        .arg(image)
        .args(["--alias", "box"]);
    finish(&mut import)?.succeeded()?;
    Ok(())
}

/// An archive with the root directory and what LXD wants to know of it.
fn image() -> Result<PathBuf> {
    let parts = directory().join("image");
    fs::create_dir_all(&parts)?;
    let root = world().copy_of_root("lxd/image/rootfs", 0)?;
    fs::write(parts.join("metadata.yaml"), METADATA)?;
    let table = format!("::sysinit:/bin/true\n::respawn:/bin/sleep {}\n", sleep());
    fs::write(root.join("etc/inittab"), table)?;
    fs::create_dir_all(root.join("dev"))?;
    let _ = symlink("../bin/busybox", root.join("sbin/init"));
    let archive = directory().join("image.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&parts).arg("-czf").arg(&archive);
    finish(tar.args(["metadata.yaml", "rootfs"]))?.succeeded()?;
    Ok(archive)
}

fn launch(options: &[&str]) -> Result<Container> {
    static DAEMON: OnceLock<Result<(), String>> = OnceLock::new();
    need("lxd")?;
    need("lxc")?;
    let started = DAEMON.get_or_init(|| daemon().map_err(|error| format!("{error:#}")));
    if let Err(reason) = started {
        return Skip::because(reason.clone());
    }
    let name = unique("lxd");
    let mut command = tool("lxc")?;
    command.args(["launch", "box", &name]).args(options);
    command.arg(format!("--config=environment.MARK={MARK}"));
    command.arg(format!(
        "--config=raw.lxc=lxc.cgroup.dir={}/{name}",
        world().cgroup
    ));
    finish(&mut command)?.succeeded()?;
    let info = finish(tool("lxc")?.args(["info", &name]))?.succeeded()?;
    let pid = info
        .lines()
        .find_map(|line| line.trim().strip_prefix("PID:"));
    let pid: i32 = pid.context(info.clone())?.trim().parse()?;
    ensure!(pid > 0, "it does not run");
    let words = |words: &[&str]| Ok::<_, anyhow::Error>(Words::of(tool("lxc")?.args(words)));
    Ok(Container {
        pid,
        names: vec![name.clone(), format!("lxd://{name}")],
        variables: variables().to_vec(),
        exec: Some(words(&["exec", &name, "--"])?),
        end: End::Engine {
            stop: words(&["stop", "--force", &name])?,
            remove: Some(words(&["delete", &name])?),
        },
        child: None,
    })
}
