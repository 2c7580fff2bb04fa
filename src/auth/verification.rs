//! Words that two people compare to be sure that nobody is in between.

use super::Fingerprint;
use super::code::words_for;

/// Separates this use of an exporter from any other. Must never change.
const CONTEXT: &str = "towline 1 2026 words that two people compare";
/// 41 bits. A man in the middle can try keys only as long as a TLS handshake lasts.
const WORDS: usize = 4;

/// The words for a TLS session with this `exporter` between two machines, in either order.
pub fn verification(exporter: &[u8; 32], one: Fingerprint, other: Fingerprint) -> String {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let material = [&exporter[..], first.as_bytes(), second.as_bytes()].concat();
    words_for(&blake3::derive_key(CONTEXT, &material), WORDS).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Fingerprint = Fingerprint::from_bytes([1; 32]);
    const OTHER: Fingerprint = Fingerprint::from_bytes([2; 32]);

    /// The value is part of the protocol.
    /// [W-55]
    #[test]
    fn both_sides_get_the_same_words_and_another_session_or_key_gives_others() {
        let exporter = b"exporterexporterexporterexporter";
        let words = verification(exporter, ONE, OTHER);
        assert_eq!(words, "rustproof-arsonist-cognitive-favorite");
        assert_eq!(verification(exporter, OTHER, ONE), words);
        assert_ne!(verification(&[1; 32], ONE, OTHER), words);
        assert_ne!(verification(exporter, ONE, Fingerprint::from_bytes([3; 32])), words);
    }
}
