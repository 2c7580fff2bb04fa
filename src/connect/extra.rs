//! Extra connections of a session: the sockets that a listener opens for them, and the dialling of them. None that
//! fails ends anything: the session goes on over those that it has.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;
use tracing::debug;

use super::terms::Terms;
use crate::auth::{Expected, Fingerprint, JoinKey};
use crate::node::listener::unless_silent;
use crate::protocol::failure::Failure;
use crate::session::handshake::{admit, join, join_key};
use crate::session::{Joiner, Joining, Link, close_with, transport_failure};
use crate::transport::quic::connection::Quic;
use crate::transport::{Connection, Endpoint, ListenAddress, dial};

/// Connections of a session, when neither side asks for a number.
const AUTOMATIC: u32 = 1;

/// The listener's sockets for extra connections.
pub(super) struct Sockets {
    terms: Terms,
    ip: IpAddr,
    open: Mutex<Vec<Endpoint>>,
}

impl Sockets {
    /// None yet; they will be at `ip`, as the first one is.
    pub(super) fn new(terms: Terms, ip: IpAddr) -> Self {
        Self { terms, ip, open: Mutex::default() }
    }

    /// Opens as many as the two sides agree on, when the dialler asks for `theirs`, and gives their ports.
    pub(super) fn open(&self, theirs: Option<u32>) -> Vec<u16> {
        let Terms { connections, identity, limits, budget, .. } = &self.terms;
        let number = agreed(*connections, theirs).min(budget.connections_max());
        let limits = budget.extra_limits(limits, number - 1);
        let address = ListenAddress::At(SocketAddr::new(self.ip, 0));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 1..number {
            match Endpoint::listen(&address, identity, &limits) {
                Ok(endpoint) => open.push(endpoint),
                Err(error) => debug!(%error, "no socket for an extra connection"),
            }
        }
        open.iter().filter_map(|endpoint| Some(endpoint.local_address().ok()?.port())).collect()
    }

    /// Closes those that nobody will come to.
    pub(super) fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Lets one connection of the session of `link` in at each socket. The sockets live as long as the tasks.
    pub(super) fn serve(&self, link: &mut Link<Quic>) -> Result<JoinSet<()>, Failure> {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        let mut tasks = JoinSet::new();
        if open.is_empty() {
            return Ok(tasks);
        }
        let number = u32::try_from(open.len()).unwrap_or(u32::MAX);
        let joiner = prepare(link, number, self.terms.connections.is_none());
        let (key, fingerprint) = (join_key(&link.connection)?, link.connection.peer_fingerprint());
        for (lane, endpoint) in (1..).zip(open) {
            tasks.spawn(serve_one(endpoint, lane, key, fingerprint, joiner.clone()));
        }
        Ok(tasks)
    }
}

/// The number of connections when the sides ask for these.
fn agreed(ours: Option<u32>, theirs: Option<u32>) -> u32 {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.min(theirs),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => AUTOMATIC,
    }
}

fn prepare(link: &mut Link<Quic>, extra: u32, automatic: bool) -> Joiner<Quic> {
    let (joining, joiner) = Joining::new(extra, automatic, None);
    link.joining = joining;
    joiner
}

async fn serve_one(
    endpoint: Endpoint,
    lane: u32,
    key: JoinKey,
    fingerprint: Fingerprint,
    joiner: Joiner<Quic>,
) {
    let mut is_taken = false;
    while let Some(incoming) = endpoint.accept().await {
        if is_taken {
            continue;
        }
        let from = incoming.remote_address();
        let joined = async {
            let connection = incoming.handshake().await.map_err(transport_failure)?;
            let admitted = unless_silent(&connection, admit(&connection, &key, fingerprint, lane)).await;
            admitted.inspect_err(|failure| close_with(&connection, failure))?;
            Ok::<_, Failure>(connection)
        };
        match joined.await {
            Ok(connection) => {
                is_taken = true;
                endpoint.close_door();
                joiner.join(lane, connection).await;
            }
            Err(failure) => debug!(%from, %failure, "not let in as an extra connection"),
        }
    }
}

/// Dials the extra connections that the listener of `link` will offer.
pub(super) fn dial_all(link: &mut Link<Quic>, terms: &Terms) -> Result<JoinSet<()>, Failure> {
    let mut tasks = JoinSet::new();
    let max = terms.connections.unwrap_or(u32::MAX).min(terms.budget.connections_max());
    if max <= 1 {
        return Ok(tasks);
    }
    let mut joiner = prepare(link, max - 1, terms.connections.is_none());
    let key = join_key(&link.connection)?;
    let peer = link.connection.remote_address();
    let expected = Expected::Key(link.connection.peer_fingerprint());
    let terms = terms.clone();
    tasks.spawn(async move {
        let ports = joiner.ports().await;
        if ports.is_empty() {
            return;
        }
        let Terms { identity, limits, budget, .. } = terms;
        let limits = budget.extra_limits(&limits, u32::try_from(ports.len()).unwrap_or(u32::MAX));
        joiner.wanted().await;
        let mut dialling = JoinSet::new();
        for (lane, port) in (1..).zip(ports) {
            let (joiner, identity) = (joiner.clone(), identity.clone());
            dialling.spawn(async move {
                let mut address = peer;
                address.set_port(port);
                let joined = async {
                    let (connection, _) =
                        dial(&[address], expected, &identity, &limits).await.map_err(|e| e.to_string())?;
                    join(&connection, &key, lane).await.map_err(|failure| failure.to_string())?;
                    Ok::<_, String>(connection)
                };
                match joined.await {
                    Ok(connection) => joiner.join(lane, connection).await,
                    Err(error) => debug!(%address, %error, "no extra connection"),
                }
            });
        }
        dialling.join_all().await;
    });
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::Identity;
    use crate::protocol::failure::Reason;
    use crate::session::Budget;
    use crate::transport::{Congestion, TransportError};

    #[tokio::test]
    async fn attack_10_an_extra_port_takes_the_dialler_of_the_session_once_and_nobody_else() {
        let [here, there, stranger] = [(); 3].map(|()| Identity::generate().unwrap());
        let second = Duration::from_secs(1);
        let limits = Budget::new(64 << 20, None).limits(30 * second, 10 * second, Congestion::Auto);
        let loopback = ListenAddress::At(([127, 0, 0, 1], 0).into());
        let endpoint = Endpoint::listen(&loopback, &there, &limits).unwrap();
        let address = [endpoint.local_address().unwrap()];
        let key = JoinKey::new(&[1; 32]);
        let (_joining, joiner) = Joining::new(1, false, None);
        let serving = tokio::spawn(serve_one(endpoint, 1, key, here.fingerprint(), joiner));

        for (identity, key) in [(&stranger, key), (&here, JoinKey::new(&[2; 32]))] {
            let (connection, _socket) =
                dial(&address, Expected::Key(there.fingerprint()), identity, &limits).await.unwrap();
            join(&connection, &key, 1).await.unwrap();
            let TransportError::Closed { code, .. } = connection.closed().await else { panic!("not told") };
            assert_eq!(code, u64::from(Reason::NotAuthenticated.code()));
        }
        let (connection, _socket) =
            dial(&address, Expected::Key(there.fingerprint()), &here, &limits).await.unwrap();
        join(&connection, &key, 2).await.unwrap();
        let TransportError::Closed { code, .. } = connection.closed().await else { panic!("not told") };
        assert_eq!(code, u64::from(Reason::Protocol.code()), "fault 15: the number of another port");
        let (joined, _socket) =
            dial(&address, Expected::Key(there.fingerprint()), &here, &limits).await.unwrap();
        join(&joined, &key, 1).await.unwrap();
        // Whoever comes behind it is refused.
        let refused = dial(&address, Expected::Key(there.fingerprint()), &here, &limits).await.unwrap_err();
        assert_eq!(refused, TransportError::Busy);
        assert!(!joined.is_closed());
        serving.abort();
    }

    #[test]
    fn whoever_asks_for_fewer_gets_them() {
        assert_eq!(agreed(Some(3), Some(2)), 2);
        assert_eq!(agreed(Some(1), Some(9)), 1);
        assert_eq!((agreed(Some(3), None), agreed(None, Some(3))), (3, 3));
        assert_eq!(agreed(None, None), AUTOMATIC);
    }
}
