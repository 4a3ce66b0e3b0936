//! The only unsafe code of the package: thin, safe wrappers of system calls that no library wraps.
#![allow(unsafe_code)]

pub mod aio;
pub mod capability;
pub mod channel;
pub mod clock;
pub mod creds;
pub mod fanotify;
pub mod file;
pub mod fuse;
pub mod futex;
pub mod handle;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod network;
pub mod pinned;
pub mod process;
pub mod scheduling;
pub mod stat;
pub mod terminal;
pub mod thread;
pub mod uring;
pub mod xattr;
