//! What looks like a container, but has a kernel of its own: the processes in it are none that could be joined.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;

/// Programs that run virtual machines, by the start of their names.
const HYPERVISORS: [&str; 7] = [
    "qemu-system-",
    "qemu-kvm",
    "cloud-hypervisor",
    "firecracker",
    "stratovirt",
    "crosvm",
    "containerd-shim-kata",
];

/// Programs that are the kernel of a gVisor sandbox, or serve its files.
const SANDBOXES: [&str; 2] = ["runsc-sandbox", "runsc-gofer"];

/// Why nothing can be attached to what the OCI runtime `runtime` runs; none if it can.
pub fn of_runtime(runtime: &str) -> Option<String> {
    let name = runtime.to_ascii_lowercase();
    if name.contains("runsc") || name.contains("gvisor") {
        Some(gvisor(runtime))
    } else if ["kata", "firecracker", "krun"]
        .iter()
        .any(|part| name.contains(part))
    {
        Some(virtual_machine(runtime))
    } else {
        None
    }
}

/// Why nothing can be attached to the process `pid`; none if it can.
pub fn of_process(pid: Pid) -> Option<String> {
    let base = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
    let program = fs::read_link(format!("/proc/{pid}/exe"))
        .ok()
        .and_then(|path| base(&path));
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).into_owned();
    let called = line
        .split('\0')
        .next()
        .and_then(|name| base(Path::new(name)));
    let is = |known: &&str| {
        let names = [&program, &called];
        let mut names = names.into_iter().flatten();
        names.any(|name| name.starts_with(*known))
    };
    if let Some(name) = SANDBOXES.iter().find(|name| is(name)) {
        return Some(gvisor(name));
    }
    let hypervisor = HYPERVISORS.iter().find(|name| is(name))?;
    // One that is the program of a container is what the user wants to look at.
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let contained = namespace(&pid.to_string()) != namespace("self");
    (!contained).then(|| virtual_machine(hypervisor.trim_end_matches('-')))
}

/// What to say about a virtual machine run by `by`.
pub fn virtual_machine(by: &str) -> String {
    format!(
        "it is a virtual machine ({by}): what runs in it are no processes of this kernel; use the engine's own exec, or cntr in \
         the machine"
    )
}

fn gvisor(by: &str) -> String {
    format!(
        "it runs in gVisor ({by}), whose processes are none of this kernel: use the engine's own exec"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn runtimes() {
        for usual in ["runc", "crun", "io.containerd.runc.v2", "youki", ""] {
            assert_eq!(of_runtime(usual), None, "{usual}");
        }
        for gvisor in ["runsc", "io.containerd.runsc.v1", "gVisor"] {
            assert!(of_runtime(gvisor).unwrap().contains("gVisor"), "{gvisor}");
        }
        for machine in [
            "kata-runtime",
            "io.containerd.kata.v2",
            "krun",
            "aws.firecracker",
        ] {
            let reason = of_runtime(machine).unwrap();
            assert!(reason.contains("virtual machine"), "{machine}");
        }
    }

    /// Why a process cannot be attached to that is called `name`, or whose program is.
    fn called(name: &str) -> Option<String> {
        let mut child = Command::new("sleep")
            .arg0(name)
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        // Right after the exec it has no command line.
        while fs::read(format!("/proc/{pid}/cmdline")).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let reason = of_process(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        reason
    }

    #[test]
    fn processes() {
        assert_eq!(called("sleep"), None);
        assert_eq!(called("qemu-img"), None);
        assert!(called("runsc-sandbox").unwrap().contains("gVisor"));
        for machine in ["/usr/bin/qemu-system-x86_64", "firecracker"] {
            assert!(called(machine).unwrap().contains("virtual machine"));
        }
    }
}
