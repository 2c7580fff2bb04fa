//! A tokio UDP socket for quinn. quinn's own socket retries a failed receive forever; this one gives up when the
//! error persists, and remembers the reason.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::time::{Instant, Sleep, sleep};

/// An error that persists this long, without any datagram meanwhile, is permanent.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for send calls that cannot work on this socket. They are rarely repeated.
const PATIENCE_SENDING: Duration = Duration::from_millis(300);
/// Delay between attempts while receiving fails.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// Why a socket has failed; empty while it works.
#[derive(Debug, Clone, Default)]
pub(in crate::transport) struct Fault(Arc<OnceLock<String>>);

impl Fault {
    /// The reason, once there is one.
    pub(in crate::transport) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn set(&self, what: &str, error: &io::Error) {
        self.0.get_or_init(|| {
            format!("the UDP socket of this machine no longer works: cannot {what}: {error}")
        });
    }

    /// What stands for the socket has ended.
    pub(in crate::transport) fn set_ended(&self, reason: &str) {
        self.0.get_or_init(|| reason.to_owned());
    }

    fn error(&self) -> Option<io::Error> {
        self.get().map(io::Error::other)
    }
}

/// The socket.
#[derive(Debug)]
pub(in crate::transport) struct Udp {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    receiving: Mutex<ReceiveState>,
    sending: Mutex<Failing>,
    fault: Fault,
}

#[derive(Debug, Default)]
struct ReceiveState {
    failing: Failing,
    pause: Option<Pin<Box<Sleep>>>,
    /// The receiving task, to be told of a fault in sending.
    waker: Option<Waker>,
}

/// Consecutive errors.
#[derive(Debug, Default)]
struct Failing {
    since: Option<Instant>,
}

impl Failing {
    /// Whether the errors have persisted for `patience`.
    fn failed(&mut self, patience: Duration) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= patience
    }

    fn succeeded(&mut self) {
        self.since = None;
    }
}

impl Udp {
    /// Takes over a bound socket. Needs a tokio runtime.
    pub(in crate::transport) fn new(socket: std::net::UdpSocket, fault: Fault) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let io = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Self { io, state, receiving: Mutex::default(), sending: Mutex::default(), fault })
    }

    fn receiving(&self) -> MutexGuard<'_, ReceiveState> {
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, what: &str, error: &io::Error) {
        self.fault.set(what, error);
        if let Some(waker) = self.receiving().waker.take() {
            waker.wake();
        }
    }
}

impl AsyncUdpSocket for Udp {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    /// Packets refused by a network or firewall are loss like any other. A call that cannot work on this socket is a
    /// fault.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), transmit));
        let mut failing = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        match sent {
            Ok(()) => failing.succeeded(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) if is_of_the_socket(&error) => {
                if failing.failed(PATIENCE_SENDING) {
                    self.give_up("send", &error);
                }
            }
            Err(error) => {
                tracing::debug!(%error, destination = %transmit.destination, "a datagram was not sent");
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
        let mut receiving = self.receiving();
        loop {
            if let Some(error) = self.fault.error() {
                return Poll::Ready(Err(error));
            }
            match &mut receiving.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            if let Some(pause) = &mut receiving.pause {
                ready!(pause.as_mut().poll(cx));
                receiving.pause = None;
            }
            let ready = ready!(self.io.poll_recv_ready(cx));
            let received = ready.and_then(|()| {
                self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta))
            });
            match received {
                Ok(number) => {
                    receiving.failing.succeeded();
                    return Poll::Ready(Ok(number));
                }
                // A single error before it was not permanent.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => receiving.failing.succeeded(),
                Err(error) => {
                    tracing::debug!(%error, "receiving failed");
                    if receiving.failing.failed(PATIENCE) {
                        self.fault.set("receive", &error);
                    }
                    receiving.pause = Some(Box::pin(sleep(RETRY_EVERY)));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

fn is_of_the_socket(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BADF | Errno::NOTSOCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOTCONN | Errno::PIPE)
    )
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits for room in the kernel's buffer, for one connection.
struct Writable {
    socket: Arc<Udp>,
    waiting: Option<Waiting>,
}

impl std::fmt::Debug for Writable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, waiting } = &mut *self;
        let future = waiting.get_or_insert_with(|| {
            let socket = socket.clone();
            Box::pin(async move { socket.io.writable().await })
        });
        let ready = ready!(future.as_mut().poll(cx));
        *waiting = None;
        Poll::Ready(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn t24_errors_count_as_a_fault_when_they_stay() {
        let mut failing = Failing::default();
        assert!(!failing.failed(PATIENCE));
        tokio::time::advance(PATIENCE - RETRY_EVERY).await;
        assert!(!failing.failed(PATIENCE));
        failing.succeeded();
        tokio::time::advance(PATIENCE).await;
        assert!(!failing.failed(PATIENCE), "one datagram makes them begin again");
        tokio::time::advance(PATIENCE).await;
        assert!(failing.failed(PATIENCE));
    }

    #[test]
    fn t24_refusals_by_a_network_or_a_firewall_are_loss() {
        for errno in [Errno::PERM, Errno::ACCESS, Errno::NETUNREACH, Errno::MSGSIZE, Errno::CONNREFUSED] {
            assert!(!is_of_the_socket(&errno.into()), "{errno:?}");
        }
        assert!(is_of_the_socket(&Errno::NOSYS.into()));
    }
}
