//! `towline peers`: the machines that this one knows.

use super::settings::{PeersAction, PeersSettings};
use crate::event::{Event, KnownMachine, Reporter};
use crate::node::bounds::texts_of;
use crate::node::peers::{KnownPeer, PeerName, PeersError, exists_word};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::path::printable;

/// Lists or changes the known peers.
pub(super) fn run(settings: &PeersSettings, reporter: &dyn Reporter) -> Result<u8, Failure> {
    let PeersSettings { file, action } = settings;
    let tell = |name: &PeerName, peer: &KnownPeer| reporter.report(Event::Peer(machine(name, peer)));
    match action {
        PeersAction::List => {
            let known = file.load().map_err(|error| failure(&error))?;
            known.iter().for_each(|(name, peer)| tell(name, peer));
        }
        PeersAction::Add(name, peer) => {
            file.add(name, peer).map_err(|error| failure(&error))?;
            tell(name, peer);
        }
        PeersAction::Set(name, change) => {
            let peer = file.set(name, change).map_err(|error| failure(&error))?;
            tell(name, &peer);
        }
        PeersAction::Remove(name) => {
            file.remove(name).map_err(|error| failure(&error))?;
        }
        PeersAction::Rename(name, to) => {
            let peer = file.rename(name, to).map_err(|error| failure(&error))?;
            tell(to, &peer);
        }
    }
    Ok(0)
}

pub(super) fn machine(name: &PeerName, peer: &KnownPeer) -> KnownMachine {
    KnownMachine {
        name: name.to_string(),
        fingerprint: peer.fingerprint.to_string(),
        may: peer.may.iter().map(|right| right.as_str()).collect(),
        addresses: peer.addresses.iter().map(ToString::to_string).collect(),
        into: peer.into.as_ref().map(|dir| printable(dir.as_os_str().as_encoded_bytes())),
        exists: peer.exists.iter().copied().map(exists_word).collect(),
        quota_bytes: peer.quota,
        limits: texts_of(&peer.limits).iter().map(|text| printable(text.as_bytes())).collect(),
    }
}

pub(super) fn failure(error: &PeersError) -> Failure {
    Failure::new(Reason::Setup, error.to_string())
}
