//! The host's mounts that inodes are on.
//!
//! A [`Mount`] is held by the inodes on it and by nothing else: when the kernel has forgotten the last of them its descriptor is
//! closed, and the host can unmount the file system.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use nix::sys::statfs::fstatfs;
use parking_lot::RwLock;

use super::watch::{Trust, Watch};
use crate::engine::Medium;
use crate::sys::clock;
use crate::sys::handle::Handle;
use crate::sys::mount::{self, MountAttr, Submounts};
use crate::sys::stat::Stat;

/// What kind of file system a mount shows, as far as it matters for caching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Files that stay as they are until somebody changes them on this machine.
    Local,
    /// Contents are made up when they are read, sizes mean nothing: never cached.
    Pseudo,
    /// Others change it without us knowing; calls may block for long, and the other side looks at our ids.
    Remote,
}

impl Nature {
    /// By the `f_type` of statfs(2).
    fn of(magic: i64) -> Nature {
        match magic {
            // proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, configfs, bpf, selinuxfs, smackfs,
            // efivarfs, devpts, binfmt_misc, pstore, mqueue, nsfs, resctrl, rdtgroup, fusectl, openprom, autofs
            0x9fa0 | 0x6265_6572 | 0x0027_e0eb | 0x6367_7270 | 0x6462_6720 | 0x7472_6163
            | 0x7363_6673 | 0x6265_6570 | 0xcafe_4a11 | 0xf97c_ff8c | 0x4341_5d53 | 0xde5e_81e4
            | 0x1cd1 | 0x4249_4e4d | 0x6165_676c | 0x1980_0202 | 0x6e73_6673 | 0x0765_5821
            | 0x6573_5543 | 0x9fa1 | 0x0187 => Nature::Pseudo,
            // nfs, cifs, smb2, smb, fuse, 9p, ceph, afs, coda, ncp, gfs2, ocfs2, lustre
            0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x517b | 0x6573_5546 | 0x0102_1997
            | 0x00c3_6400 | 0x5346_414f | 0x6b41_4653 | 0x7375_7245 | 0x564c | 0x0116_1970
            | 0x7461_636f | 0x0bd0_0bd0 => Nature::Remote,
            _ => Nature::Local,
        }
    }
}

/// The `f_type` of statfs(2) of the file system that `fd` is on.
pub fn magic(fd: &impl AsFd) -> nix::Result<i64> {
    Ok(fstatfs(fd.as_fd())?.filesystem_type().0 as i64)
}

/// Whether all changes of a file system go through this machine's kernel and are reported by it, by the `f_type` of
/// statfs(2). Those that nobody has looked into are not among them; nor are overlays, whose layers may change.
fn reports_changes(magic: i64) -> bool {
    // ext2 to ext4, tmpfs, xfs, btrfs, bcachefs, f2fs, vfat, exfat, ntfs3, zfs, jfs, nilfs2, udf, erofs, squashfs, iso9660
    matches!(
        magic,
        0xef53
            | 0x0102_1994
            | 0x5846_5342
            | 0x9123_683e
            | 0xca45_1a4e
            | 0xf2f5_2010
            | 0x4d44
            | 0x2011_bab0
            | 0x7366_746e
            | 0x2fc1_2fc1
            | 0x3153_464a
            | 0x3434
            | 0x1501_3346
            | 0xe0f5_e1e2
            | 0x7371_7368
            | 0x9660
    )
}

/// Where the contents of files of a file system are, by its nature and its `f_type` of statfs(2).
fn medium(nature: Nature, magic: i64) -> Medium {
    match (nature, magic) {
        (Nature::Pseudo, _) => Medium::Nowhere,
        (Nature::Remote, _) => Medium::Remote,
        // tmpfs, ramfs, hugetlbfs
        (Nature::Local, 0x0102_1994 | 0x8584_58f6 | 0x9584_58f6) => Medium::Memory,
        (Nature::Local, _) => Medium::Disk,
    }
}

/// One mount of the host.
#[derive(Debug)]
pub struct Mount {
    /// What [`Key`](super::inode::Key)s of its inodes have.
    pub id: u64,
    /// How its contents behave.
    pub nature: Nature,
    /// Where the contents of its files are.
    pub medium: Medium,
    reports_changes: bool,
    /// What file handles are opened with; none if they cannot be opened.
    anchor: OnceLock<Option<OwnedFd>>,
    /// The same in a private copy of the mount on which reading changes no access times.
    quiet: OnceLock<Option<OwnedFd>>,
    watch: Arc<Watch>,
    /// Since when the watch is told of its changes, 0 if it is not.
    covered: AtomicU64,
    /// The watch can read the numbers of its inodes from their handles.
    numbered: AtomicBool,
}

impl Mount {
    /// Opens the inode that `handle` names again, with the `O_*` flags `flags`.
    ///
    /// # Errors
    /// `ESTALE` if it is gone; `EOPNOTSUPP` if handles cannot be opened here.
    pub fn open(&self, handle: &Handle, flags: i32) -> io::Result<OwnedFd> {
        match self.anchor.get() {
            Some(Some(anchor)) => handle.open(anchor, flags),
            _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        }
    }

    /// Opens the inode that `handle` names so that a file which is opened from the descriptor keeps its access time,
    /// whatever is read from it. `reopen` opens an `O_PATH` descriptor for real.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if handles cannot be opened here, or the mount cannot be copied.
    pub fn open_quietly(
        &self,
        handle: &Handle,
        reopen: impl Fn(&OwnedFd) -> io::Result<OwnedFd>,
    ) -> io::Result<OwnedFd> {
        let unsupported = || io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        let quiet = self.quiet.get_or_init(|| {
            let anchor = self.anchor.get()?.as_ref()?;
            let copy = mount::clone_tree(anchor.as_fd(), c"", Submounts::Leave).ok()?;
            let attr = MountAttr::NOATIME;
            mount::set_attr(copy.as_fd(), c"", Submounts::Leave, attr, None).ok()?;
            reopen(&copy).ok()
        });
        let quiet = quiet.as_ref().ok_or_else(unsupported)?;
        handle.open(quiet, libc::O_PATH | libc::O_NOFOLLOW)
    }

    /// Whether inodes can be found again by their handle.
    pub fn has_handles(&self) -> bool {
        matches!(self.anchor.get(), Some(Some(_)))
    }

    /// What an answer about it is worth that was asked for at the time `asked`.
    pub fn trust(&self, asked: u64) -> Trust {
        match self.covered.load(Ordering::SeqCst) {
            since if since != 0 && since < asked => self.watch.trust(asked),
            // It was asked before the mark was there.
            since if since != 0 => Trust::Overtaken,
            _ if self.reports_changes => self.watch.unwatched(),
            _ => Trust::Unwatched,
        }
    }

    /// The watch is told of its changes from the time `since` on, in terms of handles that have the inode's number in them if
    /// it is `numbered`.
    pub fn cover(&self, since: u64, numbered: bool) {
        self.numbered.store(numbered, Ordering::Relaxed);
        self.covered.store(since, Ordering::SeqCst);
    }

    /// Whether the watch needs no look at an inode to know which one an event is about.
    pub fn is_numbered(&self) -> bool {
        self.numbered.load(Ordering::Relaxed)
    }

    /// What file handles are opened with.
    pub fn anchor(&self) -> Option<&OwnedFd> {
        self.anchor.get().and_then(Option::as_ref)
    }

    /// Whether its changes are told.
    pub fn is_covered(&self) -> bool {
        matches!(self.trust(clock::now()), Trust::Watched | Trust::Overtaken)
    }

    /// Finds out whether handles work, by the inode behind `fd`. Nothing is decided by an inode that cannot be opened
    /// without side effects; the next one does it then.
    fn probe(
        self: &Arc<Self>,
        fd: &OwnedFd,
        stat: &Stat,
        reopen: impl Fn(&OwnedFd, i32) -> io::Result<OwnedFd>,
    ) {
        if self.anchor.get().is_some() {
            return;
        }
        let flags = match stat.kind() {
            libc::S_IFDIR => libc::O_RDONLY | libc::O_DIRECTORY,
            libc::S_IFREG if self.nature == Nature::Local => libc::O_RDONLY | libc::O_NONBLOCK,
            _ => return,
        };
        let anchor = || {
            let handle = Handle::of(fd).ok()?;
            let anchor = reopen(fd, flags).ok()?;
            handle.open(&anchor, libc::O_PATH | libc::O_NOFOLLOW).ok()?;
            Some(anchor)
        };
        let anchor = if self.nature == Nature::Local {
            anchor()
        } else {
            None
        };
        if self.anchor.set(anchor).is_ok() {
            let anchor = self.anchor().filter(|_| self.reports_changes);
            if let Some(anchor) = anchor {
                self.watch.cover(self, anchor, stat.dev());
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(anchor) = self.anchor().filter(|_| self.reports_changes) {
            self.watch.uncover(self, anchor);
        }
    }
}

/// The mounts that inodes are on, by mount id.
pub struct Mounts {
    known: RwLock<HashMap<u64, Weak<Mount>>>,
    watch: Arc<Watch>,
}

impl Mounts {
    /// Knows none. `watch` is told of those that come up.
    pub fn new(watch: Arc<Watch>) -> Mounts {
        Mounts {
            known: RwLock::default(),
            watch,
        }
    }

    /// How many local ones the watch covers, and how many it does not.
    pub fn coverage(&self) -> (u64, u64) {
        let known: Vec<_> = self
            .known
            .read()
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        let local = known.iter().filter(|mount| mount.nature == Nature::Local);
        let (covered, uncovered): (Vec<_>, Vec<_>) = local.partition(|mount| mount.is_covered());
        (covered.len() as u64, uncovered.len() as u64)
    }

    /// The mount of the inode behind `fd`. `reopen` opens an `O_PATH` descriptor for real.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn of(
        &self,
        fd: &OwnedFd,
        stat: &Stat,
        reopen: impl Fn(&OwnedFd, i32) -> io::Result<OwnedFd>,
    ) -> io::Result<Arc<Mount>> {
        // Before Linux 5.8 nothing tells the mounts of one file system apart.
        let id = if stat.mount() == 0 {
            stat.dev()
        } else {
            stat.mount()
        };
        let known = self.known.read().get(&id).and_then(Weak::upgrade);
        let mount = match known {
            Some(mount) => mount,
            None => {
                let magic = magic(fd)?;
                let mut mounts = self.known.write();
                mounts.retain(|_, mount| mount.strong_count() > 0);
                let known = mounts.get(&id).and_then(Weak::upgrade);
                known.unwrap_or_else(|| {
                    let mount = Arc::new(Mount {
                        id: stat.mount(),
                        nature: Nature::of(magic),
                        medium: medium(Nature::of(magic), magic),
                        reports_changes: reports_changes(magic),
                        anchor: OnceLock::new(),
                        quiet: OnceLock::new(),
                        watch: Arc::clone(&self.watch),
                        covered: AtomicU64::new(0),
                        numbered: AtomicBool::new(false),
                    });
                    mounts.insert(id, Arc::downgrade(&mount));
                    mount
                })
            }
        };
        mount.probe(fd, stat, reopen);
        Ok(mount)
    }
}
