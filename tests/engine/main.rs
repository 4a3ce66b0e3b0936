//! The engine against the live kernel, with a file system that is not the one of the product.
#![allow(missing_docs, reason = "a test")]

mod measurements;
mod memory;
#[path = "../support/parameter.rs"]
mod parameter;

use std::fs;
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cntr::engine::mount::{DetachedMount, MountOptions};
use cntr::engine::{Config, Monitor, Session, Transport};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use memory::{MemoryFs, stuck};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parameter::{Uring, patience};

type Test = fn(Transport) -> Result<(), Failed>;

/// A hang is a failure after this long.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where this program serves instead of testing, and how.
const SERVE: &str = "CNTR_ENGINE_TEST_SERVE";

fn main() {
    if let Ok(point) = std::env::var(SERVE) {
        return serve_with_a_child(Path::new(&point));
    }
    let arguments = Arguments::from_args();
    // Who starts the tests in the background of a script has them ignore these; nobody could be interrupted.
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        cntr::sys::process::default_signal(signal).expect("a signal that can be caught");
    }
    let root = nix::unistd::geteuid().is_root();
    if root {
        // Mounts of a test that is killed go away with this namespace.
        unshare(CloneFlags::CLONE_NEWNS).expect("a private mount namespace");
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .expect("private propagation");
    }
    let tests: &[(&str, Test)] = &[
        ("files_can_be_used", files_can_be_used),
        ("a_panic_is_an_io_error", a_panic_is_an_io_error),
        (
            "blocked_requests_delay_nobody",
            blocked_requests_delay_nobody,
        ),
        (
            "blocked_requests_of_a_cpu_delay_nobody_there",
            blocked_requests_of_a_cpu_delay_nobody_there,
        ),
        ("stuck_requests_delay_nobody", stuck_requests_delay_nobody),
        (
            "a_waiting_request_is_interrupted",
            a_waiting_request_is_interrupted,
        ),
        ("a_stuck_request_is_given_up", a_stuck_request_is_given_up),
        ("umount_ends_the_session", umount_ends_the_session),
        ("no_ring_can_be_inherited", no_ring_can_be_inherited),
        (
            "a_child_of_a_dead_server_blocks_nobody_for_good",
            a_child_of_a_dead_server_blocks_nobody_for_good,
        ),
        ("stop_under_load", stop_under_load),
        (
            "what_is_handed_out_comes_back",
            what_is_handed_out_comes_back,
        ),
        ("measurements_count_requests", measurements::count_requests),
        (
            "requests_are_measured_in_the_queue_of_their_cpu",
            measurements::requests_of_a_cpu,
        ),
        (
            "blocked_threads_and_their_replacement_are_counted",
            measurements::blocked_threads,
        ),
    ];
    let uring = Uring::enable();
    let has_uring = Uring::is_enabled();
    let trial = |transport: Transport, (name, test): &(&'static str, Test)| {
        let test = *test;
        let unable = match transport {
            _ if !root => Some("needs root"),
            Transport::IoUring if !has_uring => {
                Some("this kernel has no FUSE over io_uring, or it is off")
            }
            _ => None,
        };
        Trial::ignorable_test(
            format!("{}::{name}", transport.name()),
            move || match unable {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => test(transport).map(|()| Completion::Completed),
            },
        )
    };
    let trials = [Transport::Classic, Transport::IoUring]
        .iter()
        .flat_map(|transport| tests.iter().map(|test| trial(*transport, test)))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(uring);
    conclusion.exit();
}

/// A mounted [`MemoryFs`].
struct Mounted {
    _landmark: OwnedFd,
    fs: Arc<MemoryFs>,
    session: Option<Session>,
    dir: tempfile::TempDir,
}

impl Mounted {
    fn new(transport: Transport, names: &[&str]) -> Mounted {
        let fs = Arc::new(MemoryFs::new(names));
        let detached = DetachedMount::new(&MountOptions::default()).expect("a FUSE mount");
        let dir = tempfile::tempdir().expect("a mount point");
        let session = Session::start(
            Arc::clone(&fs),
            detached.device.try_clone().unwrap(),
            &Config {
                root: detached.root,
                landmark: detached.landmark.clone(),
                transport,
                ..Config::default()
            },
        )
        .expect("a session");
        assert_eq!(session.transport(), transport);
        let landmark = detached.landmark.set(detached.mount.as_fd());
        let mount = DetachedMount::tree(detached.mount, detached.root).expect("a tree");
        DetachedMount::attach_at(mount.as_fd(), dir.path()).expect("attached");
        Mounted {
            _landmark: landmark.expect("a landmark"),
            fs,
            session: Some(session),
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn monitor(&self) -> Monitor {
        self.session.as_ref().expect("it runs").monitor()
    }

    /// Unmounts and waits for the end of the session.
    fn end(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
            session.join().expect("an orderly end");
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.fs.release_all();
        self.end();
    }
}

/// Waits until `condition` holds.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE * patience();
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A process that reads, and would for ever. Killed when a test fails: the end of the mount waits for it.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

impl Deref for Reader {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

fn cat(path: &Path) -> Reader {
    let child = Command::new("cat")
        .arg(path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("cat");
    Reader(child)
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("a signal to a child");
}

fn wait_for_end(child: &mut Child) -> Duration {
    let start = Instant::now();
    wait_until("a signalled process ends", || {
        child.try_wait().expect("a child").is_some()
    });
    start.elapsed()
}

fn files_can_be_used(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["a"]);
    let data: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(mounted.path("b"), &data)?;
    assert_eq!(fs::read(mounted.path("b"))?, data);
    let mut names: Vec<_> = fs::read_dir(mounted.dir.path())?
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
    fs::remove_file(mounted.path("a"))?;
    assert_eq!(
        fs::metadata(mounted.path("a")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    // What a file system does not implement is refused, not faked.
    assert_eq!(
        fs::create_dir(mounted.path("d"))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::ENOSYS)
    );
    Ok(())
}

fn a_panic_is_an_io_error(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["panic", "a"]);
    for _ in 0..20 {
        assert_eq!(
            fs::read(mounted.path("panic")).unwrap_err().raw_os_error(),
            Some(libc::EIO)
        );
    }
    fs::write(mounted.path("a"), "still served")?;
    Ok(())
}

/// Uses the file system while others are blocked; no use may wait for them.
fn use_while_blocked(mounted: &Mounted) -> Result<(), Failed> {
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let start = Instant::now();
        fs::metadata(mounted.path("a"))?;
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < stuck() / 3, "a request waited {slowest:?}");
    Ok(())
}

fn blocked_requests_delay_nobody(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["wait", "a"]);
    let mut readers: Vec<Reader> = (0..40).map(|_| cat(&mounted.path("wait"))).collect();
    wait_until("all readers wait", || {
        mounted.fs.waiting.load(Ordering::SeqCst) == 40
    });
    use_while_blocked(&mounted)?;
    assert!(
        readers
            .iter_mut()
            .all(|reader| reader.try_wait().unwrap().is_none())
    );
    mounted.fs.release_all();
    wait_until("all readers go on", || {
        mounted.fs.waiting.load(Ordering::SeqCst) == 0
    });
    for reader in &mut readers {
        // They would read the same bytes for ever.
        let _ = reader.kill();
        wait_for_end(reader);
    }
    Ok(())
}

/// All at once and all on one CPU, so that requests wait in its queue while all its threads are blocked.
fn blocked_requests_of_a_cpu_delay_nobody_there(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["wait", "a"]);
    let before = sched_getaffinity(Pid::from_raw(0))?;
    let cpu = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu) == Ok(true));
    let mut one = CpuSet::new();
    one.set(cpu.ok_or("no CPU")?)?;
    for _ in 0..10 {
        sched_setaffinity(Pid::from_raw(0), &one)?;
        // A shell opens the files one after the other; so threads, which start to read at the same time.
        let path = mounted.path("wait");
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || {
                    let mut file = fs::File::open(path)?;
                    std::io::Read::read(&mut file, &mut [0; 10])
                })
            })
            .collect();
        wait_until("all readers wait", || {
            mounted.fs.waiting.load(Ordering::SeqCst) == 8
        });
        let used = use_while_blocked(&mounted);
        sched_setaffinity(Pid::from_raw(0), &before)?;
        used?;
        mounted.fs.release_all();
        for reader in readers {
            reader.join().expect("no panic")?;
        }
        wait_until("nobody waits", || {
            mounted.fs.waiting.load(Ordering::SeqCst) == 0
        });
        mounted.fs.hold_again();
    }
    Ok(())
}

fn stuck_requests_delay_nobody(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["stuck", "a"]);
    let start = Instant::now();
    let readers: Vec<Reader> = (0..8).map(|_| cat(&mounted.path("stuck"))).collect();
    wait_until("the readers occupy threads", || {
        mounted.monitor().threads() >= 8
    });
    use_while_blocked(&mounted)?;
    assert!(
        start.elapsed() < stuck(),
        "the check took longer than the requests were stuck"
    );
    for mut reader in readers {
        let _ = reader.kill();
        wait_for_end(&mut reader);
    }
    Ok(())
}

fn a_waiting_request_is_interrupted(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["wait"]);
    let mut reader = cat(&mounted.path("wait"));
    wait_until("the reader waits", || {
        mounted.fs.waiting.load(Ordering::SeqCst) == 1
    });
    interrupt(&reader);
    wait_for_end(&mut reader);
    wait_until("the request ends", || {
        mounted.fs.waiting.load(Ordering::SeqCst) == 0
    });
    Ok(())
}

fn a_stuck_request_is_given_up(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["stuck", "a"]);
    let start = Instant::now();
    let mut reader = cat(&mounted.path("stuck"));
    wait_until("the read is in service", || {
        let state = fs::read_to_string(format!("/proc/{}/stat", reader.id())).unwrap_or_default();
        state.contains("(cat) D") || state.contains("(cat) S")
    });
    std::thread::sleep(Duration::from_millis(50));
    interrupt(&reader);
    wait_for_end(&mut reader);
    assert!(
        start.elapsed() < stuck(),
        "the reader was let go only after {:?}",
        start.elapsed()
    );
    fs::write(mounted.path("a"), "still served")?;
    Ok(())
}

fn umount_ends_the_session(transport: Transport) -> Result<(), Failed> {
    let mut mounted = Mounted::new(transport, &["a"]);
    fs::write(mounted.path("a"), "x")?;
    let monitor = mounted.monitor();
    mounted.end();
    assert_eq!(monitor.threads(), 0);
    assert!(mounted.fs.destroyed.load(Ordering::SeqCst));
    Ok(())
}

fn no_ring_can_be_inherited(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["a"]);
    fs::write(mounted.path("a"), "x")?;
    let rings = |what: &str| -> Result<usize, Failed> {
        let links = fs::read_dir("/proc/self/fd")?.filter_map(|file| {
            let link = fs::read_link(file.ok()?.path()).ok()?;
            Some(link.to_string_lossy().into_owned())
        });
        Ok(links.filter(|link| link.contains(what)).count())
    };
    assert_eq!(rings("io_uring")?, 0);
    assert!(rings("fuse")? > 0);
    // What is mapped of a ring is not inherited: "dc" is MADV_DONTFORK.
    let maps = fs::read_to_string("/proc/self/smaps")?;
    let mut inherited = 0;
    let mut ring = false;
    for line in maps.lines() {
        if line.contains("io_uring") {
            ring = true;
        } else if let (true, Some(flags)) = (ring, line.strip_prefix("VmFlags:")) {
            inherited += usize::from(!flags.split_whitespace().any(|flag| flag == "dc"));
            ring = false;
        }
    }
    assert_eq!(inherited, 0);
    Ok(())
}

/// Serves at `point` in a process that has forked a child, which lives on without ever executing a program.
fn serve_with_a_child(point: &Path) {
    let detached = DetachedMount::new(&MountOptions::default()).expect("a FUSE mount");
    let fs = Arc::new(MemoryFs::new(&["a"]));
    let config = Config {
        root: detached.root,
        landmark: detached.landmark.clone(),
        transport: Transport::IoUring,
        ..Config::default()
    };
    let session = Session::start(fs, detached.device, &config).expect("a session");
    let _landmark = detached
        .landmark
        .set(detached.mount.as_fd())
        .expect("a landmark");
    let mount = DetachedMount::tree(detached.mount, detached.root).expect("a tree");
    DetachedMount::attach_at(mount.as_fd(), point).expect("attached");
    drop(mount);
    let _ = fs::metadata(point.join("a"));
    // The hook runs in the child, between fork and exec.
    let mut child = Command::new("true");
    let hook = || {
        std::thread::sleep(Duration::from_secs(4));
        Ok(())
    };
    // SAFETY: the hook sleeps, which takes no lock and no memory.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut child, hook) };
    let spawner = std::thread::spawn(move || child.spawn().map(drop));
    wait_until("there is a child", || {
        let children = format!("/proc/self/task/{}/children", nix::unistd::gettid());
        let of_threads = fs::read_dir("/proc/self/task").expect("threads");
        let any = of_threads.flatten().any(|thread| {
            fs::read_to_string(thread.path().join("children")).is_ok_and(|list| !list.is_empty())
        });
        any || fs::read_to_string(children).is_ok_and(|list| !list.is_empty())
    });
    println!("ready");
    let _ = spawner.join();
    let _ = session.join();
}

fn a_child_of_a_dead_server_blocks_nobody_for_good(transport: Transport) -> Result<(), Failed> {
    if transport != Transport::IoUring {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let mut server = Command::new(std::env::current_exe()?)
        .env(SERVE, dir.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = server.stdout.take().ok_or("no stdout")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    assert_eq!(line, "ready\n");
    let connection = fs::metadata(dir.path()).map(|metadata| {
        use std::os::unix::fs::MetadataExt;
        nix::sys::stat::minor(metadata.dev())
    })?;
    server.kill()?;
    server.wait()?;
    // The child holds /dev/fuse, so the connection lives and nobody answers. Who waits can be killed.
    let mut users: Vec<Reader> = (0..4).map(|_| cat(&dir.path().join("a"))).collect();
    std::thread::sleep(Duration::from_millis(300));
    for user in &mut users[..2] {
        let _ = user.kill();
        assert!(wait_for_end(user) < Duration::from_secs(2) * patience());
    }
    // And the connection can be aborted, which ends the others.
    let control = Path::new("/sys/fs/fuse/connections");
    if fs::read_dir(control)?.next().is_none() {
        let nothing = None::<&str>;
        mount(nothing, control, Some("fusectl"), MsFlags::empty(), nothing)?;
    }
    fs::write(control.join(format!("{connection}/abort")), "1")?;
    for user in &mut users[2..] {
        let start = Instant::now();
        wait_until("a waiting process ends", || {
            user.try_wait().expect("a child").is_some()
        });
        assert!(start.elapsed() < Duration::from_secs(2) * patience());
    }
    umount2(dir.path(), MntFlags::MNT_DETACH)?;
    Ok(())
}

fn stop_under_load(transport: Transport) -> Result<(), Failed> {
    let mut mounted = Mounted::new(transport, &["a"]);
    let path = mounted.path("a");
    let users: Vec<_> = (0..8)
        .map(|n| {
            let path = path.clone();
            std::thread::spawn(move || {
                // Ends with an error when the server is gone.
                loop {
                    let used = if n % 2 == 0 {
                        fs::metadata(&path).map(drop)
                    } else {
                        fs::write(path.with_file_name(format!("f{n}")), [n; 4000])
                    };
                    if let Err(error) = used {
                        return error.raw_os_error();
                    }
                }
            })
        })
        .collect();
    wait_until("some load", || {
        mounted
            .monitor()
            .operations()
            .iter()
            .map(|o| o.measured.requests)
            .sum::<u64>()
            > 5000
    });
    let session = mounted.session.take().expect("it runs");
    let monitor = session.monitor();
    session.stopper().stop();
    session.join()?;
    drop(monitor);
    for user in users {
        let errno = user.join().expect("no panic");
        assert!(
            [
                Some(libc::ENOTCONN),
                Some(libc::ECONNABORTED),
                Some(libc::EINTR),
                Some(libc::ENODEV),
                // Over io_uring, of what is about to be handed to a thread that has just ended.
                Some(libc::ECANCELED)
            ]
            .contains(&errno),
            "{errno:?}"
        );
    }
    umount2(mounted.dir.path(), MntFlags::MNT_DETACH)?;
    Ok(())
}

fn what_is_handed_out_comes_back(transport: Transport) -> Result<(), Failed> {
    let mounted = Mounted::new(transport, &["a", "stuck"]);
    for n in 0..200 {
        fs::write(mounted.path(&format!("f{n}")), "x")?;
        fs::remove_file(mounted.path(&format!("f{n}")))?;
    }
    // Opens and lookups whose callers are killed meanwhile must be taken back, too.
    for _ in 0..20 {
        let mut reader = cat(&mounted.path("a"));
        let _ = reader.kill();
        wait_for_end(&mut reader);
    }
    wait_until("all opens are released", || {
        mounted.fs.opens.load(Ordering::SeqCst) == 0
    });
    fs::write("/proc/sys/vm/drop_caches", "2")?;
    wait_until(
        "all lookups but those of cached names are forgotten",
        || mounted.fs.lookups.load(Ordering::SeqCst) <= 2,
    );
    Ok(())
}
