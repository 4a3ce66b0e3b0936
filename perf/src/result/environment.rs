//! The machine that a run was made on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What can change a result and can be read from the machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Environment {
    /// `uname -r` and `-v`.
    pub kernel: String,
    /// Distribution.
    pub system: String,
    /// Model name of the CPU.
    pub cpu: String,
    /// CPUs that may be used.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// `none`, or the hypervisor.
    pub virtualisation: String,
    /// CPU governors in use, `none` where the machine has no choice.
    pub governor: String,
    /// Mitigations and other facts of the kernel by name.
    pub kernel_parameters: BTreeMap<String, String>,
    /// Parameters of the fuse module by name.
    pub fuse_parameters: BTreeMap<String, String>,
    /// The directory that everything is stored in.
    pub backing: String,
    /// Type, device and mount options of its file system.
    pub backing_file_system: String,
    /// Versions of the tools that workloads use, by name.
    pub tools: BTreeMap<String, String>,
}
