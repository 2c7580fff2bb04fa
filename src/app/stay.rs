//! `towline receive --forever`: a receiver that stays, for several transfers at once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::info;

use super::id;
use super::meet::{Connected, terms};
use super::on_disk::on_disk;
use super::peers;
use super::settings::{Exists, Right, StaySettings};
use super::transfer::{Inbox, conclude, context, memory_of_all, receive_through, throttle};
use super::unfinished::Completion;
use crate::auth::{Identity, Secret, Ticket};
use crate::connect::Staying;
use crate::event::{Event, Listening, OfPeer, Reporter};
use crate::node::memory::Memory;
use crate::node::peers::{KnownPeer, PeerName};
use crate::node::places::{Guests, Places, TakenPlace};
use crate::node::service;
use crate::node::signals::Hangups;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::role::Role;
use crate::session::{self, Context, Throttle};
use crate::storage::fs::{NetworkThreads, PeerQuota, Usage, check_target};
use crate::transport::quic::endpoint::QuicNetwork;
use crate::transport::{Connection, ListenAddress};

/// Characters of a fingerprint that name a peer without a name.
const LABEL_CHARS: usize = 8;
/// Time until an announcement that failed is tried again.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(10);

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
    completion: Completion,
    /// Of the directories of peers with a quota, while transfers run into them.
    usages: Arc<Mutex<HashMap<PathBuf, Weak<Usage>>>>,
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
    let (limit, dir, completion) = (common.disk_timeout, into.clone(), Completion::default());
    on_disk(("open", into), limit, &stop, move || check_target(&dir)).await?;
    completion.complete_sets(into, &reporter, limit, &stop).await?;
    let places = Arc::new(places(&settings)?);
    let memory = memory_of_all(common);
    let identity = Arc::new(id::own(true)?);
    let terms = terms(Role::Receive, &identity, common, *memory.lease(*transfers)?);
    let address = common.listen.map_or(ListenAddress::Any, ListenAddress::At);
    let mut staying = Staying::new(&address, terms, &places)?;
    let (halt, halted) = watch::channel(None);
    let hall = Hall {
        settings: Arc::new(settings.clone()),
        memory,
        throttle: throttle(common.bwlimit.clone()),
        reporter,
        network,
        identity,
        completion,
        usages: Arc::default(),
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
    let last = async {
        while let Some(connected) = staying.next_of_last(&places).await {
            hall.serve(connected, &places, &mut running);
        }
    };
    let all_done = timeout(*grace, last).await.is_ok();
    if !all_done {
        halt.send_replace(Some(stopped.clone()));
    }
    while running.join_next().await.is_some() {}
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
    hangups: Hangups,
    running: &mut JoinSet<()>,
) -> Failure {
    let reading = read_again(hall, places, hangups);
    tokio::pin!(reading);
    let mut is_announced = hall.announce(staying, places.secret());
    service::notify("READY=1");
    loop {
        tokio::select! {
            Some(_) = running.join_next() => {}
            never = &mut reading => match never {},
            () = sleep(ANNOUNCE_AGAIN), if !is_announced => {
                is_announced = hall.announce(staying, places.secret());
            }
            arrived = staying.next() => match arrived {
                Err(failure) => return failure,
                Ok(connected) => {
                    let renewed = places.renew_after(connected.link.connection.peer_fingerprint());
                    hall.serve(connected, places, running);
                    if renewed.is_some() {
                        is_announced = hall.announce(staying, renewed);
                    }
                }
            },
        }
    }
}

/// Takes over the file of known peers at each SIGHUP, unless it is invalid. A disk that hangs holds nobody up.
async fn read_again(hall: &Hall, places: &Places, mut hangups: Hangups) -> Infallible {
    loop {
        hangups.next().await;
        service::notify("RELOADING=1");
        let file = hall.settings.peers.clone();
        let loaded = tokio::task::spawn_blocking(move || file.load()).await;
        let problem = match loaded {
            Ok(Ok(known)) => {
                places.know(known);
                info!("the known peers were read again");
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            hall.warn(format!("the known peers of before still count: {problem}"));
        }
        service::notify("READY=1");
    }
}

impl Hall {
    fn warn(&self, message: String) {
        self.reporter.report(Event::Warning { path: None, reason: None, message });
    }

    /// Says where this side waits. False if the system does not tell its addresses now, which stops nothing.
    fn announce(&self, staying: &Staying<QuicNetwork>, secret: Option<Secret>) -> bool {
        let addresses = match staying.addresses() {
            Ok(addresses) => addresses,
            Err(failure) => {
                self.warn(format!("this receiver waits, but cannot show where: {}", failure.message));
                return false;
            }
        };
        let fingerprint = staying.fingerprint();
        let ticket = |secret| Ticket { addresses: addresses.clone(), fingerprint: fingerprint.head(), secret }.to_string();
        self.reporter.report(Event::Listening(Listening {
            role: Role::Receive,
            what: vec![self.settings.into.clone()],
            ticket: secret.map(ticket),
            code: None,
            addresses,
            fingerprint: fingerprint.to_string(),
        }));
        true
    }

    /// The room of a peer in `dir`, which transfers at the same time share.
    fn quota(&self, dir: &Path, limit_bytes: u64) -> PeerQuota {
        let mut usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
        usages.retain(|_, usage| usage.strong_count() > 0);
        let usage = usages.get(dir).and_then(Weak::upgrade).unwrap_or_else(|| Usage::of(dir));
        usages.insert(dir.to_owned(), Arc::downgrade(&usage));
        PeerQuota::new(usage, limit_bytes)
    }

    /// Serves a dialler that was let in, as one of those `running`.
    fn serve(&self, connected: Connected, places: &Arc<Places>, running: &mut JoinSet<()>) {
        let place = places.taken();
        let entry = places.entry(connected.link.connection.peer_fingerprint());
        running.spawn(self.clone().serve_to_end(connected, entry, place));
    }

    /// Whatever happens is told in one line and does not concern the others.
    async fn serve_to_end(
        self,
        connected: Connected,
        entry: Option<(PeerName, KnownPeer)>,
        place: TakenPlace,
    ) {
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
        let quota = peer.as_ref().and_then(|peer| peer.quota).map(|limit| self.quota(&dir, limit));
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
        let limit = common.disk_timeout;
        let completing = self.completion.complete_sets(&dir, &self.reporter, limit, &self.halted);
        if let Err(failure) = completing.await {
            return Err(connected.fail(failure).await);
        }
        let reporting = Arc::clone(&reporter);
        let inbox = Inbox { dir: &dir, sender, reporter: reporting, network: self.network, quota };
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
            quota: None,
        };
        let careful = peer(&[Exists::Rename, Exists::Skip]);
        assert_eq!(policy(Some(Exists::Replace), Some(&careful)), Exists::Rename);
        assert_eq!(policy(Some(Exists::Skip), Some(&careful)), Exists::Skip);
        assert_eq!(policy(None, Some(&careful)), Exists::Rename);
        assert_eq!(policy(Some(Exists::Replace), Some(&peer(&[]))), Exists::Replace);
        assert_eq!(policy(None, None), Exists::Refuse);
    }
}
