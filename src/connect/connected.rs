//! A session's first connection, the resources it needs, and its close.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ssh::program::SshProgram;
use crate::event::{Event, Reporter};
use crate::node::listener::Answering;
use crate::node::places::ticket_used;
use crate::protocol::failure::Failure;
use crate::session::{Carried, Link, close_reason, close_with};
use crate::transport::{Connection, Endpoint, Network};

/// How long a process that fails waits for its peer to learn why.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);
/// Maximum wait, after success, for the close to be sent. It is one packet, and a peer that misses it knows of the
/// success anyway, but waits for its time-out.
const GOODBYE_WELL: Duration = Duration::from_millis(50);

/// A link, and the resources it needs while it is open.
pub struct Connected<N: Network> {
    /// The connection and its control stream.
    pub link: Link<N::Connection>,
    /// Of the connection in use.
    pub(super) endpoint: watch::Receiver<N::Endpoint>,
    pub(super) answering: Option<Answering<N::Connection>>,
    pub(super) joining: JoinSet<()>,
    /// The endpoint serves other peers too, and stays.
    pub(super) is_shared: bool,
    /// The program that carries this side's end of the introduction.
    pub(super) ssh: Option<SshProgram>,
}

impl<N: Network> Connected<N> {
    /// Separates the link, which goes to the session, from its keeper.
    pub fn split(self) -> (Link<N::Connection>, Keeper<N>) {
        let Self { link, endpoint, answering, joining, is_shared, ssh } = self;
        let carried = link.carried();
        (link, Keeper { carried, endpoint, answering, _joining: joining, is_shared, ssh })
    }

    /// Tells the peer of a failure before the transfer has begun; returns it.
    pub async fn fail(self, failure: Failure) -> Failure {
        if self.is_shared {
            close_with(&self.link.connection, &failure);
            return failure;
        }
        let endpoint = self.endpoint.borrow().clone();
        part(&self.link.connection, &endpoint, failure).await
    }
}

/// Keeps the endpoint open until the last packets are sent.
pub struct Keeper<N: Network> {
    carried: Carried<N::Connection>,
    endpoint: watch::Receiver<N::Endpoint>,
    answering: Option<Answering<N::Connection>>,
    /// Makes further connections until dropped.
    _joining: JoinSet<()>,
    is_shared: bool,
    ssh: Option<SshProgram>,
}

impl<N: Network> Keeper<N> {
    /// Waits until the close has reached the peer or its time is over. Also reports the endpoint's advice for this
    /// machine, and what the other side has said by ssh if it could not tell of `failure` otherwise.
    pub async fn goodbye(mut self, failure: Option<&Failure>, reporter: &dyn Reporter) {
        let ssh = self.ssh.take();
        self.part(failure.is_none(), reporter).await;
        if let Some(ssh) = ssh {
            let last_words = ssh.end().await.said;
            if failure.is_some_and(|failure| !failure.from_peer) {
                for message in last_words {
                    reporter.report(Event::Warning { path: None, reason: None, message });
                }
            }
        }
    }

    async fn part(&mut self, is_well: bool, reporter: &dyn Reporter) {
        let endpoint = self.endpoint.borrow().clone();
        if let Some(message) = endpoint.advice() {
            reporter.report(Event::Warning { path: None, reason: None, message });
        }
        if let Some(answering) = self.answering.take() {
            drop(answering);
            turn_away(&endpoint).await;
        }
        // Over a lost connection, nothing can be told.
        let Some(connection) = self.carried.connection() else { return };
        if is_well {
            let _ = timeout(GOODBYE_WELL, connection.close_sent()).await;
        }
        // A peer that sends something again is told again, for three of QUIC's probe time-outs (RFC 9000, section 10.2).
        let may_be_lost = !is_well || connection.stats().is_lossy();
        // An endpoint that stays tells the peer without this.
        if may_be_lost && !connection.is_ended_by_peer() && !self.is_shared {
            endpoint.wait_idle(GOODBYE).await;
        }
    }
}

/// Refuses peers that are dialling now: the ticket is used. The session's own connection is closed already.
async fn turn_away(endpoint: &impl Endpoint) {
    let failure = ticket_used();
    endpoint.close(failure.reason.code(), &close_reason(&failure));
    if endpoint.connections() > 1 {
        endpoint.wait_idle(GOODBYE_WELL).await;
    }
}

/// Closes the connection with `failure`, waits until the peer can know it, and returns it.
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
