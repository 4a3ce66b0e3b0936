//! Paths of the host that a session gets natively, not by way of the server: `--bind`.
//!
//! A FUSE server cannot serve a socket, a FIFO or a device as what they are, and costs time. A bind mount can, and costs
//! nothing; but in a container with a user namespace it shows the host's owners as nobody, unless it is an idmapped mount.
//! So it is made one wherever the file system can. Bind mounts are made in cntr's own mount namespace, detached, and take
//! part in nothing: what the session mounts in them stays there.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::handshake::{Failure, Reporter};
use super::mounts::{Plan, Point, PointKind, open_in};
use super::step::Step;
use crate::fs::Access;
use crate::sys::mount::{self, MountAttr, Propagation, Submounts};

/// A path of the host, and where it is in the session: `PATH[:DEST][:ro]` as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindSpec {
    /// The path on the host, absolute.
    pub path: PathBuf,
    /// The path in the session, absolute.
    pub destination: PathBuf,
    /// Whether it can be written to there.
    pub access: Access,
}

impl FromStr for BindSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<BindSpec, String> {
        BindSpec::parse(OsString::from(text))
    }
}

impl BindSpec {
    /// Reads what was typed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: OsString) -> Result<BindSpec, String> {
        let bytes = text.into_vec();
        let mut fields: Vec<&[u8]> = bytes.split(|byte| *byte == b':').collect();
        let access = match fields.last() {
            Some(&b"ro") if fields.len() > 1 => Some(Access::ReadOnly),
            Some(&b"rw") if fields.len() > 1 => Some(Access::ReadWrite),
            _ => None,
        };
        if access.is_some() {
            fields.pop();
        }
        let absolute = |field: &[u8]| {
            let path = Path::new(std::ffi::OsStr::from_bytes(field));
            std::path::absolute(path).map_err(|_| "a path is missing".to_owned())
        };
        let (path, destination) = match fields[..] {
            [path] => (absolute(path)?, absolute(path)?),
            [path, destination] if destination.first() == Some(&b'/') => {
                (absolute(path)?, absolute(destination)?)
            }
            [_, destination] => {
                let destination = String::from_utf8_lossy(destination);
                return Err(format!(
                    "{destination:?} is neither an absolute path in the session nor ro"
                ));
            }
            _ => return Err("PATH[:DEST][:ro]; a path cannot have a colon in it".to_owned()),
        };
        let is_up = |part: Component<'_>| part == Component::ParentDir;
        if destination.components().any(is_up) {
            return Err("the path in the session must not have \"..\" in it".to_owned());
        }
        if destination == Path::new("/") {
            return Err("the root of the session is its view: see --from".to_owned());
        }
        Ok(BindSpec {
            path,
            destination,
            access: access.unwrap_or_default(),
        })
    }
}

/// What a destination is in.
enum Place {
    /// In the view, which gives it a mount point.
    View,
    /// In the container, where the mount point has to be there: nothing is made in it.
    Container(PathBuf),
}

/// A bind mount, attached nowhere yet.
#[derive(Debug)]
pub struct Bind {
    destination: PathBuf,
    kind: PointKind,
    mount: OwnedFd,
}

/// What a path led to when it was looked at: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u64, u64);

impl Bind {
    /// Looks at the path of `spec`. To be called before cntr goes to where it may do more than its caller.
    ///
    /// # Errors
    /// The path is not there, or the caller may not look at it.
    pub fn look(spec: &BindSpec) -> Result<Seen, Failure> {
        let found =
            open(&spec.path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).and_then(fstat);
        let found = found.map_err(|error| {
            Failure::system(
                Step::OpenBinds,
                format!("--bind {}", spec.path.display()),
                error,
            )
        })?;
        Ok(Seen(found.st_dev, found.st_ino))
    }

    /// Makes the bind mount of `spec`, which led to what was `seen`, for a session with `plan`, with the ids of the user
    /// namespace `users`, if it has one. To be called in cntr's own mount namespace. With it comes what the user should know.
    ///
    /// # Errors
    /// The path is not there, or cannot be bound.
    pub fn open(
        spec: &BindSpec,
        seen: Seen,
        plan: &Plan,
        users: Option<BorrowedFd<'_>>,
    ) -> Result<(Bind, Option<String>), Failure> {
        let object = format!("--bind {}", spec.path.display());
        let failed = |error: io::Error| Failure::system(Step::OpenBinds, &object, error);
        check(spec, plan)?;
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let fd = open(&spec.path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let found = fstat(&fd).map_err(|error| failed(error.into()))?;
        if Seen(found.st_dev, found.st_ino) != seen {
            let reason = "something else is there now";
            return Err(Failure::new(Step::OpenBinds, &object, reason));
        }
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        let is_directory = kind == SFlag::S_IFDIR;
        let submounts = if is_directory {
            Submounts::Clone
        } else {
            Submounts::Leave
        };
        let mount = mount::clone_tree(fd.as_fd(), c"", submounts).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EINVAL) => Failure::new(
                    Step::OpenBinds,
                    &object,
                    "it is not mounted here, or its mount is unbindable",
                )
                .remedy("findmnt -o TARGET,PROPAGATION -T PATH tells"),
                _ => failed(error),
            }
        })?;
        let mut attr = MountAttr::NOSUID;
        // A device that is asked for is to be used.
        if !matches!(kind, SFlag::S_IFCHR | SFlag::S_IFBLK) {
            attr |= MountAttr::NODEV;
        }
        if spec.access == Access::ReadOnly {
            attr |= MountAttr::RDONLY;
        }
        let slave = Some(Propagation::Slave);
        mount::set_attr(mount.as_fd(), c"", submounts, attr, slave).map_err(failed)?;
        let notice = users.and_then(|users| shift(mount.as_fd(), submounts, users));
        let notice = notice.map(|notice| format!("{object}: {notice}"));
        let kind = if is_directory {
            PointKind::Directory
        } else {
            PointKind::File
        };
        let bind = Bind {
            destination: spec.destination.clone(),
            kind,
            mount,
        };
        Ok((bind, notice))
    }

    /// The mount point that the view has to provide, if it is in the view.
    #[must_use]
    pub fn point(&self, plan: &Plan) -> Option<Point> {
        match place(&self.destination, plan) {
            Place::View => Some(Point {
                path: self.destination.clone(),
                kind: self.kind,
            }),
            Place::Container(_) => None,
        }
    }

    /// Attaches it. The caller's root is the view, in which the container `tree` is mounted.
    ///
    /// # Errors
    /// There is no mount point, or another kind of one.
    fn attach(
        &self,
        plan: &Plan,
        tree: BorrowedFd<'_>,
        top: BorrowedFd<'_>,
    ) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            let object = self.destination.display().to_string();
            let failure = Failure::system(Step::MountBinds, object, error);
            match failure.errno {
                Some(libc::ENOENT) => failure.remedy(
                    "it has to be there to be bound on, as nothing is made in the container: give another place, as in \
                     --bind PATH:/mnt",
                ),
                Some(libc::ENOTDIR | libc::EINVAL) => {
                    failure.remedy("a directory cannot be bound on a file, nor a file on a directory")
                }
                _ => failure,
            }
        };
        match place(&self.destination, plan) {
            Place::View => mount::attach(
                self.mount.as_fd(),
                top,
                &super::mounts::path_of(&self.destination),
            ),
            Place::Container(path) => open_in(tree, path, OFlag::O_PATH)
                .and_then(|target| mount::attach(self.mount.as_fd(), target.as_fd(), c"")),
        }
        .map_err(failed)
    }
}

/// Attaches `binds`, those of shorter paths first: what is below another one is seen on top of it.
///
/// # Errors
/// The one that cannot be attached.
pub fn attach_all(
    binds: &[Bind],
    plan: &Plan,
    tree: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    reporter.step(Step::MountBinds)?;
    let mut binds: Vec<&Bind> = binds.iter().collect();
    binds.sort_by_key(|bind| bind.destination.components().count());
    binds
        .iter()
        .try_for_each(|bind| bind.attach(plan, tree, top))
}

/// Refuses what would take something of the container's from the session.
fn check(spec: &BindSpec, plan: &Plan) -> Result<(), Failure> {
    let refuse = |reason: String| {
        let object = format!("--bind {}", spec.destination.display());
        Err(Failure::new(Step::OpenBinds, object, reason))
    };
    if spec.destination.starts_with("/proc") {
        return refuse(
            "/proc of the session is the container's, nothing can be bound there".to_owned(),
        );
    }
    let covers = |point: &Point| match point.kind {
        PointKind::Directory => point.path.starts_with(&spec.destination),
        PointKind::File => {
            point.path != spec.destination && point.path.starts_with(&spec.destination)
        }
    };
    match plan.points().iter().find(|point| covers(point)) {
        Some(point) => refuse(format!(
            "it would cover {}, which is the container's",
            point.path.display()
        )),
        None => Ok(()),
    }
}

fn place(destination: &Path, plan: &Plan) -> Place {
    if let Ok(rest) = destination.strip_prefix(&plan.base) {
        return Place::Container(rest.to_owned());
    }
    match ["/dev", "/sys"]
        .iter()
        .find(|top| destination.starts_with(top))
    {
        Some(_) => Place::Container(
            destination
                .strip_prefix("/")
                .unwrap_or(destination)
                .to_owned(),
        ),
        None => Place::View,
    }
}

/// Shows the mount with the ids of the user namespace `users`; says what is not shown so.
fn shift(mount: BorrowedFd<'_>, submounts: Submounts, users: BorrowedFd<'_>) -> Option<String> {
    let Err(error) = mount::map_ids(mount, submounts, users) else {
        return None;
    };
    let alone =
        submounts == Submounts::Clone && mount::map_ids(mount, Submounts::Leave, users).is_ok();
    Some(match (alone, error.raw_os_error()) {
        (true, _) => "what is mounted below it belongs to nobody in the session: not all of those file systems can be \
                      shown with other ids"
            .to_owned(),
        (false, Some(libc::EINVAL)) => {
            "everything in it belongs to nobody in the session: its file system cannot be shown with other ids".to_owned()
        }
        (false, _) => format!("everything in it belongs to nobody in the session: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, String, Access), String> {
        let spec: BindSpec = text.parse()?;
        let name = |path: PathBuf| path.into_os_string().into_string().unwrap();
        Ok((name(spec.path), name(spec.destination), spec.access))
    }

    #[test]
    fn paths_destinations_and_access_are_told_apart() {
        let is = |from: &str, to: &str, access| Ok((from.to_owned(), to.to_owned(), access));
        let (rw, ro) = (Access::ReadWrite, Access::ReadOnly);
        assert_eq!(parse("/a"), is("/a", "/a", rw));
        assert_eq!(parse("/a:ro"), is("/a", "/a", ro));
        assert_eq!(parse("/a:rw"), is("/a", "/a", rw));
        assert_eq!(parse("/a/:/b/c/"), is("/a/", "/b/c/", rw));
        assert_eq!(parse("/a:/ro:ro"), is("/a", "/ro", ro));
        let here = std::env::current_dir().unwrap().join("ro");
        let here = here.to_str().unwrap();
        assert_eq!(parse("ro"), is(here, here, rw));
        assert_eq!(parse("ro:/x:ro"), is(here, "/x", ro));
        for wrong in [
            "",
            ":",
            "/a:b",
            "/a:",
            "/a:/",
            "/a:/b/../c",
            "/a:/b:/c",
            "/a:/b:ro:ro",
            "/",
            ":/a",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_the_containers_stays_in_sight() {
        let plan = Plan {
            base: PathBuf::from("/var/lib/cntr"),
            files: vec!["etc/passwd"],
            sys: true,
            dev: super::super::mounts::DevSource::Container,
        };
        for wrong in [
            "/var/lib/cntr",
            "/var/lib",
            "/var",
            "/etc",
            "/proc",
            "/proc/1",
            "/sys",
            "/dev",
        ] {
            assert!(
                check(&format!("/a:{wrong}").parse().unwrap(), &plan).is_err(),
                "{wrong}"
            );
        }
        for (fine, in_view) in [
            ("/etc/passwd", true),
            ("/var/lib/cntr-2", true),
            ("/var/lib/cntr/srv", false),
            ("/dev/kvm", false),
            ("/devices", true),
        ] {
            assert!(
                check(&format!("/a:{fine}").parse().unwrap(), &plan).is_ok(),
                "{fine}"
            );
            let is_view = matches!(place(Path::new(fine), &plan), Place::View);
            assert_eq!(is_view, in_view, "{fine}");
        }
    }
}
