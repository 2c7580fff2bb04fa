//! `--forever`: a receiver or sender that stays, for several transfers at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tracing::info;

use super::id;
use super::meet::{Connected, listen_address, terms};
use super::peers;
use super::pki::certified;
use super::service::Service;
use super::settings::{Right, StaySettings};
use super::transfer::{conclude, context, memory_of_all, throttle};
use crate::auth::handshake::Visitor;
use crate::auth::{Identity, Secret, Ticket};
use crate::connect::Staying;
use crate::event::{Event, Listening, OfPeer, Reporter};
use crate::node::memory::Memory;
use crate::node::peers::KnownPeer;
use crate::node::places::{Guests, Places, TakenPlace};
use crate::node::service;
use crate::node::signals::Hangups;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::path::printable;
use crate::session::{self, Context, Throttle};
use crate::storage::fs::NetworkThreads;
use crate::transport::quic::endpoint::QuicNetwork;

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
    /// Signs receipts.
    identity: Arc<Identity>,
    service: Service,
    /// Becomes a failure when no transfer may go on.
    halted: watch::Receiver<Option<Failure>>,
}

/// Serves peers until this process is asked to stop, and returns the exit code.
pub(super) async fn run(
    settings: StaySettings,
    reporter: Arc<dyn Reporter>,
    network: NetworkThreads,
    mut stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let StaySettings { transfers, grace, common, .. } = &settings;
    // Before the known peers are read, so that no change of theirs is missed.
    let hangups = Hangups::watch().map_err(|e| Failure::new(Reason::Setup, e.to_string()))?;
    // Before anybody is told to dial.
    let service = Service::new(settings.service.clone(), network, Arc::clone(&reporter));
    service.check(common.disk_timeout, &stop).await?;
    let places = Arc::new(places(&settings, service.right())?);
    let memory = memory_of_all(common);
    let identity = Arc::new(id::own(true)?);
    let terms = terms(service.role(), &identity, common, *memory.lease(*transfers)?);
    let mut staying = Staying::new(&listen_address(common), terms, &places)?;
    let (halt, halted) = watch::channel(None);
    let hall = Hall {
        settings: Arc::new(settings.clone()),
        memory,
        throttle: throttle(common.bwlimit.clone()),
        reporter,
        identity,
        service,
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
        while let Some((connected, visitor)) = staying.next_of_last(&places).await {
            hall.serve(connected, &visitor, &places, &mut running);
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
fn places(settings: &StaySettings, right: Right) -> Result<Places, Failure> {
    let StaySettings { peers: file, only, tickets, transfers, common, .. } = settings;
    let known = file.load().map_err(|error| peers::failure(&error))?;
    let certified = common.pki.as_ref().map(|pki| certified(pki, None)).transpose()?;
    let guests = Guests { known, only: only.clone(), right, certified };
    Ok(Places::new(*transfers as usize, guests, tickets.then_some(common.uses)))
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
    let expires = hall.settings.common.expires.filter(|_| hall.settings.tickets);
    let mut expiry = interval(expires.unwrap_or(Duration::from_secs(1)));
    expiry.reset();
    let mut is_announced = hall.announce(staying, places.secret());
    service::notify("READY=1");
    loop {
        tokio::select! {
            Some(_) = running.join_next() => {}
            never = &mut reading => match never {},
            () = sleep(ANNOUNCE_AGAIN), if !is_announced => {
                is_announced = hall.announce(staying, places.secret());
            }
            _ = expiry.tick(), if expires.is_some() => {
                places.expire();
                is_announced = hall.announce(staying, places.secret());
            }
            arrived = staying.next() => match arrived {
                Err(failure) => return failure,
                Ok((connected, visitor)) => {
                    let renewed = places.renew_after(visitor.channel.peer);
                    hall.serve(connected, &visitor, places, running);
                    if renewed.is_some() {
                        is_announced = hall.announce(staying, renewed);
                    }
                }
            },
        }
    }
}

/// Reads the known peers and the certificates again at each SIGHUP; what is invalid changes nothing. A disk that hangs holds
/// nobody up.
async fn read_again(hall: &Hall, places: &Places, mut hangups: Hangups) -> Infallible {
    loop {
        hangups.next().await;
        service::notify("RELOADING=1");
        let (file, pki) = (hall.settings.peers.clone(), hall.settings.common.pki.clone());
        let read = move || (file.load(), pki.map(|pki| certified(&pki, None)).transpose());
        match tokio::task::spawn_blocking(read).await {
            Ok((known, certificates)) => {
                match known {
                    Ok(known) => places.know(known),
                    Err(error) => hall.warn(format!("the known peers of before still count: {error}")),
                }
                match certificates {
                    Ok(certificates) => places.certify(certificates),
                    Err(error) => hall.warn(format!("the certificates of before still count: {error}")),
                }
                info!("the known peers and certificates were read again");
            }
            Err(error) => hall.warn(format!("what was known before still counts: {error}")),
        }
        service::notify("READY=1");
    }
}

/// A bug in one transfer ends that transfer only.
async fn contained(
    transfer: impl Future<Output = Result<(), Failure>> + Send + 'static,
) -> Result<(), Failure> {
    tokio::spawn(transfer).await.unwrap_or_else(|_| {
        let message = "this transfer stopped because of a bug; the lines above show where";
        Err(Failure::new(Reason::Internal, message))
    })
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
                self.warn(format!("this side waits, but cannot show where: {}", failure.message));
                return false;
            }
        };
        let fingerprint = staying.fingerprint();
        let ticket = |secret| {
            Ticket { addresses: addresses.clone(), fingerprint: fingerprint.head(), secret }.to_string()
        };
        self.reporter.report(Event::Listening(Listening {
            role: self.service.role(),
            what: self.service.what(),
            ticket: secret.map(ticket),
            code: None,
            addresses,
            fingerprint: fingerprint.to_string(),
        }));
        true
    }

    /// Serves a dialler that was let in, as one of those `running`.
    fn serve(
        &self,
        connected: Connected,
        visitor: &Visitor,
        places: &Arc<Places>,
        running: &mut JoinSet<()>,
    ) {
        let place = places.taken();
        let (key, name) =
            (visitor.channel.peer, visitor.certificate.as_ref().and_then(|one| one.name.as_ref()));
        let (label, peer) = match (places.entry(visitor), name) {
            (Some((name, peer)), _) => (name.to_string(), Some(peer)),
            // No name of a known peer has a colon.
            (None, Some(name)) => (format!("cert:{}", printable(name.as_bytes())), None),
            (None, None) => (format!("key:{}", &key.to_string()[..LABEL_CHARS]), None),
        };
        running.spawn(self.clone().serve_to_end(connected, (label, peer), place));
    }

    /// Whatever happens is told in one line and does not concern the others.
    async fn serve_to_end(
        self,
        connected: Connected,
        (label, peer): (String, Option<KnownPeer>),
        place: TakenPlace,
    ) {
        let reporter: Arc<dyn Reporter> = OfPeer::new(label.clone(), Arc::clone(&self.reporter));
        let served = self.transfer(connected, (label, peer), Arc::clone(&reporter));
        if let Err(failure) = contained(served).await {
            reporter.report(Event::Failed(failure));
        }
        drop(place);
    }

    async fn transfer(
        self,
        connected: Connected,
        (label, peer): (String, Option<KnownPeer>),
        reporter: Arc<dyn Reporter>,
    ) -> Result<(), Failure> {
        let StaySettings { transfers, common, .. } = &*self.settings;
        let connection = &connected.link.connection;
        if let Some(agent) = connected.link.agent.clone() {
            reporter.report(session::connected(connection, agent));
        }
        let memory = match self.memory.lease(*transfers) {
            Ok(memory) => memory,
            Err(failure) => return Err(connected.fail(failure).await),
        };
        let context = context(common, memory, Arc::clone(&reporter), self.halted);
        let context = Context { throttle: self.throttle, identity: Some(self.identity), ..context };
        let done = self.service.serve(connected, (&label, peer.as_ref()), common, context).await?;
        conclude(done, reporter.as_ref());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attack_13_a_panic_in_one_transfer_is_a_failure_of_that_transfer() {
        let failure = contained(async { panic!("a bug") }).await.unwrap_err();
        assert_eq!((failure.reason, failure.reason.exit_code()), (Reason::Internal, 1));
        assert!(contained(async { Ok(()) }).await.is_ok());
    }
}
