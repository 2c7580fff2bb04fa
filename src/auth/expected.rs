//! What a peer must be.

use super::{Fingerprint, Secret};

/// What a peer must be to be the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The one with this key. TLS shows it.
    Key(Fingerprint),
    /// Anybody who knows this secret. TLS takes any key; the handshake proves the rest.
    Secret(Secret),
}

impl Expected {
    /// Whether TLS takes a peer with the key `shown`.
    pub fn takes_key(&self, shown: Fingerprint) -> bool {
        match self {
            Self::Key(expected) => *expected == shown,
            Self::Secret(_) => true,
        }
    }

    /// Whether TLS alone has proved a peer that it takes.
    pub fn is_proved_by_tls(&self) -> bool {
        match self {
            Self::Key(_) => true,
            Self::Secret(_) => false,
        }
    }
}
