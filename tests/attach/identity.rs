//! A1 to A8: the session is a process of the container.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{Rootfs, Target, cntr, contains, limits_work, same, skip, text};

pub const CASES: &[Case] = crate::cases! {
    namespaces_equal_the_targets;
    hand_made_targets_of_every_shape needs "unshare", "chroot", "setpriv";
    processes_are_the_containers;
    users_equal_the_targets needs "setpriv";
    several_extents_and_a_single_id needs "unshare", "setpriv";
    cgroups_equal_the_targets;
    a_pids_limit_holds_for_the_session;
    a_memory_limit_holds_for_the_session;
    a_paused_container_is_refused;
    cgroups_that_cannot_be_joined_are_reported needs "unshare", "mount";
    capabilities_equal_the_targets;
    every_capability_set_is_taken_over needs "setpriv";
    securebits_are_the_default needs "setpriv";
    limits_are_taken_over needs "prlimit";
    limits_and_seccomp_are_said needs "prlimit", "python3";
    labels_of_a_kernel_without_them_change_nothing;
    a_label_that_cannot_be_given_ends_the_session needs "unshare", "mount";
    exec_equals_the_container;
    unknown_targets_are_refused;
};

const NAMESPACES: [&str; 7] = ["uts", "ipc", "net", "pid", "cgroup", "user", "time"];

fn check_namespaces(target: &Target) -> Result<(), Failed> {
    let script = "for n in uts ipc net pid cgroup user time; do readlink /proc/self/ns/$n; done; readlink /proc/self/ns/mnt";
    let printed = target.sh(&[], script)?;
    let mut lines = printed.lines();
    let link = |pid: &str, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    for kind in NAMESPACES {
        let theirs = link(&target.pid.to_string(), kind)?;
        same(kind, lines.next(), theirs.to_str())?;
    }
    let own = lines.next().ok_or("no mount namespace")?;
    for pid in ["self", &target.pid.to_string()] {
        if link(pid, "mnt")?.to_str() == Some(own) {
            return Err("the mount namespace is not the session's own".into());
        }
    }
    Ok(())
}

fn namespaces_equal_the_targets() -> Result<(), Failed> {
    for options in [
        &["--hostname", "box"][..],
        &["--hostname", "box", "--userns"],
        &["--hostname", "box", "--net", "host"],
    ] {
        let root = Rootfs::new();
        let target = Target::sleeping(&root, options)?;
        check_namespaces(&target)?;
        same("hostname", target.sh(&[], "hostname")?.trim(), "box")?;
    }
    Ok(())
}

/// Targets no engine made: A30's chroot, unshare and single-id ones.
fn hand_made_targets_of_every_shape() -> Result<(), Failed> {
    let root = Rootfs::new();
    let chroot = |options: &[&str]| {
        let mut command = Command::new("chroot");
        command
            .args(options)
            .args([root.path(), "/bin/sleep", "1000"]);
        command
    };
    let mut unshare = Command::new("unshare");
    unshare.args([
        "-m",
        "-u",
        "-i",
        "-n",
        "-p",
        "-C",
        "-f",
        "--propagation",
        "private",
        "chroot",
    ]);
    unshare.args([root.path(), "/bin/sleep", "1000"]);
    let mut user = Command::new("setpriv");
    user.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "unshare",
        "-U",
        "-r",
        "-m",
        "-p",
        "-f",
        "-n",
    ]);
    user.args(["-i", "-u", "--mount-proc", "sleep", "1000"]);
    let mut second = Command::new("unshare");
    second.args([
        "-p",
        "-f",
        "-m",
        "--mount-proc",
        "sh",
        "-c",
        "sleep 1000; true",
    ]);
    let mut time = Command::new("unshare");
    time.args(["-T", "--boottime", "1000", "-f", "sleep", "1000"]);
    for command in [
        chroot(&[]),
        chroot(&["--userspec=65534:65534"]),
        unshare,
        user,
        second,
        time,
    ] {
        let about = |error: Failed| {
            Failed::from(format!(
                "{command:?}: {}",
                error.message().unwrap_or_default()
            ))
        };
        let mounts = std::fs::read("/proc/self/mountinfo")?;
        let mut again = Command::new(command.get_program());
        let target = Target::by_hand(again.args(command.get_args()), "sleep");
        let target = target.map_err(about)?;
        check_namespaces(&target).map_err(about)?;
        let printed = target.sh(
            &[],
            "ls -d /proc/$$ && id -u && test -c /dev/null && echo x > /dev/null && echo fine",
        );
        contains(&printed.map_err(about)?, "fine")?;
        drop(target);
        // B1: nothing appears on the host.
        let after = std::fs::read("/proc/self/mountinfo")?;
        let ours = |bytes: &[u8]| {
            text(bytes)
                .lines()
                .filter(|line| line.contains("fuse.cntr"))
                .count()
        };
        same("mounts of the host", ours(&mounts), ours(&after))?;
    }
    Ok(())
}

fn processes_are_the_containers() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let printed = target.sh(
        &[],
        "echo $$; ls -d /proc/$$; cat /proc/1/comm; ps -e -o comm=; ls /dev; ls /sys | head -1",
    )?;
    contains(&printed, "sleep\n")?;
    let shell: u32 = printed.lines().next().unwrap_or_default().parse()?;
    contains(&printed, &format!("/proc/{shell}"))?;
    if shell > 100 || printed.contains("systemd") || printed.contains("attach") {
        return Err(format!("processes of the host: {printed}").into());
    }
    contains(&printed, "urandom")
}

fn users_equal_the_targets() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--user", "1000:1001"])?;
    same(
        "ids",
        target.sh(&[], "id -u; id -g; id -G")?,
        "1000\n1001\n1001\n".to_owned(),
    )?;
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid", "12", "--regid", "34", "--groups", "56,78", "sleep", "1000",
    ]);
    let target = Target::by_hand(&mut command, "sleep")?;
    same(
        "ids",
        target.sh(&[], "id -u; id -g; id -G")?,
        "12\n34\n34 56 78\n".to_owned(),
    )
}

fn several_extents_and_a_single_id() -> Result<(), Failed> {
    let root = Rootfs::new();
    let maps: Vec<String> = (0..10)
        .map(|n| format!("--uid-map={}:{}:{}", n * 10, 200_000 + n * 100, 10))
        .collect();
    let options: Vec<&str> = maps
        .iter()
        .map(String::as_str)
        .chain(["--user", "95:3"])
        .collect();
    let target = Target::sleeping(&root, &options)?;
    same("ids", target.sh(&[], "id -u; id -g")?, "95\n3\n".to_owned())?;
    same(
        "map",
        target.sh(&[], "cat /proc/self/uid_map | wc -l")?.trim(),
        "10",
    )?;
    // One id, setgroups denied, and a supplementary group that is not mapped.
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid", "65534", "--regid", "65534", "--groups", "4321", "unshare", "-U", "-r", "sleep",
        "1000",
    ]);
    let target = Target::by_hand(&mut command, "sleep")?;
    same("ids", target.sh(&[], "id -u; id -g")?, "0\n0\n".to_owned())?;
    let groups = |text: String| {
        text.lines()
            .find(|line| line.starts_with("Groups"))
            .map(str::to_owned)
    };
    let host = target.sh(&[], "cat /proc/self/setgroups; cat /proc/self/status")?;
    contains(&host, "deny")?;
    same(
        "groups",
        groups(host).map(|line| line.split_whitespace().count()),
        Some(2),
    )
}

fn cgroups_equal_the_targets() -> Result<(), Failed> {
    let root = Rootfs::new();
    let limits: &[&str] = if limits_work()? {
        &["--pids", "50"]
    } else {
        &[]
    };
    let target = Target::sleeping(&root, limits)?;
    let theirs = target.exec(&[], &["cat", "/proc/1/cgroup"])?;
    same(
        "cgroup",
        target.sh(&[], "cat /proc/self/cgroup")?,
        text(&theirs.stdout),
    )?;
    // One made by hand.
    in_own_group(|target, _| {
        same(
            "cgroup",
            target.sh(&[], "cat /proc/self/cgroup")?,
            target.proc("cgroup"),
        )?;
        contains(&target.proc("cgroup"), "cntr-test")
    })
}

/// Runs `test` with a process in a cgroup of its own, and that cgroup's directory, for v2 and for the freezer of v1:
/// where there are such hierarchies.
fn in_own_group(test: impl Fn(&Target, &Path) -> Result<(), Failed>) -> Result<(), Failed> {
    for (top, file) in [
        ("/sys/fs/cgroup/unified", "cgroup.controllers"),
        ("/sys/fs/cgroup", "cgroup.controllers"),
        ("/sys/fs/cgroup/freezer", "tasks"),
    ] {
        let group = PathBuf::from(format!("{top}/cntr-test-{}", crate::fake::unique()));
        if !Path::new(top).join(file).exists() || std::fs::create_dir(&group).is_err() {
            continue;
        }
        let script = format!(
            "echo 0 > {}/cgroup.procs && exec sleep 1000",
            group.display()
        );
        let result = Target::by_hand(Command::new("sh").args(["-c", &script]), "sleep")
            .and_then(|target| test(&target, &group));
        for _ in 0..1000 {
            if std::fs::remove_dir(&group).is_ok() {
                break;
            }
            std::thread::yield_now();
        }
        result?;
    }
    Ok(())
}

/// C2: a session that joined a frozen cgroup would never answer.
fn a_paused_container_is_refused() -> Result<(), Failed> {
    in_own_group(|target, group| {
        let v2 = group.join("cgroup.freeze").exists();
        let (file, stop, go) = if v2 {
            ("cgroup.freeze", "1", "0")
        } else {
            ("freezer.state", "FROZEN", "THAWED")
        };
        std::fs::write(group.join(file), stop)?;
        let outcomes = [target.attach(&[], &["true"]), target.exec(&[], &["true"])];
        std::fs::write(group.join(file), go)?;
        for output in outcomes {
            let output = output?;
            same("code", output.status.code(), Some(125))?;
            contains(&text(&output.stderr), "the container is paused; resume it")?;
        }
        same("resumed", target.sh(&[], "echo runs")?, "runs\n".to_owned())
    })
}

fn a_pids_limit_holds_for_the_session() -> Result<(), Failed> {
    if !limits_work()? {
        return skip("there is no pids controller");
    }
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--pids", "6"])?;
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 3 & done; true";
    let output = target.attach(&[], &["sh", "-c", script])?;
    contains(&text(&output.stderr), "fork")
}

/// A7.
fn a_memory_limit_holds_for_the_session() -> Result<(), Failed> {
    let root = Rootfs::new();
    let options = ["--memory", "48M"];
    let probe = cntr(&[&["run"][..], &options, &[root.path(), "--", "true"]].concat())?;
    if text(&probe.stderr).contains("hierarchy of this machine") {
        return skip("there is no memory controller");
    }
    // tail keeps all of it.
    let hog = [
        "sh",
        "-c",
        "head -c 200000000 /dev/zero | tail -c 150000000 > /dev/null",
    ];
    let free = Target::sleeping(&root, &[])?;
    same(
        "without a limit",
        free.attach(&[], &hog)?.status.code(),
        Some(0),
    )?;
    let limited = Target::sleeping(&root, &options)?;
    same(
        "with a limit",
        limited.attach(&[], &hog)?.status.code(),
        Some(137),
    )
}

/// A7: the session starts all the same, and is said to be without the limit.
fn cgroups_that_cannot_be_joined_are_reported() -> Result<(), Failed> {
    if !limits_work()? {
        return skip("there is no pids controller");
    }
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--pids", "50"])?;
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-path", "*/cntr-*/cgroup.procs"])
        .output()?;
    let found = text(&found.stdout);
    let ours = |path: &&str| {
        std::fs::read_to_string(path)
            .is_ok_and(|pids| pids.lines().any(|pid| pid == target.pid.to_string()))
    };
    let path = found
        .lines()
        .find(ours)
        .ok_or("the container is in no cgroup of its own")?;
    let script = format!(
        "mount --bind {path} {path} && mount -o remount,ro,bind {path} && exec {} attach {} -- echo runs",
        crate::fake::CNTR,
        target.pid
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script]);
    let output = crate::fake::finish(&mut command)?;
    let message = text(&output.stderr);
    same(&message, text(&output.stdout), "runs\n".to_owned())?;
    contains(&message, "cannot join cgroup ")?;
    contains(&message, "ead-only file system")?;
    contains(&message, "do not hold for the session")
}

fn capabilities(status: &str) -> Vec<String> {
    let wanted = |line: &&str| line.starts_with("Cap") || line.starts_with("NoNewPrivs");
    status.lines().filter(wanted).map(str::to_owned).collect()
}

fn capabilities_equal_the_targets() -> Result<(), Failed> {
    let shapes: [&[&str]; 6] = [
        &[],
        &["--caps", "all"],
        &["--caps", "none"],
        &["--caps", "none", "--no-new-privileges"],
        &["--userns", "--caps", "all"],
        &["--user", "1000"],
    ];
    for options in shapes {
        let root = Rootfs::new();
        let target = Target::sleeping(&root, options)?;
        let session = target.sh(&[], "cat /proc/self/status")?;
        same(
            &format!("{options:?}"),
            capabilities(&session),
            capabilities(&target.proc("status")),
        )?;
    }
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--caps", "none"])?;
    let output = target.attach(&[], &["mknod", "/var/lib/cntr/tmp/node", "c", "1", "3"])?;
    same("mknod", output.status.success(), false)
}

/// A8, for sets that differ from each other, and the highest capability.
fn every_capability_set_is_taken_over() -> Result<(), Failed> {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    let last = format!("+cap_{}", last.trim());
    let user = ["--reuid", "1000", "--regid", "1000", "--clear-groups"];
    let shapes: [&[&str]; 6] = [
        &[
            "--inh-caps",
            "+net_raw,+chown",
            "--ambient-caps",
            "+net_raw",
        ],
        &["--inh-caps", &last, "--ambient-caps", &last],
        &["--bounding-set", "-all,+kill", "--inh-caps", "-all"],
        &["--bounding-set", "-sys_ptrace", "--nnp"],
        // Root: with less than everything, and with something that is inherited.
        &[
            "--bounding-set",
            "-sys_ptrace,-sys_boot",
            "--inh-caps",
            "-all",
        ],
        &["--inh-caps", "+net_raw"],
    ];
    for (at, options) in shapes.iter().enumerate() {
        let ids: &[&str] = if at < 4 { &user } else { &[] };
        let mut command = Command::new("setpriv");
        command.args(ids).args(*options).args(["sleep", "1000"]);
        let target = Target::by_hand(&mut command, "sleep")?;
        for verb in [Target::attach, Target::exec] {
            let session = verb(&target, &[], &["cat", "/proc/self/status"])?;
            same(
                &format!("{options:?}"),
                capabilities(&text(&session.stdout)),
                capabilities(&target.proc("status")),
            )?;
        }
    }
    Ok(())
}

/// They cannot be read from outside; those that the set-up needs are not left.
fn securebits_are_the_default() -> Result<(), Failed> {
    let root = Rootfs::new();
    for options in [&[][..], &["--userns"], &["--user", "1000"]] {
        let target = Target::sleeping(&root, options)?;
        contains(&target.sh(&[], "setpriv --dump")?, "Securebits: [none]")?;
    }
    Ok(())
}

/// A10: what is not taken over is told, and what is.
fn limits_and_seccomp_are_said() -> Result<(), Failed> {
    let mut command = Command::new("prlimit");
    command.args(["--nofile=100:200", "--core=0:0", "sleep", "1000"]);
    let target = Target::by_hand(&mut command, "sleep")?;
    let notes = text(&target.attach(&["-v"], &["true"])?.stderr);
    contains(&notes, "the target's limits: ")?;
    contains(&notes, "open files 100 of 200")?;
    contains(&notes, "core file size 0,")?;
    contains(&notes, "the target has no seccomp filter")?;
    // A filter that lets everything pass.
    let script = "\
import ctypes, os, struct
class Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
libc = ctypes.CDLL(None)
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
program = Program(1, ctypes.cast(code, ctypes.c_void_p))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execlp('sleep', 'sleep', '1000')
";
    let target = Target::by_hand(Command::new("python3").args(["-c", script]), "sleep")?;
    let output = target.attach(&["-v"], &["cat", "/proc/self/status"])?;
    contains(&text(&output.stderr), "the target's seccomp filter (mode 2")?;
    contains(&text(&output.stderr), "is not taken over")?;
    contains(&text(&output.stdout), "Seccomp:\t0\n")
}

/// Whether the kernel labels processes.
fn has_labels() -> Result<bool, Failed> {
    let apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|enabled| enabled.starts_with('Y'));
    Ok(apparmor || std::fs::read_to_string("/proc/filesystems")?.contains("selinuxfs"))
}

/// A9: where cntr sees a profile, and the kernel does not take it. The kernel here has none, so the profile is a file mounted
/// over the process's own.
fn a_label_that_cannot_be_given_ends_the_session() -> Result<(), Failed> {
    if has_labels()? {
        return skip("this kernel has AppArmor or SELinux");
    }
    let root = Rootfs::new();
    root.write("profile", "docker-default (enforce)\n");
    let target = Target::sleeping(&root, &[])?;
    let run = |options: &str| {
        let script = format!(
            "mount -t tmpfs none /sys/module && mkdir -p /sys/module/apparmor/parameters && \
             echo Y > /sys/module/apparmor/parameters/enabled && \
             mount --bind {root}/profile /proc/{pid}/attr/current && \
             exec {cntr} attach -v {options} {pid} -- echo runs",
            root = root.path(),
            pid = target.pid,
            cntr = crate::fake::CNTR,
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-e", "-c", &script]);
        crate::fake::finish(&mut command)
    };
    let refused = run("")?;
    same(&format!("{refused:?}"), refused.status.code(), Some(125))?;
    let message = text(&refused.stderr);
    contains(
        &message,
        "cannot take over the security labels (AppArmor \"docker-default\")",
    )?;
    contains(&message, "--apparmor off leaves")?;
    let planned = run("--dry-run")?;
    contains(&text(&planned.stdout), "AppArmor docker-default")?;
    let off = run("--apparmor off")?;
    same(&format!("{off:?}"), text(&off.stdout), "runs\n".to_owned())
}

/// A9, on a kernel that has neither AppArmor nor SELinux: what the labels themselves do is tested beside the code.
fn labels_of_a_kernel_without_them_change_nothing() -> Result<(), Failed> {
    if has_labels()? {
        return skip("this kernel has AppArmor or SELinux");
    }
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    for verb in [Target::attach, Target::exec] {
        for options in [&[][..], &["--apparmor", "off", "--selinux", "off"]] {
            let output = verb(&target, options, &["true"])?;
            same("errors", text(&output.stderr), String::new())?;
            same("code", output.status.code(), Some(0))?;
        }
        for (option, module) in [("--apparmor", "AppArmor"), ("--selinux", "SELinux")] {
            let output = verb(&target, &[option, "some-label"], &["true"])?;
            same("code", output.status.code(), Some(125))?;
            contains(
                &text(&output.stderr),
                &format!("this kernel has no {module}"),
            )?;
        }
    }
    Ok(())
}

fn limits_are_taken_over() -> Result<(), Failed> {
    let mut command = Command::new("prlimit");
    command.args(["--nofile=100:200", "--core=0:0", "sleep", "1000"]);
    let target = Target::by_hand(&mut command, "sleep")?;
    std::fs::write(format!("/proc/{}/oom_score_adj", target.pid), "321")?;
    let limits = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with("Limit"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    same(
        "limits",
        limits(&target.sh(&[], "cat /proc/self/limits")?),
        limits(&target.proc("limits")),
    )?;
    same(
        "oom_score_adj",
        target.sh(&[], "cat /proc/self/oom_score_adj")?.trim(),
        "321",
    )
}

/// D2.
fn exec_equals_the_container() -> Result<(), Failed> {
    let root = Rootfs::new();
    root.write("srv/here", "");
    let options = [
        "--hostname",
        "box",
        "--env",
        "ONLY=here",
        "--workdir",
        "/srv",
        "--user",
        "1000:1000",
    ];
    let target = Target::sleeping(&root, &options)?;
    let script =
        "hostname; pwd; id -u; echo $ONLY; ls /; ls; cat /proc/self/cgroup; ls /proc/self/fd";
    let output = target.exec(&[], &["sh", "-c", script])?;
    let printed = text(&output.stdout);
    contains(&printed, "box\n/srv\n1000\nhere\nbin\n")?;
    contains(&printed, ":/\n")?;
    contains(&printed, "\n0\n1\n2\n")?;
    let session = target.exec(&[], &["cat", "/proc/self/environ"])?;
    same("environment", text(&session.stdout), target.proc("environ"))?;
    same(
        "exit",
        target.exec(&[], &["sh", "-c", "exit 42"])?.status.code(),
        Some(42),
    )?;
    same(
        "not found",
        target.exec(&[], &["nothing"])?.status.code(),
        Some(127),
    )?;
    let plain = cntr(&["exec", &target.pid.to_string(), "sh", "-c", "exit 43"])?;
    same("without a dash", plain.status.code(), Some(43))?;
    // Inside a session, without a target.
    for options in [&[][..], &["--caps", "none"], &["--user", "1000"]] {
        let target = Target::sleeping(&root, options)?;
        let script = format!(
            "cd /; {} exec -- sh -c 'ls /bin/busybox; pwd; exit 42'",
            crate::fake::CNTR
        );
        let output = target.attach(&[], &["sh", "-c", &script])?;
        same(
            &format!("{options:?} {output:?}"),
            output.status.code(),
            Some(42),
        )?;
        contains(&text(&output.stdout), "/bin/busybox\n/\n")?;
    }
    Ok(())
}

/// D1.
fn unknown_targets_are_refused() -> Result<(), Failed> {
    for verb in ["attach", "exec"] {
        let output = cntr(&[verb, "4194303", "--", "true"])?;
        same("code", output.status.code(), Some(125))?;
        contains(&text(&output.stderr), "there is no such process")?;
    }
    let threads = std::fs::read_dir("/proc")?.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let status = std::fs::read_to_string(format!("/proc/{name}/status")).ok()?;
        status.contains("Kthread:\t1").then_some(name)
    });
    if let Some(thread) = threads.last() {
        let output = cntr(&["attach", &thread, "--", "true"])?;
        same("code", output.status.code(), Some(125))?;
        contains(&text(&output.stderr), "a thread of the kernel")?;
    }
    let named = cntr(&["attach", "no-such-container", "--", "true"])?;
    same("code", named.status.code(), Some(125))?;
    contains(
        &text(&named.stderr),
        "no-such-container: no container or process is called that",
    )?;
    let outside = cntr(&["exec", "--", "true"])?;
    same("code", outside.status.code(), Some(125))?;
    contains(&text(&outside.stderr), "no session")
}
