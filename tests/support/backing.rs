//! File systems to serve.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use std::{env, process};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, IFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::runner::Skip;
use super::{rootless, tool, wait};

/// A type of file system.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// The directory for temporary files where that is ext4, else an image.
    Ext4,
    Tmpfs,
    /// A loop image.
    Xfs,
    /// A loop image.
    Btrfs,
    /// Two directories of the ext4.
    Overlay,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [
        Kind::Ext4,
        Kind::Tmpfs,
        Kind::Xfs,
        Kind::Btrfs,
        Kind::Overlay,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Ext4 => "ext4",
            Kind::Tmpfs => "tmpfs",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
            Kind::Overlay => "overlay",
        })
    }
}

/// Made once per process, unmounted at its end.
struct Made {
    root: PathBuf,
    mounted: bool,
}

static MADE: Mutex<Option<HashMap<Kind, std::result::Result<Made, String>>>> = Mutex::new(None);

/// The directory of this process for temporary files.
pub fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let parent = env::var_os("CNTR_TEST_DIR").map_or_else(env::temp_dir, PathBuf::from);
        let path = parent.join(format!("cntr-test-{}", process::id()));
        make_directory(&path).expect("temporary files can be made");
        path.canonicalize().expect("it was just made")
    })
}

/// A directory everybody may pass through, whatever the umask.
pub fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("cannot create {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A new empty directory on a file system of this type, or the reason why there is none.
pub fn area(kind: Kind) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let root = {
        let mut made = MADE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let made = made.get_or_insert_with(HashMap::new);
        let entry = made
            .entry(kind)
            .or_insert_with(|| make(kind).map_err(|error| format!("{error:#}")));
        match entry {
            Ok(made) => made.root.clone(),
            Err(reason) => return Err(Skip::new(reason.clone()).into()),
        }
    };
    let path = root.join(format!("area-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    make_directory(&path)?;
    Ok(path)
}

fn make(kind: Kind) -> Result<Made> {
    let point = base().join(kind.to_string());
    make_directory(&point)?;
    let plain = MountFlags::empty();
    match kind {
        Kind::Ext4 if is_ext4(base()) => {
            return Ok(Made {
                root: point,
                mounted: false,
            });
        }
        Kind::Ext4 => image(&point, "mkfs.ext4", &["-q", "-F"])?,
        Kind::Xfs => image(&point, "mkfs.xfs", &["-q", "-f"])?,
        Kind::Btrfs => image(&point, "mkfs.btrfs", &["-q", "-f"])?,
        Kind::Tmpfs => mount("tmpfs", &point, "tmpfs", plain, Some(c"size=1g,mode=755"))
            .context("cannot mount tmpfs")?,
        Kind::Overlay => {
            let layers =
                ["lower", "upper", "work"].map(|layer| base().join(format!("overlay-{layer}")));
            for layer in &layers {
                make_directory(layer)?;
            }
            let [lower, upper, work] = layers.map(|layer| layer.display().to_string());
            let data = std::ffi::CString::new(format!(
                "lowerdir={lower},upperdir={upper},workdir={work}"
            ))?;
            mount("overlay", &point, "overlay", plain, Some(data.as_c_str()))
                .context("cannot mount overlay")?;
        }
    }
    Ok(Made {
        root: point,
        mounted: true,
    })
}

fn is_ext4(path: &Path) -> bool {
    const EXT4_SUPER_MAGIC: u64 = 0xef53;
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type.cast_unsigned() == EXT4_SUPER_MAGIC)
}

fn image(point: &Path, mkfs: &str, options: &[&str]) -> Result<()> {
    rootless::need("loop devices")?;
    let file = point.with_extension("img");
    fs::File::create(&file)?.set_len(1 << 30)?;
    tool::run(tool::need(mkfs)?.args(options).arg(&file))?;
    tool::run(
        tool::need("mount")?
            .args(["-o", "loop"])
            .arg(&file)
            .arg(point),
    )?;
    fs::set_permissions(point, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// How long servers in the background may take to end, which nobody waits for.
const ENDING: Duration = Duration::from_secs(5);

/// Unmounts `root`, which processes that are just ending may still use.
fn unmount_soon(root: &Path) -> rustix::io::Result<()> {
    let mut result = Ok(());
    wait::until(ENDING, || {
        result = unmount(root, UnmountFlags::empty());
        result != Err(Errno::BUSY)
    });
    result
}

/// Unmounts and removes everything; says what could not be.
pub fn tear_down() -> Vec<String> {
    let mut problems = Vec::new();
    let Some(made) = MADE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take()
    else {
        return problems;
    };
    for (kind, made) in made {
        let Ok(made) = made else { continue };
        if made.mounted
            && let Err(error) = unmount_soon(&made.root)
        {
            problems.push(format!("{kind} cannot be unmounted: {error}"));
            let _ = unmount(&made.root, UnmountFlags::DETACH);
        }
    }
    if let Err(error) = remove(base()) {
        problems.push(format!("{error:#}"));
    }
    problems
}

/// Removes a tree, also what is marked as immutable or append-only.
pub fn remove(path: &Path) -> Result<()> {
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    clear_flags(path);
    fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))
}

fn clear_flags(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    if metadata.is_file() || metadata.is_dir() {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::openat(CWD, path, flags, Mode::empty())
            && let Ok(flags) = rustix::fs::ioctl_getflags(&fd)
        {
            let _ = rustix::fs::ioctl_setflags(&fd, flags - IFlags::IMMUTABLE - IFlags::APPEND);
        }
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            clear_flags(&entry.path());
        }
    }
}

/// Removes one name, whatever it is.
pub fn unlink(path: &Path) -> rustix::io::Result<()> {
    rustix::fs::unlinkat(CWD, path, AtFlags::empty())
}
