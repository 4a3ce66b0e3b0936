//! The asking end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt::PeerCredentials};

use super::report::Report;
use super::request::Request;
use super::{parse_socket_name, socket_name};

/// A server that does not answer is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there are no statistics.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The list of sockets cannot be read.
    #[error("cannot read /proc/net/unix")]
    Sockets(#[source] io::Error),
    /// Nobody serves it.
    #[error(
        "'{0}' is no mount of cntr and no process of a session: `cntr stat` without an argument lists what there is"
    )]
    Unknown(String),
    /// The server does not answer.
    #[error("the server with process id {pid} does not answer")]
    Silent {
        /// Its process id.
        pid: u32,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The server is no more.
    #[error("the server with process id {0} has ended")]
    Ended(u32),
}

/// The servers of this host that answer the caller: (connection, process id).
fn servers() -> Result<Vec<(u32, u32)>, ControlError> {
    let sockets = std::fs::read_to_string("/proc/net/unix").map_err(ControlError::Sockets)?;
    let names = sockets
        .lines()
        .filter_map(|line| line.split_once('@'))
        .filter_map(|(_, name)| parse_socket_name(name));
    let mut servers: Vec<(u32, u32)> = names.collect();
    servers.sort_unstable();
    servers.dedup();
    Ok(servers)
}

/// The reports of all servers on this host. Those that do not answer are left out.
///
/// # Errors
/// [`ControlError::Sockets`].
pub fn list() -> Result<Vec<Report>, ControlError> {
    Ok(servers()?
        .into_iter()
        .filter_map(|(connection, pid)| ask(connection, pid, Request::default()).ok())
        .collect())
}

/// The report of the server of `what`: a mount point or a path below one, or the process id of the server, of the
/// container or of any process of a session.
///
/// # Errors
/// See [`ControlError`].
pub fn find(what: &str, request: Request) -> Result<Report, ControlError> {
    let servers = servers()?;
    let of_process = what.parse::<u32>().ok();
    if let Some(&(connection, pid)) = servers.iter().find(|(_, pid)| Some(*pid) == of_process) {
        return ask(connection, pid, request);
    }
    let connection = match of_process {
        Some(process) => connection_of(Path::new(&format!("/proc/{process}/root"))),
        None => connection_of(Path::new(what)),
    };
    if let Some(report) = newest(&servers, connection, request) {
        return report;
    }
    if let Some(process) = of_process.and_then(|process| i32::try_from(process).ok()) {
        let of_container = |report: &Report| report.served.container == Some(process);
        if let Some(report) = list()?.into_iter().find(of_container) {
            return ask(report.connection, report.pid, request);
        }
    }
    Err(ControlError::Unknown(what.to_owned()))
}

/// The report of the server of `connection`; `None` if nobody serves that. The number is given away again as soon as a
/// mount is gone, which its server may not have noticed yet: it belongs to the server that started last.
fn newest(
    servers: &[(u32, u32)],
    connection: Option<u32>,
    request: Request,
) -> Option<Result<Report, ControlError>> {
    servers
        .iter()
        .filter(|(number, _)| Some(*number) == connection)
        .map(|&(connection, pid)| ask(connection, pid, request))
        .min_by_key(|report| {
            let uptime = report.as_ref().map(|report| report.uptime_ns);
            uptime.unwrap_or(u64::MAX)
        })
}

fn connection_of(path: &Path) -> Option<u32> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    crate::sys::fuse::connection(file.as_fd()).ok()
}

/// The report of the server `pid` of `connection`.
///
/// # Errors
/// [`ControlError::Silent`].
pub fn ask(connection: u32, pid: u32, request: Request) -> Result<Report, ControlError> {
    let silent = |source| ControlError::Silent { pid, source };
    let address = SocketAddr::from_abstract_name(socket_name(connection, pid)).map_err(silent)?;
    let mut stream = UnixStream::connect_addr(&address).map_err(silent)?;
    let peer = getsockopt(&stream, PeerCredentials).map_err(|errno| silent(errno.into()))?;
    if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
        return Err(silent(io::Error::other(format!(
            "its socket belongs to uid {}",
            peer.uid()
        ))));
    }
    stream.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
    // A server that reads no requests may have answered and closed already.
    let _ = send(stream.as_raw_fd(), &request.line(), MsgFlags::MSG_NOSIGNAL);
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text);
    if text.is_empty() {
        read.map_err(silent)?;
        return Err(silent(io::Error::from_raw_os_error(libc::EACCES)));
    }
    let mut report: Report = serde_json::from_slice(&text).map_err(|error| silent(error.into()))?;
    report.rate();
    Ok(report)
}
