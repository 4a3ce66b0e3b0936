//! Targets for real: they come up, are what they claim, go down and leave nothing behind, however their server behaves.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use perf::job::{Command, Control, Place, Size};
use perf::result::{Check, TargetKind, Verdict};
use perf::target::{Arena, Catalogue, Target, TargetError, Up, verify};
use tempfile::TempDir;

/// Why a test cannot run here.
#[derive(Debug)]
struct Skip(String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

fn skip<T>(reason: impl Into<String>) -> Result<T> {
    Err(Skip(reason.into()).into())
}

/// A backing directory and an arena.
struct Stage {
    arena: Option<Arena>,
    directory: TempDir,
}

impl Stage {
    fn new() -> Result<Stage> {
        let directory = tempfile::Builder::new()
            .prefix("perf-test-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()?;
        let mut stage = Stage {
            directory,
            arena: None,
        };
        fs::create_dir_all(stage.host())?;
        stage.arena = Some(Arena::new(
            stage.work(),
            stage.path("backing"),
            Control::none(),
        )?);
        Ok(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn work(&self) -> PathBuf {
        self.path("work")
    }

    fn host(&self) -> PathBuf {
        self.path("backing/host")
    }

    fn arena(&self) -> &Arena {
        self.arena.as_ref().expect("only the end takes it")
    }

    fn up(&self, target: &Target, instances: usize) -> Result<Up> {
        available(target)?;
        Ok(target.up(self.arena(), &self.host(), instances, &Control::none())?)
    }

    /// A target of a file with this server, which is `sh` with the script, the source and the mount point.
    fn script(&self, script: &str, further: &str) -> Result<Target> {
        let file = self.path("mine.toml");
        let text = format!(
            "[[target]]\nname = 'mine'\nabout = 'a script'\nkind = 'mount'\nprogram = 'sh'\n\
             command = ['{{program}}', '-c', '''{script}''', 'server', '{{source}}', '{{mountpoint}}', '{{cntr}}']\n{further}\n"
        );
        fs::write(&file, text)?;
        let catalogue = Catalogue::load(&[file], &engine())?;
        Ok(catalogue.select(&["mine".to_owned()])?.remove(0))
    }

    /// Ends the arena; nothing may be left.
    fn end(mut self) -> Result<()> {
        self.arena.take().expect("once").end()?;
        self.nothing_left()
    }

    fn nothing_left(&self) -> Result<()> {
        let base = self.directory.path();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let base_text = base
            .to_str()
            .context("the temporary directory is not UTF-8")?;
        if let Some(line) = mounts.lines().find(|line| line.contains(base_text)) {
            bail!("still mounted: {line}");
        }
        for entry in fs::read_dir("/proc")?.flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            ensure!(!command.contains(base_text), "still runs: {command}");
        }
        let left: Vec<OsString> = [self.work(), self.path("backing")]
            .iter()
            .flat_map(fs::read_dir)
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name != "host")
            .collect();
        let of_host: Vec<_> = fs::read_dir(self.host())?.flatten().collect();
        // Mount points go when their target does, the directory that holds them with the arena.
        if self.arena.is_none() {
            ensure!(left.is_empty(), "left: {left:?}");
        } else if let [scratch] = &left[..] {
            let inside = fs::read_dir(self.work().join(scratch))?.count();
            ensure!(inside == 0, "{inside} mount points are left");
        }
        ensure!(of_host.is_empty(), "left in the directory: {of_host:?}");
        Ok(())
    }
}

fn catalogue() -> Catalogue {
    Catalogue::load(&[], &engine()).expect("what is checked in can be read")
}

fn target(name: &str) -> Result<Target> {
    Ok(catalogue().select(&[name.to_owned()])?.remove(0))
}

fn available(target: &Target) -> Result<()> {
    match target.unavailable() {
        Some(reason) => skip(format!("{}: {reason}", target.name())),
        None => Ok(()),
    }
}

fn place(up: &Up) -> Place {
    let size = Size {
        scale: 1.0,
        seconds: 1.0,
    };
    up.place(size, Control::none().with_deadline(Duration::from_secs(30)))
}

/// Connections with their inodes: a number is used again as soon as it is free.
struct Connections(Vec<(PathBuf, u64)>);

impl Connections {
    fn of(place: &Place) -> Result<Connections> {
        let directory = Path::new("/sys/fs/fuse/connections");
        let all = place.connections.iter().map(|number| {
            let path = directory.join(number.to_string());
            let inode = fs::metadata(&path)?.ino();
            Ok((path, inode))
        });
        Ok(Connections(all.collect::<Result<_>>()?))
    }

    fn gone(&self) -> Result<()> {
        for (path, inode) in &self.0 {
            let exists = fs::metadata(path).is_ok_and(|metadata| metadata.ino() == *inode);
            ensure!(!exists, "{} still exists", path.display());
        }
        Ok(())
    }
}

fn find<'a>(checks: &'a [Check], claim: &str) -> Result<&'a Check> {
    let found = checks.iter().find(|check| check.claim.contains(claim));
    found.with_context(|| format!("'{claim}' was not checked: {checks:#?}"))
}

fn expect(checks: &[Check], claim: &str, verdict: Verdict) -> Result<()> {
    let check = find(checks, claim)?;
    ensure!(check.verdict == verdict, "{claim}: {check:?}");
    Ok(())
}

/// Everything is as it should be; what a tmpfs cannot tell may be unknown.
fn expect_all(checks: &[Check]) -> Result<()> {
    let tmpfs = statfs(&std::env::temp_dir())?.filesystem_type() == TMPFS_MAGIC;
    for check in checks {
        let unknown = tmpfs && check.verdict == Verdict::Unknown;
        ensure!(check.verdict == Verdict::Verified || unknown, "{check:?}");
    }
    Ok(())
}

fn needs_disk() -> Result<()> {
    if statfs(&std::env::temp_dir())?.filesystem_type() == TMPFS_MAGIC {
        return skip("the temporary directory is a tmpfs, which is never durable");
    }
    Ok(())
}

/// Comes up, is what it claims, goes down.
fn mounts(name: &str) -> Result<()> {
    let target = target(name)?;
    let stage = Stage::new()?;
    let mut up = stage.up(&target, 1)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    let fuse = target.kind() == TargetKind::Mount;
    ensure!(place.connections.len() == usize::from(fuse), "{place:?}");
    ensure!(place.servers.is_empty() != fuse, "{place:?}");
    ensure!(
        place.enter.is_empty() && place.others.is_empty(),
        "{place:?}"
    );
    let checks = verify(&target, &mut up, &stage.host());
    if name == "native" || name.starts_with("cntr") {
        expect_all(&checks)?;
        if fuse {
            ensure!(
                up.parameters()["transport"] == "classic",
                "{:?}",
                up.parameters()
            );
            find(&checks, "is served by our engine")?;
        }
    } else {
        expect(&checks, "is a FUSE file system", Verdict::Verified)?;
        expect(
            &checks,
            "changes the directory of the host",
            Verdict::Verified,
        )?;
        let durable = find(&checks, "fsync")?;
        ensure!(durable.verdict != Verdict::Violated, "{durable:?}");
    }
    if target.spec().needs_uring {
        expect(&checks, "io_uring", Verdict::Verified)?;
    }
    if fuse {
        for parameter in [
            "threads",
            "max_background",
            "congestion_threshold",
            "mount_options",
        ] {
            let found = up.parameters();
            ensure!(found.contains_key(parameter), "no {parameter} in {found:?}");
        }
    }
    place.command("true").run().context("a job")?;
    ensure!(up.died().is_none(), "{:?}", up.died());
    up.down()?;
    connections.gone()?;
    stage.nothing_left()?;
    stage.end()
}

fn several_instances() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let up = stage.up(&target, 3)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    ensure!(
        place.others.len() == 2 && place.servers.len() == 3,
        "{place:?}"
    );
    fs::write(place.others[1].join("file"), "text")?;
    ensure!(fs::read_to_string(place.dir.join("file"))? == "text");
    fs::remove_file(stage.host().join("file"))?;
    up.down()?;
    connections.gone()?;
    stage.end()
}

fn dropped() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let up = stage.up(&target, 2)?;
    let connections = Connections::of(&place(&up))?;
    drop(up);
    connections.gone()?;
    stage.nothing_left()?;
    stage.end()
}

/// Another process that ends must not take away the view of connections.
fn shares_the_view_of_connections() -> Result<()> {
    let stage = Stage::new()?;
    let point = "/sys/fs/fuse/connections";
    // What an arena of another process does.
    let none = None::<&str>;
    nix::mount::mount(Some(point), point, none, MsFlags::MS_BIND, none)?;
    nix::mount::umount(point)?;
    let target = target("cntr")?;
    let up = stage.up(&target, 1)?;
    ensure!(Connections::of(&place(&up))?.0.len() == 1);
    up.down()?;
    stage.end()
}

fn goes_into_the_background() -> Result<()> {
    let stage = Stage::new()?;
    let target = stage.script(
        r#"exec "$3" "$4" mount --daemonize "$1" "$2" -o allow_other"#,
        "foreground = false",
    )?;
    available(&self::target("cntr")?)?;
    let mut up = stage.up(&target, 1)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    ensure!(place.servers.len() == 1, "{place:?}");
    let name = fs::read_to_string(format!("/proc/{}/cmdline", place.servers[0]))?;
    ensure!(name.contains("mount\0--tell"), "{name}");
    ensure!(up.died().is_none(), "{:?}", up.died());
    up.down()?;
    connections.gone()?;
    stage.end()
}

fn fails_at_start() -> Result<()> {
    let stage = Stage::new()?;
    for further in ["", "foreground = false"] {
        let target = stage.script("echo no luck today >&2; exit 3", further)?;
        let error = target
            .up(stage.arena(), &stage.host(), 1, &Control::none())
            .err()
            .context("it came up")?;
        ensure!(matches!(error, TargetError::Ended { .. }), "{error:?}");
        let text = error.to_string();
        ensure!(
            text.contains("no luck today") && text.contains("exit status: 3"),
            "{text}"
        );
        stage.nothing_left()?;
    }
    stage.end()
}

fn never_mounts() -> Result<()> {
    let stage = Stage::new()?;
    let target = stage.script("echo thinking; sleep 1000 & sleep 1000; true", "")?;
    let control = Control::none().with_deadline(Duration::from_secs(1));
    let begun = Instant::now();
    let error = target
        .up(stage.arena(), &stage.host(), 1, &control)
        .err()
        .context("it came up")?;
    ensure!(matches!(error, TargetError::Late { .. }), "{error:?}");
    ensure!(error.to_string().contains("thinking"), "{error}");
    ensure!(begun.elapsed() < Duration::from_secs(30));
    stage.nothing_left()?;
    stage.end()
}

/// Mounts, but nobody answers.
fn never_answers() -> Result<()> {
    let stage = Stage::new()?;
    let options = "fd=3,rootmode=40000,user_id=0,group_id=0";
    let script = format!(
        r#"exec 3<>/dev/fuse; mount -i -t fuse -o {options} none "$2"; echo lost >&2; sleep 1000; true"#
    );
    let target = stage.script(&script, "")?;
    let control = Control::none().with_deadline(Duration::from_secs(2));
    let begun = Instant::now();
    let error = target
        .up(stage.arena(), &stage.host(), 1, &control)
        .err()
        .context("it came up")?;
    ensure!(matches!(error, TargetError::Mute { .. }), "{error:?}");
    ensure!(error.to_string().contains("lost"), "{error}");
    ensure!(begun.elapsed() < Duration::from_secs(60));
    stage.nothing_left()?;
    stage.end()
}

fn dies_meanwhile() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let mut up = stage.up(&target, 1)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    kill(place.servers[0], Signal::SIGKILL)?;
    while up.died().is_none() {
        std::thread::yield_now();
    }
    let error = up.down().err().context("nobody noticed")?;
    let text = error.to_string();
    ensure!(text.contains("had ended by itself"), "{text}");
    connections.gone()?;
    stage.nothing_left()?;
    stage.end()
}

fn stops_answering() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let up = stage.up(&target, 1)?;
    let place = place(&up);
    let connections = Connections::of(&place)?;
    kill(place.servers[0], Signal::SIGSTOP)?;
    let begun = Instant::now();
    let error = up.down().err().context("nobody noticed")?;
    ensure!(error.to_string().contains("was killed"), "{error}");
    ensure!(begun.elapsed() < Duration::from_secs(60));
    connections.gone()?;
    stage.nothing_left()?;
    stage.end()
}

fn in_use() -> Result<()> {
    let target = target("cntr")?;
    let stage = Stage::new()?;
    let up = stage.up(&target, 1)?;
    let place = place(&up);
    let user = Command::on_host("sleep", &Control::none())
        .arg("1000")
        .directory(&place.dir)
        .spawn()?;
    let inside = format!("/proc/{}/cwd", user.pid());
    while fs::read_link(&inside)? != place.dir {
        std::thread::yield_now();
    }
    let error = up.down().err().context("nobody noticed")?;
    let text = error.to_string();
    let expected = format!(
        "could only be detached: Device or resource busy, used by process {} sleep",
        user.pid()
    );
    ensure!(text.contains(&expected), "{text}");
    drop(user);
    stage.nothing_left()?;
    stage.end()
}

fn claims_to_be_fuse() -> Result<()> {
    let stage = Stage::new()?;
    let target = stage.script(r#"mount --bind "$1" "$2""#, "foreground = false")?;
    let mut up = stage.up(&target, 1)?;
    let checks = verify(&target, &mut up, &stage.host());
    expect(&checks, "is a FUSE file system", Verdict::Violated)?;
    expect(&checks, "shows what the host changes", Verdict::Verified)?;
    up.down()?;
    stage.end()
}

fn native_on_fuse() -> Result<()> {
    let stage = Stage::new()?;
    let below = stage.up(&target("cntr")?, 1)?;
    let fuse = place(&below).dir;
    let work = stage.path("work");
    let arena = Arena::new(work, fuse.clone(), Control::none())?;
    let native = target("native")?;
    let mut up = native.up(&arena, &fuse, 1, &Control::none())?;
    let checks = verify(&native, &mut up, &fuse);
    let check = find(&checks, "is a bind mount")?;
    ensure!(check.verdict == Verdict::Violated, "{check:?}");
    ensure!(check.detail.contains("is FUSE itself"), "{check:?}");
    up.down()?;
    arena.end()?;
    below.down()?;
    stage.end()
}

fn another_directory() -> Result<()> {
    let stage = Stage::new()?;
    let other = stage.path("other");
    fs::create_dir(&other)?;
    let script = format!(
        r#"exec "$3" "$4" mount {} "$2" -o allow_other"#,
        other.display()
    );
    let target = stage.script(&script, "")?;
    available(&self::target("cntr")?)?;
    let mut up = stage.up(&target, 1)?;
    let checks = verify(&target, &mut up, &stage.host());
    expect(&checks, "changes the directory", Verdict::Violated)?;
    ensure!(
        fs::read_dir(&other)?.count() == 0,
        "the check has left something"
    );
    up.down()?;
    stage.end()
}

/// A server whose fsync does nothing: strace(1) answers instead of the kernel.
fn ignores_fsync() -> Result<()> {
    needs_disk()?;
    let stage = Stage::new()?;
    let target = stage.script(
        r#"exec strace -f -qq -o /dev/null -e trace=fsync,fdatasync -e inject=fsync,fdatasync:retval=0 "$3" "$4" mount "$1" "$2" -o allow_other"#,
        "requires = ['strace']",
    )?;
    available(&self::target("cntr")?)?;
    let mut up = match stage.up(&target, 1) {
        Err(error) if format!("{error:#}").contains("ptrace") => {
            return skip("strace may not trace");
        }
        other => other?,
    };
    let checks = verify(&target, &mut up, &stage.host());
    expect(&checks, "fsync", Verdict::Violated)?;
    let detail = &find(&checks, "fsync")?.detail;
    ensure!(detail.contains("are not on the disk"), "{detail}");
    expect(&checks, "is a FUSE file system", Verdict::Verified)?;
    up.down()?;
    stage.end()
}

fn delays_writes() -> Result<()> {
    needs_disk()?;
    let stage = Stage::new()?;
    let target = stage.script(
        r#"exec passthrough_ll -f -o allow_other,default_permissions,writeback,cache=always,source="$1" "$2""#,
        "requires = ['passthrough_ll']",
    )?;
    let mut up = stage.up(&target, 1)?;
    let checks = verify(&target, &mut up, &stage.host());
    ensure!(
        up.parameters()["writeback_cache"] == "true",
        "{:?} {checks:#?}",
        up.parameters()
    );
    expect(&checks, "fsync", Verdict::Verified)?;
    up.down()?;
    let mut through = stage.up(&self::target("cntr")?, 1)?;
    verify(&self::target("cntr")?, &mut through, &stage.host());
    ensure!(
        through.parameters()["writeback_cache"] == "false",
        "{:?}",
        through.parameters()
    );
    through.down()?;
    stage.end()
}

fn session(name: &str) -> Result<()> {
    let target = target(name)?;
    available(&target)?;
    if name != "nsenter" && std::env::temp_dir().starts_with("/dev") {
        return skip("a container has its own /dev, and the temporary directory is there");
    }
    let stage = Stage::new()?;
    // A mount that exists when the container is made must not be kept by it.
    let older = stage.up(&self::target("native")?, 1)?;
    let fuse = match self::target("cntr")? {
        cntr if cntr.unavailable().is_none() => Some(stage.up(&cntr, 1)?),
        _ => None,
    };
    let mut up = match stage.up(&target, 1) {
        // An old version insists on more than is allowed here.
        Err(error) if format!("{error:#}").contains("Cannot raise file descriptor limit") => {
            return skip(format!("{error:#}"));
        }
        other => other?,
    };
    if let Some(fuse) = fuse {
        fuse.down().context("the container has kept a mount")?;
    }
    older.down()?;
    let place = place(&up);
    ensure!(
        !place.enter.is_empty() && place.servers.is_empty(),
        "{place:?}"
    );
    let checks = verify(&target, &mut up, &stage.host());
    expect_all(&checks)?;
    let container = &up.parameters()["container"];
    ensure!(
        ["docker", "unshare"].contains(&container.as_str()),
        "{container}"
    );
    if name == "attach" {
        ensure!(
            up.parameters().contains_key("transport"),
            "{:?}",
            up.parameters()
        );
    }
    let printed = place.command("pwd").run()?.stdout;
    ensure!(Path::new(printed.trim()) == place.dir, "{printed}");
    let other = place.command("id").arg("-un").user("daemon").run()?;
    ensure!(other.stdout.trim() == "daemon", "{other:?}");
    let failed = place.command("false").run();
    ensure!(failed.is_err(), "the exit code is lost");
    // A job that is left behind ends with the session.
    let running = place.command("sleep").arg("98765").spawn()?;
    let sleeps = || {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| {
                fs::read(entry.path().join("cmdline")).is_ok_and(|line| {
                    line.ends_with(b"sleep\x0098765\0")
                        && !line.starts_with(b"docker")
                        && fs::read_link(entry.path().join("ns/pid")).ok()
                            != fs::read_link("/proc/self/ns/pid").ok()
                })
            })
    };
    while !sleeps() {
        ensure!(!running.ended(), "{}", running.output());
        std::thread::yield_now();
    }
    drop(running);
    up.down()?;
    ensure!(!sleeps(), "the job still runs");
    stage.nothing_left()?;
    stage.end()
}

/// The engine that is built into the program.
fn engine() -> Vec<OsString> {
    vec![env!("CARGO_BIN_EXE_perf").into(), "cntr".into()]
}

fn trial(
    name: impl Into<String>,
    unable: &Option<String>,
    body: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    let unable = unable.clone();
    Trial::ignorable_test(name, move || {
        if let Some(reason) = unable {
            return Ok(Completion::ignored_with(reason));
        }
        match body() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(Skip(reason)) => Ok(Completion::ignored_with(reason)),
                None => Err(Failed::from(format!("{error:#}"))),
            },
        }
    })
}

/// A mount namespace of its own, so that nothing stays mounted if this program is killed.
fn prepare() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    if !Path::new("/dev/fuse").exists() {
        return Err("there is no /dev/fuse".to_owned());
    }
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| {
            nix::mount::mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)
        })
        .map_err(|error| format!("cannot make a mount namespace: {error}"))
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let unable = prepare().err();
    let mut trials = Vec::new();
    for target in catalogue().targets() {
        let name = target.name().to_owned();
        let title = format!("target::{name}");
        let kind = target.kind();
        trials.push(trial(title, &unable, move || match kind {
            TargetKind::Session => session(&name),
            _ => mounts(&name),
        }));
    }
    type Body = fn() -> Result<()>;
    let further: [(&str, Body); 15] = [
        ("several_instances", several_instances),
        ("dropped", dropped),
        (
            "shares_the_view_of_connections",
            shares_the_view_of_connections,
        ),
        ("goes_into_the_background", goes_into_the_background),
        ("fails_at_start", fails_at_start),
        ("never_mounts", never_mounts),
        ("never_answers", never_answers),
        ("dies_meanwhile", dies_meanwhile),
        ("stops_answering", stops_answering),
        ("in_use", in_use),
        ("claims_to_be_fuse", claims_to_be_fuse),
        ("native_on_fuse", native_on_fuse),
        ("another_directory", another_directory),
        ("ignores_fsync", ignores_fsync),
        ("delays_writes", delays_writes),
    ];
    trials.extend(further.map(|(name, body)| trial(name, &unable, body)));
    libtest_mimic::run(&arguments, trials).exit_code()
}
