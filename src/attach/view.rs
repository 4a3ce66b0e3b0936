//! The view of the host that becomes the session's root.

use std::os::fd::OwnedFd;

use super::handshake::Failure;
use super::mounts::Point;
use super::step::Step;
use crate::sys::mount::{FsContext, MountAttr};

/// Whether the session may change the host's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may, as far as its ids allow.
    ReadWrite,
    /// Every attempt is EROFS.
    ReadOnly,
}

/// Stand-in.
pub fn stand_in(points: &[Point]) -> Result<OwnedFd, Failure> {
    let failed = |error| Failure::system(Step::MakeView, "stand-in", error);
    let scratch = std::path::PathBuf::from(format!("/tmp/cntr-standin-{}", std::process::id()));
    let context = FsContext::open(c"tmpfs").map_err(failed)?;
    let tmp = context.mount(MountAttr::empty()).map_err(failed)?;
    std::fs::create_dir(&scratch).map_err(failed)?;
    use std::os::fd::AsFd;
    let top = nix::fcntl::open(&scratch, nix::fcntl::OFlag::O_PATH, nix::sys::stat::Mode::empty()).unwrap();
    crate::sys::mount::attach(tmp.as_fd(), top.as_fd(), c"").map_err(failed)?;
    for name in ["upper", "work"] {
        std::fs::create_dir(scratch.join(name)).map_err(failed)?;
    }
    for point in points {
        let path = scratch.join("upper").join(point.path.strip_prefix("/").unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).map_err(failed)?;
        match point.kind {
            super::mounts::PointKind::Directory => std::fs::create_dir_all(path).map_err(failed)?,
            super::mounts::PointKind::File => std::fs::write(path, "").map_err(failed)?,
        }
    }
    let context = FsContext::open(c"overlay").map_err(failed)?;
    let c = |text: String| std::ffi::CString::new(text).unwrap();
    context.set(c"lowerdir", c"/").map_err(failed)?;
    context.set(c"upperdir", &c(format!("{}/upper", scratch.display()))).map_err(failed)?;
    context.set(c"workdir", &c(format!("{}/work", scratch.display()))).map_err(failed)?;
    let mount = context.mount(MountAttr::empty()).map_err(failed)?;
    nix::mount::umount2(&scratch, nix::mount::MntFlags::MNT_DETACH).unwrap();
    std::fs::remove_dir(&scratch).unwrap();
    Ok(mount)
}

/// Stand-in.
pub fn make(
    _target: &super::target::Target,
    _namespaces: &super::namespaces::Namespaces,
    plan: &super::mounts::Plan,
    wishes: &super::Wishes,
    signals: &super::supervise::Signals,
    deadline: super::handshake::Deadline,
) -> Result<(OwnedFd, super::server::Server), super::server::StartError> {
    super::handshake::inject(wishes.fault, Step::MakeView)?;
    let mount = stand_in(&plan.points())?;
    let server = super::server::Server::start(signals, deadline, wishes.fault, |reporter, lifeline| {
        reporter.say(&super::handshake::Message::Serving("stand-in".into()));
        lifeline.wait();
        Ok(())
    })?;
    Ok((mount, server))
}
