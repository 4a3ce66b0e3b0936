//! cntr attaches to a running container with your own tools.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`control`] | asks a running server what it does |
//! | [`engine`] | speaks FUSE with the kernel; serves any file system |
//! | [`fs`] | serves a host directory tree |
//! | [`sys`] | the unsafe code: wrappers of system calls |
#![deny(unsafe_code)]

pub mod cli;
pub mod control;
pub mod engine;
pub mod fs;
pub mod sys;
