//! How the two sides find each other: one listens, the other dials.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::extra::{Extra, Sockets, dial_all};
use super::id;
use super::settings::{CommonSettings, Peer};
use crate::auth::{Fingerprint, Identity, Secret, Ticket};
use crate::event::{Event, Listening, Reporter};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::wire::role::Role;
use crate::session::handshake::{self, Claim, Door};
use crate::session::{self, Budget, Link, close_reason, close_with, transport_failure};
use crate::transport::address::{ListenAddress, resolve};
use crate::transport::quic::connection::Quic;
use crate::transport::{Endpoint, Incoming, Limits, TransportError, dial};

/// No answer for so long means that nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// From the end of the TLS handshake, how long a dialler may take to say what it wants.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a process that fails makes sure that its peer learns why.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long at most, when all is well, for the close to leave: it is one packet, and a peer that misses it knows that
/// all is well, too.
const GOODBYE_WELL: Duration = Duration::from_millis(50);

/// A link and what keeps it alive.
pub(super) struct Connected {
    pub(super) link: Link<Quic>,
    endpoint: Endpoint,
    answering: Option<AbortHandle>,
    joining: JoinSet<()>,
}

impl Connected {
    /// Parts the link from its keeper.
    pub(super) fn split(self) -> (Link<Quic>, Keeper) {
        let connection = self.link.connection.clone();
        let Self { link, endpoint, answering, joining } = self;
        (link, Keeper { connection, endpoint, answering, _joining: joining })
    }

    /// Tells the peer of a failure before the transfer has begun; returns it.
    pub(super) async fn fail(self, failure: Failure) -> Failure {
        part(&self.link.connection, &self.endpoint, failure).await
    }
}

/// Keeps the socket until the last packets are sent.
pub(super) struct Keeper {
    connection: Quic,
    endpoint: Endpoint,
    answering: Option<AbortHandle>,
    /// Makes extra connections until dropped.
    _joining: JoinSet<()>,
}

impl Keeper {
    /// Lets the last words reach the peer, and tells what could be better on this machine.
    pub(super) async fn goodbye(self, is_well: bool, reporter: &dyn Reporter) {
        if let Some(message) = self.endpoint.advice() {
            reporter.report(Event::Warning { path: None, reason: None, message });
        }
        if let Some(answering) = &self.answering {
            answering.abort();
            self.turn_away().await;
        }
        if is_well {
            let _ = timeout(GOODBYE_WELL, self.connection.close_sent()).await;
        } else if !self.connection.is_ended_by_peer() {
            self.endpoint.wait_idle(GOODBYE).await;
        }
    }
}

impl Keeper {
    /// Tells those that dial just now that they come too late. The session's connection is closed already.
    async fn turn_away(&self) {
        let failure = ticket_used();
        self.endpoint.close(failure.reason.code(), &close_reason(&failure));
        if self.endpoint.connections() > 1 {
            self.endpoint.wait_idle(GOODBYE_WELL).await;
        }
    }
}

/// What the second dialler with a ticket is told.
fn ticket_used() -> Failure {
    let message = "this ticket has been used: it is good for one transfer; ask for a new one";
    Failure::new(Reason::TicketUsed, message)
}

/// The transport's part of the settings.
pub(super) fn limits(common: &CommonSettings, budget: Budget) -> Limits {
    budget.limits(common.timeout, CONNECT_TIMEOUT.min(common.timeout), common.congestion)
}

/// Turns to a failure when this process is asked to stop.
type Stop = watch::Receiver<Option<Failure>>;

/// Reaches the other side: dials `peer`, or waits for one peer to dial. A sender that dials is not welcomed yet.
pub(super) async fn connect(
    role: Role,
    peer: Option<&Peer>,
    what: Vec<PathBuf>,
    common: &CommonSettings,
    budget: Budget,
    reporter: &Arc<dyn Reporter>,
    mut stop: Stop,
) -> Result<Connected, Failure> {
    let extra = Extra {
        connections: common.connections,
        identity: id::own(is_known_by_key(peer))?,
        limits: limits(common, budget),
        budget,
    };
    let connected = match peer {
        Some(peer) => dial_peer(role, peer, common, &extra, &mut stop).await?,
        None => listen(role, what, common, &extra, reporter, &mut stop).await?,
    };
    if let Some(agent) = connected.link.agent.clone() {
        reporter.report(session::connected(&connected.link.connection, agent));
    }
    Ok(connected)
}

/// Does `work` unless this process is asked to stop before it is done.
async fn unless_stopped<T>(
    stop: &mut Stop,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        stopped = stop.wait_for(Option::is_some) => {
            let failure = stopped.ok().and_then(|failure| failure.clone());
            Err(failure.unwrap_or_else(|| Failure::new(Reason::Interrupted, "stopped")))
        }
    }
}

/// Whether the other side lets this one in by its key alone.
fn is_known_by_key(peer: Option<&Peer>) -> bool {
    matches!(peer, Some(Peer::Host(_)))
}

async fn dial_peer(
    role: Role,
    peer: &Peer,
    common: &CommonSettings,
    extra: &Extra,
    stop: &mut Stop,
) -> Result<Connected, Failure> {
    let (addresses, expected, secret) = match peer {
        Peer::Ticket(ticket) => {
            if let Some(named) = common.fingerprint.filter(|named| *named != ticket.fingerprint) {
                let message =
                    format!("the ticket is of {}, but --fingerprint names {named}", ticket.fingerprint);
                return Err(Failure::new(Reason::NotAuthenticated, message));
            }
            (ticket.addresses.clone(), ticket.fingerprint, Some(ticket.secret))
        }
        Peer::Host(host) => {
            let expected = common.fingerprint.ok_or_else(|| {
                Failure::new(
                    Reason::NotAuthenticated,
                    format!("{host} is not known here: add its --fingerprint"),
                )
            })?;
            let resolving =
                async { resolve(host).await.map_err(|e| Failure::new(Reason::Unreachable, e.to_string())) };
            (unless_stopped(stop, resolving).await?, expected, None)
        }
        // The sender takes care of its own before it dials.
        Peer::Dir(_) => return Err(Failure::new(Reason::Internal, "dir: is only for sending to")),
    };
    dial_known(role, &addresses, expected, secret.as_ref(), extra, stop).await
}

async fn dial_known(
    role: Role,
    addresses: &[std::net::SocketAddr],
    expected: Fingerprint,
    secret: Option<&Secret>,
    extra: &Extra,
    stop: &mut Stop,
) -> Result<Connected, Failure> {
    let Extra { connections, identity, limits, .. } = extra;
    let dialling = async {
        dial(addresses, expected, identity, limits).await.map_err(|e| dial_failure(e, secret.is_some()))
    };
    // Until then the peer knows nothing that it would have to be told about.
    let (connection, endpoint) = unless_stopped(stop, dialling).await?;
    let greeting = timeout(limits.idle_timeout, async {
        let mut link = handshake::dial(connection.clone(), role, secret, *connections).await?;
        let joining = dial_all(&mut link, expected, extra)?;
        if role.side() == Side::Receiver {
            link.welcome().await?;
        }
        Ok((link, joining))
    });
    let greeting = async {
        greeting.await.unwrap_or_else(|_| {
            Err(Failure::new(Reason::AckTimeout, "the peer took the connection and then said nothing"))
        })
    };
    match unless_stopped(stop, greeting).await {
        Ok((link, joining)) => Ok(Connected { link, endpoint, answering: None, joining }),
        Err(failure) => Err(part(&connection, &endpoint, failure).await),
    }
}

/// What came of dialling, by a ticket or not.
fn dial_failure(error: TransportError, by_ticket: bool) -> Failure {
    let nobody = matches!(error, TransportError::NobodyThere(_));
    let mut failure = transport_failure(error);
    if !(nobody && by_ticket) {
        return failure;
    }
    failure.message = format!(
        "{}: the side that printed this ticket has ended; a ticket serves one transfer, so start that side again \
         and use the new ticket",
        failure.message
    );
    failure
}

/// Tells the peer of `failure` before this process may end; returns it.
async fn part(connection: &Quic, endpoint: &Endpoint, failure: Failure) -> Failure {
    close_with(connection, &failure);
    if !connection.is_ended_by_peer() {
        endpoint.wait_idle(GOODBYE).await;
    }
    failure
}

/// One seat: whoever proves the ticket's secret, or holds the one key that was named.
struct OneSeat {
    secret: Secret,
    allowed: Option<Fingerprint>,
    taken: AtomicBool,
    sockets: Sockets,
}

impl Door for OneSeat {
    fn check(&self, claim: &Claim) -> Result<(), Failure> {
        if claim.proves(&self.secret) || self.allowed == Some(claim.fingerprint) {
            return Ok(());
        }
        let message = if claim.has_proof() {
            "the ticket's secret is not the one that this side gave out; ask for the ticket once more"
                .to_owned()
        } else {
            format!(
                "the dialling machine ({}) is not known to the waiting one: dial with the ticket, or let the waiting side start with --fingerprint {}",
                claim.fingerprint, claim.fingerprint
            )
        };
        Err(Failure::new(Reason::NotAuthenticated, message))
    }

    fn take_seat(&self) -> Result<(), Failure> {
        if self.taken.swap(true, Relaxed) {
            return Err(ticket_used());
        }
        Ok(())
    }

    fn leave_seat(&self) {
        self.sockets.close();
        self.taken.store(false, Relaxed);
    }

    fn ports(&self, connections: Option<u32>) -> Vec<u16> {
        self.sockets.open(connections)
    }
}

async fn listen(
    role: Role,
    what: Vec<PathBuf>,
    common: &CommonSettings,
    extra: &Extra,
    reporter: &Arc<dyn Reporter>,
    stop: &mut Stop,
) -> Result<Connected, Failure> {
    let identity = &extra.identity;
    let address = common.listen.map_or(ListenAddress::Any, ListenAddress::At);
    let endpoint = Endpoint::listen(&address, identity, &extra.limits)
        .map_err(|e| Failure::new(Reason::Setup, format!("{e}; --listen ADDR:PORT names another address")))?;
    let addresses = endpoint.local_addresses().map_err(transport_failure)?;
    let secret = Secret::generate();
    let ticket = Ticket { addresses, fingerprint: identity.fingerprint(), secret };
    let allowed = common.fingerprint;
    let ip = endpoint.local_address().map_err(transport_failure)?.ip();
    let sockets = Sockets::new(extra.clone(), ip);
    let door = Arc::new(OneSeat { secret, allowed, taken: AtomicBool::new(false), sockets });
    let (links, link) = mpsc::channel(1);
    let answering = tokio::spawn(answer_all(endpoint.clone(), role, Arc::clone(&door), links)).abort_handle();
    reporter.report(Event::Listening(Listening {
        role,
        what,
        ticket: ticket.to_string(),
        addresses: ticket.addresses,
        fingerprint: ticket.fingerprint.to_string(),
    }));
    let waiting = within(common.wait, first_link(&endpoint, link));
    let mut link = match unless_stopped(stop, waiting).await {
        Ok(link) => link,
        Err(failure) => {
            answering.abort();
            // Somebody may be dialling just now.
            endpoint.close(failure.reason.code(), &close_reason(&failure));
            endpoint.wait_idle(GOODBYE).await;
            return Err(failure);
        }
    };
    endpoint.close_door();
    match door.sockets.serve(&mut link) {
        Ok(joining) => Ok(Connected { link, endpoint, answering: Some(answering), joining }),
        Err(failure) => Err(part(&link.connection, &endpoint, failure).await),
    }
}

/// Waits no longer than `limit` for the peer that `waiting` waits for.
async fn within<T>(
    limit: Option<Duration>,
    waiting: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(limit) = limit else { return waiting.await };
    timeout(limit, waiting).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(Failure::new(Reason::Unreachable, format!("nobody came within {limit} (--wait)")))
    })
}

async fn first_link(
    endpoint: &Endpoint,
    mut link: mpsc::Receiver<Link<Quic>>,
) -> Result<Link<Quic>, Failure> {
    link.recv().await.ok_or_else(|| {
        let fault = endpoint.fault().unwrap_or("the socket was closed while waiting");
        Failure::new(Reason::Setup, fault)
    })
}

/// Answers every dialler, each in a task of its own, until aborted: after the seat is taken the others still learn
/// why they are not let in.
async fn answer_all(endpoint: Endpoint, role: Role, door: Arc<OneSeat>, links: mpsc::Sender<Link<Quic>>) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(answer_one(incoming, role, Arc::clone(&door), links.clone()));
    }
}

async fn answer_one(incoming: Incoming, role: Role, door: Arc<OneSeat>, links: mpsc::Sender<Link<Quic>>) {
    let from = incoming.remote_address();
    let connection = match incoming.handshake().await {
        Ok(connection) => connection,
        Err(error) => {
            info!(%from, %error, "a dialler did not finish its handshake");
            return;
        }
    };
    match unless_silent(&connection, handshake::answer(connection.clone(), role, &*door)).await {
        Ok(link) => {
            debug!(%from, "let in");
            let _ = links.send(link).await;
        }
        Err(failure) => {
            info!(%from, %failure, "a dialler was not let in");
            close_with(&connection, &failure);
        }
    }
}

/// Hears what a dialler has to say, `greeting`, for a limited time, which is shorter when there are many.
pub(super) async fn unless_silent<T>(
    connection: &Quic,
    greeting: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let silent = |message| Err(Failure::new(Reason::NotAuthenticated, message));
    tokio::select! {
        biased;
        greeted = greeting => greeted,
        () = sleep(HELLO_TIMEOUT) => silent("nothing was said in time"),
        () = connection.has_to_leave() => silent("nothing was said in time, and others came"),
    }
}

/// A receiver and a sender of this process that reach each other over loopback by one connection, both with keys of
/// the moment.
pub(super) async fn pair(common: &CommonSettings, budget: Budget) -> Result<(Connected, Connected), Failure> {
    let generate = || Identity::generate().map_err(|e| id::identity_failure(&e));
    let extra = |identity| Extra { connections: Some(1), identity, limits: limits(common, budget), budget };
    let (receiver, sender) = (extra(generate()?), extra(generate()?));
    let expected = receiver.identity.fingerprint();
    let loopback = ListenAddress::At(([127, 0, 0, 1], 0).into());
    let endpoint =
        Endpoint::listen(&loopback, &receiver.identity, &receiver.limits).map_err(transport_failure)?;
    let (_never, mut stop) = watch::channel(None);
    let address = endpoint.local_address().map_err(transport_failure)?;
    let (links, link) = mpsc::channel(1);
    let door = OneSeat {
        secret: Secret::generate(),
        allowed: Some(sender.identity.fingerprint()),
        taken: AtomicBool::new(false),
        sockets: Sockets::new(receiver, address.ip()),
    };
    let answering =
        tokio::spawn(answer_all(endpoint.clone(), Role::Receive, Arc::new(door), links)).abort_handle();
    let mut dialled = dial_known(Role::Send, &[address], expected, None, &sender, &mut stop).await?;
    // Of this connection nobody is to be told.
    dialled.link.welcome().await?;
    let link = first_link(&endpoint, link).await?;
    Ok((dialled, Connected { link, endpoint, answering: Some(answering), joining: JoinSet::new() }))
}
