//! `cntr ls`: what can be attached to.

use std::fs;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Instant;

use comfy_table::{CellAlignment, Table, presets};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::Global;
use super::stat::unit::duration;
use crate::attach::status::{Extent, parse_id_map};
use crate::control::{self, Report};
use crate::resolve::{self, DEADLINE, Engine, Found};

/// List the containers that can be attached to, and the sessions there are
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LsArgs {
    /// Whose containers to list [default: everybody's]
    #[arg(short = 't', long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<Engine>,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
}

const EXAMPLES: &str = "\
Examples:
  cntr ls                        the containers of all engines, and the sessions of `cntr attach`
  cntr ls -t docker,podman       of these two
  cntr -v ls                     also says who has not answered, and why
  cntr --json ls                 for programs

ENGINE://NAME is what `cntr attach` takes; NAME alone is enough where it is unique. USERNS is how the users of a container
with a user namespace are mapped: INSIDE:OUTSIDE:COUNT. A container that several engines know is listed once. Pods of
Kubernetes are those of the runtime here (cri). Units of systemd, named network namespaces and other processes can be
attached to as well, but are not listed.";

/// How many characters of an id are enough to tell it from others, as engines show them.
const SHORT: usize = 12;

/// The user namespace of a container.
enum Users {
    /// That of cntr.
    Own,
    /// One of its own: user and group ids.
    Mapped(Vec<Extent>, Vec<Extent>),
    /// It may not be looked at.
    Hidden,
}

impl Users {
    fn of(pid: Pid) -> Users {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user"));
        let map = |file: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            parse_id_map(&text)
        };
        match (namespace(&pid.to_string()), namespace("self")) {
            (Ok(its), Ok(own)) if its == own => Users::Own,
            (Ok(_), Ok(_)) => Users::Mapped(map("uid_map"), map("gid_map")),
            _ => Users::Hidden,
        }
    }

    fn text(&self) -> String {
        match self {
            Users::Own => "-".to_owned(),
            Users::Hidden => "?".to_owned(),
            Users::Mapped(uids, _) => {
                let extent = |one: &Extent| format!("{}:{}:{}", one.inside, one.outside, one.count);
                uids.iter().map(extent).collect::<Vec<_>>().join(",")
            }
        }
    }

    fn json(&self) -> Value {
        let list = |extents: &[Extent]| -> Value {
            let extent = |one: &Extent| json!({"inside": one.inside, "outside": one.outside, "count": one.count});
            extents.iter().map(extent).collect()
        };
        match self {
            Users::Own => json!({"kind": "own"}),
            Users::Hidden => json!({"kind": "unknown"}),
            Users::Mapped(uids, gids) => {
                json!({"kind": "mapped", "uids": list(uids), "gids": list(gids)})
            }
        }
    }
}

/// Runs `cntr ls`.
///
/// # Errors
/// Those of writing.
pub fn run(args: &LsArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    // Servers are asked beside the engines: one that hangs keeps nobody waiting.
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(control::list()));
    let listing = resolve::list(&args.types, DEADLINE);
    for (engine, reason) in &listing.silent {
        tracing::info!("{engine}: {reason}");
    }
    for (engine, reason) in &listing.late {
        tracing::warn!("{engine}: {reason}");
    }
    let sessions = match told.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
        Ok(Ok(reports)) => reports,
        Ok(Err(error)) => {
            tracing::warn!("sessions: {error}");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!("sessions: no answer within {} seconds", DEADLINE.as_secs());
            Vec::new()
        }
    };
    let sessions: Vec<Report> = sessions
        .into_iter()
        .filter(|report| report.served.container.is_some())
        .collect();
    if global.json {
        println!("{}", json(&listing.found, &sessions));
        return Ok(ExitCode::SUCCESS);
    }
    print_table(&containers(&listing.found, args.no_trunc));
    if !sessions.is_empty() {
        println!();
        print_table(&of_sessions(&listing.found, &sessions));
    }
    Ok(ExitCode::SUCCESS)
}

/// The container of a session among those that were found.
fn container_of<'a>(found: &'a [Found], report: &Report) -> Option<&'a Found> {
    let pid = report.served.container?;
    found.iter().find(|one| one.pid.as_raw() == pid)
}

fn json(found: &[Found], sessions: &[Report]) -> Value {
    let container = |one: &Found| {
        json!({
            "engine": one.engine.scheme(),
            "id": one.id,
            "name": one.name,
            "pid": one.pid.as_raw(),
            "image": one.image,
            "user_namespace": Users::of(one.pid).json(),
        })
    };
    let session = |report: &Report| {
        let container = container_of(found, report);
        json!({
            "server": report.pid,
            "pid": report.served.container,
            "container": container.map(Found::reference),
            "source": report.served.source,
            "transport": report.transport,
            "uptime_ns": report.uptime_ns,
        })
    };
    json!({
        "containers": found.iter().map(container).collect::<Value>(),
        "sessions": sessions.iter().map(session).collect::<Value>(),
    })
}

/// A table whose column `number` is one of numbers.
fn table(heads: &[&str], number: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(heads.iter().copied());
    if let Some(column) = table.column_mut(number) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn containers(found: &[Found], whole: bool) -> Table {
    let mut table = table(&["ENGINE", "ID", "NAME", "PID", "IMAGE", "USERNS"], 3);
    for one in found {
        let is_long = one.id.len() > SHORT && one.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = if is_long && !whole {
            &one.id[..SHORT]
        } else {
            &one.id
        };
        table.add_row([
            one.engine.scheme(),
            dash(id),
            &one.name,
            &one.pid.to_string(),
            dash(&one.image),
            &Users::of(one.pid).text(),
        ]);
    }
    table
}

fn of_sessions(found: &[Found], sessions: &[Report]) -> Table {
    let mut table = table(&["SESSION", "CONTAINER", "SHOWS", "UPTIME"], 0);
    for report in sessions {
        let container = container_of(found, report);
        table.add_row([
            report.pid.to_string(),
            container.map_or_else(|| report.served.target.clone(), Found::reference),
            report.served.source.clone(),
            duration(report.uptime_ns),
        ]);
    }
    table
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn print_table(table: &Table) {
    // Cells have a blank on both sides, of which the first and the last separate nothing.
    for line in table.to_string().lines() {
        println!("{}", line.strip_prefix(' ').unwrap_or(line).trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let own = nix::unistd::getpid();
        let found = [Found {
            engine: Engine::Docker,
            name: "web".to_owned(),
            pid: own,
            id: "899635d5b5922bf0d675be7afb4de075".to_owned(),
            image: String::new(),
        }];
        let text = containers(&found, false).to_string();
        let row: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        let pid = own.to_string();
        assert_eq!(row, ["docker", "899635d5b592", "web", &pid, "-", "-"]);
        let text = containers(&found, true).to_string();
        assert!(text.contains("899635d5b5922bf0d675be7afb4de075"), "{text}");
        let value = json(&found, &[]);
        assert_eq!(value["containers"][0]["user_namespace"]["kind"], "own");
        assert_eq!(value["containers"][0]["pid"], own.as_raw());
    }

    #[test]
    fn maps() {
        let extent = |inside, outside, count| Extent {
            inside,
            outside,
            count,
        };
        let uids = vec![extent(0, 1004, 1), extent(1, 100_000, 65_536)];
        let users = Users::Mapped(uids, vec![extent(0, 7, 1)]);
        assert_eq!(users.text(), "0:1004:1,1:100000:65536");
        assert_eq!(users.json()["gids"][0]["outside"], 7);
    }
}
