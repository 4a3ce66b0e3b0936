//! B12: sessions with the files of another container or of a directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{CNTR, Rootfs, Target, contains, finish, same, skip, text};

pub const CASES: &[Case] = crate::cases! {
    tools_of_a_directory_are_the_sessions;
    tools_of_another_container_are_the_sessions;
    owners_are_those_of_the_other_container;
    mounts_of_the_other_container_are_seen needs "nsenter", "mount";
    files_stay_when_the_other_container_ends;
    what_cannot_be_served_is_said;
};

/// A root directory with a tool that no other has.
fn tools() -> Rootfs {
    let root = Rootfs::new();
    root.write("bin/only-here", "#!/bin/sh\necho the tool, $0\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(root.0.join("bin/only-here"), mode).expect("its mode");
    root
}

fn tools_of_a_directory_are_the_sessions() -> Result<(), Failed> {
    let (root, tools) = (Rootfs::new(), tools());
    // A link that leads to the root leads to that of the directory.
    fs::create_dir(tools.0.join("var"))?;
    symlink("/srv", tools.0.join("var/lib"))?;
    for options in [&[][..], &["--userns"]] {
        let target = Target::sleeping(&root, options)?;
        let script = "only-here; pwd; ls /var/lib/ /; echo $PATH; cat /proc/1/comm; head -1 /etc/passwd; echo ..; ls /..";
        let printed = target.sh(&["--from", tools.path()], script)?;
        contains(
            &printed,
            "the tool, /bin/only-here\n/srv/cntr\n/:\nbin\ndev\netc\nproc\nroot\nsrv\nsys\ntmp\nvar\n\n/var/lib/:\ncntr\n",
        )?;
        contains(
            &printed,
            "/usr/bin:/sbin:/bin\nsleep\nroot:x:0:0:root:/root:/bin/sh\n..\nbin\n",
        )?;
    }
    let target = Target::sleeping(&root, &[])?;
    let pid = target.pid.to_string();
    let mut command = Command::new(CNTR);
    command.current_dir(&tools.0).env("SHELL", "/no/such/shell");
    // Its own shell, as the caller's is not there.
    let output = finish(command.args([
        "attach",
        "--from",
        ".",
        &pid,
        "--",
        "sh",
        "-c",
        "only-here; echo -$SHELL-",
    ]))?;
    same(
        "relative",
        text(&output.stdout),
        "the tool, /bin/only-here\n--\n".to_owned(),
    )?;
    same("left", listing_of(&tools), vec!["only-here".to_owned()])
}

/// What is in `bin` that no other root has.
fn listing_of(tools: &Rootfs) -> Vec<String> {
    let names = fs::read_dir(tools.0.join("bin"))
        .into_iter()
        .flatten()
        .flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("only")).collect()
}

fn tools_of_another_container_are_the_sessions() -> Result<(), Failed> {
    let (root, tools) = (Rootfs::new(), tools());
    fs::rename(tools.0.join("bin"), tools.0.join("tools"))?;
    fs::create_dir(tools.0.join("bin"))?;
    symlink("/tools/busybox", tools.0.join("bin/sh"))?;
    let volume = Rootfs::new();
    volume.write("deep", "below a mount\n");
    let volume = format!("{}:/volume", volume.path());
    let other = Target::run(
        &tools,
        &[
            "--env",
            "PATH=/nowhere:/tools",
            "--volume",
            &volume,
            "--hostname",
            "other",
        ],
        &["/tools/sleep", "1000"],
    )?;
    for options in [
        &["--hostname", "box"][..],
        &["--hostname", "box", "--userns"],
    ] {
        let target = Target::sleeping(&root, options)?;
        let from = other.pid.to_string();
        let script = "only-here; cat /volume/deep; hostname; pwd; ls /var/lib/cntr/bin/busybox";
        same(
            "session",
            target.sh(&["--from", &from], script)?,
            "the tool, /tools/only-here\nbelow a mount\nbox\n/var/lib/cntr\n/var/lib/cntr/bin/busybox\n".to_owned(),
        )?;
    }
    Ok(())
}

/// Whatever maps the two containers have, each id is what it is in the container that the files are of.
fn owners_are_those_of_the_other_container() -> Result<(), Failed> {
    let shifted = &["--userns"][..];
    let elsewhere = &["--uid-map", "0:300000:1000", "--gid-map", "0:400000:1000"][..];
    for (source, owners) in [
        (&[][..], (0, 0)),
        (shifted, (100_000, 100_000)),
        (elsewhere, (300_000, 400_000)),
    ] {
        let tools = tools();
        for (path, extra) in [("", 0), ("srv", 0), ("etc/passwd", 7)] {
            let (uid, gid) = (owners.0 + extra, owners.1 + extra);
            std::os::unix::fs::chown(tools.0.join(path), Some(uid), Some(gid))?;
        }
        // Nobody in a container with a user namespace.
        tools.write("strange", "");
        std::os::unix::fs::chown(tools.0.join("strange"), Some(40_000), Some(50_000))?;
        let strange = |options: &[&str]| match (source.is_empty(), options) {
            (true, [] | ["--userns"]) => "40000 50000\n",
            // The number of nobody, where there is no user namespace to hide it.
            (false, []) => "4294967294 4294967294\n",
            _ => "65534 65534\n",
        };
        let other = Target::sleeping(&tools, source)?;
        for options in [&[][..], shifted, elsewhere] {
            let root = Rootfs::new();
            root.remove("etc/passwd");
            let target = Target::sleeping(&root, options)?;
            let expected = format!("0 0\n7 7\n0 0\n{}0 0\n", strange(options));
            let script = "stat -c '%u %g' /srv /etc/passwd /var /strange; \
                          echo new > /srv/new && stat -c '%u %g' /srv/new";
            let from = other.pid.to_string();
            let options = [&["--host", "rw", "--from", &from], &[][..]].concat();
            same("owners", target.sh(&options, script)?, expected)?;
            let new = fs::metadata(tools.0.join("srv/new"))?;
            same("new", (new.uid(), new.gid()), owners)?;
            // Users are those of the other container.
            let options = [&options[..], &["--effective-user", "app"]].concat();
            let script = "echo $HOME; echo new > /srv/of-app";
            let output = target.attach(&options, &["sh", "-c", script])?;
            if source == elsewhere {
                contains(
                    &text(&output.stderr),
                    &format!("the user namespace of process {from} has no user 1000"),
                )?;
            } else {
                let new = fs::metadata(tools.0.join("srv/of-app"))?;
                let app = (owners.0 + 1000, owners.1 + 1000);
                same("of app", (new.uid(), new.gid()), app)?;
                contains(&text(&output.stdout), "/srv\n")?;
                fs::remove_file(tools.0.join("srv/of-app"))?;
            }
            fs::remove_file(tools.0.join("srv/new"))?;
        }
    }
    Ok(())
}

/// Also those that are made later: what is looked up in the other container's mounts is not the server's.
fn mounts_of_the_other_container_are_seen() -> Result<(), Failed> {
    let (root, tools) = (Rootfs::new(), tools());
    let other = Target::sleeping(&tools, &[])?;
    let target = Target::sleeping(&root, &[])?;
    let mount = format!(
        "nsenter --mount --target {} mount -t tmpfs later /srv",
        other.pid
    );
    // nsenter looks for mount in the other container.
    tools.write("srv/below", "below\n");
    let applets = format!("cp /bin/busybox {0}/bin/mount", tools.path());
    let script = format!(
        "{applets}; {CNTR} attach --from {} {} -- sh -c 'cat /srv/below; echo ready; while test -e /srv/below; do sleep 0.02; done; echo seen'\
         | while read line; do echo $line; test $line = ready && {mount}; done",
        other.pid, target.pid
    );
    let output = finish(Command::new("sh").args(["-c", &script]))?;
    same(
        "seen",
        text(&output.stdout),
        "below\nready\nseen\n".to_owned(),
    )
}

fn files_stay_when_the_other_container_ends() -> Result<(), Failed> {
    let (root, tools) = (Rootfs::new(), tools());
    let volume = Rootfs::new();
    volume.write("deep", "below a mount\n");
    // What `cntr run` makes itself it also removes.
    fs::create_dir(tools.0.join("volume"))?;
    let option = format!("{}:/volume", volume.path());
    let other = Target::sleeping(&tools, &["--volume", &option])?;
    let target = Target::sleeping(&root, &[])?;
    // The session's first line says that it is there; it goes on when the other container is gone.
    let (from, pid) = (other.pid.to_string(), target.pid.to_string());
    let script = format!(
        "{CNTR} attach --from {from} {pid} -- sh -c 'echo ready; until test -e /srv/gone; do sleep 0.02; done; \
         only-here; cat /volume/deep' | while read line; do echo $line; test $line = ready && kill -9 {from} && \
         while kill -0 {from} 2>/dev/null; do sleep 0.02; done && touch {}/srv/gone; done",
        tools.path()
    );
    let output = finish(Command::new("bash").args(["-c", &script]))?;
    same(
        "afterwards",
        text(&output.stdout),
        "ready\nthe tool, /bin/only-here\nbelow a mount\n".to_owned(),
    )
}

fn what_cannot_be_served_is_said() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    if std::path::Path::new("/proc/4194305").exists() {
        return skip("process 4194305 exists");
    }
    for (from, reason) in [
        (
            "/no/such/directory",
            "cannot make the view of the host (--from /no/such/directory): No such file",
        ),
        ("/etc/passwd", "(--from /etc/passwd): Not a directory"),
        ("process_id://4194305", "4194305: there is no such process"),
        ("dockre://x", "dockre"),
    ] {
        let output = target.attach(&["--from", from], &["true"])?;
        same(from, output.status.code(), Some(125))?;
        contains(&text(&output.stderr), reason)?;
    }
    Ok(())
}
