//! Asking a running server what it does, from another process.
//!
//! A server listens on an abstract Unix socket whose name tells the number of its FUSE connection and its process id.
//! Nothing is created on disk, and the name goes away with the process. Whoever connects sends a [`Request`] and gets one
//! [`Report`], both as JSON. Both ends check that the other one is root or the same user.

mod client;
mod interval;
mod report;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod usage;

pub use client::{ControlError, ask, find, list};
pub use report::{Report, Served};
pub use request::Request;
pub use server::Server;
pub use usage::Usage;

/// Abstract socket names of servers start with this.
const PREFIX: &str = "cntr.stat.";

/// Name of the socket of the server `pid` of `connection`.
fn socket_name(connection: u32, pid: u32) -> String {
    format!("{PREFIX}{connection}.{pid}")
}

/// The connection and process id in a socket name.
fn parse_socket_name(name: &str) -> Option<(u32, u32)> {
    let (connection, pid) = name.strip_prefix(PREFIX)?.split_once('.')?;
    Some((connection.parse().ok()?, pid.parse().ok()?))
}
