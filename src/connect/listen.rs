//! The side that listens.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::connected::{Connected, GOODBYE, part};
use super::extra::Sockets;
use super::nearby::Announcement;
use super::slot::OneSlot;
use super::terms::Terms;
use super::waiting::{Stop, unless_stopped, within};
use crate::auth::methods::Invited;
use crate::auth::{Certified, Code, Fingerprint, OpenCode, Ticket, TicketSecrets};
use crate::event::{Event, Listening, Reporter};
use crate::node::listener::Listener;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::role::Role;
use crate::session::handshake::Slot;
use crate::session::{Link, close_reason, transport_failure};
use crate::transport::{Connection, Endpoint, ListenAddress, Network};

/// Time from a wrong guess to the next code; doubles with each further one.
const PAUSE_AFTER_GUESS: Duration = Duration::from_secs(1);
const PAUSE_AFTER_GUESS_MAX: Duration = Duration::from_secs(64);

/// Where to wait for a peer, and which peers may connect.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// Where to listen.
    pub address: ListenAddress,
    /// Keys of diallers that need no ticket.
    pub allowed: Vec<Fingerprint>,
    /// Words of the one-time code, if there is to be one.
    pub code_words: Option<usize>,
    /// How long a ticket and a code are good for; `None` is as long as this side waits.
    pub expires: Option<Duration>,
    /// Whose certificates are accepted, if any are.
    pub certified: Option<Arc<Certified>>,
    /// How long to wait; `None` is forever.
    pub wait: Option<Duration>,
    /// The sources that are offered, or the target directory. Reported with the ticket.
    pub what: Vec<PathBuf>,
}

/// Waits for one peer to dial, and tells `reporter` how to reach this side.
///
/// # Errors
///
/// This side cannot listen, or nobody connected.
pub async fn listen<N: Network>(
    invitation: Invitation,
    terms: &Terms<N>,
    reporter: &dyn Reporter,
    stop: &mut Stop,
) -> Result<Connected<N>, Failure> {
    let Invitation { address, allowed, code_words, certified, expires, wait, what } = invitation;
    let Terms { role, network, limits, .. } = terms;
    let endpoint =
        network.listen(&address, limits).map_err(|e| Failure::new(Reason::Setup, e.to_string()))?;
    let addresses = endpoint.local_addresses().map_err(transport_failure)?;
    let place = endpoint.local_address().map_err(transport_failure)?;
    let further = further(&address, place.ip());
    let sockets = Sockets::new(terms.clone(), further);
    let ticket = TicketSecrets::generate();
    let codes = code_words.map(|words| Codes::new(words, place));
    let code = codes.as_ref().map(|codes| Arc::clone(&codes.open));
    let authorizer = Box::new(Invited { keys: allowed, ticket: Arc::clone(&ticket), code, certified });
    let slot = Arc::new(OneSlot { authorizer, taken: AtomicBool::new(false), sockets });
    let slots = vec![Arc::clone(&slot) as Arc<dyn Slot>];
    let mut listener = Listener::new(endpoint.clone(), *role, slots);
    let fingerprint = network.fingerprint();
    let mut doors = Doors { role: *role, what, addresses, fingerprint, ticket, codes, expires, reporter };
    let waiting = within(wait, async {
        tokio::select! {
            link = first_link(&endpoint, &mut listener) => link,
            never = doors.keep() => match never {},
        }
    });
    match unless_stopped(stop, waiting).await {
        Ok(link) => seated(link, endpoint, listener, &slot).await,
        Err(failure) => {
            drop(listener);
            // A peer may be dialling now.
            endpoint.close(failure.reason.code(), &close_reason(&failure));
            endpoint.wait_idle(GOODBYE).await;
            Err(failure)
        }
    }
}

/// Where the endpoints of extra connections listen, when the first one listens at `address` and is bound to `ip`.
pub(super) fn further(address: &ListenAddress, ip: IpAddr) -> ListenAddress {
    match address {
        ListenAddress::Within(_) => address.clone(),
        ListenAddress::Any | ListenAddress::At(_) | ListenAddress::Inherited(_) => {
            ListenAddress::At((ip, 0).into())
        }
    }
}

/// The dialler of `link` has the only slot of `endpoint`. Others are turned away from now on.
pub(super) async fn seated<N: Network>(
    mut link: Link<N::Connection>,
    endpoint: N::Endpoint,
    listener: Listener<N::Connection>,
    slot: &OneSlot<N>,
) -> Result<Connected<N>, Failure> {
    endpoint.close_to_newcomers();
    let answering = listener.into_answering();
    match slot.sockets.serve(&mut link, &answering) {
        Ok(joining) => {
            let endpoint = watch::Sender::new(endpoint).subscribe();
            let answering = Some(answering);
            Ok(Connected { link, endpoint, answering, joining, is_shared: false, ssh: None })
        }
        Err(failure) => Err(part(&link.connection, &endpoint, failure).await),
    }
}

/// The ways into a waiting side, and whom it tells of them.
struct Doors<'a> {
    role: Role,
    what: Vec<PathBuf>,
    addresses: Vec<SocketAddr>,
    fingerprint: Fingerprint,
    ticket: Arc<TicketSecrets>,
    codes: Option<Codes>,
    expires: Option<Duration>,
    reporter: &'a dyn Reporter,
}

/// The codes of a waiting side, one after the other. They are found on the local network until this is dropped.
struct Codes {
    open: Arc<OpenCode>,
    burnt: watch::Receiver<()>,
    _announcement: Option<Announcement>,
}

impl Codes {
    /// Opens the first one, for diallers that come to `place`.
    fn new(words: usize, place: SocketAddr) -> Self {
        let code = Code::generate(words);
        let number = code.number();
        let (sender, burnt) = watch::channel(());
        let open = OpenCode::new(code, move || {
            sender.send_replace(());
        });
        Self { open, burnt, _announcement: Announcement::new(number, place) }
    }
}

impl Doors<'_> {
    /// Tells of ticket and code. Replaces those that have expired; and each code that is burnt, after a pause, so that a
    /// program has few guesses.
    async fn keep(&mut self) -> Infallible {
        let code = self.codes.as_ref().and_then(|codes| codes.open.code());
        self.announce(code);
        let expiry = |expires: Option<Duration>| expires.map(|expires| Instant::now() + expires);
        let (mut pause, mut fresh_code_at, mut expires_at) = (PAUSE_AFTER_GUESS, None, expiry(self.expires));
        loop {
            tokio::select! {
                () = burnt(self.codes.as_mut()) => {
                    let after = humantime::format_duration(pause);
                    self.warn(format!(
                        "somebody has tried a wrong code, which used it up; a new one follows in {after}"
                    ));
                    fresh_code_at = Some(Instant::now() + pause);
                    pause = (pause * 2).min(PAUSE_AFTER_GUESS_MAX);
                }
                () = at(fresh_code_at) => {
                    fresh_code_at = None;
                    let code = self.codes.as_ref().map(|codes| codes.open.renew());
                    self.announce(code);
                }
                () = at(expires_at) => {
                    expires_at = expiry(self.expires);
                    self.ticket.renew(Reason::TicketExpired);
                    // A code that is burnt has its own pause.
                    let codes = self.codes.as_ref().filter(|_| fresh_code_at.is_none());
                    let code = codes.map(|codes| codes.open.renew());
                    self.warn("the ticket has expired; a new one follows".to_owned());
                    self.announce(code);
                }
            }
        }
    }

    fn warn(&self, message: String) {
        self.reporter.report(Event::Warning { path: None, reason: None, message });
    }

    fn announce(&self, code: Option<Code>) {
        let (addresses, fingerprint) = (self.addresses.clone(), self.fingerprint.head());
        let ticket = Ticket { addresses, fingerprint, secret: self.ticket.secret() };
        self.reporter.report(Event::Listening(Listening {
            role: self.role,
            what: self.what.clone(),
            ticket: Some(ticket.to_string()),
            code: code.map(|code| code.reveal()),
            addresses: ticket.addresses,
            fingerprint: self.fingerprint.to_string(),
        }));
    }
}

/// Waits until a code is burnt.
async fn burnt(codes: Option<&mut Codes>) {
    let burnt = match codes {
        Some(codes) => codes.burnt.changed().await.is_ok(),
        None => false,
    };
    if !burnt {
        std::future::pending().await
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The first dialler that is let in.
pub(super) async fn first_link<C: Connection>(
    endpoint: &impl Endpoint,
    listener: &mut Listener<C>,
) -> Result<Link<C>, Failure> {
    let guest = listener.next().await.ok_or_else(|| {
        let fault = endpoint.fault().unwrap_or("the socket was closed while waiting");
        Failure::new(Reason::Setup, fault)
    })?;
    Ok(guest.link)
}
