//! What a server that is about to be started may not do.
//!
//! Called between fork and exec: system calls and nothing else.

use std::io;

/// Something the server lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// io_uring_setup(2), which fails with `EPERM`, as it does with `kernel.io_uring_disabled=2`.
    IoUring,
    /// `CAP_SYS_NICE`.
    SysNice,
}

impl Lack {
    /// Takes it away from this process and all that it executes.
    ///
    /// # Errors
    /// Those of seccomp(2) and prctl(2).
    pub fn impose(self) -> io::Result<()> {
        match self {
            Lack::IoUring => refuse(libc::SYS_io_uring_setup, libc::EPERM),
            Lack::SysNice => leave_out(CAP_SYS_NICE),
        }
    }
}

/// `<linux/capability.h>`.
const CAP_SYS_NICE: libc::c_ulong = 23;

/// Makes the system call `number` fail with `errno`.
fn refuse(number: libc::c_long, errno: libc::c_int) -> io::Result<()> {
    let step = |code, k, yes, no| libc::sock_filter {
        code: code as u16,
        jt: yes,
        jf: no,
        k,
    };
    // The number is the first field of `struct seccomp_data`.
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            number as u32,
            0,
            1,
        ),
        step(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | errno as u32,
            0,
            0,
        ),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` says how long `filter` is, and both outlive the call, which only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    check(done)
}

/// Takes `capability` out of the bounding set: not even root gets it when a program is executed.
fn leave_out(capability: libc::c_ulong) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }.into())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
