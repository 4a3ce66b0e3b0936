//! All targets that are known.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::TargetError;
use super::spec::Spec;
use super::{Origin, Target};
use crate::job::tool;

/// What comes with this program.
const CHECKED_IN: [(Origin, &str, &str); 3] = [
    (
        Origin::Ours,
        "ours.toml",
        include_str!("../../targets/ours.toml"),
    ),
    (
        Origin::Peers,
        "peers.toml",
        include_str!("../../targets/peers.toml"),
    ),
    (
        Origin::Sessions,
        "sessions.toml",
        include_str!("../../targets/sessions.toml"),
    ),
];

/// What is measured unless somebody asks for more.
const DEFAULT: [&str; 2] = ["native", "cntr"];

/// All targets that are known, in order: ours, other servers, sessions, those of the user.
#[derive(Clone, Debug)]
pub struct Catalogue {
    targets: Vec<Target>,
}

impl Catalogue {
    /// What comes with this program, and what `files` add or replace. `cntr` is the command line of our engine as
    /// [`engine`] tells it; empty if there is none.
    ///
    /// # Errors
    /// A file cannot be read or understood.
    pub fn load(files: &[PathBuf], cntr: &[OsString]) -> Result<Catalogue, TargetError> {
        let mut catalogue = Catalogue {
            targets: Vec::new(),
        };
        for (origin, file, text) in CHECKED_IN {
            let specs = Spec::parse(text, Path::new(file))?;
            catalogue.add(specs, origin, cntr);
        }
        for file in files {
            let text = fs::read_to_string(file).map_err(|source| TargetError::Read {
                file: file.clone(),
                source,
            })?;
            catalogue.add(Spec::parse(&text, file)?, Origin::User, cntr);
        }
        Ok(catalogue)
    }

    /// Adds targets; one with a known name takes its place.
    fn add(&mut self, specs: Vec<Spec>, origin: Origin, cntr: &[OsString]) {
        for spec in specs {
            let target = Target::new(spec, origin, cntr);
            let known = self
                .targets
                .iter_mut()
                .find(|known| known.name() == target.name());
            match known {
                Some(known) => *known = target,
                None => self.targets.push(target),
            }
        }
    }

    /// All of them.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Those that `names` ask for, each once, in the order of `names`. A name may be a pattern as `cntr*`; `all` and
    /// `found` are those that are available. Without names, native and our engine with
    /// its default options.
    ///
    /// # Errors
    /// A name fits no target.
    pub fn select(&self, names: &[String]) -> Result<Vec<Target>, TargetError> {
        let mut selected: Vec<Target> = Vec::new();
        let mut take = |targets: &mut dyn Iterator<Item = &Target>| {
            let mut any = false;
            for target in targets {
                any = true;
                if !selected.iter().any(|other| other.name() == target.name()) {
                    selected.push(target.clone());
                }
            }
            any
        };
        if names.is_empty() {
            take(
                &mut self
                    .targets
                    .iter()
                    .filter(|target| DEFAULT.contains(&target.name())),
            );
        }
        for name in names {
            let any = match name.as_str() {
                "all" | "found" => take(
                    &mut self
                        .targets
                        .iter()
                        .filter(|target| target.unavailable().is_none()),
                ),
                _ => {
                    let pattern = glob::Pattern::new(name).ok();
                    take(&mut self.targets.iter().filter(|target| {
                        target.name() == name
                            || pattern
                                .as_ref()
                                .is_some_and(|pattern| pattern.matches(target.name()))
                    }))
                }
            };
            if !any {
                let known: Vec<&str> = self.targets.iter().map(Target::name).collect();
                return Err(TargetError::Unknown {
                    name: name.clone(),
                    known: known.join(", "),
                });
            }
        }
        Ok(selected)
    }
}

/// The command line of our engine: the program `cntr`, by its whole path, as it is also started from other directories;
/// without one the engine that is built into `own`, the program `perf`.
///
/// # Errors
/// `cntr` is no program.
pub fn engine(cntr: Option<&Path>, own: &Path) -> Result<Vec<OsString>, TargetError> {
    let Some(path) = cntr else {
        return Ok(vec![own.into(), "cntr".into()]);
    };
    tool::find(path)
        .and_then(|path| path.canonicalize().ok())
        .map(|path| vec![path.into()])
        .ok_or_else(|| TargetError::Engine {
            path: path.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::TargetKind;

    fn names(targets: &[Target]) -> Vec<&str> {
        targets.iter().map(Target::name).collect()
    }

    fn select(names: &[&str]) -> Result<Vec<Target>, TargetError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Catalogue::load(&[], &[]).unwrap().select(&names)
    }

    #[test]
    fn native_is_the_first_and_the_only_native_one() {
        let catalogue = Catalogue::load(&[], &[]).unwrap();
        assert_eq!(catalogue.targets()[0].name(), "native");
        let native = catalogue
            .targets()
            .iter()
            .filter(|target| target.kind() == TargetKind::Native);
        assert_eq!(native.count(), 1);
    }

    #[test]
    fn names_and_patterns() {
        assert_eq!(
            names(&select(&["bindfs", "native", "bindfs"]).unwrap()),
            ["bindfs", "native"]
        );
        assert_eq!(names(&select(&[]).unwrap()), ["native", "cntr"]);
        let strict = select(&["cntr-s*"]).unwrap();
        assert_eq!(names(&strict), ["cntr-strict"]);
        assert_eq!(names(&select(&["all"]).unwrap())[0], "native");
        let error = select(&["bindsf"]).unwrap_err().to_string();
        assert!(
            error.starts_with("there is no target 'bindsf'; there are native, cntr, "),
            "{error}"
        );
        assert!(select(&["x*"]).is_err());
    }

    #[test]
    fn a_file_adds_and_replaces() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mine.toml");
        let one = |name: &str| {
            format!(
                "[[target]]\nname = '{name}'\nabout = 'mine'\nkind = 'mount'\nprogram = 'no-such-server'\n\
                 command = ['{{program}}', '{{source}}', '{{mountpoint}}']\n"
            )
        };
        fs::write(&file, one("mine") + &one("bindfs")).unwrap();
        let before = Catalogue::load(&[], &[]).unwrap();
        let catalogue = Catalogue::load(std::slice::from_ref(&file), &[]).unwrap();
        assert_eq!(catalogue.targets().len(), before.targets().len() + 1);
        let replaced = catalogue.select(&["bindfs".to_owned()]).unwrap();
        assert_eq!(replaced[0].origin(), Origin::User);
        let reason = replaced[0].unavailable().unwrap();
        assert_eq!(reason, "no-such-server is not installed");
        let error = Catalogue::load(&[directory.path().join("none")], &[]).unwrap_err();
        assert!(matches!(error, TargetError::Read { .. }), "{error}");
    }

    #[test]
    fn the_minimal_server_is_this_program() {
        let minimal = &select(&["minimal"]).unwrap()[0];
        assert_eq!(minimal.unavailable(), None, "it needs no other program");
        assert!(!minimal.spec().ours(), "nobody can ask it with `cntr stat`");
        let own = std::env::current_exe().unwrap();
        let line = minimal.command(&[]);
        assert_eq!(line[..2], [own.into_os_string(), "minimal".into()]);
    }

    #[test]
    fn our_engine_can_be_chosen() {
        let (own, path) = (Path::new("/opt/perf"), Path::new("/bin/true"));
        let line = |cntr| {
            let catalogue = Catalogue::load(&[], &engine(cntr, own).unwrap()).unwrap();
            catalogue.select(&["cntr".to_owned()]).unwrap()[0]
                .info()
                .command
        };
        assert_eq!(line(None)[..3], ["/opt/perf", "cntr", "mount"]);
        let program = path.canonicalize().unwrap();
        assert_eq!(line(Some(path))[..2], [program.to_str().unwrap(), "mount"]);
        let error = engine(Some(Path::new("/etc/passwd")), own).unwrap_err();
        assert!(error.to_string().contains("is not a program"), "{error}");
    }
}
