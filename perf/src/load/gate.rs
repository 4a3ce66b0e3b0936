//! Lets all clients start at the same moment.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::unistd::Pid;

use super::pace::{Clock, Monotonic};
use crate::job::Window;

/// Closed until all clients have come.
pub struct Gate {
    clock: Monotonic,
    come: Barrier,
    go: Barrier,
    opened: AtomicU64,
}

impl Gate {
    /// A gate for this many clients.
    pub fn new(clock: Monotonic, clients: usize) -> Gate {
        Gate {
            clock,
            come: Barrier::new(clients + 1),
            go: Barrier::new(clients + 1),
            opened: AtomicU64::new(0),
        }
    }

    /// Called by each client. Waits until the gate opens; returns when that was.
    pub fn pass(&self) -> u64 {
        self.come.wait();
        self.go.wait();
        self.opened.load(Ordering::Relaxed)
    }

    /// Waits until all clients have come, begins to meter, and lets them go.
    pub fn open(&self, servers: &[Pid]) -> (Window, u64) {
        self.come.wait();
        let window = Window::begin(servers);
        let now = self.clock.now();
        self.opened.store(now, Ordering::Relaxed);
        self.go.wait();
        (window, now)
    }
}
