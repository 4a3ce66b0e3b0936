//! B5: whose the files become that a session makes on the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{Rootfs, Target, contains, same, text, unique};

pub const CASES: &[Case] = crate::cases! {
    new_files_belong_to_the_effective_user;
    what_is_no_user_of_the_host_is_refused;
    a_view_that_is_read_only_is_said;
};

/// A directory of the host; removed when dropped.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Directory {
        let path = std::env::temp_dir().join(format!("cntr-test-{}", unique()));
        fs::create_dir(&path).expect("a directory below the temporary one");
        Directory(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("ASCII")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn owner(directory: &Directory, name: &str) -> (String, u32, u32) {
    let (uid, gid) = fs::symlink_metadata(directory.0.join(name))
        .map_or((u32::MAX, u32::MAX), |data| (data.uid(), data.gid()));
    (name.to_owned(), uid, gid)
}

fn new_files_belong_to_the_effective_user() -> Result<(), Failed> {
    for options in [
        &["--caps", "all"][..],
        &["--userns", "--caps", "all"],
        // Who may make a file need not be whom it belongs to.
        &["--user", "7:8"],
    ] {
        let root = Rootfs::new();
        let target = Target::sleeping(&root, options)?;
        let directory = Directory::new();
        fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o777))?;
        fs::write(directory.0.join("old"), "")?;
        fs::set_permissions(directory.0.join("old"), fs::Permissions::from_mode(0o666))?;
        chown(directory.0.join("old"), Some(3), Some(4))?;
        let grouped = directory.0.join("grouped");
        fs::create_dir(&grouped)?;
        chown(&grouped, None, Some(99))?;
        fs::set_permissions(&grouped, fs::Permissions::from_mode(0o2777))?;
        let script = format!(
            "cd {} && echo x >> old && echo x > new && mkdir dir && ln -s x link && mkfifo fifo && \
             echo x > grouped/new && mv new moved && stat -c '%u %g' moved",
            directory.path()
        );
        let printed = target.sh(&["--host", "rw", "--effective-user", "1234:56"], &script)?;
        same("as the session sees it", printed.trim(), "1234 56")?;
        for name in ["moved", "dir", "link", "fifo"] {
            same(
                "owner",
                owner(&directory, name),
                (name.to_owned(), 1234, 56),
            )?;
        }
        same("old", owner(&directory, "old"), ("old".to_owned(), 3, 4))?;
        let made = owner(&directory, "grouped/new");
        same("group", made, ("grouped/new".to_owned(), 1234, 99))?;
    }
    // By name; files in the container are not the host's.
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let directory = Directory::new();
    let script = format!(
        "echo $HOME; echo x > {}/new; echo x > /var/lib/cntr/new",
        directory.path()
    );
    let passwd = fs::read_to_string("/etc/passwd")?;
    let daemon = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == "daemon")
        .ok_or("no user daemon")?;
    let printed = target.sh(&["--effective-user", "daemon"], &script)?;
    same("home", printed.trim(), daemon[5])?;
    let ids = (daemon[2].parse()?, daemon[3].parse()?);
    same(
        "by name",
        owner(&directory, "new"),
        ("new".to_owned(), ids.0, ids.1),
    )?;
    let made = fs::metadata(root.0.join("new"))?;
    same("in the container", (made.uid(), made.gid()), (0, 0))
}

fn what_is_no_user_of_the_host_is_refused() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    for (user, reason) in [
        (
            "no-such-user-here",
            "no user is called \"no-such-user-here\"",
        ),
        (
            "0:no-such-group-here",
            "no group is called \"no-such-group-here\"",
        ),
        ("4294967295", "4294967295 is not the number of a user"),
    ] {
        let output = target.attach(&["--effective-user", user], &["true"])?;
        same(user, output.status.code(), Some(125))?;
        contains(&text(&output.stderr), reason)?;
    }
    Ok(())
}

fn a_view_that_is_read_only_is_said() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--userns"])?;
    let output = target.attach(&["--effective-user", "1"], &["true"])?;
    same("code", output.status.code(), Some(0))?;
    contains(&text(&output.stderr), "--effective-user needs --host rw")
}
