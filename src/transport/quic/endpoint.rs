//! Endpoints: sockets that listen or dial.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AckFrequencyConfig, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::auth::{Expected, Fingerprint, Identity};
use crate::transport::address::{self, DEFAULT_PORT, ListenAddress, canonical};
use crate::transport::congestion::{self, PathWatch};
use crate::transport::error::TransportError;
use crate::transport::limits::Limits;
use crate::transport::network::{Arrival, Endpoint, Network};
use crate::transport::pipe::BytePipe;
use crate::transport::quic::buffers::SocketBuffers;
use crate::transport::quic::connection::Quic;
use crate::transport::quic::error::{error_over, is_busy};
use crate::transport::quic::mtu::{self, Mtu};
use crate::transport::quic::piped::{self, PipeEnd};
use crate::transport::quic::probe;
use crate::transport::quic::resets::LateResets;
use crate::transport::quic::socket::{self, OpenSocket};
use crate::transport::quic::strangers::{self, Admission, Stranger, Strangers};
use crate::transport::quic::tls::{self, ShownFingerprint};
use crate::transport::quic::udp::Fault;

/// Maximum diallers waiting for their handshake to begin; more are dropped.
const INCOMING_MAX: usize = 64;
/// Bytes buffered for each dialler, and for all, before the handshake begins.
const INCOMING_BYTES_MAX: u64 = 64 * 1024;
const INCOMING_BYTES_TOTAL_MAX: u64 = 1024 * 1024;
/// Time limit for a dialler's handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Delay between first attempts on two addresses of one peer (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Attempts of a dialler whose peer is busy, and the delay after each.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// Assumed round trip before the first measurement.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Datagrams on this host that a peer may leave unacked: half a mebibyte, a part of the bytes in flight.
const LOOPBACK_UNACKED: u32 = 8;
/// How long it may leave them unacked. Shorter than the minimum round trip of the congestion control, so that its
/// window does not run out meanwhile.
const LOOPBACK_ACK_DELAY: Duration = Duration::from_millis(1);
/// Time left to the other addresses after one has answered with an error.
const GRACE: Duration = Duration::from_secs(2);

/// QUIC over UDP with the key of this side.
#[derive(Debug, Clone)]
pub struct QuicNetwork {
    identity: Identity,
    /// Datagrams go through this instead of UDP.
    end: Option<PipeEnd>,
}

/// A UDP socket with QUIC on it.
#[derive(Debug, Clone)]
pub struct QuicEndpoint {
    inner: quinn::Endpoint,
    buffers: SocketBuffers,
    fault: Fault,
    listener: Option<Arc<ListenState>>,
}

#[derive(Debug)]
struct ListenState {
    /// Without the transport settings, which are made for each connection.
    config: quinn::ServerConfig,
    limits: Limits,
    /// Addresses of this host when it began to listen.
    own: Vec<IpAddr>,
    /// Datagrams do not go by UDP.
    is_piped: bool,
    strangers: Strangers,
    handshake_timeout: Duration,
}

/// A dialler by QUIC.
#[derive(Debug)]
pub struct QuicArrival {
    inner: quinn::Incoming,
    listener: Arc<ListenState>,
    fault: Fault,
    stranger: Stranger,
}

impl QuicNetwork {
    /// With the key `identity`.
    pub fn new(identity: Identity) -> Self {
        Self { identity, end: None }
    }

    /// With the same key, but datagrams go through `pipe`, for one endpoint. The side at its other end is called `peer`.
    #[must_use]
    pub fn through(&self, pipe: Arc<BytePipe>, peer: SocketAddr) -> Self {
        Self { identity: self.identity.clone(), end: Some(PipeEnd { pipe, peer }) }
    }
}

impl Network for QuicNetwork {
    type Connection = Quic;
    type Endpoint = QuicEndpoint;

    fn fingerprint(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    /// Tries the addresses in turn, a quarter of a second apart or as soon as one fails, until one handshake is
    /// complete; the others are given up.
    async fn dial(
        &self,
        addresses: &[SocketAddr],
        expected: Expected,
        limits: &Limits,
    ) -> Result<(Quic, QuicEndpoint), TransportError> {
        match &self.end {
            Some(end) => dial_through(end, expected, &self.identity, limits).await,
            None => dial_all(addresses, expected, &self.identity, limits).await,
        }
    }

    fn listen(&self, address: &ListenAddress, limits: &Limits) -> Result<QuicEndpoint, TransportError> {
        let OpenSocket { socket, buffers, fault } = match &self.end {
            Some(end) => piped::open(end),
            None => open_at(address)?,
        };
        let tls = tls::server_config(&self.identity).map_err(|e| unusable(&e))?;
        let crypto = Arc::new(QuicServerConfig::try_from(tls).map_err(|e| unusable(&e))?);
        let mut config = quinn::ServerConfig::with_crypto(crypto);
        config
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
        let inner = quinn::Endpoint::new_with_abstract_socket(
            endpoint_config(),
            Some(config.clone()),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(|e| unusable(&e))?;
        let listener = ListenState {
            config,
            limits: *limits,
            own: address::of_this_machine(),
            is_piped: self.end.is_some(),
            strangers: Strangers::default(),
            handshake_timeout: HANDSHAKE_TIME_MAX.min(limits.connect_timeout),
        };
        Ok(QuicEndpoint { inner, buffers, fault, listener: Some(Arc::new(listener)) })
    }
}

impl Endpoint for QuicEndpoint {
    type Arrival = QuicArrival;

    async fn accept(&self) -> Option<QuicArrival> {
        let listener = self.listener.as_ref()?;
        loop {
            let inner = self.inner.accept().await?;
            match listener.strangers.enter(inner.remote_address().ip(), inner.remote_address_validated()) {
                Admission::In(stranger) => {
                    let (listener, fault) = (listener.clone(), self.fault.clone());
                    return Some(QuicArrival { inner, listener, fault, stranger });
                }
                Admission::Validate => {
                    // It can only fail for a validated address.
                    let _ = inner.retry();
                }
                Admission::Refuse => inner.refuse(),
            }
        }
    }

    fn close_to_newcomers(&self) {
        if let Some(listener) = &self.listener {
            listener.strangers.close_to_newcomers();
        }
    }

    fn fault(&self) -> Option<&str> {
        self.fault.get()
    }

    fn connections(&self) -> usize {
        self.inner.open_connections()
    }

    fn local_address(&self) -> Result<SocketAddr, TransportError> {
        self.inner.local_addr().map_err(|e| unusable(&e))
    }

    /// Loopback only where there is nothing else.
    fn local_addresses(&self) -> Result<Vec<SocketAddr>, TransportError> {
        Ok(address::to_name(self.local_address()?, &address::of_this_machine()))
    }

    /// The kernel dropped datagrams because the socket's buffer, smaller than requested, was full.
    fn advice(&self) -> Option<String> {
        self.buffers.advice()
    }

    fn close(&self, code: u32, reason: &[u8]) {
        let reason = &reason[..reason.len().min(crate::protocol::wire::limits::REASON_BYTES_MAX)];
        self.inner.close(VarInt::from_u32(code), reason);
    }

    async fn wait_idle(&self, at_most: Duration) -> bool {
        timeout(at_most, self.inner.wait_idle()).await.is_ok()
    }
}

impl Arrival for QuicArrival {
    type Connection = Quic;

    fn remote_address(&self) -> SocketAddr {
        canonical(self.inner.remote_address())
    }

    async fn handshake(self) -> Result<Quic, TransportError> {
        let Self { inner, listener, fault, stranger } = self;
        let limits = &listener.limits;
        let watch = PathWatch::default();
        let way = match listener.is_piped {
            true => Way::Pipe,
            false => Way::Udp(Mtu::to(inner.remote_address(), &listener.own)),
        };
        let mut config = listener.config.clone();
        let mut transport = transport_config(limits, way, watch.clone());
        transport
            .receive_window(VarInt::from_u32(limits.receive_window_bytes.min(strangers::WINDOW_BYTES)))
            .max_concurrent_bidi_streams(VarInt::from_u32(strangers::STREAMS_BIDI));
        config.transport_config(Arc::new(transport));
        let error = |e| error_over(&fault, e, limits.idle_timeout);
        let connecting = inner.accept_with(Arc::new(config)).map_err(error)?;
        let connection = tokio::select! {
            connected = timeout(listener.handshake_timeout, connecting) => connected
                .map_err(|_| TransportError::TimedOut(listener.handshake_timeout))?
                .map_err(error)?,
            () = stranger.has_to_leave() => {
                return Err(TransportError::Lost("it took long, and others came".to_owned()));
            }
        };
        Quic::new(connection, limits, watch, fault, Some(stranger))
    }
}

fn open_at(address: &ListenAddress) -> Result<OpenSocket, TransportError> {
    match address {
        ListenAddress::At(address) => socket::open(*address).map_err(|e| cannot_listen(*address, &e)),
        ListenAddress::Inherited(inherited) => inherited
            .get()
            .and_then(socket::adopt)
            .map_err(|e| TransportError::Lost(format!("cannot use the socket of the service manager: {e}"))),
        ListenAddress::Any => open_any(DEFAULT_PORT)
            .or_else(|_| open_any(0))
            .map_err(|e| cannot_listen((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into(), &e)),
        ListenAddress::Within(range) => range
            .ports()
            .find_map(|port| open_any(port).ok())
            .ok_or_else(|| TransportError::Lost(format!("no UDP port of {range} is free"))),
    }
}

async fn dial_all(
    addresses: &[SocketAddr],
    expected: Expected,
    identity: &Identity,
    limits: &Limits,
) -> Result<(Quic, QuicEndpoint), TransportError> {
    let own = address::of_this_machine();

    let mut deadline = Instant::now() + limits.connect_timeout;
    let mut attempts = JoinSet::new();
    let mut failure = TransportError::NoAnswer(list(addresses));
    let mut rest = addresses.iter();
    let (mut absent, refused) = (0, Arc::new(Notify::new()));
    loop {
        if let Some(&address) = rest.next() {
            let mtu = Mtu::to(address, &own);
            attempts.spawn(dial_one(
                address,
                expected.clone(),
                identity.clone(),
                *limits,
                mtu,
                refused.clone(),
            ));
        } else if attempts.is_empty() {
            let nobody = absent > 0 && absent == addresses.len();
            return Err(if nobody { TransportError::NobodyThere(list(addresses)) } else { failure });
        }
        let next_try = async {
            if rest.len() == 0 {
                return std::future::pending().await;
            }
            tokio::select! {
                () = sleep(STAGGER) => {}
                () = refused.notified() => {}
            }
        };
        let ended = timeout_at(deadline, async {
            tokio::select! {
                Some(ended) = attempts.join_next() => Some(ended),
                () = next_try => None,
            }
        });
        match ended.await {
            Err(_) => return Err(failure),
            Ok(None) => {}
            Ok(Some(Ok(Ok(dialled)))) => return Ok(dialled),
            Ok(Some(Ok(Err(TransportError::NobodyThere(_))))) => absent += 1,
            Ok(Some(Ok(Err(error)))) => {
                if rank(&error) < rank(&failure) {
                    deadline = deadline.min(Instant::now() + GRACE);
                    failure = error;
                }
            }
            Ok(Some(Err(panic))) => return Err(TransportError::Lost(panic.to_string())),
        }
    }
}

/// The smaller, the more informative.
fn rank(error: &TransportError) -> u8 {
    match error {
        TransportError::NotAuthenticated(_) => 0,
        TransportError::Incompatible(_) => 1,
        TransportError::NoAnswer(_) | TransportError::NobodyThere(_) => 3,
        _ => 2,
    }
}

/// Each address gets its own socket, so that the winner's is idle as soon as its connection is: closing a connection
/// that never got an answer takes seconds.
async fn dial_one(
    address: SocketAddr,
    expected: Expected,
    identity: Identity,
    limits: Limits,
    mtu: Mtu,
    refused: Arc<Notify>,
) -> Result<(Quic, QuicEndpoint), TransportError> {
    let socket = open_any(0).map_err(|e| unusable(&e))?;
    tokio::select! {
        dialled = dial_on(socket, address, expected, &identity, (&limits, Way::Udp(mtu))) => dialled,
        () = probe::refused(address, &refused) => Err(TransportError::NobodyThere(address.to_string())),
    }
}

/// Dials the side at the other end of a pipe.
async fn dial_through(
    end: &PipeEnd,
    expected: Expected,
    identity: &Identity,
    limits: &Limits,
) -> Result<(Quic, QuicEndpoint), TransportError> {
    let dialling = dial_on(piped::open(end), end.peer, expected, identity, (limits, Way::Pipe));
    let dialled = timeout(limits.connect_timeout, dialling).await;
    dialled.unwrap_or_else(|_| Err(TransportError::NoAnswer(end.peer.to_string())))
}

async fn dial_on(
    socket: OpenSocket,
    address: SocketAddr,
    expected: Expected,
    identity: &Identity,
    (limits, way): (&Limits, Way),
) -> Result<(Quic, QuicEndpoint), TransportError> {
    let found = ShownFingerprint::default();
    let tls = tls::client_config(identity, expected.clone(), found.clone()).map_err(|e| unusable(&e))?;
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| unusable(&e))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let watch = PathWatch::default();
    config.transport_config(Arc::new(transport_config(limits, way, watch.clone())));
    let OpenSocket { socket, buffers, fault } = socket;
    let inner =
        quinn::Endpoint::new_with_abstract_socket(endpoint_config(), None, socket, Arc::new(TokioRuntime))
            .map_err(|e| unusable(&e))?;
    match connect_to(&inner, &config, address).await? {
        Ok(connection) => {
            let quic = Quic::new(connection, limits, watch, fault.clone(), None)?;
            Ok((quic, QuicEndpoint { inner, buffers, fault, listener: None }))
        }
        Err(quinn::ConnectionError::TimedOut) => Err(TransportError::NoAnswer(address.to_string())),
        Err(error) => Err(match (found.get(), expected.key_text()) {
            (Some(found), Some(key)) if !expected.takes_key(*found) => TransportError::NotAuthenticated(
                format!("the peer at {address} has fingerprint {found}, not the expected {key}"),
            ),
            _ => error_over(&fault, error, limits.idle_timeout),
        }),
    }
}

/// Tries again for a while when the peer is busy.
async fn connect_to(
    endpoint: &quinn::Endpoint,
    config: &quinn::ClientConfig,
    address: SocketAddr,
) -> Result<Result<quinn::Connection, quinn::ConnectionError>, TransportError> {
    let mut tries = 0;
    loop {
        let connecting = endpoint
            .connect_with(config.clone(), address, tls::SERVER_NAME)
            .map_err(|e| TransportError::NoAnswer(format!("{address}: {e}")))?;
        let connected = connecting.await;
        tries += 1;
        if tries >= BUSY_TRIES || !connected.as_ref().is_err_and(is_busy) {
            return Ok(connected);
        }
        sleep(BUSY_PAUSE).await;
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    if addresses.is_empty() {
        return "(no address)".to_owned();
    }
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// Binds all addresses of both families, or of IPv4 on hosts without IPv6.
fn open_any(port: u16) -> io::Result<OpenSocket> {
    socket::open((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Err(error),
        _ => socket::open((Ipv4Addr::UNSPECIFIED, port).into()),
    })
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> TransportError {
    TransportError::Lost(format!("cannot listen on {address}: {error}"))
}

fn unusable(error: &dyn std::error::Error) -> TransportError {
    TransportError::Lost(error.to_string())
}

fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(LateResets::generate()));
    config.max_udp_payload_size(mtu::PAYLOAD_MAX).expect("QUIC allows it");
    config
}

/// Ack frequency requested from a peer on this host (draft-ietf-quic-ack-frequency). Acking every second datagram
/// would cost half as many packets and wake-ups as the data; over networks, acks come for batches anyway.
fn loopback_acks() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config
        .ack_eliciting_threshold(VarInt::from_u32(LOOPBACK_UNACKED))
        .max_ack_delay(Some(LOOPBACK_ACK_DELAY));
    config
}

/// How datagrams go.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// By UDP, in these sizes.
    Udp(Mtu),
    /// Through a stream of bytes.
    Pipe,
}

/// The session's limits in quinn's terms, for one connection.
fn transport_config(limits: &Limits, way: Way, watch: PathWatch) -> TransportConfig {
    let is_fast = match way {
        Way::Udp(mtu) => mtu.is_of_loopback(),
        Way::Pipe => true,
    };
    // A value beyond QUIC's maximum (146 million years) is no limit at all.
    let idle_timeout = IdleTimeout::try_from(limits.idle_timeout).ok();
    let mut config = TransportConfig::default();
    config
        .receive_window(VarInt::from_u32(limits.receive_window_bytes))
        .stream_receive_window(VarInt::from_u32(limits.stream_window_bytes))
        .send_window(limits.send_window_bytes)
        // One more for the control stream.
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams.saturating_add(1)))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .max_idle_timeout(idle_timeout)
        // On a dead path it sends the packets that `congestion` has room for.
        .keep_alive_interval(Some(congestion::PROBE_INTERVAL.min(limits.idle_timeout / 4)))
        // Until the first round trip is measured. A lost first packet is then repeated after 0.3 s, not 1 s; on a
        // longer path that costs one extra packet.
        .initial_rtt(INITIAL_RTT)
        // Parcels are sent one after the other: the first is acked while the next are still being sent.
        .send_fairness(false)
        // By time alone, so a path that reorders loses nothing.
        .packet_threshold(u32::MAX)
        .time_threshold(congestion::LOSS_DELAY_ROUND_TRIPS)
        .ack_frequency_config(is_fast.then(loopback_acks))
        .datagram_receive_buffer_size(None);
    match way {
        Way::Udp(mtu) => config
            .initial_mtu(mtu::MIN)
            .min_mtu(mtu::MIN)
            .mtu_discovery_config(Some(mtu.discovery()))
            .congestion_controller_factory(congestion::controller(limits.congestion, mtu::MIN, watch)),
        // The stream carries everything, in order, as fast as it can.
        Way::Pipe => config
            .initial_mtu(piped::HANDSHAKE_BYTES)
            .min_mtu(piped::HANDSHAKE_BYTES)
            .mtu_discovery_config(Some(piped::discovery()))
            .congestion_controller_factory(Arc::new(congestion::Open)),
    };
    config
}
