//! A3 to A5 and B1 to B4: what the session sees, and that nothing is left of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{contains, same};
use crate::command::{finish, text};
use crate::container::{Container, unique};
use crate::kind::Sample;
use crate::world::{ZONE, world};

/// Where the container is in a session.
const BASE: &str = "/var/lib/cntr";

pub fn proc_sys_dev(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let first = container.inner_pid()?;
    let name = container.sh(&format!("cat /proc/{first}/comm"))?;
    same("the first process", name, container.proc("comm")?)?;
    // What is mounted in the container is what is there in the session.
    for directory in ["proc", "sys", "dev"] {
        let Ok(theirs) = fs::metadata(container.path(directory)) else {
            continue;
        };
        let root = fs::metadata(container.path(""))?;
        if theirs.dev() == root.dev() {
            // An empty directory of its root: the session has its own.
            continue;
        }
        let found = container.sh(&format!("stat -c %d:%i /{directory}"))?;
        let expected = format!("{}:{}", theirs.dev(), theirs.ino());
        same(directory, found.trim(), &expected)?;
    }
    let printed =
        container.sh("echo x > /dev/null; ls -d /dev/ptmx /dev/zero; ls /proc/self/fd")?;
    contains(&printed, "/dev/ptmx\n/dev/zero\n0\n1\n2\n")
}

/// What `nsenter` and a program of the container print there.
fn in_container(container: &Container, script: &str) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--root", "--target", &container.pid.to_string()]);
    finish(command.args(["/bin/sh", "-c", script]))?.succeeded()
}

pub fn files_in_etc(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let names = "passwd group hosts hostname resolv.conf";
    let script = format!(
        "PATH=$PATH:/bin; for f in {names}; do echo =$f; test ! -e /etc/$f || {{ cat /etc/$f; echo; echo .; }}; done"
    );
    let expected = in_container(container, &script)?;
    let found = container.sh(&script)?;
    let parts = |text: &str| -> Vec<(String, String)> {
        let parts = text.split('=').skip(1);
        let pairs = parts.filter_map(|part| part.split_once('\n'));
        pairs
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .collect()
    };
    let (found, theirs) = (parts(&found), parts(&expected));
    same("files", found.len(), 5)?;
    for ((name, found), (_, mut expected)) in found.into_iter().zip(theirs) {
        if expected.is_empty() {
            // The container has none: the host's stays.
            let host = fs::read_to_string(format!("/etc/{name}"));
            expected = host.map_or(String::new(), |text| format!("{text}\n.\n"));
        }
        same(&name, found, expected)?;
    }
    if expected.contains("only-in-the-container") {
        let found = container.sh("getent hosts only-in-the-container")?;
        contains(&found, "192.0.2.7")?;
    }
    Ok(())
}

pub fn time_zone(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let found = container.sh("date +%Z")?;
    let expected = if container.has_hosts_root() {
        finish(Command::new("date").env_remove("TZ").arg("+%Z"))?.succeeded()?
    } else if container.path("etc/localtime").is_symlink() {
        ZONE.to_owned()
    } else {
        "UTC".to_owned()
    };
    same("zone", found.trim(), expected.trim())
}

/// Every path with everything about it but the access time.
fn listing(path: &Path) -> Result<String> {
    let mut find = Command::new("find");
    find.arg(path);
    find.args(["-xdev", "-printf", "%P %i %m %U %G %n %s %T@ %C@ %l\\n"]);
    let found = finish(&mut find)?.succeeded()?;
    // The number of links of /proc is that of processes.
    let mut lines: Vec<&str> = found
        .lines()
        .filter(|line| !line.starts_with("proc "))
        .collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// What could be left in the container and on the host.
fn remains(container: &Container) -> Result<[String; 4]> {
    let root = if container.has_hosts_root() {
        // Others work there; what is cntr's is looked at below.
        String::new()
    } else {
        listing(&container.path("."))?
    };
    let host = Path::new(BASE);
    let host = if host.exists() {
        listing(host)?
    } else {
        "nothing".to_owned()
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let ours = mounts.lines().filter(|line| line.contains("fuse.cntr"));
    let ours: Vec<&str> = ours.collect();
    Ok([root, container.proc("mountinfo")?, host, ours.join("\n")])
}

pub fn tools_run_and_nothing_is_left(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let before = remains(container)?;
    let script = "git --version && python3 -c 'import json; print(6*7)' && vim --version | head -n 1 && \
                  ldd /usr/bin/env && ls /var/lib/cntr/bin /var/lib/cntr/etc > /dev/null && cat /etc/passwd";
    let printed = container.sh(script)?;
    for part in ["git version", "\n42\n", "VIM", "libc.so"] {
        contains(&printed, part)?;
    }
    let after = remains(container)?;
    for (before, after) in before.iter().zip(&after) {
        let lines = |text: &'_ str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (before, after) = (lines(before), lines(after));
        let gone: Vec<_> = before.difference(&after).collect();
        let new: Vec<_> = after.difference(&before).collect();
        ensure!(
            gone.is_empty() && new.is_empty(),
            "gone: {gone:?}; new: {new:?}"
        );
    }
    Ok(())
}

pub fn the_tree_is_live(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let ls = |path: &str| finish(Command::new("ls").arg("-A").arg(path));
    let theirs = ls(&container.path("").display().to_string())?.succeeded()?;
    let found = container.sh(&format!("ls -A {BASE}"))?;
    if !container.has_hosts_root() {
        same("root", found, theirs)?;
    }
    // Its mounts are where they are in it.
    let mut points = Vec::new();
    for point in mount_points(container)? {
        if let Ok(theirs) = fs::symlink_metadata(container.path(&point)) {
            points.push((point, format!("{}:{}", theirs.dev(), theirs.ino())));
        }
    }
    let paths = points.iter().map(|(point, _)| format!("{BASE}{point}"));
    let words: Vec<String> = ["stat", "-c", "%d:%i"]
        .map(str::to_owned)
        .into_iter()
        .chain(paths)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if !points.is_empty() {
        let stat = container.attach(&[], &words)?.succeeded()?;
        for ((point, expected), found) in points.iter().zip(stat.lines()) {
            same(point, found, expected)?;
        }
    }
    // Both ways, where it can be written to.
    let can_write = |directory: &&&str| {
        let script = format!("test -d {BASE}/{directory} && test -w {BASE}/{directory}");
        container
            .attach(&[], &["sh", "-c", &script])
            .is_ok_and(|output| output.status.success())
    };
    let Some(directory) = ["tmp", "dev/shm", "dev"].iter().find(can_write) else {
        return Ok(());
    };
    let name = unique("live");
    let inside = format!("{BASE}/{directory}/{name}");
    let outside = container.path(&format!("{directory}/{name}"));
    let mut session = container.session(
        &[],
        &[
            "sh",
            "-c",
            &format!(
                "echo from-the-session > {inside} && echo written && \
            while ! grep -q from-outside {inside}; do sleep 0.02; done; cat {inside}; rm {inside}"
            ),
        ],
    )?;
    session.expect("written")?;
    same(
        "from inside",
        fs::read_to_string(&outside)?.trim(),
        "from-the-session",
    )?;
    let mut append = fs::OpenOptions::new().append(true).open(&outside)?;
    std::io::Write::write_all(&mut append, b"from-outside\n")?;
    let output = session.end()?;
    contains(&text(&output.stdout), "from-the-session\nfrom-outside\n")?;
    ensure!(!outside.exists(), "{} is still there", outside.display());
    Ok(())
}

/// Where something is mounted in a container, but for what is about processes.
fn mount_points(container: &Container) -> Result<Vec<String>> {
    let mounts = container.proc("mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.filter(|point| *point != "/" && !point.starts_with("/proc"));
    // Of the host's, those that nobody makes or removes meanwhile.
    let stays = |point: &&str| !container.has_hosts_root() || point.starts_with("/sys");
    // Those of a chroot are outside of it, and named as seen from the host.
    Ok(points.filter(stays).map(str::to_owned).collect())
}

pub fn concurrent_sessions(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let script = "echo ready; exec sleep 1000";
    let mut first = container.session(&[], &["sh", "-c", script])?;
    first.expect("ready")?;
    let pid = container.pid.to_string();
    let words = ["attach", &pid, "--", "ls", "-d", "/c/bin/busybox", BASE];
    let second = finish(container.cntr(&words).env("CNTR_BASE_DIR", "/c"))?;
    let printed = text(&second.stdout);
    contains(&printed, "/c/bin/busybox")?;
    ensure!(!first.has_ended()?, "the first session is over");
    contains(&container.sh("echo third")?, "third")
}

/// Files of the host belong to whom they do there, as ids of the container. With a user namespace, writing takes `--host rw`.
pub fn owners_of_host_files(sample: &Sample) -> Result<()> {
    let (container, _turn) = sample.container()?;
    let has_user_namespace = container.has_own("user")?;
    let directory = world().path(&unique("owners"));
    fs::create_dir(&directory)?;
    let owned = |name: &str, uid: u32, mode: u32| -> Result<String> {
        let path = directory.join(name);
        fs::write(&path, "before\n")?;
        std::os::unix::fs::chown(&path, Some(uid), Some(uid))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path.display().to_string())
    };
    const UNMAPPED: u32 = 4_000_000_000;
    let secret = owned("secret", 0, 0o600)?;
    let foreign = owned("foreign", UNMAPPED, 0o644)?;
    let uid: u32 = container.sh("id -u")?.trim().parse()?;
    let shown = if has_user_namespace { 65534 } else { UNMAPPED };
    let script = format!("stat -c %u /etc/shadow {secret} {foreign}");
    same("owners", container.sh(&script)?, format!("0\n0\n{shown}\n"))?;
    let made = format!("{secret}.new");
    let script =
        format!("echo after >> {secret} && cat {secret} && echo x > {made} && stat -c %u {made}");
    let write = ["sh", "-c", &script];
    if has_user_namespace {
        let refused = container.attach(&[], &write)?;
        ensure!(!refused.status.success(), "it can write");
        contains(&text(&refused.stderr), "ead-only file system")?;
    }
    let written = container.attach(&["--host", "rw"], &write)?;
    if uid == 0 {
        same(
            "written",
            written.succeeded()?,
            "before\nafter\n0\n".to_owned(),
        )?;
        same("owner", fs::metadata(&made).context(made)?.uid(), 0)?;
    } else {
        // Not root there: not root for the host's files.
        contains(&text(&written.stderr), "ermission denied")?;
    }
    fs::remove_dir_all(&directory)?;
    Ok(())
}
