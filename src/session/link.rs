//! The connection that a session begins with.

use super::joining::Joining;
use super::messages::MessageReader;
use crate::event::Event;
use crate::transport::Connection;

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
}

/// The event that tells of the authenticated peer of `connection`, whose program is called `agent`.
pub fn connected<C: Connection>(connection: &C, agent: String) -> Event {
    Event::Connected {
        address: connection.remote_address(),
        fingerprint: connection.peer_fingerprint().to_string(),
        agent,
    }
}
