//! The name of a known peer.

use std::fmt;
use std::str::FromStr;

use crate::auth::resembles_ticket;
use crate::protocol::path::printable;

/// Maximum characters of a name.
const NAME_CHARS_MAX: usize = 64;

/// The name that this machine's user has given to a peer. It is safe to print, and no other form of PEER looks like it,
/// except for a host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct PeerName(String);

/// Why a text cannot be the name of a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be the name of a peer: {why}")]
pub struct NameError {
    /// The text, escaped.
    pub text: String,
    /// The problem.
    pub why: &'static str,
}

impl PeerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PeerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = |why| Err(NameError { text: printable(text.as_bytes()), why });
        // So it is neither an IP address nor a code.
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return error("it must begin with a letter");
        }
        if text.len() > NAME_CHARS_MAX {
            return error("it is longer than 64 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return error("only letters, digits, `-`, `_` and `.` are allowed");
        }
        if resembles_ticket(text) {
            return error("it looks like a ticket");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PeerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_words_that_nothing_else_looks_like() {
        for good in ["a", "laptop", "Backup-2.example_org", &"x".repeat(64)] {
            assert_eq!(good.parse::<PeerName>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", "begin with a letter"),
            ("7-crossover-clockwork", "begin with a letter"),
            ("192.0.2.7", "begin with a letter"),
            ("-x", "begin with a letter"),
            ("é", "begin with a letter"),
            (&*"x".repeat(65), "longer than 64"),
            ("a b", "only letters"),
            ("a\u{1b}[2J", "only letters"),
            ("dir:x", "only letters"),
            ("tl1abc", "looks like a ticket"),
        ] {
            let error = bad.parse::<PeerName>().unwrap_err();
            assert!(error.why.contains(why), "{bad}: {error}");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }
}
