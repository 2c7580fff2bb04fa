//! How much a connection may buffer, and how fast it may send.

use std::time::Duration;

/// The transport's share of the session's budget, in QUIC's own terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Byte credit of the connection: maximum bytes received and not yet read.
    pub receive_window_bytes: u32,
    /// Byte credit of one stream.
    pub stream_window_bytes: u32,
    /// Maximum bytes written and not yet acked.
    pub send_window_bytes: u64,
    /// Stream credit: the peer's maximum parcels in flight.
    pub streams: u32,
    /// The connection is lost after this long without a packet from the peer.
    pub idle_timeout: Duration,
    /// How long a dialler waits for the first answer.
    pub connect_timeout: Duration,
    /// Congestion control.
    pub congestion: Congestion,
}

/// Congestion controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// By delivery rate and minimum round trip; `docs/congestion.md`.
    #[default]
    Auto,
    /// The same, but it yields to other flows.
    Background,
    /// RFC 9438.
    Cubic,
    /// RFC 9002, section 7.
    NewReno,
}
