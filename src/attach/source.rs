//! Where the files come from that a session has as its own: the host, a directory of it, or another container.
//!
//! The tree is opened before anything is started, and served through its root's descriptor: the server stays outside of the
//! other container. That one is pinned while it is looked at, so that no other process is served instead, and its mount
//! namespace is held as long as the session lasts: its files stay whole when it ends.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::environment::{DEFAULT_PATH, Environment};
use super::handshake::Failure;
use super::mounts::open_in;
use super::passwd::{Account, Accounts, UserSpec};
use super::status::{Extent, to_outside};
use super::step::Step;
use super::target::Target;
use crate::fs::MountTable;
use crate::sys::pinned::Pinned;

/// Whose files a session has.
#[derive(Debug, Default)]
pub enum Source {
    /// The host's.
    #[default]
    Host,
    /// Those below a directory of the host.
    Directory(PathBuf),
    /// Those that a process sees, which is one of another container.
    Process(Pinned),
}

/// Maps of user and group ids.
pub type IdMaps = (Vec<Extent>, Vec<Extent>);

/// The tree of a [`Source`], open.
#[derive(Debug)]
pub struct Tree {
    /// What it is called in messages.
    pub name: String,
    /// Its root (`O_PATH`).
    pub root: OwnedFd,
    /// The user namespace that its owners are to be seen through; none for cntr's own.
    pub ids: Option<IdMaps>,
    /// What is mounted in it, unless cntr's own mount table says that.
    mount_table: Option<File>,
    /// The mount namespace that it is in, unless it is cntr's own.
    namespace: Option<OwnedFd>,
    /// The mount namespace that cntr has opened it in.
    outside: Option<File>,
    /// What its processes have in their environment, if they are others than cntr.
    environment: Option<Environment>,
}

impl Tree {
    /// Opens the host's tree.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn of_host() -> Result<Tree, Failure> {
        let mut tree = Tree::of_directory(Path::new("/"))?;
        tree.environment = Some(Environment::own());
        Ok(tree)
    }

    /// Opens the tree of `source`, unless that is the host's.
    ///
    /// # Errors
    /// There is no such directory or process, or cntr may not look into it.
    pub fn of_caller(source: Source) -> Result<Option<Tree>, Failure> {
        let named = |failure: Failure| Failure {
            step: Step::MakeView,
            object: format!("--from {}", failure.object),
            ..failure
        };
        match source {
            Source::Host => Ok(None),
            Source::Directory(path) => {
                let mut tree = Tree::of_directory(&path).map_err(named)?;
                // cntr may go to another one, and be the last in this.
                tree.outside = File::open("/proc/self/ns/mnt").ok();
                Ok(Some(tree))
            }
            Source::Process(process) => Tree::of_process(process).map_err(named).map(Some),
        }
    }

    /// Opens the tree below the directory `path` of the host.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn of_directory(path: &Path) -> Result<Tree, Failure> {
        let name = path.display().to_string();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty())
            .map_err(|error| Failure::system(Step::MakeView, &name, error))?;
        Ok(Tree {
            name,
            root,
            ids: None,
            mount_table: None,
            namespace: None,
            outside: None,
            environment: None,
        })
    }

    fn of_process(process: Pinned) -> Result<Tree, Failure> {
        let pid = process.pid();
        let process = Target::open(process)?;
        let object = format!("process {pid}");
        let failed = |error| Failure::system(Step::OpenTarget, &object, error);
        let mount_table = process.file("mountinfo").map_err(failed)?;
        let namespace = process.namespace("mnt").map_err(failed)?;
        let shifted = process
            .has_own_namespace("user")
            .map_err(failed)?
            .then(|| (process.uid_map.clone(), process.gid_map.clone()));
        // What was opened is that of this process only if it still lives.
        if !process.is_alive() {
            return Err(Failure::new(
                Step::OpenTarget,
                &object,
                "the process has ended",
            ));
        }
        Ok(Tree {
            name: object,
            root: process.root,
            ids: shifted,
            mount_table: Some(mount_table),
            namespace,
            outside: None,
            environment: Some(Environment::from_entries(&process.environment)),
        })
    }

    /// What it is called where it is described.
    #[must_use]
    pub fn description(&self) -> String {
        if self.namespace.is_some() {
            format!("the root of {}", self.name)
        } else {
            format!("{} of the host", self.name)
        }
    }

    /// What the file system watches and looks at to know what is mounted in the tree.
    ///
    /// # Errors
    /// The descriptors cannot be copied.
    pub fn mount_table(&self) -> std::io::Result<Option<MountTable>> {
        let Some(file) = &self.mount_table else {
            return Ok(None);
        };
        Ok(Some(MountTable {
            file: file.try_clone()?,
            root: self.root.try_clone()?,
        }))
    }

    /// The descriptors that it consists of.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        let table = self.mount_table.as_ref().map(AsRawFd::as_raw_fd);
        let namespace = self.namespace.as_ref().map(AsRawFd::as_raw_fd);
        let outside = self.outside.as_ref().map(AsRawFd::as_raw_fd);
        let others = table.into_iter().chain(namespace).chain(outside);
        std::iter::once(self.root.as_raw_fd())
            .chain(others)
            .collect()
    }

    /// Whether its paths are the host's.
    #[must_use]
    pub fn is_the_hosts(&self) -> bool {
        self.namespace.is_none() && self.name == "/"
    }

    /// Whether `path` is there.
    fn has(&self, path: &Path) -> bool {
        open_in(self.root.as_fd(), path, OFlag::O_PATH).is_ok()
    }

    /// Where the tools of the tree are found: the `PATH` of its processes.
    #[must_use]
    pub fn path(&self) -> std::ffi::OsString {
        let path = self.environment.as_ref().and_then(|own| own.get("PATH"));
        path.cloned().unwrap_or_else(|| DEFAULT_PATH.into())
    }

    /// The shell of its processes, or of `caller`, if it has that.
    #[must_use]
    pub fn shell<'a>(&'a self, caller: &'a Environment) -> Option<&'a std::ffi::OsString> {
        let own = self.environment.as_ref().and_then(|own| own.get("SHELL"));
        own.into_iter()
            .chain(caller.get("SHELL"))
            .find(|shell| self.has(Path::new(shell)))
    }

    /// Who `spec` is there, with the ids that the host has for it: a user of the host, but in another container that
    /// one's.
    ///
    /// # Errors
    /// There is no such user, or the container's user namespace does not map it.
    pub fn account(&self, spec: &UserSpec) -> Result<Account, Failure> {
        let failed = |reason: String| Failure::new(Step::MakeView, "--effective-user", reason);
        if self.namespace.is_none() {
            return Accounts::find_on_host(spec).map_err(|error| failed(error.to_string()));
        }
        let account = Accounts::of(self.root.as_fd())
            .find(spec)
            .map_err(|error| failed(error.to_string()))?;
        let Some((uids, gids)) = &self.ids else {
            return Ok(account);
        };
        let unmapped = |what: &str, id: u32| {
            failed(format!(
                "the user namespace of {} has no {what} {id}",
                self.name
            ))
        };
        Ok(Account {
            uid: to_outside(uids, account.uid).ok_or_else(|| unmapped("user", account.uid))?,
            gid: to_outside(gids, account.gid).ok_or_else(|| unmapped("group", account.gid))?,
            ..account
        })
    }
}

/// How ids that the host has for files are presented: `source` says what they are in the container the files come from,
/// `target` how those of the container the session is in are outside of it. Without a map they are what they are; none if
/// nothing changes.
#[must_use]
pub fn present(source: Option<&[Extent]>, target: Option<&[Extent]>) -> Option<Vec<Extent>> {
    let (source, target) = match (source, target) {
        (None, None) => return None,
        (None, Some(target)) => return Some(target.to_vec()),
        // Those of the source are inside, what it calls them is outside.
        (Some(source), None) => {
            let turn = |extent: &Extent| Extent {
                inside: extent.outside,
                outside: extent.inside,
                count: extent.count,
            };
            return Some(source.iter().map(turn).collect());
        }
        (Some(source), Some(target)) => (source, target),
    };
    let mut extents = Vec::new();
    for from in source {
        for to in target {
            let start = from.inside.max(to.inside);
            let end = |extent: &Extent| u64::from(extent.inside) + u64::from(extent.count);
            let count = end(from).min(end(to)).saturating_sub(u64::from(start));
            let shifted = |extent: &Extent| extent.outside.checked_add(start - extent.inside);
            if let (Some(inside), Some(outside), Ok(count @ 1..)) =
                (shifted(from), shifted(to), u32::try_from(count))
            {
                extents.push(Extent {
                    inside,
                    outside,
                    count,
                });
            }
        }
    }
    Some(extents)
}

#[cfg(test)]
mod tests {
    use super::super::status::parse_id_map;
    use super::*;

    #[test]
    fn ids_lead_from_one_container_to_the_other() {
        let source = parse_id_map("0 100000 1000\n1000 5000 1\n2000 300000 10");
        let target = parse_id_map("0 200000 500\n500 900000 2000");
        let presented = present(Some(&source), Some(&target)).unwrap();
        let of = |host: u32| {
            presented.iter().find_map(|extent| {
                let offset = host.checked_sub(extent.inside)?;
                (offset < extent.count).then(|| extent.outside + offset)
            })
        };
        for (host, expected) in [
            (100_000, Some(200_000)),
            (100_499, Some(200_499)),
            (100_500, Some(900_000)),
            (5000, Some(900_500)),
            (300_009, Some(901_509)),
            (0, None),
            (300_010, None),
        ] {
            assert_eq!(of(host), expected, "{host}");
        }
        assert_eq!(present(None, None), None);
        assert_eq!(present(None, Some(&target)), Some(target.clone()));
        let alone = present(Some(&source), None).unwrap();
        assert_eq!((alone[0].inside, alone[0].outside), (100_000, 0));
        assert_eq!(
            present(Some(&source[2..]), Some(&target[..1])),
            Some(Vec::new())
        );
    }
}
