//! What the connections of this side are made with.

use crate::protocol::wire::role::Role;
use crate::session::Budget;
use crate::transport::Limits;

/// What the connections of this side are made with.
#[derive(Debug, Clone)]
pub struct Terms<N> {
    /// What this side is there for.
    pub role: Role,
    /// The transport, with the key of this side.
    pub network: N,
    /// Connections that were asked for here.
    pub connections: Option<u32>,
    /// Limits of the first connection.
    pub limits: Limits,
    /// What extra connections share with the first.
    pub budget: Budget,
}
