//! `--remember NAME`: a peer that was met once is known from then on.

use std::net::SocketAddr;

use super::peers;
use super::settings::{CommonSettings, Remember, Right};
use crate::auth::Fingerprint;
use crate::event::{Event, Reporter};
use crate::node::peers::{KnownPeer, PeersError};
use crate::protocol::failure::{Failure, Reason};
use crate::transport::address::{DEFAULT_PORT, HostPort};

/// The name stands for a machine with another key than `peer`.
pub(super) fn changed_key(common: &CommonSettings, peer: Fingerprint) -> Option<Failure> {
    let Remember { name, known, .. } = common.remember.as_ref()?;
    let known = known.filter(|known| *known != peer)?;
    let message =
        format!("the peer has fingerprint {peer}, but {name} is known with the fingerprint {known}");
    Some(Failure::new(Reason::NotAuthenticated, message))
}

/// A peer that was reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    pub(super) fingerprint: Fingerprint,
    pub(super) address: SocketAddr,
    /// This side has dialled it, so it waits there.
    pub(super) is_dialled: bool,
}

/// Keeps the peer of a transfer that ended, perhaps with `failure`, and reports it. The peer gets `right`. Nothing is kept of a
/// peer that let nobody in.
pub(super) async fn keep(
    remember: Option<Remember>,
    met: Met,
    right: Right,
    failure: Option<&Failure>,
    reporter: &dyn Reporter,
) {
    let Some(remember) = remember else { return };
    if failure.is_some_and(|failure| is_refusal(failure, met)) {
        return;
    }
    let name = remember.name.clone();
    let kept = tokio::task::spawn_blocking(move || write(&remember, met, right)).await;
    let message = match kept {
        Ok(Ok(peer)) => return reporter.report(Event::Remembered(peers::machine(&name, &peer))),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let message = format!("the peer is not remembered: {message}");
    reporter.report(Event::Warning { path: None, reason: None, message });
}

fn write(remember: &Remember, met: Met, right: Right) -> Result<KnownPeer, PeersError> {
    let Remember { name, file, .. } = remember;
    let ip = met.address.ip().to_canonical();
    // A peer that dialled has said nothing about where it would wait.
    let port = if met.is_dialled { met.address.port() } else { DEFAULT_PORT };
    let address = HostPort { host: ip.to_string(), port };
    let (fingerprint, addresses, may) = (met.fingerprint, vec![address], vec![right]);
    let peer = KnownPeer { may, ..KnownPeer::new(fingerprint, addresses) };
    match file.add(name, &peer) {
        Err(PeersError::NameTaken { known, .. }) if known == met.fingerprint => {
            match met.is_dialled {
                true => file.prefer_address(name, &peer.addresses[0]),
                // Where it waits is not known better than before.
                false => file.known(name),
            }
        }
        other => other.map(|()| peer),
    }
}

/// The peers did not come together. A sender that dials begins before it is welcomed, so the other side may still have
/// turned it away.
fn is_refusal(failure: &Failure, met: Met) -> bool {
    let may_be_unwelcome = met.is_dialled && failure.from_peer;
    if may_be_unwelcome && matches!(failure.reason, Reason::Busy | Reason::Refused | Reason::Interrupted) {
        return true;
    }
    matches!(
        failure.reason,
        Reason::NotAuthenticated
            | Reason::TicketUsed
            | Reason::TicketExpired
            | Reason::Incompatible
            | Reason::Unreachable
            | Reason::Protocol
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::peers::PeersFile;

    fn met(address: &str, is_dialled: bool) -> Met {
        Met { fingerprint: Fingerprint::from_bytes([1; 32]), address: address.parse().unwrap(), is_dialled }
    }

    #[test]
    fn only_addresses_that_were_dialled_come_into_an_entry_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let file = PeersFile::at(Some(dir.path().join("towline/peers.toml")));
        let remember = Remember { name: "bob".parse().unwrap(), file, known: None };
        let addresses = |met: Met| -> Vec<String> {
            let peer = write(&remember, met, Right::Send).unwrap();
            peer.addresses.iter().map(ToString::to_string).collect()
        };
        assert_eq!(addresses(met("192.0.2.1:9", false)), ["192.0.2.1:4750"]);
        assert_eq!(addresses(met("192.0.2.2:9", false)), ["192.0.2.1:4750"]);
        assert_eq!(addresses(met("192.0.2.3:9", true)), ["192.0.2.3:9", "192.0.2.1:4750"]);
        for port in 10..50 {
            addresses(met(&format!("192.0.2.3:{port}"), true));
        }
        let many = addresses(met("192.0.2.3:9", true));
        assert_eq!((many.len(), many.last().map(String::as_str)), (8, Some("192.0.2.1:4750")));
    }

    #[test]
    fn a_peer_that_let_nobody_in_is_not_kept() {
        for reason in [Reason::Busy, Reason::Refused, Reason::Interrupted] {
            let mut told = Failure::new(reason, "");
            told.from_peer = true;
            assert!(is_refusal(&told, met("192.0.2.1:9", true)), "{reason:?}");
            assert!(!is_refusal(&told, met("192.0.2.1:9", false)), "{reason:?}");
        }
    }
}
