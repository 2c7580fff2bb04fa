//! An authenticated connection with many streams, as traits.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::error::TransportError;
use crate::auth::Fingerprint;

/// Numbers of the path so far.
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
    /// Packets called lost.
    pub lost_packets: u64,
    /// How long the congestion window was what held the connection back.
    pub window_full: Duration,
}

/// A connection between two authenticated peers. Cheap to clone; closed when told, or when the last clone goes.
pub trait Connection: Clone + Send + Sync + 'static {
    /// Sending half of a stream.
    type Send: SendStream;
    /// Receiving half of a stream.
    type Recv: RecvStream;

    /// Opens a bidirectional stream; waits while the peer gives no stream credit.
    fn open_bi(&self) -> impl Future<Output = Result<(Self::Send, Self::Recv), TransportError>> + Send;
    /// The next bidirectional stream of the peer, in the order of their opening.
    fn accept_bi(&self) -> impl Future<Output = Result<(Self::Send, Self::Recv), TransportError>> + Send;
    /// Opens a stream to the peer.
    fn open_uni(&self) -> impl Future<Output = Result<Self::Send, TransportError>> + Send;
    /// The next one-way stream of the peer.
    fn accept_uni(&self) -> impl Future<Output = Result<Self::Recv, TransportError>> + Send;
    /// 32 bytes that only the two ends of this TLS session can compute (RFC 9266, RFC 8446 section 7.5).
    fn export_keying_material(&self, label: &[u8]) -> Result<[u8; 32], TransportError>;
    /// SHA-256 of the SubjectPublicKeyInfo that the peer has proved to hold.
    fn peer_fingerprint(&self) -> Fingerprint;
    /// Where the peer is.
    fn remote_address(&self) -> SocketAddr;
    /// The dialler has shown who it is: gives it all of the credit. Until then a listener gives it a little.
    fn let_in(&self);
    /// Waits until a dialler that was not let in has to make room for others.
    fn has_to_leave(&self) -> impl Future<Output = ()> + Send;
    /// Ends everything at once; `reason` reaches the peer even when it reads no stream.
    fn close(&self, code: u32, reason: &[u8]);
    /// Waits for the end of the connection and says why.
    fn closed(&self) -> impl Future<Output = TransportError> + Send;
    /// The connection has ended.
    fn is_closed(&self) -> bool;
    /// Numbers of the path.
    fn stats(&self) -> PathStats;
}

/// Sending half of a stream. Dropped without [`SendStream::finish`], it is reset.
pub trait SendStream: Send + 'static {
    /// Writes all of `chunks` in order; waits while the peer gives no byte credit. The bytes are shared, not copied.
    fn write_all(&mut self, chunks: &mut [Bytes]) -> impl Future<Output = Result<(), TransportError>> + Send;
    /// No more will be written.
    fn finish(&mut self) -> Result<(), TransportError>;
    /// Streams with a higher value go first; 0 at the start.
    fn set_priority(&self, priority: i32);
}

/// Receiving half of a stream. Dropped before its end, the peer is told to stop.
pub trait RecvStream: Send + 'static {
    /// Copies the next bytes in order into `room`, which is not empty, and says how many: all that have come and
    /// fit, at least one; `None` at the end. Byte credit returns as it is read.
    fn read(&mut self, room: &mut [u8])
    -> impl Future<Output = Result<Option<usize>, TransportError>> + Send;
}
