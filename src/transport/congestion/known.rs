//! What a path carried before.

use std::time::Duration;

/// What a path carried in an earlier transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPath {
    /// Bytes a second.
    pub bandwidth: u64,
    /// The shortest round trip.
    pub min_rtt: Duration,
    /// Packets in a thousand that were lost whatever the rate.
    pub lost_permille: u64,
}
