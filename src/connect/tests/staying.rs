//! A side that stays, over a network in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::{LISTENER, Met, network, reason, terms};
use crate::auth::{Fingerprint, Ticket};
use crate::connect::{Destination, Staying, dial};
use crate::node::peers::{KnownPeers, Right};
use crate::node::places::{Guests, Places};
use crate::protocol::failure::Reason;
use crate::protocol::wire::role::Role;
use crate::session::Retry;
use crate::testing::network::MemoryNetwork;
use crate::transport::{Connection, ListenAddress, Network};

/// A side that stays for whoever has its ticket, with so many places.
fn stay(network: &MemoryNetwork, number: usize) -> (Staying<MemoryNetwork>, Arc<Places>, Ticket) {
    let guests =
        Guests { known: KnownPeers::default(), only: Vec::new(), right: Right::Send, certified: None };
    let places = Arc::new(Places::new(number, guests, Some(1)));
    let terms = terms(Role::Receive, &network.seen_by(LISTENER), None, Retry::Off);
    let staying = Staying::new(&ListenAddress::Any, terms, &places).unwrap();
    let (addresses, fingerprint) = (staying.addresses().unwrap(), Fingerprint::from_bytes(LISTENER).head());
    (staying, Arc::clone(&places), Ticket { addresses, fingerprint, secret: places.secret().unwrap() })
}

async fn come(network: &MemoryNetwork, ticket: &Ticket) -> Met {
    let (_never, mut stop) = watch::channel(None);
    let terms = terms(Role::Send, network, None, Retry::Off);
    let mut connected = dial(&Destination::Ticket(ticket.clone()), &terms, &mut stop).await?;
    connected.link.welcome().await?;
    Ok(connected)
}

#[tokio::test(start_paused = true)]
async fn whoever_was_let_in_before_the_end_is_served_and_nobody_waits_for_longer() {
    let network = network();
    let (mut staying, places, ticket) = stay(&network, 2);
    // Welcomed, but not taken up when this side is asked to stop.
    let _dialled = come(&network, &ticket).await.unwrap();
    places.close();
    let (last, _) = staying.next_of_last(&places).await.expect("it was let in");
    assert_eq!(last.link.connection.peer_fingerprint(), network.fingerprint());
    let place = places.taken();
    assert_eq!(reason(come(&network.seen_by([3; 32]), &ticket).await), Some(Reason::Interrupted));
    let while_it_runs = timeout(Duration::from_secs(60), staying.next_of_last(&places)).await;
    assert!(while_it_runs.is_err(), "its place is taken");
    drop(place);
    assert!(staying.next_of_last(&places).await.is_none());
}
