//! `--dry-run`: shows the plan of a session, and how its files would travel.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::doctor;
use crate::attach::handshake::Failure;
use crate::attach::preview::{EffectiveUserPreview, NamespacePreview, Preview};
use crate::attach::step::Step;

/// A plan and the transport.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    preview: &'a Preview,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
}

/// How requests for the host's files would travel; none if there are none.
fn transport(preview: &Preview) -> Result<Option<&'static str>, Failure> {
    if preview.mounts.is_empty() {
        return Ok(None);
    }
    doctor::transport().map(Some).map_err(|reason| {
        Failure::new(Step::MakeView, "", reason)
            .remedy("`cntr doctor` says what this machine lacks")
    })
}

/// Prints it as JSON.
pub fn json(preview: &Preview) -> Result<(), Failure> {
    let transport = transport(preview)?;
    let shown = Shown { preview, transport };
    let text = serde_json::to_string(&shown).expect("its keys are text");
    println!("{text}");
    Ok(())
}

/// Prints it for people.
pub fn table(preview: &Preview) -> Result<(), Failure> {
    let transport = transport(preview)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (subject, lines) in rows(preview, transport) {
        table.add_row([subject.to_owned(), lines.join("\n")]);
    }
    println!("{table}");
    println!("nothing was changed, and no command was run");
    Ok(())
}

fn rows(preview: &Preview, transport: Option<&str>) -> Vec<(&'static str, Vec<String>)> {
    let capabilities = &preview.capabilities;
    let mut sets = vec![
        format!("effective {}", capabilities.effective),
        format!("permitted {}", capabilities.permitted),
        format!("inheritable {}", capabilities.inheritable),
        format!("bounding {}", capabilities.bounding),
        format!("ambient {}", capabilities.ambient),
    ];
    if capabilities.missing.chars().any(|digit| digit != '0') {
        sets.push(format!("cntr lacks {}", capabilities.missing));
    }
    if preview.no_new_privileges {
        sets.push("exec never gives privileges".to_owned());
    }
    let namespace = |kind: &NamespacePreview| {
        let what = if kind.joined { "joined" } else { "not joined" };
        format!("{} {what}: {}", kind.kind, kind.why)
    };
    let mut cgroups = preview.cgroups.clone();
    let refused = preview.cgroups_refused.iter();
    cgroups.extend(refused.map(|reason| format!("cannot be joined: {reason}")));
    if cgroups.is_empty() {
        cgroups.push("cntr is in the target's already".to_owned());
    }
    let mounts = preview.mounts.iter();
    let mut mounts: Vec<_> = mounts
        .map(|mount| format!("{}  {}", mount.path, mount.what))
        .collect();
    if mounts.is_empty() {
        mounts.push("none: the root is the container's".to_owned());
    }
    let mut labels = preview.labels.clone();
    if labels.is_empty() {
        labels.push("none to take over".to_owned());
    }
    let terminal = if preview.terminal {
        "with a terminal"
    } else {
        "without a terminal"
    };
    let mut rows = vec![
        (
            "target",
            vec![format!(
                "process {}, in its own pid namespace {}",
                preview.process, preview.own_process
            )],
        ),
        (
            "command",
            vec![
                preview.command.join(" "),
                format!("starts in {}, {terminal}", preview.directory),
            ],
        ),
        (
            "namespaces",
            preview.namespaces.iter().map(namespace).collect(),
        ),
        ("cgroups", cgroups),
        ("mounts", mounts),
        ("ids", ids(preview)),
        ("capabilities", sets),
        ("limits", preview.limits.clone()),
        ("OOM score", vec![preview.oom_score_adj.clone()]),
        ("labels", labels),
        ("seccomp", vec![preview.seccomp.clone()]),
    ];
    if !preview.hidden.is_empty() {
        rows.push(("hidden", preview.hidden.clone()));
    }
    if let Some(user) = &preview.effective_user {
        rows.push(("new files", vec![new_files(user)]));
    }
    if let Some(transport) = transport {
        rows.push(("transport", vec![transport.to_owned()]));
    }
    if let Some(cache) = &preview.cache {
        rows.push(("cache", vec![cache.clone()]));
    }
    rows
}

fn new_files(user: &EffectiveUserPreview) -> String {
    let (name, uid, gid) = (&user.name, user.user, user.group);
    let in_vain = if user.can_create {
        ""
    } else {
        ", but none can be made"
    };
    format!("of user {uid} and group {gid} on the host (--effective-user {name}){in_vain}")
}

fn ids(preview: &Preview) -> Vec<String> {
    let ids = &preview.ids;
    let list = |ids: &[Option<u32>]| {
        let id = |id: &Option<u32>| id.map_or_else(|| "not mapped".to_owned(), |id| id.to_string());
        ids.iter().map(id).collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![
        format!(
            "user {} (real, effective, saved); {} on the host",
            list(&ids.users),
            ids.user_outside
        ),
        format!("group {}", list(&ids.groups)),
    ];
    if !ids.supplementary.is_empty() {
        lines.push(format!("groups {}", list(&ids.supplementary)));
    }
    lines.push(match &preview.user {
        Some(user) => format!("as --user {user} says"),
        None => "as the target's".to_owned(),
    });
    lines
}
