//! Asking a running server what it does, from another process.
//!
//! A server listens on an abstract Unix socket whose name tells the number of its FUSE connection and its process id.
//! Nothing is created on disk, and the name goes away with the process. Whoever connects gets one [`Report`] as JSON.
//! Both ends check that the other one is root or the same user.

mod client;
mod report;
mod server;

pub use client::{ControlError, find, list};
pub use report::{FileSystemStatistics, Report, Served};
pub use server::Server;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_names_are_read_back() {
        assert_eq!(parse_socket_name(&socket_name(53, 1234)), Some((53, 1234)));
        assert_eq!(parse_socket_name("cntr.stat.53"), None);
        assert_eq!(parse_socket_name("cntr.stat.x.1"), None);
    }
}
