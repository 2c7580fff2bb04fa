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
    if failure.is_some_and(|failure| is_refusal(failure.reason)) {
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
    let peer = KnownPeer { fingerprint, addresses, may, into: None, exists: Vec::new() };
    match file.add(name, &peer) {
        Err(PeersError::NameTaken { known, .. }) if known == met.fingerprint => {
            file.prefer_address(name, &peer.addresses[0])
        }
        other => other.map(|()| peer),
    }
}

/// The peers did not come together.
fn is_refusal(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NotAuthenticated
            | Reason::TicketUsed
            | Reason::Incompatible
            | Reason::Unreachable
            | Reason::Protocol
    )
}
