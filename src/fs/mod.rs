//! The passthrough file system: a host directory tree, served as it is.
//!
//! What an application sees through the mount is what it would see on the host directory; what differs on purpose is in
//! [`Options`]. The kernel checks permissions (`default_permissions`, ACLs included) before it sends a request, so
//! this server, which runs with all privileges, does what it is asked to, as the caller where that shows.
//!
//! | module | what it is |
//! |---|---|
//! | `inode`, `table` | inodes the kernel knows; node ids to inodes and back |
//! | `descriptors`, `mounts` | how inodes are found again with a bounded number of descriptors, without pinning mounts |
//! | `serve` | which part does what is asked |
//! | `lookup`, `attr`, `dir`, `create`, `names`, `open`, `data`, `xattr`, `ioctl`, `lock` | the requests |
//! | `payload` | what is written, in memory or in a pipe |
//! | `handle` | open files and directories |
//! | `streams` | directories that are read without having been opened |
//! | `through` | files that the kernel reads and writes by itself |
//! | `export` | node ids that outlive a forget |
//! | `creds` | acting as the caller, per thread |
//! | `idmap`, `acl`, `numbers` | ids, ACLs and inode numbers as they are presented |
//! | `hidden` | paths that are not there |
//! | `synthetic` | entries to mount on that the host does not have |
//! | `watch` | what the host changes is told to the kernel |
//! | `policy` | what the user decides |
//!
//! # Bounds
//!
//! A known inode takes about 300 bytes ([`Statistics::inodes`] says how many there are) and one descriptor at most;
//! descriptors are held for a budget of inodes, the rest is found by file handle or by name. After the kernel has
//! forgotten an inode nothing of it is left, and a mount none of whose inodes is known can be unmounted.
//!
//! # Locks
//!
//! A shard of the table, then the ways of an inode. The superblocks of the watch are apart from both: nothing that may hold the last
//! of a mount is dropped with them locked. The notifier is told with no lock held. No lock is held across a call that may
//! block for long, except the ways of the one inode that is being opened again.

mod acl;
mod attr;
mod create;
mod creds;
mod data;
mod descriptors;
mod dir;
mod export;
mod handle;
mod hidden;
mod idmap;
mod inode;
mod ioctl;
mod lock;
mod lookup;
mod mounts;
mod names;
mod numbers;
mod open;
mod payload;
mod policy;
mod serve;
mod shares;
mod streams;
mod synthetic;
mod table;
#[cfg(test)]
mod tests;
mod through;
mod unchecked;
mod watch;
mod xattr;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

pub use idmap::{Extent, ExtentError, IdMap, Ids, UNMAPPED};
pub use policy::{
    Access, AccessTimes, CachePolicy, DataPath, Error, Export, MountTable, Options, Ownership,
    Synthetic, SyntheticKind,
};

use crate::engine::NodeId;
use crate::sys::fanotify::Queue;
use crate::sys::{capability, stat};
use descriptors::Descriptors;
use export::Remembered;
use handle::Handles;
use hidden::Hidden;
use idmap::Only;
use inode::{Inode, Ways};
use lock::Locks;
use mounts::Mounts;
use numbers::Numbers;
use streams::Streams;
use synthetic::Overlay;
use table::Table;
use through::Registered;
use watch::Watch;

/// A host directory tree, as a file system.
pub struct PassthroughFs {
    root: Arc<Inode>,
    table: Arc<Table>,
    watch: Arc<Watch>,
    mounts: Mounts,
    descriptors: Descriptors,
    handles: Handles,
    streams: Streams,
    locks: Locks,
    numbers: Numbers,
    overlay: Arc<Overlay>,
    /// Nothing is asked of it where nothing is hidden.
    hidden: Option<Hidden>,
    remembered: Remembered,
    id_map: IdMap,
    ownership: Ownership,
    /// The ids there are where the server runs, if it is one user and one group.
    only: Option<Only>,
    access: Access,
    access_times: AccessTimes,
    cache: CachePolicy,
    /// Data of regular files goes past the server where the kernel can.
    passes_through: bool,
    registered: Registered,
    /// Files that are opened for direct I/O can be mapped all the same.
    maps_direct: AtomicBool,
    /// SELinux labels mean something.
    has_selinux: bool,
    /// Whose file capability was removed last, by which process: a SETATTR may follow that belongs to it.
    capability_removed: Mutex<Option<(NodeId, u32)>>,
}

/// What the file system holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Inodes the kernel knows, without the root and synthetic ones.
    pub inodes: u64,
    /// Descriptors held for inodes.
    pub descriptors: u64,
    /// Open files and directories.
    pub handles: u64,
    /// Inodes whose data the kernel reads and writes by itself, or did lately.
    pub backing_files: u64,
    /// Mounts of local file systems that inodes are known on and the host tells changes of.
    pub covered_mounts: u64,
    /// Those it does not.
    pub uncovered_mounts: u64,
    /// What the host has told.
    pub events: u64,
    /// How often the host could not tell all.
    pub overflows: u64,
}

impl PassthroughFs {
    /// Gets ready to serve.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(options: Options) -> std::result::Result<PassthroughFs, Error> {
        let Options {
            root,
            access,
            access_times,
            export,
            id_map,
            ownership,
            synthetic,
            hidden,
            cache,
            watch_delay,
            mount_table,
            data,
            descriptor_budget,
        } = options;
        let table = Arc::new(Table::new());
        let descriptors = Descriptors::new(descriptor_budget, &table).map_err(Error::Proc)?;
        let stat = stat::of(&root).map_err(Error::Root)?;
        if stat.kind() != libc::S_IFDIR {
            return Err(Error::NotADirectory);
        }
        let (overlay, parents) = Overlay::new(&synthetic, &root, &id_map)?;
        let root_key = inode::Key::of(&stat);
        let hidden = if hidden.is_empty() {
            None
        } else {
            let table = mount_table.as_ref().map(MountTable::try_clone);
            let table = table.unwrap_or_else(MountTable::own).map_err(Error::Proc)?;
            Some(Hidden::new(&hidden, &root, table)?)
        };
        let watch = match cache {
            CachePolicy::Coherent => Watch::new(Queue::Unlimited, watch_delay, mount_table),
            CachePolicy::Ttl(_) | CachePolicy::Strict => Watch::none(),
        };
        let mounts = Mounts::new(Arc::clone(&watch));
        let mount = |fd: &std::os::fd::OwnedFd, stat: &stat::Stat| {
            mounts.of(fd, stat, |fd, flags| {
                let flags = nix::fcntl::OFlag::from_bits_truncate(flags);
                Ok(descriptors.reopen(std::os::fd::AsFd::as_fd(fd), flags)?)
            })
        };
        let mut root_overlay = 0;
        for (index, parent) in parents.into_iter().enumerate() {
            let (number, stat) = (index as u32 + 1, stat::of(&parent.fd).map_err(Error::Root)?);
            if inode::Key::of(&stat) == root_key {
                root_overlay = number;
                continue;
            }
            let mount = mount(&parent.fd, &stat).map_err(Error::Root)?;
            let ways = Ways {
                fd: Some(descriptors.hold(parent.fd)),
                ..Ways::default()
            };
            // The lookup that is counted here is never forgotten: the directory keeps its entries.
            let make = |node| lookup::new_inode(node, &stat, mount, number, ways);
            let _ = table.insert(&inode::Key::of(&stat), None, make);
        }
        let mount = mount(&root, &stat).map_err(Error::Root)?;
        let ways = Ways {
            fd: Some(descriptors.hold(root)),
            ..Ways::default()
        };
        let root = Arc::new(lookup::new_inode(
            NodeId::ROOT,
            &stat,
            mount,
            root_overlay,
            ways,
        ));
        Ok(PassthroughFs {
            root,
            table,
            watch,
            mounts,
            handles: Handles::new(),
            streams: Streams::new(descriptors.shares().streams),
            locks: Locks::default(),
            descriptors,
            numbers: Numbers::new(stat.dev()),
            overlay: Arc::new(overlay),
            hidden,
            remembered: Remembered::new(match export {
                Export::No => 0,
                Export::Remember(inodes) => inodes,
            }),
            has_selinux: xattr::has_selinux(),
            capability_removed: Mutex::default(),
            maps_direct: AtomicBool::new(false),
            passes_through: passes_through(data),
            registered: Registered::default(),
            id_map,
            ownership,
            only: Only::of_namespace(),
            access,
            access_times: if access == Access::ReadOnly {
                AccessTimes::Keep
            } else {
                access_times
            },
            cache,
        })
    }

    /// What is held at the moment.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (covered_mounts, uncovered_mounts) = self.mounts.coverage();
        Statistics {
            covered_mounts,
            uncovered_mounts,
            events: self.watch.events(),
            overflows: self.watch.overflows(),
            inodes: self.table.len() as u64,
            descriptors: self.descriptors.held() as u64,
            handles: (self.handles.len() + self.streams.len()) as u64,
            backing_files: self.registered.len() as u64,
        }
    }
}

/// Whether the kernel is asked to read and write by itself. It lets only those who are privileged on the host have it, and
/// what it has once agreed on keeps overlays from being mounted on top.
fn passes_through(data: DataPath) -> bool {
    let may = capability::is_initial(capability::SYS_ADMIN);
    if data == DataPath::Auto && !may {
        tracing::info!(
            "kernel passthrough needs CAP_SYS_ADMIN in the initial user namespace: data is relayed"
        );
    }
    data == DataPath::Auto && may
}

impl Drop for PassthroughFs {
    fn drop(&mut self) {
        // If the session did not start.
        self.watch.stop();
    }
}
