//! [`Connection`] over quinn.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, VarInt, WriteError};
use rustls::pki_types::CertificateDer;
use tokio::time::sleep;

use crate::auth::Fingerprint;
use crate::protocol::wire::limits::REASON_BYTES_MAX;
use crate::transport::address::canonical;
use crate::transport::congestion::PathWatch;
use crate::transport::quic::error::error_over;
use crate::transport::quic::strangers::Stranger;
use crate::transport::quic::udp::Fault;
use crate::transport::{Connection, KnownPath, Limits, PathStats, RecvStream, SendStream, TransportError};

/// Code for an unfinished stream that is given up; by then the session has told the reason, if there is one.
const STREAM_DROPPED: VarInt = VarInt::from_u32(0);

/// Interval for checking whether the last packet has left, which quinn does not report: the resolution of tokio's
/// clock.
const CLOSE_LOOK_EVERY: Duration = Duration::from_millis(1);

/// A QUIC connection whose peer has proved its key.
#[derive(Debug, Clone)]
pub struct Quic(Arc<QuicInner>);

/// Sending half of a QUIC stream.
#[derive(Debug)]
pub struct QuicSend {
    stream: quinn::SendStream,
    inner: Arc<QuicInner>,
    is_finished: bool,
}

/// Receiving half of a QUIC stream.
#[derive(Debug)]
pub struct QuicRecv {
    stream: quinn::RecvStream,
    inner: Arc<QuicInner>,
}

/// Shared by the connection and its streams, and closed with the last of them.
#[derive(Debug)]
struct QuicInner {
    connection: quinn::Connection,
    fingerprint: Fingerprint,
    limits: Limits,
    watch: PathWatch,
    /// The fault of its socket.
    fault: Fault,
    /// The peer, while it is a stranger to a listener.
    stranger: Mutex<Option<Stranger>>,
    /// Datagrams sent before the one with the close.
    sent_before_close: AtomicU64,
}

impl QuicInner {
    fn close(&self, code: u32, reason: &[u8]) {
        self.watch.close();
        self.connection.close(VarInt::from_u32(code), reason);
        self.sent_before_close.store(self.sent_datagrams(), Relaxed);
    }

    fn sent_datagrams(&self) -> u64 {
        self.connection.stats().udp_tx.datagrams
    }

    /// Whether more was sent since then, or the peer has closed in answer (RFC 9000, section 10.2.2).
    fn is_close_sent(&self) -> bool {
        let stats = self.connection.stats();
        stats.udp_tx.datagrams > self.sent_before_close.load(Relaxed) || stats.frame_rx.connection_close > 0
    }

    fn error(&self, error: ConnectionError) -> TransportError {
        error_over(&self.fault, error, self.limits.idle_timeout)
    }
}

impl Drop for QuicInner {
    fn drop(&mut self) {
        // Has no effect on a closed connection.
        self.close(0, b"");
    }
}

impl Quic {
    /// `connection` must have finished its handshake, and its congestion controller must share `watch`. The peer may
    /// be a `stranger` that must be [let in](Connection::let_in).
    pub(in crate::transport) fn new(
        connection: quinn::Connection,
        limits: &Limits,
        watch: PathWatch,
        fault: Fault,
        stranger: Option<Stranger>,
    ) -> Result<Self, TransportError> {
        let identity =
            connection.peer_identity().and_then(|i| i.downcast::<Vec<CertificateDer<'static>>>().ok());
        let certificate = identity
            .as_ref()
            .and_then(|chain| chain.first())
            .ok_or_else(|| TransportError::NotAuthenticated("the peer showed no certificate".to_owned()))?;
        let fingerprint = Fingerprint::of_certificate(certificate)
            .map_err(|e| TransportError::NotAuthenticated(e.to_string()))?;
        let (limits, stranger, sent_before_close) = (*limits, Mutex::new(stranger), AtomicU64::new(0));
        let inner = QuicInner { connection, fingerprint, limits, watch, fault, stranger, sent_before_close };
        Ok(Self(Arc::new(inner)))
    }

    fn stranger(&self) -> MutexGuard<'_, Option<Stranger>> {
        self.0.stranger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, stream: quinn::SendStream) -> QuicSend {
        QuicSend { stream, inner: self.0.clone(), is_finished: false }
    }

    fn recv(&self, stream: quinn::RecvStream) -> QuicRecv {
        QuicRecv { stream, inner: self.0.clone() }
    }
}

impl Connection for Quic {
    type Send = QuicSend;
    type Recv = QuicRecv;

    async fn open_bi(&self) -> Result<(QuicSend, QuicRecv), TransportError> {
        let (send, recv) = self.0.connection.open_bi().await.map_err(|e| self.0.error(e))?;
        Ok((self.send(send), self.recv(recv)))
    }

    async fn accept_bi(&self) -> Result<(QuicSend, QuicRecv), TransportError> {
        let (send, recv) = self.0.connection.accept_bi().await.map_err(|e| self.0.error(e))?;
        Ok((self.send(send), self.recv(recv)))
    }

    async fn open_uni(&self) -> Result<QuicSend, TransportError> {
        Ok(self.send(self.0.connection.open_uni().await.map_err(|e| self.0.error(e))?))
    }

    async fn accept_uni(&self) -> Result<QuicRecv, TransportError> {
        Ok(self.recv(self.0.connection.accept_uni().await.map_err(|e| self.0.error(e))?))
    }

    fn export_keying_material(&self, label: &[u8]) -> Result<[u8; 32], TransportError> {
        let mut material = [0; 32];
        self.0
            .connection
            .export_keying_material(&mut material, label, b"")
            .map_err(|_| TransportError::Lost("TLS gives no keying material".to_owned()))?;
        Ok(material)
    }

    fn peer_fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    fn remote_address(&self) -> SocketAddr {
        canonical(self.0.connection.remote_address())
    }

    fn let_in(&self) {
        if let Some(stranger) = self.stranger().take() {
            stranger.let_in(&self.0.connection, &self.0.limits);
        }
    }

    async fn has_to_leave(&self) {
        let has_to_leave = self.stranger().as_ref().map(Stranger::has_to_leave);
        match has_to_leave {
            Some(has_to_leave) => has_to_leave.await,
            None => std::future::pending().await,
        }
    }

    fn close(&self, code: u32, reason: &[u8]) {
        self.0.close(code, &reason[..reason.len().min(REASON_BYTES_MAX)]);
    }

    async fn closed(&self) -> TransportError {
        self.0.error(self.0.connection.closed().await)
    }

    fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    fn is_ended_by_peer(&self) -> bool {
        !matches!(self.0.connection.close_reason(), None | Some(ConnectionError::LocallyClosed))
    }

    /// Waits until the kernel has the packet.
    async fn close_sent(&self) {
        // A peer that closed first is told nothing more.
        while !self.is_ended_by_peer() && !self.0.is_close_sent() {
            sleep(CLOSE_LOOK_EVERY).await;
        }
    }

    fn know_path(&self, known: KnownPath) {
        self.0.watch.know(known);
    }

    fn stats(&self) -> PathStats {
        let path = self.0.connection.stats().path;
        PathStats {
            rtt: path.rtt,
            congestion_window_bytes: path.cwnd,
            mtu_bytes: path.current_mtu,
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
            window_full: self.0.watch.window_full(),
            learned: self.0.watch.learned(),
        }
    }
}

impl SendStream for QuicSend {
    async fn write_all(&mut self, chunks: &mut [Bytes]) -> Result<(), TransportError> {
        self.stream.write_all_chunks(chunks).await.map_err(|e| match e {
            WriteError::Stopped(code) => TransportError::StreamEnded(code.into_inner()),
            WriteError::ConnectionLost(e) => self.inner.error(e),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                TransportError::Lost("written to a stream that has ended".to_owned())
            }
        })
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        self.is_finished = true;
        self.stream.finish().map_err(|_| TransportError::Lost("finished a stream that has ended".to_owned()))
    }

    async fn is_delivered(&mut self) -> bool {
        matches!(self.stream.stopped().await, Ok(None))
    }

    fn set_priority(&self, priority: i32) {
        // It is missing only for an ended stream, and there it does not matter.
        let _ = self.stream.set_priority(priority);
    }
}

impl Drop for QuicSend {
    fn drop(&mut self) {
        // quinn would finish it, and the peer would take half of it for the whole.
        if !self.is_finished {
            let _ = self.stream.reset(STREAM_DROPPED);
        }
    }
}

impl RecvStream for QuicRecv {
    async fn read(&mut self, room: &mut [u8]) -> Result<Option<usize>, TransportError> {
        match self.stream.read(room).await {
            Ok(read) => Ok(read),
            Err(ReadError::Reset(code)) => Err(TransportError::StreamEnded(code.into_inner())),
            Err(ReadError::ConnectionLost(e)) => Err(self.inner.error(e)),
            Err(ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => {
                Err(TransportError::Lost("read from a stream that has ended".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_os = "linux")]
    use crate::{
        testing::connection_suite::{limits, quic_pair},
        transport::quic::mtu::Mtu,
    };

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn datagrams_on_this_machine_soon_have_their_full_size() {
        let ends = quic_pair(&limits()).await;
        for end in [&ends.dialler, &ends.listener] {
            let full = Mtu::to(end.remote_address(), &[]).max;
            let probing = async {
                while end.stats().mtu_bytes < full {
                    sleep(CLOSE_LOOK_EVERY).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), probing).await.expect("it stays small");
            assert!(end.0.connection.stats().path.sent_plpmtud_probes <= 2, "one probe, or one again");
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_peer_on_this_machine_is_asked_for_fewer_acks() {
        let ends = quic_pair(&limits()).await;
        for (end, peer) in [(&ends.dialler, &ends.listener), (&ends.listener, &ends.dialler)] {
            let mut send = end.open_uni().await.unwrap();
            send.write_all(&mut [Bytes::from_static(b"data")]).await.unwrap();
            send.finish().unwrap();
            let mut recv = peer.accept_uni().await.unwrap();
            while recv.read(&mut [0; 8]).await.unwrap().is_some() {}
            assert!(peer.0.connection.stats().frame_rx.ack_frequency > 0);
        }
    }
}
