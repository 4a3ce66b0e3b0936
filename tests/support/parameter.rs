//! What the environment and the kernel are set to. FUSE over io_uring is switched off after boot;
//! `CNTR_TEST_URING=off` leaves it so.

// Every test binary uses a part of this module.
#![allow(dead_code)]

use std::{env, fs};

const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";

/// Switches FUSE over io_uring on for new mounts until it is dropped.
pub struct Uring {
    before: Option<String>,
}

impl Uring {
    /// Switches it on, if this kernel has it and the caller may.
    pub fn enable() -> Uring {
        let wanted = env::var("CNTR_TEST_URING").as_deref() != Ok("off");
        let before = fs::read_to_string(PARAMETER)
            .ok()
            .filter(|value| wanted && value.trim() != "Y" && fs::write(PARAMETER, "Y").is_ok());
        Uring { before }
    }

    /// Whether new mounts can have it.
    pub fn is_enabled() -> bool {
        let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        let enabled = fs::read_to_string(PARAMETER).unwrap_or_default();
        enabled.trim() == "Y" && disabled.trim() != "2"
    }
}

/// By how much tests may take longer than on a machine of its own: `CNTR_TEST_PATIENCE`, a whole number.
pub fn patience() -> u32 {
    match env::var("CNTR_TEST_PATIENCE") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("CNTR_TEST_PATIENCE={text} is no number")),
        Err(_) => 1,
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = fs::write(PARAMETER, before);
        }
    }
}
