//! C1, C3, C5 to C8: exit codes, pipes, signals, descriptors, environment.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cntr::sys::process::pidfd_open;
use libtest_mimic::Failed;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::fake::{CNTR, Rootfs, Target, contains, finish, same, text};

pub const CASES: &[Case] = crate::cases! {
    exit_codes_pass;
    pipes_are_binary_clean;
    archives_pass_through_pipes needs "tar";
    input_at_its_end_costs_nothing;
    background_processes_do_not_keep_the_session;
    signals_reach_the_command;
    the_end_of_the_server_is_noticed_at_once;
    the_end_of_the_server_under_load_blocks_nobody;
    the_end_of_cntr_ends_the_session;
    no_descriptor_leaks;
    the_environment_is_the_containers;
    variables_come_from_files;
    a_container_that_stops_ends_the_session;
    without_a_pid_namespace_the_session_goes_on needs "chroot";
};

/// C1.
fn exit_codes_pass() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    same(
        "exit",
        target.attach(&[], &["sh", "-c", "exit 42"])?.status.code(),
        Some(42),
    )?;
    same(
        "signal",
        target
            .attach(&[], &["sh", "-c", "kill -TERM $$"])?
            .status
            .code(),
        Some(143),
    )?;
    same(
        "real-time signal",
        target
            .attach(&[], &["sh", "-c", "kill -40 $$"])?
            .status
            .code(),
        Some(168),
    )?;
    let missing = target.attach(&[], &["no-such-command"])?;
    same("not found", missing.status.code(), Some(127))?;
    same("one line", text(&missing.stderr).lines().count(), 1)?;
    contains(&text(&missing.stderr), "no-such-command")?;
    let plain = target.attach(&[], &["/etc/passwd"])?;
    same("not executable", plain.status.code(), Some(126))?;
    same("one line", text(&plain.stderr).lines().count(), 1)?;
    // For an ordinary user of the container, with a directory in the path that only root may search.
    let hidden = tempfile::tempdir()?;
    let path = format!("PATH={}:/usr/bin:/bin", hidden.path().display());
    let user = Target::sleeping(&root, &["--user", "1000"])?;
    let missing = user.attach(&["--env", &path], &["no-such-command"])?;
    same("not found by a user", missing.status.code(), Some(127))?;
    let plain = user.attach(&[], &["/etc/passwd"])?;
    same("not executable", plain.status.code(), Some(126))?;
    same(
        "no advice that does not help",
        text(&plain.stderr).contains("as root"),
        false,
    )?;
    let failed = target.attach(&["--workdir", "/no/such/directory"], &["true"])?;
    same("cntr failed", failed.status.code(), Some(125))?;
    contains(&text(&failed.stderr), "/no/such/directory")
}

fn spawn(target: &Target, script: &str) -> Result<Child, Failed> {
    let pid = target.pid.to_string();
    let mut command = Command::new(CNTR);
    command.args(["attach", &pid, "--", "sh", "-c", script]);
    Ok(command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?)
}

/// Waits for the line `ready` of the command.
fn ready(child: &mut Child) -> Result<BufReader<std::process::ChildStdout>, Failed> {
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    if line.trim() != "ready" {
        let mut errors = String::new();
        child
            .stderr
            .take()
            .ok_or("no errors")?
            .read_to_string(&mut errors)?;
        return Err(format!("not ready: {line:?} {errors}").into());
    }
    Ok(output)
}

/// C3.
fn pipes_are_binary_clean() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    same(
        "bytes",
        target.attach(&[], &["printf", "a\\nb"])?.stdout,
        b"a\nb".to_vec(),
    )?;
    let mut child = spawn(&target, "cat")?;
    let block: Vec<u8> = (0..1_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut input = child.stdin.take().ok_or("no input")?;
    let mut output = child.stdout.take().ok_or("no output")?;
    const BLOCKS: usize = 100;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..BLOCKS {
                input.write_all(&block).expect("the session reads");
            }
            drop(input);
        });
        let mut got = vec![0; block.len()];
        for _ in 0..BLOCKS {
            output.read_exact(&mut got)?;
            if got != block {
                return Err(Failed::from("bytes have changed"));
            }
        }
        same("more", output.read(&mut got)?, 0)
    })?;
    same("code", child.wait()?.code(), Some(0))
}

/// C3: 100 MB, into the session and out of it.
fn archives_pass_through_pipes() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let size = 100_000_000_usize;
    let bytes: Vec<u8> = (0..size as u64)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::write(root.0.join("srv/big"), bytes)?;
    let attach = format!("{CNTR} attach {} --", target.pid);
    let script = format!(
        "set -e; cd {}/srv; tar c big | {attach} tar tv; tar c big | {attach} tar d -C /var/lib/cntr/srv; \
         {attach} tar c -C /var/lib/cntr/srv big | tar d; echo same",
        root.path()
    );
    let output = finish(Command::new("sh").args(["-c", &script]))?;
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    same(&printed, printed.lines().count(), 2)?;
    contains(&printed, &format!(" {size} "))?;
    contains(&printed, "\nsame\n")
}

fn input_at_its_end_costs_nothing() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let mut child = spawn(&target, "echo ready; sleep 0.5")?;
    drop(child.stdin.take());
    let _output = ready(&mut child)?;
    let ticks = |id: u32| -> u64 {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        fields[11..13]
            .iter()
            .filter_map(|field| field.parse::<u64>().ok())
            .sum()
    };
    let before = ticks(child.id());
    let mut spent = before;
    while child.try_wait()?.is_none() {
        spent = spent.max(ticks(child.id()));
        std::thread::sleep(Duration::from_millis(20));
    }
    // Spinning for half a second would be 50 ticks.
    if spent - before > 10 {
        return Err(format!("{} ticks of CPU for waiting", spent - before).into());
    }
    Ok(())
}

/// C5.
fn background_processes_do_not_keep_the_session() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let start = Instant::now();
    // Its output goes elsewhere, or this test would wait for it.
    let output = target.attach(&[], &["sh", "-c", "sleep 20 > /dev/null 2>&1 & exit 3"])?;
    same("code", output.status.code(), Some(3))?;
    if start.elapsed() > Duration::from_secs(10) {
        return Err("the session waited for a background process".into());
    }
    Ok(())
}

/// C6.
fn signals_reach_the_command() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    for (signal, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGQUIT, "QUIT"),
    ] {
        let script =
            format!("trap 'echo got; exit 7' {name}; echo ready; while :; do sleep 0.02; done");
        let mut child = spawn(&target, &script)?;
        let mut output = ready(&mut child)?;
        kill(Pid::from_raw(child.id().cast_signed()), signal)?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        same(name, (line.trim(), child.wait()?.code()), ("got", Some(7)))?;
    }
    Ok(())
}

/// The server of the session of `child`, and the number of its connection.
fn server_of(child: &Child) -> Result<(Pid, String), Failed> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
    let server = children.split_whitespace().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|comm| comm.trim() == "cntr-server")
    });
    let server: i32 = server.ok_or("no server")?.parse()?;
    let sockets = fs::read_to_string("/proc/net/unix")?;
    let end = format!(".{server}");
    let name = sockets
        .lines()
        .find(|line| line.ends_with(&end))
        .and_then(|line| line.rsplit("cntr.stat.").next());
    let connection = name
        .and_then(|name| name.split('.').next())
        .ok_or("no control socket")?;
    Ok((Pid::from_raw(server), connection.to_owned()))
}

fn gone(what: &str, path: &str) -> Result<(), Failed> {
    let start = Instant::now();
    while std::path::Path::new(path).exists() {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(format!("{what} is still there: {path}").into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn the_end_of_the_server_is_noticed_at_once() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    // The container's shell, in its directory: one of the host's would lose its own program text, and the path here leads through
    // the server, too.
    let script = "cd /var/lib/cntr/bin; exec ./sh -c 'echo ready; read line; exec 2>&1; read x < /usr/bin/env; ./busybox sleep 0.2; read x < /usr/bin/env; echo code $?'";
    let mut child = spawn(&target, script)?;
    let mut output = ready(&mut child)?;
    let (server, connection) = server_of(&child)?;
    let process = pidfd_open(server)?;
    kill(server, Signal::SIGKILL)?;
    // Requests that are under way until the kernel has noticed - at once on the classic transport, after some 50 ms over
    // io_uring - get ECONNABORTED or ECANCELED; every one after that ENOTCONN.
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    same("ended", poll(&mut fds, PollTimeout::from(10_000_u16))?, 1)?;
    let start = Instant::now();
    child.stdin.take().ok_or("no input")?.write_all(b"go\n")?;
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    contains(&rest, "endpoint is not connected")?;
    assert!(start.elapsed() < Duration::from_secs(1), "{rest}");
    child.wait()?;
    gone(
        "the connection",
        &format!("/sys/fs/fuse/connections/{connection}"),
    )
}

/// C6: processes that wait for the server when it is killed get an error; none is stuck.
fn the_end_of_the_server_under_load_blocks_nobody() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    // The container's busybox, which needs no server to go on.
    let walk = "/var/lib/cntr/bin/busybox find /usr /etc -type f > /dev/null 2>&1";
    let script = format!(
        "exec /var/lib/cntr/bin/sh -c 'for i in 1 2 3 4; do {walk} & done; echo ready; wait; echo all ended'"
    );
    let mut child = spawn(&target, &script)?;
    let mut output = ready(&mut child)?;
    let (server, _) = server_of(&child)?;
    kill(server, Signal::SIGKILL)?;
    let namespace = fs::read_link(format!("/proc/{}/ns/pid", target.pid))?;
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    contains(&rest, "all ended")?;
    child.wait()?;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        if fs::read_link(path.join("ns/pid")).is_ok_and(|other| other == namespace) {
            let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
            same(&stat, stat.contains(") D "), false)?;
        }
    }
    Ok(())
}

fn the_end_of_cntr_ends_the_session() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let mut child = spawn(&target, "echo ready; while :; do sleep 0.05; done")?;
    let _output = ready(&mut child)?;
    let (server, connection) = server_of(&child)?;
    child.kill()?;
    child.wait()?;
    gone("the server", &format!("/proc/{server}/fd"))?;
    gone(
        "the connection",
        &format!("/sys/fs/fuse/connections/{connection}"),
    )
}

fn no_descriptor_leaks() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    // A descriptor of the caller that is not close-on-exec.
    let pid = target.pid.to_string();
    let script = "exec 7< /etc/passwd; exec \"$0\" attach \"$1\" -- ls /proc/self/fd";
    let output = finish(Command::new("sh").args(["-c", script, CNTR, &pid]))?;
    same(
        "descriptors",
        text(&output.stdout),
        "0\n1\n2\n3\n".to_owned(),
    )
}

/// C7.
fn the_environment_is_the_containers() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(
        &root,
        &["--env", "OF_THE_CONTAINER=1", "--env", "LD_LIBRARY_PATH=/x"],
    )?;
    let pid = target.pid.to_string();
    let mut command = Command::new(CNTR);
    command
        .env("SECRET", "s")
        .env("PASSED", "p")
        .env("TERM", "vt52")
        .env("LC_TIME", "C")
        .env_remove("LANG");
    command.args([
        "attach",
        "--env",
        "PASSED",
        "--env",
        "SET=a=b",
        "--env",
        "NONE",
        "--workdir",
        "/usr",
        &pid,
        "--",
    ]);
    command.args(["sh", "-c", "env; echo in $(pwd)"]);
    let printed = text(&finish(&mut command)?.stdout);
    for line in [
        "OF_THE_CONTAINER=1",
        "PASSED=p",
        "SET=a=b",
        "TERM=vt52",
        "LC_TIME=C",
        "HOSTNAME=cntr",
        "in /usr",
    ] {
        same(
            line,
            printed.lines().filter(|other| *other == line).count(),
            1,
        )?;
    }
    for name in ["SECRET", "NONE", "LD_LIBRARY_PATH", "CARGO"] {
        same(
            name,
            printed
                .lines()
                .filter(|line| line.starts_with(name))
                .count(),
            0,
        )?;
    }
    let path = std::env::var("PATH")?;
    contains(&printed, &format!("PATH={path}\n"))
}

/// C8.
fn a_container_that_stops_ends_the_session() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let mut child = spawn(&target, "echo ready; while :; do sleep 0.05; done")?;
    let _output = ready(&mut child)?;
    kill(Pid::from_raw(target.pid), Signal::SIGKILL)?;
    same("code", child.wait()?.code(), Some(137))
}

/// C8, as docs/security.md has it.
fn without_a_pid_namespace_the_session_goes_on() -> Result<(), Failed> {
    let root = Rootfs::new();
    let mut command = Command::new("chroot");
    command.args([root.path(), "/bin/sleep", "1000"]);
    let target = Target::by_hand(&mut command, "sleep")?;
    let script = "echo ready; read line; cat /var/lib/cntr/etc/group; ls -d /usr; exit 8";
    let mut child = spawn(&target, script)?;
    let mut output = ready(&mut child)?;
    drop(target);
    child.stdin.take().ok_or("no input")?.write_all(b"go\n")?;
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    same("files", rest.as_str(), "root:x:0:\napp:x:1000:\n/usr\n")?;
    same("code", child.wait()?.code(), Some(8))
}

fn variables_come_from_files() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let pid = target.pid.to_string();
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().ok_or("an odd path")?;
    fs::write(
        path,
        "# for the test\nONE=1 \"quoted\"\nPASSED\nNONE\nTWO=from the file\n",
    )?;
    for verb in ["attach", "exec"] {
        let mut command = Command::new(CNTR);
        command.env("PASSED", "p").env_remove("NONE");
        // What --env says counts more, wherever it stands.
        command.args([
            verb,
            "--env",
            "TWO=2",
            "--env-file",
            path,
            &pid,
            "--",
            "env",
        ]);
        let printed = text(&finish(&mut command)?.stdout);
        for line in ["ONE=1 \"quoted\"", "PASSED=p", "TWO=2"] {
            let count = printed.lines().filter(|other| *other == line).count();
            same(&format!("{line} in {printed}"), count, 1)?;
        }
        same("NONE", printed.contains("NONE"), false)?;
    }
    fs::write(path, "GOOD=1\nBAD NAME=1\n")?;
    let wrong = target.attach(&["--env-file", path], &["true"])?;
    same("code", wrong.status.code(), Some(125))?;
    contains(
        &text(&wrong.stderr),
        &format!("{path}:2: the name of the variable"),
    )?;
    let missing = target.attach(&["--env-file", "/no/such/file"], &["true"])?;
    same("code", missing.status.code(), Some(125))?;
    contains(&text(&missing.stderr), "/no/such/file: No such file")
}
