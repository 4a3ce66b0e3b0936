//! A3 to A5 and B1 to B4: what the session sees, and that nothing is left of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{CNTR, Rootfs, Target, contains, finish, listing, same, skip, text, unique};

pub const CASES: &[Case] = crate::cases! {
    files_in_etc_are_the_containers;
    the_hosts_files_in_etc_may_be_links_or_missing needs "unshare";
    time_zones_are_the_containers;
    nothing_is_left;
    nothing_is_written_to_a_host_on_overlay needs "unshare", "chroot";
    odd_containers_work;
    the_container_is_live_in_both_directions;
    later_mounts_of_the_container_show_up needs "unshare", "nsenter", "mount";
    a_chroot_is_honoured needs "chroot";
    base_directories_can_be_chosen;
    sessions_can_be_concurrent;
    ids_are_shifted;
    access_to_the_host_is_limited;
};

/// A4.
fn files_in_etc_are_the_containers() -> Result<(), Failed> {
    let root = Rootfs::new();
    root.write("run/resolv.conf", "nameserver 192.0.2.53\n");
    symlink("/run/resolv.conf", root.0.join("etc/resolv.conf"))?;
    let target = Target::sleeping(&root, &[])?;
    let printed = target.sh(
        &[],
        "cat /etc/passwd /etc/group /etc/resolv.conf; getent hosts only-in-the-container",
    )?;
    contains(
        &printed,
        "app:x:1000:1000::/srv:/bin/sh\nroot:x:0:\napp:x:1000:\nnameserver 192.0.2.53\n192.0.2.7",
    )?;
    // The container has no hostname file: the host's stays, if it has one.
    let host = fs::read_to_string("/etc/hostname").unwrap_or_default();
    same(
        "hostname file",
        target.sh(&[], "cat /etc/hostname 2>/dev/null; true")?,
        host,
    )
}

/// A4: also where the host's file is a link, one that leads nowhere, or missing; what the link leads to stays as it is.
fn the_hosts_files_in_etc_may_be_links_or_missing() -> Result<(), Failed> {
    let root = Rootfs::new();
    root.write("etc/resolv.conf", "nameserver 192.0.2.53\n");
    root.write("etc/hostname", "of-the-container\n");
    let target = Target::sleeping(&root, &[])?;
    let etc = Rootfs::new();
    let script = format!(
        "mount -t tmpfs none {0} && cp -a /etc/. {0} && cd {0} && rm -f resolv.conf hostname hosts group && \
         echo of-the-host > link-target && ln -s link-target resolv.conf && ln -s /nowhere/at/all hostname && \
         ln -s /etc/link-target group && mount --bind {0} /etc && cat /etc/resolv.conf && \
         {CNTR} attach {1} -- sh -c 'cat /etc/resolv.conf /etc/hostname /etc/hosts /etc/group; ls -l /etc/hosts' && \
         cat /etc/link-target && ls /etc/hosts; readlink /etc/resolv.conf /etc/hostname /etc/group",
        etc.path(),
        target.pid
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script]);
    let output = finish(&mut command)?;
    let printed = text(&output.stdout);
    let expected = "of-the-host\nnameserver 192.0.2.53\nof-the-container\n127.0.0.1 localhost\n\
                    192.0.2.7 only-in-the-container\nroot:x:0:\napp:x:1000:\n-rw";
    contains(&format!("{printed}{}", text(&output.stderr)), expected)?;
    // On the host everything is as before.
    contains(
        &printed,
        "\nof-the-host\nlink-target\n/nowhere/at/all\n/etc/link-target\n",
    )
}

/// A5.
fn time_zones_are_the_containers() -> Result<(), Failed> {
    let zone = "usr/share/zoneinfo/Test/Zone";
    let Ok(bytes) = fs::read("/usr/share/zoneinfo/Asia/Tokyo") else {
        return skip("no /usr/share/zoneinfo/Asia/Tokyo (Debian: apt install tzdata)");
    };
    for link in [
        "../usr/share/zoneinfo/Test/Zone",
        "/usr/share/zoneinfo/Test/Zone",
    ] {
        let root = Rootfs::new();
        root.write(zone, "");
        fs::write(root.0.join(zone), &bytes)?;
        symlink(link, root.0.join("etc/localtime"))?;
        let target = Target::sleeping(&root, &[])?;
        same(link, target.sh(&[], "date +%Z")?.trim(), "JST")?;
    }
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    same("no link", target.sh(&[], "date +%Z")?.trim(), "UTC")?;
    let target = Target::sleeping(&root, &["--env", "TZ=XYZ3"])?;
    same("TZ", target.sh(&[], "date +%Z")?.trim(), "XYZ")
}

/// B1.
fn nothing_is_left() -> Result<(), Failed> {
    for options in [&[][..], &["--userns"]] {
        let root = Rootfs::new();
        let target = Target::sleeping(&root, options)?;
        let before = (
            root.listing(),
            target.proc("mountinfo"),
            listing(std::path::Path::new("/var/lib/cntr")),
        );
        target.sh(
            &[],
            "ls /var/lib/cntr /tmp > /dev/null; cat /var/lib/cntr/etc/passwd /etc/group",
        )?;
        let after = (
            root.listing(),
            target.proc("mountinfo"),
            listing(std::path::Path::new("/var/lib/cntr")),
        );
        same("container and host", before, after)?;
    }
    Ok(())
}

/// B1: what cntr would write anywhere on the host would be found in the upper layer of an overlay.
fn nothing_is_written_to_a_host_on_overlay() -> Result<(), Failed> {
    let probe = Rootfs::new();
    let layers = format!(
        "mount -t tmpfs none {0} && cd {0} && mkdir upper work host && \
         mount -t overlay -o lowerdir=/,upperdir=$PWD/upper,workdir=$PWD/work none host",
        probe.path()
    );
    let run = |script: &str| {
        let script = format!("{layers} && {script}");
        let mut command = Command::new("unshare");
        finish(command.args(["-m", "--propagation", "private", "sh", "-c", &script]))
    };
    let able = run("true")?;
    if !able.status.success() {
        let errors = text(&able.stderr);
        let reason = errors.lines().next().unwrap_or_default();
        return skip(format!("cannot mount overlay: {reason}"));
    }
    for options in [&[][..], &["--userns"]] {
        let root = Rootfs::new();
        let target = Target::sleeping(&root, options)?;
        let script = format!(
            "for d in proc sys dev; do mount --rbind /$d host/$d; done; \
             mkdir -p host{0} && touch host{CNTR} && mount --bind {CNTR} host{CNTR} || exit 1; \
             find upper | sort > before; \
             chroot host {CNTR} attach {1} -- sh -c 'ls /var/lib/cntr /tmp > /dev/null; cat /etc/passwd' && \
             chroot host {CNTR} exec {1} -- true && find upper | sort > after && \
             diff before after && echo nothing",
            std::path::Path::new(CNTR)
                .parent()
                .ok_or("no parent")?
                .display(),
            target.pid
        );
        let output = run(&script)?;
        let printed = text(&output.stdout);
        contains(
            &format!("{printed}{}", text(&output.stderr)),
            "app:x:1000:1000::/srv:/bin/sh\nnothing\n",
        )?;
    }
    Ok(())
}

/// B1: no /tmp, no /dev/pts, no /proc, nothing at all, a read-only root.
fn odd_containers_work() -> Result<(), Failed> {
    let root = Rootfs::new();
    root.remove("tmp");
    let target = Target::sleeping(&root, &["--read-only"])?;
    contains(
        &target.sh(&[], "ls /var/lib/cntr; echo x > /dev/null && echo fine")?,
        "fine",
    )?;
    let output = target.attach(&[], &["touch", "/var/lib/cntr/x"])?;
    contains(&text(&output.stderr), "ead-only")?;
    // The root belongs to the user namespace, and to nobody else.
    let root = Rootfs::new();
    let chown = Command::new("chown")
        .args(["-R", "100000:100000", root.path()])
        .status()?;
    same("chown", chown.success(), true)?;
    fs::set_permissions(&root.0, fs::Permissions::from_mode(0o700))?;
    let target = Target::sleeping(&root, &["--userns"])?;
    let script =
        "stat -c %u /var/lib/cntr /var/lib/cntr/etc/passwd; echo x > /var/lib/cntr/new; id -u";
    same("owners", target.sh(&[], script)?, "0\n0\n0\n".to_owned())?;
    same(
        "owner of a new file",
        fs::metadata(root.0.join("new"))?.uid(),
        100_000,
    )?;
    // Neither /proc nor /sys nor /dev is there, nor anything mounted.
    let root = Rootfs::new();
    for name in ["tmp", "proc", "sys", "dev"] {
        root.remove(name);
    }
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
    let printed = target.sh(&[], "cat /proc/1/comm; ls /dev/null /dev/pts/ptmx; ls /var/lib/cntr; python3 -c 'print(6*7)' || echo 42")?;
    contains(&printed, "sleep\n/dev/null\n/dev/pts/ptmx\nbin\n")?;
    contains(&printed, "42")
}

/// B2.
fn the_container_is_live_in_both_directions() -> Result<(), Failed> {
    let root = Rootfs::new();
    symlink("bin", root.0.join("lib"))?;
    let inner = Rootfs::new();
    inner.write("deep", "below a mount\n");
    let volume = format!("{}:/volume", inner.path());
    let target = Target::sleeping(&root, &["--volume", &volume])?;
    let script =
        "readlink /var/lib/cntr/lib; cat /var/lib/cntr/volume/deep; echo new > /var/lib/cntr/top";
    same(
        "tree",
        target.sh(&[], script)?,
        "bin\nbelow a mount\n".to_owned(),
    )?;
    same(
        "from the session",
        fs::read_to_string(root.0.join("top"))?,
        "new\n".to_owned(),
    )?;
    let script = format!(
        "cat /var/lib/cntr/top; {CNTR} exec -- sh -c 'echo other > /top'; cat /var/lib/cntr/top"
    );
    same(
        "from the container",
        target.sh(&[], &script)?,
        "new\nother\n".to_owned(),
    )
}

/// B2: where the container's mounts are shared, as those of LXC and systemd-nspawn are; and never the other way round.
fn later_mounts_of_the_container_show_up() -> Result<(), Failed> {
    let root = Rootfs::new();
    let script = format!(
        "mount --bind {0} {0} && mount --make-shared {0} && exec chroot {0} /bin/sleep 1000",
        root.path()
    );
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "-p",
        "-f",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
    ]);
    let target = Target::by_hand(&mut command, "sleep")?;
    let pid = target.pid.to_string();
    let mount = format!(
        "nsenter --mount --target {pid} mount -t tmpfs later {}/srv",
        root.path()
    );
    // The session's first line asks for the mount; it then waits until it sees it.
    let session = format!(
        "{CNTR} attach {pid} -- sh -c 'mount -t tmpfs mine /var/lib/cntr/tmp || exit 1; echo ready; \
         until grep -q later /proc/self/mountinfo; do sleep 0.02; done; grep later /proc/self/mountinfo'"
    );
    let script = format!(
        "{session} | while read line; do echo \"$line\"; test \"$line\" = ready && {mount}; done"
    );
    let output = finish(Command::new("sh").args(["-c", &script]))?;
    contains(
        &format!("{}{}", text(&output.stdout), text(&output.stderr)),
        " /var/lib/cntr/srv ",
    )?;
    same(
        "the session's mount in the container",
        target.proc("mountinfo").contains("mine"),
        false,
    )
}

fn a_chroot_is_honoured() -> Result<(), Failed> {
    let root = Rootfs::new();
    let mut command = Command::new("chroot");
    command.args([root.path(), "/bin/sleep", "1000"]);
    let target = Target::by_hand(&mut command, "sleep")?;
    let printed = target.sh(&[], "ls /var/lib/cntr/bin/busybox; cat /etc/hosts")?;
    contains(&printed, "/var/lib/cntr/bin/busybox\n")?;
    contains(&printed, "only-in-the-container")?;
    let inside = target.exec(&[], &["ls", "/bin/busybox"])?;
    same("exec", text(&inside.stdout).trim(), "/bin/busybox")
}

/// B3.
fn base_directories_can_be_chosen() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let pid = target.pid.to_string();
    for base in ["/here/it/is", "/opt/cntr", "/etc/container"] {
        let mut command = Command::new(CNTR);
        command.env("CNTR_BASE_DIR", base).args([
            "attach",
            &pid,
            "--",
            "sh",
            "-c",
            "pwd; ls bin/busybox",
        ]);
        same(
            base,
            text(&finish(&mut command)?.stdout),
            format!("{base}\nbin/busybox\n"),
        )?;
    }
    let mut command = Command::new(CNTR);
    command
        .env("CNTR_BASE_DIR", "relative")
        .args(["attach", &pid, "--", "true"]);
    let output = finish(&mut command)?;
    same("code", output.status.code(), Some(125))?;
    contains(&text(&output.stderr), "absolute")
}

fn sessions_can_be_concurrent() -> Result<(), Failed> {
    let roots = [Rootfs::new(), Rootfs::new()];
    let targets = [
        Target::sleeping(&roots[0], &["--hostname", "a"])?,
        Target::sleeping(&roots[1], &["--hostname", "b"])?,
    ];
    std::thread::scope(|scope| {
        let start = |n: usize| {
            let target = &targets[n % 2];
            scope.spawn(move || {
                target.sh(&[], "hostname; ls /usr/bin | head -3; sleep 0.3; hostname")
            })
        };
        let threads: Vec<_> = (0..6).map(start).collect();
        for (n, thread) in threads.into_iter().enumerate() {
            let printed = thread.join().map_err(|_| "a panic")??;
            let name = ["a", "b"][n % 2];
            same(
                "host names",
                printed.lines().filter(|line| *line == name).count(),
                2,
            )?;
        }
        Ok(())
    })
}

/// B4.
fn ids_are_shifted() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &["--userns", "--caps", "all"])?;
    let file = std::env::temp_dir().join(format!("cntr-test-{}", unique()));
    fs::write(&file, "secret\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let strange = file.with_extension("strange");
    fs::write(&strange, "")?;
    std::os::unix::fs::chown(&strange, Some(70_000), Some(80_000))?;
    let new = file.with_extension("new");
    let script = format!(
        "stat -c '%u %g' {0} {1}; cat {0}; echo more >> {0} && touch {2}",
        file.display(),
        strange.display(),
        new.display()
    );
    let rw = target.sh(&["--host", "rw"], &script);
    let owner = fs::metadata(&new).map(|data| (data.uid(), data.gid()));
    let text_after = fs::read_to_string(&file);
    let ro = target.attach(
        &[],
        &[
            "sh",
            "-c",
            &format!("cat {0}; echo x >> {0}; touch {0}", file.display()),
        ],
    );
    for path in [&file, &strange, &new] {
        let _ = fs::remove_file(path);
    }
    same(
        "owners and contents",
        rw?,
        "0 0\n65534 65534\nsecret\n".to_owned(),
    )?;
    same("owner of what it made", owner?, (0, 0))?;
    same("contents", text_after?, "secret\nmore\n".to_owned())?;
    let ro = ro?;
    contains(&text(&ro.stdout), "secret")?;
    same(
        "refused",
        text(&ro.stderr)
            .to_lowercase()
            .matches("read-only file system")
            .count(),
        2,
    )
}

fn access_to_the_host_is_limited() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    let path = std::env::temp_dir().join(format!("cntr-test-{}", unique()));
    let touch = path.display().to_string();
    let refused = target.attach(&["--host", "ro"], &["touch", &touch])?;
    contains(
        &text(&refused.stderr).to_lowercase(),
        "read-only file system",
    )?;
    same("not made", path.exists(), false)?;
    let allowed = target.attach(&[], &["touch", &touch])?;
    let made = path.exists();
    let _ = fs::remove_file(&path);
    same("made", (allowed.status.success(), made), (true, true))
}
