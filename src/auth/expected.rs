//! The identity expected of a peer.

use super::{Fingerprint, FingerprintHead, Secret};

/// The identity expected of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The holder of this key, as TLS shows it.
    Key(Fingerprint),
    /// The holder of a key whose fingerprint begins like this.
    Head(FingerprintHead),
    /// Anyone who knows this secret. TLS accepts any key; the handshake proves the secret.
    Secret(Secret),
    /// Anyone who knows the code of the method. TLS accepts any key; the handshake proves the code.
    Code,
    /// Anyone with the certificate of the method. TLS accepts any key; the handshake proves the certificate.
    Certificate,
}

impl Expected {
    /// Whether TLS accepts a peer with the key `shown`.
    pub fn takes_key(&self, shown: Fingerprint) -> bool {
        match self {
            Self::Key(expected) => *expected == shown,
            Self::Head(expected) => *expected == shown.head(),
            Self::Secret(_) | Self::Code | Self::Certificate => true,
        }
    }

    /// Whether acceptance by TLS alone proves the peer.
    pub fn is_proved_by_tls(&self) -> bool {
        match self {
            Self::Key(_) | Self::Head(_) => true,
            Self::Secret(_) | Self::Code | Self::Certificate => false,
        }
    }

    /// The beginning of the expected fingerprint, if TLS has to show one.
    pub fn key_text(&self) -> Option<String> {
        match self {
            Self::Key(key) => Some(key.to_string()),
            Self::Head(head) => Some(head.to_string()),
            Self::Secret(_) | Self::Code | Self::Certificate => None,
        }
    }
}
