//! Users who are root of a user namespace only, and those who are not even that.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::support::backing::{self, Kind};
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, peer};
use crate::support::{rootless, tool};

pub fn add(suite: &mut Suite) {
    suite.test("a_namespace_of_one_user_is_served", one_user);
    suite.test("users_without_privilege_are_told_the_remedy", remedy);
}

/// A new directory to serve, and one to mount on.
fn directories() -> Result<(PathBuf, PathBuf)> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("is about this server").into());
    }
    let area = backing::area(Kind::Ext4)?;
    let (source, point) = (area.join("source"), area.join("point"));
    backing::make_directory(&source)?;
    backing::make_directory(&point)?;
    Ok((source, point))
}

/// What to do in the namespace: `$1` is the program, `$2` what is served, `$3` the mount point, `$4` are its options.
const SCRIPT: &str = r#"
refused() {
    why=$1
    shift
    if said=$("$@" 2>&1); then echo "allowed: $*"; exit 1; fi
    case $said in *"$why"*) ;; *) echo "$*: $said instead of $why"; exit 1 ;; esac
}
"$1" mount --daemonize -o "$4" "$2" "$3"
trap 'cd /; umount "$3"' EXIT
cd "$3"
# The directory has a group that is not mapped: its user may write all the same.
echo text >made
echo more >>group
mkdir directory
mv made directory
refused "Permission denied" sh -c 'echo x >others'
refused "Value too large" chmod 600 others
refused "Operation not permitted" mknod null c 1 3
refused "Operation not permitted" setfattr -n trusted.name -v value group
refused "Invalid argument" chown 1 group
# Its list names a user who is not mapped, too.
getfacl --omit-header --numeric listed
refused "Invalid argument" setfacl -m u:0:r listed
setfacl --remove-all listed
stat -c '%u:%g' . directory/made group others
cat directory/made group others
"#;

/// Anybody may make such a namespace. Other owners and groups have no number in it.
fn one_user() -> Result<()> {
    let (source, point) = directories()?;
    for (name, owner) in [("group", 0), ("others", 1001)] {
        let path = source.join(name);
        fs::write(&path, format!("{name}\n"))?;
        fs::set_permissions(&path, Permissions::from_mode(0o646))?;
        chown(&path, Some(owner), Some(2000))?;
    }
    chown(&source, None, Some(2000))?;
    tool::need("setfattr")?;
    fs::write(source.join("listed"), "")?;
    tool::run(
        tool::need("setfacl")?
            .args(["-m", "u:0:r,u:1001:rw"])
            .arg(source.join("listed")),
    )?;
    let options = std::env::var("CNTR_TEST_OPTIONS").unwrap_or_default();
    let printed = tool::run(
        tool::need("unshare")?
            .args(["--user", "--map-root-user", "--mount", "sh", "-ec", SCRIPT])
            .arg("sh")
            .args([&rootless::binary(), &source, &point])
            .arg(options)
            .env("LC_ALL", "C"),
    )?;
    let list = "user::rw-\nuser:0:r--\ngroup::r--\nmask::rw-\nother::r--\n\n";
    let rest = "0:0\n0:0\n0:0\n65534:65534\ntext\ngroup\nmore\nothers\n";
    ensure!(printed == format!("{list}{rest}"), "{printed}");
    // On the host nothing has another owner because of how it is shown.
    let owner = |name: &str| fs::metadata(source.join(name)).map(|stat| (stat.uid(), stat.gid()));
    ensure!(owner("group")? == (0, 2000) && owner("others")? == (1001, 2000));
    backing::remove(&source)
}

/// Without a namespace nobody but root can mount.
fn remedy() -> Result<()> {
    let (source, point) = directories()?;
    for path in [&source, &point] {
        chown(path, Some(1000), Some(1000))?;
    }
    // The binary may be below a directory that is closed to others.
    let binary = source.join("cntr");
    fs::copy(rootless::binary(), &binary)?;
    let output = Command::new(binary)
        .arg("mount")
        .args([&source, &point])
        .uid(1000)
        .gid(1000)
        .output()
        .context("an ordinary user cannot start the program")?;
    let said = tool::printed(&output);
    let is_open = fs::metadata("/dev/fuse")?.mode() & 0o006 == 0o006;
    let remedy = if is_open {
        "unshare -Urm"
    } else {
        "chmod 666 /dev/fuse"
    };
    ensure!(
        output.status.code() == Some(125) && said.contains(remedy),
        "{said}"
    );
    ensure!(said.lines().count() == 2, "{said}");
    Ok(())
}
