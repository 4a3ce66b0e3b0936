//! Before anything is measured: can this machine measure it, and what is this machine?

mod activity;
mod backing;
mod environment;
mod machine;

use std::path::Path;

pub use environment::environment;

/// What the pre-flight says. Each line names what is wrong and what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    /// Results would be wrong, or there would be none.
    pub refusals: Vec<String>,
    /// Results may be worse than they could be.
    pub warnings: Vec<String>,
}

impl Preflight {
    /// Goes on in spite of everything: refusals become warnings.
    #[must_use]
    pub fn forced(self) -> Preflight {
        let mut warnings = self.refusals;
        warnings.extend(self.warnings);
        Preflight {
            refusals: Vec::new(),
            warnings,
        }
    }

    fn refuse(&mut self, line: impl Into<String>) {
        self.refusals.push(line.into());
    }

    fn warn(&mut self, line: impl Into<String>) {
        self.warnings.push(line.into());
    }
}

/// Looks at the program, the machine and the directory `backing`, in which a run will need `bytes` and `files`. Watches
/// the machine for a second.
pub fn check(backing: &Path, bytes: u64, files: u64) -> Preflight {
    let mut preflight = Preflight::default();
    if !nix::unistd::geteuid().is_root() {
        preflight.refuse(
            "this must run as root, to mount, to drop caches and to become other users: use sudo",
        );
    }
    if cfg!(debug_assertions) {
        preflight.refuse("this program is a debug build, whose load generator is slow: use `cargo run --release -p perf`");
    }
    backing::check(backing, bytes, files, &mut preflight);
    machine::check(&mut preflight);
    activity::check(&mut preflight);
    preflight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_makes_refusals_warnings() {
        let mut preflight = Preflight::default();
        preflight.warn("second");
        preflight.refuse("first");
        let forced = preflight.forced();
        assert!(forced.refusals.is_empty());
        assert_eq!(forced.warnings, ["first", "second"]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_refused() {
        let preflight = check(Path::new("/no/such/directory"), 0, 0);
        let refused = |text: &str| preflight.refusals.iter().any(|line| line.contains(text));
        assert!(refused("/no/such/directory"), "{preflight:?}");
        assert_eq!(
            refused("debug build"),
            cfg!(debug_assertions),
            "{preflight:?}"
        );
        assert_eq!(
            refused("root"),
            !nix::unistd::geteuid().is_root(),
            "{preflight:?}"
        );
    }
}
