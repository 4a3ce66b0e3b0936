//! Where the engines run: a mount and a network namespace of their own, in which nothing of the machine can be changed by them.
//!
//! `/run` and the directories where engines keep containers are empty; `/etc` has an ordinary user more, and ranges of
//! subordinate ids. All of it is in memory and goes away with the last process. Cgroups cannot be had apart (LXC looks for
//! those of process 1), so everything is put below one that is called as the run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::command::{finish, need, text};
use crate::guardian::Run;

/// The only program in the containers.
pub const BUSYBOX: &str = "/bin/busybox";

/// Who has containers without being root.
pub const USER: u32 = 64_711;

/// What the variable `MARK` of all containers is.
pub const MARK: &str = "of-the-container";

/// That variable, for engines.
pub fn mark() -> String {
    format!("MARK={MARK}")
}

/// The time zone of the containers, which no host has.
pub const ZONE: &str = "CNT";

static WORLD: OnceLock<World> = OnceLock::new();

/// See above.
pub struct World {
    pub directory: PathBuf,
    pub cgroup: String,
}

/// The one of this process.
pub fn world() -> &'static World {
    WORLD.get().expect("main enters it first")
}

/// Enters it, before there are threads.
pub fn enter(run: &Run) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("cannot have namespaces of its own")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    memory(&run.directory)?;
    for covered in [
        "/run",
        "/var/lib/lxc",
        "/var/lib/containers",
        "/var/lib/machines",
    ] {
        if Path::new(covered).is_dir() {
            memory(Path::new(covered))?;
        }
    }
    fs::create_dir_all("/run/lock")?;
    // Tools of systemd look for this before they do anything.
    fs::create_dir_all("/run/systemd/system")?;
    let world = World {
        directory: run.directory.clone(),
        cgroup: run.cgroup(),
    };
    world.add_users()?;
    world.make_root()?;
    let _ = WORLD.set(world);
    Ok(())
}

fn memory(directory: &Path) -> Result<()> {
    mount(
        Some("none"),
        directory,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .with_context(|| format!("cannot mount memory on {}", directory.display()))
}

impl World {
    /// A path below the world's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The home directory of the ordinary user.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Where the programs of that user keep what runs.
    pub fn runtime_directory(&self) -> PathBuf {
        PathBuf::from(format!("/run/user/{USER}"))
    }

    fn add_users(&self) -> Result<()> {
        let home = self.home();
        let runtime = self.runtime_directory();
        for directory in [&home, &runtime] {
            fs::create_dir_all(directory)?;
            chown(directory, Some(USER), Some(USER))?;
        }
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700))?;
        let user = format!("dweller:x:{USER}:{USER}::{}:/bin/sh\n", home.display());
        let passwd = format!("{user}dockremap:x:64712:64712::/:/bin/false\n");
        let group = format!("dweller:x:{USER}:\ndockremap:x:64712:\n");
        let ranges = "root:1000000:65536\ndockremap:700000:65536\ndweller:2000000:65536\n";
        for (name, more) in [
            ("passwd", passwd.as_str()),
            ("group", &group),
            ("subuid", ranges),
            ("subgid", ranges),
        ] {
            let etc = Path::new("/etc").join(name);
            let host = match name {
                "passwd" | "group" => fs::read_to_string(&etc)?,
                _ => String::new(),
            };
            if !etc.exists() {
                // Without it there are no such ranges; the tools that would use them are not there either.
                continue;
            }
            let own = self.path(name);
            fs::write(&own, format!("{host}{more}"))?;
            let none = None::<&str>;
            mount(Some(&own), &etc, none, MsFlags::MS_BIND, none)?;
        }
        Ok(())
    }

    /// The root directory of all containers.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn make_root(&self) -> Result<()> {
        let root = self.root();
        for name in [
            "bin",
            "dev",
            "etc",
            "mnt",
            "proc",
            "root",
            "run",
            "srv",
            "sys",
            "tmp",
            "usr/bin",
            "usr/share/zoneinfo",
            "var/lib",
            "sbin",
            "usr/lib",
        ] {
            fs::create_dir_all(root.join(name))?;
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).context(BUSYBOX)?;
        let list = finish(Command::new(BUSYBOX).arg("--list"))?;
        for applet in text(&list.stdout).lines().filter(|name| *name != "busybox") {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        symlink("../bin/busybox", root.join("sbin/init"))?;
        symlink("../run", root.join("var/run"))?;
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        for (name, text) in [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
            ),
            ("etc/group", "root:x:0:\napp:x:1000:\nnogroup:x:65534:\n"),
            (
                "etc/hosts",
                "127.0.0.1 localhost\n192.0.2.7 only-in-the-container\n",
            ),
            ("etc/os-release", "NAME=box\nID=box\n"),
            ("usr/lib/os-release", "NAME=box\nID=box\n"),
        ] {
            fs::write(root.join(name), text)?;
        }
        fs::write(root.join("usr/share/zoneinfo/Zone"), zone_file())?;
        symlink("../usr/share/zoneinfo/Zone", root.join("etc/localtime"))?;
        Ok(())
    }

    /// A root directory of a container's own, all of whose files belong to `owner`.
    pub fn copy_of_root(&self, name: &str, owner: u32) -> Result<PathBuf> {
        let path = self.path(name);
        ensure!(!path.exists(), "{} is there already", path.display());
        let parent = path.parent().context("a path below the world")?;
        fs::create_dir_all(parent)?;
        finish(Command::new("cp").arg("-a").arg(self.root()).arg(&path))?.succeeded()?;
        if owner != 0 {
            let owner = format!("{owner}:{owner}");
            finish(Command::new("chown").args(["-hR", &owner]).arg(&path))?.succeeded()?;
        }
        Ok(path)
    }

    /// The root directory as an archive for engines that have images.
    pub fn image(&self) -> Result<PathBuf> {
        static ARCHIVE: OnceLock<Result<(), String>> = OnceLock::new();
        let path = self.path("root.tar");
        let made = ARCHIVE.get_or_init(|| {
            let mut tar = Command::new("tar");
            tar.arg("-C")
                .arg(self.root())
                .arg("-cf")
                .arg(&path)
                .arg(".");
            finish(&mut tar)
                .and_then(|output| output.succeeded())
                .map(|_| ())
                .map_err(|error| format!("{error:#}"))
        });
        match made {
            Ok(()) => Ok(path),
            Err(error) => Err(anyhow::anyhow!("{error}")),
        }
    }

    /// `program`, run in a cgroup of its own, called `name`, in some of the hierarchies.
    pub fn in_cgroup(&self, name: &str, program: &str) -> Result<Command> {
        let directories: Vec<String> = ["pids", "freezer", "systemd", "unified", "."]
            .iter()
            .map(|hierarchy| format!("/sys/fs/cgroup/{hierarchy}"))
            .filter(|hierarchy| Path::new(hierarchy).join("cgroup.procs").exists())
            .map(|hierarchy| format!("{hierarchy}/{}/{name}", self.cgroup))
            .collect();
        for directory in &directories {
            fs::create_dir_all(directory).with_context(|| directory.clone())?;
        }
        let script = format!(
            "for d in {}; do echo 0 > $d/cgroup.procs || exit; done; exec \"$@\"",
            directories.join(" ")
        );
        let mut command = need("sh")?;
        command.args(["-c", &script, "sh"]);
        command.arg(need(program)?.get_program());
        Ok(command)
    }

    /// `program`, run as the ordinary user.
    pub fn as_user(&self, program: &str) -> Result<Command> {
        let id = USER.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        command.arg(need(program)?.get_program());
        command.env_clear().envs(self.user_variables());
        command.current_dir("/");
        Ok(command)
    }

    fn user_variables(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("PATH", crate::command::PATH.into()),
            ("HOME", self.home()),
            ("XDG_RUNTIME_DIR", self.runtime_directory()),
        ]
    }
}

/// The zone that is called [`ZONE`], an hour before Greenwich, as tzfile(5) has it: version 1, without a change of time.
fn zone_file() -> Vec<u8> {
    let mut bytes = b"TZif".to_vec();
    bytes.extend([0; 16]);
    // How many there are of: indicators (2), leap seconds, changes, kinds of time, characters.
    for count in [0_u32, 0, 0, 0, 1, 4] {
        bytes.extend(count.to_be_bytes());
    }
    bytes.extend(3600_i32.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(ZONE.as_bytes());
    bytes.push(0);
    bytes
}
