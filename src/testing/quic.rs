//! Tests of QUIC's own features: handshakes, refusals, time-outs, datagram sizes. On loopback, with any free port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::connection_suite::{limits, network, quic_pair};
use crate::auth::{Expected, Fingerprint, Identity};
use crate::testing::host::skip;
use crate::transport::quic::connection::Quic;
use crate::transport::quic::endpoint::QuicEndpoint;
use crate::transport::quic::tls::{self, ShownFingerprint};
use crate::transport::{
    Arrival, Connection, Endpoint, Limits, ListenAddress, Network, RecvStream, SendStream, TransportError,
};

const LOOPBACK: ListenAddress =
    ListenAddress::At(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0));

fn short(connect_timeout: Duration) -> Limits {
    Limits { connect_timeout, ..limits() }
}

/// Listens, and finishes every handshake in its own task; results come in order of completion.
fn serve(
    identity: &Identity,
) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<Result<Quic, TransportError>>, JoinHandle<()>) {
    let endpoint = network(identity).listen(&LOOPBACK, &limits()).unwrap();
    let address = endpoint.local_address().unwrap();
    let (results, received) = tokio::sync::mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let results = results.clone();
            tokio::spawn(async move { results.send(incoming.handshake().await) });
        }
    });
    (address, received, task)
}

/// Dials and accepts one connection.
async fn connect(
    address: SocketAddr,
    here: &Identity,
    there: &Identity,
    endpoint: &QuicEndpoint,
    limits: &Limits,
) -> (Quic, Quic) {
    let addresses = [address];
    let dialling = network(here);
    let (dialled, accepted) =
        tokio::join!(dialling.dial(&addresses, Expected::Key(there.fingerprint()), limits), async {
            endpoint.accept().await.unwrap().handshake().await
        });
    let accepted = accepted.unwrap();
    accepted.let_in();
    (dialled.unwrap().0, accepted)
}

/// A bound socket that never answers.
async fn silent() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn another_fingerprint_is_named_on_the_dialling_side_and_noticed_on_the_other() {
    let (here, there) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let (address, mut results, _task) = serve(&there);
    let expected = Fingerprint::from_bytes([3; 32]);
    let error = network(&here).dial(&[address], Expected::Key(expected), &limits()).await.unwrap_err();
    let TransportError::NotAuthenticated(text) = &error else { panic!("{error:?}") };
    for part in [expected.to_string(), there.fingerprint().to_string(), address.to_string()] {
        assert!(text.contains(&part), "{text}");
    }
    let noticed = results.recv().await.unwrap().unwrap_err();
    assert!(matches!(noticed, TransportError::NotAuthenticated(_)), "{noticed:?}");
}

#[tokio::test]
async fn a_wrong_peer_outweighs_a_silent_one_and_does_not_wait_for_it() {
    let (here, there) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let (address, _results, _task) = serve(&there);
    let silent = silent().await;
    let addresses = [silent.local_addr().unwrap(), address];
    let began = Instant::now();
    let limits = short(Duration::from_secs(60));
    let error = network(&here)
        .dial(&addresses, Expected::Key(Fingerprint::from_bytes([3; 32])), &limits)
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::NotAuthenticated(_)), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_silent_or_a_wrong_address_does_not_keep_the_right_one_from_winning() {
    let (here, there, other) =
        (Identity::generate().unwrap(), Identity::generate().unwrap(), Identity::generate().unwrap());
    let (address, mut results, _task) = serve(&there);
    let (wrong, _wrong_results, _wrong_task) = serve(&other);
    let silent = silent().await;
    let addresses = [silent.local_addr().unwrap(), wrong, address];
    let (quic, endpoint) =
        network(&here).dial(&addresses, Expected::Key(there.fingerprint()), &limits()).await.unwrap();
    assert_eq!(quic.remote_address(), address);
    let accepted = results.recv().await.unwrap().unwrap();
    assert_eq!(accepted.peer_fingerprint(), here.fingerprint());
    quic.close(3, b"done");
    assert_eq!(accepted.closed().await, TransportError::Closed { code: 3, reason: Bytes::from("done") });
    assert!(endpoint.wait_idle(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_missing_listener_is_reported_within_the_time_given() {
    let here = Identity::generate().unwrap();
    let silent = silent().await;
    let address = silent.local_addr().unwrap();
    let began = Instant::now();
    let limits = short(Duration::from_millis(300));
    let error =
        network(&here).dial(&[address], Expected::Key(here.fingerprint()), &limits).await.unwrap_err();
    assert_eq!(error, TransportError::NoAnswer(address.to_string()));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(began.elapsed() < Duration::from_secs(5));
    let error = network(&here).dial(&[], Expected::Key(here.fingerprint()), &limits).await.unwrap_err();
    assert!(matches!(error, TransportError::NoAnswer(_)), "{error:?}");
}

/// A dialler without towline's code, and without a time-out.
async fn foreign_dial(
    address: SocketAddr,
    change: impl FnOnce(&mut rustls::ClientConfig),
    listener: &Identity,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let own = Identity::generate().unwrap();
    let mut config =
        tls::client_config(&own, Expected::Key(listener.fingerprint()), ShownFingerprint::default()).unwrap();
    change(&mut config);
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(None);
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    endpoint.connect_with(config, address, tls::SERVER_NAME).unwrap().await
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_dialler_without_certificate_gets_nothing() {
    let there = Identity::generate().unwrap();
    let (address, mut results, _task) = serve(&there);
    let without =
        |config: &mut rustls::ClientConfig| config.client_auth_cert_resolver = Arc::new(NoCertificate);
    let dialled = foreign_dial(address, without, &there).await;
    let refused = results.recv().await.unwrap().unwrap_err();
    assert!(matches!(refused, TransportError::NotAuthenticated(_)), "{refused:?}");
    // A dialler finishes before the listener has judged it; the alert follows.
    let told = match dialled {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    let told = crate::transport::quic::error::connection_error(told, Duration::ZERO);
    assert!(matches!(told, TransportError::NotAuthenticated(_)), "{told:?}");
}

#[tokio::test]
async fn another_protocol_is_called_incompatible_on_both_sides() {
    let there = Identity::generate().unwrap();
    let (address, mut results, _task) = serve(&there);
    let newer = |config: &mut rustls::ClientConfig| config.alpn_protocols = vec![b"towline/2".to_vec()];
    let told = foreign_dial(address, newer, &there).await.unwrap_err();
    let told = crate::transport::quic::error::connection_error(told, Duration::ZERO);
    assert!(matches!(told, TransportError::Incompatible(_)), "{told:?}");
    let refused = results.recv().await.unwrap().unwrap_err();
    assert!(matches!(refused, TransportError::Incompatible(_)), "{refused:?}");
}

/// Attack 12: diallers that begin a handshake and stop.
#[tokio::test]
async fn stalled_diallers_hold_nobody_up() {
    let (here, there) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let endpoint = network(&there).listen(&LOOPBACK, &limits()).unwrap();
    let address = endpoint.local_address().unwrap();
    // Each is accepted and its handshake never driven, as if its packets stopped. After the eighth, a dialler must
    // return with a token, which an honest one does.
    let mut stalled = Vec::new();
    let mut diallers = Vec::new();
    for _ in 0..12 {
        let own = Identity::generate().unwrap();
        let expected = Expected::Key(there.fingerprint());
        diallers.push(tokio::spawn(async move {
            network(&own).dial(&[address], expected, &limits()).await.map(drop)
        }));
        stalled.push(endpoint.accept().await.unwrap());
    }
    let (_dialled, accepted) = connect(address, &here, &there, &endpoint, &limits()).await;
    assert_eq!(accepted.peer_fingerprint(), here.fingerprint());
    drop(stalled);
    // A refused dialler tries again for a while.
    let refusing = tokio::spawn(async move { while endpoint.accept().await.is_some() {} });
    for dialler in diallers {
        // The connection that came to nothing was refused, not left alone.
        assert_eq!(dialler.await.unwrap(), Err(TransportError::Busy));
    }
    refusing.abort();
}

#[tokio::test]
async fn a_handshake_that_stops_is_given_up() {
    let there = Identity::generate().unwrap();
    let endpoint = network(&there).listen(&LOOPBACK, &short(Duration::from_millis(300))).unwrap();
    let (relay, link) = relay_to(endpoint.local_address().unwrap()).await;
    let own = Identity::generate().unwrap();
    let expected = Expected::Key(there.fingerprint());
    let dialler =
        tokio::spawn(async move { network(&own).dial(&[relay], expected, &limits()).await.map(drop) });
    let incoming = endpoint.accept().await.unwrap();
    link.abort();
    let error = timeout(Duration::from_secs(10), incoming.handshake()).await.unwrap().unwrap_err();
    assert_eq!(error, TransportError::TimedOut(Duration::from_millis(300)));
    dialler.abort();
}

/// Forwards datagrams between one dialler and `to` until the task is aborted.
async fn relay_to(to: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        let mut dialler = None;
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let target = if from == to { dialler } else { dialler.replace(from).or(Some(from)).map(|_| to) };
            if let Some(target) = target {
                let _ = socket.send_to(&buffer[..len], target).await;
            }
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_link_that_dies_is_noticed_by_both_after_the_idle_timeout() {
    let idle = Duration::from_millis(500);
    let limits = Limits { idle_timeout: idle, ..limits() };
    let (here, there) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let endpoint = network(&there).listen(&LOOPBACK, &limits).unwrap();
    let (relay, link) = relay_to(endpoint.local_address().unwrap()).await;
    let (dialled, accepted) = connect(relay, &here, &there, &endpoint, &limits).await;
    // Keep-alives hold an idle connection for longer than the time-out.
    assert!(timeout(idle * 3, dialled.closed()).await.is_err(), "an idle connection was dropped");
    link.abort();
    assert_eq!(dialled.closed().await, TransportError::TimedOut(idle));
    assert_eq!(accepted.closed().await, TransportError::TimedOut(idle));
}

/// rsync let a peer turn a time-out off with a value that it chose.
#[tokio::test]
async fn attack_17_a_peer_without_a_time_out_does_not_turn_off_this_ones() {
    let idle = Duration::from_millis(500);
    let there = Identity::generate().unwrap();
    let limits = Limits { idle_timeout: idle, ..limits() };
    let endpoint = network(&there).listen(&LOOPBACK, &limits).unwrap();
    let (relay, link) = relay_to(endpoint.local_address().unwrap()).await;
    let (dialled, accepted) = tokio::join!(foreign_dial(relay, |_| {}, &there), async {
        endpoint.accept().await.unwrap().handshake().await
    });
    let (_dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    accepted.let_in();
    link.abort();
    let closed = timeout(Duration::from_secs(10), accepted.closed()).await;
    assert_eq!(closed.expect("it waits for ever"), TransportError::TimedOut(idle));
}

/// quinn holds a close back while the congestion window is full and more data is pending; its peer then waits for the
/// idle time-out. The number of scheduler turns decides how full the window is.
#[tokio::test]
async fn a_close_is_not_held_back_by_a_full_congestion_window() {
    for turns in 0..16 {
        let ends = quic_pair(&limits()).await;
        let mut send = ends.dialler.open_uni().await.unwrap();
        send.write_all(&mut [Bytes::from(vec![0; 60_000])]).await.unwrap();
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        ends.dialler.close(9, b"interrupted");
        let told = timeout(Duration::from_secs(10), ends.listener.closed()).await;
        let expected = TransportError::Closed { code: 9, reason: Bytes::from("interrupted") };
        assert_eq!(told.expect("no close came"), expected, "after {turns} turns");
    }
}

/// The packet of a close can leave before it is known how many had left until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_known_to_have_left_however_fast_it_was() {
    for round in 0..100 {
        let ends = quic_pair(&limits()).await;
        // Keeps the other thread awake.
        let mut send = ends.listener.open_uni().await.unwrap();
        send.write_all(&mut [Bytes::from_static(b"last words")]).await.unwrap();
        ends.dialler.accept_uni().await.unwrap();
        ends.dialler.close(0, b"");
        timeout(Duration::from_secs(10), ends.dialler.close_sent())
            .await
            .unwrap_or_else(|_| panic!("round {round}"));
    }
}

/// A peer that misses the close sends again what it has no answer to. As long as this end's endpoint lives, it hears the
/// close then.
#[tokio::test]
async fn a_close_that_is_lost_is_told_again() {
    let (here, there, limits) = (Identity::generate().unwrap(), Identity::generate().unwrap(), limits());
    let endpoint = network(&there).listen(&LOOPBACK, &limits).unwrap();
    let link = Wire::start(endpoint.local_address().unwrap()).await;
    let (addresses, dialling) = ([link.address], network(&here));
    let (dialled, accepted) =
        tokio::join!(dialling.dial(&addresses, Expected::Key(there.fingerprint()), &limits), async {
            endpoint.accept().await.unwrap().handshake().await.unwrap()
        });
    let (dialler, own_endpoint) = dialled.unwrap();
    accepted.let_in();
    link.set(DROPS);
    let mut send = accepted.open_uni().await.unwrap();
    send.write_all(&mut [Bytes::from_static(b"finished")]).await.unwrap();
    dialler.accept_uni().await.unwrap();
    dialler.close(0, b"");
    dialler.close_sent().await;
    link.set(DROPS_UNTIL_ASKED);
    let patience = limits.idle_timeout / 2;
    let (_, closed) = tokio::join!(own_endpoint.wait_idle(patience), timeout(patience, accepted.closed()));
    let expected = TransportError::Closed { code: 0, reason: Bytes::new() };
    assert_eq!(closed.expect("the close was not told again"), expected);
    assert!(link.dropped.load(Relaxed) > 0);
}

/// A dialler that is not given the processor for a while finds the close together with the answer to what it sent
/// afterwards, which may be a reset.
#[tokio::test]
async fn a_close_that_is_heard_late_is_still_a_close() {
    let (here, there, limits) = (Identity::generate().unwrap(), Identity::generate().unwrap(), limits());
    let endpoint = network(&there).listen(&LOOPBACK, &limits).unwrap();
    let link = Wire::start(endpoint.local_address().unwrap()).await;
    let (addresses, dialling) = ([link.address], network(&here));
    let (dialled, accepted) =
        tokio::join!(dialling.dial(&addresses, Expected::Key(there.fingerprint()), &limits), async {
            endpoint.accept().await.unwrap().handshake().await.unwrap()
        });
    let (dialler, _own_endpoint) = dialled.unwrap();
    // Both ends know that the handshake is over.
    let mut send = accepted.open_uni().await.unwrap();
    send.write_all(&mut [Bytes::from_static(b"hello")]).await.unwrap();
    dialler.accept_uni().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    link.set(HOLDS_ANSWERS);
    accepted.close(5, b"wrong");
    assert!(endpoint.wait_idle(limits.idle_timeout).await, "the listener has not forgotten it");
    let closes = link.held.load(Relaxed);
    let mut send = dialler.open_uni().await.unwrap();
    send.write_all(&mut [Bytes::from(vec![0; 1000])]).await.unwrap();
    let answered = async {
        while link.held.load(Relaxed) == closes {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(limits.idle_timeout / 2, answered).await.expect("the listener does not answer");
    link.set(PASSES);
    send.write_all(&mut [Bytes::from(vec![0; 1000])]).await.unwrap();
    let expected = TransportError::Closed { code: 5, reason: Bytes::from("wrong") };
    assert_eq!(dialler.closed().await, expected);
}

/// What a [`Wire`] does with datagrams of the dialler.
const PASSES: u8 = 0;
const DROPS: u8 = 1;
/// Until the listener sends something.
const DROPS_UNTIL_ASKED: u8 = 2;
/// Passes them, and keeps those of the listener until it passes one again.
const HOLDS_ANSWERS: u8 = 3;

/// A link between a dialler and a listener.
struct Wire {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    dropped: Arc<AtomicUsize>,
    held: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Wire {
    async fn start(listener: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (mode, dropped) = (Arc::new(AtomicU8::new(PASSES)), Arc::new(AtomicUsize::new(0)));
        let held = Arc::new(AtomicUsize::new(0));
        let (now, count, holds) = (Arc::clone(&mode), Arc::clone(&dropped), Arc::clone(&held));
        let task = tokio::spawn(async move {
            let (mut dialler, mut room, mut answers) = (None, vec![0; 1 << 16], Vec::new());
            while let Ok((len, from)) = socket.recv_from(&mut room).await {
                let to = if from == listener {
                    let _ = now.compare_exchange(DROPS_UNTIL_ASKED, PASSES, Relaxed, Relaxed);
                    if now.load(Relaxed) == HOLDS_ANSWERS {
                        holds.fetch_add(1, Relaxed);
                        answers.push(room[..len].to_owned());
                        continue;
                    }
                    dialler.expect("who dials")
                } else {
                    dialler = Some(from);
                    match now.load(Relaxed) {
                        PASSES => {
                            for answer in answers.drain(..) {
                                socket.send_to(&answer, from).await.unwrap();
                            }
                        }
                        HOLDS_ANSWERS => {}
                        _ => {
                            count.fetch_add(1, Relaxed);
                            continue;
                        }
                    }
                    listener
                };
                socket.send_to(&room[..len], to).await.unwrap();
            }
        });
        Self { address, mode, dropped, held, task }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Moves `total` bytes one way, in pieces of 1 MiB, and returns the sender's datagram size at the end.
async fn haul(total: usize, limits: &Limits) -> u16 {
    let ends = quic_pair(limits).await;
    let piece: Bytes = (0..1024 * 1024u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
    let sending = async {
        let mut send = ends.dialler.open_uni().await.unwrap();
        for _ in 0..total / piece.len() {
            send.write_all(&mut [piece.clone()]).await.unwrap();
        }
        send.finish().unwrap();
        send
    };
    let receiving = async {
        let mut recv = ends.listener.accept_uni().await.unwrap();
        let (mut seen, mut hash, mut room) = (0, blake3::Hasher::new(), vec![0; 256 * 1024]);
        while let Some(n) = recv.read(&mut room).await.unwrap() {
            hash.update(&room[..n]);
            seen += n;
        }
        (seen, hash.finalize())
    };
    let (_send, (seen, hash)) = tokio::join!(sending, receiving);
    let mut expected = blake3::Hasher::new();
    for _ in 0..total / piece.len() {
        expected.update(&piece);
    }
    assert_eq!((seen, hash), (total, expected.finalize()));
    ends.dialler.stats().mtu_bytes
}

/// Segments that exceeded a datagram made the MTU fall to 1200 and the transfer crawl.
#[tokio::test]
async fn a_large_transfer_on_this_machine_uses_large_datagrams() {
    let window = 8 * 1024 * 1024;
    let limits = Limits {
        receive_window_bytes: window,
        stream_window_bytes: window,
        send_window_bytes: window.into(),
        ..limits()
    };
    let mtu = timeout(Duration::from_secs(60), haul(64 * 1024 * 1024, &limits)).await.expect("it crawls");
    assert!(mtu > 1452, "datagrams of {mtu} bytes");
}

#[tokio::test]
async fn a_listener_on_all_addresses_takes_another_port_when_its_own_is_taken() {
    let identity = Identity::generate().unwrap();
    let one = network(&identity).listen(&ListenAddress::Any, &limits()).unwrap();
    let two = network(&identity).listen(&ListenAddress::Any, &limits()).unwrap();
    assert_ne!(one.local_address().unwrap().port(), two.local_address().unwrap().port());
    let named = two.local_addresses().unwrap();
    let has_others = named.iter().any(|address| !address.ip().is_loopback());
    assert!(!has_others || named.iter().all(|address| !address.ip().is_loopback()), "{named:?}");
    assert!(
        named.iter().all(|a| a.port() == two.local_address().unwrap().port() && !a.ip().is_unspecified())
    );
    // A requested port is not replaced by another.
    let taken = ListenAddress::At(two.local_address().unwrap());
    let error = network(&identity).listen(&taken, &limits()).unwrap_err();
    assert!(error.to_string().contains("cannot listen on"), "{error}");
}

#[tokio::test]
async fn a_listener_on_all_addresses_is_reached_by_both_families() {
    let (here, there) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let endpoint = network(&there).listen(&ListenAddress::Any, &limits()).unwrap();
    let bound = endpoint.local_address().unwrap();
    for ip in ["127.0.0.1", "::1"] {
        if ip == "::1" && bound.is_ipv4() {
            skip("no IPv6");
            continue;
        }
        let address = SocketAddr::new(ip.parse().unwrap(), bound.port());
        let (dialled, accepted) = connect(address, &here, &there, &endpoint, &limits()).await;
        assert_eq!(dialled.remote_address(), address);
        assert_eq!(accepted.remote_address().ip(), address.ip());
    }
    endpoint.close(0, b"");
    assert!(endpoint.accept().await.is_none());
}

/// Fault 5 of the trials: how much an unauthenticated dialler may send.
/// [W-4]
#[tokio::test]
async fn fault_5_a_stranger_has_little_credit_until_it_is_let_in() {
    let window = 8 * 1024 * 1024;
    let limits = Limits { receive_window_bytes: window, stream_window_bytes: window, streams: 8, ..limits() };
    let (here, there) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let endpoint = network(&there).listen(&LOOPBACK, &limits).unwrap();
    let addresses = [endpoint.local_address().unwrap()];
    let dialling = network(&here);
    let (dialled, accepted) =
        tokio::join!(dialling.dial(&addresses, Expected::Key(there.fingerprint()), &limits), async {
            endpoint.accept().await.unwrap().handshake().await
        });
    let ((dialler, _socket), listener) = (dialled.unwrap(), accepted.unwrap());
    let (mut send, _recv) = dialler.open_bi().await.unwrap();
    let second = dialler.open_bi();
    tokio::pin!(second);
    assert!(timeout(Duration::from_millis(100), &mut second).await.is_err(), "a second stream");
    // The sending side buffers half of it.
    let mut chunks = [Bytes::from(vec![0; 128 * 1024])];
    let writing = send.write_all(&mut chunks);
    tokio::pin!(writing);
    assert!(timeout(Duration::from_millis(300), &mut writing).await.is_err(), "all of it was taken");
    listener.let_in();
    let (second, written) = timeout(Duration::from_secs(10), async { tokio::join!(second, writing) })
        .await
        .expect("no credit came");
    written.unwrap();
    second.unwrap();
}
