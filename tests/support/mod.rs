//! What the tests of the live file system share: a runner that skips with reasons, mounts that clean up after
//! themselves, file systems to serve, and ways to act as another user.
//!
//! Environment:
//! * `CNTR_TEST_DIR`: where temporary directories are made (else the system's).
//! * `CNTR_TEST_PEER`: what is mounted: `cntr` (the binary under test, the default), `bind` (a bind mount: every test
//!   must pass, so a failure is a flaw of the test) or `bindfs` (a server with known flaws the tests must find).
//! * `CNTR_TEST_OPTIONS`: mount options for every mount of the binary under test, such as `transport=classic`.
//! * `CNTR_TEST_ROOTLESS=1`: everything runs as an ordinary user who is root of a user namespace.
//! * `CNTR_TEST_PATIENCE`: a factor for the time a test may take, for emulated machines.

// Every test binary uses a part of this module.
#![allow(dead_code)]

pub mod backing;
pub mod connection;
pub mod counts;
pub mod kernel;
pub mod load;
pub mod mapping;
pub mod mount;
pub mod mountinfo;
pub mod parameter;
pub mod privilege;
pub mod rootless;
pub mod runner;
pub mod server;
pub mod signal;
pub mod tool;
pub mod user;
pub mod wait;
