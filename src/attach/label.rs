//! Labels of the security modules that confine a container: its AppArmor profile, its SELinux context.
//!
//! `/proc/PID/attr` tells the target's. The command's process writes the same to its own, and gets it with exec: until then
//! it is cntr's. Both are read and written by way of the host's `/proc`, since the container may have none, while the
//! process has all its privileges and before it gives up gaining any by exec, which a change of the label counts as.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::handshake::Failure;
use super::step::Step;

/// A security module with labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// Its labels are profiles.
    AppArmor,
    /// Its labels are contexts.
    SeLinux,
}

impl Module {
    fn name(self) -> &'static str {
        match self {
            Module::AppArmor => "AppArmor",
            Module::SeLinux => "SELinux",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Module::AppArmor => "--apparmor",
            Module::SeLinux => "--selinux",
        }
    }

    /// Whether the kernel has it switched on.
    fn is_loaded(self) -> bool {
        match self {
            Module::AppArmor => std::fs::read("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with(b"Y")),
            Module::SeLinux => std::fs::read_to_string("/proc/filesystems").is_ok_and(|known| {
                known
                    .lines()
                    .any(|line| line.split_whitespace().last() == Some("selinuxfs"))
            }),
        }
    }
}

/// What the user wants of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LabelWish {
    /// The target's.
    #[default]
    Target,
    /// Cntr's own stays.
    Off,
    /// This one.
    Label(String),
}

impl FromStr for LabelWish {
    type Err = String;

    fn from_str(text: &str) -> Result<LabelWish, String> {
        match text {
            "off" => Ok(LabelWish::Off),
            "" => Err("a label, or off".to_owned()),
            text if text.contains(['\0', '\n']) => Err("no label has that in it".to_owned()),
            text => Ok(LabelWish::Label(text.to_owned())),
        }
    }
}

/// A label to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Whose.
    pub module: Module,
    /// What it is called.
    pub text: String,
    /// The file to write it to, below the directory of a process in `/proc`.
    file: &'static str,
}

/// Which modules the kernel has switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
}

impl Loaded {
    /// Those of this machine.
    #[must_use]
    pub fn here() -> Loaded {
        Loaded {
            apparmor: Module::AppArmor.is_loaded(),
            selinux: Module::SeLinux.is_loaded(),
        }
    }

    fn has(self, module: Module) -> bool {
        match module {
            Module::AppArmor => self.apparmor,
            Module::SeLinux => self.selinux,
        }
    }
}

/// The labels that the command gets with exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<Label>);

/// Where a module's labels are read and written: an own directory, then what all modules share.
fn places(module: Module) -> &'static [(&'static str, &'static str)] {
    const SHARED: (&str, &str) = ("attr/current", "attr/exec");
    match module {
        Module::AppArmor => &[("attr/apparmor/current", "attr/apparmor/exec"), SHARED],
        Module::SeLinux => &[SHARED],
    }
}

impl Labels {
    /// The labels for a session of the process whose directory in `/proc` is `target`, for a caller with that in `own`.
    ///
    /// # Errors
    /// A label cannot be read, or is wanted of a module that the kernel does not have.
    pub fn plan(
        target: BorrowedFd<'_>,
        own: BorrowedFd<'_>,
        loaded: Loaded,
        wishes: [(Module, &LabelWish); 2],
    ) -> Result<Labels, Failure> {
        let mut labels = Vec::new();
        for (module, wish) in wishes {
            let object = format!("its {} label", module.name());
            let failed = |error: io::Error| {
                Failure::system(Step::OpenTarget, &object, error)
                    .remedy(format!("{} off does without", module.option()))
            };
            match wish {
                LabelWish::Off => {}
                LabelWish::Label(text) => {
                    let place = current(own, module, loaded).map_err(failed)?;
                    let (_, file) = place.ok_or_else(|| {
                        let reason = format!("this kernel has no {}", module.name());
                        Failure::new(Step::OpenTarget, module.option(), reason)
                    })?;
                    labels.push(Label {
                        module,
                        text: text.clone(),
                        file,
                    });
                }
                LabelWish::Target => {
                    let theirs = current(target, module, loaded).map_err(failed)?;
                    // Nothing needs to be changed, nor be allowed, where both are the same.
                    if let Some((text, file)) = theirs
                        && current(own, module, loaded)
                            .map_err(failed)?
                            .map(|own| own.0)
                            != Some(text.clone())
                    {
                        labels.push(Label { module, text, file });
                    }
                }
            }
        }
        Ok(Labels(labels))
    }

    /// Has the next exec of the calling process, whose directory in `/proc` is `own`, give it the labels.
    ///
    /// # Errors
    /// The module does not allow it, or does not know the label.
    pub fn apply(&self, own: BorrowedFd<'_>) -> Result<(), Failure> {
        for label in &self.0 {
            let text = match label.module {
                Module::AppArmor => format!("exec {}", label.text),
                Module::SeLinux => label.text.clone(),
            };
            // The kernel takes a label in one piece.
            let written = open(own, label.file, OFlag::O_WRONLY)
                .and_then(|fd| File::from(fd).write_all(text.as_bytes()));
            written.map_err(|error| {
                let object = format!("{} {:?}", label.module.name(), label.text);
                Failure::system(Step::Labels, object, error).remedy(format!(
                    "{} off leaves the command with the label that cntr has",
                    label.module.option()
                ))
            })?;
        }
        Ok(())
    }

    /// Each with the module's name, for people.
    pub fn describe(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .map(|label| format!("{} {}", label.module.name(), label.text))
    }

    /// Whether there is none to take over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The host's `/proc`, to reach what a process is called there from wherever it gets to.
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    /// Opens the caller's.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open() -> io::Result<Proc> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Proc(openat(
            nix::fcntl::AT_FDCWD,
            "/proc",
            flags,
            Mode::empty(),
        )?))
    }

    /// The directory of the calling process.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn own(&self) -> io::Result<OwnedFd> {
        open(self.0.as_fd(), "self", OFlag::O_PATH | OFlag::O_DIRECTORY)
    }
}

fn open(directory: BorrowedFd<'_>, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
    Ok(openat(
        directory,
        path,
        flags | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

/// The label of a process, and the file that changes it; none if the module is not there.
fn current(
    process: BorrowedFd<'_>,
    module: Module,
    loaded: Loaded,
) -> io::Result<Option<(String, &'static str)>> {
    if !loaded.has(module) {
        return Ok(None);
    }
    for (read, write) in places(module) {
        let mut bytes = Vec::new();
        let read = open(process, read, OFlag::O_RDONLY)
            .and_then(|fd| File::from(fd).read_to_end(&mut bytes));
        match read {
            Ok(_) => {
                if let Some(text) = parse(module, &String::from_utf8_lossy(&bytes)) {
                    return Ok(Some((text, write)));
                }
            }
            // An older kernel, or one where another module is asked here.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP)
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The label in the text of a file; none if it is another module's.
fn parse(module: Module, text: &str) -> Option<String> {
    let text = text.trim_end_matches(['\0', '\n']);
    // user:role:type, and a level that may have more colons.
    let is_context = text.split(':').count() >= 3 && !text.contains([' ', '/']);
    match module {
        Module::SeLinux => is_context.then(|| text.to_owned()),
        Module::AppArmor => {
            let (profile, mode) = match text.rsplit_once(" (") {
                Some((profile, mode)) if mode.ends_with(')') => (profile, true),
                _ => (text, false),
            };
            // One without a mode is not confined, nor is what namespaces of profiles call the same.
            (mode || profile.ends_with("unconfined")).then(|| profile.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `/proc` would show of a process.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new(files: &[(&str, &str)]) -> Fake {
            let directory = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(directory.path().join("attr/apparmor")).unwrap();
            for (name, text) in files {
                std::fs::write(directory.path().join(name), text).unwrap();
            }
            Fake(directory)
        }

        fn fd(&self) -> OwnedFd {
            std::fs::File::open(self.0.path()).unwrap().into()
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.path().join(name)).unwrap()
        }
    }

    const TAKE: LabelWish = LabelWish::Target;
    const APPARMOR: Loaded = Loaded {
        apparmor: true,
        selinux: false,
    };
    const SELINUX: Loaded = Loaded {
        apparmor: false,
        selinux: true,
    };

    fn plan(
        target: &Fake,
        own: &Fake,
        loaded: Loaded,
        apparmor: &LabelWish,
        selinux: &LabelWish,
    ) -> Result<Labels, Failure> {
        let wishes = [(Module::AppArmor, apparmor), (Module::SeLinux, selinux)];
        Labels::plan(target.fd().as_fd(), own.fd().as_fd(), loaded, wishes)
    }

    #[test]
    fn a_profile_is_taken_over() {
        let target = Fake::new(&[("attr/apparmor/current", "docker-default (enforce)\n")]);
        let own = Fake::new(&[
            ("attr/apparmor/current", "unconfined\n"),
            ("attr/apparmor/exec", ""),
        ]);
        let labels = plan(&target, &own, APPARMOR, &TAKE, &TAKE).unwrap();
        labels.apply(own.fd().as_fd()).unwrap();
        assert_eq!(own.read("attr/apparmor/exec"), "exec docker-default");
        assert_eq!(
            labels.describe().collect::<Vec<_>>(),
            ["AppArmor docker-default"]
        );
        // Where there is no directory of its own: Linux before 5.8.
        let target = Fake::new(&[("attr/current", "/usr/bin/app//sub (complain)\n")]);
        let own = Fake::new(&[("attr/current", "unconfined\n"), ("attr/exec", "")]);
        let labels = plan(&target, &own, APPARMOR, &TAKE, &TAKE).unwrap();
        labels.apply(own.fd().as_fd()).unwrap();
        assert_eq!(own.read("attr/exec"), "exec /usr/bin/app//sub");
    }

    #[test]
    fn a_context_is_taken_over() {
        let context = "system_u:system_r:container_t:s0:c12,c345";
        let target = Fake::new(&[("attr/current", &format!("{context}\0"))]);
        let own = Fake::new(&[
            (
                "attr/current",
                "unconfined_u:unconfined_r:unconfined_t:s0\0",
            ),
            ("attr/exec", ""),
        ]);
        let labels = plan(&target, &own, SELINUX, &TAKE, &TAKE).unwrap();
        labels.apply(own.fd().as_fd()).unwrap();
        assert_eq!(own.read("attr/exec"), context);
    }

    #[test]
    fn each_module_reads_its_own_labels() {
        // Both at once: what is shared shows the label of the first.
        let both = Loaded {
            apparmor: true,
            selinux: true,
        };
        let target = Fake::new(&[
            ("attr/apparmor/current", "lxc-container-default (enforce)\n"),
            ("attr/current", "a_u:a_r:a_t:s0\0"),
        ]);
        let own = Fake::new(&[
            ("attr/apparmor/current", "unconfined\n"),
            ("attr/current", "b_u:b_r:b_t:s0\0"),
        ]);
        let labels = plan(&target, &own, both, &TAKE, &TAKE).unwrap();
        let described: Vec<_> = labels.describe().collect();
        assert_eq!(
            described,
            ["AppArmor lxc-container-default", "SELinux a_u:a_r:a_t:s0"]
        );
        assert_eq!(parse(Module::SeLinux, "docker-default (enforce)\n"), None);
        assert_eq!(parse(Module::AppArmor, "a_u:a_r:a_t:s0\0"), None);
        let stacked = "lxd-web_</var/lib/lxd>//&:lxd-web_<var-lib-lxd>:unconfined";
        assert_eq!(
            parse(Module::AppArmor, &format!("{stacked} (enforce)\n")),
            Some(stacked.to_owned())
        );
    }

    #[test]
    fn the_same_label_off_and_no_module_change_nothing() {
        let fake = Fake::new(&[("attr/apparmor/current", "unconfined\n")]);
        let labels = plan(&fake, &fake, APPARMOR, &TAKE, &TAKE).unwrap();
        assert!(labels.is_empty());
        let target = Fake::new(&[("attr/apparmor/current", "x (enforce)\n")]);
        let off = plan(&target, &fake, APPARMOR, &LabelWish::Off, &TAKE).unwrap();
        assert!(off.is_empty());
        let nothing = Loaded {
            apparmor: false,
            selinux: false,
        };
        assert!(
            plan(&target, &fake, nothing, &TAKE, &TAKE)
                .unwrap()
                .is_empty()
        );
        // This kernel's own attr, whatever it has: mostly EINVAL.
        let own = Proc::open().unwrap().own().unwrap();
        let wishes = [(Module::AppArmor, &TAKE), (Module::SeLinux, &TAKE)];
        let everything = Loaded {
            apparmor: true,
            selinux: true,
        };
        let labels = Labels::plan(own.as_fd(), own.as_fd(), everything, wishes).unwrap();
        assert!(labels.is_empty());
        labels.apply(own.as_fd()).unwrap();
    }

    #[test]
    fn a_label_of_the_users() {
        let wish: LabelWish = "my-profile".parse().unwrap();
        let fake = Fake::new(&[
            ("attr/apparmor/current", "unconfined\n"),
            ("attr/apparmor/exec", ""),
        ]);
        let labels = plan(&fake, &fake, APPARMOR, &wish, &TAKE).unwrap();
        labels.apply(fake.fd().as_fd()).unwrap();
        assert_eq!(fake.read("attr/apparmor/exec"), "exec my-profile");
        let none = plan(&fake, &fake, SELINUX, &wish, &TAKE).unwrap_err();
        assert_eq!(
            none.to_string(),
            "cannot open the target process (--apparmor): this kernel has no AppArmor"
        );
        assert_eq!("off".parse(), Ok(LabelWish::Off));
        assert!("".parse::<LabelWish>().is_err());
        assert!("a\nb".parse::<LabelWish>().is_err());
    }

    #[test]
    fn a_label_that_is_refused_is_named_with_the_remedy() {
        let target = Fake::new(&[("attr/apparmor/current", "x (enforce)\n")]);
        let own = Fake::new(&[("attr/apparmor/current", "unconfined\n")]);
        let labels = plan(&target, &own, APPARMOR, &TAKE, &TAKE).unwrap();
        let refused = labels.apply(own.fd().as_fd()).unwrap_err().to_string();
        assert!(refused.contains("AppArmor \"x\""), "{refused}");
        assert!(refused.contains("--apparmor off"), "{refused}");
        // One that cannot be read: a directory stands for what the kernel forbids.
        let odd = Fake::new(&[]);
        std::fs::create_dir(odd.0.path().join("attr/apparmor/current")).unwrap();
        let refused = plan(&odd, &own, APPARMOR, &TAKE, &TAKE).unwrap_err();
        assert!(refused.to_string().contains("its AppArmor label"));
    }
}
