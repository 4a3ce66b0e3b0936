//! What older kernels leave to the server: checks, and bits that must go, which later ones see to themselves.

use std::fs;
use std::os::fd::AsFd;

use fuse_proto::flags::InitFlags;

use super::PassthroughFs;
use super::ioctl::{FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETFLAGS};
use crate::engine::{Context, Errno, Result};
use crate::sys::{file, stat};

/// From this minor version on, that of Linux 5.14, the kernel checks who may change inode flags before it asks.
const CHECKS_FLAGS_MINOR: u32 = 34;

pub(super) const CAP_FSETID: u32 = 4;
const CAP_FOWNER: u32 = 3;
const CAP_LINUX_IMMUTABLE: u32 = 9;

/// `FS_IMMUTABLE_FL | FS_APPEND_FL | FS_JOURNAL_DATA_FL`
const PRIVILEGED_FLAGS: u32 = 0x10 | 0x20 | 0x4000;
/// `FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND`
const PRIVILEGED_XFLAGS: u32 = 0x8 | 0x10;

/// A line of the caller's `/proc/PID/status`, empty if there is none.
pub(super) fn status(cx: &Context<'_>, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", cx.pid)).unwrap_or_default();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(field));
    line.unwrap_or_default().trim().to_owned()
}

/// Whether the caller has a capability in the user namespace of the mount. One that is not root here may have it in another
/// one only.
pub(super) fn capable(cx: &Context<'_>, capability: u32) -> bool {
    let effective = || u64::from_str_radix(&status(cx, "CapEff:"), 16).unwrap_or(0);
    cx.uid == 0 && effective() >> capability & 1 != 0
}

impl PassthroughFs {
    /// Whether the set-id bits of a file must go because the caller changes its contents. The kernel says so (`asked`)
    /// if it has HANDLE_KILLPRIV_V2 (Linux 5.11); else it clears most of them itself.
    pub(super) fn must_kill_bits(cx: &Context<'_>, asked: bool) -> bool {
        let says = cx.negotiated.flags.contains(InitFlags::HANDLE_KILLPRIV_V2);
        asked || (!says && cx.uid != 0)
    }

    /// Whether set-group-id of a file of the group `gid` must go because the caller sets its ACL. The kernel says so
    /// (`asked`) if it has SETXATTR_EXT (Linux 5.13); else nobody does.
    pub(super) fn must_kill_group_bit(&self, cx: &Context<'_>, gid: u32, asked: bool) -> bool {
        let says = cx.negotiated.flags.contains(InitFlags::SETXATTR_EXT);
        asked || (!says && cx.uid != 0 && !self.is_member(cx, gid))
    }

    /// Checks that the caller may run `command`, which sets flags of `file` to those that `argument` begins with.
    ///
    /// # Errors
    /// `EACCES` if it is not the owner, `EPERM` if the change is one for administrators.
    pub(super) fn may_set_flags(
        &self,
        cx: &Context<'_>,
        file: &impl AsFd,
        command: u32,
        argument: &[u64],
    ) -> Result<()> {
        if cx.negotiated.minor >= CHECKS_FLAGS_MINOR {
            return Ok(());
        }
        let owner = stat::of(file)?.raw().stx_uid;
        if self.id_map.uids.host(cx.uid) != Some(owner) && !capable(cx, CAP_FOWNER) {
            return Err(Errno::EACCES);
        }
        let (get, privileged) = if command == FS_IOC_FSSETXATTR {
            (FS_IOC_FSGETXATTR, PRIVILEGED_XFLAGS)
        } else {
            (FS_IOC_GETFLAGS, PRIVILEGED_FLAGS)
        };
        let mut before = [0_u64; 4];
        file::ioctl(file.as_fd(), get, &mut before)?;
        if (first(&before) ^ first(argument)) & privileged != 0 && !capable(cx, CAP_LINUX_IMMUTABLE)
        {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

/// The first 32-bit number of an argument.
fn first(argument: &[u64]) -> u32 {
    let [a, b, c, d, ..] = argument.first().map_or([0; 8], |word| word.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}
