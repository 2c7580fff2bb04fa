//! What the controller is at.

use std::time::Instant;

use crate::transport::congestion::known::KnownPath;

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

/// What start-up does with what an earlier transfer found: the phases of RFC 9959, whose names these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// Nothing, or no more.
    Normal,
    /// Wait for a round trip that shows the same path.
    Reconnaissance(KnownPath),
    /// Send half of what the path carried. The first packet beyond the first window left at `from`.
    Unvalidated { known: KnownPath, from: Option<Instant> },
    /// See what of that arrives. Packets that left up to `until` were sent without knowing.
    Validating { known: KnownPath, until: Instant },
    /// All of that has arrived. Start-up goes on to what the path carried.
    Validated(KnownPath),
}
