//! Sandboxes of bubblewrap.

use anyhow::Result;

use crate::command::need;
use crate::container::Container;
use crate::world::world;

pub fn root() -> Result<Container> {
    need("bwrap")?;
    let mut command = world().in_cgroup("bubblewrap", "bwrap")?;
    command.arg("--bind").arg(world().root()).arg("/");
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    command.args(["--unshare-all", "--hostname", "bubble"]);
    Container::by_hand(command)
}

/// All capabilities are ambient ones there.
pub fn user() -> Result<Container> {
    need("bwrap")?;
    let mut command = world().as_user("bwrap")?;
    command.arg("--ro-bind").arg(world().root()).arg("/");
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    command.args(["--unshare-all", "--uid", "0", "--gid", "0"]);
    command.args(["--cap-add", "ALL"]);
    Container::by_hand(command)
}
