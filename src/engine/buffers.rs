//! Memory for reads that are carried out beside the queues: so many buffers and no more.

use std::sync::Arc;

use parking_lot::Mutex;

/// Buffers of one session.
pub(super) struct Buffers {
    /// Bytes of each.
    size: usize,
    state: Mutex<State>,
}

struct State {
    /// How many more may be lent.
    left: usize,
    /// Those that were used before, the last one last: its memory is the likeliest to be in the processor's cache.
    free: Vec<Vec<u8>>,
}

/// A buffer on loan. Whoever holds it last gives it back.
pub(super) struct Loan {
    /// The buffer.
    pub(super) bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl Buffers {
    /// Up to `count` buffers of `size` bytes. Takes no memory before they are used.
    pub(super) fn new(size: usize, count: usize) -> Arc<Buffers> {
        Arc::new(Buffers {
            size,
            state: Mutex::new(State {
                left: count,
                free: Vec::new(),
            }),
        })
    }

    /// A buffer, if not all are lent.
    pub(super) fn lend(self: &Arc<Self>) -> Option<Loan> {
        let mut state = self.state.lock();
        state.left = state.left.checked_sub(1)?;
        let free = state.free.pop();
        drop(state);
        Some(Loan {
            bytes: free.unwrap_or_else(|| vec![0; self.size]),
            home: Arc::clone(self),
        })
    }

    /// Gives the memory of those that are not lent back.
    pub(super) fn trim(&self) {
        let free = std::mem::take(&mut self.state.lock().free);
        drop(free);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut state = self.home.state.lock();
        state.left += 1;
        // A command that was never completed keeps its buffer.
        if bytes.len() == self.home.size {
            state.free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_no_more() {
        let buffers = Buffers::new(4096, 2);
        let first = buffers.lend().expect("one");
        let second = buffers.lend().expect("another");
        assert!(buffers.lend().is_none());
        drop(first);
        assert_eq!(buffers.lend().expect("it is back").bytes.len(), 4096);
        drop(second);
        assert_eq!(buffers.state.lock().free.len(), 2);
        buffers.trim();
        assert!(buffers.lend().is_some());
    }

    #[test]
    fn a_buffer_that_is_lost_is_replaced() {
        let buffers = Buffers::new(4096, 1);
        let mut loan = buffers.lend().expect("one");
        drop(std::mem::take(&mut loan.bytes));
        drop(loan);
        assert_eq!(buffers.lend().expect("another").bytes.len(), 4096);
    }
}
