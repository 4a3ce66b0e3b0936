//! The engine against a kernel that follows a script: what the live one would never send, or only an old one.
#![allow(missing_docs, reason = "a test")]

#[path = "../engine/memory.rs"]
mod memory;
#[path = "../support/parameter.rs"]
mod parameter;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cntr::engine::{Config, Session, SessionError, Transport};
use fuse_proto::flags::InitFlags;
use fuse_proto::{
    Dialect, Operation, fuse_getattr_in, fuse_in_header, fuse_init_in, fuse_init_out,
    fuse_interrupt_in, fuse_open_in, fuse_out_header, fuse_read_in,
};
use memory::MemoryFs;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use zerocopy::FromBytes;

/// A hang is a failure after this long.
const DEADLINE: u16 = 20_000;

/// The kernel's end of the connection.
struct Kernel {
    socket: OwnedFd,
    dialect: Dialect,
    unique: u64,
}

impl Kernel {
    fn new() -> (Kernel, OwnedFd) {
        let (kernel, server) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        (
            Kernel {
                socket: kernel,
                dialect: Dialect::default(),
                unique: 0,
            },
            server,
        )
    }

    /// Sends a request about the root directory; returns its number.
    fn send(&mut self, operation: &Operation<'_>) -> u64 {
        self.unique += 2;
        let mut message = Vec::new();
        operation.encode_contiguous(self.unique, 1, 0, 0, 0, self.dialect, &mut message);
        self.send_raw(&message);
        self.unique
    }

    fn send_raw(&self, message: &[u8]) {
        nix::unistd::write(&self.socket, message).expect("the server reads");
    }

    /// The next reply: its header and payload.
    fn receive(&self) -> (fuse_out_header, Vec<u8>) {
        use nix::poll::{PollFd, PollFlags, poll};
        use std::os::fd::AsFd;
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        assert!(
            poll(&mut ready, DEADLINE).unwrap() > 0,
            "no reply within {DEADLINE} ms"
        );
        let mut message = vec![0; 2 << 20];
        let len = nix::unistd::read(&self.socket, &mut message).unwrap();
        let (header, payload) =
            fuse_out_header::read_from_prefix(&message[..len]).expect("a whole header");
        assert_eq!(
            header.len as usize, len,
            "the length in the header is that of the message"
        );
        (header, payload.to_vec())
    }

    /// Offers `minor` and `flags`; returns the answer.
    fn shake_hands(
        &mut self,
        major: u32,
        minor: u32,
        flags: InitFlags,
    ) -> (fuse_out_header, Vec<u8>) {
        let bits = flags.bits();
        let offer = fuse_init_in {
            major,
            minor,
            max_readahead: 131_072,
            flags: bits as u32,
            flags2: (bits >> 32) as u32,
            ..Default::default()
        };
        self.send(&Operation::Init(offer));
        self.dialect = Dialect::new(minor, flags);
        self.receive()
    }
}

/// Starts a session with a scripted kernel of version 7.`minor`; the script goes on when it runs.
fn session(minor: u32, fs: &Arc<MemoryFs>) -> (Kernel, Session) {
    let (mut kernel, server) = Kernel::new();
    let fs = Arc::clone(fs);
    let starting = std::thread::spawn(move || {
        Session::start(
            fs,
            server,
            &Config {
                // This kernel offers io_uring in name only: the engine has to make do without.
                transport: Transport::Auto,
                workers: Some(2),
                ..Config::default()
            },
        )
        .expect("a session")
    });
    let (header, _) = kernel.shake_hands(
        7,
        minor,
        InitFlags::INIT_EXT | InitFlags::MAX_PAGES | InitFlags::OVER_IO_URING,
    );
    assert_eq!(header.error, 0);
    let session = starting.join().unwrap();
    kernel.dialect = session.negotiated().dialect();
    (kernel, session)
}

fn end(kernel: Kernel, session: Session) {
    drop(kernel);
    session.join().expect("an orderly end");
}

fn getattr() -> Operation<'static> {
    Operation::Getattr(fuse_getattr_in::default())
}

#[test]
fn speaks_every_minor_version() {
    for minor in [31, 36, 38, 41, 45, 60] {
        let fs = Arc::new(MemoryFs::new(&[]));
        let (mut kernel, session) = session(minor, &fs);
        assert_eq!(session.negotiated().minor, minor.min(45));
        let unique = kernel.send(&getattr());
        let (header, payload) = kernel.receive();
        assert_eq!(
            (header.unique, header.error, payload.len()),
            (unique, 0, 104)
        );
        end(kernel, session);
        assert!(fs.destroyed.load(Ordering::SeqCst));
    }
}

#[test]
fn a_kernel_that_is_too_old_is_told() {
    let (mut kernel, server) = Kernel::new();
    let starting = std::thread::spawn(|| {
        Session::start(Arc::new(MemoryFs::new(&[])), server, &Config::default()).err()
    });
    let (header, _) = kernel.shake_hands(7, 30, InitFlags::all());
    assert_eq!(header.error, -libc::EPROTO);
    let error = starting.join().unwrap().expect("no session");
    assert!(
        matches!(
            error,
            SessionError::TooOld {
                major: 7,
                minor: 30
            }
        ),
        "{error}"
    );
}

#[test]
fn a_later_major_version_offers_twice() {
    let (mut kernel, server) = Kernel::new();
    let starting = std::thread::spawn(|| {
        Session::start(Arc::new(MemoryFs::new(&[])), server, &Config::default())
    });
    let (header, payload) = kernel.shake_hands(8, 0, InitFlags::all());
    assert_eq!(header.error, 0);
    let (answer, _) = fuse_init_out::read_from_prefix(&payload).unwrap();
    assert_eq!(answer.major, 7);
    assert_eq!(kernel.shake_hands(7, 45, InitFlags::all()).0.error, 0);
    let session = starting.join().unwrap().expect("a session");
    end(kernel, session);
}

#[test]
fn a_silent_kernel_is_not_waited_for_for_ever() {
    let (_kernel, server) = Kernel::new();
    let config = Config {
        handshake: Duration::from_millis(50),
        ..Config::default()
    };
    let error = Session::start(Arc::new(MemoryFs::new(&[])), server, &config)
        .err()
        .expect("no session");
    assert!(matches!(error, SessionError::NoInit(_)), "{error}");
}

#[test]
fn what_cannot_be_decoded_is_refused() {
    let fs = Arc::new(MemoryFs::new(&[]));
    let (mut kernel, session) = session(45, &fs);
    let header = |len: usize, opcode: u32, unique: u64| {
        use zerocopy::IntoBytes;
        let header = fuse_in_header {
            len: len as u32,
            opcode,
            unique,
            nodeid: 1,
            ..Default::default()
        };
        let mut message = header.as_bytes().to_vec();
        message.resize(len, 0xff);
        message
    };
    // An operation of a later kernel; one cut short; one longer than it says.
    for (message, errno) in [
        (header(40, 999, 1001), libc::ENOSYS),
        (header(41, 3, 1003), libc::EIO),
        ([header(56, 3, 1005), vec![0; 8]].concat(), libc::EIO),
        (header(48, 1, 1007), libc::EIO),
    ] {
        kernel.send_raw(&message);
        let (reply, payload) = kernel.receive();
        assert_eq!((reply.error, payload.len()), (-errno, 0));
    }
    // There is nobody to answer less than a header.
    kernel.send_raw(&[1, 2, 3]);
    let unique = kernel.send(&getattr());
    assert_eq!(kernel.receive().0.unique, unique);
    end(kernel, session);
}

#[test]
fn an_interrupt_may_come_first() {
    let fs = Arc::new(MemoryFs::new(&["wait"]));
    let (mut kernel, session) = session(45, &fs);
    kernel.send(&Operation::Open(fuse_open_in::default()));
    kernel.receive();
    // Two threads read requests, so this order on the wire is no order of service.
    let next = kernel.unique + 4;
    kernel.send(&Operation::Interrupt(fuse_interrupt_in { unique: next }));
    kernel.unique = next - 2;
    let mut message = Vec::new();
    let read = Operation::Read(fuse_read_in {
        size: 100,
        ..Default::default()
    });
    read.encode_contiguous(next, 2, 0, 0, 0, kernel.dialect, &mut message);
    kernel.send_raw(&message);
    let start = Instant::now();
    let (reply, _) = kernel.receive();
    assert_eq!(
        (reply.unique, reply.error),
        (next, -libc::EINTR),
        "after {:?}",
        start.elapsed()
    );
    kernel.unique = next;
    end(kernel, session);
}

#[test]
fn mutated_requests_are_survived() {
    let fs = Arc::new(MemoryFs::new(&["a"]));
    let (mut kernel, session) = session(45, &fs);
    let read = Operation::Read(fuse_read_in {
        size: 4096,
        ..Default::default()
    });
    let seeds: Vec<Vec<u8>> = [
        getattr(),
        read,
        Operation::Lookup { name: c"a" },
        Operation::Statfs,
    ]
    .iter()
    .map(|operation| {
        let mut message = Vec::new();
        operation.encode_contiguous(2, 1, 0, 0, 0, kernel.dialect, &mut message);
        message
    })
    .collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000_u64 {
        let mut message = seeds[random() as usize % seeds.len()].clone();
        for _ in 0..=random() % 4 {
            let at = random() as usize % message.len();
            message[at] = random() as u8;
        }
        // Not the number of the request whose answer shows that the server lives.
        message[8..16].copy_from_slice(&(1 << 40 | round).to_le_bytes());
        kernel.send_raw(&message);
        if round % 16 == 15 {
            let unique = kernel.send(&getattr());
            while kernel.receive().0.unique != unique {}
        }
    }
    end(kernel, session);
}
