//! cntr attaches to a running container with your own tools.
//!
//! | module | what it is |
//! |---|---|
//! | [`attach`] | puts a process into a container |
//! | [`cli`] | the command line |
//! | [`container`] | a minimal container, for `cntr run` |
//! | [`control`] | asks a running server what it does |
//! | [`engine`] | speaks FUSE with the kernel; serves any file system |
//! | [`fs`] | serves a host directory tree |
//! | [`resolve`] | finds a process of what a user calls a container |
//! | [`sys`] | the unsafe code: wrappers of system calls |
#![deny(unsafe_code)]

pub mod attach;
pub mod cli;
pub mod container;
pub mod control;
pub mod engine;
pub mod fs;
pub mod resolve;
pub mod sys;
