//! The first connection of a session.

use tokio::sync::watch;

use super::carried::Carried;
use super::joining::Joining;
use super::messages::MessageReader;
use crate::event::Event;
use crate::protocol::engine::log::IncomingLog;
use crate::transport::Connection;

/// Control messages overtake parcels.
pub(super) const CONTROL_PRIORITY: i32 = 2;

/// A connection with its control stream. The listener has let the dialler in; the dialler learns it from the welcome.
pub struct Link<C: Connection> {
    /// The connection.
    pub connection: C,
    /// Name and version of the peer's program, escaped; none before the welcome.
    pub agent: Option<String>,
    /// Extra connections.
    pub joining: Joining<C>,
    /// Tells who is outside which connection carries the session.
    pub(super) carried: watch::Sender<Option<C>>,
    pub(super) control_out: C::Send,
    pub(super) control_in: MessageReader<C::Recv>,
    /// Numbers the messages after the greeting.
    pub(super) control_log: IncomingLog,
}

impl<C: Connection> Link<C> {
    /// Follows the connection that carries the session.
    pub fn carried(&self) -> Carried<C> {
        Carried::of(&self.carried)
    }
}

/// The event for the authenticated peer of `connection`, whose program is `agent`.
pub fn connected<C: Connection>(connection: &C, agent: String) -> Event {
    Event::Connected {
        address: connection.remote_address(),
        fingerprint: connection.peer_fingerprint().to_string(),
        agent,
    }
}
