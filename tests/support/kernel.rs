//! What the kernel under the tests cannot do yet.

use std::fs;
use std::sync::OnceLock;

use anyhow::Result;

use super::rootless;
use super::runner::Skip;

/// The kernel is Linux `major`.`minor` or later. Distributions backport: where a feature can be asked for natively, ask.
pub fn is_at_least(major: u32, minor: u32) -> bool {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    let version = VERSION.get_or_init(|| {
        let uname = nix::sys::utsname::uname().expect("uname(2) cannot fail");
        let release = uname.release().to_string_lossy();
        parse(&release).unwrap_or_else(|| panic!("uname(2) says {release}"))
    });
    *version >= (major, minor)
}

/// The two leading numbers of a release such as `6.1.0-50-amd64`.
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Has the kernel forget the inodes that nobody uses.
pub fn drop_caches() {
    let control = rootless::cache_control();
    // What comes of it tells whether it has worked.
    let _ = fs::write(control, "2");
}

/// A skip before Linux `major`.`minor`, which brought `what`.
pub fn need(what: &str, (major, minor): (u32, u32)) -> Result<()> {
    if is_at_least(major, minor) {
        Ok(())
    } else {
        Err(Skip::new(format!("{what} needs Linux {major}.{minor}")).into())
    }
}
