//! `towline receive --forever`: a receiver that stays, for several transfers at once.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::info;

use super::id;
use super::meet::{Connected, terms};
use super::peers;
use super::settings::{Exists, Right, StaySettings};
use super::transfer::{Inbox, conclude, context, memory_of_all, receive_through, throttle};
use super::unfinished::complete_sets;
use crate::auth::{Identity, Secret};
use crate::connect::Staying;
use crate::event::{Event, Listening, OfPeer, Reporter};
use crate::node::memory::Memory;
use crate::node::peers::{KnownPeer, PeerName, PeersFile};
use crate::node::places::{Guests, Places, TakenPlace};
use crate::node::service;
use crate::node::signals::Hangups;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::wire::role::Role;
use crate::session::{self, Context, Throttle};
use crate::storage::fs::{NetworkThreads, check_target};
use crate::transport::quic::endpoint::QuicNetwork;
use crate::transport::{Connection, ListenAddress};

/// Characters of a fingerprint that name a peer without a name.
const LABEL_CHARS: usize = 8;

/// What all transfers of this process share.
#[derive(Clone)]
struct Hall {
    settings: Arc<StaySettings>,
    memory: Memory,
    throttle: Arc<Throttle>,
    reporter: Arc<dyn Reporter>,
    network: NetworkThreads,
    /// Signs receipts.
    identity: Arc<Identity>,
    /// Becomes a failure when no transfer may go on.
    halted: watch::Receiver<Option<Failure>>,
}

/// Receives until this process is asked to stop, and returns the exit code.
pub(super) async fn run(
    settings: StaySettings,
    reporter: Arc<dyn Reporter>,
    network: NetworkThreads,
    mut stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let StaySettings { into, transfers, grace, common, .. } = &settings;
    // Before the known peers are read, so that no change of theirs is missed.
    let hangups = Hangups::watch().map_err(|e| Failure::new(Reason::Setup, e.to_string()))?;
    // Before anybody is told to dial.
    check_target(into).map_err(|error| error.failure(Side::Receiver, Reason::Storage))?;
    complete_sets(into, &reporter, &stop).await?;
    let places = Arc::new(places(&settings)?);
    let memory = memory_of_all(common);
    let identity = Arc::new(id::own(true)?);
    let terms = terms(Role::Receive, &identity, common, *memory.lease(*transfers)?);
    let address = common.listen.map_or(ListenAddress::Any, ListenAddress::At);
    let mut staying = Staying::new(&address, terms, &places)?;
    announce(&staying, places.secret(), into, reporter.as_ref());
    service::notify("READY=1");
    let (halt, halted) = watch::channel(None);
    let hall = Hall {
        settings: Arc::new(settings.clone()),
        memory,
        throttle: throttle(common.bwlimit.clone()),
        reporter,
        network,
        identity,
        halted,
    };
    let mut running = JoinSet::new();
    let (stopped, is_asked) = tokio::select! {
        biased;
        stopped = stop.wait_for(Option::is_some) => {
            let failure = stopped.ok().and_then(|failure| failure.clone());
            (failure.unwrap_or_else(|| Failure::new(Reason::Interrupted, "stopped")), true)
        }
        failure = welcome(&hall, &mut staying, &places, hangups, &mut running) => (failure, false),
    };
    service::notify("STOPPING=1");
    places.close();
    let all_done = timeout(*grace, ended(&mut running)).await.is_ok();
    if !all_done {
        halt.send_replace(Some(stopped.clone()));
        ended(&mut running).await;
    }
    staying.end(&stopped).await;
    if all_done && is_asked { Ok(0) } else { Err(stopped) }
}

/// Those who may come, as the file of known peers says now.
fn places(settings: &StaySettings) -> Result<Places, Failure> {
    let StaySettings { peers: file, only, tickets, transfers, .. } = settings;
    let known = file.load().map_err(|error| peers::failure(&error))?;
    let guests = Guests { known, only: only.clone(), right: Right::Send };
    Ok(Places::new(*transfers as usize, guests, *tickets))
}

/// Lets diallers in, until the socket fails.
async fn welcome(
    hall: &Hall,
    staying: &mut Staying<QuicNetwork>,
    places: &Arc<Places>,
    mut hangups: Hangups,
    running: &mut JoinSet<()>,
) -> Failure {
    let StaySettings { peers: file, into, .. } = &*hall.settings;
    loop {
        tokio::select! {
            Some(_) = running.join_next() => {}
            () = hangups.next() => read_again(file, places, hall.reporter.as_ref()),
            arrived = staying.next() => {
                let place = places.taken();
                match arrived {
                    Err(failure) => return failure,
                    Ok(Ok(connected)) => {
                        let entry = places.entry(connected.link.connection.peer_fingerprint());
                        running.spawn(hall.clone().serve(connected, entry, place));
                    }
                    Ok(Err(failure)) => hall.reporter.report(Event::Failed(failure)),
                }
                if let Some(secret) = places.renew() {
                    announce(staying, Some(secret), into, hall.reporter.as_ref());
                }
            }
        }
    }
}

async fn ended(running: &mut JoinSet<()>) {
    while running.join_next().await.is_some() {}
}

/// Says where this side waits. A system that does not tell its addresses now stops nothing.
fn announce(staying: &Staying<QuicNetwork>, secret: Option<Secret>, into: &Path, reporter: &dyn Reporter) {
    // Addresses and fingerprint are the same with any secret.
    let ticket = match staying.ticket(secret.unwrap_or(Secret::from_bytes([0; 16]))) {
        Ok(ticket) => ticket,
        Err(failure) => {
            let message = format!("this receiver waits, but cannot show where: {}", failure.message);
            return reporter.report(Event::Warning { path: None, reason: None, message });
        }
    };
    reporter.report(Event::Listening(Listening {
        role: Role::Receive,
        what: vec![into.to_owned()],
        ticket: secret.map(|_| ticket.to_string()),
        code: None,
        addresses: ticket.addresses,
        fingerprint: ticket.fingerprint.to_string(),
    }));
}

/// Takes over the file of known peers, unless it is invalid.
fn read_again(file: &PeersFile, places: &Places, reporter: &dyn Reporter) {
    service::notify("RELOADING=1");
    let message = match file.load() {
        Ok(known) => {
            places.know(known);
            info!("the known peers were read again");
            None
        }
        Err(error) => Some(format!("the known peers of before still count: {error}")),
    };
    if let Some(message) = message {
        reporter.report(Event::Warning { path: None, reason: None, message });
    }
    service::notify("READY=1");
}

impl Hall {
    /// Serves one peer to its end. Whatever happens is told in one line and does not concern the others.
    async fn serve(self, connected: Connected, entry: Option<(PeerName, KnownPeer)>, place: TakenPlace) {
        let (label, peer) = match entry {
            Some((name, peer)) => (name.to_string(), Some(peer)),
            // No name has a colon.
            None => {
                let key = connected.link.connection.peer_fingerprint().to_string();
                (format!("key:{}", &key[..LABEL_CHARS]), None)
            }
        };
        let reporter: Arc<dyn Reporter> = OfPeer::new(label, Arc::clone(&self.reporter));
        let transfer = tokio::spawn(self.transfer(connected, peer, Arc::clone(&reporter)));
        let received = transfer.await.unwrap_or_else(|_| {
            let message = "this transfer stopped because of a bug; the lines above show where";
            Err(Failure::new(Reason::Internal, message))
        });
        if let Err(failure) = received {
            reporter.report(Event::Failed(failure));
        }
        drop(place);
    }

    async fn transfer(
        self,
        connected: Connected,
        peer: Option<KnownPeer>,
        reporter: Arc<dyn Reporter>,
    ) -> Result<(), Failure> {
        let StaySettings { into, exists, atomic, verify_disk, transfers, common, .. } = &*self.settings;
        let connection = &connected.link.connection;
        let sender = connection.peer_fingerprint();
        if let Some(agent) = connected.link.agent.clone() {
            reporter.report(session::connected(connection, agent));
        }
        let memory = match self.memory.lease(*transfers) {
            Ok(memory) => memory,
            Err(failure) => return Err(connected.fail(failure).await),
        };
        let own_dir = peer.as_ref().and_then(|peer| peer.into.as_ref());
        let dir = own_dir.map_or_else(|| into.clone(), |own| into.join(own));
        let exists = policy(*exists, peer.as_ref());
        let context = context(common, memory, Arc::clone(&reporter), self.halted.clone());
        let (atomic, verify_disk) = (*atomic, *verify_disk);
        let context = Context {
            throttle: self.throttle,
            identity: Some(self.identity),
            atomic,
            verify_disk,
            ..context
        };
        if let Err(failure) = complete_sets(&dir, &reporter, &self.halted).await {
            return Err(connected.fail(failure).await);
        }
        let inbox = Inbox { dir: &dir, sender, reporter: Arc::clone(&reporter), network: self.network };
        let done = receive_through(connected, inbox, exists, context).await?;
        conclude(done, reporter.as_ref());
        Ok(())
    }
}

/// What happens to existing files: what the command says, if the peer may do that, or else the first that it may.
fn policy(given: Option<Exists>, peer: Option<&KnownPeer>) -> Exists {
    let allowed = peer.map(|peer| &peer.exists[..]).unwrap_or_default();
    match (given, allowed) {
        (Some(given), allowed) if allowed.is_empty() || allowed.contains(&given) => given,
        (_, [first, ..]) => *first,
        (_, []) => Exists::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Fingerprint;

    #[test]
    fn a_peer_may_do_to_existing_files_what_its_entry_allows() {
        let peer = |exists: &[Exists]| KnownPeer {
            fingerprint: Fingerprint::from_bytes([1; 32]),
            addresses: Vec::new(),
            may: Vec::new(),
            into: None,
            exists: exists.to_vec(),
        };
        let careful = peer(&[Exists::Rename, Exists::Skip]);
        assert_eq!(policy(Some(Exists::Replace), Some(&careful)), Exists::Rename);
        assert_eq!(policy(Some(Exists::Skip), Some(&careful)), Exists::Skip);
        assert_eq!(policy(None, Some(&careful)), Exists::Rename);
        assert_eq!(policy(Some(Exists::Replace), Some(&peer(&[]))), Exists::Replace);
        assert_eq!(policy(None, None), Exists::Refuse);
    }
}
