//! Entries of known peers, as the file holds them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, Error};

use super::error::did_you_mean;
use super::name::PeerName;
use crate::auth::Fingerprint;
use crate::node::bounds::bounds_of;
use crate::node::size::parse_size;
use crate::protocol::final_name::Exists;
use crate::storage::fs::Bounds;
use crate::transport::address::HostPort;

/// Names that differ by little more than a typo are suggested.
const SIMILARITY_MIN: f64 = 0.75;
/// Maximum names that are suggested.
const SUGGESTIONS_MAX: usize = 3;

/// What a known peer may do when it dials this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Send files to it.
    Send,
    /// Receive files that it offers.
    Receive,
    /// Set owners, set-id bits and attributes of the system on the files that it sends.
    Archive,
    /// Have removed what it does not send, in the directories that it sends.
    Delete,
}

impl Right {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Archive => "archive",
            Self::Delete => "delete",
        }
    }
}

/// A machine with a name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KnownPeer {
    /// Its key.
    #[serde(deserialize_with = "fingerprint")]
    pub fingerprint: Fingerprint,
    /// Where it waits, best first.
    #[serde(default, deserialize_with = "addresses")]
    pub addresses: Vec<HostPort>,
    /// What it may do when it dials this machine.
    #[serde(default)]
    pub may: Vec<Right>,
    /// Where its files go at a receiver that stays, in the directory of that receiver unless it is absolute.
    #[serde(default)]
    pub into: Option<PathBuf>,
    /// What it may do to existing files at a receiver that stays; anything if this is empty.
    #[serde(default, deserialize_with = "exists")]
    pub exists: Vec<Exists>,
    /// Bytes that it may fill in its directory at a receiver that stays; any number without this.
    #[serde(default, deserialize_with = "quota")]
    pub quota: Option<u64>,
    /// Bounds of each of its transfers to a receiver that stays.
    #[serde(default, deserialize_with = "limits")]
    pub limits: Bounds,
}

/// What is changed of a known peer. An inner `None`, or an empty list, removes what was there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerChange {
    /// What it may do.
    pub may: Option<Vec<Right>>,
    /// Its directory.
    pub into: Option<Option<PathBuf>>,
    /// What it may do to existing files.
    pub exists: Option<Vec<Exists>>,
    /// Bytes that it may fill.
    pub quota: Option<Option<u64>>,
    /// Bounds of its transfers.
    pub limits: Option<Bounds>,
}

impl PeerChange {
    /// Changes `peer`.
    pub fn apply(&self, peer: &mut KnownPeer) {
        let Self { may, into, exists, quota, limits } = self.clone();
        peer.may = may.unwrap_or_else(|| std::mem::take(&mut peer.may));
        peer.into = into.unwrap_or_else(|| peer.into.take());
        peer.exists = exists.unwrap_or_else(|| std::mem::take(&mut peer.exists));
        peer.quota = quota.unwrap_or(peer.quota);
        peer.limits = limits.unwrap_or_else(|| std::mem::take(&mut peer.limits));
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl KnownPeer {
    /// A peer that may do nothing here.
    pub fn new(fingerprint: Fingerprint, addresses: Vec<HostPort>) -> Self {
        Self {
            fingerprint,
            addresses,
            may: Vec::new(),
            into: None,
            exists: Vec::new(),
            quota: None,
            limits: Bounds::default(),
        }
    }
}

/// The words of `--exists`.
const EXISTS_WORDS: [(&str, Exists); 4] = [
    ("refuse", Exists::Refuse),
    ("skip", Exists::Skip),
    ("replace", Exists::Replace),
    ("rename", Exists::Rename),
];

/// The word for `exists` in the file.
pub fn exists_word(exists: Exists) -> &'static str {
    EXISTS_WORDS.iter().find(|(_, known)| *known == exists).map_or("refuse", |(word, _)| word)
}

/// A size such as "10G", or a number of bytes.
fn quota<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Written {
        Bytes(u64),
        Size(String),
    }
    match Written::deserialize(from) {
        Ok(Written::Bytes(bytes)) => Ok(Some(bytes)),
        Ok(Written::Size(size)) => parse_size(&size).map(Some).map_err(D::Error::custom),
        Err(_) => Err(D::Error::custom("expected a size such as \"10G\" or a number of bytes")),
    }
}

fn limits<'de, D: Deserializer<'de>>(from: D) -> Result<Bounds, D::Error> {
    bounds_of(&Vec::<String>::deserialize(from)?).map_err(D::Error::custom)
}

fn fingerprint<'de, D: Deserializer<'de>>(from: D) -> Result<Fingerprint, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HostPort>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

/// What may be done to existing files.
fn exists<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Exists>, D::Error> {
    let read = |word: &String| {
        let found = EXISTS_WORDS.iter().find(|(known, _)| known == word).map(|(_, exists)| *exists);
        let expected = || D::Error::custom(format!("`{word}` is not one of refuse, skip, replace, rename"));
        found.ok_or_else(expected)
    };
    Vec::<String>::deserialize(from)?.iter().map(read).collect()
}

/// All known peers. No two of them have the same key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPeers(BTreeMap<PeerName, KnownPeer>);

impl KnownPeers {
    /// Those in `peers`.
    ///
    /// # Errors
    ///
    /// The names of two that have the same key.
    pub(super) fn new(peers: BTreeMap<PeerName, KnownPeer>) -> Result<Self, (PeerName, PeerName)> {
        let mut keys = BTreeMap::new();
        for (name, peer) in &peers {
            if let Some(first) = keys.insert(peer.fingerprint, name) {
                return Err((first.clone(), name.clone()));
            }
        }
        Ok(Self(peers))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&PeerName, &KnownPeer)> {
        self.0.iter()
    }

    /// The one with this name.
    pub fn named(&self, name: &str) -> Option<(&PeerName, &KnownPeer)> {
        self.0.iter().find(|(known, _)| known.as_str() == name)
    }

    /// The one with this key.
    pub fn with_key(&self, fingerprint: Fingerprint) -> Option<(&PeerName, &KnownPeer)> {
        self.0.iter().find(|(_, peer)| peer.fingerprint == fingerprint)
    }

    /// Those with an address at this host.
    pub fn at_host(&self, host: &str) -> Vec<(&PeerName, &KnownPeer)> {
        let is_at = |peer: &KnownPeer| peer.addresses.iter().any(|at| at.host.eq_ignore_ascii_case(host));
        self.0.iter().filter(|(_, peer)| is_at(peer)).collect()
    }

    /// Names that are nearly `name`, the nearest first.
    pub fn near(&self, name: &str) -> Vec<PeerName> {
        let name = name.to_ascii_lowercase();
        let likeness = |known: &PeerName| strsim::jaro(&known.as_str().to_ascii_lowercase(), &name);
        let mut near: Vec<_> = self.0.keys().map(|known| (likeness(known), known)).collect();
        near.retain(|(likeness, _)| *likeness >= SIMILARITY_MIN);
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        near.into_iter().take(SUGGESTIONS_MAX).map(|(_, known)| known.clone()).collect()
    }

    /// The end of a message about an unknown `name`: what it may have been meant for, or nothing.
    pub fn suggestion(&self, name: &str) -> String {
        did_you_mean(&self.near(name))
    }
}
