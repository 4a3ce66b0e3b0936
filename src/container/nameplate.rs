//! What running containers are called: a file for each of them in a directory that belongs to their user alone.
//!
//! A nameplate names the container's first process and when that started, so one that outlives its container - because cntr
//! was killed - means nothing, and is removed by who comes across it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use crate::sys::pinned::{Moment, Pinned};

/// Where those of root are. Those of others are in the same directories below `XDG_RUNTIME_DIR`.
const DIRECTORY: &str = "/run/cntr/containers";

/// The longest name.
const LONGEST: usize = 64;

/// What a nameplate takes at most, in bytes.
const LARGEST: u64 = 16 << 10;

/// How long another one that puts up a nameplate is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a container is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(allowed) {
            return Err(format!(
                "expected 1 to {LONGEST} letters, digits, '_', '.' and '-'"
            ));
        }
        if !text.as_bytes()[0].is_ascii_alphanumeric() {
            return Err("expected a letter or digit at the start".to_owned());
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("a number is that of a process".to_owned());
        }
        Ok(Name(text.to_owned()))
    }
}

impl Name {
    /// The name of a container that was given none, started by the process `pid`.
    #[must_use]
    pub fn default_of(pid: Pid) -> Name {
        Name(format!("cntr-{pid}"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a container cannot be called that.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// Another one is.
    #[error(
        "a container called {name} is running already (process {pid}): end it first, or choose another name"
    )]
    Taken {
        /// The name.
        name: String,
        /// Its first process.
        pid: i32,
    },
    /// There is no directory for names.
    #[error("there is no place for names of containers: XDG_RUNTIME_DIR is not set")]
    Nowhere,
    /// The directory is somebody else's.
    #[error("{} belongs to somebody else, or somebody else may write to it", .0.display())]
    Exposed(PathBuf),
    /// The name cannot be written down.
    #[error("cannot write down the container's name in {}", path.display())]
    File {
        /// The directory.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
}

/// What is written down.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Written {
    pid: i32,
    started: u64,
    /// Those in which process id and time mean something.
    namespaces: String,
    root: PathBuf,
    /// Whether it is more than a claim.
    ready: bool,
}

impl Written {
    fn of(pid: Pid, root: &Path) -> Option<Written> {
        Some(Written {
            pid: pid.as_raw(),
            started: Moment::of_start(pid)?.ticks(),
            namespaces: own_namespaces(),
            root: root.to_owned(),
            ready: false,
        })
    }

    fn is_live(&self) -> bool {
        let process = Pinned::open(Pid::from_raw(self.pid)).ok();
        let started = process.and_then(|process| process.started());
        started == Some(Moment::from_ticks(self.started))
    }
}

fn own_namespaces() -> String {
    let link = |kind: &str| {
        let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
        link.display().to_string()
    };
    format!("{} {}", link("pid"), link("time"))
}

/// A running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What it is called.
    pub name: String,
    /// Its first process.
    pub pid: Pid,
    /// Its root directory on the host.
    pub root: PathBuf,
}

/// The nameplates of a user.
#[derive(Clone, Debug)]
pub struct Board(PathBuf);

impl Board {
    /// The caller's own.
    ///
    /// # Errors
    /// [`NameError::Nowhere`].
    pub fn own() -> Result<Board, NameError> {
        if nix::unistd::geteuid().is_root() {
            return Ok(Board(PathBuf::from(DIRECTORY)));
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|path| path.is_absolute());
        let runtime = runtime.ok_or(NameError::Nowhere)?;
        Ok(Board(runtime.join("cntr/containers")))
    }

    /// All containers that run, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Named> {
        let Ok(directory) = self.open() else {
            return Vec::new();
        };
        let mut names: Vec<Name> = fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names
            .iter()
            .filter_map(|name| self.look(&directory, name))
            .collect()
    }

    /// The one that is called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Named> {
        self.look(&self.open().ok()?, &name.parse().ok()?)
    }

    /// Claims `name` for the container whose first process is `pid`; nobody finds it before it is announced.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn put(&self, name: &Name, pid: Pid, root: &Path) -> Result<Nameplate, NameError> {
        let failed = |source: io::Error| NameError::File {
            path: self.0.clone(),
            source,
        };
        let written = Written::of(pid, root).ok_or_else(|| failed(Errno::ESRCH.into()))?;
        // What those have left behind whose cntr was killed.
        let _ = self.list();
        let start = Instant::now();
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.0)
                .map_err(failed)?;
            match self.write(name, &written) {
                Ok(()) => {
                    return Ok(Nameplate {
                        board: self.clone(),
                        name: name.clone(),
                        written,
                    });
                }
                // The last one there was has taken the directory down meanwhile.
                Err(NameError::File { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && start.elapsed() < PATIENCE => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&self, name: &Name, written: &Written) -> Result<(), NameError> {
        let failed = |source: io::Error| NameError::File {
            path: self.0.clone(),
            source,
        };
        let directory = lock(self.open()?, PATIENCE).map_err(failed)?;
        if let Some(other) = read(&directory, name).filter(Written::is_live) {
            return Err(NameError::Taken {
                name: name.0.clone(),
                pid: other.pid,
            });
        }
        store(&directory, name, written).map_err(failed)
    }

    /// The directory, if nobody else may change what is in it.
    fn open(&self) -> Result<OwnedFd, NameError> {
        let failed = |errno: Errno| NameError::File {
            path: self.0.clone(),
            source: errno.into(),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(AT_FDCWD, &self.0, flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&directory).map_err(failed)?;
        if stat.st_uid != nix::unistd::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
            return Err(NameError::Exposed(self.0.clone()));
        }
        Ok(directory)
    }

    /// The container `name`; its nameplate is removed if it does not run any more.
    fn look(&self, directory: &OwnedFd, name: &Name) -> Option<Named> {
        let written = read(directory, name)?;
        if written.namespaces != own_namespaces() {
            // Its numbers mean nothing here.
            return None;
        }
        if !written.is_live() {
            self.remove(name, &written, Duration::ZERO);
            return None;
        }
        written.ready.then(|| Named {
            name: name.0.clone(),
            pid: Pid::from_raw(written.pid),
            root: written.root,
        })
    }

    /// Removes a nameplate if nobody has put up another one, and the directories if it was the last.
    fn remove(&self, name: &Name, written: &Written, patience: Duration) {
        let Some(directory) = self.open().ok().and_then(|fd| lock(fd, patience).ok()) else {
            return;
        };
        if read(&directory, name).as_ref() == Some(written) {
            let _ = unlinkat(&*directory, name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        if fs::remove_dir(&self.0).is_ok()
            && let Some(parent) = self.0.parent()
        {
            let _ = fs::remove_dir(parent);
        }
    }
}

/// What is written down of `name`.
fn read(directory: &OwnedFd, name: &Name) -> Option<Written> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(directory, name.as_str(), flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    File::from(file).take(LARGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Writes down what `name` is, at once or not at all.
fn store(directory: &OwnedFd, name: &Name, written: &Written) -> io::Result<()> {
    // No name starts with a dot.
    let draft = format!(".{}", name.0);
    let _ = unlinkat(directory, draft.as_str(), UnlinkatFlags::NoRemoveDir);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let mut file = File::from(openat(directory, draft.as_str(), flags, mode)?);
    file.write_all(&serde_json::to_vec(written)?)?;
    Ok(renameat(
        directory,
        draft.as_str(),
        directory,
        name.as_str(),
    )?)
}

/// Locks the directory against others who put up nameplates or take them down; waits for `patience` at most.
fn lock(mut directory: OwnedFd, patience: Duration) -> io::Result<Flock<OwnedFd>> {
    let start = Instant::now();
    loop {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((fd, Errno::EWOULDBLOCK)) if start.elapsed() < patience => directory = fd,
            Err((_, errno)) => return Err(errno.into()),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The name of a container for as long as it runs.
#[derive(Debug)]
pub struct Nameplate {
    board: Board,
    name: Name,
    written: Written,
}

impl Nameplate {
    /// Lets everybody find the container: it is what it should be.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn announce(&mut self) -> Result<(), NameError> {
        let failed = |source: io::Error| NameError::File {
            path: self.board.0.clone(),
            source,
        };
        let directory = lock(self.board.open()?, PATIENCE).map_err(failed)?;
        self.written.ready = true;
        store(&directory, &self.name, &self.written).map_err(failed)
    }
}

impl Drop for Nameplate {
    fn drop(&mut self) {
        self.board.remove(&self.name, &self.written, PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeping() -> (Child, Pid) {
        let mut sleep = Command::new("sleep");
        let child = sleep.arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        (child, pid)
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn announced(board: &Board, text: &str, pid: Pid) -> Nameplate {
        let mut plate = board.put(&name(text), pid, Path::new("/")).unwrap();
        plate.announce().unwrap();
        plate
    }

    #[test]
    fn names() {
        for good in ["web", "web-1", "1a", "a.b_c"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let long = "x".repeat(LONGEST + 1);
        for wrong in ["", "-a", ".a", "a/b", "12", "a b", "\u{e4}", long.as_str()] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_its_containers_as_long_as_that_runs() {
        let directory = tempfile::tempdir().unwrap();
        let board = Board(directory.path().join("cntr/containers"));
        assert_eq!((board.list(), board.find("web")), (Vec::new(), None));
        let (mut child, pid) = sleeping();
        let mut plate = board.put(&name("web"), pid, Path::new("/srv")).unwrap();
        assert_eq!((board.list(), board.find("web")), (Vec::new(), None));
        plate.announce().unwrap();
        let expected = Named {
            name: "web".to_owned(),
            pid,
            root: PathBuf::from("/srv"),
        };
        assert_eq!(board.list(), std::slice::from_ref(&expected));
        assert_eq!(board.find("web"), Some(expected));
        assert_eq!(board.find("../web"), None);
        let own = nix::unistd::getpid();
        let taken = board.put(&name("web"), own, Path::new("/"));
        assert!(matches!(taken, Err(NameError::Taken { .. })), "{taken:?}");
        // It has ended without a word.
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(board.find("web"), None);
        assert!(!board.0.exists());
        let other = announced(&board, "web", own);
        // What its former owner does not know.
        drop(plate);
        assert_eq!(board.list().len(), 1);
        drop(other);
        assert!(!directory.path().join("cntr").exists());
    }

    #[test]
    fn another_process_of_the_number_is_not_the_containers() {
        let directory = tempfile::tempdir().unwrap();
        let board = Board(directory.path().join("containers"));
        let own = nix::unistd::getpid();
        let plate = announced(&board, "web", own);
        let file = board.0.join("web");
        let text = fs::read_to_string(&file).unwrap();
        let edit = |change: &dyn Fn(&mut Written)| {
            let mut written: Written = serde_json::from_str(&text).unwrap();
            change(&mut written);
            fs::write(&file, serde_json::to_vec(&written).unwrap()).unwrap();
        };
        // Of another pid namespace: not ours to judge.
        edit(&|written| written.namespaces = "pid:[1] time:[2]".to_owned());
        assert_eq!((board.find("web"), file.exists()), (None, true));
        edit(&|written| written.started -= 1);
        assert_eq!((board.find("web"), file.exists()), (None, false));
        drop(plate);
    }

    #[test]
    fn nothing_is_believed_that_others_could_have_written() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let board = Board(directory.path().join("containers"));
        let own = nix::unistd::getpid();
        let plate = announced(&board, "web", own);
        fs::set_permissions(&board.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!((board.list(), board.find("web")), (Vec::new(), None));
        let exposed = board.put(&name("b"), own, Path::new("/"));
        assert!(matches!(exposed, Err(NameError::Exposed(_))), "{exposed:?}");
        fs::set_permissions(&board.0, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(board.find("web").is_some());
        drop(plate);
    }
}
