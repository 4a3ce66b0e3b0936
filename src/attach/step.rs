//! The steps of the set-up by name: for messages, and to make any of them fail in a test.

use std::fmt;
use std::str::FromStr;

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $text:literal;)*) => {
        /// A step of the set-up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Step { $(#[doc = $text] $variant,)* }

        impl Step {
            /// Every step, in the order they are taken.
            pub const ALL: &[Step] = &[$(Step::$variant),*];

            /// The name used on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Step::$variant => $name,)* }
            }

            /// What is being done, as in "cannot ...".
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Step::$variant => $text,)* }
            }
        }
    };
}

steps! {
    Enter = "enter", "enter the container's user namespace";
    OpenTarget = "open-target", "open the target process";
    OpenCgroups = "open-cgroups", "open the target's cgroups";
    PlanMounts = "plan-mounts", "look at the target's root";
    OpenBinds = "open-binds", "open what is to be bound";
    MakeView = "make-view", "make the view of the host";
    ForkServer = "fork-server", "start the server process";
    Serve = "serve", "serve the view of the host";
    ForkSession = "fork-session", "start the session process";
    OomScore = "oom-score", "take over the OOM score";
    MakeDevices = "make-devices", "make a minimal /dev";
    JoinMount = "join-mnt", "join the target's mount namespace";
    CloneContainer = "clone-container", "clone the container's mounts";
    UnshareMount = "unshare-mnt", "make a mount namespace for the session";
    IsolateMounts = "isolate-mounts", "make the session's mounts private";
    MountView = "mount-view", "mount the view of the host as the session's root";
    ChangeRoot = "change-root", "change the root";
    MountContainer = "mount-container", "mount the container in the session";
    MountSpecial = "mount-special", "mount the container's files over the host's";
    MountBinds = "mount-binds", "bind paths of the host in the session";
    JoinNamespaces = "join-namespaces", "join the target's namespaces";
    ForkCommand = "fork-command", "start the command's process";
    MountProc = "mount-proc", "mount /proc for the session";
    JoinCgroups = "join-cgroups", "join the target's cgroups";
    Limits = "limits", "take over the resource limits";
    Labels = "labels", "take over the security labels";
    Credentials = "credentials", "take over user and groups";
    Terminal = "terminal", "open a terminal in the container";
    JoinUser = "join-user", "join the target's user namespace";
    Capabilities = "capabilities", "take over the capabilities";
    WorkingDirectory = "working-directory", "change to the working directory";
    Execute = "execute", "execute the command";
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.text())
    }
}

/// How an injected fault shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The step returns an error.
    Error,
    /// The process dies of SIGKILL.
    Kill,
    /// The process stops responding.
    Hang,
}

/// A fault to inject: `STEP`, `STEP:kill` or `STEP:hang`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub step: Step,
    /// How.
    pub kind: FaultKind,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let (name, kind) = text.split_once(':').unwrap_or((text, "error"));
        let step = Step::ALL.iter().copied().find(|step| step.name() == name);
        let step = step.ok_or_else(|| {
            let names: Vec<_> = Step::ALL.iter().map(|step| step.name()).collect();
            format!("no such step; the steps are {}", names.join(", "))
        })?;
        let kind = match kind {
            "error" => FaultKind::Error,
            "kill" => FaultKind::Kill,
            "hang" => FaultKind::Hang,
            _ => return Err("a fault is error, kill or hang".to_owned()),
        };
        Ok(Fault { step, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_a_step() {
        assert_eq!(
            "serve:kill".parse(),
            Ok(Fault {
                step: Step::Serve,
                kind: FaultKind::Kill
            })
        );
        assert_eq!(
            "execute".parse(),
            Ok(Fault {
                step: Step::Execute,
                kind: FaultKind::Error
            })
        );
        assert!("dance".parse::<Fault>().is_err());
        assert!("serve:sing".parse::<Fault>().is_err());
    }
}
