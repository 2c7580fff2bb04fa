//! A network in memory: hosts that dial each other's endpoints, over connections in memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::connection::{MemoryConnection, MemoryLimits, MemoryLink, pair};
use crate::auth::{Expected, Fingerprint};
use crate::transport::address::{AddressError, HostPort};
use crate::transport::{Arrival, Connection, Endpoint, Limits, ListenAddress, Network, TransportError};

/// The ends of a connection, by who began it.
const DIALLER: usize = 0;
const LISTENER: usize = 1;

/// The network as one host sees it. Its connections have limits of their own, not those that are asked for.
#[derive(Debug, Clone)]
pub(crate) struct MemoryNetwork {
    fingerprint: Fingerprint,
    limits: MemoryLimits,
    hub: Arc<Mutex<Hub>>,
}

/// Connections, and which end of each is here.
type Held = Arc<Mutex<Vec<(MemoryLink, usize)>>>;

/// What all hosts share.
#[derive(Debug, Default)]
struct Hub {
    /// Of those that listen: the key, and where diallers arrive.
    listening: BTreeMap<SocketAddr, (Fingerprint, mpsc::UnboundedSender<Caller>)>,
    last_port: u16,
    links: Vec<MemoryLink>,
    is_cut: bool,
    /// What each name stands for, and how long it takes to tell.
    names: BTreeMap<String, (Duration, SocketAddr)>,
}

/// One that dials: its connection to be, and what tells it that the handshake is done.
#[derive(Debug)]
struct Caller {
    connection: MemoryConnection,
    link: MemoryLink,
    taken_up: oneshot::Sender<()>,
}

/// An end of connections in memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryEndpoint {
    address: SocketAddr,
    /// None at the end that dialled.
    callers: Option<Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Caller>>>>,
    hub: Arc<Mutex<Hub>>,
    held: Held,
}

/// A dialler in memory.
#[derive(Debug)]
pub(crate) struct MemoryArrival {
    caller: Caller,
    held: Held,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds it")
}

impl MemoryNetwork {
    /// A network of its own, seen by the host with the key `fingerprint`.
    pub(crate) fn new(fingerprint: [u8; 32], limits: MemoryLimits) -> Self {
        Self { fingerprint: Fingerprint::from_bytes(fingerprint), limits, hub: Arc::default() }
    }

    /// The same network, seen by another host.
    pub(crate) fn seen_by(&self, fingerprint: [u8; 32]) -> Self {
        Self { fingerprint: Fingerprint::from_bytes(fingerprint), ..self.clone() }
    }

    /// Nothing gets anywhere for `time`. The ends of a connection lose it after `idle_timeout`.
    pub(crate) async fn cut_for(&self, time: Duration, idle_timeout: Duration) {
        let links = {
            let mut hub = lock(&self.hub);
            hub.is_cut = true;
            hub.links.clone()
        };
        links.iter().for_each(|link| link.hold(true));
        sleep(time.min(idle_timeout)).await;
        if time > idle_timeout {
            links.iter().for_each(MemoryLink::cut);
            sleep(time - idle_timeout).await;
        }
        lock(&self.hub).is_cut = false;
        links.iter().for_each(|link| link.hold(false));
    }

    /// From now on `host` stands for `address`, which is told after `time`.
    pub(crate) fn names(&self, host: &str, time: Duration, address: SocketAddr) {
        lock(&self.hub).names.insert(host.to_owned(), (time, address));
    }

    /// The socket at `address` fails: nobody can arrive there any more.
    pub(crate) fn unplug(&self, address: SocketAddr) {
        lock(&self.hub).listening.remove(&address);
    }

    /// All connections that were dialled, in this order.
    pub(crate) fn links(&self) -> Vec<MemoryLink> {
        lock(&self.hub).links.clone()
    }
}

impl Network for MemoryNetwork {
    type Connection = MemoryConnection;
    type Endpoint = MemoryEndpoint;

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    async fn dial(
        &self,
        addresses: &[SocketAddr],
        expected: Expected,
        limits: &Limits,
    ) -> Result<(MemoryConnection, MemoryEndpoint), TransportError> {
        let named = format!("{addresses:?}");
        if lock(&self.hub).is_cut {
            sleep(limits.connect_timeout).await;
            return Err(TransportError::NoAnswer(named));
        }
        let (dialler, link, done) = {
            let mut hub = lock(&self.hub);
            let found = addresses.iter().find_map(|address| hub.listening.get(address).cloned());
            let (listener, callers) = found.ok_or_else(|| TransportError::NobodyThere(named.clone()))?;
            if let Some(key) = expected.key_text()
                && !expected.takes_key(listener)
            {
                let message = format!("the peer has fingerprint {listener}, not the expected {key}");
                return Err(TransportError::NotAuthenticated(message));
            }
            let limits = MemoryLimits { fingerprints: [self.fingerprint, listener], ..self.limits };
            let (dialler, connection, link) = pair(hub.links.len() as u64, limits);
            let (taken_up, done) = oneshot::channel();
            let caller = Caller { connection, link: link.clone(), taken_up };
            callers.send(caller).map_err(|_| TransportError::NobodyThere(named.clone()))?;
            hub.links.push(link.clone());
            (dialler, link, done)
        };
        timeout(limits.connect_timeout, done)
            .await
            .map_err(|_| TransportError::NoAnswer(named))?
            .map_err(|_| TransportError::Busy)?;
        let address = ([127, 0, 0, 1], 1).into();
        let held = Arc::new(Mutex::new(vec![(link, DIALLER)]));
        Ok((dialler, MemoryEndpoint { address, callers: None, hub: Arc::clone(&self.hub), held }))
    }

    async fn resolve(&self, host: &HostPort) -> Result<Vec<SocketAddr>, AddressError> {
        let found = lock(&self.hub).names.get(&host.host).copied();
        let Some((time, address)) = found else {
            return Err(AddressError::Unresolved { host: host.host.clone(), why: "unknown".to_owned() });
        };
        sleep(time).await;
        Ok(vec![address])
    }

    fn listen(&self, address: &ListenAddress, _: &Limits) -> Result<MemoryEndpoint, TransportError> {
        let mut hub = lock(&self.hub);
        let mut address = match address {
            ListenAddress::At(address) => *address,
            ListenAddress::Any | ListenAddress::Within(_) | ListenAddress::Inherited(_) => {
                ([127, 0, 0, 1], 0).into()
            }
        };
        if address.port() == 0 {
            hub.last_port += 1;
            address.set_port(hub.last_port);
        }
        let (sender, callers) = mpsc::unbounded_channel();
        hub.listening.insert(address, (self.fingerprint, sender));
        let callers = Some(Arc::new(tokio::sync::Mutex::new(callers)));
        Ok(MemoryEndpoint { address, callers, hub: Arc::clone(&self.hub), held: Held::default() })
    }
}

impl Endpoint for MemoryEndpoint {
    type Arrival = MemoryArrival;

    async fn accept(&self) -> Option<MemoryArrival> {
        let caller = self.callers.as_ref()?.lock().await.recv().await?;
        let is_open = lock(&self.hub).listening.contains_key(&self.address);
        is_open.then(|| MemoryArrival { caller, held: Arc::clone(&self.held) })
    }

    /// As few as a test has are told.
    fn close_to_newcomers(&self) {}

    fn local_address(&self) -> Result<SocketAddr, TransportError> {
        Ok(self.address)
    }

    fn local_addresses(&self) -> Result<Vec<SocketAddr>, TransportError> {
        Ok(vec![self.address])
    }

    fn fault(&self) -> Option<&str> {
        None
    }

    fn connections(&self) -> usize {
        lock(&self.held).iter().filter(|(link, side)| !link.is_ended(*side)).count()
    }

    fn advice(&self) -> Option<String> {
        None
    }

    fn close(&self, code: u32, reason: &[u8]) {
        if self.callers.is_some() {
            lock(&self.hub).listening.remove(&self.address);
        }
        for (link, side) in lock(&self.held).iter() {
            link.close_at(*side, code, reason);
        }
    }

    /// The peers know at once.
    async fn wait_idle(&self, _: Duration) -> bool {
        self.connections() == 0
    }
}

impl Arrival for MemoryArrival {
    type Connection = MemoryConnection;

    fn remote_address(&self) -> SocketAddr {
        self.caller.connection.remote_address()
    }

    async fn handshake(self) -> Result<MemoryConnection, TransportError> {
        let Caller { connection, link, taken_up } = self.caller;
        taken_up.send(()).map_err(|()| TransportError::Lost("the dialler has gone".to_owned()))?;
        lock(&self.held).push((link, LISTENER));
        Ok(connection)
    }
}
