//! systemd-nspawn, registered with a systemd-machined of our own, on a message bus of our own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{Skip, finish, need, until};
use crate::container::{Container, End, sleep, unique};
use crate::world::{mark, world};

const MACHINED: &str = "/lib/systemd/systemd-machined";

pub fn plain() -> Result<Container> {
    let (name, time) = (unique("nspawn"), sleep());
    let root = world().copy_of_root(&name, 0)?;
    start(&name, &root, &["/bin/sleep", &time], "sleep")
}

pub fn private_users() -> Result<Container> {
    let (name, time) = (unique("nspawn"), sleep());
    let root = world().copy_of_root(&name, 0)?;
    let words = [
        "--private-users=pick",
        "--private-network",
        "/bin/sleep",
        &time,
    ];
    start(&name, &root, &words, "sleep")
}

/// The host's systemd, in a root directory that has nothing else of its own.
pub fn booted() -> Result<Container> {
    if !Path::new("/usr/lib/systemd/systemd").exists() {
        return Skip::because("systemd is not installed");
    }
    let name = unique("nspawn");
    let root = world().path(&name);
    for directory in ["etc", "usr", "var", "root", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for link in ["bin", "lib", "lib64", "sbin"] {
        std::os::unix::fs::symlink(format!("usr/{link}"), root.join(link))?;
    }
    fs::write(root.join("etc/os-release"), "NAME=box\nID=box\n")?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    fs::write(root.join("etc/machine-id"), "")?;
    let words = [
        "--bind-ro=/usr",
        "--private-network",
        "--boot",
        "systemd.unit=basic.target",
    ];
    start(&name, &root, &words, "systemd")
}

/// Where the bus is, on which machined is.
fn bus() -> Result<OsString> {
    static BUS: OnceLock<Result<OsString, String>> = OnceLock::new();
    let made = BUS.get_or_init(|| daemons().map_err(|error| format!("{error:#}")));
    made.clone().or_else(Skip::because)
}

fn daemons() -> Result<OsString> {
    let socket = world().path("bus");
    let mut address = OsString::from("unix:path=");
    address.push(&socket);
    let mut option = OsString::from("--address=");
    option.push(&address);
    let mut bus = need("dbus-daemon")?;
    bus.args(["--config-file=/usr/share/dbus-1/system.conf", "--nofork"]);
    bus.args(["--nopidfile", "--nosyslog"]).arg(option);
    let mut bus = in_background(&mut bus, "dbus")?;
    let ready = until(|| Ok(socket.exists() || bus.try_wait()?.is_some()))?;
    ensure!(
        ready && socket.exists(),
        "dbus-daemon does not run: {}",
        log("dbus")
    );
    let mut machined = Command::new(MACHINED);
    machined
        .env_clear()
        .env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let mut machined = in_background(&mut machined, "machined")?;
    let mut over = false;
    let answers = until(|| {
        over = machined.try_wait()?.is_some();
        let mut list = need("machinectl")?;
        list.arg("list").env("DBUS_SYSTEM_BUS_ADDRESS", &address);
        Ok(over || finish(&mut list)?.status.success())
    })?;
    ensure!(
        answers && !over,
        "systemd-machined does not run: {}",
        log("machined")
    );
    Ok(address)
}

fn log_file(name: &str) -> PathBuf {
    world().path(&format!("{name}.log"))
}

/// The last that was said.
fn log(name: &str) -> String {
    let log = fs::read_to_string(log_file(name)).unwrap_or_default();
    log.lines().last().unwrap_or_default().to_owned()
}

fn in_background(command: &mut Command, name: &str) -> Result<Child> {
    let log = fs::File::create(log_file(name))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn().with_context(|| format!("{command:?}"))
}

/// Its first process is called `first`.
fn start(name: &str, root: &Path, words: &[&str], first: &str) -> Result<Container> {
    need("systemd-nspawn")?;
    if !Path::new(MACHINED).exists() {
        return Skip::because("systemd-machined is not installed");
    }
    let bus = bus()?;
    // Without a systemd that makes one, what registers has to be in what looks like the cgroup of a unit.
    let mut command = world().in_cgroup(&format!("{name}.service"), "systemd-nspawn")?;
    command.args([
        "--quiet",
        "--keep-unit",
        "--timezone=off",
        "--machine",
        name,
    ]);
    command.arg("--directory").arg(root);
    command.arg(format!("--setenv={}", mark()));
    command.args(words).env("DBUS_SYSTEM_BUS_ADDRESS", &bus);
    let mut child = in_background(&mut command, name)?;
    let mut pid = 0;
    let runs = until(|| {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        let mut show = need("machinectl")?;
        show.args(["show", "--property=Leader", "--value", name]);
        let shown = finish(show.env("DBUS_SYSTEM_BUS_ADDRESS", &bus))?;
        pid = shown
            .succeeded()
            .ok()
            .and_then(|pid| pid.trim().parse().ok())
            .unwrap_or_default();
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Ok(comm.trim() == first)
    })?;
    if !runs || child.try_wait()?.is_some() {
        let _ = child.kill();
        bail!("systemd-nspawn does not run it: {}", log(name));
    }
    Ok(Container {
        pid,
        names: vec![
            name.to_owned(),
            format!("machine://{name}"),
            format!("nspawn://{name}"),
        ],
        variables: vec![("DBUS_SYSTEM_BUS_ADDRESS".into(), bus)],
        exec: None,
        end: End::Kill,
        child: Some(child),
    })
}
