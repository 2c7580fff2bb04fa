//! Where diallers arrive.

use std::net::SocketAddr;

use super::connection::Connection;
use super::error::TransportError;

/// A place where diallers arrive: a socket, or a double of one. Cheap to clone.
pub trait Listen: Clone + Send + Sync + 'static {
    /// A dialler that has arrived.
    type Arrival: Arrival;

    /// The next dialler; `None` when no more will come.
    fn accept(&self) -> impl Future<Output = Option<Self::Arrival>> + Send;
}

/// A dialler whose handshake has not begun. Dropped, it is refused.
pub trait Arrival: Send + 'static {
    /// What the handshake makes.
    type Connection: Connection;

    /// Where it comes from; not proved yet.
    fn remote_address(&self) -> SocketAddr;
    /// Finishes the handshake. It shows that the dialler holds a key, and no more.
    fn handshake(self) -> impl Future<Output = Result<Self::Connection, TransportError>> + Send;
}
