//! Imitations of what confines processes without being a container engine: the sandbox of a Nix build, a unit of systemd.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::Failed;

use crate::Case;
use crate::fake::{Rootfs, Target, cntr, contains, same, skip, text, unique};

pub const CASES: &[Case] = crate::cases! {
    a_failed_nix_build_is_entered_where_it_stopped needs "setpriv", "unshare", "mount", "pivot_root";
    a_build_whose_directory_is_gone_is_entered_all_the_same needs "setpriv", "unshare", "mount", "pivot_root";
    a_confined_systemd_unit needs "unshare", "setpriv", "mount", "pivot_root";
};

/// The sandbox of a build with the user that Nix gives it (one id of a user namespace), stopped in `breakpointHook`.
struct Build {
    root: Rootfs,
    target: Target,
    out: String,
}

const USER: u32 = 30_001;
const GROUP: u32 = 30_000;

impl Build {
    fn new(stop: &str) -> Result<Build, Failed> {
        let root = Rootfs::new();
        let out = format!("/nix/store/{}-hello-2.12", unique());
        root.write(
            "etc/passwd",
            "root:x:0:0:Nix build user:/build:/noshell\n\
             nixbld:x:1000:100:Nix build user:/build:/noshell\n\
             nobody:x:65534:65534:Nobody:/:/noshell\n",
        );
        root.write("etc/group", "root:x:0:\nnixbld:!:100:\nnogroup:x:65534:\n");
        root.write("build/source/Makefile", "all:\n\tfalse\n");
        root.write("nix/store/tool", "");
        // As nixpkgs has it: the shell that waits has the command to attach with in its own command line.
        root.write(
            "build/hook",
            &format!(
                "{stop}\nexec sh -c \"echo '   cntr attach -t command cntr-${{out}}'; while true; do sleep 99999999; done\"\n"
            ),
        );
        for path in ["build", "build/source", "build/source/Makefile"] {
            chown(root.0.join(path), Some(USER), Some(GROUP))?;
        }
        // It keeps its capabilities until the mounts are made. Busybox knows no `-all`.
        let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?
            .trim()
            .parse()?;
        let none: Vec<String> = (0..=last).map(|number| format!("-cap_{number}")).collect();
        let script = format!(
            "mount --bind {root} {root} && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && \
             hostname localhost && cd {root} && pivot_root . tmp && umount -l /tmp && cd /build/source && \
             exec env -i out={out} NIX_BUILD_TOP=/build NIX_STORE=/nix/store NIX_BUILD_CORES=2 TMPDIR=/build \
             HOME=/homeless-shelter PATH=/bin curPhase=buildPhase \
             /bin/busybox setpriv --inh-caps {none} --ambient-caps {none} /bin/sh /build/hook",
            root = root.path(),
            none = none.join(","),
        );
        let mut sandbox = Command::new("setpriv");
        sandbox.args(["--reuid", &USER.to_string(), "--regid", &GROUP.to_string()]);
        sandbox.args([
            "--clear-groups",
            "unshare",
            "--user",
            "--map-user=1000",
            "--map-group=100",
        ]);
        sandbox.args([
            "--keep-caps",
            "--mount",
            "--pid",
            "--fork",
            "--net",
            "--ipc",
            "--uts",
        ]);
        sandbox.args(["--propagation", "private", "sh", "-e", "-c", &script]);
        let target = Target::by_hand(&mut sandbox, "sh")?;
        // The shell has its own environment and command line as soon as it is executed.
        let start = std::time::Instant::now();
        while !target.proc("cmdline").contains(&format!("cntr-{out}")) {
            if start.elapsed() > crate::fake::deadline() {
                return Err(format!("no hook: {:?}", target.proc("cmdline")).into());
            }
            std::thread::yield_now();
        }
        Ok(Build { root, target, out })
    }
}

const LOOK: &str = "pwd; echo $NIX_BUILD_TOP $NIX_STORE $out $curPhase $HOME; id -u; id -g; hostname; cat Makefile";

fn a_failed_nix_build_is_entered_where_it_stopped() -> Result<(), Failed> {
    let build = Build::new(":")?;
    let pid = build.target.pid.to_string();
    let command = format!("cntr-{}", build.out);
    let environment = format!(
        "/build /nix/store {} buildPhase /homeless-shelter\n1000\n100\nlocalhost\nall:\n\tfalse\n",
        build.out
    );
    // What the hook says, by the same without -t, and by number.
    for target in [&["-t", "command", &command][..], &[&command], &[&pid]] {
        let attach = [&["attach"], target, &["--", "sh", "-c", LOOK]].concat();
        let session = cntr(&attach)?;
        let expected = format!("/var/lib/cntr/build/source\n{environment}");
        same(&format!("{session:?}"), text(&session.stdout), expected)?;
        // With the build's own tools.
        let exec = [&["exec"], target, &["--", "sh", "-c", LOOK]].concat();
        let own = cntr(&exec)?;
        let expected = format!("/build/source\n{environment}");
        same(&format!("{own:?}"), text(&own.stdout), expected)?;
    }
    // What is mended belongs to the build.
    let made = build
        .target
        .sh(&[], "echo x > made && stat -c %u:%g made")?;
    same("owner in the session", made, "1000:100\n".to_owned())?;
    let made = fs::metadata(build.root.0.join("build/source/made"))?;
    let owner = (
        std::os::unix::fs::MetadataExt::uid(&made),
        std::os::unix::fs::MetadataExt::gid(&made),
    );
    same("owner on the host", owner, (USER, GROUP))?;
    // The host's tools are there, the host's files are safe.
    let script = "test -d /var/lib/cntr/nix/store && ! test -e /nix/store/tool && ls /proc/1/comm && touch /tmp/x";
    let output = build.target.attach(&[], &["sh", "-c", script])?;
    contains(&text(&output.stdout), "/proc/1/comm")?;
    contains(&text(&output.stderr), "ead-only")?;
    // --workdir counts more.
    same(
        "directory",
        build.target.sh(&["--workdir", "/usr"], "pwd")?,
        "/usr\n".to_owned(),
    )
}

fn a_build_whose_directory_is_gone_is_entered_all_the_same() -> Result<(), Failed> {
    let build = Build::new("cd /build && mkdir gone && cd gone")?;
    fs::remove_dir(build.root.0.join("build/gone"))?;
    same(
        "directory",
        build.target.sh(&[], "pwd")?,
        "/var/lib/cntr\n".to_owned(),
    )?;
    let own = build.target.exec(&[], &["pwd"])?;
    same("directory of exec", text(&own.stdout), "/\n".to_owned())
}

/// A cgroup directory of its own, removed when dropped.
struct Group(String);

impl Group {
    fn new() -> Option<Group> {
        let tops = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let top = tops
            .iter()
            .find(|top| Path::new(top).join("cgroup.controllers").exists())?;
        let path = format!("{top}/cntr-test-{}", unique());
        fs::create_dir(&path).ok()?;
        Some(Group(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..10_000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// `Target::attach` or `Target::exec`.
type Verb = fn(&Target, &[&str], &[&str]) -> Result<Output, Failed>;

/// A unit with `ProtectSystem=strict`, `PrivateTmp=`, `InaccessiblePaths=`, `User=`, `NoNewPrivileges=`,
/// `CapabilityBoundingSet=` and `AmbientCapabilities=`.
fn a_confined_systemd_unit() -> Result<(), Failed> {
    let Some(group) = Group::new() else {
        return skip("no cgroup of version 2 can be made here");
    };
    let state = tempfile::tempdir()?;
    let path = state.path().to_str().ok_or("an odd path")?;
    fs::create_dir_all(state.path().join("tmp/state"))?;
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(state.path().join("tmp"), fs::Permissions::from_mode(0o1777))?;
    chown(state.path().join("tmp/state"), Some(4711), Some(4712))?;
    fs::write(state.path().join("tmp/private"), "of the unit\n")?;
    // The service manager moves the process, confines its mounts and gives up what the unit does not have.
    let script = format!(
        "echo 0 > {group}/cgroup.procs && \
         mount --rbind / /mnt && mount --bind {path}/tmp /mnt/tmp && \
         mount -t tmpfs -o mode=000 none /mnt/root && mount -o remount,bind,ro /mnt && \
         cd /mnt && pivot_root . mnt && umount -l /mnt && cd /tmp/state && \
         exec setpriv --reuid 4711 --regid 4712 --groups 4713 --nnp --inh-caps -all,+net_bind_service \
         --ambient-caps -all,+net_bind_service --bounding-set -all,+net_bind_service \
         env -i INVOCATION_ID=0123456789abcdef RUNTIME_DIRECTORY=/run/unit PATH=/usr/bin:/bin sleep 1000",
        group = group.0,
    );
    let mut unit = Command::new("unshare");
    unit.args(["-m", "--propagation", "slave", "sh", "-e", "-c", &script]);
    let target = Target::by_hand(&mut unit, "sleep")?;
    let before = (target.proc("mountinfo"), fs::read("/proc/self/mountinfo")?);

    let look = |verb: Verb, script: &str| {
        let output = verb(&target, &[], &["sh", "-c", script])?;
        let about = format!("{script}: {output:?}");
        same(&about, output.status.code(), Some(0))?;
        Ok::<String, Failed>(text(&output.stdout))
    };
    let identity = |status: &str| -> Vec<String> {
        let names = ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs"];
        let wanted = |line: &&str| names.iter().any(|name| line.starts_with(name));
        status.lines().filter(wanted).map(str::to_owned).collect()
    };
    for verb in [Target::attach, Target::exec] {
        same(
            "cgroup",
            look(verb, "cat /proc/self/cgroup")?,
            target.proc("cgroup"),
        )?;
        same(
            "identity",
            identity(&look(verb, "cat /proc/self/status")?),
            identity(&target.proc("status")),
        )?;
        let variables = look(verb, "echo $INVOCATION_ID $RUNTIME_DIRECTORY")?;
        same(
            "environment",
            variables.trim(),
            "0123456789abcdef /run/unit",
        )?;
    }
    contains(&target.proc("cgroup"), "cntr-test")?;
    // exec is where the unit is; attach has the unit's files below the base directory.
    same(
        "exec",
        look(Target::exec, "pwd; cat /tmp/private; touch made")?,
        "/tmp/state\nof the unit\n".to_owned(),
    )?;
    let confined = "cd /var/lib/cntr && cat tmp/private && ! test -e /tmp/private && rm tmp/state/made && \
                    ! touch usr/x 2>/dev/null && ! ls root 2>/dev/null && echo confined";
    same(
        "attach",
        look(Target::attach, confined)?,
        "of the unit\nconfined\n".to_owned(),
    )?;
    let after = (target.proc("mountinfo"), fs::read("/proc/self/mountinfo")?);
    same("mounts of the unit", after.0, before.0)?;
    let ours = |table: &[u8]| text(table).matches("fuse.cntr").count();
    same("mounts of the host", ours(&after.1), ours(&before.1))
}
