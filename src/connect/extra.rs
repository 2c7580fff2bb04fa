//! Extra connections of a session: the listener opens an endpoint for each, and the dialler dials them. One that
//! fails does no harm: the session continues over the others.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;
use tracing::debug;

use super::terms::Terms;
use crate::auth::Expected;
use crate::node::listener::{Answering, unless_silent};
use crate::protocol::failure::Failure;
use crate::session::handshake::{Membership, admit, join, opening};
use crate::session::{Joiner, Joining, Link, Retry, close_with, transport_failure};
use crate::transport::{Arrival, Connection, Endpoint, ListenAddress, Network};

/// Connections of a session when neither side asks for a number.
const AUTOMATIC: u32 = 1;

/// The listener's endpoints for extra connections.
pub(super) struct Sockets<N: Network> {
    terms: Terms<N>,
    address: ListenAddress,
    open: Mutex<Vec<N::Endpoint>>,
}

impl<N: Network> Sockets<N> {
    /// No endpoints yet. They will listen at `address`, which has no port of its own.
    pub(super) fn new(terms: Terms<N>, address: ListenAddress) -> Self {
        Self { terms, address, open: Mutex::default() }
    }

    /// Opens the endpoints and returns their ports. Their number follows from what both sides ask for; `theirs` is
    /// the dialler's number.
    pub(super) fn open(&self, theirs: Option<u32>) -> Vec<u16> {
        let Terms { connections, network, limits, budget, .. } = &self.terms;
        let number = agreed(*connections, theirs).min(budget.connections_max());
        let limits = budget.extra_limits(limits, number - 1);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 1..number {
            match network.listen(&self.address, &limits) {
                Ok(endpoint) => open.push(endpoint),
                Err(error) => debug!(%error, "no place for an extra connection"),
            }
        }
        open.iter().filter_map(|endpoint| Some(endpoint.local_address().ok()?.port())).collect()
    }

    /// Closes the endpoints, when no session will use them.
    pub(super) fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Lets one connection in at each endpoint, if it belongs to the session of `link`. `answering` lets one in that
    /// replaces the first connection. The endpoints live as long as the tasks.
    pub(super) fn serve(
        &self,
        link: &mut Link<N::Connection>,
        answering: &Answering<N::Connection>,
    ) -> Result<JoinSet<()>, Failure> {
        let Terms { connections, retry, .. } = self.terms;
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        let number = u32::try_from(open.len()).unwrap_or(u32::MAX);
        let joiner = prepare(link, number, connections.is_none(), retry);
        let membership = Membership::of(&link.connection)?;
        let mut tasks = JoinSet::new();
        for (lane, endpoint) in (1..).zip(open) {
            tasks.spawn(serve_one(endpoint, lane, membership, joiner.for_extra()));
        }
        if retry != Retry::Off {
            answering.lets_back(membership, joiner);
        }
        Ok(tasks)
    }
}

/// The number of connections when the two sides ask for these numbers.
fn agreed(ours: Option<u32>, theirs: Option<u32>) -> u32 {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.min(theirs),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => AUTOMATIC,
    }
}

pub(super) fn prepare<C: Connection>(
    link: &mut Link<C>,
    extra: u32,
    automatic: bool,
    retry: Retry,
) -> Joiner<C> {
    let (joining, joiner) = Joining::new(extra, automatic, retry);
    link.joining = joining;
    joiner
}

async fn serve_one<E: Endpoint>(
    endpoint: E,
    lane: u32,
    membership: Membership,
    joiner: Joiner<<E::Arrival as Arrival>::Connection>,
) {
    let mut is_taken = false;
    while let Some(incoming) = endpoint.accept().await {
        if is_taken {
            continue;
        }
        let from = incoming.remote_address();
        let joined = async {
            let connection = incoming.handshake().await.map_err(transport_failure)?;
            let admitting =
                async { admit(&connection, opening(&connection).await?, &[membership], lane).await };
            let admitted = unless_silent(&connection, admitting).await;
            admitted.inspect_err(|failure| close_with(&connection, failure))?;
            Ok::<_, Failure>(connection)
        };
        match joined.await {
            Ok(connection) => {
                is_taken = true;
                endpoint.close_to_newcomers();
                joiner.join(lane, connection).await;
            }
            Err(failure) => debug!(%from, %failure, "not let in as an extra connection"),
        }
    }
}

/// Prepares `link`, which this side has dialled, for the connections that it may make.
pub(super) fn prepare_dialler<N: Network>(
    link: &mut Link<N::Connection>,
    terms: &Terms<N>,
) -> Joiner<N::Connection> {
    let max = terms.connections.unwrap_or(u32::MAX).min(terms.budget.connections_max());
    prepare(link, max.saturating_sub(1), terms.connections.is_none(), terms.retry)
}

/// Dials the extra connections that the listener of `link` will offer.
pub(super) fn dial_all<N: Network>(
    link: &Link<N::Connection>,
    joiner: &Joiner<N::Connection>,
    terms: &Terms<N>,
    tasks: &mut JoinSet<()>,
) -> Result<(), Failure> {
    let Membership { key, fingerprint } = Membership::of(&link.connection)?;
    let peer = link.connection.remote_address();
    // Only `Again` replaces the first one.
    let mut joiner = joiner.for_extra();
    let terms = terms.clone();
    tasks.spawn(async move {
        let ports = joiner.ports().await;
        if ports.is_empty() {
            return;
        }
        let Terms { network, limits, budget, .. } = terms;
        let limits = budget.extra_limits(&limits, u32::try_from(ports.len()).unwrap_or(u32::MAX));
        joiner.wanted().await;
        let mut dialling = JoinSet::new();
        for (lane, port) in (1..).zip(ports) {
            let (joiner, network) = (joiner.for_extra(), network.clone());
            dialling.spawn(async move {
                let mut address = peer;
                address.set_port(port);
                let joined = async {
                    let (connection, _) = network
                        .dial(&[address], Expected::Key(fingerprint), &limits)
                        .await
                        .map_err(|e| e.to_string())?;
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::{Identity, JoinKey};
    use crate::protocol::failure::Reason;
    use crate::session::Budget;
    use crate::transport::quic::endpoint::QuicNetwork;
    use crate::transport::{Congestion, TransportError};

    #[tokio::test]
    async fn attack_10_an_extra_port_takes_the_dialler_of_the_session_once_and_nobody_else() {
        let [here, there, stranger] = [(); 3].map(|()| QuicNetwork::new(Identity::generate().unwrap()));
        let second = Duration::from_secs(1);
        let limits = Budget::new(64 << 20, None).limits(30 * second, 10 * second, Congestion::Auto);
        let loopback = ListenAddress::At(([127, 0, 0, 1], 0).into());
        let endpoint = there.listen(&loopback, &limits).unwrap();
        let address = [endpoint.local_address().unwrap()];
        let key = JoinKey::new(&[1; 32]);
        let (_joining, joiner) = Joining::new(1, false, Retry::Off);
        let membership = Membership { key, fingerprint: here.fingerprint() };
        let serving = tokio::spawn(serve_one(endpoint, 1, membership, joiner));

        for (network, key) in [(&stranger, key), (&here, JoinKey::new(&[2; 32]))] {
            let (connection, _socket) =
                network.dial(&address, Expected::Key(there.fingerprint()), &limits).await.unwrap();
            join(&connection, &key, 1).await.unwrap();
            let TransportError::Closed { code, .. } = connection.closed().await else { panic!("not told") };
            assert_eq!(code, u64::from(Reason::NotAuthenticated.code()));
        }
        let (connection, _socket) =
            here.dial(&address, Expected::Key(there.fingerprint()), &limits).await.unwrap();
        join(&connection, &key, 2).await.unwrap();
        let TransportError::Closed { code, .. } = connection.closed().await else { panic!("not told") };
        assert_eq!(code, u64::from(Reason::Protocol.code()), "fault 15: the number of another port");
        let (joined, _socket) =
            here.dial(&address, Expected::Key(there.fingerprint()), &limits).await.unwrap();
        join(&joined, &key, 1).await.unwrap();
        // Later diallers are refused.
        let refused = here.dial(&address, Expected::Key(there.fingerprint()), &limits).await.unwrap_err();
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
