//! The fingerprint of a key.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;

/// Characters of a fingerprint in base32 without padding.
const TEXT_CHARS: usize = 52;

/// The SubjectPublicKeyInfo (DER) of an Ed25519 key, up to the key itself.
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// SHA-256 of a peer's SubjectPublicKeyInfo (DER), so it outlives the certificate around the key.
///
/// Shown as 52 characters of lower-case base32; upper case and grouping by `-` or spaces are read as well.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// Bytes of a [`FingerprintHead`].
pub(super) const HEAD_BYTES: usize = 20;

/// The first 160 bits of a fingerprint, for places that have little room. To find another key with the same head takes
/// 2^160 attempts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FingerprintHead([u8; HEAD_BYTES]);

impl FingerprintHead {
    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; HEAD_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; HEAD_BYTES] {
        &self.0
    }
}

impl fmt::Display for FingerprintHead {
    /// As the fingerprint begins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

/// Why a text or a certificate has no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Wrong number of characters, grouping aside.
    #[error("a fingerprint has {TEXT_CHARS} characters, not {0}")]
    Length(usize),
    /// A character outside base32, or non-zero bits after the last byte.
    #[error("this is not a fingerprint: only the letters a-z and the digits 2-7 are allowed")]
    Encoding,
    /// The bytes are not an X.509 certificate.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
}

impl Fingerprint {
    /// Wraps a digest.
    pub const fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first 160 bits.
    pub const fn head(&self) -> FingerprintHead {
        let (head, _) = self.0.split_at(HEAD_BYTES);
        let mut bytes = [0; HEAD_BYTES];
        bytes.copy_from_slice(head);
        FingerprintHead(bytes)
    }

    /// The fingerprint of the key in `certificate`; its other fields are ignored.
    ///
    /// # Errors
    ///
    /// [`FingerprintError::Certificate`] when it is not an X.509 certificate.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, FingerprintError> {
        let parsed = ParsedCertificate::try_from(certificate)
            .map_err(|e| FingerprintError::Certificate(e.to_string()))?;
        Ok(Self::of_key_info(&parsed.subject_public_key_info()))
    }

    /// The fingerprint of an Ed25519 key.
    pub fn of_ed25519(key: &[u8; 32]) -> Self {
        Self::of_key_info(&[&ED25519_PREFIX[..], key].concat())
    }

    fn of_key_info(key_info: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key_info);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl fmt::Debug for FingerprintHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FingerprintHead({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let letters = || text.chars().filter(|c| *c != '-' && !c.is_ascii_whitespace());
        let count = letters().count();
        if count != TEXT_CHARS {
            return Err(FingerprintError::Length(count));
        }
        let plain: String = letters().collect();
        let bytes = BASE32_NOPAD_NOCASE.decode(plain.as_bytes()).map_err(|_| FingerprintError::Encoding)?;
        bytes.try_into().map(Self).map_err(|_| FingerprintError::Encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_in_any_case_and_grouping() {
        let fingerprint = Fingerprint::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        let text = fingerprint.to_string();
        assert_eq!(text.len(), TEXT_CHARS);
        assert_eq!(text, text.to_lowercase());
        let grouped: Vec<&str> = text.as_bytes().chunks(4).map(|c| str::from_utf8(c).unwrap()).collect();
        for form in
            [text.clone(), text.to_uppercase(), grouped.join("-"), format!(" {}\n", grouped.join(" "))]
        {
            assert_eq!(form.parse(), Ok(fingerprint), "{form:?}");
        }
    }

    #[test]
    fn a_head_is_the_beginning() {
        let fingerprint = Fingerprint::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let head = fingerprint.head();
        assert_eq!(head.as_bytes()[..], fingerprint.as_bytes()[..HEAD_BYTES]);
        assert!(fingerprint.to_string().starts_with(head.to_string().trim_end_matches('…')));
    }

    /// [W-7]
    #[test]
    fn invalid_fingerprints_say_why() {
        let text = Fingerprint::from_bytes([0; 32]).to_string();
        assert_eq!(text[1..].parse::<Fingerprint>(), Err(FingerprintError::Length(51)));
        assert_eq!("".parse::<Fingerprint>(), Err(FingerprintError::Length(0)));
        assert_eq!(text.replacen('a', "1", 1).parse::<Fingerprint>(), Err(FingerprintError::Encoding));
        // 52 characters carry 260 bits; the last four must be zero, or two texts would name one key.
        let bits_behind = format!("{}b", &text[..51]);
        assert_eq!(bits_behind.parse::<Fingerprint>(), Err(FingerprintError::Encoding));
        let accented = format!("{}é", &text[..51]);
        assert_eq!(accented.parse::<Fingerprint>(), Err(FingerprintError::Encoding));
    }

    #[test]
    fn garbage_is_no_certificate() {
        let garbage = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        assert!(matches!(Fingerprint::of_certificate(&garbage), Err(FingerprintError::Certificate(_))));
    }
}
