//! A side that stays and serves many peers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connected::{Connected, GOODBYE};
use super::extra::prepare;
use super::terms::Terms;
use crate::auth::Fingerprint;
use crate::auth::handshake::Visitor;
use crate::node::listener::Listener;
use crate::node::places::Places;
use crate::protocol::failure::{Failure, Reason};
use crate::session::handshake::{Membership, Slot};
use crate::session::{Retry, close_reason, transport_failure};
use crate::transport::{Endpoint, ListenAddress, Network};

/// A side that stays.
pub struct Staying<N: Network> {
    terms: Terms<N>,
    endpoint: N::Endpoint,
    listener: Listener<N::Connection>,
}

impl<N: Network> Staying<N> {
    /// Begins to listen at `address` for diallers that `places` lets in.
    ///
    /// # Errors
    ///
    /// This side cannot listen.
    pub fn new(address: &ListenAddress, terms: Terms<N>, places: &Arc<Places>) -> Result<Self, Failure> {
        let Terms { role, network, limits, .. } = &terms;
        let endpoint =
            network.listen(address, limits).map_err(|e| Failure::new(Reason::Setup, e.to_string()))?;
        let slots = vec![Arc::clone(places) as Arc<dyn Slot>];
        let listener = Listener::new(endpoint.clone(), *role, slots);
        Ok(Self { terms, endpoint, listener })
    }

    /// Where diallers can reach this side, best first.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        self.endpoint.local_addresses().map_err(transport_failure)
    }

    /// The key of this side.
    pub fn fingerprint(&self) -> Fingerprint {
        self.terms.network.fingerprint()
    }

    /// The next dialler that was let in.
    ///
    /// # Errors
    ///
    /// The socket has failed: no more can arrive.
    pub async fn next(&mut self) -> Result<(Connected<N>, Visitor), Failure> {
        let Some(guest) = self.listener.next().await else {
            let fault = self.endpoint.fault().unwrap_or("the socket was closed while waiting");
            return Err(Failure::new(Reason::Setup, fault));
        };
        let mut link = guest.link;
        let Terms { connections, retry, .. } = self.terms;
        let joiner = prepare(&mut link, 0, connections.is_none(), retry);
        // Without keying material, the session cannot survive its connection.
        if retry != Retry::Off
            && let Ok(membership) = Membership::of(&link.connection)
        {
            self.listener.lets_back(membership, joiner);
        }
        let endpoint = watch::Sender::new(self.endpoint.clone()).subscribe();
        let joining = JoinSet::new();
        let connected = Connected { link, endpoint, answering: None, joining, is_shared: true, ssh: None };
        Ok((connected, guest.visitor))
    }

    /// The next dialler that was let in before `places` were closed; `None` once all places are free.
    pub async fn next_of_last(&mut self, places: &Places) -> Option<(Connected<N>, Visitor)> {
        tokio::select! {
            biased;
            Ok(next) = self.next() => Some(next),
            () = places.all_free() => None,
        }
    }

    /// Ends everything with `failure`, once its peers have been told.
    pub async fn end(self, failure: &Failure) {
        drop(self.listener);
        self.endpoint.close(failure.reason.code(), &close_reason(failure));
        self.endpoint.wait_idle(GOODBYE).await;
    }
}
