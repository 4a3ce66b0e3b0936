//! Running a command of the container from inside a session, where no engine and no target's number is needed: the
//! container's tree is at the base directory.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::command::{Candidates, run_program};
use super::environment::{DEFAULT_PATH, Environment, Setting};
use super::handshake::Failure;
use super::step::Step;

/// The session this process belongs to.
pub struct Session {
    base: PathBuf,
    target: String,
}

impl Session {
    /// Finds it by the variables that `cntr attach` sets.
    #[must_use]
    pub fn find() -> Option<Session> {
        let base = PathBuf::from(std::env::var_os("CNTR_BASE_DIR")?);
        let target = std::env::var("CNTR_TARGET")
            .ok()
            .filter(|target| target.parse::<u32>().is_ok())?;
        base.is_dir().then_some(Session { base, target })
    }

    /// Becomes `command` (by default a shell) in the container's root; returns only if that fails.
    #[must_use]
    pub fn execute(
        &self,
        command: Vec<CString>,
        settings: &[Setting],
        directory: &Path,
    ) -> Failure {
        let caller = Environment::own();
        let mut environment = self.environment(&caller);
        environment.apply(settings, &caller);
        if let Err(error) = self.enter() {
            return Failure::system(Step::ChangeRoot, self.base.display().to_string(), error)
                .remedy(
                    "the session needs CAP_SYS_CHROOT, or to be allowed to make user namespaces",
                );
        }
        if let Err(error) = nix::unistd::chdir(directory) {
            return Failure::system(
                Step::WorkingDirectory,
                directory.display().to_string(),
                error,
            );
        }
        let command = if command.is_empty() {
            vec![c"sh".to_owned()]
        } else {
            command
        };
        run_program(
            &Candidates::new(&command[0], environment.get("PATH")),
            &command,
            &environment,
        )
    }

    /// The environment the container's process started with: what the session's shell changed does not count. If it
    /// cannot be read, the session's with a usual `PATH`.
    fn environment(&self, caller: &Environment) -> Environment {
        if let Ok(bytes) = std::fs::read(format!("/proc/{}/environ", self.target)) {
            let entries: Vec<Vec<u8>> =
                bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            let mut environment = Environment::from_entries(&entries);
            environment.set_default("HOME", "/");
            if let Some(term) = caller.get("TERM") {
                environment.set_default("TERM", term);
            }
            return environment;
        }
        let mut environment = caller.clone();
        environment.set("PATH", DEFAULT_PATH);
        environment.remove(|name| matches!(name, b"SHELL" | b"CNTR_BASE_DIR" | b"CNTR_TARGET"));
        environment
    }

    /// Changes the root. Without CAP_SYS_CHROOT a user namespace with the same ids gives it, for this alone.
    fn enter(&self) -> io::Result<()> {
        match nix::unistd::chroot(&self.base) {
            Err(Errno::EPERM) => {}
            result => return Ok(result?),
        }
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let refused = |_| io::Error::from_raw_os_error(libc::EPERM);
        unshare(CloneFlags::CLONE_NEWUSER)?;
        std::fs::write("/proc/self/setgroups", "deny").map_err(refused)?;
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).map_err(refused)?;
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).map_err(refused)?;
        Ok(nix::unistd::chroot(&self.base)?)
    }
}
