//! The container that sessions enter: by the docker engine if one runs, else by unshare(1).
//!
//! It has the programs of the host read-only, the backing directory and this program's own directory at the same paths,
//! and a process that sleeps. System calls are not filtered, so that a docker session costs what entering costs.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::TargetError;
use super::mountinfo;
use crate::job::{Command, Control, JobError, Running, tool};

/// Time for the docker engine to say that it is there.
const ANSWER: Duration = Duration::from_secs(5);

/// Time to make or remove a container.
const WORK: Duration = Duration::from_secs(60);

/// Directories of the host that the container has.
const OF_HOST: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"];

/// Whether a docker engine answers; if not, why.
pub fn docker() -> Result<(), String> {
    let control = Control::none().with_deadline(ANSWER);
    Command::on_host("docker", &control)
        .args(["version", "--format", "{{.Server.Version}}"])
        .run()
        .map(drop)
        .map_err(|error| match error {
            JobError::Failed { .. } => "no docker engine runs; start it".to_owned(),
            other => other.to_string(),
        })
}

/// A container with a process that sleeps.
#[derive(Debug)]
pub struct Container {
    pid: Pid,
    made: Made,
    ended: Mutex<bool>,
}

#[derive(Debug)]
enum Made {
    /// By the engine, under this name, from an image of the same name.
    Docker(String),
    /// The process that keeps the namespaces.
    Unshare(Mutex<Option<Running>>),
}

impl Container {
    /// Starts one in which `backing` is at the same path. Mounts below `scratch` are not to be in it: they could not be
    /// ended.
    pub fn start(
        backing: &Path,
        scratch: &Path,
        control: &Control,
    ) -> Result<Container, TargetError> {
        let container = if docker().is_ok() {
            Container::by_docker(backing, scratch, control)?
        } else {
            Container::by_unshare(control)?
        };
        container.forget_mounts(backing, scratch, control)?;
        Ok(container)
    }

    fn by_docker(
        backing: &Path,
        scratch: &Path,
        control: &Control,
    ) -> Result<Container, TargetError> {
        let step = |step| move |source| TargetError::Container { step, source };
        let control = control.with_deadline(WORK);
        let name = format!("cntr-perf-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let archive = scratch.join("empty.tar");
        let image = || -> std::io::Result<()> {
            // An archive ends with two blocks of zeros.
            fs::File::create(&archive)?.write_all(&[0; 1024])
        };
        image().map_err(|source| TargetError::Scratch {
            path: archive.clone(),
            source,
        })?;
        let imported = docker_command(&control, ["import"])
            .arg(&archive)
            .arg(&name)
            .run();
        let _ = fs::remove_file(&archive);
        imported.map_err(step("docker import"))?;
        // From here on, dropping it removes the image and the container.
        let mut container = Container {
            pid: Pid::from_raw(0),
            made: Made::Docker(name.clone()),
            ended: Mutex::new(false),
        };
        let mut run = docker_command(&control, ["run", "--detach", "--pull", "never"])
            .args(["--network", "none", "--security-opt", "seccomp=unconfined"])
            .args(["--shm-size", "1g", "--name", &name]);
        let shared = shared(backing);
        for (path, mode) in &shared {
            run = run.arg("--volume").arg(volume(path, mode));
        }
        // The host's, if something that is needed lies in there itself.
        if !shared.iter().any(|(path, _)| path == Path::new("/tmp")) {
            run = run.args(["--tmpfs", "/tmp:exec,mode=1777"]);
        }
        let sleep = tool::find("sleep").unwrap_or_else(|| PathBuf::from("/bin/sleep"));
        run.arg(&name)
            .arg(sleep)
            .arg("infinity")
            .run()
            .map_err(step("docker run"))?;
        let inspected = docker_command(&control, ["inspect", "--format", "{{.State.Pid}}", &name])
            .run()
            .map_err(step("docker inspect"))?;
        let pid = inspected.stdout.trim().parse().unwrap_or(0);
        if pid <= 1 || command_name(Pid::from_raw(pid)) != "sleep" {
            return Err(TargetError::Elsewhere { engine: "docker" });
        }
        container.pid = Pid::from_raw(pid);
        Ok(container)
    }

    fn by_unshare(control: &Control) -> Result<Container, TargetError> {
        let step = |source| TargetError::Container {
            step: "unshare",
            source,
        };
        let control = control.with_deadline(WORK);
        let running = Command::on_host("unshare", &control)
            .args([
                "--mount",
                "--uts",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["--mount-proc", "sleep", "infinity"])
            .spawn()
            .map_err(step)?;
        loop {
            let children = format!("/proc/{0}/task/{0}/children", running.pid());
            let child = fs::read_to_string(children)
                .ok()
                .and_then(|text| text.split_ascii_whitespace().next()?.parse().ok())
                .map(Pid::from_raw);
            // Before it becomes sleep it is still at work.
            if let Some(pid) = child.filter(|pid| command_name(*pid) == "sleep") {
                return Ok(Container {
                    pid,
                    made: Made::Unshare(Mutex::new(Some(running))),
                    ended: Mutex::new(false),
                });
            }
            if running.ended() || control.expired() || control.interrupted().is_some() {
                return Err(match running.wait() {
                    Err(source) => step(source),
                    Ok(_) => TargetError::Elsewhere { engine: "unshare" },
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Detaches copies of FUSE mounts, and of all mounts below `scratch`: a container keeps what was mounted when it was
    /// made, and their servers would wait for it.
    fn forget_mounts(
        &self,
        backing: &Path,
        scratch: &Path,
        control: &Control,
    ) -> Result<(), TargetError> {
        let control = control.with_deadline(WORK);
        // With its process ids: umount(8) looks into /proc, which is the container's.
        let copies = mountinfo::of(self.pid)
            .into_iter()
            .filter(|entry| entry.fuse() || entry.point.starts_with(scratch))
            .filter(|entry| !backing.starts_with(&entry.point));
        for entry in copies {
            Command::on_host("nsenter", &control)
                .args([
                    "--target",
                    &self.pid.to_string(),
                    "--mount",
                    "--pid",
                    "--",
                    "umount",
                    "--lazy",
                    "--no-canonicalize",
                ])
                .arg(&entry.point)
                .run()
                .map_err(|source| TargetError::Container {
                    step: "umount in the container",
                    source,
                })?;
        }
        Ok(())
    }

    /// Its first process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its name for the engine, if one made it.
    pub fn name(&self) -> Option<&str> {
        match &self.made {
            Made::Docker(name) => Some(name),
            Made::Unshare(_) => None,
        }
    }

    /// What made it.
    pub fn engine(&self) -> &'static str {
        match self.made {
            Made::Docker(_) => "docker",
            Made::Unshare(_) => "unshare",
        }
    }

    /// Kills what runs in it besides its first process: a client that is killed may leave behind what it had started.
    /// Returns how many would not die.
    pub fn clear(&self) -> usize {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.pid.as_raw());
        let end = Instant::now() + ANSWER;
        loop {
            let mut left = 0;
            for process in procfs::process::all_processes()
                .into_iter()
                .flatten()
                .flatten()
            {
                let pid = process.pid();
                let state = process.stat().map(|stat| stat.state);
                // The dead that nobody reaps go away with the container.
                let alive = state.is_ok_and(|state| state != 'Z');
                if alive && pid != self.pid.as_raw() && own.is_some() && namespace(pid) == own {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    left += 1;
                }
            }
            if left == 0 || Instant::now() >= end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes it; returns what did not work.
    pub fn end(&self) -> Vec<String> {
        let mut ended = self.ended.lock().unwrap_or_else(|error| error.into_inner());
        if std::mem::replace(&mut *ended, true) {
            return Vec::new();
        }
        match &self.made {
            Made::Unshare(running) => {
                // Dropped, it is killed with its child.
                drop(
                    running
                        .lock()
                        .unwrap_or_else(|error| error.into_inner())
                        .take(),
                );
                Vec::new()
            }
            Made::Docker(name) => {
                let control = Control::none().with_deadline(WORK);
                let container =
                    docker_command(&control, ["rm", "--force", "--volumes", name]).run();
                let image = docker_command(&control, ["rmi", "--force", name]).run();
                [container, image]
                    .into_iter()
                    .filter_map(|result| Some(result.err()?.to_string()))
                    .map(|error| format!("cannot remove container and image {name}: {error}"))
                    .collect()
            }
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        for complaint in self.end() {
            eprintln!("perf: {complaint}");
        }
    }
}

fn docker_command<const N: usize>(control: &Control, arguments: [&str; N]) -> Command {
    Command::on_host("docker", control).args(arguments)
}

fn command_name(pid: Pid) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Directories that the container has at the same path, and how.
fn shared(backing: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut shared: Vec<(PathBuf, &str)> = OF_HOST
        .iter()
        .map(PathBuf::from)
        .filter(|path| path.is_dir())
        .map(|path| (path, "ro"))
        .collect();
    let own = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    if let Some(own) = own.filter(|own| !shared.iter().any(|(path, _)| own.starts_with(path))) {
        shared.push((own, "ro"));
    }
    shared.push((backing.to_owned(), "rw"));
    shared
}

fn volume(path: &Path, mode: &str) -> OsString {
    let mut volume = path.as_os_str().to_owned();
    volume.push(":");
    volume.push(path);
    volume.push(":");
    volume.push(mode);
    volume
}
