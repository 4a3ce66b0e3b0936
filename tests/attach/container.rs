//! `cntr run` itself.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{
    CNTR, Rootfs, Target, cntr, contains, finish, limits_work, same, skip, text, unique,
};

pub const CASES: &[Case] = crate::cases! {
    exit_codes_are_dockers;
    namespaces_are_its_own;
    devices_and_mounts_are_there;
    options_take_effect;
    limits_are_enforced_and_removed;
    an_init_reaps_and_forwards;
    an_empty_directory_stays_empty;
    nothing_is_left_of_a_container_whose_cntr_is_killed;
    mount_points_are_not_made_outside;
    an_ordinary_user_has_containers needs "setpriv";
    a_container_is_called_by_its_name;
};

fn run(options: &[&str], script: &str) -> Result<std::process::Output, Failed> {
    let root = Rootfs::new();
    cntr(&[&["run"], options, &[root.path(), "--", "sh", "-c", script]].concat())
}

fn exit_codes_are_dockers() -> Result<(), Failed> {
    same("exit", run(&[], "exit 42")?.status.code(), Some(42))?;
    same(
        "signal",
        run(&["--init"], "kill -TERM $$")?.status.code(),
        Some(143),
    )?;
    let root = Rootfs::new();
    same(
        "not found",
        cntr(&["run", root.path(), "--", "nothing"])?.status.code(),
        Some(127),
    )?;
    same(
        "not executable",
        cntr(&["run", root.path(), "--", "/etc/passwd"])?
            .status
            .code(),
        Some(126),
    )?;
    let failed = cntr(&["run", "/no/such/directory"])?;
    same("no root", failed.status.code(), Some(125))?;
    contains(&text(&failed.stderr), "/no/such/directory")
}

fn namespaces_are_its_own() -> Result<(), Failed> {
    for options in [&[][..], &["--userns"]] {
        let root = Rootfs::new();
        let target = Target::sleeping(&root, options)?;
        for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
            let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            if link("self")? == link(&target.pid.to_string())? {
                return Err(format!("{kind} is the host's").into());
            }
        }
    }
    Ok(())
}

fn devices_and_mounts_are_there() -> Result<(), Failed> {
    for options in [&[][..], &["--userns"]] {
        let script = "echo x > /dev/null && head -c 4 /dev/urandom | wc -c; head -c 1 /dev/zero | wc -c; \
                      ls /dev/pts/ptmx; readlink /proc/self; echo $$; (echo x > /sys/x) 2>&1";
        let output = run(
            options,
            &format!(
                "alias wc='busybox wc'; {}",
                script.replace("| wc", "| /bin/busybox wc")
            ),
        )?;
        let printed = text(&output.stdout);
        contains(&printed, "4\n1\n/dev/pts/ptmx\n")?;
        contains(&printed, "ead-only")?;
    }
    Ok(())
}

fn options_take_effect() -> Result<(), Failed> {
    let root = Rootfs::new();
    let shared = Rootfs::new();
    shared.write("data", "from the host\n");
    let volume = format!("{}:/data:ro", shared.path());
    let options = [
        "--hostname",
        "box",
        "--read-only",
        "--volume",
        &volume,
        "--env",
        "A=b c",
        "--workdir",
        "/srv",
        "--user",
        "7:8",
    ];
    let script = "hostname; cat /data/data; echo $A; pwd; id -u; id -g; touch /x 2>&1; touch /data/x 2>&1; true";
    let output = cntr(
        &[
            &["run"],
            &options[..],
            &[root.path(), "--", "sh", "-c", script],
        ]
        .concat(),
    )?;
    let printed = text(&output.stdout);
    contains(&printed, "box\nfrom the host\nb c\n/srv\n7\n8\n")?;
    same("read-only", printed.matches("ead-only").count(), 2)
}

fn limits_are_enforced_and_removed() -> Result<(), Failed> {
    let root = Rootfs::new();
    let probe = cntr(&[
        "run",
        "--pids",
        "8",
        "--memory",
        "64M",
        "--cpus",
        "0.5",
        root.path(),
        "--",
        "true",
    ])?;
    if text(&probe.stderr).contains("hierarchy of this machine") {
        return skip("no cgroup controllers here");
    }
    same("limits", probe.status.code(), Some(0))?;
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo all";
    let output = cntr(&["run", "--pids", "8", root.path(), "--", "sh", "-c", script])?;
    contains(&text(&output.stderr), "fork")?;
    let target = Target::sleeping(&root, &["--pids", "8"])?;
    let line = target.proc("cgroup");
    let name = line
        .lines()
        .find_map(|line| line.split('/').find(|part| part.starts_with("cntr-")));
    let name = name
        .ok_or("the container is in no cgroup of its own")?
        .to_owned();
    let find = || {
        Command::new("find")
            .args(["/sys/fs/cgroup", "-name", &name])
            .output()
    };
    contains(&text(&find()?.stdout), &name)?;
    drop(target);
    same("cgroups left", text(&find()?.stdout), String::new())
}

fn an_init_reaps_and_forwards() -> Result<(), Failed> {
    let root = Rootfs::new();
    let script = "trap 'exit 9' TERM; sh -c 'sleep 0.01 &'; while :; do sleep 0.02; done";
    let target = Target::run(&root, &["--init"], &["sh", "-c", script])?;
    contains(&target.proc("comm"), "init")?;
    let output = target.exec(
        &[],
        &[
            "sh",
            "-c",
            "kill -TERM 1; while kill -0 1; do sleep 0.01; done",
        ],
    )?;
    // The container's end kills the session.
    same("killed with the container", output.status.code(), Some(137))
}

fn an_empty_directory_stays_empty() -> Result<(), Failed> {
    let empty = tempfile::tempdir()?;
    let path = empty.path().to_str().ok_or("an odd path")?;
    let pid = text(&cntr(&["run", "--detach", path])?.stdout);
    let pid: i32 = pid
        .trim()
        .parse()
        .map_err(|_| "no container in an empty directory")?;
    let output = cntr(&["attach", &pid.to_string(), "--", "cat", "/proc/1/comm"])?;
    same("pid 1", text(&output.stdout).trim(), "pause")?;
    drop(Target::adopt(pid));
    same("left over", std::fs::read_dir(empty.path())?.count(), 0)
}

fn nothing_is_left_of_a_container_whose_cntr_is_killed() -> Result<(), Failed> {
    if !limits_work()? {
        return skip("there is no pids controller");
    }
    let root = Rootfs::new();
    root.remove("sys");
    let mut child = Command::new(CNTR)
        .args(["run", "--pids", "8", root.path(), "--", "sh", "-c"])
        .arg("echo ready; exec sleep 1000")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let name = format!("cntr-{}", child.id());
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let find = || -> Result<String, Failed> {
        let mut find = Command::new("find");
        Ok(text(
            &find
                .args(["/sys/fs/cgroup", "-name", &name])
                .output()?
                .stdout,
        ))
    };
    let sys = root.0.join("sys");
    let before = (line.trim().to_owned(), find()?.is_empty(), sys.exists());
    child.kill()?;
    child.wait()?;
    same("before", before, ("ready".to_owned(), false, true))?;
    let start = Instant::now();
    while !find()?.is_empty() || sys.exists() {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(format!("left: {}, {}", find()?, sys.exists()).into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// A link in the root directory leads nowhere but into the root directory.
fn mount_points_are_not_made_outside() -> Result<(), Failed> {
    let root = Rootfs::new();
    let outside = tempfile::tempdir()?;
    std::os::unix::fs::symlink(outside.path(), root.0.join("link"))?;
    let volume = format!("{}:/link/made", root.path());
    let output = cntr(&["run", "--volume", &volume, root.path(), "--", "true"])?;
    same("code", output.status.code(), Some(125))?;
    contains(&text(&output.stderr), "/link/made")?;
    same("made", std::fs::read_dir(outside.path())?.count(), 0)
}

fn an_ordinary_user_has_containers() -> Result<(), Failed> {
    let root = Rootfs::new();
    // The program may be where only root gets at it.
    let program = std::env::temp_dir().join(format!("cntr-test-{}", unique()));
    std::fs::copy(CNTR, &program)?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "4711", "--regid", "4711", "--clear-groups"]);
        finish(command.arg(&program).arg("run").args(arguments))
    };
    let script = "id -u; cat /proc/self/uid_map; hostname; echo x > /dev/null && echo $$; exit 42";
    let fine = run(&["--hostname", "box", root.path(), "--", "sh", "-c", script]);
    let unmapped = run(&["--user", "5", root.path(), "--", "true"]);
    let limited = run(&["--pids", "5", root.path(), "--", "true"]);
    std::fs::remove_file(&program)?;
    let fine = fine?;
    let words: Vec<String> = text(&fine.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    same("errors", text(&fine.stderr), String::new())?;
    same("session", words.join(" "), "0 0 4711 1 box 1".to_owned())?;
    same("code", fine.status.code(), Some(42))?;
    let unmapped = unmapped?;
    same("code", unmapped.status.code(), Some(125))?;
    contains(&text(&unmapped.stderr), "no user 5: see --uid-map")?;
    let limited = limited?;
    same("code", limited.status.code(), Some(125))?;
    contains(&text(&limited.stderr), "cgroup")
}

fn a_container_is_called_by_its_name() -> Result<(), Failed> {
    let root = Rootfs::new();
    let name = format!("test-{}", unique());
    let options = ["--name", name.as_str(), "--hostname", name.as_str()];
    let host_name = |reference: &str| cntr(&["exec", reference, "--", "/bin/hostname"]);
    let unknown = "no container is called that";
    let reference = format!("cntr://{name}");
    let target = Target::sleeping(&root, &options)?;
    for one in [&name, &reference] {
        let output = host_name(one)?;
        same(one, text(&output.stdout).trim(), &name)?;
    }
    // There is one of a name.
    let second = cntr(&[&["run"], &options[..], &[root.path(), "--", "true"]].concat())?;
    same("second", second.status.code(), Some(125))?;
    let said = text(&second.stderr);
    contains(
        &said,
        &format!("a container called {name} is running already"),
    )?;
    contains(&said, &format!("(process {})", target.pid))?;
    drop(target);
    contains(&text(&host_name(&reference)?.stderr), unknown)?;
    // The name is free again, also if nobody has taken the nameplate down.
    let mut child = Command::new(CNTR)
        .args(["run", "--name", &name, root.path(), "--", "sh", "-c"])
        .arg("echo ready; exec sleep 1000")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let found = host_name(&reference)?;
    child.kill()?;
    child.wait()?;
    same("found", text(&found.stdout).trim(), "cntr")?;
    let start = Instant::now();
    loop {
        let said = text(&host_name(&reference)?.stderr);
        if said.contains(unknown) {
            break;
        }
        if start.elapsed() > Duration::from_secs(10) {
            return Err(format!("it is still there: {said}").into());
        }
    }
    let path = format!("/run/cntr/containers/{name}");
    same("left over", std::path::Path::new(&path).exists(), false)?;
    let third = cntr(&["run", "--name", &name, root.path(), "--", "true"])?;
    same("third", third.status.code(), Some(0))?;
    for wrong in ["12", "a/b", "-x", ""] {
        let output = cntr(&["run", &format!("--name={wrong}"), root.path(), "--", "true"])?;
        same(wrong, output.status.code(), Some(125))?;
    }
    Ok(())
}
