//! D4: an ordinary user in containers of their own, and what such a user cannot do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{CNTR, Rootfs, Target, contains, finish, same, skip, text, unique};

pub const CASES: &[Case] = crate::cases! {
    in_a_container_of_unshare needs "setpriv", "unshare", "nsenter";
    without_a_mount_namespace_of_its_own needs "setpriv", "unshare", "nsenter";
    in_a_container_of_bubblewrap needs "bwrap", "setpriv", "nsenter";
    bubblewrap_without_proc_and_dev needs "bwrap", "setpriv", "nsenter";
    ids_of_a_container_that_keeps_the_users needs "setpriv", "unshare", "nsenter";
    ids_of_a_container_that_lacks_the_users needs "setpriv", "unshare", "nsenter";
    host_files_are_the_users needs "setpriv", "unshare", "nsenter";
    cntr_cannot_be_looked_into needs "setpriv", "unshare", "nsenter", "strace";
    what_takes_privilege_on_the_host_is_said needs "setpriv", "unshare", "nsenter";
    terminals_work needs "setpriv", "unshare", "nsenter", "setsid", "stty";
    the_end_is_not_waited_for needs "setpriv", "unshare", "nsenter";
    what_the_user_may_not_is_named needs "setpriv", "unshare", "nsenter";
    file_capabilities_open_the_containers_of_others needs "setpriv", "nsenter", "setcap";
    file_capabilities_are_for_nothing_else needs "setpriv", "unshare", "nsenter", "setcap";
    doctor_says_what_the_user_can_do needs "setpriv", "nsenter", "setcap";
    nothing_is_left_when_a_step_fails needs "setpriv", "unshare", "nsenter";
};

use crate::terminal::Terminal;

/// The ordinary user: no entry of passwd is needed.
const USER: u32 = 4711;

/// Ids such as newuidmap(1) gives to users.
const SUBORDINATE: u32 = 1_000_000;

/// An ordinary user who may open `/dev/fuse`, which not every machine lets one: in a mount namespace that has a node of
/// its own there.
struct User {
    keeper: Child,
    directory: PathBuf,
}

impl User {
    fn new() -> Result<User, Failed> {
        let directory = std::env::temp_dir().join(format!("cntr-user-{}", unique()));
        fs::create_dir(&directory)?;
        // The directory for temporary files may be one without devices.
        let script = "mount -t tmpfs -o mode=755 cntr-test \"$1\" && mknod -m 666 \"$1/fuse\" c 10 229 && \
                      mount --bind \"$1/fuse\" /dev/fuse && cp \"$2\" \"$1/cntr\" && chmod 755 \"$1/cntr\" && \
                      mkdir -m 755 \"$1/home\" && chown \"$3:$3\" \"$1/home\" && echo ready && exec sleep 1000";
        let mut keeper = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&directory)
            .arg(CNTR)
            .arg(USER.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = keeper.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let user = User { keeper, directory };
        same("the user's mounts", line.trim(), "ready")?;
        Ok(user)
    }

    /// Runs something as the user. It has the number of the process that this starts.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--target", &self.keeper.id().to_string(), "--"])
            .args(["setpriv", "--reuid", &USER.to_string()])
            .args(["--regid", &USER.to_string(), "--clear-groups", program])
            .env("HOME", self.directory.join("home"));
        command
    }

    fn program(&self) -> String {
        format!("{}/cntr", self.directory.display())
    }

    fn cntr(&self, arguments: &[&str]) -> Result<Output, Failed> {
        finish(self.command(&self.program()).args(arguments))
    }

    /// What `script` prints in a session in which nothing is wrong.
    fn sh(&self, target: &Target, options: &[&str], script: &str) -> Result<String, Failed> {
        let pid = target.pid.to_string();
        let output =
            self.cntr(&[&["attach"], options, &[&pid, "--", "sh", "-c", script]].concat())?;
        same("errors", text(&output.stderr), String::new())?;
        same("code", output.status.code(), Some(0))?;
        Ok(text(&output.stdout))
    }

    /// A process called `sleep` in namespaces that `unshare` makes with `options`.
    fn unshare(&self, options: &[&str]) -> Result<Target, Failed> {
        let mut command = self.command("unshare");
        Target::by_hand(command.args(options).args(["sleep", "1000"]), "sleep")
    }

    /// The same with a user namespace that has this map of users and groups, written by root as newuidmap(1) does.
    fn mapped(&self, options: &[&str], map: &str, then: &str) -> Result<Target, Failed> {
        let script =
            format!("until [ \"$(cat /proc/self/gid_map)\" ]; do :; done; {then} exec sleep 1000");
        let mut command = self.command("unshare");
        command
            .args(["--user", "--keep-caps"])
            .args(options)
            .args(["sh", "-c", &script])
            .stdin(Stdio::null());
        let child = command.spawn()?;
        let pid = child.id();
        let target = Target::adopt_child(child);
        let start = Instant::now();
        let host = fs::read_link("/proc/self/ns/user")?;
        while fs::read_link(format!("/proc/{pid}/ns/user"))? == host {
            if start.elapsed() > Duration::from_secs(10) {
                return Err("no user namespace was made".into());
            }
            std::thread::yield_now();
        }
        for kind in ["uid", "gid"] {
            fs::write(format!("/proc/{pid}/{kind}_map"), map)?;
        }
        target.wait_for("sleep")
    }

    /// Gives the program file capabilities.
    fn give(&self, capabilities: &str) -> Result<(), Failed> {
        let mut command = Command::new("nsenter");
        command.args([
            "--mount",
            "--target",
            &self.keeper.id().to_string(),
            "--",
            "setcap",
        ]);
        let output = finish(command.args([capabilities, &self.program()]))?;
        same("setcap", text(&output.stderr), String::new())
    }

    /// A root directory that the user owns.
    fn rootfs(&self) -> Result<Rootfs, Failed> {
        let root = Rootfs::new();
        let list = Command::new("find").arg(&root.0).output()?;
        for path in text(&list.stdout).lines() {
            std::os::unix::fs::lchown(path, Some(USER), Some(USER))?;
        }
        Ok(root)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let _ = fs::remove_dir(&self.directory);
    }
}

/// What `readlink` says about a namespace of a process.
fn namespace(pid: i32, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap_or_default();
    link.display().to_string()
}

fn in_a_container_of_unshare() -> Result<(), Failed> {
    let user = User::new()?;
    let root = user.rootfs()?;
    let all = [
        "-Urmpuin",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--root",
    ];
    let target = user.unshare(&[&all[..], &[root.path()]].concat())?;
    let before = root.listing();
    // The shell and its tools are the host's: the container has no `id` that knows -Gn... but only busybox.
    let script = "id -u; id -g; cat /proc/1/comm; readlink /proc/self/ns/user /proc/self/ns/pid /proc/self/ns/net; \
                  grep -c only-in-the-container /etc/hosts; echo x >/dev/null; echo $?; ls bin/busybox";
    let expected = format!(
        "0\n0\nsleep\n{}\n{}\n{}\n1\n0\nbin/busybox\n",
        namespace(target.pid, "user"),
        namespace(target.pid, "pid"),
        namespace(target.pid, "net"),
    );
    same("session", user.sh(&target, &[], script)?, expected)?;
    let pid = target.pid.to_string();
    let code = user.cntr(&["attach", &pid, "--", "sh", "-c", "exit 42"])?;
    same("exit code", code.status.code(), Some(42))?;
    let own = user.cntr(&[
        "exec",
        &pid,
        "--",
        "sh",
        "-c",
        "id -u; ls /bin/busybox; pwd",
    ])?;
    same("exec", text(&own.stdout), "0\n/bin/busybox\n/\n".to_owned())?;
    same("the container", root.listing(), before)?;
    same(
        "mounts left",
        target.proc("mountinfo").contains("fuse"),
        false,
    )
}

/// `unshare -Ur` has nothing but a user namespace.
fn without_a_mount_namespace_of_its_own() -> Result<(), Failed> {
    let user = User::new()?;
    let target = user.unshare(&["-Ur"])?;
    let session = user.sh(
        &target,
        &[],
        "id -u; readlink /proc/self/ns/user; ls -d etc",
    )?;
    let users = namespace(target.pid, "user");
    same("session", session, format!("0\n{users}\netc\n"))?;
    let root = user.rootfs()?;
    let target = user.unshare(&["-Ur", "--root", root.path()])?;
    same(
        "chrooted",
        user.sh(&target, &[], "cat etc/passwd | wc -l; ls bin/busybox")?,
        "2\nbin/busybox\n".to_owned(),
    )?;
    let pid = target.pid.to_string();
    let own = user.cntr(&["exec", &pid, "--", "ls", "/bin/busybox"])?;
    same("exec", text(&own.stdout), "/bin/busybox\n".to_owned())
}

/// A process of bubblewrap in `root`; skipped where that cannot make any.
fn bubblewrap(user: &User, root: &Rootfs, options: &[&str]) -> Result<Option<Target>, Failed> {
    let tried =
        finish(
            user.command("bwrap")
                .args(["--unshare-all", "--bind", root.path(), "/", "true"]),
        )?;
    if !tried.status.success() {
        skip(format!(
            "bwrap does not work here: {}",
            text(&tried.stderr).trim()
        ))?;
        return Ok(None);
    }
    let mut command = user.command("bwrap");
    command.args([
        "--unshare-all",
        "--die-with-parent",
        "--bind",
        root.path(),
        "/",
    ]);
    Target::by_hand(command.args(options).args(["sleep", "1000"]), "sleep").map(Some)
}

fn in_a_container_of_bubblewrap() -> Result<(), Failed> {
    let user = User::new()?;
    let root = user.rootfs()?;
    let Some(target) = bubblewrap(&user, &root, &["--proc", "/proc", "--dev", "/dev"])? else {
        return Ok(());
    };
    let script = "id -u; readlink /proc/self/ns/user; cat /proc/self/status | grep CapEff; cat /proc/2/comm; echo x >/dev/null && ls bin/busybox";
    let expected = format!(
        "{USER}\n{}\nCapEff:\t0000000000000000\nsleep\nbin/busybox\n",
        namespace(target.pid, "user")
    );
    same("session", user.sh(&target, &[], script)?, expected)?;
    let pid = target.pid.to_string();
    let own = user.cntr(&["exec", &pid, "--", "sh", "-c", "id -u; exit 3"])?;
    same(
        "exec",
        (text(&own.stdout), own.status.code()),
        (format!("{USER}\n"), Some(3)),
    )
}

/// What the container lacks the session has, without privilege on the host: `/proc` of its pid namespace, a minimal `/dev`.
fn bubblewrap_without_proc_and_dev() -> Result<(), Failed> {
    let user = User::new()?;
    let root = user.rootfs()?;
    let Some(target) = bubblewrap(&user, &root, &[])? else {
        return Ok(());
    };
    let script = "cat /proc/2/comm; ls /proc | grep -c '^[0-9]' ; echo x >/dev/null && head -c 4 /dev/urandom | wc -c; ls /dev/pts/ptmx";
    let session = user.sh(&target, &[], script)?;
    let lines: Vec<&str> = session.lines().collect();
    same(
        "init and the devices",
        (lines[0], &lines[2..]),
        ("sleep", &["4", "/dev/pts/ptmx"][..]),
    )?;
    // None of the host's processes: the container's two and the session's few.
    if lines[1].parse::<u32>().map_err(|_| session.clone())? > 8 {
        return Err(format!("processes of the host are seen: {session}").into());
    }
    Ok(())
}

/// As `podman run --userns=keep-id`: the user is the user, root is somebody else.
fn ids_of_a_container_that_keeps_the_users() -> Result<(), Failed> {
    let user = User::new()?;
    let map = format!("0 {SUBORDINATE} {USER}\n{USER} {USER} 1\n");
    let home = user.directory.join("home");
    let private = home.join("private").display().to_string();
    finish(
        user.command("sh")
            .args(["-c", &format!("umask 077; echo secret >{private}")]),
    )?;
    let script = format!("id -u; stat -c %u {private}; cat {private}");
    // The user's own process, and one of the container's root.
    let target = user.mapped(&["--mount"], &map, "")?;
    same(
        "user",
        user.sh(&target, &[], &script)?,
        format!("{USER}\n{USER}\nsecret\n"),
    )?;
    let become_root = "setpriv --reuid 0 --regid 0 --clear-groups sleep 1000;";
    let target = user.mapped(&["--mount"], &map, &format!("exec {become_root}"))?;
    let root = user.sh(&target, &[], &format!("id -u; id -G; stat -c %u {private}"))?;
    same("root", root, format!("0\n0\n{USER}\n"))?;
    // What root makes belongs to whom root is on the host.
    let open = home.join("open").display().to_string();
    finish(
        user.command("sh")
            .args(["-c", &format!("mkdir -m 777 {open}")]),
    )?;
    user.sh(&target, &["--host", "rw"], &format!("touch {open}/file"))?;
    let seen = finish(
        user.command("stat")
            .args(["-c", "%u", &format!("{open}/file")]),
    )?;
    same(
        "on the host",
        text(&seen.stdout),
        format!("{SUBORDINATE}\n"),
    )
}

/// As `unshare --map-auto` alone: the user has no id there.
fn ids_of_a_container_that_lacks_the_users() -> Result<(), Failed> {
    let user = User::new()?;
    let map = format!("0 {SUBORDINATE} 65536\n");
    let become_root = "exec setpriv --reuid 0 --regid 0 --clear-groups sleep 1000;";
    let target = user.mapped(&["--mount"], &map, become_root)?;
    let pid = target.pid.to_string();
    let output = user.cntr(&["attach", &pid, "--", "sh", "-c", "id -u; ls -d /usr"])?;
    same("session", text(&output.stdout), "0\n/usr\n".to_owned())?;
    contains(
        &text(&output.stderr),
        "no id in the container's user namespace",
    )?;
    let own = user.cntr(&["exec", &pid, "--", "id", "-u"])?;
    same("exec", text(&own.stdout), "0\n".to_owned())?;
    // Where a user namespace above it has one, that is used.
    let outer = format!("0 {USER} 1\n1 {SUBORDINATE} 65536\n");
    let inner = "unshare --user --keep-caps --mount sh -c 'until [ \"$(cat /proc/self/gid_map)\" ]; do :; done; exec setpriv \
                 --reuid 0 --regid 0 --clear-groups sleep 1000' & \
                 for kind in uid gid; do until echo '0 1 1000' >/proc/$!/${kind}_map; do :; done; done 2>/dev/null; wait;";
    let target = user.mapped(&["--mount"], &outer, inner)?;
    let home = user.directory.join("home");
    let private = home.join("private").display().to_string();
    finish(
        user.command("sh")
            .args(["-c", &format!("umask 077; echo secret >{private}")]),
    )?;
    // As for a container of root with a user namespace: who is root outside is root inside.
    same(
        "nested",
        user.sh(&target, &[], &format!("id -u; cat {private}"))?,
        "0\nsecret\n".to_owned(),
    )
}

/// A mount made in the container's user namespace gives no access to files that the user does not have.
fn host_files_are_the_users() -> Result<(), Failed> {
    let user = User::new()?;
    let target = user.unshare(&["-Urm"])?;
    let files = tempfile::tempdir()?;
    fs::set_permissions(files.path(), fs::Permissions::from_mode(0o777))?;
    let file = |name: &str, owner: u32, mode: u32| -> Result<(), Failed> {
        let path = files.path().join(name);
        fs::write(&path, name)?;
        chown(&path, Some(owner), Some(owner))?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(mode),
        )?)
    };
    file("roots", 0, 0o600)?;
    file("others", 1234, 0o600)?;
    file("mine", USER, 0o600)?;
    file("readable", 0, 0o644)?;
    let script = format!(
        "cd {}; for file in roots others mine readable; do cat $file 2>/dev/null && echo; done; \
         for file in roots others mine readable; do (echo new >$file) 2>/dev/null && echo $file changed; done; \
         chmod 777 roots 2>/dev/null && echo chmod; chown 0 roots 2>/dev/null && echo chown; \
         mv roots gone 2>/dev/null && echo moved; true",
        files.path().display()
    );
    same(
        "read-only",
        user.sh(&target, &[], &script)?,
        "mine\nreadable\n".to_owned(),
    )?;
    // Renaming is up to the directory, which is open to everybody.
    let written = user.sh(
        &target,
        &["--host", "rw"],
        &script.replace("mv roots gone", "false"),
    )?;
    same(
        "read-write",
        written,
        "mine\nreadable\nmine changed\n".to_owned(),
    )?;
    same(
        "root's file",
        fs::read_to_string(files.path().join("roots"))?,
        "roots".to_owned(),
    )
}

/// The processes called `name` among the descendants of `pid`.
fn descendants(pid: u32, name: &str) -> Vec<u32> {
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|child| child.parse().ok());
    children
        .flat_map(|child: u32| {
            let comm = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            let mut found = descendants(child, name);
            if comm.trim() == name {
                found.push(child);
            }
            found
        })
        .collect()
}

/// A process of the container has CAP_SYS_PTRACE in its user namespace, which is the one that cntr has joined.
fn cntr_cannot_be_looked_into() -> Result<(), Failed> {
    let user = User::new()?;
    // Without a pid namespace it sees cntr.
    let target = user.unshare(&["-Urm"])?;
    let pid = target.pid.to_string();
    let mut child = user
        .command(&user.program())
        .args([
            "attach",
            &pid,
            "--",
            "sh",
            "-c",
            "echo ready; exec sleep 1000",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let start = Instant::now();
    // The shell has yet to become sleep.
    let session = loop {
        let found = descendants(child.id(), "sleep");
        if !found.is_empty() || start.elapsed() > Duration::from_secs(10) {
            break found;
        }
        std::thread::yield_now();
    };
    let (cntr, server) = (child.id(), descendants(child.id(), "cntr-server"));
    let look = |pid: u32| -> Result<String, Failed> {
        let script = "p=/proc/$1; head -c 1 $p/environ >/dev/null && echo environ; ls $p/root/ >/dev/null && echo root; \
                      ls $p/fd >/dev/null && echo fd; readlink $p/ns/mnt >/dev/null && echo ns; \
                      head -c 1 $p/maps >/dev/null && echo maps; (exec 3<$p/mem) && echo mem; \
                      timeout 1 strace -o /dev/null -p $1; [ $? = 124 ] && echo ptrace; grep CapEff /proc/self/status";
        let inside = [
            "--user",
            "--mount",
            "--preserve-credentials",
            "--target",
            &pid_of(&target),
        ]
        .map(str::to_owned);
        let output = finish(user.command("nsenter").args(inside).args([
            "sh",
            "-c",
            script,
            "sh",
            &pid.to_string(),
        ]))?;
        Ok(text(&output.stdout))
    };
    let looks: Result<Vec<String>, Failed> = [
        Some(cntr),
        server.first().copied(),
        session.first().copied(),
    ]
    .into_iter()
    .map(|pid| look(pid.ok_or("a process of the session is missing")?))
    .collect();
    let _ = child.kill();
    let _ = child.wait();
    let looks = looks?;
    same("started", line.trim(), "ready")?;
    let caps = "CapEff:\t000001ffffffffff\n";
    same("cntr", looks[0].as_str(), caps)?;
    same("its server", looks[1].as_str(), caps)?;
    // The session itself is a process of the container like any other: this shows that the looks are good for something.
    let all = format!("environ\nroot\nfd\nns\nmaps\nmem\nptrace\n{caps}");
    same("the session", looks[2].as_str(), all.as_str())
}

fn pid_of(target: &Target) -> String {
    target.pid.to_string()
}

/// A cgroup of root's; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    /// With the process `pid` in it; `None` if there are no cgroups here.
    fn of(pid: i32) -> Option<Cgroup> {
        [
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup",
        ]
        .iter()
        .map(|mount| Path::new(mount).join(format!("cntr-test-{}", unique())))
        .find_map(|path| {
            fs::create_dir(&path).ok()?;
            let cgroup = Cgroup(path);
            fs::write(cgroup.0.join("cgroup.procs"), pid.to_string()).ok()?;
            Some(cgroup)
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last process has been killed but may still be there.
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn what_takes_privilege_on_the_host_is_said() -> Result<(), Failed> {
    let user = User::new()?;
    let target = user.unshare(&["-Urm"])?;
    let pid = target.pid.to_string();
    let attach = |before: &str, script: &str| -> Result<(String, String), Failed> {
        let start = format!(
            "{before} exec {} -v attach {pid} -- sh -c '{script}'",
            user.program()
        );
        let output = finish(user.command("sh").args(["-c", &start]))?;
        same("code", output.status.code(), Some(0))?;
        Ok((text(&output.stdout), text(&output.stderr)))
    };
    let score = format!("/proc/{pid}/oom_score_adj");
    let (_, notes) = attach("echo 300 >/proc/self/oom_score_adj;", "true")?;
    contains(
        &notes,
        "OOM score 0 is not taken over: that takes CAP_SYS_RESOURCE",
    )?;
    let (_, notes) = attach("ulimit -n 900;", "true")?;
    contains(&notes, "cannot be raised to the target's")?;
    contains(&notes, "without CAP_SYS_RESOURCE: it is 900")?;
    fs::write(&score, "500")?;
    let (printed, notes) = attach("", "cat /proc/self/oom_score_adj")?;
    same("a higher score", printed, "500\n".to_owned())?;
    same("notes", notes.contains("OOM"), false)?;
    let Some(cgroup) = Cgroup::of(target.pid) else {
        return skip("no cgroup controllers here");
    };
    let (_, notes) = attach("", "true")?;
    contains(&notes, "WARN cannot join cgroup")?;
    contains(
        &notes,
        "that takes CAP_DAC_OVERRIDE on the host (sudo), or a delegated cgroup",
    )?;
    drop(target);
    drop(cgroup);
    Ok(())
}

fn terminals_work() -> Result<(), Failed> {
    let user = User::new()?;
    let root = user.rootfs()?;
    // One of the host's devpts, one of the session's own minimal /dev.
    for options in [
        &["-Urm"][..],
        &["-Urmpf", "--kill-child", "--root", root.path()],
    ] {
        let target = user.unshare(options)?;
        let pid = target.pid.to_string();
        let script = "stty size; test -t 0 && echo terminal; read line; echo got $line; kill -INT $$; sleep 5; exit 3";
        let mut command = user.command(&user.program());
        command.args(["attach", &pid, "--", "sh", "-c", script]);
        let mut terminal = Terminal::with(&command)?;
        terminal.expect("24 80\r\nterminal")?;
        terminal.type_in("a line\n")?;
        terminal.expect("got a line")?;
        same("code", terminal.code()?, Some(130))?;
    }
    Ok(())
}

/// As for root: over io_uring the kernel looks again after 50 ms if files are still being closed when a session is
/// unmounted.
fn the_end_is_not_waited_for() -> Result<(), Failed> {
    let user = User::new()?;
    let target = user.unshare(&["-Urm"])?;
    let pid = target.pid.to_string();
    let end = Instant::now() + crate::fake::deadline();
    let mut medians = Vec::new();
    // Beside other tests anything may take long for a while.
    while Instant::now() < end {
        let mut times = Vec::new();
        for _ in 0..9 {
            let start = Instant::now();
            let output = user.cntr(&["attach", &pid, "--", "true"])?;
            times.push(start.elapsed());
            same("exit code", output.status.code(), Some(0))?;
        }
        times.sort();
        if times[4] < Duration::from_millis(45) {
            return Ok(());
        }
        medians.push(times[4]);
    }
    Err(format!("entering, running true and leaving takes {medians:?}").into())
}

fn what_the_user_may_not_is_named() -> Result<(), Failed> {
    let user = User::new()?;
    let root = Rootfs::new();
    let roots = Target::sleeping(&root, &[])?;
    let shifted = Target::sleeping(&root, &["--userns"])?;
    let mut sleep = user.command("sleep");
    let plain = Target::by_hand(sleep.arg("1000"), "sleep")?;
    for (target, whose) in [
        (&roots, "it is root's"),
        (&shifted, "it is user"),
        (&plain, "it is in no user namespace of yours"),
    ] {
        for verb in ["attach", "exec"] {
            let output = user.cntr(&[verb, &target.pid.to_string(), "--", "true"])?;
            let message = text(&output.stderr);
            same("code", output.status.code(), Some(125))?;
            contains(&message, whose)?;
            contains(
                &message,
                "you lack CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_SYS_CHROOT; run it with sudo",
            )?;
            same("lines", message.lines().count(), 1)?;
        }
    }
    // Nothing is mapped: no file system can have owners there.
    let target = user.unshare(&["-Um"])?;
    let output = user.cntr(&["attach", &target.pid.to_string(), "--", "true"])?;
    same("code", output.status.code(), Some(125))?;
    contains(&text(&output.stderr), "maps no users or no groups")?;
    let own = user.cntr(&["exec", &target.pid.to_string(), "--", "echo", "fine"])?;
    same("exec", text(&own.stdout), "fine\n".to_owned())
}

/// What docs/security.md says the program has to be given.
const CAPABILITIES: &str = "cap_chown,cap_dac_override,cap_dac_read_search,cap_fowner,cap_fsetid,cap_kill,cap_setgid,\
                            cap_setuid,cap_setpcap,cap_sys_chroot,cap_sys_ptrace,cap_sys_admin";

fn file_capabilities_open_the_containers_of_others() -> Result<(), Failed> {
    let documented = include_str!("../../docs/security.md");
    contains(documented, &format!("setcap {CAPABILITIES}=p "))?;
    let user = User::new()?;
    user.give(&format!("{CAPABILITIES}=p"))?;
    let files = tempfile::tempdir()?;
    fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755))?;
    let made = files.path().join("made").display().to_string();
    for options in [&[][..], &["--userns"], &["--user", "1000:1000"]] {
        let root = Rootfs::new();
        let target = Target::sleeping(&root, options)?;
        let script = "id -u; readlink /proc/self/ns/user; cat /proc/1/comm; grep Cap /proc/self/status; ls bin/busybox";
        let session = user.sh(&target, &[], script)?;
        same("session", session, target.sh(&[], script)?)?;
        let pid = target.pid.to_string();
        let own = user.cntr(&["exec", &pid, "--", "sh", "-c", "id -u; exit 9"])?;
        same("exec", own.status.code(), Some(9))?;
        let expected = target.exec(&[], &["id", "-u"])?;
        same("exec", text(&own.stdout), text(&expected.stdout))?;
        // The user may end what runs as somebody else there.
        let mut child = user
            .command(&user.program())
            .args([
                "attach",
                &pid,
                "--",
                "sh",
                "-c",
                "echo ready; exec sleep 1000",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let killed = finish(
            user.command("kill")
                .args(["-TERM", &child.id().to_string()]),
        )?;
        if !killed.status.success() {
            let _ = child.kill();
        }
        let ended = child.wait()?;
        same(
            "killed",
            (killed.status.code(), ended.code()),
            (Some(0), Some(143)),
        )?;
    }
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let script = format!(
        "umask 027; echo x >{made}; chown 7:8 {made}; chmod 4710 {made}; stat -c '%u:%g %a' {made}"
    );
    same(
        "files",
        user.sh(&target, &[], &script)?,
        "7:8 4710\n".to_owned(),
    )
}

fn file_capabilities_are_for_nothing_else() -> Result<(), Failed> {
    let user = User::new()?;
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let pid = target.pid.to_string();
    let tools = user.directory.join("home/tools").display().to_string();
    let seen = user.directory.join("home/seen").display().to_string();
    let tool = format!(
        "mkdir -p {tools} && printf '#!/bin/sh\\ngrep -E \"Cap(Prm|Eff|Inh|Amb)\" /proc/self/status >>{seen}\\nexit 1\\n' \
         >{tools}/podman && chmod 755 {tools}/podman"
    );
    same(
        "tool",
        finish(user.command("sh").args(["-c", &tool]))?
            .status
            .code(),
        Some(0),
    )?;
    for set in ["=p", "+ep"] {
        user.give(&format!("{CAPABILITIES}{set}"))?;
        // The loader heeds nothing of the caller's.
        // By env(1): the programs before it would heed it.
        let preload = |command: &[&str]| {
            let mut env = user.command("env");
            finish(env.arg("LD_PRELOAD=/nothing/is/here.so").args(command))
        };
        let plain = preload(&["true"])?;
        contains(&text(&plain.stderr), "/nothing/is/here.so")?;
        let preload = preload(&[&user.program(), "attach", &pid, "--", "true"])?;
        same(
            "preload",
            (text(&preload.stderr), preload.status.code()),
            (String::new(), Some(0)),
        )?;
        // Mounting is up to root, whatever the program is called.
        let home = user.directory.join("home").display().to_string();
        for name in ["cntr", "mount.fuse.cntr"] {
            let mount = format!("exec -a {name} {} $@", user.program());
            let mut command = user.command("bash");
            command.args(["-c", &mount, "bash"]);
            if name == "cntr" {
                command.arg("mount");
            }
            let output = finish(command.args(["/etc", &home]))?;
            contains(&text(&output.stderr), "ot permitted")?;
            same(name, output.status.success(), false)?;
        }
        // The engines' tools are run as the caller.
        let path = format!("{tools}:{}", std::env::var("PATH").unwrap_or_default());
        let mut asking = user.command(&user.program());
        finish(
            asking
                .args(["attach", "podman://web", "--", "true"])
                .env("PATH", path),
        )?;
        let caps = finish(user.command("cat").arg(&seen))?;
        let none = "Cap: 0000000000000000";
        let caps = text(&caps.stdout)
            .replace("Inh", "")
            .replace("Prm", "")
            .replace("Eff", "")
            .replace("Amb", "");
        same(
            "tools",
            caps.replace('\t', " ").lines().all(|line| line == none),
            true,
        )?;
        same("tools ran", caps.is_empty(), false)?;
        // The user's own containers are entered as the user.
        let own = user.unshare(&["-Urm"])?;
        let script = "id -u; cat /etc/shadow 2>/dev/null || echo refused";
        same(
            "own container",
            user.sh(&own, &[], script)?,
            "0\nrefused\n".to_owned(),
        )?;
    }
    user.give(&format!(
        "{}=p",
        CAPABILITIES.replace(",cap_sys_ptrace", "")
    ))?;
    let output = user.cntr(&["attach", &pid, "--", "true"])?;
    same("code", output.status.code(), Some(125))?;
    contains(&text(&output.stderr), "the program lacks CAP_SYS_PTRACE")
}

fn doctor_says_what_the_user_can_do() -> Result<(), Failed> {
    let user = User::new()?;
    let output = user.cntr(&["doctor"])?;
    let said = text(&output.stdout);
    contains(&said, "sessions in your own containers")?;
    contains(&said, "protocol 7.")?;
    same("code", output.status.code(), Some(0))?;
    user.give(&format!("{CAPABILITIES}=p"))?;
    let output = user.cntr(&["doctor"])?;
    contains(
        &text(&output.stdout),
        "file capabilities: sessions in every container",
    )?;
    same("code", output.status.code(), Some(0))?;
    user.give(&format!("{}=p", CAPABILITIES.replace(",cap_setuid", "")))?;
    let output = user.cntr(&["doctor"])?;
    contains(
        &text(&output.stdout),
        "file capabilities without CAP_SETUID",
    )
}

/// The host's mounts, and what this test has in its own directory.
fn nothing_is_left_when_a_step_fails() -> Result<(), Failed> {
    let user = User::new()?;
    let root = user.rootfs()?;
    let target = user.unshare(&["-Urmpf", "--kill-child", "--root", root.path()])?;
    let pid = target.pid.to_string();
    for step in cntr::attach::step::Step::ALL {
        let output = user.cntr(&["attach", "--fail-at", step.name(), &pid, "--", "true"])?;
        same(step.name(), output.status.code(), Some(125))?;
        contains(&text(&output.stderr), "fault injected")?;
    }
    same(
        "mounts left",
        target.proc("mountinfo").contains("fuse"),
        false,
    )?;
    same("on the host", Path::new("/var/lib/cntr").exists(), false)
}
