//! The UDP socket of an endpoint: dual-stack, with large kernel buffers, and with segmentation offload that fills a
//! datagram's maximum size and never exceeds it.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Protocol, Type};

use crate::transport::quic::buffers::SocketBuffers;
use crate::transport::quic::gather::Gather;
use crate::transport::quic::udp::{Fault, Udp};

/// Payload of the largest IPv4 datagram: the limit of one call with segmentation offload.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Pieces of this size are received one at a time. The cost of a call is small beside them, and they are still in the
/// processor's cache when they are copied out of quinn's buffer.
const LARGE_BYTES: usize = 32 * 1024;

/// A bound socket, for quinn.
#[derive(Debug)]
pub(in crate::transport) struct OpenSocket {
    pub(in crate::transport) socket: Arc<dyn AsyncUdpSocket>,
    pub(in crate::transport) buffers: SocketBuffers,
    /// The fault of the socket, once it has failed.
    pub(in crate::transport) fault: Fault,
}

/// Binds `address` (including all of IPv4, for the IPv6 wildcard). Needs a tokio runtime.
pub(in crate::transport) fn open(address: SocketAddr) -> io::Result<OpenSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    let buffers = SocketBuffers::ask(&socket)?;
    socket.bind(&address.into())?;
    made(socket, buffers)
}

/// Takes over a bound socket. Needs a tokio runtime.
pub(in crate::transport) fn adopt(socket: UdpSocket) -> io::Result<OpenSocket> {
    let socket = socket2::Socket::from(socket);
    let buffers = SocketBuffers::ask(&socket)?;
    made(socket, buffers)
}

fn made(socket: socket2::Socket, buffers: SocketBuffers) -> io::Result<OpenSocket> {
    let fault = Fault::default();
    let inner = Arc::new(Udp::new(socket.into(), fault.clone())?);
    tracing::debug!(
        ?buffers,
        segments_sent_at_once = inner.max_transmit_segments(),
        segments_received_at_once = inner.max_receive_segments(),
        "socket"
    );
    Ok(OpenSocket { socket: Arc::new(Socket::new(inner)), buffers, fault })
}

/// quinn hands over up to ten segments at once, whatever their size. Above 65,507 bytes in total the kernel answers
/// EMSGSIZE; quinn silently drops them, sees loss, then a black hole, and the MTU falls to 1200. And when a call has
/// room for four batches, ten segments are a quarter of it, so batches are gathered.
#[derive(Debug)]
struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// Largest recent datagram. MTU discovery sends one large datagram before it sends many, or no more if the path
    /// does not carry it.
    largest_bytes: AtomicUsize,
    /// The largest since the last check, and the number of calls.
    since: Mutex<Since>,
    /// The size of the kernel's last delivery, which may be several datagrams together.
    came_bytes: AtomicUsize,
    gather: Mutex<Gather>,
}

/// Datagrams sent since some moment.
#[derive(Debug, Default)]
struct Since {
    calls: u32,
    largest_bytes: usize,
}

/// After this many calls without a datagram of the largest size, that size is forgotten.
const FORGOTTEN_CALLS: u32 = 32;

impl Socket {
    fn new(inner: Arc<dyn AsyncUdpSocket>) -> Self {
        let gather = Mutex::new(Gather::new(inner.clone().create_io_poller()));
        let (largest_bytes, came_bytes) = (AtomicUsize::new(1), AtomicUsize::new(0));
        Self { inner, largest_bytes, since: Mutex::default(), came_bytes, gather }
    }

    /// Tracks the largest datagram.
    fn note(&self, segment: usize) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.calls += 1;
        since.largest_bytes = since.largest_bytes.max(segment);
        if segment > self.largest_bytes.load(Ordering::Relaxed) {
            self.largest_bytes.store(segment, Ordering::Relaxed);
        }
        if since.calls >= FORGOTTEN_CALLS {
            self.largest_bytes.store(since.largest_bytes, Ordering::Relaxed);
            *since = Since::default();
        }
    }

    fn gather(&self) -> MutexGuard<'_, Gather> {
        self.gather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Segments of this size per call.
    fn segments_at_once(&self, segment: usize) -> usize {
        (DATAGRAM_BYTES_MAX / segment).min(self.inner.max_transmit_segments()).max(1)
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = segment_bytes(transmit);
        if transmit.contents.len() <= segment {
            return self.inner.try_send(transmit);
        }
        if transmit.contents.len().div_ceil(segment) > self.segments_at_once(segment) {
            return self.send_in_parts(transmit, segment);
        }
        self.inner.try_send(transmit)?;
        // Offload was refused just now. quinn-udp turns it off, but the data of this call is lost, often the whole
        // first window.
        if self.inner.max_transmit_segments() == 1 {
            tracing::info!("segmentation offload is off: the kernel or the network card refuses it");
            return self.send_in_parts(transmit, segment);
        }
        Ok(())
    }

    /// Sends as many segments at once as a datagram holds and the kernel accepts.
    fn send_in_parts(&self, transmit: &Transmit<'_>, segment: usize) -> io::Result<()> {
        let part_bytes = self.segments_at_once(segment) * segment;
        for (i, contents) in transmit.contents.chunks(part_bytes).enumerate() {
            let segment_size = (contents.len() > segment).then_some(segment);
            match self.inner.try_send(&Transmit { contents, segment_size, ..*transmit }) {
                // If this returned an error now, quinn would send everything again; the rest is repaired like any
                // loss. This is rare: `max_transmit_segments` leaves nothing to split once the size is known.
                Err(e) if i > 0 && e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }
}

fn segment_bytes(transmit: &Transmit<'_>) -> usize {
    transmit.segment_size.unwrap_or(transmit.contents.len()).max(1)
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { inner: self.inner.clone().create_io_poller(), socket: self })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = segment_bytes(transmit);
        self.note(segment);
        let at_once = self.segments_at_once(segment);
        self.gather().send(transmit, segment, at_once, |transmit| self.send(transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let at_once = match self.came_bytes.load(Ordering::Relaxed) {
            LARGE_BYTES.. => 1,
            _ => bufs.len(),
        };
        let came = self.inner.poll_recv(cx, &mut bufs[..at_once], &mut meta[..at_once]);
        if let Poll::Ready(Ok(1..)) = came {
            self.came_bytes.store(meta[0].len, Ordering::Relaxed);
        }
        came
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// A connection calls this whenever it begins to send, which is the only sign that it had ended before.
    fn max_transmit_segments(&self) -> usize {
        self.gather().begin(|transmit| self.send(transmit));
        self.segments_at_once(self.largest_bytes.load(Ordering::Relaxed))
    }

    /// quinn's receive buffer is this number times the largest datagram, times 32. A batch of coalesced datagrams is
    /// never larger than the largest datagram, so one is enough: 2 MiB instead of 128.
    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Tells the gatherer which task to wake.
#[derive(Debug)]
struct Poller {
    inner: Pin<Box<dyn UdpPoller>>,
    socket: Arc<Socket>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.gather().sent_by(cx.waker());
        self.inner.as_mut().poll_writable(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::Waker;

    use super::*;

    /// Records calls as (bytes, segment size); takes `room` calls, then blocks.
    #[derive(Debug)]
    struct Recorder {
        sent: Mutex<Vec<(Vec<u8>, Option<usize>)>>,
        room: usize,
        /// That it takes at once.
        segments: AtomicUsize,
        /// As quinn-udp on a kernel that answers EIO: a batch is gone, and it asks for no more of them.
        refuses_segments: bool,
        /// Bytes per receive.
        gives: AtomicUsize,
    }

    /// Nobody waits for the recorder.
    #[derive(Debug)]
    struct Unpolled;

    impl UdpPoller for Unpolled {
        fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncUdpSocket for Recorder {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            Box::pin(Unpolled)
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            let mut sent = self.sent.lock().unwrap();
            if sent.len() == self.room {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if self.refuses_segments && transmit.segment_size.is_some() {
                self.segments.store(1, Ordering::Relaxed);
                return Ok(());
            }
            sent.push((transmit.contents.to_vec(), transmit.segment_size));
            Ok(())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            bufs: &mut [IoSliceMut<'_>],
            meta: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            for meta in &mut *meta {
                meta.len = self.gives.load(Ordering::Relaxed);
            }
            assert_eq!(bufs.len(), meta.len());
            Poll::Ready(Ok(bufs.len()))
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 1).into())
        }

        fn max_transmit_segments(&self) -> usize {
            self.segments.load(Ordering::Relaxed)
        }

        fn max_receive_segments(&self) -> usize {
            64
        }
    }

    fn recorder(room: usize) -> (Arc<Recorder>, Socket) {
        with_offload(room, false)
    }

    fn with_offload(room: usize, refuses_segments: bool) -> (Arc<Recorder>, Socket) {
        let recorder = Arc::new(Recorder {
            sent: Mutex::default(),
            room,
            segments: 64.into(),
            refuses_segments,
            gives: 0.into(),
        });
        (recorder.clone(), Socket::new(recorder))
    }

    fn send(socket: &Socket, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let destination = ([127, 0, 0, 1], 2).into();
        socket.try_send(&Transmit { destination, ecn: None, contents, segment_size, src_ip: None })
    }

    #[test]
    fn batches_that_fit_a_datagram_are_sent_unchanged() {
        let (recorder, socket) = recorder(usize::MAX);
        let ten = vec![7; 14_520];
        send(&socket, &ten, Some(1452)).unwrap();
        send(&socket, &ten[..1200], None).unwrap();
        let sent = recorder.sent.lock().unwrap();
        assert_eq!(*sent, [(ten.clone(), Some(1452)), (ten[..1200].to_vec(), None)]);
    }

    #[test]
    fn larger_batches_are_split_between_segments() {
        for segment in [6_554, 8_952, 30_000, 32_753, 32_754, 65_488] {
            let (recorder, socket) = recorder(usize::MAX);
            // Nine whole segments and a short one.
            let contents: Vec<u8> = (0..segment * 9 + 100).map(|i| u8::try_from(i % 251).unwrap()).collect();
            send(&socket, &contents, Some(segment)).unwrap();
            let sent = recorder.sent.lock().unwrap();
            for (i, (part, segment_size)) in sent.iter().enumerate() {
                assert!(part.len() <= DATAGRAM_BYTES_MAX);
                assert!(i + 1 == sent.len() || part.len() % segment == 0, "cut inside a segment");
                assert_eq!(*segment_size, (part.len() > segment).then_some(segment));
            }
            let together: Vec<u8> = sent.iter().flat_map(|(part, _)| part.iter().copied()).collect();
            assert_eq!(together, contents, "segments of {segment}");
        }
    }

    #[test]
    fn a_batch_that_is_refused_goes_one_by_one_and_so_does_the_next() {
        let (recorder, socket) = with_offload(usize::MAX, true);
        let batch: Vec<u8> = (0..1200 * 3 + 500).map(|i| u8::try_from(i % 251).unwrap()).collect();
        // The second one was made before quinn knew.
        for _ in 0..2 {
            send(&socket, &batch, Some(1200)).unwrap();
            let sent = std::mem::take(&mut *recorder.sent.lock().unwrap());
            assert_eq!(sent.iter().map(|(part, _)| part.len()).collect::<Vec<_>>(), [1200, 1200, 1200, 500]);
            assert!(sent.iter().all(|(_, segment_size)| segment_size.is_none()));
            assert_eq!(sent.into_iter().flat_map(|(part, _)| part).collect::<Vec<_>>(), batch);
        }
        assert_eq!(socket.max_transmit_segments(), 1);
    }

    #[test]
    fn the_number_of_segments_falls_with_their_size() {
        let (_, socket) = recorder(usize::MAX);
        assert_eq!(socket.max_transmit_segments(), 64);
        for (size, segments) in [(1200, 54), (1452, 45), (6_550, 10), (9_000, 7), (65_488, 1), (1200, 1)] {
            send(&socket, &vec![0; size], None).unwrap();
            assert_eq!(socket.max_transmit_segments(), segments, "after {size} bytes");
        }
        assert_eq!(socket.max_receive_segments(), 1);
    }

    /// Fault 7 of the trials: after a large probe that a relay dropped, batches are gathered again.
    #[test]
    fn fault_7_a_probe_that_comes_to_nothing_is_forgotten() {
        let (_, socket) = recorder(usize::MAX);
        send(&socket, &vec![0; 65_488], None).unwrap();
        assert_eq!(socket.max_transmit_segments(), 1);
        for _ in 1..2 * FORGOTTEN_CALLS {
            send(&socket, &[0; 1200], None).unwrap();
        }
        assert_eq!(socket.max_transmit_segments(), 54);
    }

    #[test]
    fn a_full_socket_is_reported_only_when_nothing_went() {
        let contents = vec![0; 65_488 * 3];
        let (_, full) = recorder(0);
        let error = send(&full, &contents, Some(65_488)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let (recorder, tight) = recorder(1);
        send(&tight, &contents, Some(65_488)).unwrap();
        assert_eq!(recorder.sent.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_full_batch_is_held_until_its_connection_begins_again() {
        let (recorder, socket) = recorder(usize::MAX);
        let socket = Arc::new(socket);
        let mut poller = socket.clone().create_io_poller();
        let _ = poller.as_mut().poll_writable(&mut Context::from_waker(Waker::noop()));
        send(&socket, &vec![7; 14_520], Some(1452)).unwrap();
        assert_eq!(recorder.sent.lock().unwrap().len(), 0);
        assert_eq!(socket.max_transmit_segments(), 45);
        assert_eq!(*recorder.sent.lock().unwrap(), [(vec![7; 14_520], Some(1452))]);
    }

    #[test]
    fn large_pieces_are_taken_one_by_one_and_small_ones_together() {
        let (recorder, socket) = recorder(0);
        let mut memory = [0; 4];
        let mut meta = [RecvMeta::default(); 4];
        let mut came = |bytes| {
            recorder.gives.store(bytes, Ordering::Relaxed);
            let mut bufs: Vec<_> = memory.chunks_mut(1).map(IoSliceMut::new).collect();
            match socket.poll_recv(&mut Context::from_waker(Waker::noop()), &mut bufs, &mut meta) {
                Poll::Ready(Ok(n)) => n,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([1472, LARGE_BYTES, 65_507, LARGE_BYTES - 1, 1472].map(&mut came), [4, 4, 1, 1, 4]);
    }

    #[tokio::test]
    async fn a_real_socket_says_what_it_got() {
        let OpenSocket { socket, buffers, fault } = open(([127, 0, 0, 1], 0).into()).unwrap();
        assert_eq!(fault.get(), None);
        assert_ne!(socket.local_addr().unwrap().port(), 0);
        assert!(buffers.receive_bytes > 0 && buffers.send_bytes > 0, "{buffers:?}");
    }
}
