//! Runs the tests of one binary: skips with reasons, limits on time, a summary.

use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::parameter::{self, Uring};
use super::{backing, connection, mount, rootless};

/// Why a test cannot run here.
#[derive(Debug)]
pub struct Skip(String);

impl Skip {
    pub fn new(reason: impl Into<String>) -> Skip {
        Skip(reason.into())
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

thread_local! {
    static CURRENT: RefCell<Option<(String, Instant)>> = const { RefCell::new(None) };
    static REPORTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Makes the test of this thread fail, also from a destructor.
pub fn report(problem: String) {
    REPORTED.with_borrow_mut(|problems| problems.push(problem));
}

/// Until when the test of this thread may run; mounts made by it are aborted then.
pub fn deadline() -> Instant {
    CURRENT.with_borrow(|current| {
        current.as_ref().map_or_else(
            || Instant::now() + Duration::from_secs(120),
            |(_, deadline)| *deadline,
        )
    })
}

/// The tests of a binary.
pub struct Suite {
    title: &'static str,
    trials: Vec<Trial>,
    unable: Option<String>,
    skipped: Arc<Mutex<Vec<(String, String)>>>,
    running: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Suite {
    /// Prepares the process: a mount namespace of its own, so that a test that is killed leaves nothing mounted.
    pub fn new(title: &'static str) -> Suite {
        Suite {
            title,
            trials: Vec::new(),
            unable: prepare().err(),
            skipped: Arc::default(),
            running: Arc::default(),
        }
    }

    /// Adds a test that takes seconds; more than two minutes are a hang.
    pub fn test(
        &mut self,
        name: impl Into<String>,
        body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) {
        self.long_test(name, Duration::from_secs(120), body);
    }

    /// Adds a test with a limit of its own.
    pub fn long_test(
        &mut self,
        name: impl Into<String>,
        limit: Duration,
        body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) {
        let name = name.into();
        let limit = limit * parameter::patience();
        let unable = self.unable.clone();
        let skipped = Arc::clone(&self.skipped);
        let running = Arc::clone(&self.running);
        let title = name.clone();
        self.trials.push(Trial::ignorable_test(title, move || {
            let end = Instant::now() + limit;
            running
                .lock()
                .expect("no test panics here")
                .push((name.clone(), end));
            CURRENT.set(Some((name.clone(), end)));
            let result = match unable {
                Some(reason) => Err(Skip::new(reason).into()),
                None => panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
                    Err(anyhow::anyhow!("panicked: {}", message(panic.as_ref())))
                }),
            };
            CURRENT.set(None);
            let reported = REPORTED.take();
            running
                .lock()
                .expect("no test panics here")
                .retain(|(other, _)| *other != name);
            match result {
                _ if !reported.is_empty() => {
                    let first = result
                        .err()
                        .map_or_else(String::new, |error| format!("{error:#}\n"));
                    Err(Failed::from(format!(
                        "{first}left behind: {}",
                        reported.join("; ")
                    )))
                }
                Ok(()) => Ok(Completion::Completed),
                Err(error) => match error.downcast_ref::<Skip>() {
                    Some(Skip(reason)) => {
                        skipped
                            .lock()
                            .expect("no test panics here")
                            .push((name, reason.clone()));
                        Ok(Completion::ignored_with(reason))
                    }
                    None => Err(Failed::from(format!("{error:#}"))),
                },
            }
        }));
    }

    /// Runs what the command line asks for.
    pub fn run(self) -> ExitCode {
        let arguments = Arguments::from_args();
        watch(Arc::clone(&self.running));
        let uring = Uring::enable();
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        drop(uring);
        let leftovers = backing::tear_down();
        for problem in &leftovers {
            eprintln!("left behind: {problem}");
        }
        let skipped = self.skipped.lock().expect("no test panics here");
        for (name, reason) in skipped.iter() {
            println!("skipped {}::{name}: {reason}", self.title);
        }
        if !arguments.list {
            println!(
                "{}: {} passed, {} failed, {} skipped\n",
                self.title,
                conclusion.num_passed,
                conclusion.num_failed,
                skipped.len()
            );
        }
        if leftovers.is_empty() {
            conclusion.exit_code()
        } else {
            ExitCode::from(101)
        }
    }
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "something that is no text".to_owned()
    }
}

/// Ends the process when a test still runs long after the connections it used were aborted.
fn watch(running: Arc<Mutex<Vec<(String, Instant)>>>) {
    const GRACE: Duration = Duration::from_secs(60);
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(250));
            mount::abort_overdue();
            for (name, end) in running.lock().expect("no test panics here").iter() {
                if Instant::now() > *end + GRACE {
                    eprintln!("{name} hangs although its FUSE connections were aborted; giving up");
                    std::process::exit(101);
                }
            }
        }
    });
}

fn prepare() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    if !std::path::Path::new("/dev/fuse").exists() {
        return Err("there is no /dev/fuse".to_owned());
    }
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("cannot make a mount namespace: {error}"))?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|error| format!("cannot make mounts private: {error}"))?;
    connection::mount_control()?;
    rootless::enter()
}
