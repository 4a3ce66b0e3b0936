//! B13: paths that a session does not have.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{CNTR, Rootfs, Target, contains, finish, same, text};
use crate::owner::Directory;

pub const CASES: &[Case] = crate::cases! {
    no_route_leads_there;
    nor_when_the_host_moves_mounts_and_replaces needs "unshare", "mount";
    what_is_hidden_cannot_be_made;
    limits_are_as_documented;
    what_cannot_be_hidden_is_said;
};

/// Has `secret`, `vault/in`, `vault/sub/deep`, `par/hid/in`, `plain/file`.
fn tree() -> Result<Directory, Failed> {
    let directory = Directory::new();
    for name in ["vault/sub", "par/hid", "plain"] {
        fs::create_dir_all(directory.0.join(name))?;
    }
    for name in [
        "secret",
        "vault/in",
        "vault/sub/deep",
        "par/hid/in",
        "plain/file",
    ] {
        fs::write(directory.0.join(name), "SECRET\n")?;
    }
    fs::write(directory.0.join("plain/file"), "plain\n")?;
    Ok(directory)
}

/// Options that hide `names` below `directory`.
fn hiding(directory: &Directory, names: &[&str]) -> Vec<String> {
    let option = |name: &&str| format!("--hide={}/{name}", directory.path());
    names.iter().map(option).collect()
}

fn borrowed(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn no_route_leads_there() -> Result<(), Failed> {
    let directory = tree()?;
    fs::hard_link(directory.0.join("secret"), directory.0.join("plain/hard"))?;
    symlink("../secret", directory.0.join("plain/link"))?;
    symlink(
        directory.0.join("vault"),
        directory.0.join("plain/absolute"),
    )?;
    for options in [&["--caps", "all"][..], &["--userns", "--caps", "all"]] {
        let root = Rootfs::new();
        let target = Target::sleeping(&root, options)?;
        let script = format!(
            "cd {} && for path in secret vault vault/in vault/. plain/../secret plain/hard plain/link plain/absolute/in \
             ./vault//sub/deep /proc/self/cwd/secret /proc/self/root$PWD/secret /proc/self/fd/3/secret /proc/self/fd/3/vault/in \
             /var/lib/cntr/../../..$PWD/secret; do test -e $path && echo $path is there; cat $path 2>/dev/null; done 3< .; \
             ls -a . plain; find . | sort | tr '\\n' ' '; grep -rs SECRET . ; cat plain/file",
            directory.path()
        );
        let hide = hiding(&directory, &["secret", "vault", "par/hid"]);
        let output = target.attach(&borrowed(&hide), &["sh", "-c", &script])?;
        same(
            "seen",
            text(&output.stdout),
            ".:\n.\n..\npar\nplain\n\nplain:\n.\n..\nabsolute\nfile\nlink\n\
             . ./par ./plain ./plain/absolute ./plain/file ./plain/link plain\n"
                .to_owned(),
        )?;
        same("said", text(&output.stderr), String::new())?;
    }
    Ok(())
}

fn nor_when_the_host_moves_mounts_and_replaces() -> Result<(), Failed> {
    let (root, directory) = (Rootfs::new(), tree()?);
    for name in ["all", "part", "whole"] {
        fs::create_dir(directory.0.join(name))?;
    }
    fs::write(directory.0.join("inner"), "")?;
    let target = Target::sleeping(&root, &["--caps", "all"])?;
    let look = "for path in secret vault old hard par/hid moved/hid all/in all/deep part/deep whole/vault whole/secret; do \
                test -e $path && echo $path is there; done; grep -rs SECRET . ; ls";
    let steps = [
        // Nothing but a look, so that the kernel has cached what it can.
        "true",
        "mv secret old; echo SECRET > new; mv new secret",
        "ln secret hard; mv par moved",
        "mount --bind vault all; mount --bind vault/sub part; mount --bind vault/in inner; mount --bind . whole",
        "umount all; mv vault elsewhere; mkdir vault; echo SECRET > vault/in; mount --bind elsewhere/sub all",
    ];
    let count = steps.len();
    let script = format!(
        "cd $1; step=0; while test $step -lt {count}; do echo step $step; until test -e /tmp/$2-$step; do sleep 0.01; done; \
         sleep 0.1; {look}; {look} | grep -c there; step=$((step + 1)); done"
    );
    let host: String = steps
        .iter()
        .enumerate()
        .map(|(number, step)| format!("'step {number}') {step}; touch /tmp/$name-{number};; "))
        .collect();
    let name = format!("cntr-test-steps-{}", crate::fake::unique());
    let hide = hiding(&directory, &["secret", "vault", "par/hid"]).join(" ");
    let script = format!(
        "name={name}; cd {0}; {CNTR} attach {hide} {1} -- sh -c '{script}' sh {0} $name | \
         while read line; do echo $line; case $line in {host} esac; done; \
         umount inner part all whole; rm -f /tmp/$name-*",
        directory.path(),
        target.pid
    );
    let mut command = Command::new("unshare");
    let output = finish(command.args(["-m", "--propagation", "private", "sh", "-c", &script]))?;
    let (before, bound) = (
        "all\ninner\npar\npart\nplain\nwhole\n0\n",
        "moved\nplain\nwhole\n0\n",
    );
    let moved = before
        .replace("par\n", "")
        .replace("inner\n", "inner\nmoved\n");
    let expected =
        format!("step 0\n{before}step 1\n{before}step 2\n{moved}step 3\n{bound}step 4\n{bound}");
    same(
        &format!("seen; {}", text(&output.stderr)),
        text(&output.stdout),
        expected,
    )
}

fn what_is_hidden_cannot_be_made() -> Result<(), Failed> {
    let (root, directory) = (Rootfs::new(), tree()?);
    let target = Target::sleeping(&root, &["--caps", "all"])?;
    let script = format!(
        "cd {}; for command in 'mkdir secret' 'ln -s x secret' 'mv plain/file vault' 'ln -T plain/file vault' 'mkfifo secret' \
         'touch secret' 'cp -T plain/file secret' 'mkdir later'; do LC_ALL=C $command 2>&1 | grep -c 'Permission denied'; done; \
         for command in 'rm secret' 'rmdir vault' 'mv secret plain' 'rm vault/in' 'ln secret x'; do \
         LC_ALL=C $command 2>&1 | grep -c 'No such file'; done; rm -rf par; rmdir par 2>&1 | grep -c 'not empty'",
        directory.path()
    );
    let hide = hiding(&directory, &["secret", "vault", "later", "par/hid"]);
    let printed = target.attach(&borrowed(&hide), &["sh", "-c", &script])?;
    same("refused", text(&printed.stdout), "1\n".repeat(14))?;
    contains(&text(&printed.stderr), "/later: nothing is there yet")?;
    for name in ["secret", "vault/in", "par/hid/in"] {
        same(
            name,
            fs::read_to_string(directory.0.join(name))?,
            "SECRET\n".to_owned(),
        )?;
    }
    same("made", directory.0.join("later").exists(), false)
}

/// What docs/files.md says that is not hidden.
fn limits_are_as_documented() -> Result<(), Failed> {
    let (root, directory) = (Rootfs::new(), tree()?);
    fs::hard_link(directory.0.join("vault/in"), directory.0.join("plain/hard"))?;
    fs::create_dir(directory.0.join("open"))?;
    fs::write(directory.0.join("open/kept"), "kept\n")?;
    let shared = format!("{}:/volume", directory.path());
    let target = Target::sleeping(&root, &["--caps", "all", "--volume", &shared])?;
    let hide = hiding(&directory, &["vault"]);
    let script = format!(
        "cd {0}; cat plain/hard; cat /var/lib/cntr/volume/vault/in; stat -c %h .",
        directory.path()
    );
    // The number of links counts the hidden directory.
    same(
        "seen",
        target.sh(&borrowed(&hide), &script)?,
        "SECRET\nSECRET\n6\n".to_owned(),
    )?;
    // What is open when the host moves it there stays open.
    let script = format!(
        "cd {0}/open; {CNTR} attach {1} {2} -- sh -c 'cd {0}/open && echo ready && \
         until test -e ../plain/go; do sleep 0.02; done; cat kept; test -e {0}/vault/open || echo gone' | \
         while read line; do echo $line; test $line = ready && mv {0}/open {0}/vault/ && touch {0}/plain/go; done",
        directory.path(),
        hide[0],
        target.pid
    );
    let output = finish(Command::new("sh").args(["-c", &script]))?;
    let printed = text(&output.stdout);
    same("seen", printed.as_str(), "ready\nkept\ngone\n")
}

fn what_cannot_be_hidden_is_said() -> Result<(), Failed> {
    let (root, directory) = (Rootfs::new(), tree()?);
    let target = Target::sleeping(&root, &[])?;
    symlink("/var", directory.0.join("link"))?;
    let hide = |name: &str| format!("{}/{name}", directory.path());
    let (vault, link) = (hide("vault"), hide("link"));
    let bind = |name: &str, to: &str| format!("--bind={}/{name}:{to}", directory.path());
    let (whole, inside) = (bind("", "/bound"), bind("vault/sub", "/bound"));
    let plain = bind("plain", &hide("vault/point"));
    for (options, reason) in [
        (
            vec!["--hide", "relative"],
            "an absolute path without \"..\"",
        ),
        (vec!["--hide", "/"], "and not the root"),
        (vec!["--hide", "/etc"], "the session needs /etc/passwd"),
        (
            vec!["--hide", "/var/lib"],
            "the session needs /var/lib/cntr",
        ),
        (vec!["--hide", &link], "the session needs /var/lib/cntr"),
        (
            vec!["--hide", "/etc/passwd"],
            "/etc/passwd is the container's",
        ),
        (
            vec!["--hide", "/var/lib/cntr/etc/hosts"],
            "/var/lib/cntr is the container's",
        ),
        (vec!["--hide", &vault, &whole], "would show it"),
        (vec!["--hide", &vault, &inside], "would show it"),
        (vec!["--hide", &vault, &plain], "/point is below it"),
    ] {
        let output = target.attach(&options, &["true"])?;
        same(&format!("{options:?}"), output.status.code(), Some(125))?;
        contains(&text(&output.stderr), reason)?;
    }
    Ok(())
}
