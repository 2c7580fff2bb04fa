//! How the two sides find each other: one listens, the other dials.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info};

use super::further::{Further, Sockets, dial_all};
use super::id;
use super::settings::{CommonSettings, Peer};
use crate::event::{Event, Listening, Reporter};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::message::Role;
use crate::session::handshake::{self, Claim, Door};
use crate::session::{self, Budget, Link, close_with, transport_failure};
use crate::transport::address::{ListenAddress, resolve};
use crate::transport::quic::Quic;
use crate::transport::{Endpoint, Incoming, Limits, dial};
use crate::trust::{Fingerprint, Identity, Secret, Ticket};

/// No answer for so long means that nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// From the end of the TLS handshake, how long a dialler may take to say what it wants.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
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
}

/// Keeps the socket until the last packets are sent.
pub(super) struct Keeper {
    connection: Quic,
    endpoint: Endpoint,
    answering: Option<AbortHandle>,
    /// Makes further connections until dropped.
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
        }
        if is_well {
            let _ = timeout(GOODBYE_WELL, self.connection.close_sent()).await;
        } else {
            self.endpoint.wait_idle(GOODBYE).await;
        }
    }
}

/// The transport's part of the settings.
pub(super) fn limits(common: &CommonSettings, budget: Budget) -> Limits {
    budget.limits(common.timeout, CONNECT_TIMEOUT.min(common.timeout), common.congestion)
}

/// Reaches the other side: dials `peer`, or waits for one peer to dial. A sender that dials is not welcomed yet.
pub(super) async fn connect(
    role: Role,
    peer: Option<&Peer>,
    what: Vec<PathBuf>,
    common: &CommonSettings,
    budget: Budget,
    reporter: &Arc<dyn Reporter>,
    mut stop: watch::Receiver<Option<Failure>>,
) -> Result<Connected, Failure> {
    let further = Further {
        connections: common.connections,
        identity: id::own()?,
        limits: limits(common, budget),
        budget,
    };
    let connecting = async {
        match peer {
            Some(peer) => dial_peer(role, peer, common, &further).await,
            None => listen(role, what, common, &further, reporter).await,
        }
    };
    let connected = tokio::select! {
        connected = connecting => connected?,
        stopped = stop.wait_for(Option::is_some) => {
            let failure = stopped.ok().and_then(|failure| failure.clone());
            return Err(failure.unwrap_or_else(|| Failure::new(Reason::Interrupted, "stopped")));
        }
    };
    if let Some(agent) = connected.link.agent.clone() {
        reporter.report(session::connected(&connected.link.connection, agent));
    }
    Ok(connected)
}

fn parse_fingerprint(text: &str) -> Result<Fingerprint, Failure> {
    text.parse().map_err(|e| Failure::new(Reason::NotAuthenticated, format!("--fingerprint: {e}")))
}

async fn dial_peer(
    role: Role,
    peer: &Peer,
    common: &CommonSettings,
    further: &Further,
) -> Result<Connected, Failure> {
    let (addresses, expected, secret) = match peer {
        Peer::Ticket(text) => {
            let ticket: Ticket = text
                .parse()
                .map_err(|e| Failure::new(Reason::NotAuthenticated, format!("the ticket: {e}")))?;
            let named = common.fingerprint.as_deref().map(parse_fingerprint).transpose()?;
            if let Some(named) = named.filter(|named| *named != ticket.fingerprint) {
                let message =
                    format!("the ticket is of {}, but --fingerprint names {named}", ticket.fingerprint);
                return Err(Failure::new(Reason::NotAuthenticated, message));
            }
            (ticket.addresses, ticket.fingerprint, Some(ticket.secret))
        }
        Peer::Host(host) => {
            let fingerprint = common.fingerprint.as_deref().ok_or_else(|| {
                Failure::new(
                    Reason::NotAuthenticated,
                    format!("{host} is not known here: add its --fingerprint"),
                )
            })?;
            let expected = parse_fingerprint(fingerprint)?;
            let addresses =
                resolve(host).await.map_err(|e| Failure::new(Reason::Unreachable, e.to_string()))?;
            (addresses, expected, None)
        }
        // The sender takes care of its own before it dials.
        Peer::Dir(_) => return Err(Failure::new(Reason::Internal, "dir: is only for sending to")),
    };
    dial_known(role, &addresses, expected, secret.as_ref(), further).await
}

async fn dial_known(
    role: Role,
    addresses: &[std::net::SocketAddr],
    expected: Fingerprint,
    secret: Option<&Secret>,
    further: &Further,
) -> Result<Connected, Failure> {
    let Further { connections, identity, limits, .. } = further;
    let (connection, endpoint) =
        dial(addresses, expected, identity, limits).await.map_err(transport_failure)?;
    let greeting = async {
        let mut link = handshake::dial(connection.clone(), role, secret, *connections).await?;
        let joining = dial_all(&mut link, expected, further)?;
        if role.side() == Side::Receiver {
            link.welcome().await?;
        }
        Ok((link, joining))
    };
    let (link, joining) = match timeout(limits.idle_timeout, greeting).await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(failure)) => {
            close_with(&connection, &failure);
            endpoint.wait_idle(GOODBYE).await;
            return Err(failure);
        }
        Err(_) => {
            let failure =
                Failure::new(Reason::AckTimeout, "the peer took the connection and then said nothing");
            close_with(&connection, &failure);
            return Err(failure);
        }
    };
    Ok(Connected { link, endpoint, answering: None, joining })
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
            return Err(Failure::new(
                Reason::TicketUsed,
                "this ticket has been used: it is good for one transfer; ask for a new one",
            ));
        }
        Ok(())
    }

    fn ports(&self, connections: Option<u32>) -> Vec<u16> {
        self.sockets.open(connections)
    }
}

async fn listen(
    role: Role,
    what: Vec<PathBuf>,
    common: &CommonSettings,
    further: &Further,
    reporter: &Arc<dyn Reporter>,
) -> Result<Connected, Failure> {
    let identity = &further.identity;
    let address = common.listen.map_or(ListenAddress::Any, ListenAddress::At);
    let endpoint = Endpoint::listen(&address, identity, &further.limits)
        .map_err(|e| Failure::new(Reason::Setup, format!("{e}; --listen ADDR:PORT names another address")))?;
    let addresses = endpoint.local_addresses().map_err(transport_failure)?;
    let secret = Secret::generate();
    let ticket = Ticket { addresses, fingerprint: identity.fingerprint(), secret };
    let allowed = common.fingerprint.as_deref().map(parse_fingerprint).transpose()?;
    let ip = endpoint.local_address().map_err(transport_failure)?.ip();
    let sockets = Sockets::new(further.clone(), ip);
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
    let mut link = first_link(link).await?;
    let joining = door.sockets.serve(&mut link)?;
    Ok(Connected { link, endpoint, answering: Some(answering), joining })
}

async fn first_link(mut link: mpsc::Receiver<Link<Quic>>) -> Result<Link<Quic>, Failure> {
    link.recv().await.ok_or_else(|| Failure::new(Reason::Internal, "the socket was closed while waiting"))
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
    let greeting = timeout(HELLO_TIMEOUT, handshake::answer(connection.clone(), role, &*door));
    match greeting.await {
        Ok(Ok(link)) => {
            debug!(%from, "let in");
            let _ = links.send(link).await;
        }
        Ok(Err(failure)) => {
            info!(%from, %failure, "a dialler was not let in");
            close_with(&connection, &failure);
        }
        Err(_) => {
            let failure = Failure::new(Reason::NotAuthenticated, "nothing was said in time");
            close_with(&connection, &failure);
        }
    }
}

/// A receiver and a sender of this process that reach each other over loopback by one connection, both with keys of
/// the moment.
pub(super) async fn pair(common: &CommonSettings, budget: Budget) -> Result<(Connected, Connected), Failure> {
    let generate = || Identity::generate().map_err(|e| id::identity_failure(&e));
    let further =
        |identity| Further { connections: Some(1), identity, limits: limits(common, budget), budget };
    let (receiver, sender) = (further(generate()?), further(generate()?));
    let expected = receiver.identity.fingerprint();
    let loopback = ListenAddress::At(([127, 0, 0, 1], 0).into());
    let endpoint =
        Endpoint::listen(&loopback, &receiver.identity, &receiver.limits).map_err(transport_failure)?;
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
    let mut dialled = dial_known(Role::Send, &[address], expected, None, &sender).await?;
    // Of this connection nobody is to be told.
    dialled.link.welcome().await?;
    let link = first_link(link).await?;
    Ok((dialled, Connected { link, endpoint, answering: Some(answering), joining: JoinSet::new() }))
}
