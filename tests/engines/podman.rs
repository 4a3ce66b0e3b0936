//! Podman, which has no daemon: root's, and an ordinary user's.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::command::{Skip, finish, need};
use crate::container::{Container, End, Words, sleep, unique};
use crate::world::{USER, mark, world};

pub fn root() -> Result<Container> {
    static STORE: OnceLock<Result<Store, String>> = OnceLock::new();
    Store::get(&STORE, 0)?.run(&[])
}

pub fn user() -> Result<Container> {
    users()?.run(&[])
}

/// The user keeps its id, and is not root.
pub fn keep_id() -> Result<Container> {
    users()?.run(&["--userns=keep-id"])
}

fn users() -> Result<&'static Store> {
    static STORE: OnceLock<Result<Store, String>> = OnceLock::new();
    need("newuidmap")?;
    Store::get(&STORE, USER)
}

/// Where somebody's containers are.
struct Store {
    owner: u32,
    directory: PathBuf,
}

impl Store {
    fn get(store: &'static OnceLock<Result<Store, String>>, owner: u32) -> Result<&'static Store> {
        need("podman")?;
        need("runc")?;
        let made = store.get_or_init(|| Store::make(owner).map_err(|error| format!("{error:#}")));
        made.as_ref().or_else(|error| Skip::because(error.clone()))
    }

    /// With an image in it.
    fn make(owner: u32) -> Result<Store> {
        let directory = world().path(&format!("podman-{owner}"));
        let path = |name: &str| directory.join(name).display().to_string();
        for name in ["", "graph", "run", "tmp"] {
            let directory = directory.join(name);
            fs::create_dir_all(&directory)?;
            chown(&directory, Some(owner), Some(owner))?;
        }
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            path("graph"),
            path("run")
        );
        // More than these limits cannot be had without CAP_SYS_RESOURCE.
        let engine = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\ntmp_dir = \"{}\"\n",
            path("tmp")
        );
        fs::write(directory.join("storage.conf"), storage)?;
        fs::write(directory.join("containers.conf"), engine)?;
        let store = Store { owner, directory };
        let archive = world().image()?;
        finish(store.podman()?.arg("import").arg(archive).arg("box:1"))?.succeeded()?;
        Ok(store)
    }

    fn variables(&self) -> [(OsString, OsString); 2] {
        let file = |name: &str| self.directory.join(name).into_os_string();
        [
            ("CONTAINERS_CONF".into(), file("containers.conf")),
            ("CONTAINERS_STORAGE_CONF".into(), file("storage.conf")),
        ]
    }

    fn podman(&self) -> Result<Command> {
        let mut command = match self.owner {
            0 => need("podman")?,
            _ => world().as_user("podman")?,
        };
        command.envs(self.variables());
        Ok(command)
    }

    fn words(&self, words: &[&str]) -> Result<Words> {
        Ok(Words::of(self.podman()?.args(words)))
    }

    fn run(&self, options: &[&str]) -> Result<Container> {
        let (name, time) = (unique("podman"), sleep());
        let mut command = self.podman()?;
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
            .args(options);
        if self.owner == 0 {
            command.arg(format!("--cgroup-parent=/{}/podman", world().cgroup));
        }
        command.args(["box:1", "/bin/sleep", &time]);
        let id = finish(&mut command)?.succeeded()?.trim().to_owned();
        ensure!(id.len() == 64, "{id:?} is no id");
        let inspect = [
            "inspect",
            "--type=container",
            "--format={{.State.Pid}}",
            &id,
        ];
        let pid = finish(self.podman()?.args(inspect))?.succeeded()?;
        let mut names = vec![format!("command:///bin/sleep {time}")];
        let mut variables = Vec::new();
        // Root's podman does not know what belongs to others.
        if self.owner == 0 {
            let start = id[..12].to_owned();
            names = vec![format!("podman://{name}"), name, start, id.clone()];
            variables = self.variables().to_vec();
        }
        Ok(Container {
            pid: pid.trim().parse().context(pid)?,
            names,
            variables,
            exec: Some(self.words(&["exec", &id])?),
            end: End::Engine {
                stop: self.words(&["stop", "--time=0", &id])?,
                remove: Some(self.words(&["rm", &id])?),
            },
            child: None,
        })
    }
}
