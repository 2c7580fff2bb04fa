//! Known peers: machines that have a name here. A known peer is authenticated by its key alone.

mod edit;
mod entry;
mod error;
mod file;
mod name;

pub use entry::{KnownPeer, KnownPeers, PeerChange, Right, exists_word};
pub use error::PeersError;
pub use file::PeersFile;
pub use name::{NameError, PeerName};
