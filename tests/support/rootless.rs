//! The tests as a plain user runs them: in a user namespace, without any privilege outside of it.
//!
//! With `CNTR_TEST_ROOTLESS=1` the test program, which root has started, prepares what a plain user does not find on
//! every machine - a `/dev/fuse` that everybody may open, a directory on ext4 - and starts itself again as an ordinary user
//! who is root of a new user namespace. What newuidmap(1) lets such users have is mapped there: 65,536 ids.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{env, thread};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, FileType, Gid, Mode, Uid, makedev, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::{Signal, getpid, set_parent_process_death_signal};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::backing::{self, Kind};
use super::parameter::Uring;
use super::runner::Skip;

const VARIABLE: &str = "CNTR_TEST_ROOTLESS";

/// Where the binary under test is in the namespace.
const BINARY: &str = "CNTR_TEST_BINARY";

/// What the variable is set to in the namespace.
const INSIDE: &str = "inside";

/// The ordinary user, who is 0 in the namespace, and the first of its ids.
const FIRST: u32 = 100_000;

/// Name of the FIFO below the directory of the tests.
const CACHE_CONTROL: &str = "drop_caches";

/// How many ids are mapped.
const COUNT: u32 = 65_536;

/// This process is in the user namespace.
pub fn is_inside() -> bool {
    env::var_os(VARIABLE).is_some_and(|value| value == INSIDE)
}

/// A skip in the user namespace, because `what` needs privilege in the initial one.
pub fn need(what: &str) -> Result<()> {
    if is_inside() {
        Err(Skip::new(format!("rootless: needs {what}")).into())
    } else {
        Ok(())
    }
}

/// Runs this program again in a user namespace, and ends as that does, if that is asked for and has not happened yet.
/// The process has one thread and mounts of its own.
///
/// # Errors
/// Says why there is no such namespace.
pub fn enter() -> Result<(), String> {
    if env::var_os(VARIABLE).is_none_or(|value| value.is_empty()) || is_inside() {
        return Ok(());
    }
    let uring = Uring::enable();
    let ended = prepare_and_run();
    drop(uring);
    let leftovers = backing::tear_down();
    for problem in &leftovers {
        eprintln!("left behind: {problem}");
    }
    let status = ended.map_err(|error| format!("rootless: {error:#}"))?;
    if leftovers.is_empty() {
        std::process::exit(status.code().unwrap_or(101));
    }
    std::process::exit(101);
}

/// The binary under test.
pub fn binary() -> PathBuf {
    let named = env::var_os(BINARY).filter(|_| is_inside());
    named.map_or_else(|| env!("CARGO_BIN_EXE_cntr").into(), PathBuf::from)
}

/// What has the kernel drop its caches when `2` is written to it.
pub fn cache_control() -> PathBuf {
    match env::var_os("CNTR_TEST_DIR") {
        Some(directory) if is_inside() => Path::new(&directory).join(CACHE_CONTROL),
        _ => PathBuf::from("/proc/sys/vm/drop_caches"),
    }
}

/// Passes on what is written to the FIFO `control`, as long as the process lives.
fn pass_on(control: &Path) -> Result<()> {
    mknodat(CWD, control, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    chown(control, Some(FIRST), Some(FIRST))?;
    // Open for writing as well, so that it never ends.
    let mut said = File::options().read(true).write(true).open(control)?;
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while said.read(&mut buffer).is_ok() {
            if let Err(error) = fs::write("/proc/sys/vm/drop_caches", "2") {
                eprintln!("cannot drop caches: {error}");
            }
        }
    });
    Ok(())
}

fn prepare_and_run() -> Result<ExitStatus> {
    let directory = backing::area(Kind::Ext4)?;
    chown(&directory, Some(FIRST), Some(FIRST))?;
    pass_on(&directory.join(CACHE_CONTROL)).context("cannot pass on who drops caches")?;
    let shown = backing::base().join("rootless");
    backing::make_directory(&shown)?;
    // The directory for temporary files may be one without devices.
    let options = Some(c"size=64k,mode=755");
    mount("tmpfs", &shown, "tmpfs", MountFlags::empty(), options)?;
    open_device(&shown).context("cannot let everybody open /dev/fuse")?;
    let (tests, binary) = (env::current_exe()?, Path::new(env!("CARGO_BIN_EXE_cntr")));
    let ended = show(&tests, &shown.join("tests"))
        .and_then(|tests| Ok((tests, show(binary, &shown.join("cntr"))?)))
        .and_then(|(tests, binary)| run_inside(&directory, &tests, &binary));
    unmount("/dev/fuse", UnmountFlags::DETACH)?;
    unmount(&shown, UnmountFlags::DETACH)?;
    ended
}

/// Shows the program `file`, which may be below a directory that is closed to others, as `place`.
fn show(file: &Path, place: &Path) -> Result<PathBuf> {
    File::create(place)?;
    mount_bind(file, place).with_context(|| format!("cannot show {}", file.display()))?;
    Ok(place.to_owned())
}

/// Lets everybody in this mount namespace open `/dev/fuse`, by a node in `directory`.
fn open_device(directory: &Path) -> Result<()> {
    let node = directory.join("fuse");
    let kind = FileType::CharacterDevice;
    mknodat(CWD, &node, kind, Mode::empty(), makedev(10, 229))?;
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666))?;
    Ok(mount_bind(&node, "/dev/fuse")?)
}

fn run_inside(directory: &Path, tests: &Path, binary: &Path) -> Result<ExitStatus> {
    let (mut unmapped, mut say_unmapped) = io::pipe()?;
    let (mapped, mut say_mapped) = io::pipe()?;
    let mut command = Command::new(tests);
    command
        .args(env::args_os().skip(1))
        .env(VARIABLE, INSIDE)
        .env(BINARY, binary)
        .env("CNTR_TEST_DIR", directory);
    let become_user = move || -> io::Result<()> {
        set_thread_groups(&[])?;
        let (uid, gid) = (Uid::from_raw(FIRST), Gid::from_raw(FIRST));
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        // A change of ids takes it away, so it comes last.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        say_unmapped.write_all(&getpid().as_raw_pid().to_ne_bytes())?;
        let mut go = [0];
        match rustix::io::read(mapped.as_fd(), &mut go)? {
            0 => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    };
    // SAFETY: the closure makes system calls and nothing else: no allocation, no lock, so that it may run between fork
    // and exec of a process with threads.
    unsafe { command.pre_exec(become_user) };
    // Starting a program ends when that runs, which this one does only once its ids are mapped. The thread stays until the
    // program has ended, which would be killed otherwise.
    let started = thread::spawn(move || command.spawn().and_then(|mut child| child.wait()));
    let mut pid = [0; 4];
    // Nothing is said if it could not be started: then the thread knows why.
    if unmapped.read_exact(&mut pid).is_ok() {
        let pid = i32::from_ne_bytes(pid);
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{map}"), format!("0 {FIRST} {COUNT}"))
                .with_context(|| format!("cannot write {map}"))?;
        }
        say_mapped.write_all(&[0])?;
    }
    let ended = started.join().expect("the thread does not panic");
    ended.context("cannot start this program in a user namespace")
}
