//! What is checked of each kind of container, by point of the acceptance list.

mod files;
mod identity;
mod process;
mod server;
mod targets;

use std::fmt::Debug;

use anyhow::{Result, ensure};

use crate::kind::Sample;

/// A check of one point.
pub struct Check {
    pub point: &'static str,
    pub name: &'static str,
    pub run: fn(&Sample) -> Result<()>,
}

const fn check(point: &'static str, name: &'static str, run: fn(&Sample) -> Result<()>) -> Check {
    Check { point, name, run }
}

/// All of them, in the order in which they are done.
pub const CHECKS: &[Check] = &[
    check("A1", "namespaces", identity::namespaces),
    check("A2", "processes_and_jobs", identity::processes_and_jobs),
    check("A3", "proc_sys_dev", files::proc_sys_dev),
    check("A4", "files_in_etc", files::files_in_etc),
    check("A5", "time_zone", files::time_zone),
    check("A6", "users_and_groups", identity::users_and_groups),
    check("A7", "cgroups", identity::cgroups),
    check("A8", "capabilities", identity::capabilities),
    check("A9", "labels", identity::labels),
    check("A10", "limits_and_seccomp", identity::limits_and_seccomp),
    check("A30", "names", targets::names),
    check(
        "B1",
        "tools_run_and_nothing_is_left",
        files::tools_run_and_nothing_is_left,
    ),
    check("B2", "the_tree_is_live", files::the_tree_is_live),
    check("B3", "concurrent_sessions", files::concurrent_sessions),
    check("B4", "owners_of_host_files", files::owners_of_host_files),
    check("C1", "exit_codes", process::exit_codes),
    check("C3", "pipes", process::pipes),
    check("C6", "signals", process::signals),
    check("C7", "environment", process::environment),
    check("C8", "the_container_stops", process::the_container_stops),
    check("D1", "who_is_not_there", targets::who_is_not_there),
    check("D2", "exec", targets::exec),
    check("E1", "transport", server::transport),
    check("E4", "the_server_is_killed", server::the_server_is_killed),
];

pub fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "{what}: {found:?} is not {expected:?}");
    Ok(())
}

pub fn contains(text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "{part:?} is not in {text:?}");
    Ok(())
}
