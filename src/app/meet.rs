//! How a command reaches its other side, from its settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::id;
use super::pki::certified;
use super::remember::{self, Met};
use super::settings::{CommonSettings, Machine, Peer};
use crate::auth::Identity;
use crate::connect::{self, Destination, Invitation, Stop, dial, dial_by_ssh, introduced, listen, pair};
use crate::event::{Asker, Reporter};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::role::Role;
use crate::session::{self, Budget};
use crate::transport::quic::endpoint::QuicNetwork;
use crate::transport::{Connection, ListenAddress};

/// The transport of all commands.
pub(super) type Terms = connect::Terms<QuicNetwork>;
/// A peer reached by it.
pub(super) type Connected = connect::Connected<QuicNetwork>;

/// After this long without an answer, the peer counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// Reaches the other side: dials `peer`, or waits for one peer to dial. `asker` decides what `peer` leaves open. The listener has not welcomed a dialling
/// sender by the time this returns. Also returns this side's key, and the `stop` for what follows.
pub(super) async fn meet(
    role: Role,
    peer: Option<&Peer>,
    what: Vec<PathBuf>,
    common: &CommonSettings,
    budget: Budget,
    (reporter, asker): (&Arc<dyn Reporter>, Option<&dyn Asker>),
    mut stop: Stop,
) -> Result<(Connected, Arc<Identity>, Stop), Failure> {
    let is_known_by_key = matches!(peer, Some(Peer::Machine(_))) || common.remember.is_some();
    let identity = Arc::new(id::own(is_known_by_key)?);
    let terms = Terms { connections: common.connections, ..terms(role, &identity, common, budget) };
    let connected = match peer {
        Some(Peer::Ssh(remote)) => dial_by_ssh(remote, &terms, reporter.as_ref(), asker, &mut stop).await?,
        Some(Peer::Stdio) => {
            // The other side will say when it is gone.
            let (connected, stopped) = introduced(listen_address(common), &terms, &mut stop).await?;
            stop = stopped;
            connected
        }
        Some(peer) => dial(&destination(peer, common)?, &terms, &mut stop).await?,
        None => {
            let address = listen_address(common);
            let (allowed, wait) = (common.allowed.clone(), common.wait);
            // A bench is for people who know what they do.
            let code_words = matches!(role, Role::Send | Role::Receive).then_some(common.code_words);
            let certified = common.pki.as_ref().map(|pki| certified(pki, None)).transpose()?;
            let expires = common.expires;
            let invitation = Invitation { address, allowed, code_words, certified, expires, wait, what };
            listen(invitation, &terms, reporter.as_ref(), &mut stop).await?
        }
    };
    if let Some(changed) = remember::changed_key(common, connected.link.connection.peer_fingerprint()) {
        return Err(connected.fail(changed).await);
    }
    if let Some(agent) = connected.link.agent.clone() {
        reporter.report(session::connected(&connected.link.connection, agent));
    }
    Ok((connected, identity, stop))
}

/// Where a side waits.
pub(super) fn listen_address(common: &CommonSettings) -> ListenAddress {
    match (&common.inherited, common.listen, common.port_range) {
        (Some(socket), ..) => ListenAddress::Inherited(socket.clone()),
        (None, Some(address), _) => ListenAddress::At(address),
        (None, None, Some(range)) => ListenAddress::Within(range),
        (None, None, None) => ListenAddress::Any,
    }
}

/// The peer that was reached.
pub(super) fn met(connected: &Connected, peer: Option<&Peer>) -> Met {
    let is_dialled = peer.is_some_and(|peer| *peer != Peer::Stdio);
    let connection = &connected.link.connection;
    Met { fingerprint: connection.peer_fingerprint(), address: connection.remote_address(), is_dialled }
}

/// The settings for this side's connections, with one connection.
pub(super) fn terms(role: Role, identity: &Identity, common: &CommonSettings, budget: Budget) -> Terms {
    let idle_timeout = common.retry.idle_timeout(common.timeout);
    let limits = budget.limits(idle_timeout, CONNECT_TIMEOUT.min(common.timeout), common.congestion);
    let (network, retry) = (QuicNetwork::new(identity.clone()), common.retry);
    Terms { role, network, connections: Some(1), limits, retry, budget }
}

/// The address of `peer`, and what the peer must prove.
fn destination(peer: &Peer, common: &CommonSettings) -> Result<Destination, Failure> {
    match peer {
        Peer::Ticket(ticket) => {
            if let Some(named) = common.fingerprint.filter(|named| named.head() != ticket.fingerprint) {
                let message = format!(
                    "the ticket belongs to the fingerprint {}, but --fingerprint names {named}",
                    ticket.fingerprint
                );
                return Err(Failure::new(Reason::NotAuthenticated, message));
            }
            Ok(Destination::Ticket(ticket.clone()))
        }
        Peer::Machine(Machine { addresses, fingerprint }) => {
            Ok(Destination::Machine(addresses.clone(), *fingerprint))
        }
        Peer::Code(code, host) => Ok(Destination::Code(code.clone(), host.clone())),
        Peer::Certified(host) => {
            let pki = common.pki.as_ref();
            let pki =
                pki.ok_or_else(|| Failure::new(Reason::Internal, "certificates without an authority"))?;
            Ok(Destination::Certified(vec![host.clone()], certified(pki, Some(&host.host))?))
        }
        // The sender handles `dir:` itself before it dials, and the others do not take an address.
        Peer::Dir(_) | Peer::Ssh(_) | Peer::Stdio => {
            Err(Failure::new(Reason::Internal, "this peer has no address to dial"))
        }
    }
}

/// A sender and a receiver of this process, both with keys for this run and with `budget`.
pub(super) async fn meet_itself(
    common: &CommonSettings,
    budget: Budget,
) -> Result<[(Connected, Arc<Identity>); 2], Failure> {
    let key = || Identity::generate().map(Arc::new).map_err(|e| id::identity_failure(&e));
    let (own, other) = (key()?, key()?);
    let terms = |role, identity| terms(role, identity, common, budget);
    let (sender, receiver) = pair(terms(Role::Send, &own), terms(Role::Receive, &other)).await?;
    Ok([(sender, own), (receiver, other)])
}
