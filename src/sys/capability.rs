//! Capabilities and securebits of the calling thread; see capabilities(7).

use std::io;
use std::os::unix::fs::MetadataExt;

/// A set of capabilities: bit n is capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

/// `CAP_FSETID`: keep set-user-id and set-group-id when a file is changed.
pub const FSETID: u32 = 4;
/// `CAP_SETGID`: become any group.
pub const SETGID: u32 = 6;
/// `CAP_SETUID`: become any user.
pub const SETUID: u32 = 7;
/// `CAP_SETPCAP`: change the bounding set.
pub const SETPCAP: u32 = 8;
/// `CAP_SYS_CHROOT`.
pub const SYS_CHROOT: u32 = 18;
/// `CAP_SYS_PTRACE`: look into processes of others.
pub const SYS_PTRACE: u32 = 19;
/// `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u32 = 21;
/// Schedule threads before others.
pub const SYS_NICE: u32 = 23;
/// `CAP_SYS_RESOURCE`: go beyond quotas and reserved blocks.
pub const SYS_RESOURCE: u32 = 24;
/// Capability numbers end here: the sets have 64 bits.
const LIMIT: u32 = 64;

impl CapSet {
    /// Whether capability `number` is in the set.
    #[must_use]
    pub fn has(self, number: u32) -> bool {
        number < LIMIT && self.0 & (1 << number) != 0
    }
}

/// The sets that capset(2) changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadCaps {
    /// What is in force.
    pub effective: CapSet,
    /// What may be put in force.
    pub permitted: CapSet,
    /// What survives exec of a program with file capabilities.
    pub inheritable: CapSet,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

fn unit(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn prctl(
    option: libc::c_int,
    first: libc::c_ulong,
    second: libc::c_ulong,
) -> io::Result<libc::c_int> {
    let zero: libc::c_ulong = 0;
    // SAFETY: none of the options this module uses takes a pointer.
    let result = unsafe { libc::prctl(option, first, second, zero, zero) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The calling thread's sets.
///
/// # Errors
/// Those of capget(2).
pub fn get() -> io::Result<ThreadCaps> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: `header` and the two elements of `data` are what version 3 of the interface reads and writes.
    unit(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| CapSet(u64::from(low) | u64::from(high) << 32);
    Ok(ThreadCaps {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Inode number of the initial user namespace (`PROC_USER_INIT_INO` of the kernel's `proc_ns.h`).
const INITIAL_NAMESPACE: u64 = 0xefff_fffd;

/// Whether the calling thread has capability `number` in force in the initial user namespace. Some system calls ask for
/// that in whatever namespace they are made, and root of another one does not have it.
#[must_use]
pub fn is_initial(number: u32) -> bool {
    get().is_ok_and(|caps| caps.effective.has(number))
        && std::fs::metadata("/proc/thread-self/ns/user")
            .is_ok_and(|namespace| namespace.ino() == INITIAL_NAMESPACE)
}

/// Puts capability `number` in force for the calling thread, as far as it is permitted, or takes it out of force.
///
/// # Errors
/// Those of capset(2).
pub fn set_effective(number: u32, on: bool) -> io::Result<()> {
    let caps = get()?;
    let bit = 1 << number;
    let effective = if on {
        CapSet(caps.effective.0 | bit & caps.permitted.0)
    } else {
        CapSet(caps.effective.0 & !bit)
    };
    if effective == caps.effective {
        return Ok(());
    }
    set(ThreadCaps { effective, ..caps })
}

/// Sets the calling thread's sets.
///
/// # Errors
/// `EPERM` for more than is permitted.
pub fn set(caps: ThreadCaps) -> io::Result<()> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: (caps.effective.0 >> shift) as u32,
        permitted: (caps.permitted.0 >> shift) as u32,
        inheritable: (caps.inheritable.0 >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: `header` and the two elements of `data` are what version 3 of the interface reads.
    unit(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })
}

/// Takes everything out of the bounding set that is not in `keep`. Capabilities the kernel does not know are skipped.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn limit_bounding(keep: CapSet) -> io::Result<()> {
    for number in 0..LIMIT {
        match prctl(libc::PR_CAPBSET_READ, number.into(), 0) {
            Ok(1) if !keep.has(number) => {
                prctl(libc::PR_CAPBSET_DROP, number.into(), 0).map(drop)?
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Makes the ambient set equal to `wanted`, as far as permitted and inheritable allow.
///
/// # Errors
/// `EPERM` for a capability that is not both permitted and inheritable.
pub fn set_ambient(wanted: CapSet) -> io::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
        0,
    )?;
    for number in (0..LIMIT).filter(|number| wanted.has(*number)) {
        prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
            number.into(),
        )?;
    }
    Ok(())
}

/// Keeps all capability sets as they are when user ids change (`SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP`), or goes
/// back to the default.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP` or if the bits are locked.
pub fn keep_across_setuid(keep: bool) -> io::Result<()> {
    const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    const SECBIT_KEEP_CAPS: libc::c_ulong = 1 << 4;
    let bits = if keep {
        SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS
    } else {
        0
    };
    prctl(libc::PR_SET_SECUREBITS, bits, 0).map(drop)
}
