//! An authenticated connection with many streams, as traits.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::congestion::KnownPath;
use super::error::TransportError;
use crate::auth::Fingerprint;

/// Statistics of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathStats {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Congestion window in bytes.
    pub congestion_window_bytes: u64,
    /// Largest UDP payload in use, bytes.
    pub mtu_bytes: u16,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets declared lost.
    pub lost_packets: u64,
    /// How long the congestion window was the bottleneck.
    pub window_full: Duration,
    /// What the path carries, for later transfers, once that is known.
    pub learned: Option<KnownPath>,
}

impl PathStats {
    /// Whether a single packet is too likely to be lost to rely on it: more than one in 200 was.
    pub fn is_lossy(&self) -> bool {
        self.lost_packets.saturating_mul(200) > self.sent_packets
    }
}

/// A connection between two authenticated peers. Cheap to clone. Closed on request, or when the last clone is
/// dropped.
pub trait Connection: Clone + Send + Sync + 'static {
    /// Sending half of a stream.
    type Send: SendStream;
    /// Receiving half of a stream.
    type Recv: RecvStream;

    /// Opens a bidirectional stream; waits for stream credit of the peer.
    fn open_bi(&self) -> impl Future<Output = Result<(Self::Send, Self::Recv), TransportError>> + Send;
    /// The peer's next bidirectional stream, in order of opening.
    fn accept_bi(&self) -> impl Future<Output = Result<(Self::Send, Self::Recv), TransportError>> + Send;
    /// Opens a one-way stream to the peer.
    fn open_uni(&self) -> impl Future<Output = Result<Self::Send, TransportError>> + Send;
    /// The peer's next one-way stream.
    fn accept_uni(&self) -> impl Future<Output = Result<Self::Recv, TransportError>> + Send;
    /// 32 bytes that only the two ends of this TLS session can compute (RFC 9266, RFC 8446 section 7.5).
    fn export_keying_material(&self, label: &[u8]) -> Result<[u8; 32], TransportError>;
    /// SHA-256 of the SubjectPublicKeyInfo that the peer has proved to own.
    fn peer_fingerprint(&self) -> Fingerprint;
    /// The peer's address.
    fn remote_address(&self) -> SocketAddr;
    /// Gives an authenticated dialler the full credit. Until then a listener gives it only a little.
    fn let_in(&self);
    /// Waits until this dialler, which was not let in, must make room for others.
    fn has_to_leave(&self) -> impl Future<Output = ()> + Send;
    /// Closes the connection at once; `reason` reaches the peer even when it reads no stream.
    fn close(&self, code: u32, reason: &[u8]);
    /// Waits for the end of the connection and returns the reason.
    fn closed(&self) -> impl Future<Output = TransportError> + Send;
    /// Whether the connection has ended.
    fn is_closed(&self) -> bool;
    /// Whether the peer has closed the connection, or it is lost: there is nothing left to tell.
    fn is_ended_by_peer(&self) -> bool;
    /// After [`Connection::close`]: waits until the close is on its way to the peer. If it left before this could
    /// check, waits until the peer answers, or forever.
    fn close_sent(&self) -> impl Future<Output = ()> + Send;
    /// An earlier transfer over this path found `known`: sending starts from that.
    fn know_path(&self, known: KnownPath);
    /// Statistics of the path.
    fn stats(&self) -> PathStats;
}

/// Sending half of a stream. Reset when dropped without [`SendStream::finish`].
pub trait SendStream: Send + 'static {
    /// Writes all of `chunks` in order; waits for byte credit of the peer. The bytes are shared, not copied.
    fn write_all(&mut self, chunks: &mut [Bytes]) -> impl Future<Output = Result<(), TransportError>> + Send;
    /// Ends the stream.
    fn finish(&mut self) -> Result<(), TransportError>;
    /// After [`SendStream::finish`]: waits until the peer's transport has everything, so that the peer can read it also
    /// when the connection is lost now. False if it may not have it.
    fn is_delivered(&mut self) -> impl Future<Output = bool> + Send;
    /// Sets the priority: streams with a higher value go first; 0 at the start.
    fn set_priority(&self, priority: i32);
}

/// Receiving half of a stream. When dropped before its end, the peer is told to stop.
pub trait RecvStream: Send + 'static {
    /// Copies the next bytes in order into `room`, which is not empty, and returns their number: all bytes available
    /// that fit, at least one; `None` at the end. Reading returns byte credit.
    fn read(&mut self, room: &mut [u8])
    -> impl Future<Output = Result<Option<usize>, TransportError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_lossy_when_one_packet_in_200_is_lost() {
        let of =
            |sent_packets, lost_packets| PathStats { sent_packets, lost_packets, ..PathStats::default() };
        assert!(!of(0, 0).is_lossy());
        assert!(!of(1000, 5).is_lossy());
        assert!(of(1000, 6).is_lossy());
        assert!(of(10, 1).is_lossy());
    }
}
