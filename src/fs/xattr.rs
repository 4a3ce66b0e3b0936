//! GETXATTR, SETXATTR, LISTXATTR, REMOVEXATTR.
//!
//! A host file system without ACLs answers `EOPNOTSUPP` for them; to a kernel that was promised ACLs this would mean
//! that permissions cannot be checked, so it is told that there is none (`ENODATA`).
//!
//! `ls -l` asks for the SELinux label of each file, which the kernel does not cache, unless it hears that the file system has no
//! labels. Where SELinux is off, that is what it hears about files without one.

use std::ffi::CStr;
use std::fs;
use std::os::fd::AsFd;

use super::PassthroughFs;
use super::acl;
use super::creds::{SetId, treat_set_id};
use super::lookup::Node;
use crate::engine::{Context, Errno, NodeId, Result};
use crate::sys::{stat, xattr};

/// Most bytes a list of names has (`XATTR_LIST_MAX`).
const LIST_MAX: usize = 65536;

/// Most bytes a value has (`XATTR_SIZE_MAX`).
const VALUE_MAX: usize = 65536;

/// The attribute with the SELinux label.
const SELINUX: &CStr = c"security.selinux";

/// Whether the kernel has SELinux switched on; also if that cannot be told.
pub fn has_selinux() -> bool {
    fs::read_to_string("/proc/filesystems").map_or(true, |known| {
        known
            .lines()
            .any(|line| line.split_whitespace().last() == Some("selinuxfs"))
    })
}

impl PassthroughFs {
    pub(super) fn do_getxattr(&self, node: NodeId, name: &CStr, out: &mut [u8]) -> Result<usize> {
        match self.attribute(node, name, out) {
            Err(Errno::ENODATA) if name == SELINUX && !self.has_selinux => Err(Errno::EOPNOTSUPP),
            result => result,
        }
    }

    fn attribute(&self, node: NodeId, name: &CStr, out: &mut [u8]) -> Result<usize> {
        let Node::Host(inode) = self.node(node)? else {
            return Err(Errno::ENODATA);
        };
        let (proc, fd) = (self.descriptors.proc(), self.fd(&inode)?);
        let is_acl = acl::is_acl(name);
        match xattr::get(proc, fd.as_fd(), name, out).map_err(Errno::from) {
            Err(Errno::EOPNOTSUPP) if is_acl => Err(Errno::ENODATA),
            Ok(len) if is_acl && !out.is_empty() => {
                let len = acl::without_unknown(&mut out[..len]);
                acl::present(&mut out[..len], &self.id_map)?;
                Ok(len)
            }
            result => result,
        }
    }

    pub(super) fn do_setxattr(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<()> {
        let inode = self.host_to_change(node)?;
        let (proc, fd) = (self.descriptors.proc(), self.fd(&inode)?);
        if !acl::is_acl(name) {
            return Ok(xattr::set(proc, fd.as_fd(), name, value, flags)?);
        }
        let mut value = value.to_vec();
        acl::to_host(&mut value, &self.id_map)?;
        if !acl::is_mode(&value) {
            // Whoever changes a list has not seen such entries, and would remove them; natively it is refused, too.
            let mut before = vec![0; VALUE_MAX];
            let len = xattr::get(proc, fd.as_fd(), name, &mut before).unwrap_or(0);
            if acl::has_unknown(&before[..len]) {
                return Err(Errno::EINVAL);
            }
        }
        treat_set_id(SetId::Keep)?;
        xattr::set(proc, fd.as_fd(), name, &value, flags)?;
        if name == acl::ACCESS {
            // The host would go by the groups of this thread, which are not the caller's.
            let stat = stat::of(&*fd)?;
            let mode = stat.mode();
            if mode & libc::S_ISGID != 0
                && self.must_kill_group_bit(cx, stat.raw().stx_gid, kill_sgid)
            {
                self.change_mode(&*fd, mode & 0o7777 & !libc::S_ISGID)?;
            }
        }
        Ok(())
    }

    pub(super) fn do_listxattr(
        &self,
        cx: &Context<'_>,
        node: NodeId,
        out: &mut [u8],
    ) -> Result<usize> {
        let Node::Host(inode) = self.node(node)? else {
            return Ok(0);
        };
        if cx.uid != 0 {
            // The host shows `trusted.*` to the server, but would not to the caller.
            let mut list = vec![0; LIST_MAX];
            let len = xattr::list(self.descriptors.proc(), self.fd(&inode)?.as_fd(), &mut list)?;
            let shown: Vec<u8> = list[..len]
                .split_inclusive(|&byte| byte == 0)
                .filter(|name| !name.starts_with(b"trusted."))
                .flatten()
                .copied()
                .collect();
            if !out.is_empty() {
                out.get_mut(..shown.len())
                    .ok_or(Errno::ERANGE)?
                    .copy_from_slice(&shown);
            }
            return Ok(shown.len());
        }
        Ok(xattr::list(
            self.descriptors.proc(),
            self.fd(&inode)?.as_fd(),
            out,
        )?)
    }

    pub(super) fn do_removexattr(&self, cx: &Context<'_>, node: NodeId, name: &CStr) -> Result<()> {
        let inode = self.host_to_change(node)?;
        xattr::remove(self.descriptors.proc(), self.fd(&inode)?.as_fd(), name)?;
        if name == c"security.capability" {
            *self.capability_removed.lock() = Some((node, cx.pid));
        }
        Ok(())
    }
}
