//! Why the known peers cannot be used or changed.

use std::io;
use std::path::PathBuf;

use super::name::PeerName;
use crate::auth::Fingerprint;
use crate::protocol::path::printable;

/// Why the known peers cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// There is no home directory.
    #[error("there is no home directory for the file of known peers; set XDG_CONFIG_HOME or HOME")]
    NoHome,
    /// A system call failed.
    #[error("cannot {op} the file of known peers {}: {cause}", shown(path))]
    Io {
        /// The operation: `read` or `write`.
        op: &'static str,
        /// Its path.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// Group or others may write the file, and so choose who is let in.
    #[error("other users can change {p} (mode {mode:04o}); fix it with: chmod 600 {p}", p = shown(path))]
    OthersCanChange {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Group or others may write its directory, and so put another file in its place.
    #[error(
        "other users can replace the file of known peers in {p} (mode {mode:04o}); fix it with: chmod go-w {p}",
        p = shown(dir)
    )]
    OthersCanReplace {
        /// The directory.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to neither this user nor root.
    #[error(
        "{p} belongs to another user ({owner}), who can change it; fix it with: chown \"$(id -u)\" {p}",
        p = shown(path)
    )]
    OfOtherUser {
        /// The file.
        path: PathBuf,
        /// The number of its owner.
        owner: u32,
    },
    /// The content is invalid.
    #[error("in the file of known peers {}, line {line}: {what}", shown(path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
        /// The problem.
        what: String,
    },
    /// Two entries have the same key, so it is not clear which one counts.
    #[error("in the file of known peers {}: {first} and {second} have the same fingerprint", shown(path))]
    Twice {
        /// The file.
        path: PathBuf,
        /// Names of the entries.
        first: PeerName,
        /// Names of the entries.
        second: PeerName,
    },
    /// A quota is about a directory, and this peer has none of its own.
    #[error(
        "in the file of known peers {}: {name} has a `quota`, which needs `into`, a directory of its own",
        shown(path)
    )]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// Name of the entry.
        name: PeerName,
    },
    /// The name has no entry.
    #[error("`{name}` is not a known peer{}", did_you_mean(near))]
    Unknown {
        /// The name.
        name: PeerName,
        /// Names that are nearly the same.
        near: Vec<PeerName>,
    },
    /// The name has an entry already.
    #[error("{name} is already known, with the fingerprint {known}")]
    NameTaken {
        /// The name.
        name: PeerName,
        /// The key that it stands for.
        known: Fingerprint,
    },
    /// The key has an entry already.
    #[error("the machine with the fingerprint {fingerprint} is already known as {name}")]
    KeyTaken {
        /// Its name.
        name: PeerName,
        /// The key.
        fingerprint: Fingerprint,
    },
}

fn shown(path: &std::path::Path) -> String {
    printable(path.as_os_str().as_encoded_bytes())
}

/// `; did you mean a or b?`, or nothing.
pub(super) fn did_you_mean(near: &[PeerName]) -> String {
    if near.is_empty() {
        return String::new();
    }
    let near: Vec<_> = near.iter().map(|name| format!("`{name}`")).collect();
    format!("; did you mean {}?", near.join(" or "))
}
