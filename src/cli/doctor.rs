//! `cntr doctor`: what this machine offers, what will be used, and why.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use comfy_table::{Table, presets};
use fuse_proto::flags::InitFlags;
use nix::sched::{CloneFlags, unshare};
use serde::Serialize;

use super::Global;
use crate::attach::privileges;
use crate::engine::mount::{DetachedMount, MountError, MountOptions};
use crate::engine::{Negotiated, probe};
use crate::sys::capability;
use crate::sys::uring::with_ring;

/// Say what this machine offers, what cntr will use, and what is missing
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  cntr doctor          a table, with a remedy for what is missing
  cntr --json doctor   for programs

Exit code: 0 if sessions and mounts can be made, 1 if not.")]
pub struct DoctorArgs {}

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with a limit.
    Note,
    /// cntr cannot work.
    Missing,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Check {
    subject: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn new(subject: &'static str, verdict: Verdict, found: impl Into<String>) -> Check {
        Check {
            subject,
            verdict,
            found: found.into(),
            remedy: None,
        }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Check {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Runs `cntr doctor`.
pub fn run(_args: &DoctorArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let mut checks = vec![kernel(), privileges(), device()];
    let mut transport = CLASSIC;
    let mut data = "relayed";
    match offer() {
        Ok(negotiated) => {
            checks.extend(capabilities(&negotiated));
            let ring = io_uring(&negotiated);
            if ring.verdict == Verdict::Ok {
                transport = IO_URING;
            }
            checks.push(ring);
            if passthrough(&negotiated).verdict == Verdict::Ok {
                data = "read and written by the kernel itself";
            }
        }
        Err(error) => checks.push(
            Check::new("FUSE mount", Verdict::Missing, error)
                .remedy("run as root, or unshare -Urm for mounts alone; in a container, give it CAP_SYS_ADMIN and /dev/fuse"),
        ),
    }
    checks.extend([descriptors(), cgroups(), security_modules()]);
    let works = checks.iter().all(|check| check.verdict != Verdict::Missing);
    if global.json {
        println!("{}", serde_json::to_string(&checks)?);
    } else {
        println!("{}", table(&checks));
        if works {
            println!("sessions and mounts use: transport {transport}, data {data}");
        } else {
            println!("sessions and mounts do not work here: see 'missing' above");
        }
    }
    Ok(if works {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn table(checks: &[Check]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Missing => "missing",
        };
        let mut text = check.found.clone();
        if let Some(remedy) = &check.remedy {
            text.push_str("\n-> ");
            text.push_str(remedy);
        }
        table.add_row([verdict.to_owned(), check.subject.to_owned(), text]);
    }
    table
}

fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut parts = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let found = format!("Linux {release}");
    match version {
        (0..=5, 0..=3) | (0..=4, _) => Check::new("kernel", Verdict::Missing, found)
            .remedy("Linux 5.4 or newer is needed (mount API, FUSE 7.31)"),
        (5, 4..=11) => Check::new("kernel", Verdict::Note, found)
            .remedy("`cntr mount` works; sessions need Linux 5.12 (mount_setattr)"),
        _ => Check::new("kernel", Verdict::Ok, found),
    }
}

/// Capabilities an attach needs, by number.
const NEEDED: [(u32, &str, &str); 8] = [
    (21, "CAP_SYS_ADMIN", "mount, join namespaces"),
    (19, "CAP_SYS_PTRACE", "look into a container's process"),
    (18, "CAP_SYS_CHROOT", "change the root"),
    (1, "CAP_DAC_OVERRIDE", "serve files of all users"),
    (
        2,
        "CAP_DAC_READ_SEARCH",
        "keep files by handle instead of descriptor",
    ),
    (0, "CAP_CHOWN", "change owners"),
    (6, "CAP_SETGID", "act as the caller"),
    (7, "CAP_SETUID", "act as the caller"),
];

/// What the user may do here. If that takes file capabilities or a user namespace, the rest is looked at with those.
fn privileges() -> Check {
    let subject = "privileges";
    let caps = capability::get().unwrap_or_default();
    let uid = nix::unistd::geteuid();
    let note = if caps.permitted.has(capability::SYS_RESOURCE) {
        ""
    } else {
        ", without CAP_SYS_RESOURCE"
    };
    let lacking: Vec<String> = NEEDED
        .iter()
        .filter(|(number, _, _)| !caps.permitted.has(*number))
        .map(|(_, name, what)| format!("{name} ({what})"))
        .collect();
    if lacking.is_empty() && caps.effective.has(capability::SYS_ADMIN) {
        return Check::new(subject, Verdict::Ok, format!("uid {uid}{note}"));
    }
    let by_file = caps.permitted.has(capability::SYS_ADMIN) && !uid.is_root();
    if by_file && privileges::missing(caps.permitted).is_empty() {
        let mut found = format!("uid {uid}, file capabilities: sessions in every container{note}");
        if !lacking.is_empty() {
            found = format!("{found}, without {}", lacking.join(", "));
        }
        return match privileges::raise() {
            Ok(()) => Check::new(subject, Verdict::Ok, found),
            Err(failure) => Check::new(subject, Verdict::Missing, failure.to_string()),
        };
    }
    if uid.is_root() && caps.effective.has(capability::SYS_ADMIN) {
        return Check::new(
            subject,
            Verdict::Missing,
            format!("without {}", lacking.join(", ")),
        )
        .remedy("run as root with all capabilities (sudo)");
    }
    let partly = if by_file {
        let missing = privileges::missing(caps.permitted).join(", ");
        format!(", file capabilities without {missing}")
    } else {
        String::new()
    };
    match own_namespaces() {
        Ok(()) => Check::new(
            subject,
            Verdict::Note,
            format!(
                "uid {uid}{partly}: sessions in your own containers (rootless Podman, bubblewrap, unshare -Ur), \
                 mounts below unshare -Urm"
            ),
        )
        .remedy("for containers of others: sudo, or file capabilities (docs/security.md, \"Without root\")"),
        Err(error) => Check::new(
            subject,
            Verdict::Missing,
            format!("uid {uid}{partly}, and no user namespace can be made: {error}"),
        )
        .remedy(
            "run as root (sudo); or sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0, where they forbid it",
        ),
    }
}

/// Goes where an ordinary user may mount.
fn own_namespaces() -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn device() -> Check {
    match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
    {
        Ok(_) => Check::new("/dev/fuse", Verdict::Ok, "can be opened"),
        Err(error) => {
            let found = error.to_string();
            let remedy = MountError::Device(error).remedy().unwrap_or("run as root");
            Check::new("/dev/fuse", Verdict::Missing, found).remedy(remedy)
        }
    }
}

/// An error with its causes.
fn chain(error: anyhow::Error) -> String {
    format!("{error:#}")
}

/// Makes a mount that is attached nowhere and listens to what the kernel offers.
fn offer() -> Result<Negotiated, String> {
    let detached =
        DetachedMount::new(&MountOptions::default()).map_err(|error| chain(error.into()))?;
    probe(detached.device).map_err(|error| chain(error.into()))
}

/// How the requests of a session or mount travel.
pub(super) fn transport() -> Result<&'static str, String> {
    let negotiated = offer()?;
    Ok(if io_uring(&negotiated).verdict == Verdict::Ok {
        IO_URING
    } else {
        CLASSIC
    })
}

const IO_URING: &str = "uring (FUSE over io_uring, a queue for each CPU)";
const CLASSIC: &str = "classic (/dev/fuse, a descriptor for each thread)";

fn capabilities(negotiated: &Negotiated) -> Vec<Check> {
    let offered = negotiated.offered;
    let mut checks = vec![Check::new(
        "FUSE mount",
        Verdict::Ok,
        format!("protocol 7.{}", negotiated.minor),
    )];
    let wanted = [
        (InitFlags::POSIX_ACL, "POSIX ACLs", "ACLs are not enforced"),
        (
            InitFlags::HANDLE_KILLPRIV_V2,
            "set-user-id clearing",
            "the kernel asks for an attribute before every write",
        ),
        (
            InitFlags::CREATE_SUPP_GROUP,
            "supplementary groups",
            "set-group-id directories see only the primary group",
        ),
        (
            InitFlags::PARALLEL_DIROPS,
            "parallel lookups",
            "lookups in one directory wait for each other",
        ),
    ];
    for (flag, subject, loss) in wanted {
        checks.push(if offered.contains(flag) {
            Check::new(subject, Verdict::Ok, "offered by the kernel")
        } else {
            Check::new(
                subject,
                Verdict::Note,
                format!("not offered by the kernel: {loss}"),
            )
        });
    }
    checks.push(passthrough(negotiated));
    checks
}

/// Whether the kernel can read and write files by itself.
fn passthrough(negotiated: &Negotiated) -> Check {
    let subject = "kernel passthrough";
    if !negotiated.offered.contains(InitFlags::PASSTHROUGH) {
        return Check::new(subject, Verdict::Note, "not offered by the kernel")
            .remedy("Linux 6.9 or later, with CONFIG_FUSE_PASSTHROUGH");
    }
    if capability::is_initial(capability::SYS_ADMIN) {
        Check::new(subject, Verdict::Ok, "offered by the kernel")
    } else {
        Check::new(
            subject,
            Verdict::Note,
            "offered by the kernel, but not to a user namespace",
        )
    }
}

/// Whether requests can travel over io_uring.
fn io_uring(negotiated: &Negotiated) -> Check {
    let subject = "FUSE over io_uring";
    if !negotiated.offered.contains(InitFlags::OVER_IO_URING) {
        let parameter = "/sys/module/fuse/parameters/enable_uring";
        let check = Check::new(subject, Verdict::Note, "not offered by the kernel");
        return if Path::new(parameter).exists() {
            check.remedy(format!(
                "echo Y > {parameter}; or fuse.enable_uring=1 on the kernel's command line"
            ))
        } else {
            check.remedy("Linux 6.14 or later, with CONFIG_FUSE_IO_URING")
        };
    }
    let tried = fs::File::open("/dev/null").and_then(|file| with_ring(file.as_fd(), 1, |_| ()));
    match tried {
        Ok(()) => Check::new(
            subject,
            Verdict::Ok,
            "offered by the kernel, rings can be made",
        ),
        Err(error) => Check::new(
            subject,
            Verdict::Note,
            format!("offered by the kernel, but no ring can be made: {error}"),
        )
        .remedy("sysctl kernel.io_uring_disabled=0, and a seccomp profile that allows io_uring"),
    }
}

fn descriptors() -> Check {
    use nix::sys::resource::{Resource, getrlimit};
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if hard >= 1024 => Check::new(
            "open files",
            Verdict::Ok,
            format!("limit {soft}, at most {hard}; files beyond are kept by handle"),
        ),
        Ok((_, hard)) => Check::new("open files", Verdict::Note, format!("limit {hard}"))
            .remedy("ulimit -n 1024"),
        Err(errno) => Check::new(
            "open files",
            Verdict::Note,
            io::Error::from(errno).to_string(),
        ),
    }
}

fn cgroups() -> Check {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_type = |name: &str| {
        mounts
            .lines()
            .filter_map(|line| line.split_once(" - "))
            .filter(|(_, tail)| tail.starts_with(name))
            .count()
    };
    let found = match (of_type("cgroup "), of_type("cgroup2 ")) {
        (0, 0) => {
            return Check::new(
                "cgroups",
                Verdict::Note,
                "none mounted: a session cannot join its container's",
            );
        }
        (0, _) => "version 2",
        (_, 0) => "version 1",
        _ => "hybrid: version 1 and 2",
    };
    Check::new("cgroups", Verdict::Ok, found)
}

fn security_modules() -> Check {
    let modules =
        fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_else(|_| "not known".to_owned());
    Check::new("security modules", Verdict::Ok, modules)
}
