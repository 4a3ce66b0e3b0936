//! Whether a directory can hold what is measured.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use super::Preflight;
use crate::target::mountinfo;

/// File systems whose speed is that of a network or of a server somewhere else.
const REMOTE: [&str; 9] = [
    "nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "virtiofs", "vboxsf",
];

const GIB: f64 = (1_u64 << 30) as f64;

pub fn check(backing: &Path, bytes: u64, files: u64, preflight: &mut Preflight) {
    let name = backing.display();
    let path = match backing.canonicalize() {
        Ok(path) if path.is_dir() => path,
        Ok(_) => {
            return preflight.refuse(format!(
                "{name} is not a directory: choose one with --backing"
            ));
        }
        Err(error) => {
            return preflight.refuse(format!(
                "{name} cannot be used ({error}): choose a directory with --backing"
            ));
        }
    };
    if let Err(error) = tempfile::tempfile_in(&path) {
        preflight.refuse(format!(
            "{name} cannot be written to ({error}): choose another directory with --backing"
        ));
    }
    let closed = path.ancestors().find(|directory| {
        fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & 0o001 == 0)
    });
    if let Some(closed) = closed {
        let closed = closed.display();
        preflight.refuse(format!(
            "{closed} is closed to other users, and databases run as one: `chmod o+x {closed}`"
        ));
    }
    let kind = mountinfo::holding(&path)
        .map(|entry| entry.kind)
        .unwrap_or_default();
    let fuse = statfs(&path).is_ok_and(|found| found.filesystem_type() == FUSE_SUPER_MAGIC);
    if let Some(line) = unfit(&name.to_string(), &kind, fuse) {
        preflight.refuse(line);
    } else if let Some(line) = peculiar(&name.to_string(), &kind) {
        preflight.warn(line);
    }
    if let Ok(found) = statvfs(&path) {
        let free = found.blocks_available() * found.fragment_size();
        if free < bytes {
            preflight.refuse(format!(
                "{name} has {:.1} GiB free, {:.1} are needed: make room, lower --scale, or choose another directory with --backing",
                free as f64 / GIB,
                bytes as f64 / GIB
            ));
        }
        // Some file systems make inodes as they are needed and tell none.
        if found.files() > 0 && found.files_available() < files {
            preflight.refuse(format!(
                "{name} can hold {} more files, {files} are needed: lower --scale, or choose another directory with --backing",
                found.files_available()
            ));
        }
    }
}

fn unfit(name: &str, kind: &str, fuse: bool) -> Option<String> {
    if fuse || kind.starts_with("fuse") {
        return Some(format!(
            "{name} is on FUSE itself ({kind}), so native would not be native: choose a directory on a disk with --backing"
        ));
    }
    REMOTE.contains(&kind).then(|| {
        format!("{name} is on {kind}, whose speed depends on others: choose a directory on a disk with --backing")
    })
}

fn peculiar(name: &str, kind: &str) -> Option<String> {
    match kind {
        "tmpfs" | "ramfs" => Some(format!(
            "{name} is on {kind}: fsync costs nothing and nothing is durable; this shows the overhead alone, a directory \
             on a disk what users see"
        )),
        "overlay" => Some(format!(
            "{name} is on an overlay: files are copied when they are first changed, and fsync cannot be verified; choose \
             a volume with --backing"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(path: &Path, bytes: u64, files: u64) -> Vec<String> {
        let mut preflight = Preflight::default();
        check(path, bytes, files, &mut preflight);
        preflight.refusals
    }

    fn directory(mode: u32) -> tempfile::TempDir {
        tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
            .tempdir()
            .unwrap()
    }

    #[test]
    fn room_is_needed() {
        let directory = directory(0o755);
        let refused = refusals(directory.path(), 1 << 60, 1 << 60);
        assert!(
            refused[0].contains("GiB free, 1073741824.0 are needed"),
            "{refused:?}"
        );
        assert_eq!(refusals(directory.path(), 1, 0), [""; 0]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn others_must_get_there() {
        let directory = directory(0o700);
        let refused = refusals(directory.path(), 0, 0);
        assert_eq!(refused.len(), 1);
        assert!(refused[0].contains("`chmod o+x "), "{refused:?}");
    }

    #[test]
    fn a_file_system_that_cannot_be_written_to() {
        let refused = refusals(Path::new("/proc"), 0, 0);
        assert!(refused[0].contains("cannot be written to"), "{refused:?}");
        let refused = refusals(Path::new("/proc/version"), 0, 0);
        assert!(refused[0].contains("is not a directory"), "{refused:?}");
    }

    #[test]
    fn kinds_of_file_systems() {
        for kind in [
            "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay", "",
        ] {
            assert_eq!(unfit("/x", kind, false), None, "{kind}");
        }
        for kind in ["fuse", "fuse.sshfs", "fuseblk", "nfs4", "cifs", "9p"] {
            assert!(unfit("/x", kind, false).is_some(), "{kind}");
        }
        assert!(unfit("/x", "", true).is_some());
        assert!(peculiar("/x", "tmpfs").is_some() && peculiar("/x", "overlay").is_some());
        assert_eq!(peculiar("/x", "ext4"), None);
    }
}
