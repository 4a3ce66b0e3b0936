//! The only unsafe code of the package: thin, safe wrappers of system calls that no library wraps.
#![allow(unsafe_code)]

pub mod fuse;
pub mod mount;
pub mod thread;
