//! The one-time secret of a ticket, and the secret of a session.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Separates this use of the secret from any other. Must never change.
const PROOF_CONTEXT: &str = "towline 1 2026 ticket secret, proved over the TLS exporter";

/// 128 random bits in a ticket. A peer that proves them has been given the ticket.
///
/// The secret itself is never sent: the dialler sends [`Secret::proof`] over the keying material of the TLS session,
/// so a proof is useless in any other connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl Secret {
    /// Generates a secret with the system's random generator.
    ///
    /// # Panics
    ///
    /// When the system has no random numbers; nothing is secure then.
    pub fn generate() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has no random numbers");
        Self(bytes)
    }

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for a ticket or an introduction only.
    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Proves the secret to the other end of the TLS session whose exporter is `exporter`: BLAKE3 keyed with
    /// `derive_key(context, secret)`, over the exporter.
    pub fn proof(&self, exporter: &[u8; 32]) -> [u8; 32] {
        *self.proof_hash(exporter).as_bytes()
    }

    /// Whether `proof` fits this secret and session, in constant time.
    pub fn verify(&self, exporter: &[u8; 32], proof: &[u8; 32]) -> bool {
        // `blake3::Hash` compares in constant time.
        self.proof_hash(exporter) == blake3::Hash::from_bytes(*proof)
    }

    fn proof_hash(&self, exporter: &[u8; 32]) -> blake3::Hash {
        blake3::keyed_hash(&blake3::derive_key(PROOF_CONTEXT, &self.0), exporter)
    }
}

/// Separates this use of an exporter from any other. Must never change.
const JOIN_CONTEXT: &str = "towline 1 2026 session, joined by an extra connection over its TLS exporter";

/// A secret known only to the two ends of a session's first connection. An extra connection joins the session by
/// [`JoinKey::proof`], which is useless in any other connection.
#[derive(Clone, Copy)]
pub struct JoinKey([u8; 32]);

impl JoinKey {
    /// Derives the key from the keying material of the first connection.
    pub fn new(exporter: &[u8; 32]) -> Self {
        Self(blake3::derive_key(JOIN_CONTEXT, exporter))
    }

    /// Proves membership in the session to the other end of the TLS session whose exporter is `exporter`.
    pub fn proof(&self, exporter: &[u8; 32]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, exporter).as_bytes()
    }

    /// Whether `proof` fits this session and connection, in constant time.
    pub fn verify(&self, exporter: &[u8; 32], proof: &[u8; 32]) -> bool {
        // `blake3::Hash` compares in constant time.
        blake3::keyed_hash(&self.0, exporter) == blake3::Hash::from_bytes(*proof)
    }
}

impl fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinKey(..)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [W-9], [R-1]
    #[test]
    fn a_proof_holds_for_its_secret_and_its_session_only() {
        let (secret, other) = (Secret::from_bytes([7; 16]), Secret::from_bytes([8; 16]));
        let proof = secret.proof(&[1; 32]);
        assert!(secret.verify(&[1; 32], &proof));
        assert!(!secret.verify(&[2; 32], &proof), "replayed in another session");
        assert!(!other.verify(&[1; 32], &proof), "another secret");
        let mut bent = proof;
        bent[31] ^= 1;
        assert!(!secret.verify(&[1; 32], &bent));
    }

    /// The value is part of the protocol.
    #[test]
    fn the_proof_is_pinned() {
        let proof = Secret::from_bytes(*b"0123456789abcdef").proof(b"exporterexporterexporterexporter");
        assert_eq!(
            data_encoding::HEXLOWER.encode(&proof),
            "1905885ad3d53398b68808f6d4f45388b91a6361e3575808e2fc27a6837c86fc"
        );
    }

    #[test]
    fn a_join_holds_for_its_session_and_its_connection_only() {
        let (key, other) = (JoinKey::new(&[1; 32]), JoinKey::new(&[2; 32]));
        let proof = key.proof(&[3; 32]);
        assert!(key.verify(&[3; 32], &proof));
        assert!(!key.verify(&[4; 32], &proof), "replayed in another connection");
        assert!(!other.verify(&[3; 32], &proof), "another session");
        assert_eq!(format!("{key:?}"), "JoinKey(..)");
    }

    /// The value is part of the protocol.
    #[test]
    fn the_join_is_pinned() {
        let proof =
            JoinKey::new(b"firstfirstfirstfirstfirstfirstfi").proof(b"exporterexporterexporterexporter");
        assert_eq!(
            data_encoding::HEXLOWER.encode(&proof),
            "ccc792967fcb068b6ea7acc4132f5ec0555a6e85ca74eae2d3cee6660af89b4e"
        );
    }

    #[test]
    fn secrets_differ_and_are_never_printed() {
        let (a, b) = (Secret::generate(), Secret::generate());
        assert_ne!(a, b);
        assert_eq!(format!("{a:?}"), "Secret(..)");
    }
}
