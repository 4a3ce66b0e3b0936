//! Ends what takes too long or is not wanted any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Interrupts by signal, and a deadline.
#[derive(Clone, Debug)]
pub struct Control {
    signal: Arc<AtomicUsize>,
    deadline: Option<Instant>,
}

impl Control {
    /// Takes over SIGINT, SIGTERM and SIGHUP for the rest of the program.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn install() -> std::io::Result<Control> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Control {
            signal,
            deadline: None,
        })
    }

    /// Neither signals nor a deadline.
    pub fn none() -> Control {
        Control {
            signal: Arc::default(),
            deadline: None,
        }
    }

    /// The same, with this much time from now on.
    pub fn with_deadline(&self, time: Duration) -> Control {
        Control {
            signal: Arc::clone(&self.signal),
            deadline: Some(Instant::now() + time),
        }
    }

    /// The same without a deadline and deaf to signals: for cleaning up.
    pub fn for_cleanup(&self, time: Duration) -> Control {
        Control::none().with_deadline(time)
    }

    /// The signal that arrived, if one did.
    pub fn interrupted(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number as i32),
        }
    }

    /// Whether the deadline has passed.
    pub fn expired(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Time until the deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
