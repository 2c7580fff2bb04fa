//! Receipts: what a receiver says of a transfer, signed with its key.
//!
//! A receipt is a text. The lines up to the signature are what is signed, so a reader needs no other form of it.

use std::fmt::Write;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE, HEXLOWER};
use jiff::Timestamp;

use super::{Fingerprint, Identity};
use crate::protocol::wire::seal::Seal;

/// The first line. It also keeps the signature from counting for anything else.
const FIRST_LINE: &str = "towline receipt 1";
/// Largest receipt.
pub const RECEIPT_BYTES_MAX: u64 = 4096;

/// What a receiver says of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The transfer.
    pub transfer: [u8; 16],
    /// When it ended, seconds since 1970 by the receiver's clock.
    pub time: i64,
    /// Who sent.
    pub sender: Fingerprint,
    /// Who received and signs.
    pub receiver: Fingerprint,
    /// The receiver keeps its key. Without this, the key was for one run, and nobody can say later whose it was.
    pub is_lasting: bool,
    /// Files that are at the receiver: new, replaced, and those that were there.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// The root of the manifest of these files.
    pub manifest: blake3::Hash,
    /// Everything is durable.
    pub synced: bool,
    /// Files that were read back from the disk, if the receiver did that.
    pub verified: Option<u64>,
}

/// A statement with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What is said.
    pub statement: Statement,
    /// The Ed25519 key that has signed it.
    pub key: [u8; 32],
    /// The signature.
    pub signature: [u8; 64],
}

/// Why a text is no valid receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It has another form.
    #[error("this is not a receipt of this version of towline: {0}")]
    Malformed(String),
    /// The key is not the receiver's.
    #[error("it was signed with another key than that of the receiver it names")]
    OtherKey,
    /// The signature is not of this text and key.
    #[error("the signature does not match; the receipt was changed, or is not from this receiver")]
    Signature,
}

impl Statement {
    /// The text that is signed with `key`.
    fn text(&self, key: &[u8; 32]) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        let mut line = |name: &str, value: String| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{name}: {value}");
        };
        line("transfer", HEXLOWER.encode(&self.transfer));
        line("time", Timestamp::from_second(self.time).unwrap_or_default().to_string());
        line("sender", self.sender.to_string());
        line("receiver", self.receiver.to_string());
        line("lasting key", yes_or_no(self.is_lasting));
        line("files", self.files.to_string());
        line("bytes", self.bytes.to_string());
        line("manifest", self.manifest.to_hex().to_string());
        line("synced", yes_or_no(self.synced));
        line("read back", self.verified.map_or("no".to_owned(), |files| files.to_string()));
        line("key", base32(key));
        text
    }
}

impl Receipt {
    /// The statement, signed with the key of `identity`; `None` if that is not an Ed25519 key.
    pub fn sign(statement: Statement, identity: &Identity) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(identity.key().secret_der()).ok()?;
        let key = pair.public_key().as_ref().try_into().ok()?;
        let signature = pair.sign(statement.text(&key).as_bytes()).as_ref().try_into().ok()?;
        Some(Self { statement, key, signature })
    }

    /// What travels of it: the sender knows the rest.
    pub fn seal(&self) -> Seal {
        let Self { statement: Statement { time, is_lasting, .. }, key, signature } = self;
        Seal {
            time: u64::try_from(*time).unwrap_or(0),
            is_lasting: *is_lasting,
            key: *key,
            signature: *signature,
        }
    }

    /// Checks that the receiver named in it has signed all of it.
    pub fn verify(&self) -> Result<(), ReceiptError> {
        if Fingerprint::of_ed25519(&self.key) != self.statement.receiver {
            return Err(ReceiptError::OtherKey);
        }
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(self.statement.text(&self.key).as_bytes(), &self.signature)
            .map_err(|_| ReceiptError::Signature)
    }

    /// The text of it.
    pub fn text(&self) -> String {
        format!("{}signature: {}\n", self.statement.text(&self.key), base32(&self.signature))
    }
}

impl FromStr for Receipt {
    type Err = ReceiptError;

    fn from_str(text: &str) -> Result<Self, ReceiptError> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(ReceiptError::Malformed(format!("it does not begin with `{FIRST_LINE}`")));
        }
        let mut value = |name: &'static str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.map(str::to_owned).ok_or_else(|| malformed(name))
        };
        let statement = Statement {
            transfer: bytes(HEXLOWER.decode(value("transfer")?.as_bytes()).ok(), "transfer")?,
            time: value("time")?.parse::<Timestamp>().map_err(|_| malformed("time"))?.as_second(),
            sender: value("sender")?.parse().map_err(|_| malformed("sender"))?,
            receiver: value("receiver")?.parse().map_err(|_| malformed("receiver"))?,
            is_lasting: is_yes(&value("lasting key")?).ok_or_else(|| malformed("lasting key"))?,
            files: value("files")?.parse().map_err(|_| malformed("files"))?,
            bytes: value("bytes")?.parse().map_err(|_| malformed("bytes"))?,
            manifest: blake3::Hash::from_hex(value("manifest")?).map_err(|_| malformed("manifest"))?,
            synced: is_yes(&value("synced")?).ok_or_else(|| malformed("synced"))?,
            verified: match value("read back")?.as_str() {
                "no" => None,
                files => Some(files.parse().map_err(|_| malformed("read back"))?),
            },
        };
        let key = bytes(from_base32(&value("key")?), "key")?;
        let signature = bytes(from_base32(&value("signature")?), "signature")?;
        let receipt = Self { statement, key, signature };
        // One form only: what a person reads is what was signed.
        match receipt.text() == text {
            true => Ok(receipt),
            false => Err(ReceiptError::Malformed("a line is not as towline writes it".to_owned())),
        }
    }
}

fn malformed(name: &str) -> ReceiptError {
    ReceiptError::Malformed(format!("its `{name}` cannot be read"))
}

fn bytes<const N: usize>(bytes: Option<Vec<u8>>, name: &str) -> Result<[u8; N], ReceiptError> {
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| malformed(name))
}

fn yes_or_no(is_it: bool) -> String {
    if is_it { "yes" } else { "no" }.to_owned()
}

fn is_yes(word: &str) -> Option<bool> {
    match word {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    BASE32_NOPAD_NOCASE.decode(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Identity;

    fn statement(receiver: Fingerprint) -> Statement {
        Statement {
            transfer: [7; 16],
            time: 1_700_000_000,
            sender: Fingerprint::from_bytes([1; 32]),
            receiver,
            is_lasting: true,
            files: 3,
            bytes: 5,
            manifest: blake3::hash(b""),
            synced: true,
            verified: Some(2),
        }
    }

    fn receipt() -> Receipt {
        let identity = Identity::generate().unwrap();
        Receipt::sign(statement(identity.fingerprint()), &identity).unwrap()
    }

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let receipt = receipt();
        receipt.verify().unwrap();
        let text = receipt.text();
        assert!(text.starts_with("towline receipt 1\ntransfer: 0707"), "{text}");
        assert!(text.contains("\ntime: 2023-11-14T22:13:20Z\n"), "{text}");
        assert_eq!(text.parse::<Receipt>().unwrap(), receipt);
        // The sender makes the same from what it knows and the seal.
        let Seal { time, is_lasting, key, signature } = receipt.seal();
        let time = i64::try_from(time).unwrap();
        let statement = Statement { time, is_lasting, ..receipt.statement.clone() };
        assert_eq!(Receipt { statement, key, signature }, receipt);
    }

    #[test]
    fn a_receipt_that_differs_in_any_byte_does_not_count() {
        let text = receipt().text();
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'a' { b'b' } else { b'a' };
            let Ok(other) = String::from_utf8(other) else { continue };
            if other != text {
                assert!(other.parse::<Receipt>().and_then(|r| r.verify()).is_err(), "byte {at}: {other}");
            }
        }
        for (from, to) in [("files: 3", "files: 03"), ("\nsynced", "\n\nsynced"), ("yes", "YES")] {
            assert!(text.replacen(from, to, 1).parse::<Receipt>().is_err());
        }
        assert!(format!("{text}more\n").parse::<Receipt>().is_err());
    }

    #[test]
    fn nobody_signs_for_another_receiver() {
        let (receipt, other) = (receipt(), Identity::generate().unwrap());
        let forged = Receipt::sign(receipt.statement.clone(), &other).unwrap();
        assert_eq!(forged.verify(), Err(ReceiptError::OtherKey));
        let stolen = Receipt { key: receipt.key, ..forged };
        assert_eq!(stolen.verify(), Err(ReceiptError::Signature));
    }
}
