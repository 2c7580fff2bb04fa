//! How a transport makes connections, as traits: it dials, and it listens.

use std::net::SocketAddr;
use std::time::Duration;

use super::address::{AddressError, HostPort, ListenAddress, resolve};
use super::connection::Connection;
use super::error::TransportError;
use super::limits::Limits;
use crate::auth::{Expected, Fingerprint};

/// A transport with the key of this side. Cheap to clone.
pub trait Network: Clone + Send + Sync + 'static {
    /// The connections that it makes.
    type Connection: Connection;
    /// The endpoint of its connections.
    type Endpoint: Endpoint<Arrival: Arrival<Connection = Self::Connection>>;

    /// The key of this side, which its peers see.
    fn fingerprint(&self) -> Fingerprint;
    /// Connects to the peer `expected`, at the first of `addresses` where it proves its key. The endpoint is returned
    /// for its [`Endpoint::wait_idle`].
    ///
    /// # Errors
    ///
    /// The most informative error of all addresses. [`TransportError::NotAuthenticated`], which names both
    /// fingerprints, comes first, then [`TransportError::Incompatible`], then any other. [`TransportError::NoAnswer`]
    /// comes last, after `limits.connect_timeout`; or [`TransportError::NobodyThere`], sooner, when all systems there
    /// report that nothing listens.
    fn dial(
        &self,
        addresses: &[SocketAddr],
        expected: Expected,
        limits: &Limits,
    ) -> impl Future<Output = Result<(Self::Connection, Self::Endpoint), TransportError>> + Send;
    /// The addresses of `host`, in the system's order of preference, without duplicates.
    ///
    /// # Errors
    ///
    /// [`AddressError::Unresolved`].
    fn resolve(&self, host: &HostPort) -> impl Future<Output = Result<Vec<SocketAddr>, AddressError>> + Send {
        resolve(host)
    }
    /// Listens; needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`TransportError::Lost`] when the address cannot be used.
    fn listen(&self, address: &ListenAddress, limits: &Limits) -> Result<Self::Endpoint, TransportError>;
}

/// This side's end of all connections that were dialled or have arrived at one place. Cheap to clone; lives until the
/// last clone and the last connection are gone.
pub trait Endpoint: Clone + Send + Sync + 'static {
    /// A dialler that has arrived.
    type Arrival: Arrival;

    /// The next dialler; `None` once the endpoint is closed, or if it does not listen. The caller should run its
    /// handshake in its own task, so that a slow one delays no other.
    fn accept(&self) -> impl Future<Output = Option<Self::Arrival>> + Send;
    /// No dialler can be let in any more. From now on diallers are only told so, a few at a time, so that they do not
    /// slow down the running session.
    fn close_to_newcomers(&self);
    /// The bound address.
    ///
    /// # Errors
    ///
    /// [`TransportError::Lost`] when the system does not tell.
    fn local_address(&self) -> Result<SocketAddr, TransportError>;
    /// The addresses for a ticket, the best first: one address if it was requested, else a few that other hosts may
    /// reach.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::local_address`].
    fn local_addresses(&self) -> Result<Vec<SocketAddr>, TransportError>;
    /// The fault of the endpoint, once it has failed.
    fn fault(&self) -> Option<&str>;
    /// Number of open connections.
    fn connections(&self) -> usize;
    /// Advice for the administrator of this host, if it could serve connections better.
    fn advice(&self) -> Option<String>;
    /// Accepts no more connections, and ends the open ones with `code` and `reason`.
    fn close(&self, code: u32, reason: &[u8]);
    /// Waits until closed connections have told their peers, for `at_most`; true if all have. If the process exits
    /// without this, its peer waits for the idle time-out.
    fn wait_idle(&self, at_most: Duration) -> impl Future<Output = bool> + Send;
}

/// A dialler whose handshake has not begun. It is refused when dropped.
pub trait Arrival: Send + 'static {
    /// The connection made by the handshake.
    type Connection: Connection;

    /// Its address, not proved yet.
    fn remote_address(&self) -> SocketAddr;
    /// Finishes the handshake. Any peer that proves a key succeeds: its fingerprint or secret must be checked before
    /// anything is done for it. A dialler that tries several addresses may close the others at once, with code 0.
    ///
    /// # Errors
    ///
    /// A [`TransportError`] of the handshake; [`TransportError::TimedOut`] for a slow one.
    fn handshake(self) -> impl Future<Output = Result<Self::Connection, TransportError>> + Send;
}
