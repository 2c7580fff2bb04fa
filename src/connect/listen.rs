//! The side that listens.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;

use super::connected::{Connected, GOODBYE, part};
use super::extra::Sockets;
use super::slot::OneSlot;
use super::terms::Terms;
use super::waiting::{Stop, unless_stopped, within};
use crate::auth::methods::AnyOf;
use crate::auth::{Expected, Fingerprint, Secret, Ticket};
use crate::event::{Event, Listening, Reporter};
use crate::node::listener::Listener;
use crate::protocol::failure::{Failure, Reason};
use crate::session::handshake::Slot;
use crate::session::{Link, close_reason, transport_failure};
use crate::transport::{Connection, Endpoint, ListenAddress, Network};

/// Where to wait for a peer, and which peers may connect.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// Where to listen.
    pub address: ListenAddress,
    /// Keys of diallers that need no ticket.
    pub allowed: Vec<Fingerprint>,
    /// How long to wait; `None` is forever.
    pub wait: Option<Duration>,
    /// The sources that are offered, or the target directory. Reported with the ticket.
    pub what: Vec<PathBuf>,
}

/// Waits for one peer to dial, and tells `reporter` how to reach this side.
///
/// # Errors
///
/// This side cannot listen, or nobody connected.
pub async fn listen<N: Network>(
    invitation: Invitation,
    terms: &Terms<N>,
    reporter: &dyn Reporter,
    stop: &mut Stop,
) -> Result<Connected<N>, Failure> {
    let Invitation { address, allowed, wait, what } = invitation;
    let Terms { role, network, limits, .. } = terms;
    let endpoint =
        network.listen(&address, limits).map_err(|e| Failure::new(Reason::Setup, e.to_string()))?;
    let addresses = endpoint.local_addresses().map_err(transport_failure)?;
    let secret = Secret::generate();
    let ticket = Ticket { addresses, fingerprint: network.fingerprint(), secret };
    let ip = endpoint.local_address().map_err(transport_failure)?.ip();
    let sockets = Sockets::new(terms.clone(), ip);
    let by_key = allowed.into_iter().map(Expected::Key);
    let authorizer = AnyOf(std::iter::once(Expected::Secret(secret)).chain(by_key).collect());
    let slot = Arc::new(OneSlot { authorizer, taken: AtomicBool::new(false), sockets });
    let slots = vec![Arc::clone(&slot) as Arc<dyn Slot>];
    let mut listener = Listener::new(endpoint.clone(), *role, slots);
    reporter.report(Event::Listening(Listening {
        role: *role,
        what,
        ticket: Some(ticket.to_string()),
        addresses: ticket.addresses,
        fingerprint: ticket.fingerprint.to_string(),
    }));
    let waiting = within(wait, first_link(&endpoint, &mut listener));
    let mut link = match unless_stopped(stop, waiting).await {
        Ok(link) => link,
        Err(failure) => {
            drop(listener);
            // A peer may be dialling now.
            endpoint.close(failure.reason.code(), &close_reason(&failure));
            endpoint.wait_idle(GOODBYE).await;
            return Err(failure);
        }
    };
    endpoint.close_to_newcomers();
    let answering = listener.into_answering();
    match slot.sockets.serve(&mut link, &answering) {
        Ok(joining) => {
            let endpoint = watch::Sender::new(endpoint).subscribe();
            Ok(Connected { link, endpoint, answering: Some(answering), joining, is_shared: false })
        }
        Err(failure) => Err(part(&link.connection, &endpoint, failure).await),
    }
}

/// The first dialler that is let in.
pub(super) async fn first_link<C: Connection>(
    endpoint: &impl Endpoint,
    listener: &mut Listener<C>,
) -> Result<Link<C>, Failure> {
    let guest = listener.next().await.ok_or_else(|| {
        let fault = endpoint.fault().unwrap_or("the socket was closed while waiting");
        Failure::new(Reason::Setup, fault)
    })?;
    Ok(guest.link)
}
