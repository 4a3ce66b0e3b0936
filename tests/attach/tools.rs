//! B1: tools of the host in a container that has nothing but busybox.

use std::fs;

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{Rootfs, Target, contains, same, text};

pub const CASES: &[Case] = crate::cases! {
    vim_edits_a_file_of_the_container needs "vim";
    python_imports_its_library needs "python3";
    git_makes_a_repository_in_the_container needs "git";
    gdb_looks_into_the_container needs "gdb";
    strace_traces_the_container needs "strace";
    ldd_finds_the_hosts_libraries needs "ldd";
};

/// What a command prints in a session of a container without, and of one with, a user namespace; checked by `check`.
fn in_containers(
    script: &str,
    check: impl Fn(&str, &Rootfs) -> Result<(), Failed>,
) -> Result<(), Failed> {
    for options in [&[][..], &["--userns"]] {
        let root = Rootfs::new();
        if !options.is_empty() {
            std::os::unix::fs::lchown(root.0.join("tmp"), Some(100_000), Some(100_000))?;
        }
        let target = Target::sleeping(&root, options)?;
        let output = target.attach(&["--env", "LC_ALL=C"], &["sh", "-c", script])?;
        let about = |error: Failed| {
            Failed::from(format!(
                "{options:?}: {}; {output:?}",
                error.message().unwrap_or_default()
            ))
        };
        same("code", output.status.code(), Some(0)).map_err(about)?;
        check(&text(&output.stdout), &root).map_err(about)?;
    }
    Ok(())
}

fn vim_edits_a_file_of_the_container() -> Result<(), Failed> {
    // Swap file and backup are made where the file is.
    let script = "echo one > tmp/file && vim -es -u NONE -c 's/one/two/' -c wq tmp/file";
    in_containers(script, |_, root| {
        same(
            "file",
            fs::read_to_string(root.0.join("tmp/file"))?,
            "two\n".to_owned(),
        )?;
        same("files left", fs::read_dir(root.0.join("tmp"))?.count(), 1)
    })
}

fn python_imports_its_library() -> Result<(), Failed> {
    let script = "python3 -c 'import ctypes, json, os; print(json.dumps([6 * 7, os.getcwd()]))'";
    in_containers(script, |printed, _| {
        same("printed", printed, "[42, \"/var/lib/cntr\"]\n")
    })
}

fn git_makes_a_repository_in_the_container() -> Result<(), Failed> {
    let script = "cd tmp && git init -q repo && cd repo && echo x > x && git add x && \
                  git -c user.name=a -c user.email=b commit -q -m first && git log --format=%s && git status --short";
    in_containers(script, |printed, root| {
        same("log", printed, "first\n")?;
        same(
            "repository",
            root.0.join("tmp/repo/.git/HEAD").is_file(),
            true,
        )
    })
}

fn gdb_looks_into_the_container() -> Result<(), Failed> {
    let script = "gdb -nx -batch -p 1 -ex 'info proc' 2>/dev/null; cat /proc/1/comm";
    in_containers(script, |printed, _| {
        contains(printed, "process 1\n")?;
        contains(printed, "/bin/busybox")?;
        // It was let go again.
        contains(printed, "\nsleep\n")
    })
}

fn strace_traces_the_container() -> Result<(), Failed> {
    let script = "var=$(strace -e trace=execve tmp/../bin/true 2>&1) && echo \"$var\"";
    in_containers(script, |printed, _| {
        contains(printed, "execve(\"tmp/../bin/true\"")?;
        contains(printed, "exited with 0")
    })
}

fn ldd_finds_the_hosts_libraries() -> Result<(), Failed> {
    in_containers("ldd \"$(command -v ls)\"", |printed, _| {
        contains(printed, "libc.so")?;
        same("missing", printed.contains("not found"), false)
    })
}
