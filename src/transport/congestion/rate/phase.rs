//! What the controller is at.

use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Twice the window each round until the bandwidth grows no more.
    Startup,
    /// Until the queue of start-up is gone.
    Drain,
    /// Less than the path holds for a round, to see it without a queue.
    Down,
    Cruise {
        until: Instant,
    },
    /// A quarter more than the path holds, to see whether it holds more.
    Up,
    /// Half of what the path holds, to see how long it is.
    ProbeRtt {
        until: Option<Instant>,
    },
    /// Another flow holds the queue: no less than CUBIC would take.
    Compete {
        until: Instant,
    },
    /// Another flow holds the queue: half the window each round until it is gone, and that time has come.
    Yield {
        window: u64,
        until: Instant,
    },
}

/// What to do beside a flow that holds the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Take about what CUBIC would.
    Compete,
    /// Make way, also for a queue of its own.
    Yield,
}
