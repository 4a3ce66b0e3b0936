//! Credentials of the calling *thread*.
//!
//! The C library's set*id functions change all threads of the process, as POSIX asks for; these are the raw system calls,
//! which change one.

use std::io;

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
