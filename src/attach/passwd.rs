//! Users and groups by name: what `/etc/passwd` and `/etc/group` of a root directory say.
//!
//! The files are read as they are: those of a container mean nothing to the libraries of the host. On the host, names that
//! are not in the files are asked of the name service (LDAP, systemd-homed) as any program would.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Group, Uid, User};

use super::mounts::open_in;

/// How much of a file is read: what a container has there may be endless.
const MOST: u64 = 1 << 20;

/// A user or a group as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// By its number, which need not be in any file.
    Number(u32),
    /// By its name.
    Name(String),
}

/// `USER[:GROUP]` as it was typed, each by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSpec {
    /// The user.
    pub user: Id,
    /// The group; without one it is the user's.
    pub group: Option<Id>,
}

/// What a [`UserSpec`] means in a root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, the group itself among them; none but that if the group was given.
    pub groups: Vec<u32>,
    /// Home directory; `/` for a user that no file knows.
    pub home: OsString,
}

/// Why a [`UserSpec`] means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No user is called that.
    #[error("no user is called {0:?} there; a number needs no name")]
    User(String),
    /// No group is called that.
    #[error("no group is called {0:?} there; a number needs no name")]
    Group(String),
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Id, String> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            _ if text.is_empty() => Err("a user or group is missing".to_owned()),
            // The largest number is nobody's: the kernel takes it for "leave it as it is".
            Ok(number) if digits && number < u32::MAX => Ok(Id::Number(number)),
            _ if digits => Err(format!("{text} is not the number of a user or group")),
            _ => Ok(Id::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(number) => number.fmt(out),
            Id::Name(name) => name.fmt(out),
        }
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.user.fmt(out)?;
        match &self.group {
            Some(group) => write!(out, ":{group}"),
            None => Ok(()),
        }
    }
}

impl FromStr for UserSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<UserSpec, String> {
        Ok(match text.split_once(':') {
            None => UserSpec {
                user: text.parse()?,
                group: None,
            },
            Some((user, group)) => UserSpec {
                user: user.parse()?,
                group: Some(group.parse()?),
            },
        })
    }
}

/// A line of `passwd`.
struct Entry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// The files of a root directory. One that is missing, or no file, is empty.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    passwd: Vec<u8>,
    group: Vec<u8>,
}

fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    text.split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn number(field: Option<&&[u8]>) -> Option<u32> {
    std::str::from_utf8(field?).ok()?.parse().ok()
}

impl Accounts {
    /// Those of `root`; symbolic links lead to where a process with that root gets.
    #[must_use]
    pub fn of(root: BorrowedFd<'_>) -> Accounts {
        let read = |path: &str| {
            // A FIFO must not be waited for.
            let fd = open_in(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).ok()?;
            let mut text = Vec::new();
            File::from(fd).take(MOST).read_to_end(&mut text).ok()?;
            Some(text)
        };
        Accounts {
            passwd: read("etc/passwd").unwrap_or_default(),
            group: read("etc/group").unwrap_or_default(),
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        lines(&self.passwd).filter_map(|fields| {
            Some(Entry {
                name: fields.first()?,
                uid: number(fields.get(2))?,
                gid: number(fields.get(3))?,
                home: fields.get(5)?,
            })
        })
    }

    fn user(&self, user: &Id) -> Option<Entry<'_>> {
        self.entries().find(|entry| match user {
            Id::Number(uid) => entry.uid == *uid,
            Id::Name(name) => entry.name == name.as_bytes(),
        })
    }

    /// The home directory of the user `uid`.
    #[must_use]
    pub fn home_of(&self, uid: u32) -> Option<OsString> {
        let entry = self.user(&Id::Number(uid))?;
        (!entry.home.is_empty()).then(|| OsString::from_vec(entry.home.to_vec()))
    }

    fn group(&self, name: &str) -> Option<u32> {
        lines(&self.group).find_map(|fields| {
            let gid = number(fields.get(2))?;
            (fields.first() == Some(&name.as_bytes())).then_some(gid)
        })
    }

    /// The groups that list the user `name` as a member.
    fn groups_with(&self, name: &[u8]) -> impl Iterator<Item = u32> {
        lines(&self.group).filter_map(move |fields| {
            let gid = number(fields.get(2))?;
            let mut members = fields.get(3)?.split(|byte| *byte == b',');
            members.any(|member| member == name).then_some(gid)
        })
    }

    /// What `spec` means, as Docker has it: a number without an entry is a user of group 0 without a home; supplementary
    /// groups are those of the files, unless a group was given.
    ///
    /// # Errors
    /// A name that is in no file.
    pub fn find(&self, spec: &UserSpec) -> Result<Account, Unknown> {
        let entry = self.user(&spec.user);
        let (uid, gid) = match (&entry, &spec.user) {
            (Some(entry), _) => (entry.uid, entry.gid),
            (None, Id::Number(uid)) => (*uid, 0),
            (None, Id::Name(name)) => return Err(Unknown::User(name.clone())),
        };
        let home = entry
            .as_ref()
            .map(|entry| entry.home)
            .filter(|home| !home.is_empty());
        let home = OsString::from_vec(home.unwrap_or(b"/").to_vec());
        let (gid, mut groups) = match &spec.group {
            Some(Id::Number(gid)) => (*gid, Vec::new()),
            Some(Id::Name(name)) => {
                let gid = self
                    .group(name)
                    .ok_or_else(|| Unknown::Group(name.clone()))?;
                (gid, Vec::new())
            }
            None => {
                let member = entry.map(|entry| self.groups_with(entry.name).collect());
                (gid, member.unwrap_or_default())
            }
        };
        if !groups.contains(&gid) {
            groups.insert(0, gid);
        }
        Ok(Account {
            uid,
            gid,
            groups,
            home,
        })
    }

    /// What `spec` means on the host. Supplementary groups are those of the files alone.
    ///
    /// # Errors
    /// A name that nobody knows.
    pub fn find_on_host(spec: &UserSpec) -> Result<Account, Unknown> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let accounts = open("/", flags, Mode::empty())
            .map(|root| Accounts::of(root.as_fd()))
            .unwrap_or_default();
        let mut spec = spec.clone();
        if let Some(Id::Name(name)) = &spec.group
            && accounts.group(name).is_none()
            && let Ok(Some(group)) = Group::from_name(name)
        {
            spec.group = Some(Id::Number(group.gid.as_raw()));
        }
        if accounts.user(&spec.user).is_some() {
            return accounts.find(&spec);
        }
        let user = match &spec.user {
            Id::Number(uid) => User::from_uid(Uid::from_raw(*uid)),
            Id::Name(name) => User::from_name(name),
        };
        let Ok(Some(user)) = user else {
            return accounts.find(&spec);
        };
        let found = accounts.find(&UserSpec {
            user: Id::Number(user.uid.as_raw()),
            group: Some(spec.group.unwrap_or(Id::Number(user.gid.as_raw()))),
        })?;
        Ok(Account {
            home: user.dir.into_os_string(),
            ..found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd:
                b"root:x:0:0:root:/root:/bin/sh\nodd line\napp:x:1000:100::/srv/app:/bin/false\n\
                      bare:x:7:7:::\n42:x:1001:1001::/forty-two:/bin/sh\n"
                    .to_vec(),
            group: b"root:x:0:\nusers:x:100:\nwheel:x:10:other,app\nvideo:x:44:app\nodd\n".to_vec(),
        }
    }

    fn find(spec: &str) -> Result<(u32, u32, Vec<u32>, String), Unknown> {
        let account = accounts().find(&spec.parse().unwrap())?;
        let home = account.home.into_string().unwrap();
        Ok((account.uid, account.gid, account.groups, home))
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let home = |home: &str| home.to_owned();
        for name in ["app", "1000"] {
            assert_eq!(
                find(name),
                Ok((1000, 100, vec![100, 10, 44], home("/srv/app")))
            );
        }
        assert_eq!(
            find("app:video"),
            Ok((1000, 44, vec![44], home("/srv/app")))
        );
        assert_eq!(find("app:9"), Ok((1000, 9, vec![9], home("/srv/app"))));
        assert_eq!(find("5"), Ok((5, 0, vec![0], home("/"))));
        assert_eq!(find("bare"), Ok((7, 7, vec![7], home("/"))));
        // What consists of digits is a number.
        assert_eq!(find("42"), Ok((42, 0, vec![0], home("/"))));
        assert_eq!(find("nobody"), Err(Unknown::User("nobody".to_owned())));
        assert_eq!(find("0:nobody"), Err(Unknown::Group("nobody".to_owned())));
    }

    #[test]
    fn what_is_no_user_is_refused() {
        for wrong in [
            "",
            ":",
            "app:",
            ":0",
            "4294967295",
            "99999999999",
            "0:4294967295",
        ] {
            assert!(wrong.parse::<UserSpec>().is_err(), "{wrong}");
        }
        assert!(
            "-1".parse::<UserSpec>()
                .is_ok_and(|spec| spec.user == Id::Name("-1".to_owned()))
        );
    }

    #[test]
    fn homes_come_from_the_passwd_file() {
        assert_eq!(accounts().home_of(1000), Some("/srv/app".into()));
        assert_eq!(accounts().home_of(7), None);
        assert_eq!(accounts().home_of(5), None);
        assert_eq!(Accounts::default().home_of(0), None);
    }

    #[test]
    fn the_hosts_root_is_root() {
        let root = Accounts::find_on_host(&"0".parse().unwrap()).unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(Accounts::find_on_host(&"no such user".parse().unwrap()).is_err());
    }
}
