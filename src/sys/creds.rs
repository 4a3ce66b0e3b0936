//! Credentials of the calling *thread*.
//!
//! The C library's set*id functions change all threads of the process, as POSIX asks for; these are the raw system calls,
//! which change one.

use std::io;

/// A capability, by its number in `capabilities(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(pub u32);

impl Capability {
    /// Keep set-user-id and set-group-id when a file is changed.
    pub const FSETID: Capability = Capability(4);
    /// Go beyond quotas and reserved blocks.
    pub const SYS_RESOURCE: Capability = Capability(24);
}

/// Sets the file system user id and returns the one in force afterwards.
pub fn set_fsuid(uid: u32) -> u32 {
    // SAFETY: takes no pointers and cannot fail.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    fsuid()
}

/// Sets the file system group id and returns the one in force afterwards.
pub fn set_fsgid(gid: u32) -> u32 {
    // SAFETY: takes no pointers and cannot fail.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    fsgid()
}

/// The file system user id of this thread.
#[must_use]
pub fn fsuid() -> u32 {
    // SAFETY: takes no pointers; an invalid id changes nothing.
    let uid = unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) };
    uid as u32
}

/// The file system group id of this thread.
#[must_use]
pub fn fsgid() -> u32 {
    // SAFETY: takes no pointers; an invalid id changes nothing.
    let gid = unsafe { libc::syscall(libc::SYS_setfsgid, u32::MAX) };
    gid as u32
}

/// Sets the supplementary groups.
///
/// # Errors
/// `EPERM` without `CAP_SETGID`.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `groups`, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Keeps the capabilities when the file system user id changes (`SECBIT_NO_SETUID_FIXUP`).
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn keep_capabilities() -> io::Result<()> {
    const SECBIT_NO_SETUID_FIXUP: libc::c_int = 1 << 2;
    // SAFETY: takes no pointers.
    let bits = unsafe { libc::prctl(libc::PR_GET_SECUREBITS) };
    if bits < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes no pointers.
    let result = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_HEADER: CapHeader = CapHeader {
    version: 0x2008_0522,
    pid: 0,
};

/// Adds `capability` to the effective set or removes it; says whether it is in there now.
///
/// # Errors
/// Those of capset(2); adding what is not permitted is none.
pub fn set_effective(capability: Capability, on: bool) -> io::Result<bool> {
    let mut header = CAP_HEADER;
    let mut data = [CapData::default(); 2];
    // SAFETY: `header` and `data` have the layout of version 3 and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let (set, bit) = (
        &mut data[capability.0 as usize / 32],
        1 << (capability.0 % 32),
    );
    let on = on && set.permitted & bit != 0;
    if (set.effective & bit != 0) == on {
        return Ok(on);
    }
    set.effective ^= bit;
    let mut header = CAP_HEADER;
    // SAFETY: `header` and `data` have the layout of version 3 and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(on)
    }
}
