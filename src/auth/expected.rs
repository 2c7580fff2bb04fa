//! The identity expected of a peer.

use super::{Fingerprint, Secret};

/// The identity expected of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The holder of this key, as TLS shows it.
    Key(Fingerprint),
    /// Anyone who knows this secret. TLS accepts any key; the handshake proves the secret.
    Secret(Secret),
    /// Anyone who knows the code of the method. TLS accepts any key; the handshake proves the code.
    Code,
}

impl Expected {
    /// Whether TLS accepts a peer with the key `shown`.
    pub fn takes_key(&self, shown: Fingerprint) -> bool {
        match self {
            Self::Key(expected) => *expected == shown,
            Self::Secret(_) | Self::Code => true,
        }
    }

    /// Whether acceptance by TLS alone proves the peer.
    pub fn is_proved_by_tls(&self) -> bool {
        match self {
            Self::Key(_) => true,
            Self::Secret(_) | Self::Code => false,
        }
    }
}
