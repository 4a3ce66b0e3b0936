//! What a client asks for: one line of JSON.
//!
//! A client that sends nothing gets a plain report after [`PATIENCE`].

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::metrics::Detail;

/// How long a request is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// Longest request in bytes.
const LONGEST: u64 = 4096;

/// What is asked for. What a server does not know it ignores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Latencies as histograms, too.
    pub histograms: bool,
}

impl Request {
    /// The request of the client behind `stream`.
    ///
    /// # Errors
    /// Those of reading; no request is none.
    pub(super) fn receive(stream: &UnixStream) -> io::Result<Request> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = Vec::new();
        match BufReader::new(stream.take(LONGEST)).read_until(b'\n', &mut line) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        Ok(serde_json::from_slice(&line).unwrap_or_default())
    }

    /// The request as it is sent.
    pub(super) fn line(self) -> Vec<u8> {
        let mut line = serde_json::to_vec(&self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// What is to be measured for it.
    pub(super) fn detail(self) -> Detail {
        if self.histograms {
            Detail::Histograms
        } else {
            Detail::Percentiles
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn received(sent: &[u8]) -> Request {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(sent).unwrap();
        Request::receive(&server).unwrap()
    }

    #[test]
    fn requests_arrive() {
        let wanted = Request { histograms: true };
        assert_eq!(received(&wanted.line()), wanted);
        assert_eq!(received(&Request::default().line()), Request::default());
    }

    #[test]
    fn no_request_asks_for_a_plain_report() {
        assert_eq!(received(b""), Request::default());
        assert_eq!(received(b"what?\n"), Request::default());
        assert_eq!(received(b"{\"color\":\"red\"}\n"), Request::default());
        assert_eq!(received(&[b' '; 5000]), Request::default());
    }
}
