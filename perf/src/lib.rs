//! What does a FUSE view cost, against native and against every other way, for my workload?
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`runner`] | plans a run, measures round by round, saves what it has |
//! | [`preflight`] | refuses or warns before anything is measured |
//! | [`workload`] | what is measured |
//! | [`target`] | where it is measured: native, our engine, other servers, sessions |
//! | [`job`] | runs commands in a target, with a deadline, and meters them |
//! | [`load`] | the load generator |
//! | [`minimal`] | the least that a FUSE server can do, to measure others against |
//! | [`served`] | a FUSE file system that this program serves itself |
//! | [`report`] | tables, Markdown, HTML, the comparison of two runs |
//! | [`stats`] | medians, intervals, significance |
//! | [`result`] | the file that a run leaves behind |
//!
//! Arrows go one way: `cli -> runner -> workload, preflight -> target -> job -> result` and `cli -> report -> stats -> result`.
//! Workloads and the runner use `stats`, too.
//! `load` is a program of its own inside this one: workloads start it by command line, so that it can run in a session.
#![forbid(unsafe_code)]

pub mod cli;
pub mod job;
pub mod load;
pub mod minimal;
pub mod preflight;
pub mod report;
pub mod result;
pub mod runner;
pub mod served;
pub mod stats;
pub mod target;
pub mod workload;
