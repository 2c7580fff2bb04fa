//! Who a peer is: identities, fingerprints and tickets. Codes, known peers and PKI will have their place here.

/// SHA-256 of a peer's SubjectPublicKeyInfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);
