//! Containers made with the tools of util-linux, coreutils and iproute2.

use anyhow::{Context, Result};

use crate::command::{finish, need};
use crate::container::{Container, unique};
use crate::world::world;

pub fn unshare() -> Result<Container> {
    need("chroot")?;
    let mut command = world().in_cgroup("unshare", "unshare")?;
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
    command.args(["--fork", "--propagation", "private"]);
    let proc = world().copy_of_root(&unique("unshare"), 0)?;
    command.arg(format!("--mount-proc={}", proc.join("proc").display()));
    command.arg("chroot").arg(proc);
    Container::by_hand(command)
}

/// One id, and setgroups(2) is denied. The root directory is the host's.
pub fn unshare_single_id() -> Result<Container> {
    let mut command = world().as_user("unshare")?;
    command.args(["--user", "--map-root-user", "--mount", "--uts", "--ipc"]);
    command.args(["--net", "--pid", "--fork", "--mount-proc"]);
    Container::by_hand(command)
}

/// Ids of the user's range, which a helper maps.
pub fn unshare_map_auto() -> Result<Container> {
    need("newuidmap")?;
    let mut command = world().as_user("unshare")?;
    command.args(["--map-root-user", "--map-auto", "--mount", "--pid"]);
    command.args(["--fork", "--mount-proc"]);
    Container::by_hand(command)
}

pub fn chroot() -> Result<Container> {
    let mut command = need("chroot")?;
    command.arg(world().copy_of_root(&unique("chroot"), 0)?);
    Container::by_hand(command)
}

pub fn chroot_user() -> Result<Container> {
    let mut command = need("chroot")?;
    command.arg("--userspec=65534:65534").arg(world().root());
    Container::by_hand(command)
}

/// `ip netns exec`.
pub fn netns() -> Result<Container> {
    let name = unique("netns");
    finish(need("ip")?.args(["netns", "add", &name]))?
        .succeeded()
        .context("ip netns add")?;
    let mut command = need("ip")?;
    command.args(["netns", "exec", &name]);
    let mut container = Container::by_hand(command)?;
    container.names.extend([format!("netns://{name}"), name]);
    Ok(container)
}
