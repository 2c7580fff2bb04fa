//! The connection that a session begins with.

use super::joining::Joining;
use super::messages::MessageReader;
use crate::event::Event;
use crate::protocol::engine::log::IncomingLog;
use crate::transport::Connection;

/// Control messages overtake parcels.
pub(super) const CONTROL_PRIORITY: i32 = 2;

/// A connection with its control stream. The listener has let the dialler in; the dialler knows it once it has
/// been welcomed.
pub struct Link<C: Connection> {
    /// The connection.
    pub connection: C,
    /// Name and version of the peer's program, escaped; none while a dialler has not been welcomed.
    pub agent: Option<String>,
    /// Extra connections.
    pub joining: Joining<C>,
    pub(super) control_out: C::Send,
    pub(super) control_in: MessageReader<C::Recv>,
    /// Numbers what comes behind the greeting.
    pub(super) control_log: IncomingLog,
}

/// The event that tells of the authenticated peer of `connection`, whose program is called `agent`.
pub fn connected<C: Connection>(connection: &C, agent: String) -> Event {
    Event::Connected {
        address: connection.remote_address(),
        fingerprint: connection.peer_fingerprint().to_string(),
        agent,
    }
}
