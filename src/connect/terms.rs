//! What the connections of this side are made with.

use crate::auth::Identity;
use crate::protocol::wire::role::Role;
use crate::session::Budget;
use crate::transport::Limits;

/// What the connections of this side are made with.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What this side is there for.
    pub role: Role,
    /// Its key.
    pub identity: Identity,
    /// Connections that were asked for here.
    pub connections: Option<u32>,
    /// Limits of the first connection.
    pub limits: Limits,
    /// What extra connections share with the first.
    pub budget: Budget,
}
