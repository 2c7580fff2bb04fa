//! Settings for the connections of one side.

use crate::protocol::wire::role::Role;
use crate::session::{Budget, Retry};
use crate::transport::Limits;

/// The settings for this side's connections.
#[derive(Debug, Clone)]
pub struct Terms<N> {
    /// What this side does: send or receive, files or a bench.
    pub role: Role,
    /// The transport, with the key of this side.
    pub network: N,
    /// The number of connections that the user of this side asked for.
    pub connections: Option<u32>,
    /// Limits of the first connection.
    pub limits: Limits,
    /// How long to wait for another connection after a loss.
    pub retry: Retry,
    /// The memory that extra connections share with the first.
    pub budget: Budget,
}
