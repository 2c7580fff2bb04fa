//! SPAKE2 over a code: both ends get the same key only if they have the same code and the same TLS session. Whoever has
//! not learns nothing but whether one guess was right.

use rand_core::{CryptoRng, RngCore};
use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::Code;

/// Separate the two ends and this version of the method. Must never change.
const DIALLER: &str = "towline 1 2026 one-time code, dialler";
const LISTENER: &str = "towline 1 2026 one-time code, listener";
/// Separate the confirmations. Must never change.
const DIALLER_CONFIRMS: &str = "towline 1 2026 one-time code, confirmation of the dialler";
const LISTENER_CONFIRMS: &str = "towline 1 2026 one-time code, confirmation of the listener";

/// One end of the exchange, which has sent its message.
pub(super) struct Pake(Spake2<Ed25519Group>);

/// What each end sends to prove that it has the key.
pub(super) struct Confirmations {
    /// Of the dialler.
    pub(super) dialler: blake3::Hash,
    /// Of the listener.
    pub(super) listener: blake3::Hash,
}

impl Pake {
    /// The dialler's end; also returns its message.
    pub(super) fn dialler(code: &Code, exporter: &[u8; 32]) -> (Self, Vec<u8>) {
        let (password, dialler, listener) = inputs(code, exporter);
        let (state, message) = Spake2::start_a_with_rng(&password, &dialler, &listener, SystemRandom);
        (Self(state), message)
    }

    /// The listener's end; also returns its message.
    pub(super) fn listener(code: &Code, exporter: &[u8; 32]) -> (Self, Vec<u8>) {
        let (password, dialler, listener) = inputs(code, exporter);
        let (state, message) = Spake2::start_b_with_rng(&password, &dialler, &listener, SystemRandom);
        (Self(state), message)
    }

    /// The confirmations that fit to the other end's message; `None` if that is not a message of the other end.
    pub(super) fn finish(self, message: &[u8]) -> Option<Confirmations> {
        let key = self.0.finish(message).ok()?;
        let confirmation = |context| blake3::Hash::from_bytes(blake3::derive_key(context, &key));
        Some(Confirmations {
            dialler: confirmation(DIALLER_CONFIRMS),
            listener: confirmation(LISTENER_CONFIRMS),
        })
    }
}

/// The names of the two ends hold the exporter, and the key depends on them.
fn inputs(code: &Code, exporter: &[u8; 32]) -> (Password, Identity, Identity) {
    let identity = |end: &str| Identity::new(&[end.as_bytes(), exporter].concat());
    (Password::new(code.reveal()), identity(DIALLER), identity(LISTENER))
}

/// The system's random generator.
struct SystemRandom;

impl RngCore for SystemRandom {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system has no random numbers");
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for SystemRandom {}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORTER: &[u8; 32] = b"exporterexporterexporterexporter";

    fn code() -> Code {
        "7-octopus-lantern".parse().unwrap()
    }

    /// Always the same bytes.
    struct Fixed(u8);

    impl RngCore for Fixed {
        fn next_u32(&mut self) -> u32 {
            rand_core::impls::next_u32_via_fill(self)
        }

        fn next_u64(&mut self) -> u64 {
            rand_core::impls::next_u64_via_fill(self)
        }

        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
            self.fill_bytes(bytes);
            Ok(())
        }
    }

    impl CryptoRng for Fixed {}

    /// The values are part of the protocol. The Python package `spake2` makes the same.
    #[test]
    fn messages_and_confirmations_are_pinned() {
        let (password, dialler, listener) = inputs(&code(), EXPORTER);
        let (a, from_a) = Spake2::start_a_with_rng(&password, &dialler, &listener, Fixed(1));
        let (b, from_b) = Spake2::start_b_with_rng(&password, &dialler, &listener, Fixed(2));
        let (a, b) = (Pake(a).finish(&from_b).unwrap(), Pake(b).finish(&from_a).unwrap());
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(hex(&from_a), "41f0142eb7b1410442000417d626410ee717fd80ea2242bca5a59bceca59a5305c");
        assert_eq!(hex(&from_b), "428209a0d1f1f41962b5fcd8adfe6f3177812c43cc392a36c6ec652fd6746a6370");
        assert_eq!(
            hex(a.dialler.as_bytes()),
            "57a343302ab73686921c71ae6e6bef972b78b3d50ca205dc91bdde499aac9d6a"
        );
        assert_eq!(
            hex(b.listener.as_bytes()),
            "da8b5d38530c3c16ffe2dc036c6b74ef7341f0f06e13dcc5e99c57b7681bdc9a"
        );
        assert!(a.dialler == b.dialler && a.listener == b.listener);
    }

    #[test]
    fn keys_fit_only_with_the_same_code_and_the_same_session() {
        let fits = |code_a: &Code, exporter_a, code_b: &Code, exporter_b| {
            let (a, from_a) = Pake::dialler(code_a, exporter_a);
            let (b, from_b) = Pake::listener(code_b, exporter_b);
            let (a, b) = (a.finish(&from_b).unwrap(), b.finish(&from_a).unwrap());
            a.dialler == b.dialler && a.listener == b.listener
        };
        let code = code();
        assert!(fits(&code, EXPORTER, &code, EXPORTER));
        assert!(!fits(&code, EXPORTER, &code, &[1; 32]), "passed on by a man in the middle");
        for other in ["8-octopus-lantern", "7-lantern-octopus", "7-octopus-lantern-abdomen"] {
            assert!(!fits(&code, EXPORTER, &other.parse().unwrap(), EXPORTER), "{other}");
        }
    }

    #[test]
    fn attack_10_a_message_is_not_taken_from_the_wrong_end() {
        let (_, from_a) = Pake::dialler(&code(), EXPORTER);
        let (_, from_b) = Pake::listener(&code(), EXPORTER);
        assert!(Pake::dialler(&code(), EXPORTER).0.finish(&from_a).is_none(), "reflected");
        assert!(Pake::listener(&code(), EXPORTER).0.finish(&from_b).is_none(), "reflected");
        for bad in [&[][..], &[0x42], &[0x42; 33], &[0x42; 34], &from_b[1..]] {
            assert!(Pake::dialler(&code(), EXPORTER).0.finish(bad).is_none(), "{bad:?}");
        }
    }
}
