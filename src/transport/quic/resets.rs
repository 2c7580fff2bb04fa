//! Stateless resets (RFC 9000, section 10.3) that do not overtake a close.
//!
//! quinn forgets a connection three probe time-outs after its close: some milliseconds on a fast path. A peer that was
//! not given the processor for longer than that then finds two datagrams, the close and the reset that answers its own
//! packets, and quinn-proto would report the reset alone. So the first answers, for a while, are resets that the peer
//! does not recognize and drops.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quinn::crypto::{CryptoError, HmacKey};
use tokio::time::Instant;

/// How long a peer that goes on sending is not told.
const SILENCE: Duration = Duration::from_secs(3);
/// Connection ids that are remembered. A connection has up to eight. The peer of an earlier one is told at once.
const KNOWN_MAX: usize = 1024;

/// Makes the tokens of connection ids, and later those of resets.
pub(in crate::transport) struct LateResets {
    right: [u8; 32],
    wrong: [u8; 32],
    /// Ids in the order of their first token, and when the second one was asked for, which is the first reset.
    known: Mutex<VecDeque<(Vec<u8>, Option<Instant>)>>,
}

impl LateResets {
    /// With keys for this process.
    ///
    /// # Panics
    ///
    /// When the system has no random numbers.
    pub(in crate::transport) fn generate() -> Self {
        let key = || {
            let mut key = [0; 32];
            getrandom::fill(&mut key).expect("the system has no random numbers");
            key
        };
        Self { right: key(), wrong: key(), known: Mutex::default() }
    }

    /// Whether the token of `id` may be the right one.
    fn is_time(&self, id: &[u8]) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, asked_at)) = known.iter_mut().find(|(other, _)| other == id) {
            return asked_at.get_or_insert_with(Instant::now).elapsed() >= SILENCE;
        }
        known.truncate(KNOWN_MAX - 1);
        known.push_front((id.to_owned(), None));
        true
    }
}

impl HmacKey for LateResets {
    fn sign(&self, id: &[u8], token: &mut [u8]) {
        let key = if self.is_time(id) { &self.right } else { &self.wrong };
        token.copy_from_slice(blake3::keyed_hash(key, id).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, id: &[u8], token: &[u8]) -> Result<(), CryptoError> {
        // `blake3::Hash` compares in constant time.
        let token = <[u8; blake3::OUT_LEN]>::try_from(token).map_err(|_| CryptoError)?;
        if blake3::keyed_hash(&self.right, id) == token { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(resets: &LateResets, id: &[u8]) -> [u8; 32] {
        let mut token = [0; 32];
        resets.sign(id, &mut token);
        token
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_resets_are_not_recognized_and_later_ones_are() {
        let resets = LateResets::generate();
        let issued = token(&resets, b"one");
        tokio::time::advance(SILENCE * 10).await;
        for _ in 0..2 {
            assert_ne!(token(&resets, b"one"), issued);
            tokio::time::advance(SILENCE / 3).await;
        }
        tokio::time::advance(SILENCE).await;
        assert_eq!(token(&resets, b"one"), issued);
        assert!(resets.verify(b"one", &issued).is_ok() && resets.verify(b"two", &issued).is_err());
        for id in 0..KNOWN_MAX {
            token(&resets, &id.to_be_bytes());
        }
        assert_eq!(resets.known.lock().unwrap().len(), KNOWN_MAX);
        assert_eq!(token(&resets, b"one"), issued, "forgotten");
    }
}
