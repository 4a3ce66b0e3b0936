//! The view of the host that becomes the session's root, and the process that serves it.
//!
//! The mount is made by cntr itself, in its own user namespace: so the superblock belongs to that, and the server may
//! present the host's ids as those of the container's user namespace. Host root is container root there: a file of root
//! belongs to root in the session, and what the session's root makes belongs to root on the host. That is why a session in
//! a user namespace may only read unless the user says otherwise.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::handshake::{Deadline, Failure, Message, Reporter, inject};
use super::mounts::{Plan, Point, PointKind};
use super::namespaces::{Kind, Namespaces};
use super::server::{Lifeline, Server, StartError};
use super::source::{IdMaps, Tree, present};
use super::status::Extent;
use super::step::{Fault, Step};
use super::supervise::Signals;
use super::target::Target;
use crate::control::{self, Served};
use crate::engine::mount::{DetachedMount, MountOptions};
use crate::engine::{Config, Session};
use crate::fs::{self, PassthroughFs, Synthetic, SyntheticKind};
use crate::sys::mount::MountAttr;

pub use crate::fs::{Access, CachePolicy, Ownership};

/// How long the kernel may take to answer the server's hand-shake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How old a session is when its caches become coherent: most commands are done by then, and end sooner without.
const SETTLED: Duration = Duration::from_millis(60);

/// Which tree the view shows, and how.
#[derive(Debug)]
pub struct View {
    /// The tree.
    pub tree: Tree,
    /// Whether it can be changed.
    pub access: Access,
    /// How long the kernel may cache.
    pub cache: CachePolicy,
    /// Whom new files belong to on the host.
    pub ownership: Ownership,
    /// How the host's user and group ids are presented; none if as they are.
    pub ids: Option<IdMaps>,
    /// Where the session mounts things over it.
    pub points: Vec<Point>,
    /// Paths that are not there.
    pub hidden: Vec<PathBuf>,
    /// The process the session is for.
    pub container: i32,
}

/// A view that is served.
pub struct Opened {
    /// The mount, attached nowhere yet.
    pub mount: OwnedFd,
    /// Its server.
    pub server: Server,
    /// What makes the kernel know the mount's landmark: to be kept as long as the mount is used.
    pub landmark: Option<OwnedFd>,
}

impl View {
    /// The view of `tree` for a session of `target`. Without a wish in `access` it is read-only for a user namespace.
    #[must_use]
    pub fn new(
        tree: Tree,
        target: &Target,
        namespaces: &Namespaces,
        plan: &Plan,
        access: Option<Access>,
        cache: CachePolicy,
    ) -> View {
        let shifted = namespaces.differs(Kind::User);
        let default = if shifted || namespaces.entered() {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        };
        let (uids, gids) = match &tree.ids {
            Some((uids, gids)) => (Some(uids.as_slice()), Some(gids.as_slice())),
            None => (None, None),
        };
        let ids = present(uids, shifted.then_some(target.uid_map.as_slice()))
            .zip(present(gids, shifted.then_some(target.gid_map.as_slice())));
        View {
            tree,
            access: access.unwrap_or(default),
            cache,
            ownership: Ownership::Caller,
            ids,
            points: plan.points(),
            hidden: Vec::new(),
            container: target.pid.as_raw(),
        }
    }

    /// Makes the mount and starts its server.
    ///
    /// # Errors
    /// The step that failed.
    pub fn open(
        self,
        signals: &Signals,
        deadline: Deadline,
        fault: Option<Fault>,
    ) -> Result<Opened, StartError> {
        inject(fault, Step::MakeView)?;
        let mut attr = MountAttr::NOSUID | MountAttr::NODEV;
        if self.access == Access::ReadOnly {
            attr |= MountAttr::RDONLY;
        }
        let options = MountOptions {
            source: "cntr".to_owned(),
            subtype: Some("cntr".to_owned()),
            attr,
            ..MountOptions::default()
        };
        let made = DetachedMount::new(&options).map_err(|error| {
            Failure::new(Step::MakeView, "", chain(&error))
                .remedy("`cntr doctor` says what this machine lacks")
        })?;
        let DetachedMount {
            device,
            mount,
            root,
            landmark,
            connection,
        } = made;
        let config = Config {
            root,
            landmark: landmark.clone(),
            handshake: HANDSHAKE,
            ..Config::default()
        };
        let kept = self.tree.descriptors();
        let serve = move |reporter: &Reporter, lifeline, device| {
            self.serve(device, &config, connection, reporter, lifeline)
        };
        let server = Server::start(signals, deadline, fault, device, &kept, serve)?;
        let landmark = landmark.set(mount.as_fd());
        if let Err(error) = &landmark {
            tracing::info!(
                "requests that wait while all threads of a CPU are blocked may wait longer: {error}"
            );
        }
        let tree = DetachedMount::tree(mount, root)
            .map_err(|error| Failure::new(Step::MakeView, "", chain(&error)))?;
        Ok(Opened {
            mount: tree,
            server,
            landmark: landmark.ok(),
        })
    }

    fn serve(
        self,
        device: OwnedFd,
        config: &Config,
        connection: u32,
        reporter: &Reporter,
        lifeline: Lifeline,
    ) -> Result<(), Failure> {
        let failed = |object: &str, error: &dyn std::error::Error| {
            Failure::new(Step::Serve, object, chain(error))
        };
        crate::sys::process::raise_descriptor_limit();
        let fs =
            Arc::new(PassthroughFs::new(self.file_system()?).map_err(|error| failed("", &error))?);
        let session = Session::start(Arc::clone(&fs), device, config)
            .map_err(|error| failed("/dev/fuse", &error))?;
        let served = Served {
            kind: "session".to_owned(),
            source: self.tree.name.clone(),
            target: format!("process {}", self.container),
            container: Some(self.container),
        };
        let statistics = move || fs.statistics();
        if let Err(error) = control::Server::start(&session, connection, served, statistics) {
            reporter.note(format!("`cntr stat` will not find this session: {error}"));
        }
        let stopper = session.stopper();
        let watch = move || {
            lifeline.wait();
            stopper.stop();
        };
        std::thread::Builder::new()
            .name("cntr-lifeline".to_owned())
            .stack_size(256 << 10)
            .spawn(watch)
            .map_err(|error| failed("lifeline", &error))?;
        reporter.say(&Message::Serving(format!(
            "serving {} {} on connection {connection}, FUSE 7.{}",
            self.tree.name,
            if self.access == Access::ReadOnly {
                "read-only"
            } else {
                "read-write"
            },
            session.negotiated().minor
        )));
        session.wait();
        Ok(())
    }

    fn file_system(&self) -> Result<fs::Options, Failure> {
        let failed = |error| Failure::system(Step::Serve, &self.tree.name, error);
        let root = self.tree.root.try_clone().map_err(failed)?;
        let mount_table = self.tree.mount_table().map_err(failed)?;
        let id_map = match &self.ids {
            None => fs::IdMap::IDENTITY,
            Some((uids, gids)) => {
                let map = |extents: &[Extent]| {
                    fs::Ids::new(extents.iter().map(|extent| fs::Extent {
                        inside: extent.inside,
                        outside: extent.outside,
                        count: extent.count,
                    }))
                    .map_err(|error| Failure::new(Step::Serve, "id map", error.to_string()))
                };
                fs::IdMap {
                    uids: map(uids)?,
                    gids: map(gids)?,
                }
            }
        };
        let synthetic = self.points.iter().map(|point| Synthetic {
            path: point.path.clone(),
            kind: match point.kind {
                PointKind::Directory => SyntheticKind::Directory,
                PointKind::File => SyntheticKind::File,
            },
        });
        Ok(fs::Options {
            access: self.access,
            cache: self.cache,
            ownership: self.ownership,
            watch_delay: SETTLED,
            mount_table,
            id_map,
            synthetic: synthetic.collect(),
            hidden: self.hidden.clone(),
            ..fs::Options::new(root)
        })
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
