//! The server's end.

use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::report::{Report, Served};
use super::request::Request;
use super::socket_name;
use super::usage::{Usage, resident_kib};
use crate::engine::Session;
use crate::engine::metrics::Measurements;
use crate::fs::Statistics;

/// A client that does not read is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers [`find`](super::find) and [`list`](super::list) of other processes, until the process ends.
pub struct Server;

impl Server {
    /// Starts to answer for `session` on a thread of its own.
    ///
    /// # Errors
    /// If the socket cannot be made or the thread cannot be started.
    pub fn start(
        session: &Session,
        connection: u32,
        served: Served,
        file_system: impl Fn() -> Statistics + Send + 'static,
    ) -> io::Result<Server> {
        let name = socket_name(connection, std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        let monitor = session.monitor();
        let negotiated = session.negotiated().clone();
        let transport = session.transport().name();
        let report = move |request: Request| {
            let Measurements {
                operations,
                queues,
                cache,
            } = monitor.measurements(request.detail());
            Report {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                connection,
                served: served.clone(),
                transport: transport.to_owned(),
                protocol: format!("7.{}", negotiated.minor),
                capabilities: negotiated
                    .flags
                    .iter_names()
                    .map(|(name, _)| name.to_owned())
                    .collect(),
                max_write: negotiated.max_write,
                uptime_ns: monitor.uptime_ns(),
                interval_ns: None,
                threads: monitor.threads() as u64,
                resident_kib: resident_kib(),
                file_system: file_system(),
                usage: Usage::own(),
                cache: Some(cache),
                notifications: Some(monitor.notifications()),
                operations,
                queues,
            }
        };
        std::thread::Builder::new()
            .name("cntr-control".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                let _ = crate::sys::thread::accept_only_interrupt();
                for stream in listener.incoming() {
                    match stream {
                        Ok(stream) => {
                            // A client that went away or does not read is its own business.
                            let _ = answer(&stream, &report);
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the statistics socket failed");
                            return;
                        }
                    }
                }
            })?;
        Ok(Server)
    }
}

fn answer(stream: &UnixStream, report: &impl Fn(Request) -> Report) -> io::Result<()> {
    let peer = getsockopt(stream, PeerCredentials)?;
    if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let request = Request::receive(stream)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(&report(request))?;
    text.push(b'\n');
    (&*stream).write_all(&text)
}
