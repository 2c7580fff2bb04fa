//! Sources of incoming diallers.

use std::net::SocketAddr;

use super::connection::Connection;
use super::error::TransportError;

/// A source of diallers: a socket, or its test double. Cheap to clone.
pub trait Listen: Clone + Send + Sync + 'static {
    /// A dialler that has arrived.
    type Arrival: Arrival;

    /// The next dialler; `None` when no more can arrive.
    fn accept(&self) -> impl Future<Output = Option<Self::Arrival>> + Send;
}

/// A dialler whose handshake has not begun. Dropped, it is refused.
pub trait Arrival: Send + 'static {
    /// The connection made by the handshake.
    type Connection: Connection;

    /// Its address, not proved yet.
    fn remote_address(&self) -> SocketAddr;
    /// Finishes the handshake. This only shows that the dialler holds a key.
    fn handshake(self) -> impl Future<Output = Result<Self::Connection, TransportError>> + Send;
}
