//! Programs people use.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::runner::Suite;
use crate::support::tool::{need, run};

pub fn add(suite: &mut Suite) {
    suite.test("mktemp", mktemp);
    suite.test("git", git);
    suite.test("git_rehashes_nothing_in_a_new_mount", git_after_remount);
    suite.test("tar", tar);
    suite.test("copy_keeps_everything", copy);
    suite.test("python_venv", venv);
    suite.test("setfacl", setfacl);
    suite.test("find_by_inode_number", find_inum);
    suite.test("programs_run_from_the_view", execute);
    suite.test("tail_follows_the_host", tail);
}

fn mktemp() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let path = run(need("mktemp")?.arg("-p").arg(mount.path()))?;
    fs::write(path.trim(), "text")?;
    let directory = run(need("mktemp")?.arg("-d").arg("-p").arg(mount.path()))?;
    ensure!(Path::new(directory.trim()).is_dir());
    ensure!(fs::read_dir(mount.source())?.count() == 2);
    mount.close()
}

fn git_in(directory: &Path, home: &Path) -> Result<Command> {
    let mut command = need("git")?;
    command
        .current_dir(directory)
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.org",
            "-c",
            "safe.directory=*",
        ]);
    Ok(command)
}

fn make_repository(root: &Path, home: &Path) -> Result<()> {
    fs::create_dir(root)?;
    run(git_in(root, home)?.args(["init", "--quiet"]))?;
    for directory in 0..10 {
        fs::create_dir(root.join(format!("d{directory}")))?;
        for file in 0..30 {
            fs::write(
                root.join(format!("d{directory}/f{file}")),
                format!("content {directory} {file}\n"),
            )?;
        }
    }
    run(git_in(root, home)?.args(["add", "."]))?;
    run(git_in(root, home)?.args(["commit", "--quiet", "-m", "One"]))?;
    Ok(())
}

fn git() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let home = mount.reference();
    let repository = mount.at("repository");
    make_repository(&repository, &home)?;
    fs::write(repository.join("d0/f0"), "changed\n")?;
    ensure!(run(git_in(&repository, &home)?.args(["status", "--porcelain"]))? == " M d0/f0\n");
    run(git_in(&repository, &home)?.args(["commit", "--quiet", "-am", "Two"]))?;
    run(git_in(&repository, &home)?.args(["gc", "--quiet"]))?;
    run(git_in(&repository, &home)?.args(["fsck", "--full", "--strict"]))?;
    run(git_in(mount.path(), &home)?.args(["clone", "--quiet", "repository", "clone"]))?;
    ensure!(run(git_in(&mount.at("clone"), &home)?.args(["log", "--format=%s"]))? == "Two\nOne\n");
    // The host's git sees the same repository.
    run(git_in(&mount.host("clone"), &home)?.args(["fsck", "--full", "--strict"]))?;
    ensure!(run(git_in(&mount.host("clone"), &home)?.args(["status", "--porcelain"]))?.is_empty());
    mount.close()
}

fn git_after_remount() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let home = mount.reference();
    make_repository(&mount.host("repository"), &home)?;
    // What was written within the last tick is looked at again anyway.
    run(git_in(&mount.host("repository"), &home)?.args(["status"]))?;
    for _ in 0..2 {
        let view = mount.again(&[])?;
        // Lists files whose attributes are not those of the index, without reading any.
        let different =
            run(git_in(&view.at("repository"), &home)?.args(["diff-files", "--name-only"]))?;
        ensure!(different.is_empty(), "git would read again: {different}");
        view.close()?;
    }
    mount.close()
}

fn tar() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let made = mount.at("made");
    fs::create_dir(&made)?;
    for index in 0..200_usize {
        fs::write(
            made.join(format!("file-{index}")),
            vec![index as u8; index * 100],
        )?;
    }
    std::os::unix::fs::symlink("file-1", made.join("link"))?;
    fs::hard_link(made.join("file-1"), made.join("hard"))?;
    fs::File::create(made.join("sparse"))?.set_len(10 << 20)?;
    let archive = mount.reference().join("archive.tar");
    run(need("tar")?
        .arg("-C")
        .arg(mount.path())
        .arg("-Scf")
        .arg(&archive)
        .arg("made"))?;
    // "file changed as we read it" is an exit code of 1, which is an error here.
    fs::create_dir(mount.at("unpacked"))?;
    run(need("tar")?
        .arg("-C")
        .arg(mount.at("unpacked"))
        .arg("-xpf")
        .arg(&archive))?;
    run(need("diff")?
        .arg("-r")
        .arg(&made)
        .arg(mount.at("unpacked/made")))?;
    run(need("tar")?
        .arg("-C")
        .arg(mount.source())
        .arg("-df")
        .arg(&archive))?;
    mount.close()
}

fn copy() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let made = mount.reference().join("made");
    fs::create_dir(&made)?;
    fs::write(made.join("file"), "text")?;
    fs::hard_link(made.join("file"), made.join("hard"))?;
    std::os::unix::fs::symlink("file", made.join("link"))?;
    run(need("mkfifo")?.arg(made.join("fifo")))?;
    rustix::fs::setxattr(
        made.join("file"),
        "user.name",
        b"value",
        rustix::fs::XattrFlags::empty(),
    )?;
    run(need("chmod")?.arg("4711").arg(made.join("file")))?;
    run(need("touch")?
        .args(["-d", "2001-02-03 04:05:06.789"])
        .arg(made.join("file")))?;
    run(need("cp")?.arg("-a").arg(&made).arg(mount.at("copy")))?;
    run(need("cp")?
        .arg("-a")
        .arg(mount.at("copy"))
        .arg(mount.reference().join("back")))?;
    let listing = |path: &Path| -> Result<String> {
        let format = "%P %y %m %U:%G %s %n %T@ %l\n";
        let text = run(need("find")?
            .arg(path)
            .args(["-mindepth", "1", "-printf", format]))?;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    };
    let expected = listing(&made)?;
    for path in [
        mount.at("copy"),
        mount.host("copy"),
        mount.reference().join("back"),
    ] {
        ensure!(
            listing(&path)? == expected,
            "{}\n{}\nexpected\n{expected}",
            path.display(),
            listing(&path)?
        );
    }
    let mut value = [0; 10];
    let len = rustix::fs::getxattr(mount.reference().join("back/file"), "user.name", &mut value)?;
    ensure!(&value[..len] == b"value");
    mount.close()
}

fn venv() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let venv = mount.at("venv");
    run(need("python3")?
        .args(["-m", "venv", "--without-pip"])
        .arg(&venv))?;
    let script = "import pathlib, shutil, sys, compileall\n\
        root = pathlib.Path(sys.argv[1])\n\
        for d in range(20):\n\
        \x20   (root / f'p{d}').mkdir()\n\
        \x20   for m in range(50): (root / f'p{d}' / f'm{m}.py').write_text(f'x = {m}\\n')\n\
        assert compileall.compile_dir(root, quiet=1)\n\
        assert len(list(root.rglob('*.pyc'))) == 1000\n\
        shutil.copytree(root, root.parent / 'copy')\n\
        shutil.rmtree(root)\n";
    fs::create_dir(mount.at("work"))?;
    run(Command::new(venv.join("bin/python"))
        .arg("-c")
        .arg(script)
        .arg(mount.at("work")))
    .context("python in a venv of the view")?;
    ensure!(!mount.host("work").exists() && mount.host("copy/p19/m49.py").exists());
    mount.close()
}

fn setfacl() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::create_dir(mount.at("dir"))?;
    run(need("setfacl")?
        .args(["-m", "u:1000:rwx,d:u:1000:rw,d:g:2000:r"])
        .arg(mount.at("dir")))?;
    fs::write(mount.at("dir/file"), "")?;
    for name in ["dir", "dir/file"] {
        let acl = |path: &Path| {
            run(need("getfacl")?
                .args(["--omit-header", "--numeric", "--absolute-names"])
                .arg(path))
        };
        let (view, host) = (acl(&mount.at(name))?, acl(&mount.host(name))?);
        ensure!(
            view == host && view.contains("user:1000:rw"),
            "{name}: {view}\n{host}"
        );
    }
    mount.close()
}

fn find_inum() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::create_dir(mount.at("dir"))?;
    fs::write(mount.at("dir/file"), "")?;
    let number = run(need("stat")?.args(["-c", "%i"]).arg(mount.at("dir/file")))?;
    let found = run(need("find")?
        .arg(mount.path())
        .args(["-inum", number.trim()]))?;
    ensure!(Path::new(found.trim()) == mount.at("dir/file"), "{found}");
    let listed = run(need("ls")?.arg("-i").arg(mount.at("dir")))?;
    ensure!(
        listed.trim() == format!("{} file", number.trim()),
        "{listed}"
    );
    mount.close()
}

fn execute() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let program = crate::support::tool::find("true").context("there is no true(1)")?;
    fs::copy(program, mount.at("true"))?;
    run(&mut Command::new(mount.at("true")))?;
    fs::write(mount.at("script"), "#!/bin/sh\necho from the view\n")?;
    fs::set_permissions(
        mount.at("script"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    ensure!(run(&mut Command::new(mount.at("script")))? == "from the view\n");
    mount.close()
}

fn tail() -> Result<()> {
    use std::io::{BufRead, BufReader, Write};
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("log"), "first\n")?;
    let mut tail = need("tail")?
        .args(["-n", "+1", "-s", "0.1", "-f"])
        .arg(mount.at("log"))
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(tail.stdout.take().context("stdout is a pipe")?).lines();
    let result = (|| -> Result<()> {
        ensure!(lines.next().context("nothing")?? == "first");
        for number in 0..3 {
            let mut log = fs::OpenOptions::new()
                .append(true)
                .open(mount.host("log"))?;
            writeln!(log, "line {number}")?;
            drop(log);
            // A line that never comes is a hang, which the time limit of the test ends.
            ensure!(lines.next().context("tail ended")?? == format!("line {number}"));
        }
        Ok(())
    })();
    tail.kill()?;
    tail.wait()?;
    result?;
    mount.close()
}
