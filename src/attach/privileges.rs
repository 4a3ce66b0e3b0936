//! What file capabilities give, and when it is in force.
//!
//! The program may be given capabilities, so that whoever may execute it can attach to every container. They are in force only
//! once a container that is not the user's own is entered: until then - arguments are read, engines are asked -, and in
//! all other subcommands, files are opened and programs are run as the caller. Programs that are executed never get them.

use std::io;

use nix::unistd::{Gid, Uid, getgid, getuid, setresgid, setresuid};

use super::handshake::Failure;
use super::step::Step;
use crate::sys::capability::{self, CapSet, ThreadCaps};
use crate::sys::process::is_secure;

/// What sessions in the containers of others cannot do without.
pub const NEEDED: &[(u32, &str)] = &[
    (capability::SETGID, "CAP_SETGID"),
    (capability::SETUID, "CAP_SETUID"),
    (capability::SETPCAP, "CAP_SETPCAP"),
    (capability::SYS_CHROOT, "CAP_SYS_CHROOT"),
    (capability::SYS_PTRACE, "CAP_SYS_PTRACE"),
    (capability::SYS_ADMIN, "CAP_SYS_ADMIN"),
];

/// What the rest of a program that was executed with file capabilities may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Raise them when it needs them.
    Later,
    /// Nothing: they are gone for good.
    Never,
}

/// Puts what file capabilities give out of force. Nothing happens to a program that has no more than its caller.
///
/// # Errors
/// Those of capset(2).
pub fn lay_down(later: Use) -> io::Result<()> {
    if !is_secure() || nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let caps = capability::get()?;
    let permitted = match later {
        Use::Later => caps.permitted,
        Use::Never => CapSet::default(),
    };
    capability::set(ThreadCaps {
        effective: CapSet::default(),
        permitted,
        inheritable: caps.inheritable,
    })
}

/// Puts the permitted capabilities in force and becomes root with them; the real user stays, who can still send signals.
///
/// # Errors
/// Those that are missing.
pub fn raise() -> Result<(), Failure> {
    let failed = |error| Failure::system(Step::Enter, "file capabilities", error);
    let caps = capability::get().map_err(failed)?;
    let missing = missing(caps.permitted);
    if !missing.is_empty() {
        let reason = format!("the program lacks {}", missing.join(", "));
        return Err(Failure::new(Step::Enter, "file capabilities", reason)
            .remedy("give it the list of docs/security.md, \"Without root\""));
    }
    let raised = ThreadCaps {
        effective: caps.permitted,
        ..caps
    };
    capability::set(raised).map_err(failed)?;
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(getgid(), group, group)
        .and_then(|()| setresuid(getuid(), user, user))
        .map_err(|error| failed(error.into()))
}

/// Those of [`NEEDED`] that are not in `permitted`.
#[must_use]
pub fn missing(permitted: CapSet) -> Vec<&'static str> {
    NEEDED
        .iter()
        .filter(|(number, _)| !permitted.has(*number))
        .map(|(_, name)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing(CapSet(u64::MAX)), Vec::<&str>::new());
        assert_eq!(
            missing(CapSet(
                !(1 << capability::SYS_PTRACE | 1 << capability::SETUID)
            )),
            ["CAP_SETUID", "CAP_SYS_PTRACE"]
        );
        assert_eq!(missing(CapSet::default()).len(), NEEDED.len());
    }
}
