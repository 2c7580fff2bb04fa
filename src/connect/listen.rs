//! The side that listens.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::connected::{Connected, GOODBYE, part};
use super::extra::Sockets;
use super::nearby::Announcement;
use super::slot::OneSlot;
use super::terms::Terms;
use super::waiting::{Stop, unless_stopped, within};
use crate::auth::methods::Invited;
use crate::auth::{Code, Expected, Fingerprint, OpenCode, Secret, Ticket};
use crate::event::{Event, Listening, Reporter};
use crate::node::listener::Listener;
use crate::protocol::failure::{Failure, Reason};
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
    let Invitation { address, allowed, code_words, wait, what } = invitation;
    let Terms { role, network, limits, .. } = terms;
    let endpoint =
        network.listen(&address, limits).map_err(|e| Failure::new(Reason::Setup, e.to_string()))?;
    let addresses = endpoint.local_addresses().map_err(transport_failure)?;
    let secret = Secret::generate();
    let ticket = Ticket { addresses, fingerprint: network.fingerprint(), secret };
    let place = endpoint.local_address().map_err(transport_failure)?;
    let sockets = Sockets::new(terms.clone(), place.ip());
    let mut code = code_words.map(|words| Codes::new(words, place));
    let by_key = allowed.into_iter().map(Expected::Key);
    let expected = std::iter::once(Expected::Secret(secret)).chain(by_key).collect();
    let authorizer = Box::new(Invited { expected, code: code.as_ref().map(|code| Arc::clone(&code.open)) });
    let slot = Arc::new(OneSlot { authorizer, taken: AtomicBool::new(false), sockets });
    let slots = vec![Arc::clone(&slot) as Arc<dyn Slot>];
    let mut listener = Listener::new(endpoint.clone(), *role, slots);
    let announce = |code: Option<String>| {
        reporter.report(Event::Listening(Listening {
            role: *role,
            what: what.clone(),
            ticket: Some(ticket.to_string()),
            code,
            addresses: ticket.addresses.clone(),
            fingerprint: ticket.fingerprint.to_string(),
        }));
    };
    announce(code.as_ref().map(|code| code.first.clone()));
    let waiting = within(wait, async {
        tokio::select! {
            link = first_link(&endpoint, &mut listener) => link,
            never = renew(code.as_mut(), reporter, &announce) => match never {},
        }
    });
    let mut link = match unless_stopped(stop, waiting).await {
        Ok(link) => link,
        Err(failure) => {
            drop(listener);
            // A peer may be dialling now.
            endpoint.close(failure.reason.code(), &close_reason(&failure));
            endpoint.wait_idle(GOODBYE).await;
            return Err(failure);
        }
    };
    endpoint.close_to_newcomers();
    let answering = listener.into_answering();
    match slot.sockets.serve(&mut link, &answering) {
        Ok(joining) => {
            let endpoint = watch::Sender::new(endpoint).subscribe();
            Ok(Connected { link, endpoint, answering: Some(answering), joining, is_shared: false })
        }
        Err(failure) => Err(part(&link.connection, &endpoint, failure).await),
    }
}

/// The codes of a waiting side, one after the other. They are found on the local network until this is dropped.
struct Codes {
    open: Arc<OpenCode>,
    first: String,
    burnt: watch::Receiver<()>,
    _announcement: Option<Announcement>,
}

impl Codes {
    /// Opens the first one, for diallers that come to `place`.
    fn new(words: usize, place: SocketAddr) -> Self {
        let code = Code::generate(words);
        let (number, first) = (code.number(), code.reveal());
        let (sender, burnt) = watch::channel(());
        let open = OpenCode::new(code, move || {
            sender.send_replace(());
        });
        Self { open, first, burnt, _announcement: Announcement::new(number, place) }
    }
}

/// Tells of each code that is burnt, and opens a new one after a pause, so that a program has few guesses.
async fn renew(
    codes: Option<&mut Codes>,
    reporter: &dyn Reporter,
    announce: &impl Fn(Option<String>),
) -> Infallible {
    let Some(codes) = codes else { return std::future::pending().await };
    let mut pause = PAUSE_AFTER_GUESS;
    while codes.burnt.changed().await.is_ok() {
        let after = humantime::format_duration(pause);
        let message =
            format!("somebody has tried a wrong code, which used it up; a new one follows in {after}");
        reporter.report(Event::Warning { path: None, reason: None, message });
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_AFTER_GUESS_MAX);
        announce(Some(codes.open.renew().reveal()));
    }
    std::future::pending().await
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
