//! B10: paths of the host that a session has natively.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::Command;

use libtest_mimic::Failed;
use nix::sys::stat::Mode;

use crate::Case;
use crate::fake::{CNTR, Rootfs, Target, contains, finish, same, skip, text};
use crate::owner::Directory;

pub const CASES: &[Case] = crate::cases! {
    a_socket_of_the_host_answers needs "python3";
    a_fifo_connects_host_and_session;
    devices_work_and_nothing_else_is_one;
    directories_have_the_containers_ids;
    ids_that_cannot_be_shown_are_said needs "unshare", "mount";
    access_is_what_was_asked_for;
    what_is_mounted_stays_where_it_is needs "unshare", "mount";
    places_in_the_container_have_to_be_there;
    what_cannot_be_bound_is_said;
};

const KINDS: [&[&str]; 2] = [&["--caps", "all"], &["--userns", "--caps", "all"]];

fn a_socket_of_the_host_answers() -> Result<(), Failed> {
    for options in KINDS {
        let (root, directory) = (Rootfs::new(), Directory::new());
        let path = directory.0.join("socket");
        let listener = UnixListener::bind(&path)?;
        // Nobody but root of the host may connect.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let server = std::thread::spawn(move || -> std::io::Result<String> {
            let (mut client, _) = listener.accept()?;
            let mut said = [0; 4];
            client.read_exact(&mut said)?;
            client.write_all(b"pong")?;
            Ok(text(&said))
        });
        let target = Target::sleeping(&root, options)?;
        let script = format!(
            "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"{}\"); s.sendall(b\"ping\"); print(s.recv(4))'",
            path.display()
        );
        // By way of the server the socket is another one.
        let served = target.attach(&[], &["sh", "-c", &script])?;
        contains(&text(&served.stderr), "ConnectionRefusedError")?;
        let bound = target.sh(&["--bind", directory.path()], &script)?;
        same("said", bound.trim(), "b'pong'")?;
        let heard = server.join().map_err(|_| "a panic")??;
        same("heard", heard.as_str(), "ping")?;
        // The socket alone, elsewhere.
        let option = format!("{}:/anywhere/at/all", path.display());
        let printed = target.sh(
            &["--bind", &option],
            "ls -l /anywhere/at | tail -1 | cut -c 1; ls /",
        )?;
        contains(&printed, "s\n")?;
    }
    Ok(())
}

fn a_fifo_connects_host_and_session() -> Result<(), Failed> {
    for options in KINDS {
        let (root, directory) = (Rootfs::new(), Directory::new());
        let path = directory.0.join("fifo");
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600))?;
        let reader = path.clone();
        let reader = std::thread::spawn(move || fs::read_to_string(reader));
        let target = Target::sleeping(&root, options)?;
        let fifo = path.display().to_string();
        target.sh(
            &["--bind", &fifo],
            &format!("echo from the session > {fifo}"),
        )?;
        let read = reader.join().map_err(|_| "a panic")??;
        same("read", read.as_str(), "from the session\n")?;
    }
    Ok(())
}

fn devices_work_and_nothing_else_is_one() -> Result<(), Failed> {
    let directory = Directory::new();
    let node = directory.0.join("zero");
    let mode = Mode::from_bits_truncate(0o666);
    let device = nix::sys::stat::makedev(1, 5);
    if nix::sys::stat::mknod(&node, nix::sys::stat::SFlag::S_IFCHR, mode, device).is_err() {
        return skip("no device nodes can be made here");
    }
    if !fs::metadata(&node)?.file_type().is_char_device() || fs::File::open(&node).is_err() {
        return skip("the temporary directory allows no devices");
    }
    for options in KINDS {
        let root = Rootfs::new();
        let target = Target::sleeping(&root, options)?;
        let read = "head -c 3 /zero | od -An -tx1";
        for path in ["/dev/zero", &node.display().to_string()] {
            let printed = target.sh(&["--bind", &format!("{path}:/zero")], read)?;
            same(path, printed.trim(), "00 00 00")?;
        }
        let output = target.attach(
            &["--bind", &format!("{}:/bound", directory.path())],
            &[
                "sh",
                "-c",
                "head -c 3 /bound/zero; grep ' /bound ' /proc/self/mountinfo",
            ],
        )?;
        contains(&text(&output.stderr), "Permission denied")?;
        contains(&text(&output.stdout), "nosuid,nodev")?;
    }
    Ok(())
}

fn directories_have_the_containers_ids() -> Result<(), Failed> {
    for options in KINDS {
        let (root, directory) = (Rootfs::new(), Directory::new());
        let secret = directory.0.join("secret");
        fs::write(&secret, "of root\n")?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        let strange = directory.0.join("strange");
        fs::write(&strange, "")?;
        std::os::unix::fs::chown(&strange, Some(7), Some(8))?;
        let target = Target::sleeping(&root, options)?;
        let script = "cd /bound && cat secret && stat -c '%u %g' secret strange && echo new > new && stat -f -c %T .";
        let printed = target.sh(&["--bind", &format!("{}:/bound", directory.path())], script)?;
        contains(&printed, "of root\n0 0\n7 8\n")?;
        // It is the file system itself.
        same("served", printed.contains("fuse"), false)?;
        let new = fs::metadata(directory.0.join("new"))?;
        same("owner of a new file", (new.uid(), new.gid()), (0, 0))?;
    }
    Ok(())
}

/// Runs `script` in a mount namespace of its own.
fn apart(script: &str) -> Result<std::process::Output, Failed> {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script]);
    finish(&mut command)
}

fn ids_that_cannot_be_shown_are_said() -> Result<(), Failed> {
    let (root, directory) = (Rootfs::new(), Directory::new());
    let target = Target::sleeping(&root, &["--userns"])?;
    let attach = |bind: &str, script: &str| {
        format!(
            "{CNTR} attach --bind {bind} {} -- sh -c '{script}'",
            target.pid
        )
    };
    // procfs has no idmapped mounts.
    let output = apart(&attach(
        "/proc/version:/version",
        "stat -c %u /version; cat /version",
    ))?;
    contains(&text(&output.stdout), "65534\nLinux version")?;
    contains(
        &text(&output.stderr),
        "--bind /proc/version: everything in it belongs to nobody in the session",
    )?;
    let below = format!(
        "mkdir {0}/below && mount -t proc none {0}/below && {1}; umount {0}/below",
        directory.path(),
        attach(
            &format!("{}:/bound", directory.path()),
            "stat -c %u /bound /bound/below /bound/below/version"
        ),
    );
    let output = apart(&below)?;
    same(
        "owners",
        text(&output.stdout),
        "0\n65534\n65534\n".to_owned(),
    )?;
    contains(
        &text(&output.stderr),
        "what is mounted below it belongs to nobody",
    )
}

fn access_is_what_was_asked_for() -> Result<(), Failed> {
    for options in KINDS {
        let (root, directory) = (Rootfs::new(), Directory::new());
        let target = Target::sleeping(&root, options)?;
        let touch = format!("touch {}/new", directory.path());
        let refused = target.attach(
            &[
                "--host",
                "rw",
                "--bind",
                &format!("{}:ro", directory.path()),
            ],
            &["sh", "-c", &touch],
        )?;
        contains(
            &text(&refused.stderr).to_lowercase(),
            "read-only file system",
        )?;
        same("made", directory.0.join("new").exists(), false)?;
        target.sh(&["--host", "ro", "--bind", directory.path()], &touch)?;
        same("made", directory.0.join("new").exists(), true)?;
    }
    Ok(())
}

/// Mounts below come along, also later ones; those of the session do not come back.
fn what_is_mounted_stays_where_it_is() -> Result<(), Failed> {
    let (root, directory) = (Rootfs::new(), Directory::new());
    for name in ["before", "later", "own"] {
        fs::create_dir(directory.0.join(name))?;
    }
    let target = Target::sleeping(&root, &["--caps", "all"])?;
    let script = format!(
        "cd {0} && mount --bind . . && mount --make-shared . && cd {0} && mount -t tmpfs none before && echo x > before/file && \
         {CNTR} attach --bind {0}:/bound {1} -- sh -c 'cat /bound/before/file; mount -t tmpfs own /bound/own || exit; echo ready; \
         until test -e /bound/later/file; do sleep 0.02; done; cat /bound/later/file' | \
         while read line; do echo $line; test $line != ready || (mount -t tmpfs none later && echo y > later/file); done; \
         grep -c {0}/own /proc/self/mountinfo; umount -R .",
        directory.path(),
        target.pid
    );
    let output = apart(&script)?;
    same("seen", text(&output.stdout), "x\nready\ny\n0\n".to_owned())?;
    same(
        "container",
        target.proc("mountinfo").contains("bound"),
        false,
    )
}

fn places_in_the_container_have_to_be_there() -> Result<(), Failed> {
    let (root, directory) = (Rootfs::new(), Directory::new());
    fs::write(directory.0.join("file"), "of the host\n")?;
    // A link leads to where a process of the container gets.
    std::os::unix::fs::symlink("/srv", root.0.join("link"))?;
    let before = root.listing();
    let target = Target::sleeping(&root, &[])?;
    let bind = format!("{}:/var/lib/cntr/link", directory.path());
    let printed = target.sh(&["--bind", &bind], "cat /var/lib/cntr/srv/file")?;
    same("in the container", printed.as_str(), "of the host\n")?;
    for (place, reason) in [
        ("/var/lib/cntr/nowhere", "nothing is made in the container"),
        ("/dev/nothing", "nothing is made in the container"),
        (
            "/var/lib/cntr/etc/passwd",
            "a directory cannot be bound on a file",
        ),
    ] {
        let bind = format!("{}:{place}", directory.path());
        let output = target.attach(&["--bind", &bind], &["true"])?;
        same(place, output.status.code(), Some(125))?;
        contains(&text(&output.stderr), reason)?;
    }
    let inside = target.exec(&[], &["ls", "/srv"])?;
    same("the container's own", text(&inside.stdout), String::new())?;
    drop(target);
    same("container", root.listing(), before)
}

fn what_cannot_be_bound_is_said() -> Result<(), Failed> {
    let root = Rootfs::new();
    let target = Target::sleeping(&root, &[])?;
    for (bind, reason) in [
        (
            "/no/such/path",
            "cannot open what is to be bound (--bind /no/such/path): No such file",
        ),
        (
            "/tmp:/etc",
            "it would cover /etc/passwd, which is the container's",
        ),
        (
            "/tmp:/var",
            "it would cover /var/lib/cntr, which is the container's",
        ),
        ("/tmp:/proc/x", "nothing can be bound there"),
        (
            "/tmp:relative",
            "neither an absolute path in the session nor ro",
        ),
        ("/tmp:/", "the root of the session"),
    ] {
        let output = target.attach(&["--bind", bind], &["true"])?;
        same(bind, output.status.code(), Some(125))?;
        contains(&text(&output.stderr), reason)?;
    }
    Ok(())
}
