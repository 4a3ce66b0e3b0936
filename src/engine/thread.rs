//! Threads of a session.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Stack of a thread that runs methods of a file system, in bytes.
const SERVING: usize = 512 << 10;

/// Stack of any other, in bytes.
const HELPING: usize = 256 << 10;

/// Starts a thread that serves requests; false if it cannot be started. They are told apart by name in ps and gdb.
pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> bool {
    let started = start(name, SERVING, body);
    if let Err(error) = &started {
        tracing::warn!(%error, "no further thread can be started");
    }
    started.is_ok()
}

/// Starts a thread that serves no requests.
pub(super) fn helper(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start(name, HELPING, body)
}

fn start(
    name: &str,
    stack: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(stack)
        .spawn(move || {
            let _ = crate::sys::thread::accept_only_interrupt();
            body();
        })
}
