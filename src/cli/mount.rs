//! `cntr mount`: the engine and the passthrough file system, without any container.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal};

use super::Global;
use super::mount_options::MountTable;
use super::mounter::Mounter;
use crate::control::{Served, Server};
use crate::engine::mount::DetachedMount;
use crate::engine::{Config, Session};
use crate::fs::PassthroughFs;

/// What a daemon writes to the one who started it once it serves.
const READY: &str = "ready";

/// Show a directory tree at another place, through the FUSE engine
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct MountArgs {
    /// Directory to show
    pub source: PathBuf,
    /// Directory to show it at
    pub target: PathBuf,
    /// Options, separated by commas: ro, allow_other, cache=strict|coherent|SECONDS, nosuid, nodev, noexec, noatime,
    /// export[=INODES], fsname=NAME, subtype=NAME, uidmap=INSIDE:OUTSIDE:COUNT, gidmap=INSIDE:OUTSIDE:COUNT,
    /// max_write=BYTES, workers=N, transport=auto|uring|classic, data=auto|relay|copy
    #[arg(short = 'o', value_name = "OPTIONS", value_delimiter = ',')]
    pub options: Vec<String>,
    /// How files are cached: strict (not at all), coherent (until they change) or for that many seconds
    /// [default: coherent]
    #[arg(long, value_name = "strict|coherent|ttl=SECONDS")]
    pub cache: Option<String>,
    /// Return once the file system can be used; serve in the background
    #[arg(short, long)]
    pub daemonize: bool,
    /// Started by --daemonize: tell on stdout when the file system can be used
    #[arg(long, hide = true)]
    pub(super) tell: bool,
}

const EXAMPLES: &str = "\
Examples:
  cntr mount /srv /mnt                          until Ctrl-C or `umount /mnt`
  cntr mount --daemonize /srv /mnt -o ro,allow_other
  cntr mount /srv /mnt -o uidmap=0:100000:65536,gidmap=0:100000:65536
                                                owner 0 of /srv is shown as 100000
  unshare -Urm sh -c 'cntr mount -d /srv /mnt; exec bash'
                                                without root, seen in that shell only
  mount -t fuse.cntr /srv /mnt -o allow_other   with a link /sbin/mount.fuse.cntr to cntr; also in /etc/fstab:
  /srv /mnt fuse.cntr allow_other,ro 0 0

Permissions are checked by the kernel, by mode and ACL. Without allow_other only the mounting user may use the mount.
With export, files can be opened by handle (NFS, open_by_handle_at(2)); that many forgotten inodes stay known.
subtype=none mounts as plain `fuse` instead of `fuse.cntr`.
Requests travel over io_uring where the kernel offers it (`cntr doctor` says), else over /dev/fuse; transport= insists.
workers is how many can be served at a time: by the whole mount, or for each CPU over io_uring. The kernel reads and writes open files by itself where it can (Linux 6.9); with data=relay it asks.
What is asked over /dev/fuse is spliced from 64 KiB on; with data=copy it is not.";

/// Runs `cntr mount`.
pub fn run(args: &MountArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let mut options = args.options.clone();
    options.extend(args.cache.as_ref().map(|policy| format!("cache={policy}")));
    let table = MountTable::parse(&options)?;
    let source = canonical_directory(&args.source, "source")?;
    let target = canonical_directory(&args.target, "mount point")?;
    if args.daemonize {
        return daemonize(&options, &source, &target, global);
    }
    serve(&source, &target, &table, args.tell)?;
    Ok(ExitCode::SUCCESS)
}

fn canonical_directory(path: &Path, what: &str) -> anyhow::Result<PathBuf> {
    let full = path
        .canonicalize()
        .with_context(|| format!("{what} {}", path.display()))?;
    if !full.is_dir() {
        bail!("{what} {} is not a directory", path.display());
    }
    Ok(full)
}

/// Serves until the mount is gone or a signal asks for the end.
fn serve(source: &Path, target: &Path, table: &MountTable, tell: bool) -> anyhow::Result<()> {
    // Signals go to the thread that waits for them, so they are blocked before there are others.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().context("cannot block signals")?;
    crate::sys::process::raise_descriptor_limit();
    let root: OwnedFd = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)
        .open(source)
        .with_context(|| format!("cannot open {}", source.display()))?
        .into();
    let options = table.file_system(root)?;
    let DetachedMount {
        device,
        mount,
        root,
        landmark,
        connection,
    } = DetachedMount::new(&table.mount_options(source))?;
    let mounter = Mounter::start(mount, root, &landmark, target)?;
    let config = Config {
        root,
        landmark,
        transport: table.transport,
        splicing: table.splicing,
        workers: table.workers,
        max_write: table.max_write.unwrap_or(Config::default().max_write),
        ..Config::default()
    };
    let fs = Arc::new(
        PassthroughFs::new(options)
            .with_context(|| format!("cannot serve {}", source.display()))?,
    );
    let session = Session::start(Arc::clone(&fs), device, &config)?;
    // Kept as long as this process is there.
    let _landmark = mounter.attach()?;
    let served = Served {
        kind: "mount".to_owned(),
        source: source.display().to_string(),
        target: target.display().to_string(),
        container: None,
    };
    let statistics = move || fs.statistics();
    if let Err(error) = Server::start(&session, connection, served, statistics) {
        tracing::warn!(%error, "`cntr stat` will not find this mount");
    }
    let negotiated = session.negotiated();
    tracing::info!(
        source = %source.display(),
        target = %target.display(),
        protocol = format!("7.{}", negotiated.minor),
        capabilities = ?negotiated.flags,
        "mounted"
    );
    unmount_on_signal(signals, target.to_owned())?;
    if tell {
        become_daemon()?;
    }
    session.join()?;
    Ok(())
}

/// Unmounts when a signal comes. What is open then keeps working until it is closed; a second signal ends the server
/// at once.
fn unmount_on_signal(signals: SigSet, target: PathBuf) -> io::Result<()> {
    let wait = move || {
        let _ = signals.wait();
        if umount2(&target, MntFlags::empty()).is_err() {
            tracing::warn!(target = %target.display(), "in use: detached; serving until nobody uses it any more");
            let _ = umount2(&target, MntFlags::MNT_DETACH);
        }
        let _ = signals.wait();
        std::process::exit(i32::from(super::FAILED));
    };
    std::thread::Builder::new()
        .name("cntr-signals".to_owned())
        .stack_size(256 << 10)
        .spawn(wait)
        .map(drop)
}

/// Starts this program again in the background and waits until it serves.
fn daemonize(
    options: &[String],
    source: &Path,
    target: &Path,
    global: &Global,
) -> anyhow::Result<ExitCode> {
    let mut command = super::own_program();
    command.arg("mount").arg("--tell");
    if global.verbose > 0 {
        command.arg(format!("-{}", "v".repeat(usize::from(global.verbose))));
    }
    if !options.is_empty() {
        command.arg("-o").arg(options.join(","));
    }
    command
        .arg("--")
        .arg(source)
        .arg(target)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start the server")?;
    let stdout = child.stdout.take().context("the server has no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .context("cannot hear from the server")?;
    if line.trim_end() == READY {
        return Ok(ExitCode::SUCCESS);
    }
    // It has said why on stderr.
    let status = child.wait().context("cannot wait for the server")?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(super::FAILED),
    ))
}

/// Says that the file system can be used, then lets go of the terminal and of the caller's directory.
fn become_daemon() -> anyhow::Result<()> {
    nix::unistd::setsid().context("cannot start a session of its own")?;
    std::env::set_current_dir("/").context("cannot change to /")?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{READY}")
        .and_then(|()| stdout.flush())
        .context("cannot tell that it is mounted")?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("cannot open /dev/null")?;
    nix::unistd::dup2_stdin(&null).context("stdin")?;
    nix::unistd::dup2_stdout(&null).context("stdout")?;
    nix::unistd::dup2_stderr(&null).context("stderr")?;
    Ok(())
}
