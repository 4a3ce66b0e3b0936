//! What a session would be, told before any of it is made: `--dry-run`.

use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use super::Wishes;
use super::bind::BindSpec;
use super::capabilities;
use super::cgroup::Cgroups;
use super::command::{Command, Streams, WorkingDirectory};
use super::handshake::Failure;
use super::mounts::{DevSource, Plan};
use super::namespaces::{Kind, Namespaces};
use super::passwd::UserSpec;
use super::status::{Limit, Seccomp, to_inside};
use super::supervise::Exit;
use super::target::Target;
use super::view::{Access, CachePolicy, Ownership, View};
use crate::sys::capability::{self, CapSet};

/// Takes a preview; a session with one ends there.
///
/// An error is what would keep the session from being made.
pub type Show = fn(&Preview) -> Result<(), Failure>;

/// A plan for people and programs.
#[derive(Debug, Serialize)]
pub struct Preview {
    /// The target's number.
    pub process: i32,
    /// Its number in its own pid namespace.
    pub own_process: i32,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Where it starts.
    pub directory: String,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Each kind of namespace.
    pub namespaces: Vec<NamespacePreview>,
    /// Cgroups that are joined.
    pub cgroups: Vec<String>,
    /// Cgroups that cannot be, with the reason.
    pub cgroups_refused: Vec<String>,
    /// What is mounted where; none if the root is the container's own.
    pub mounts: Vec<MountPreview>,
    /// Paths that are not there.
    pub hidden: Vec<String>,
    /// Whose new files on the host are; none if they are those of who makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_user: Option<EffectiveUserPreview>,
    /// The user of the container that was asked for, as it was typed; none if the session is the target's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// User and groups of the session.
    pub ids: IdPreview,
    /// The capability sets.
    pub capabilities: CapabilityPreview,
    /// Whether exec never gives privileges.
    pub no_new_privileges: bool,
    /// The resource limits.
    pub limits: Vec<String>,
    /// How eager the kernel is to kill it.
    pub oom_score_adj: String,
    /// Labels of security modules that are taken over.
    pub labels: Vec<String>,
    /// What happens to the target's seccomp filter.
    pub seccomp: String,
    /// How the host's files are cached, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
}

/// What happens to a kind of namespace.
#[derive(Debug, Serialize)]
pub struct NamespacePreview {
    /// Its name.
    pub kind: &'static str,
    /// Whether the target's is joined.
    pub joined: bool,
    /// Why, or why not.
    pub why: &'static str,
}

/// A mount of the session.
#[derive(Debug, Serialize)]
pub struct MountPreview {
    /// Where.
    pub path: String,
    /// What.
    pub what: String,
}

/// Whom new files on the host belong to, as numbers of the host.
#[derive(Debug, Serialize)]
pub struct EffectiveUserPreview {
    /// As it was typed.
    pub name: String,
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
    /// Whether any can be made: not if the host's files are read-only.
    pub can_create: bool,
}

/// User and groups, as numbers of the container; `None` is one that its user namespace does not map.
#[derive(Debug, Serialize)]
pub struct IdPreview {
    /// Real, effective and saved user.
    pub users: Vec<Option<u32>>,
    /// Real, effective and saved group.
    pub groups: Vec<Option<u32>>,
    /// Supplementary groups.
    pub supplementary: Vec<Option<u32>>,
    /// The effective user, as a number of the host.
    pub user_outside: u32,
}

/// Capability sets, in hexadecimal as in `/proc/PID/status`.
#[derive(Debug, Serialize)]
pub struct CapabilityPreview {
    /// In force.
    pub effective: String,
    /// What may be put in force.
    pub permitted: String,
    /// What programs with capabilities inherit.
    pub inheritable: String,
    /// What can be had at most.
    pub bounding: String,
    /// What every program inherits.
    pub ambient: String,
    /// What the target has and cntr cannot give.
    pub missing: String,
}

impl Preview {
    /// The preview of a session of `target`, with the user of `wishes` already; `view` is what it has of the host's files.
    #[must_use]
    pub fn new(
        target: &Target,
        namespaces: &Namespaces,
        cgroups: &Cgroups,
        command: &Command,
        wishes: &Wishes,
        view: Option<(&Plan, &View, &[BindSpec])>,
    ) -> Preview {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Preview {
            process: target.pid.as_raw(),
            own_process: target.own_pid(),
            command: command
                .arguments
                .iter()
                .map(|argument| text(argument.as_bytes()))
                .collect(),
            directory: match &command.directory {
                WorkingDirectory::Path(path) | WorkingDirectory::First([path, _]) => {
                    text(path.as_os_str().as_bytes())
                }
                WorkingDirectory::Inherit(_) => "where the target is".to_owned(),
            },
            terminal: matches!(command.streams, Streams::Terminal(_)),
            namespaces: Kind::ALL
                .iter()
                .map(|kind| namespace(*kind, namespaces, view.is_some()))
                .collect(),
            cgroups: cgroups.names().map(str::to_owned).collect(),
            cgroups_refused: cgroups.refused.clone(),
            mounts: view.map(mounts).unwrap_or_default(),
            hidden: view.map(hidden).unwrap_or_default(),
            effective_user: view.and_then(|(_, view, _)| effective_user(view, wishes)),
            user: wishes.user.as_ref().map(UserSpec::to_string),
            ids: ids(target),
            capabilities: capabilities(target),
            no_new_privileges: target.status.no_new_privs,
            limits: target.limits.iter().map(Limit::to_string).collect(),
            oom_score_adj: target.oom_score_adj.clone(),
            labels: command.labels.0.describe().collect(),
            seccomp: Seccomp::to_string(&target.status.seccomp),
            cache: view.map(|(_, view, _)| cache(view.cache)),
        }
    }
}

impl Preview {
    /// Shows it: the end of a session that is not made.
    ///
    /// # Errors
    /// See [`Show`].
    pub fn show(&self, show: Show) -> Result<Exit, Failure> {
        show(self).map(|()| Exit::Code(0))
    }
}

fn namespace(kind: Kind, namespaces: &Namespaces, with_view: bool) -> NamespacePreview {
    let differs = namespaces.differs(kind);
    let (joined, why) = match kind {
        Kind::Mount if with_view => (
            false,
            "the session has a private copy, where the host's files are the root",
        ),
        Kind::Mount => (true, "the container's files are the root"),
        _ if differs => (true, "it is not cntr's"),
        _ => (
            false,
            "cntr is in it already, or the kernel does not have it",
        ),
    };
    NamespacePreview {
        kind: kind.name(),
        joined,
        why,
    }
}

fn mounts((plan, view, binds): (&Plan, &View, &[BindSpec])) -> Vec<MountPreview> {
    let mount = |path: String, what: &str| MountPreview {
        path,
        what: what.to_owned(),
    };
    let access = match view.access {
        Access::ReadOnly => "read-only",
        Access::ReadWrite => "read-write",
    };
    let shifted = if view.ids.is_some() {
        ", owners shifted to the container's ids"
    } else {
        ""
    };
    let mut mounts = vec![
        mount(
            "/".to_owned(),
            &format!("{}, {access}{shifted}", view.tree.description()),
        ),
        mount(plan.base.display().to_string(), "the container's tree"),
        mount(
            "/proc".to_owned(),
            "the container's if it shows the session's pid namespace, else a new one",
        ),
        mount(
            "/dev".to_owned(),
            match plan.dev {
                DevSource::Container => "the container's",
                DevSource::Minimal => "a minimal one: the container's has no /dev/null",
            },
        ),
    ];
    if plan.sys {
        mounts.push(mount("/sys".to_owned(), "the container's"));
    }
    let files = plan.files.iter();
    mounts.extend(files.map(|path| mount(format!("/{path}"), "the container's")));
    for bind in binds {
        let access = match bind.access {
            Access::ReadOnly => "read-only",
            Access::ReadWrite => "read-write",
        };
        let what = format!("{} of the host itself, {access}", bind.path.display());
        mounts.push(mount(bind.destination.display().to_string(), &what));
    }
    mounts
}

fn hidden((_, view, _): (&Plan, &View, &[BindSpec])) -> Vec<String> {
    let paths = view.hidden.iter();
    paths.map(|path| path.display().to_string()).collect()
}

fn effective_user(view: &View, wishes: &Wishes) -> Option<EffectiveUserPreview> {
    let Ownership::User { uid, gid } = view.ownership else {
        return None;
    };
    Some(EffectiveUserPreview {
        name: wishes.effective_user.as_ref()?.to_string(),
        user: uid,
        group: gid,
        can_create: view.access == Access::ReadWrite,
    })
}

fn ids(target: &Target) -> IdPreview {
    let status = &target.status;
    let users = |ids: &[u32]| {
        ids.iter()
            .map(|id| to_inside(&target.uid_map, *id))
            .collect()
    };
    let groups = |ids: &[u32]| {
        ids.iter()
            .map(|id| to_inside(&target.gid_map, *id))
            .collect()
    };
    IdPreview {
        users: users(&status.uids[..3]),
        groups: groups(&status.gids[..3]),
        supplementary: groups(&status.groups),
        user_outside: status.uids[1],
    }
}

fn capabilities(target: &Target) -> CapabilityPreview {
    let root = to_inside(&target.uid_map, target.status.uids[1]) == Some(0);
    let plan = capabilities::Plan::new(&target.status, root);
    let have = capability::get().map_or(CapSet::default(), |caps| caps.permitted);
    let hex = |set: CapSet| format!("{:016x}", set.0);
    CapabilityPreview {
        effective: hex(plan.thread.effective),
        permitted: hex(plan.thread.permitted),
        inheritable: hex(plan.thread.inheritable),
        bounding: hex(plan.bounding),
        ambient: hex(plan.ambient),
        missing: hex(plan.missing(have)),
    }
}

fn cache(policy: CachePolicy) -> String {
    match policy {
        CachePolicy::Strict => "strict: not at all".to_owned(),
        CachePolicy::Coherent => "coherent: until the host changes it".to_owned(),
        CachePolicy::Ttl(time) => format!("for {} s", time.as_secs_f64()),
    }
}
