//! How long a session goes on without a connection.

use std::time::Duration;

/// A connection is lost after this long without a packet, if another one can take over.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a session waits for another connection when it has lost the one that carries its control stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It ends at once.
    Off,
    /// It ends after this long.
    For(Duration),
    /// It never ends for that reason.
    Forever,
}

impl Retry {
    /// How long a connection may be silent before it is lost, when the peer has `timeout` to get something done. If
    /// another one can take over, this is less than `timeout`, which ends the session.
    pub fn idle_timeout(self, timeout: Duration) -> Duration {
        if self == Self::Off { timeout } else { IDLE_TIMEOUT.min(timeout / 2) }
    }
}
