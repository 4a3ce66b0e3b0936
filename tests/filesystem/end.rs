//! How a mount ends, at any moment and whatever ends it.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rustix::mount::{UnmountFlags, unmount};

use crate::support::backing::Kind;
use crate::support::load::Load;
use crate::support::mount::Mount;
use crate::support::mountinfo;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, peer};
use crate::support::{rootless, wait};

const CLIENTS: usize = 8;

pub fn add(suite: &mut Suite) {
    suite.test("unmount_ends_the_server", unmounted);
    for (name, signal) in [
        ("sigterm", Signal::SIGTERM),
        ("sigint", Signal::SIGINT),
        ("sigkill", Signal::SIGKILL),
    ] {
        suite.test(format!("{name}_under_load"), move || signalled(signal));
    }
    suite.test("abort_under_load", aborted);
    suite.test("lazy_unmount_under_load", lazily);
    suite.test("not_connected_at_once_after_sigkill", not_connected);
    suite.test("server_survives_what_clients_do", survives);
    suite.test("a_server_in_the_background_has_a_name", background);
    suite.test("a_mount_may_be_killed_while_it_starts", killed_early);
}

fn with_server() -> Result<Mount> {
    if peer() == Peer::Bind {
        return Err(Skip::new("a bind mount has no server").into());
    }
    Mount::new(Kind::Ext4, &[])
}

fn unmounted() -> Result<()> {
    let mut mount = with_server()?;
    fs::write(mount.at("file"), "text")?;
    unmount(mount.path(), UnmountFlags::empty())?;
    let status = mount
        .server()
        .context("there is a server")?
        .wait(wait::LONG);
    ensure!(status.is_some_and(|status| status.success()), "{status:?}");
    ensure!(fs::read(mount.host("file"))? == b"text");
    mount.close()
}

fn background() -> Result<()> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("is about this server").into());
    }
    let (source, point) = (tempfile::tempdir()?, tempfile::tempdir()?);
    fs::write(source.path().join("file"), "text")?;
    let started = Command::new(rootless::binary())
        .args(["mount", "--daemonize"])
        .args([source.path(), point.path()])
        .stdin(Stdio::null())
        .status()?;
    ensure!(started.success(), "{started}");
    // It can be used at once, and ps(1) and pgrep(1) find it.
    let read = fs::read(point.path().join("file"));
    let servers = || -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for process in fs::read_dir("/proc")? {
            let process = process?.path();
            let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
            let mut arguments = arguments.split(|byte| *byte == 0);
            if arguments.next() == Some(b"cntr")
                && arguments.any(|argument| argument == point.path().as_os_str().as_bytes())
                && fs::read_to_string(process.join("comm"))? == "cntr\n"
            {
                found.push(process);
            }
        }
        Ok(found)
    };
    let running = servers();
    unmount(point.path(), UnmountFlags::empty())?;
    ensure!(read? == b"text");
    let running = running?;
    ensure!(running.len() == 1, "servers: {running:?}");
    ensure!(
        wait::until(wait::LONG, || !running[0].exists()),
        "{} is still there",
        running[0].display()
    );
    Ok(())
}

/// A server that looks something up in its own mount and is killed then never ends.
fn killed_early() -> Result<()> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("is about this server").into());
    }
    let (source, point) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut random = fastrand::Rng::with_seed(4);
    let mut mounted = 0;
    for _ in 0..120 {
        let mut server = Command::new(rootless::binary())
            .arg("mount")
            .args([source.path(), point.path()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_micros(random.u64(500..9_000)));
        server.kill()?;
        let mut status = None;
        let ended = wait::until(wait::LONG, || {
            status = server.try_wait().ok().flatten();
            status.is_some()
        });
        ensure!(ended, "process {} cannot be killed", server.id());
        // The process that attaches the mount may just be doing so.
        std::thread::sleep(Duration::from_millis(1));
        while mountinfo::at(point.path()).is_some() {
            mounted += 1;
            unmount(point.path(), UnmountFlags::DETACH)?;
        }
    }
    ensure!(
        mounted > 0,
        "not one of the mounts was there before its server was killed"
    );
    // Nothing was mounted after it was looked for last.
    std::thread::sleep(Duration::from_millis(20));
    ensure!(mountinfo::at(point.path()).is_none(), "mounted late");
    Ok(())
}

fn signalled(signal: Signal) -> Result<()> {
    for _ in 0..3 {
        let mut mount = with_server()?;
        let load = Load::start(mount.path(), CLIENTS);
        load.wait(2000)?;
        let point = mount.path().to_owned();
        mount.expect_broken();
        let server = mount.server().context("there is a server")?;
        server.signal(signal);
        ensure!(
            server.wait(wait::LONG).is_some(),
            "the server survives {signal}: {}",
            server.log()
        );
        if signal == Signal::SIGKILL {
            load.wait_for_errors()?;
        } else {
            // It takes its mount with it: nobody is left with an unusable one.
            let gone = wait::until(wait::LONG, || mountinfo::at(&point).is_none());
            ensure!(gone, "still mounted after {signal}");
        }
        load.stop()?;
        mount.close()?;
    }
    Ok(())
}

fn aborted() -> Result<()> {
    let mut mount = with_server()?;
    let load = Load::start(mount.path(), CLIENTS);
    load.wait(2000)?;
    mount.expect_broken();
    mount.connection().context("there is a connection")?.abort();
    load.wait_for_errors()?;
    load.stop()?;
    let ended = mount
        .server()
        .context("there is a server")?
        .wait(wait::LONG);
    ensure!(
        ended.is_some(),
        "the server waits for requests of an aborted connection"
    );
    mount.close()
}

fn lazily() -> Result<()> {
    let mut mount = with_server()?;
    let kept = {
        fs::write(mount.at("kept"), "text")?;
        File::open(mount.at("kept"))?
    };
    let load = Load::start(mount.path(), CLIENTS);
    load.wait(2000)?;
    unmount(mount.path(), UnmountFlags::DETACH)?;
    // What is open goes on working; the names are gone.
    let mut text = [0; 4];
    kept.read_exact_at(&mut text, 0)?;
    ensure!(&text == b"text");
    load.stop()?;
    ensure!(
        mount
            .server()
            .context("there is a server")?
            .ended()
            .is_none(),
        "the server ended with a file still open"
    );
    drop(kept);
    let status = mount
        .server()
        .context("there is a server")?
        .wait(wait::LONG);
    ensure!(status.is_some_and(|status| status.success()), "{status:?}");
    // The load made these in the empty mount point after the unmount.
    for entry in fs::read_dir(mount.path())? {
        fs::remove_dir_all(entry?.path())?;
    }
    mount.close()
}

fn not_connected() -> Result<()> {
    let mut mount = with_server()?;
    fs::write(mount.at("file"), "text")?;
    let open = File::open(mount.at("file"))?;
    mount.expect_broken();
    let server = mount.server().context("there is a server")?;
    server.signal(Signal::SIGKILL);
    ensure!(server.wait(wait::LONG).is_some());
    let start = Instant::now();
    // Over io_uring the kernel notices some 50 ms later; requests that are under way until then get ECONNABORTED, or
    // ECANCELED if they were about to be handed to a thread that has just died.
    let mut odd = None;
    let noticed = wait::until(Duration::from_secs(1), || {
        let error = fs::metadata(mount.at("new")).err();
        match error.as_ref().and_then(std::io::Error::raw_os_error) {
            Some(libc::ENOTCONN) => true,
            Some(libc::ECONNABORTED | libc::ECANCELED) => false,
            _ => {
                odd = Some(error);
                true
            }
        }
    });
    ensure!(odd.is_none(), "{odd:?}");
    ensure!(
        noticed,
        "the kernel does not notice that the server is dead"
    );
    ensure!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    for result in [
        fs::metadata(mount.at("new")).map(drop),
        File::create(mount.at("new")).map(drop),
        fs::read_dir(mount.path()).map(drop),
    ] {
        ensure!(
            result
                .as_ref()
                .is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN)),
            "{result:?}"
        );
    }
    ensure!(
        start.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        start.elapsed()
    );
    drop(open);
    mount.close()
}

fn survives() -> Result<()> {
    let mut mount = with_server()?;
    // Each is an unusual request; the server answers with an error or a result and goes on.
    for name in ["a/b/c", &"x".repeat(300), "..", ".", "nowhere/"] {
        let _ = fs::metadata(mount.at(name));
        let _ = fs::create_dir(mount.at(name));
        let _ = fs::remove_dir(mount.at(name));
        let _ = fs::read_link(mount.at(name));
    }
    let file = File::create(mount.at("file"))?;
    let _ = file.set_len(i64::MAX.cast_unsigned());
    let _ = file.write_at(b"x", i64::MAX.cast_unsigned() - 1);
    let _ = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(u64::MAX >> 1));
    let _ = rustix::fs::setxattr(
        mount.at("file"),
        "user.large",
        &[0; 65536],
        rustix::fs::XattrFlags::empty(),
    );
    let _ = rustix::io::ioctl_fionread(&file);
    drop(file);
    ensure!(
        mount
            .server()
            .context("there is a server")?
            .ended()
            .is_none(),
        "the server died"
    );
    fs::write(mount.at("after"), "text")?;
    mount.close()
}
