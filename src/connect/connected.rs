//! A link with what keeps it alive, and how it is parted with.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::slot::ticket_used;
use crate::event::{Event, Reporter};
use crate::node::listener::Answering;
use crate::protocol::failure::Failure;
use crate::session::{Link, close_reason, close_with};
use crate::transport::{Connection, Endpoint, Network};

/// How long a process that fails makes sure that its peer learns why.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);
/// How long at most, when all is well, for the close to leave: it is one packet, and a peer that misses it knows that
/// all is well, too.
const GOODBYE_WELL: Duration = Duration::from_millis(50);

/// A link and what keeps it alive.
pub struct Connected<N: Network> {
    /// The connection and its control stream.
    pub link: Link<N::Connection>,
    pub(super) endpoint: N::Endpoint,
    pub(super) answering: Option<Answering>,
    pub(super) joining: JoinSet<()>,
}

impl<N: Network> Connected<N> {
    /// Parts the link from its keeper.
    pub fn split(self) -> (Link<N::Connection>, Keeper<N>) {
        let connection = self.link.connection.clone();
        let Self { link, endpoint, answering, joining } = self;
        (link, Keeper { connection, endpoint, answering, _joining: joining })
    }

    /// Tells the peer of a failure before the transfer has begun; returns it.
    pub async fn fail(self, failure: Failure) -> Failure {
        part(&self.link.connection, &self.endpoint, failure).await
    }
}

/// Keeps the endpoint until the last packets are sent.
pub struct Keeper<N: Network> {
    connection: N::Connection,
    endpoint: N::Endpoint,
    answering: Option<Answering>,
    /// Makes extra connections until dropped.
    _joining: JoinSet<()>,
}

impl<N: Network> Keeper<N> {
    /// Lets the last words reach the peer, and tells what could be better on this machine.
    pub async fn goodbye(mut self, is_well: bool, reporter: &dyn Reporter) {
        if let Some(message) = self.endpoint.advice() {
            reporter.report(Event::Warning { path: None, reason: None, message });
        }
        if let Some(answering) = self.answering.take() {
            drop(answering);
            self.turn_away().await;
        }
        if is_well {
            let _ = timeout(GOODBYE_WELL, self.connection.close_sent()).await;
        } else if !self.connection.is_ended_by_peer() {
            self.endpoint.wait_idle(GOODBYE).await;
        }
    }
}

impl<N: Network> Keeper<N> {
    /// Tells those that dial just now that they come too late. The session's connection is closed already.
    async fn turn_away(&self) {
        let failure = ticket_used();
        self.endpoint.close(failure.reason.code(), &close_reason(&failure));
        if self.endpoint.connections() > 1 {
            self.endpoint.wait_idle(GOODBYE_WELL).await;
        }
    }
}

/// Tells the peer of `failure` before this process may end; returns it.
pub(super) async fn part(
    connection: &impl Connection,
    endpoint: &impl Endpoint,
    failure: Failure,
) -> Failure {
    close_with(connection, &failure);
    if !connection.is_ended_by_peer() {
        endpoint.wait_idle(GOODBYE).await;
    }
    failure
}
