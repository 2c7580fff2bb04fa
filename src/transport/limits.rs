//! How much a connection may hold, and how fast it may send.

use std::time::Duration;

/// What the transport keeps of the session's budget: the bottlenecks in QUIC's own terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Byte credits of the connection: received and not yet read, at most.
    pub receive_window_bytes: u32,
    /// Byte credits of one stream.
    pub stream_window_bytes: u32,
    /// Written and not yet acknowledged, at most.
    pub send_window_bytes: u64,
    /// Stream credits: parcels that the peer may have on the way.
    pub streams: u32,
    /// The connection is lost after this long without a packet from the peer.
    pub idle_timeout: Duration,
    /// How long a dialler waits for a first answer.
    pub connect_timeout: Duration,
    /// Congestion control.
    pub congestion: Congestion,
}

/// Congestion controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// By delivery rate and least round trip; `docs/congestion.md`.
    #[default]
    Auto,
    /// The same, but it makes way for others.
    Background,
    /// RFC 9438.
    Cubic,
    /// RFC 9002, section 7.
    NewReno,
}
