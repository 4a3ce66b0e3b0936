//! C4 and C5 in a terminal, driven through a pty.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cntr::sys::terminal::{Size, set_size};
use libtest_mimic::Failed;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::Case;
use crate::fake::{CNTR, Rootfs, Target, contains, same, text};

pub const CASES: &[Case] = crate::cases! {
    sizes_follow needs "setsid", "stty";
    ctrl_c_interrupts needs "setsid";
    ctrl_d_ends_the_input needs "setsid", "dash";
    job_control_in_bash needs "setsid", "bash";
    job_control_in_dash needs "setsid", "dash";
    job_control_in_zsh needs "setsid", "zsh";
    the_terminal_is_restored needs "setsid";
    a_background_process_does_not_hold_the_terminal needs "setsid", "bash";
    a_container_without_devpts_has_a_terminal needs "setsid", "unshare";
    exec_and_run_have_terminals needs "setsid";
    a_terminal_can_be_asked_for needs "setsid";
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with cntr in it.
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    child: Child,
    seen: String,
}

impl Terminal {
    fn open(arguments: &[&str]) -> Result<Terminal, Failed> {
        let mut command = Command::new(CNTR);
        command.args(arguments);
        Terminal::with(&command)
    }

    /// A terminal with a program in it that becomes cntr.
    pub fn with(command: &Command) -> Result<Terminal, Failed> {
        let pty = openpty(
            &Size {
                ws_row: 24,
                ws_col: 80,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
            None,
        )?;
        let stdio = || pty.slave.try_clone().map(Stdio::from);
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args())
            .env("TERM", "dumb")
            .env("PS1", "$ ")
            .stdin(stdio()?)
            .stdout(stdio()?)
            .stderr(stdio()?)
            .spawn()?;
        Ok(Terminal {
            master: File::from(pty.master),
            slave: pty.slave,
            child,
            seen: String::new(),
        })
    }

    fn attach(target: &Target, command: &[&str]) -> Result<Terminal, Failed> {
        let pid = target.pid.to_string();
        Terminal::open(&[&["attach", pid.as_str(), "--"], command].concat())
    }

    pub fn type_in(&mut self, text: &str) -> Result<(), Failed> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Waits until `text` was printed, and forgets what was printed up to there.
    pub fn expect(&mut self, text: &str) -> Result<String, Failed> {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("{text:?} was not printed, but {:?}", self.seen).into());
            }
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(100_u8))? > 0 {
                let mut buffer = [0; 4096];
                let len = self.master.read(&mut buffer)?;
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
        }
    }

    pub fn code(&mut self) -> Result<Option<i32>, Failed> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("cntr does not end; printed: {:?}", self.seen).into())
    }

    fn is_cooked(&self) -> Result<bool, Failed> {
        let flags = tcgetattr(&self.slave)?.local_flags;
        Ok(flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG))
    }

    /// cntr itself: the child of setsid(1), or that process.
    fn cntr(&self) -> Pid {
        let id = self.child.id();
        let children =
            std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        let pid = children
            .split_whitespace()
            .next()
            .filter(|_| comm.trim() == "setsid");
        Pid::from_raw(
            pid.and_then(|pid| pid.parse().ok())
                .unwrap_or(id.cast_signed()),
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = kill(self.cntr(), Signal::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sizes_follow() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let script =
        "trap 'stty size; echo changed' WINCH; stty size; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::attach(&target, &["sh", "-c", script])?;
    terminal.expect("24 80\r\nready")?;
    set_size(
        terminal.master.as_fd(),
        &Size {
            ws_row: 50,
            ws_col: 132,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )?;
    terminal.expect("50 132\r\nchanged").map(drop)
}

fn ctrl_c_interrupts() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let mut terminal = Terminal::attach(&target, &["sh", "-c", "echo ready; tty; sleep 100"])?;
    terminal.expect("ready\r\n/dev/pts/")?;
    terminal.expect("\n")?;
    // The shell may be between echo and sleep; either way it is interrupted.
    terminal.type_in("\x03")?;
    same("code", terminal.code()?, Some(130))?;
    same("restored", terminal.is_cooked()?, true)
}

fn ctrl_d_ends_the_input() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let mut terminal = Terminal::attach(&target, &["sh", "-c", "echo ready; cat; exit 6"])?;
    terminal.expect("ready\r\n")?;
    terminal.type_in("line\n\x04")?;
    terminal.expect("line\r\nline\r\n")?;
    same("code", terminal.code()?, Some(6))?;
    let mut terminal = Terminal::attach(&target, &["dash", "-i"])?;
    terminal.type_in("echo be''gin; (exit 9)\r")?;
    terminal.expect("begin\r\n")?;
    terminal.type_in("\x04")?;
    same("code", terminal.code()?, Some(9))?;
    same("restored", terminal.is_cooked()?, true)
}

/// Stops a job and continues it; no complaint about process groups.
fn job_control(shell: &[&str], stopped: &str) -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let mut terminal = Terminal::attach(&target, shell)?;
    terminal.type_in("echo be''gin; sleep 100; echo co''de $?\r")?;
    let start = terminal.expect("begin\r\n")?;
    for complaint in ["job control", "process group", "setpgid", "tty"] {
        same(
            &format!("{complaint} in {start:?}"),
            start.contains(complaint),
            false,
        )?;
    }
    // Until the job is in the foreground the key would stop the shell's own line.
    wait_for_job(&terminal, "sleep")?;
    terminal.type_in("\x1a")?;
    terminal.expect(stopped)?;
    terminal.type_in("jobs; echo li''sted\r")?;
    let jobs = terminal.expect("listed\r\n")?;
    same(
        &format!("sleep 100 in {jobs:?}"),
        jobs.contains("sleep 100"),
        true,
    )?;
    terminal.type_in("fg\r")?;
    wait_for_job(&terminal, "sleep")?;
    terminal.type_in("\x03")?;
    terminal.type_in("\recho af''ter\r")?;
    terminal.expect("after\r\n")?;
    terminal.type_in("exit 7\r")?;
    let code = terminal.code()?;
    same("code", code, Some(7))?;
    same("restored", terminal.is_cooked()?, true)
}

/// Waits until the foreground process group of the session's terminal is led by `name` and runs.
fn wait_for_job(terminal: &Terminal, name: &str) -> Result<(), Failed> {
    let cntr = terminal.cntr();
    let start = Instant::now();
    let field = |pid: &str, n: usize| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default().to_owned();
        rest.split_whitespace()
            .nth(n)
            .unwrap_or_default()
            .to_owned()
    };
    while start.elapsed() < PATIENCE {
        let children = std::fs::read_to_string(format!("/proc/{cntr}/task/{cntr}/children"))
            .unwrap_or_default();
        for shell in children.split_whitespace() {
            let foreground = field(shell, 5);
            let comm =
                std::fs::read_to_string(format!("/proc/{foreground}/comm")).unwrap_or_default();
            if comm.trim() == name && field(&foreground, 0) == "S" {
                return Ok(());
            }
        }
        std::thread::yield_now();
    }
    Err(format!(
        "{name} does not run in the foreground; printed: {:?}",
        terminal.seen
    )
    .into())
}

fn job_control_in_bash() -> Result<(), Failed> {
    job_control(&["bash", "--norc", "--noediting", "-i"], "topped")
}

fn job_control_in_dash() -> Result<(), Failed> {
    job_control(&["dash", "-i"], "topped")
}

fn job_control_in_zsh() -> Result<(), Failed> {
    job_control(&["zsh", "-f", "-i", "+Z"], "suspended")
}

fn the_terminal_is_restored() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    // Of cntr by SIGTERM, then of the command by SIGKILL.
    for (signal, of_command, code) in [(Signal::SIGTERM, false, 143), (Signal::SIGKILL, true, 137)]
    {
        let mut terminal = Terminal::attach(&target, &["sh", "-c", "echo ready; sleep 100; true"])?;
        terminal.expect("ready")?;
        let start = Instant::now();
        while terminal.is_cooked()? && start.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        same("raw", terminal.is_cooked()?, false)?;
        let cntr = terminal.cntr();
        let children = std::fs::read_to_string(format!("/proc/{cntr}/task/{cntr}/children"))?;
        let command = children.split_whitespace().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == "sh")
        });
        let command = Pid::from_raw(command.ok_or("no command")?.parse()?);
        kill(if of_command { command } else { cntr }, signal)?;
        same("code", terminal.code()?, Some(code))?;
        same("restored", terminal.is_cooked()?, true)?;
    }
    Ok(())
}

/// C5.
fn a_background_process_does_not_hold_the_terminal() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let mut terminal = Terminal::attach(
        &target,
        &["bash", "-c", "trap '' HUP; sleep 30 & echo last; exit 5"],
    )?;
    same("code", terminal.code()?, Some(5))?;
    terminal.expect("last").map(drop)
}

fn a_container_without_devpts_has_a_terminal() -> Result<(), Failed> {
    let root = Rootfs::new();
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "-p",
        "-f",
        "--propagation",
        "private",
        "chroot",
        root.path(),
        "/bin/sleep",
        "1000",
    ]);
    let target = Target::by_hand(&mut command, "sleep")?;
    let mut terminal = Terminal::attach(
        &target,
        &["sh", "-c", "stty size; test -t 0 && echo terminal; exit 3"],
    )?;
    terminal.expect("24 80\r\nterminal")?;
    same("code", terminal.code()?, Some(3))
}

fn exec_and_run_have_terminals() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--userns"])?;
    let pid = target.pid.to_string();
    let script = "test -t 0 && echo terminal; exit 4";
    for arguments in [
        ["exec", &pid, "--", "sh", "-c", script],
        ["run", root.path(), "--", "sh", "-c", script],
    ] {
        let mut terminal = Terminal::open(&arguments)?;
        terminal.expect("terminal")?;
        same("code", terminal.code()?, Some(4))?;
    }
    Ok(())
}

/// -i and -t as docker exec has them, beside `-t TYPE`.
fn a_terminal_can_be_asked_for() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let pid = target.pid.to_string();
    let script = "test -t 0 && test -t 1 && echo terminal; cat; echo end; exit 6";
    for verb in ["attach", "exec"] {
        let run = |options: &[&str]| {
            crate::fake::cntr(&[&[verb], options, &[&pid, "sh", "-c", script]].concat())
        };
        // Without one of its own: the command has a terminal, where nothing is typed.
        let forced = run(&["-t"])?;
        same(
            "forced",
            text(&forced.stdout),
            "terminal\r\nend\r\n".to_owned(),
        )?;
        same("code", forced.status.code(), Some(6))?;
        for options in [&["-it"][..], &["-ti"], &["--interactive", "--tty"]] {
            let refused = run(options)?;
            same("code", refused.status.code(), Some(125))?;
            contains(&text(&refused.stderr), "the input device is not a TTY")?;
        }
        for options in [&["-t", "process_id"][..], &["-i"], &["-i", "-tpid"], &[]] {
            let plain = run(options)?;
            same(
                &format!("{options:?}"),
                text(&plain.stdout),
                "end\n".to_owned(),
            )?;
        }
        let mut terminal = Terminal::open(&[verb, "-it", &pid, "sh", "-c", script])?;
        terminal.expect("terminal\r\n")?;
        terminal.type_in("typed\n\x04")?;
        terminal.expect("typed\r\nend")?;
        same("code", terminal.code()?, Some(6))?;
        same("restored", terminal.is_cooked()?, true)?;
    }
    // -i keeps what comes through a pipe as it is.
    let mut child = Command::new(CNTR)
        .args(["exec", "-i", &pid, "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let bytes = b"a\nb\0\x04\r\xff";
    child.stdin.take().ok_or("no input")?.write_all(bytes)?;
    same("bytes", child.wait_with_output()?.stdout, bytes.to_vec())
}
