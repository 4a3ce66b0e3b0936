//! LXC: containers of root, with and without a user namespace, and of an ordinary user.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{finish, need};
use crate::container::{Container, End, Words, sleep, unique};
use crate::world::{USER, mark, world};

/// Where LXC looks for containers.
const DEFAULT: &str = "/var/lib/lxc";

/// The ranges of ids that the world has for root and for the user.
const ROOTS_RANGE: u32 = 1_000_000;
const USERS_RANGE: u32 = 2_000_000;

pub fn privileged() -> Result<Container> {
    start(&Place::roots()?, None, "")
}

/// The files belong to ids of the range.
pub fn shifted() -> Result<Container> {
    start(&Place::roots()?, Some((ROOTS_RANGE, ROOTS_RANGE)), "")
}

/// The files belong to root, and are mounted with other ids.
pub fn id_mapped() -> Result<Container> {
    let option = "lxc.rootfs.options = idmap=container\n";
    start(&Place::roots()?, Some((ROOTS_RANGE, 0)), option)
}

pub fn user() -> Result<Container> {
    need("newuidmap")?;
    start(&Place::users()?, Some((USERS_RANGE, USERS_RANGE)), "")
}

/// Whose containers they are, and where they are.
struct Place {
    owner: u32,
    directory: PathBuf,
}

impl Place {
    fn roots() -> Result<Place> {
        need("lxc-start")?;
        Ok(Place {
            owner: 0,
            directory: DEFAULT.into(),
        })
    }

    /// In another directory than the usual one.
    fn users() -> Result<Place> {
        need("lxc-start")?;
        Ok(Place {
            owner: USER,
            directory: world().home().join("lxc"),
        })
    }

    /// One of LXC's programs, about the container `name`.
    fn tool(&self, tool: &str, name: &str) -> Result<Command> {
        let mut command = match self.owner {
            0 => need(tool)?,
            _ => world().as_user(tool)?,
        };
        command.arg("--lxcpath").arg(&self.directory);
        command.args(["--name", name]);
        Ok(command)
    }

    fn words(&self, tool: &str, name: &str, more: &[&str]) -> Result<Words> {
        Ok(Words::of(self.tool(tool, name)?.args(more)))
    }
}

/// `map`: where the container's ids begin, and who owns its files.
fn start(place: &Place, map: Option<(u32, u32)>, options: &str) -> Result<Container> {
    let (name, time) = (unique("lxc"), sleep());
    let directory = place.directory.join(&name);
    fs::create_dir_all(&directory)?;
    let root = directory.join("rootfs");
    copy_root(&root, map.map_or(0, |(_, owner)| owner))?;
    let mut config = format!(
        "lxc.include = /usr/share/lxc/config/common.conf\n\
         lxc.rootfs.path = dir:{}\n\
         lxc.uts.name = {name}\n\
         lxc.net.0.type = empty\n\
         lxc.apparmor.profile = unconfined\n\
         lxc.environment = {}\n\
         lxc.init.cmd = /bin/sleep {time}\n{options}",
        root.display(),
        mark()
    );
    if let Some((first, _)) = map {
        write!(
            config,
            "lxc.idmap = u 0 {first} 65536\nlxc.idmap = g 0 {first} 65536\n"
        )?;
    }
    config += if place.owner == 0 {
        "lxc.mount.auto = cgroup:mixed proc:mixed sys:ro\n"
    } else {
        "lxc.include = /usr/share/lxc/config/userns.conf\nlxc.mount.auto = proc:mixed sys:ro\n"
    };
    if place.owner == 0 {
        writeln!(config, "lxc.cgroup.dir = {}/{name}", world().cgroup)?;
    }
    fs::write(directory.join("config"), config)?;
    for path in [&place.directory, &directory, &directory.join("config")] {
        chown(path, Some(place.owner), Some(place.owner))?;
    }
    let log = directory.join("log");
    let mut command = place.tool("lxc-start", &name)?;
    command.args(["--daemon", "--logpriority=ERROR"]);
    command.arg("--logfile").arg(&log);
    if let Err(error) = finish(&mut command)?.succeeded() {
        let log = fs::read_to_string(log).unwrap_or_default();
        bail!("{error}; {}", log.lines().next().unwrap_or_default());
    }
    let pid = finish(
        place
            .tool("lxc-info", &name)?
            .args(["--pid", "--no-humanize"]),
    )?;
    let pid = pid.succeeded()?;
    let mut names = vec![format!("lxc://{}/{name}", place.directory.display())];
    if place.owner == 0 {
        names.extend([name.clone(), format!("lxc://{name}")]);
    }
    Ok(Container {
        pid: pid.trim().parse().context(pid)?,
        names,
        variables: Vec::new(),
        exec: Some(place.words("lxc-attach", &name, &["--clear-env", "--"])?),
        end: End::Engine {
            stop: place.words("lxc-stop", &name, &["--kill"])?,
            remove: Some(place.words("lxc-destroy", &name, &[])?),
        },
        child: None,
    })
}

fn copy_root(to: &Path, owner: u32) -> Result<()> {
    let copy = world().copy_of_root(&unique("lxc-root"), owner)?;
    // It may be another file system.
    finish(Command::new("cp").arg("-a").arg(&copy).arg(to))?.succeeded()?;
    fs::remove_dir_all(copy)?;
    Ok(())
}
