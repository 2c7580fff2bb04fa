//! What every [`Network`] and its [`Endpoint`]s promise, run on quinn over loopback and on the network in memory.

use std::time::Duration;

use tokio::time::timeout;

use super::connection::MemoryLimits;
use super::connection_suite::{limits, network};
use super::network::MemoryNetwork;
use crate::auth::{Expected, Fingerprint, Identity};
use crate::transport::{Arrival, Connection, Endpoint, ListenAddress, Network, TransportError};

/// What has to happen, happens within this.
const SOON: Duration = Duration::from_secs(20);

fn loopback() -> ListenAddress {
    ListenAddress::At(([127, 0, 0, 1], 0).into())
}

macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                let here = MemoryNetwork::new([1; 32], MemoryLimits::default());
                super::$name(here.clone(), here.seen_by([2; 32])).await;
            })*
        }
        mod on_quic {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let [here, there] = [(); 2].map(|()| network(&Identity::generate().unwrap()));
                timeout(SOON, super::$name(here, there)).await.expect("it hangs");
            })*
        }
    };
}

conformance!(
    a_dialler_arrives_and_both_know_the_key_of_the_other,
    another_key_than_the_expected_one_is_noticed,
    nobody_is_found_where_nobody_listens,
    a_closed_endpoint_tells_its_peers_why_and_takes_no_more,
    whoever_closed_is_known_and_the_peer_hears_of_it,
);

/// Two that have met: the connection and the endpoint of the dialler, and those of the listener.
struct Met<N: Network> {
    dialler: (N::Connection, N::Endpoint),
    listener: (Peer<N>, N::Endpoint),
}

/// The connection that an endpoint of `N` makes.
type Peer<N> = <<<N as Network>::Endpoint as Endpoint>::Arrival as Arrival>::Connection;

async fn meet<N: Network>(here: &N, there: &N) -> Met<N> {
    let limits = limits();
    let endpoint = there.listen(&loopback(), &limits).unwrap();
    let address = [endpoint.local_address().unwrap()];
    let accepting = async { endpoint.accept().await.unwrap().handshake().await };
    let dialling = here.dial(&address, Expected::Key(there.fingerprint()), &limits);
    let (dialled, accepted) = tokio::join!(dialling, accepting);
    let Ok(dialler) = dialled else { panic!("not reached") };
    Met { dialler, listener: (accepted.unwrap(), endpoint) }
}

async fn a_dialler_arrives_and_both_know_the_key_of_the_other<N: Network>(here: N, there: N) {
    let Met { dialler: (dialler, dialling), listener: (listener, listening) } = meet(&here, &there).await;
    assert_eq!(dialler.peer_fingerprint(), there.fingerprint());
    assert_eq!(listener.peer_fingerprint(), here.fingerprint());
    assert_eq!((dialling.connections(), listening.connections()), (1, 1));
    assert!(dialling.accept().await.is_none(), "it does not listen");
    let named = listening.local_addresses().unwrap();
    assert_eq!(named, [listening.local_address().unwrap()]);
    assert!(listening.fault().is_none());
}

async fn another_key_than_the_expected_one_is_noticed<N: Network>(here: N, there: N) {
    let endpoint = there.listen(&loopback(), &limits()).unwrap();
    let address = [endpoint.local_address().unwrap()];
    let accepting = tokio::spawn(async move { endpoint.accept().await.unwrap().handshake().await.map(drop) });
    let expected = Expected::Key(Fingerprint::from_bytes([9; 32]));
    let error = here.dial(&address, expected, &limits()).await.err();
    assert!(matches!(error, Some(TransportError::NotAuthenticated(_))), "{error:?}");
    accepting.abort();
}

async fn nobody_is_found_where_nobody_listens<N: Network>(here: N, there: N) {
    let endpoint = there.listen(&loopback(), &limits()).unwrap();
    let address = [endpoint.local_address().unwrap()];
    endpoint.close(0, b"");
    drop(endpoint);
    let error = here.dial(&address, Expected::Key(there.fingerprint()), &limits()).await.err();
    let is_it = matches!(error, Some(TransportError::NobodyThere(_) | TransportError::NoAnswer(_)));
    assert!(is_it, "{error:?}");
}

async fn a_closed_endpoint_tells_its_peers_why_and_takes_no_more<N: Network>(here: N, there: N) {
    let Met { dialler: (dialler, _dialling), listener: (_listener, listening) } = meet(&here, &there).await;
    listening.close(7, b"why");
    let TransportError::Closed { code, reason } = dialler.closed().await else { panic!("not told") };
    assert_eq!((code, &reason[..]), (7, &b"why"[..]));
    assert!(listening.accept().await.is_none());
    assert!(listening.wait_idle(SOON).await);
    assert_eq!(listening.connections(), 0);
}

async fn whoever_closed_is_known_and_the_peer_hears_of_it<N: Network>(here: N, there: N) {
    let Met { dialler: (dialler, _dialling), listener: (listener, _listening) } = meet(&here, &there).await;
    assert!(!dialler.is_ended_by_peer() && !listener.is_ended_by_peer());
    dialler.close(7, b"");
    dialler.close_sent().await;
    listener.closed().await;
    assert!(listener.is_ended_by_peer() && !dialler.is_ended_by_peer());
}
