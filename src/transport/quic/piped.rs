//! QUIC's datagrams over a stream of bytes, such as the pipes of ssh, where UDP does not get through.
//!
//! Each datagram has its length before it, two bytes, big-endian. The stream loses nothing and keeps the order, so there is
//! nothing to probe and no congestion to control: a datagram is sent when the stream takes it.

use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, MtuDiscoveryConfig, UdpPoller};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::transport::pipe::BytePipe;
use crate::transport::quic::buffers::SocketBuffers;
use crate::transport::quic::socket::OpenSocket;
use crate::transport::quic::udp::Fault;

/// Bytes of the largest datagram. Fewer and larger ones cost less.
const DATAGRAM_BYTES: u16 = 65_000;
/// Bytes of the largest datagram during the handshake: quinn-proto writes the length of such a packet in 14 bits.
pub(in crate::transport) const HANDSHAKE_BYTES: u16 = 16_000;
/// Bytes of the length.
const HEADER_BYTES: usize = 2;
/// A datagram is taken while fewer bytes than this wait for the stream.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// A stream of bytes, and who is at its other end.
#[derive(Debug, Clone)]
pub(in crate::transport) struct PipeEnd {
    pub(in crate::transport) pipe: Arc<BytePipe>,
    /// What the other side is called; nothing is sent there.
    pub(in crate::transport) peer: SocketAddr,
}

/// The way to [`DATAGRAM_BYTES`]: one probe.
pub(in crate::transport) fn discovery() -> MtuDiscoveryConfig {
    let mut config = MtuDiscoveryConfig::default();
    config.upper_bound(DATAGRAM_BYTES).minimum_change(DATAGRAM_BYTES - HANDSHAKE_BYTES);
    config
}

/// Datagrams that go through `end`. Needs a tokio runtime.
pub(in crate::transport) fn open(end: &PipeEnd) -> OpenSocket {
    let fault = Fault::default();
    let stream = Arc::new(Stream {
        pipe: Arc::clone(&end.pipe),
        outgoing: Mutex::default(),
        has_more: Notify::new(),
        fault: fault.clone(),
    });
    let writing = tokio::spawn(write_all(Arc::clone(&stream))).abort_handle();
    // quinn speaks of IPv4 in this form on a socket of both families.
    let peer = match end.peer {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        v6 @ SocketAddr::V6(_) => v6,
    };
    let incoming = Mutex::new(Incoming { bytes: vec![0; READ_BYTES].into(), start: 0, end: 0 });
    let socket = Arc::new(Piped { stream, peer, incoming, writing });
    OpenSocket { socket, buffers: SocketBuffers::of_no_kernel(), fault }
}

/// The socket of one endpoint.
#[derive(Debug)]
struct Piped {
    stream: Arc<Stream>,
    peer: SocketAddr,
    incoming: Mutex<Incoming>,
    writing: AbortHandle,
}

#[derive(Debug)]
struct Stream {
    pipe: Arc<BytePipe>,
    outgoing: Mutex<Outgoing>,
    /// Tells the writing task.
    has_more: Notify,
    fault: Fault,
}

/// What waits for the stream.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// So many of them are gone.
    start: usize,
    /// Those that wait for room.
    wakers: Vec<Waker>,
}

/// What has come and is not taken yet.
#[derive(Debug)]
struct Incoming {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Outgoing {
    fn has_room(&self) -> bool {
        self.bytes.len() - self.start < WAITING_BYTES_MAX
    }

    /// Writes what the stream takes; true when nothing is left.
    fn flush(&mut self, pipe: &BytePipe) -> io::Result<bool> {
        while self.start < self.bytes.len() {
            match pipe.try_write(&self.bytes[self.start..]) {
                Ok(len) => self.start += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let is_empty = self.start == self.bytes.len();
        if is_empty {
            self.bytes.clear();
            self.start = 0;
        } else if self.start >= WAITING_BYTES_MAX {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.has_room() {
            self.wakers.drain(..).for_each(Waker::wake);
        }
        Ok(is_empty)
    }

    fn add(&mut self, datagram: &[u8]) {
        let len = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(datagram);
    }
}

impl Stream {
    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream is broken. Whoever waits for room finds out.
    fn give_up(&self, error: &io::Error) {
        self.fault.set_ended(&format!("the connection of ssh fails: {error}"));
        self.outgoing().wakers.drain(..).for_each(Waker::wake);
    }
}

/// Writes what the stream did not take at once.
async fn write_all(stream: Arc<Stream>) {
    loop {
        stream.has_more.notified().await;
        loop {
            if let Err(error) = stream.pipe.writable().await {
                return stream.give_up(&error);
            }
            let flushed = stream.outgoing().flush(&stream.pipe);
            match flushed {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => return stream.give_up(&error),
            }
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

impl Incoming {
    /// Copies the next whole datagram into `room`.
    fn take(&mut self, room: &mut [u8]) -> Option<usize> {
        let came = &self.bytes[self.start..self.end];
        let (header, rest) = came.split_first_chunk::<HEADER_BYTES>()?;
        let len = usize::from(u16::from_be_bytes(*header));
        let datagram = rest.get(..len)?;
        self.start += HEADER_BYTES + len;
        // quinn has room for the largest one that it has allowed; it ignores an empty one.
        let fits = room.get_mut(..len).map(|room| room.copy_from_slice(datagram));
        Some(fits.map_or(0, |()| len))
    }

    /// Where more can be read to. There is room for a whole datagram.
    fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.bytes[self.end..]
    }
}

impl AsyncUdpSocket for Piped {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room(Arc::clone(&self.stream)))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.stream.fault.get().is_some() {
            return Ok(());
        }
        let mut outgoing = self.stream.outgoing();
        if !outgoing.has_room() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        transmit.contents.chunks(segment).for_each(|datagram| outgoing.add(datagram));
        match outgoing.flush(&self.stream.pipe) {
            Ok(true) => {}
            Ok(false) => self.stream.has_more.notify_one(),
            Err(error) => {
                drop(outgoing);
                self.stream.give_up(&error);
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut count = 0;
            while count < bufs.len().min(meta.len())
                && let Some(len) = incoming.take(&mut bufs[count])
            {
                meta[count] = RecvMeta { addr: self.peer, len, stride: len, ecn: None, dst_ip: None };
                count += 1;
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            ready!(self.stream.pipe.poll_readable(cx))?;
            match self.stream.pipe.try_read(incoming.room()) {
                Ok(0) => {
                    self.stream.fault.set_ended("the connection of ssh has ended");
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(len) => incoming.end += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.stream.give_up(&error);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv6Addr::LOCALHOST, 1).into())
    }

    fn max_transmit_segments(&self) -> usize {
        1
    }

    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Waits for room in the stream, for one connection.
#[derive(Debug)]
struct Room(Arc<Stream>);

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.0.outgoing();
        if outgoing.has_room() || self.0.fault.get().is_some() {
            return Poll::Ready(Ok(()));
        }
        if !outgoing.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            outgoing.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    /// Both ends of a stream.
    fn ends() -> [Arc<BytePipe>; 2] {
        let (one, two) = UnixStream::pair().unwrap();
        [one, two].map(|end| {
            let input = OwnedFd::from(end.try_clone().unwrap());
            Arc::new(BytePipe::new(input, end.into()).unwrap())
        })
    }

    fn opened(pipe: &Arc<BytePipe>) -> OpenSocket {
        open(&PipeEnd { pipe: Arc::clone(pipe), peer: ([192, 0, 2, 1], 7).into() })
    }

    fn send(socket: &OpenSocket, contents: &[u8]) -> io::Result<()> {
        let destination = ([192, 0, 2, 1], 7).into();
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
        socket.socket.try_send(&transmit)
    }

    async fn receive(socket: &OpenSocket) -> io::Result<Vec<u8>> {
        let mut room = vec![0; usize::from(u16::MAX)];
        let mut meta = [RecvMeta::default()];
        let count = std::future::poll_fn(|cx| {
            socket.socket.poll_recv(cx, &mut [IoSliceMut::new(&mut room)], &mut meta)
        });
        assert_eq!(count.await?, 1);
        assert_eq!(meta[0].addr, "[::ffff:192.0.2.1]:7".parse().unwrap());
        room.truncate(meta[0].len);
        Ok(room)
    }

    /// [W-72]
    #[tokio::test]
    async fn datagrams_stay_whole_and_wait_while_nobody_reads() {
        let [here, there] = ends();
        let (here, there) = (opened(&here), opened(&there));
        let datagram =
            |n: usize| vec![u8::try_from(n % 251).unwrap(); n * 997 % usize::from(DATAGRAM_BYTES) + 1];
        let mut sent = 0;
        while send(&here, &datagram(sent)).is_ok() {
            sent += 1;
            assert!(sent < 1000, "the stream has no end");
        }
        let mut poller = Arc::clone(&here.socket).create_io_poller();
        for n in 0..sent {
            assert!(receive(&there).await.unwrap() == datagram(n), "{n}");
        }
        let writable = std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx));
        tokio::time::timeout(Duration::from_secs(60), writable).await.expect("there is room again").unwrap();
        send(&here, b"last").unwrap();
        assert_eq!(receive(&there).await.unwrap(), b"last");
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_a_fault() {
        let [here, there] = ends();
        let socket = opened(&here);
        there.write_all(&[0, 3, 1, 2]).await.unwrap();
        drop(there);
        assert!(receive(&socket).await.is_err());
        assert_eq!(socket.fault.get(), Some("the connection of ssh has ended"));
        send(&socket, b"nobody hears it").unwrap();
    }
}
