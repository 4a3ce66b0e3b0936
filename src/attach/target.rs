//! The process a session is attached to, held against reuse of its number.
//!
//! Everything about it is read through one descriptor of its `/proc` directory, which never means another process:
//! after the end of the process reads give `ESRCH`. That it is the directory of the process that is held is known once
//! that is seen to run after it was opened.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, stat};
use nix::unistd::Pid;

use super::handshake::Failure;
use super::mounts::{open_in, path_in};
use super::passwd::{Accounts, UserSpec};
use super::status::{Extent, Limit, Status, parse_id_map, parse_limits, to_outside};
use super::step::Step;
use crate::sys::pinned::Pinned;

/// A process to attach to.
pub struct Target {
    /// Its number in cntr's pid namespace.
    pub pid: Pid,
    /// What it is.
    pub status: Status,
    /// The user ids of its user namespace, outside being cntr's.
    pub uid_map: Vec<Extent>,
    /// The group ids of its user namespace, outside being cntr's.
    pub gid_map: Vec<Extent>,
    /// Its resource limits.
    pub limits: Vec<Limit>,
    /// How eager the kernel is to kill it.
    pub oom_score_adj: String,
    /// Lines of its `/proc/PID/cgroup`.
    pub cgroups: String,
    /// Its environment, `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// Its root directory (`O_PATH`): not the mount namespace's if it was chrooted.
    pub root: OwnedFd,
    /// Its working directory (`O_PATH`).
    pub cwd: OwnedFd,
    process: Pinned,
    proc: OwnedFd,
}

const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

impl Target {
    /// Opens `process`.
    ///
    /// # Errors
    /// It has ended, or cntr may not look into it.
    pub fn open(process: Pinned) -> Result<Target, Failure> {
        let pid = process.pid();
        let object = format!("process {pid}");
        let failed = |error: io::Error| {
            let failure = Failure::system(Step::OpenTarget, &object, error);
            match failure.errno {
                Some(libc::ESRCH | libc::ENOENT) => Failure { reason: "there is no such process".to_owned(), ..failure },
                Some(libc::EACCES | libc::EPERM) if nix::unistd::geteuid().is_root() => failure.remedy(
                    "the process has capabilities that cntr itself lacks: compare CapPrm in /proc/self/status",
                ),
                _ => failure,
            }
        };
        let directory = OFlag::O_DIRECTORY | PATH;
        let proc = openat(
            nix::fcntl::AT_FDCWD,
            format!("/proc/{pid}").as_str(),
            directory,
            Mode::empty(),
        )
        .map_err(|error| failed(error.into()))?;
        let open =
            |name: &str, flags| openat(&proc, name, flags, Mode::empty()).map_err(io::Error::from);
        let read = |name: &str| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::from(open(name, OFlag::O_RDONLY | OFlag::O_CLOEXEC)?).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let text =
            |name: &str| read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());

        let status = Status::parse(&text("status").map_err(failed)?)
            .ok_or_else(|| Failure::new(Step::OpenTarget, &object, "its status file is odd"))?;
        if matches!(status.state, 'Z' | 'X') {
            return Err(Failure::new(
                Step::OpenTarget,
                &object,
                "the process has ended (it is a zombie)",
            ));
        }
        let environment = read("environ").map_err(|error| match error.raw_os_error() {
            // A process without memory of its own, which at its end would be a zombie.
            Some(libc::ESRCH) if !process.has_ended() => {
                Failure::new(Step::OpenTarget, &object, "it is a thread of the kernel")
            }
            _ => failed(error),
        })?;
        let environment = environment
            .split(|byte| *byte == 0)
            .filter(|entry| entry.contains(&b'='))
            .map(<[u8]>::to_vec)
            .collect();
        let root = open("root", directory).map_err(failed)?;
        let target = Target {
            pid,
            uid_map: parse_id_map(&text("uid_map").map_err(failed)?),
            gid_map: parse_id_map(&text("gid_map").map_err(failed)?),
            limits: parse_limits(&text("limits").map_err(failed)?),
            oom_score_adj: text("oom_score_adj").map_err(failed)?.trim().to_owned(),
            cgroups: text("cgroup").unwrap_or_default(),
            environment,
            root,
            cwd: open("cwd", directory).map_err(failed)?,
            status,
            process,
            proc,
        };
        if !target.is_alive() {
            return Err(Failure::new(
                Step::OpenTarget,
                &object,
                "the process has ended",
            ));
        }
        Ok(target)
    }

    /// Has the session be the user `spec` of the container instead of the process's; gives its home.
    ///
    /// # Errors
    /// There is no such user, or the container's user namespace does not map it.
    pub fn become_user(&mut self, spec: &UserSpec) -> Result<OsString, Failure> {
        let failed = |reason: String| Failure::new(Step::OpenTarget, "--user", reason);
        let account = Accounts::of(self.root.as_fd())
            .find(spec)
            .map_err(|error| failed(error.to_string()))?;
        let unmapped = |what: &str, id: u32| {
            let reason = format!("the container's user namespace has no {what} {id}");
            move || failed(reason)
        };
        let uid = to_outside(&self.uid_map, account.uid);
        let uid = uid.ok_or_else(unmapped("user", account.uid))?;
        let gid = to_outside(&self.gid_map, account.gid);
        let gid = gid.ok_or_else(unmapped("group", account.gid))?;
        let groups = account.groups.iter();
        let groups = groups.filter_map(|gid| to_outside(&self.gid_map, *gid));
        let root = account.uid == 0;
        self.status.become_user(uid, gid, groups.collect(), root);
        Ok(account.home)
    }

    /// The path of its working directory below its root; none if it is not there.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        let path = path_in(self.root.as_fd(), &self.cwd)?;
        let again = open_in(self.root.as_fd(), &path, OFlag::O_DIRECTORY | OFlag::O_PATH).ok()?;
        let (again, cwd) = (fstat(again).ok()?, fstat(&self.cwd).ok()?);
        ((again.st_dev, again.st_ino) == (cwd.st_dev, cwd.st_ino)).then_some(path)
    }

    /// Opens a namespace of the process; `None` if the kernel does not have that kind.
    ///
    /// # Errors
    /// `EACCES` if cntr may not look into the process.
    pub fn namespace(&self, kind: &str) -> io::Result<Option<OwnedFd>> {
        match openat(
            &self.proc,
            format!("ns/{kind}").as_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        ) {
            Ok(fd) => Ok(Some(fd)),
            Err(nix::errno::Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file of its `/proc` directory for reading.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(openat(&self.proc, name, flags, Mode::empty())?.into())
    }

    /// Whether its namespace of this kind is another than cntr's.
    ///
    /// # Errors
    /// `EACCES` if cntr may not look into the process.
    pub fn has_own_namespace(&self, kind: &str) -> io::Result<bool> {
        let Some(theirs) = self.namespace(kind)? else {
            return Ok(false);
        };
        let theirs = fstat(theirs)?;
        let own = stat(format!("/proc/self/ns/{kind}").as_str())?;
        Ok((own.st_dev, own.st_ino) != (theirs.st_dev, theirs.st_ino))
    }

    /// Its directory in `/proc`.
    #[must_use]
    pub fn proc_directory(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.process.has_ended()
    }

    /// Its pid in its own pid namespace.
    #[must_use]
    pub fn own_pid(&self) -> i32 {
        self.status
            .pids
            .last()
            .copied()
            .unwrap_or(self.pid.as_raw())
    }
}
