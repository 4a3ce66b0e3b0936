//! Is a target what it claims to be?

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, statfs};
use nix::unistd::{Pid, User};

use super::up::Up;
use super::{Target, durability, mountinfo};
use crate::job::Place;
use crate::result::{Check, TargetKind, Verdict};

/// Time for all checks of a mount, and for each command of a session.
pub(super) const TIME: Duration = Duration::from_secs(20);

/// Its user is somebody who has nothing to do with the mount.
const STRANGER: &str = "nobody";

/// What was seen, with the verdict.
pub(super) type Seen = (Verdict, String);

/// Checks what a target claims, in a directory of its own below `host`, which is gone afterwards. What
/// shows only while it is up - threads, transport, whether writes are delayed - becomes a parameter of `up`.
pub fn verify(target: &Target, up: &mut Up, host: &Path) -> Vec<Check> {
    up.inspect(target);
    let place = up.workshop(TIME);
    let mut checks = vec![match target.kind() {
        TargetKind::Native => essential("is a bind mount of the directory", native(&place)),
        _ => match target.spec.fuse() {
            Some(kind) => essential("is a FUSE file system", guarded(up, || fuse(&place, kind))),
            None => essential("is the directory itself", direct(&place)),
        },
    }];
    if let Some(session) = up.session() {
        let pid = session.container().pid();
        let inside = in_container(&place, pid.as_raw());
        checks.push(essential("runs in the container", inside));
    }
    if target.spec.ours() {
        let claim = target.spec.parameters().remove("transport");
        let found = up.parameters().get("transport").cloned();
        checks.push(essential(
            "is served by our engine",
            transport(claim, found),
        ));
    }
    if target.spec.needs_uring && !target.spec.ours() {
        checks.push(essential(
            "speaks FUSE over io_uring",
            uring(&place.servers),
        ));
    }
    let room = place_in(&place, host, &format!(".perf-check-{}", token()));
    if let Err(error) = guarded(up, || make_room(&room)) {
        checks.push(essential("changes the directory of the host", Err(error)));
        return checks;
    }
    if room.host.is_dir() {
        in_room(up, &room, &mut checks);
    } else {
        let detail = format!("what is made through it is not in {}", host.display());
        let seen = Ok((Verdict::Violated, detail));
        checks.push(essential("changes the directory of the host", seen));
    }
    // Through the target first, as it may remember what is there.
    if room.enter.is_empty() {
        let _ = guarded(up, || fs::remove_dir_all(&room.dir));
    }
    let _ = fs::remove_dir_all(&room.host);
    checks
}

/// The checks that make files.
fn in_room(up: &mut Up, room: &Place, checks: &mut Vec<Check>) {
    let passes = guarded(up, || target_to_host(room));
    checks.push(essential("changes the directory of the host", passes));
    let shows = match guarded(up, || host_to_target(room)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((
            Verdict::Violated,
            "a new file does not appear: names are remembered".to_owned(),
        )),
        other => other,
    };
    checks.push(check("shows what the host changes", shows));
    checks.push(check("keeps the owner of new files", owner(room)));
    let durable = guarded(up, || durability::seen(room));
    let durable = durable.map(|(seen, writeback)| {
        if let Some(writeback) = writeback {
            up.note("writeback_cache", writeback.to_string());
        }
        seen
    });
    checks.push(check("fsync reaches the backing file system", durable));
}

/// An I/O error through a target is a violation: it claims to be a file system.
fn check(claim: &str, seen: io::Result<Seen>) -> Check {
    let (verdict, detail) = seen.unwrap_or_else(|error| (Verdict::Violated, error.to_string()));
    Check {
        claim: claim.to_owned(),
        verdict,
        detail,
        essential: false,
    }
}

/// A check without which the target is something else than it says, and not worth measuring.
fn essential(claim: &str, seen: io::Result<Seen>) -> Check {
    Check {
        essential: true,
        ..check(claim, seen)
    }
}

fn guarded<T>(up: &Up, work: impl FnOnce() -> T) -> T {
    match up.mount() {
        Some(mount) => mount.guarded(TIME, work),
        None => work(),
    }
}

/// A directory in a place.
fn place_in(place: &Place, host: &Path, name: &str) -> Place {
    let mut room = place.clone();
    room.dir.push(name);
    room.host = host.join(name);
    room
}

/// Makes a directory through the target where everybody may write.
fn make_room(room: &Place) -> io::Result<()> {
    if room.enter.is_empty() {
        fs::create_dir(&room.dir)?;
        return fs::set_permissions(&room.dir, Permissions::from_mode(0o777));
    }
    let mut command = room.command("mkdir");
    if let Some(parent) = room.dir.parent() {
        command = command.directory(parent);
    }
    let command = command.arg("--mode=777").arg(&room.dir);
    command.run().map(drop).map_err(io::Error::other)
}

fn hex(kind: FsType) -> String {
    format!("{:x}", kind.0)
}

/// Number of the type of the file system, and of the device, as the target shows them.
fn kind_seen(place: &Place) -> io::Result<(String, u64)> {
    if place.enter.is_empty() {
        let device = fs::metadata(&place.dir)?.dev();
        return Ok((hex(statfs(&place.dir)?.filesystem_type()), device));
    }
    let kind = output(place, "stat", &["-f", "-c", "%t", "."])?;
    let device = output(place, "stat", &["-c", "%d", "."])?;
    Ok((kind, device.parse().map_err(io::Error::other)?))
}

fn output(place: &Place, program: &str, arguments: &[&str]) -> io::Result<String> {
    // A time of its own for each command.
    let mut place = place.clone();
    place.control = place.control.with_deadline(TIME);
    let finished = place
        .command(program)
        .args(arguments)
        .run()
        .map_err(io::Error::other)?;
    Ok(finished.stdout.trim().to_owned())
}

fn native(place: &Place) -> io::Result<Seen> {
    let (kind, device) = kind_seen(place)?;
    let backing = statfs(&place.host)?.filesystem_type();
    let same_file = fs::metadata(&place.dir)?.ino() == fs::metadata(&place.host)?.ino();
    let name = mountinfo::holding(&place.dir).map_or_else(|| kind.clone(), |entry| entry.kind);
    let fuse = backing == FUSE_SUPER_MAGIC || kind == hex(FUSE_SUPER_MAGIC);
    Ok(if fuse {
        let detail = format!("it is {name}, which is FUSE itself: use another backing directory");
        (Verdict::Violated, detail)
    } else if device == fs::metadata(&place.host)?.dev() && same_file {
        (
            Verdict::Verified,
            format!("{name}, the same device and inode"),
        )
    } else {
        (
            Verdict::Violated,
            format!("{name}, another device or inode"),
        )
    })
}

fn direct(place: &Place) -> io::Result<Seen> {
    let (kind, device) = kind_seen(place)?;
    Ok(if kind == hex(FUSE_SUPER_MAGIC) {
        (Verdict::Violated, "it is a FUSE file system".to_owned())
    } else if device == fs::metadata(&place.host)?.dev() {
        (Verdict::Verified, "the same device".to_owned())
    } else {
        (
            Verdict::Violated,
            format!("file system type {kind} on another device"),
        )
    })
}

fn fuse(place: &Place, wanted: &str) -> io::Result<Seen> {
    let (kind, device) = kind_seen(place)?;
    let magic = kind == hex(FUSE_SUPER_MAGIC);
    let other_device = device != fs::metadata(&place.host)?.dev();
    // The mounts of a session are its own.
    let text = if place.enter.is_empty() {
        None
    } else {
        Some(output(place, "cat", &["/proc/self/mountinfo"])?)
    };
    let entries = text.map_or_else(mountinfo::all, |text| mountinfo::parse_all(text.as_bytes()));
    let name = mountinfo::holding_in(&entries, &place.dir).map_or("unknown", |entry| &entry.kind);
    let mut problems = Vec::new();
    if !magic {
        problems.push(format!("statfs(2) tells type {kind}"));
    }
    if !name.starts_with(wanted) {
        problems.push(format!("the mount has type {name}, not {wanted}"));
    }
    if !other_device {
        problems.push("it has the device number of the host's directory".to_owned());
    }
    Ok(if problems.is_empty() {
        (Verdict::Verified, name.to_owned())
    } else {
        (Verdict::Violated, problems.join(", "))
    })
}

fn in_container(place: &Place, pid: i32) -> io::Result<Seen> {
    let inside = output(place, "readlink", &["/proc/self/ns/pid"])?;
    let container = fs::read_link(format!("/proc/{pid}/ns/pid"))?;
    Ok(if Path::new(&inside) == container {
        (Verdict::Verified, inside)
    } else {
        let detail = format!(
            "it runs in {inside}, the container in {}",
            container.display()
        );
        (Verdict::Violated, detail)
    })
}

fn transport(claim: Option<String>, found: Option<String>) -> io::Result<Seen> {
    Ok(match (claim, found) {
        (_, None) => (
            Verdict::Violated,
            "`cntr stat` knows no such server".to_owned(),
        ),
        (Some(claim), Some(found)) if claim != found => (
            Verdict::Violated,
            format!("requests travel by {found}, not {claim}"),
        ),
        (_, Some(found)) => (Verdict::Verified, format!("requests travel by {found}")),
    })
}

/// Servers fall back to reading `/dev/fuse` without a word; those that do not have rings.
fn uring(servers: &[Pid]) -> io::Result<Seen> {
    let mut rings = 0;
    for pid in servers {
        for file in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let link = fs::read_link(file.path()).unwrap_or_default();
            rings += usize::from(link.as_os_str() == "anon_inode:[io_uring]");
        }
    }
    Ok(match rings {
        0 => (Verdict::Violated, "the server has no rings".to_owned()),
        rings => (Verdict::Verified, format!("the server has {rings} rings")),
    })
}

fn token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn host_to_target(place: &Place) -> io::Result<Seen> {
    let token = token();
    fs::write(place.host.join("from-host"), &token)?;
    let found = if place.enter.is_empty() {
        fs::read_to_string(place.dir.join("from-host"))?
    } else {
        output(place, "cat", &["from-host"])?
    };
    Ok(same(&token, &found))
}

fn target_to_host(place: &Place) -> io::Result<Seen> {
    let token = token();
    if place.enter.is_empty() {
        let mut file = File::create(place.dir.join("to-host"))?;
        file.write_all(token.as_bytes())?;
        file.sync_all()?;
    } else {
        // A session has nothing to read but files.
        fs::write(place.host.join("source"), &token)?;
        output(place, "dd", &["if=source", "of=to-host", "conv=fsync"])?;
    }
    let found = fs::read_to_string(place.host.join("to-host"))?;
    Ok(same(&token, &found))
}

fn same(token: &str, found: &str) -> Seen {
    if token == found {
        (Verdict::Verified, "a new file and its content".to_owned())
    } else {
        (
            Verdict::Violated,
            format!("it has '{found}' instead of '{token}'"),
        )
    }
}

/// Somebody makes a file through the target: whose is it on the host?
fn owner(place: &Place) -> io::Result<Seen> {
    let Some(user) = User::from_name(STRANGER).ok().flatten() else {
        return Ok((Verdict::Unknown, format!("there is no user {STRANGER}")));
    };
    let mut place = place.clone();
    place.control = place.control.with_deadline(TIME);
    // By number: not every system calls nobody's group nobody.
    let made = place
        .command("setpriv")
        .args([
            "--reuid",
            &user.uid.to_string(),
            "--regid",
            &user.gid.to_string(),
        ])
        .args(["--clear-groups", "--", "touch", "of-somebody"])
        .run();
    if let Err(error) = made {
        return Ok((
            Verdict::Violated,
            format!("{STRANGER} cannot make a file: {error}"),
        ));
    }
    let made = fs::metadata(place.host.join("of-somebody"))?;
    let owner = (made.uid(), made.gid());
    let wanted = (user.uid.as_raw(), user.gid.as_raw());
    Ok(if owner == wanted {
        (
            Verdict::Verified,
            format!("a file of {STRANGER} is theirs on the host"),
        )
    } else {
        let (uid, gid) = owner;
        let detail = format!("a file of {STRANGER} belongs to {uid}:{gid} on the host");
        (Verdict::Violated, detail)
    })
}
