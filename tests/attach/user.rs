//! Sessions and commands as another user of the container, and where they start.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{CNTR, Rootfs, Target, contains, same, text};

pub const CASES: &[Case] = crate::cases! {
    users_are_those_of_the_container;
    capabilities_are_roots_alone;
    user_namespaces_limit_who_there_is;
    sessions_start_where_the_container_is;
};

const WHO: &str = "id -u; id -g; id -G; echo $HOME";

/// What `script` prints by attach and by exec, which must be the same.
fn both(target: &Target, options: &[&str], script: &str) -> Result<String, Failed> {
    let attached = target.attach(options, &["/bin/sh", "-c", script])?;
    let executed = target.exec(options, &["/bin/sh", "-c", script])?;
    same(
        &format!("attach and exec {options:?}"),
        (text(&attached.stdout), text(&attached.stderr)),
        (text(&executed.stdout), text(&executed.stderr)),
    )?;
    Ok(format!(
        "{}{}",
        text(&attached.stdout),
        text(&attached.stderr)
    ))
}

fn users_are_those_of_the_container() -> Result<(), Failed> {
    let root = Rootfs::new();
    root.write(
        "etc/group",
        "root:x:0:\napp:x:1000:\nwheel:x:10:other,app\n",
    );
    for options in [&[][..], &["--user", "1000"], &["--userns"]] {
        let target = Target::sleeping(&root, options)?;
        for (user, expected) in [
            ("app", "1000\n1000\n1000 10\n/srv\n"),
            ("1000", "1000\n1000\n1000 10\n/srv\n"),
            ("app:wheel", "1000\n10\n10\n/srv\n"),
            ("app:77", "1000\n77\n77\n/srv\n"),
            ("5", "5\n0\n0\n/\n"),
            ("root", "0\n0\n0\n/root\n"),
        ] {
            same(
                user,
                both(&target, &["--user", user], WHO)?.as_str(),
                expected,
            )?;
        }
        // What is asked for comes last.
        let home = both(&target, &["-u", "app", "--env", "HOME=/x"], "echo $HOME")?;
        same("HOME", home.as_str(), "/x\n")?;
        // Users of the host mean nothing.
        for wrong in ["daemon", "app:daemon"] {
            let output = target.exec(&["--user", wrong], &["/bin/true"])?;
            same(wrong, output.status.code(), Some(125))?;
            contains(&text(&output.stderr), "is called \"daemon\" there")?;
        }
    }
    let target = Target::sleeping(&root, &[])?;
    let script = format!("{CNTR} exec --user app -- /bin/id 2>&1; true");
    contains(&target.sh(&[], &script)?, "give --user to `cntr attach`")
}

fn capabilities_are_roots_alone() -> Result<(), Failed> {
    let root = Rootfs::new();
    let script = "grep -E '^(Cap|NoNew)' /proc/self/status";
    fs::hard_link(root.0.join("bin/busybox"), root.0.join("bin/grep"))?;
    let caps = |permitted: &str, bounding: &str| {
        format!(
            "CapInh:\t{0}\nCapPrm:\t{permitted}\nCapEff:\t{permitted}\nCapBnd:\t{bounding}\nCapAmb:\t{0}\n",
            "0".repeat(16)
        )
    };
    for options in [&[][..], &["--user", "1000"], &["--userns"]] {
        let target = Target::sleeping(&root, options)?;
        let status = target.proc("status");
        let bounding = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:\t"));
        let bounding = bounding.ok_or("no bounding set")?;
        contains(
            &both(&target, &["--user", "app"], script)?,
            &caps(&"0".repeat(16), bounding),
        )?;
        contains(
            &both(&target, &["--user", "root"], script)?,
            &caps(bounding, bounding),
        )?;
    }
    Ok(())
}

fn user_namespaces_limit_who_there_is() -> Result<(), Failed> {
    let root = Rootfs::new();
    // Its group is not mapped, and neither is another one it is in.
    root.write(
        "etc/passwd",
        "odd:x:7:70000::/:/bin/sh\nfine:x:7:8::/:/bin/sh\n",
    );
    root.write("etc/group", "far:x:70000:fine\nnear:x:9:fine\n");
    let target = Target::sleeping(&root, &["--userns"])?;
    for (user, reason) in [
        ("70000", "the container's user namespace has no user 70000"),
        (
            "7:70000",
            "the container's user namespace has no group 70000",
        ),
        ("odd", "the container's user namespace has no group 70000"),
    ] {
        let output = target.exec(&["--user", user], &["/bin/true"])?;
        same(user, output.status.code(), Some(125))?;
        contains(&text(&output.stderr), reason)?;
    }
    same(
        "groups",
        both(&target, &["--user", "fine"], "id -G")?.as_str(),
        "8 9\n",
    )
}

fn sessions_start_where_the_container_is() -> Result<(), Failed> {
    let root = Rootfs::new();
    root.write("srv/app/file", "");
    fs::set_permissions(root.0.join("srv/app"), fs::Permissions::from_mode(0o700))?;
    let target = Target::sleeping(&root, &["--workdir", "/srv/app"])?;
    let pwd = |options: &[&str]| -> Result<(String, String), Failed> {
        let attached = target.attach(options, &["/bin/sh", "-c", "/bin/pwd"])?;
        let executed = target.exec(options, &["/bin/sh", "-c", "/bin/pwd"])?;
        Ok((text(&attached.stdout), text(&executed.stdout)))
    };
    let is = |attached: &str, executed: &str| (format!("{attached}\n"), format!("{executed}\n"));
    same(
        "default",
        pwd(&[])?,
        is("/var/lib/cntr/srv/app", "/srv/app"),
    )?;
    same(
        "asked for",
        pwd(&["--workdir", "/tmp"])?,
        is("/tmp", "/tmp"),
    )?;
    // Where the user may not be.
    same("user", pwd(&["--user", "app"])?, is("/var/lib/cntr", "/"))?;
    fs::rename(root.0.join("srv/app"), root.0.join("srv/moved"))?;
    same(
        "moved",
        pwd(&[])?,
        is("/var/lib/cntr/srv/moved", "/srv/moved"),
    )?;
    fs::remove_dir_all(root.0.join("srv/moved"))?;
    let (attached, _) = pwd(&[])?;
    same("removed", attached.as_str(), "/var/lib/cntr\n")
}
