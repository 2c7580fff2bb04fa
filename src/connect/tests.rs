//! Two sides that meet over a network in memory.

mod again;
mod codes;
mod staying;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Connected, Destination, Invitation, Terms, dial, listen};
use crate::auth::{Expected, Secret, Ticket};
use crate::event::{Event, Report, Reporter};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::role::Role;
use crate::session::{Budget, Retry, receive, send};
use crate::testing::connection::MemoryLimits;
use crate::testing::disk::{MemorySource, MemoryTarget};
use crate::testing::memory::lease;
use crate::testing::network::MemoryNetwork;
use crate::testing::secrets::watch_logs;
use crate::testing::session::context;
use crate::transport::{Arrival, Congestion, Connection, Endpoint, ListenAddress, Network, TransportError};

const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const LISTENER: [u8; 32] = [2; 32];

type Met = Result<Connected<MemoryNetwork>, Failure>;

fn network() -> MemoryNetwork {
    let limits = MemoryLimits {
        connection_window_bytes: 16 << 20,
        stream_window_bytes: 2 << 20,
        streams: 64,
        ..MemoryLimits::default()
    };
    MemoryNetwork::new([1; 32], limits)
}

fn budget() -> Budget {
    Budget::new(256 << 20, Some(64))
}

fn terms(
    role: Role,
    network: &MemoryNetwork,
    connections: Option<u32>,
    retry: Retry,
) -> Terms<MemoryNetwork> {
    watch_logs();
    let limits = budget().limits(IDLE_TIMEOUT, Duration::from_secs(8), Congestion::Auto);
    Terms { role, network: network.clone(), connections, limits, retry, budget: budget() }
}

/// Hands on the ticket that a listener tells of.
struct Tickets(mpsc::UnboundedSender<Ticket>);

impl Reporter for Tickets {
    fn take(&self, report: Report) {
        if let Event::Listening(listening) = report.event {
            self.0.send(listening.ticket.unwrap().parse().unwrap()).unwrap();
        }
    }
}

/// A receiver that listens at another host of `network`, and its ticket.
async fn receiver(
    network: &MemoryNetwork,
    connections: Option<u32>,
    wait: Option<Duration>,
    retry: Retry,
) -> (JoinHandle<Met>, Ticket) {
    let (sender, mut tickets) = mpsc::unbounded_channel();
    let terms = terms(Role::Receive, &network.seen_by(LISTENER), connections, retry);
    let listening = tokio::spawn(async move {
        let invitation = Invitation {
            address: ListenAddress::Any,
            allowed: Vec::new(),
            code_words: None,
            expires: None,
            certified: None,
            wait,
            what: Vec::new(),
        };
        let (_never, mut stop) = watch::channel(None);
        listen(invitation, &terms, &Tickets(sender), &mut stop).await
    });
    (listening, tickets.recv().await.unwrap())
}

/// A sender that dials by `ticket` and waits until it is let in.
async fn sender(network: &MemoryNetwork, ticket: &Ticket, connections: Option<u32>, retry: Retry) -> Met {
    let (_never, mut stop) = watch::channel(None);
    let terms = terms(Role::Send, network, connections, retry);
    let mut connected = dial(&Destination::Ticket(ticket.clone()), &terms, &mut stop).await?;
    connected.link.welcome().await?;
    Ok(connected)
}

fn reason(met: Met) -> Option<Reason> {
    met.err().map(|failure| failure.reason)
}

#[tokio::test(start_paused = true)]
async fn whoever_has_the_ticket_is_let_in_and_the_second_is_told_that_it_was_used() {
    let network = network();
    let (listening, ticket) = receiver(&network, Some(1), None, Retry::Off).await;
    let dialled = sender(&network, &ticket, Some(1), Retry::Off).await.unwrap();
    let listened = listening.await.unwrap().unwrap();
    assert_eq!(dialled.link.connection.peer_fingerprint(), network.seen_by(LISTENER).fingerprint());
    assert_eq!(listened.link.connection.peer_fingerprint(), network.fingerprint());
    assert!(dialled.link.agent.is_some() && listened.link.agent.is_some());
    assert_eq!(reason(sender(&network, &ticket, Some(1), Retry::Off).await), Some(Reason::TicketUsed));
    assert!(!dialled.link.connection.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_ticket_is_refused_and_the_right_one_let_in_after_it() {
    let network = network();
    let (listening, ticket) = receiver(&network, Some(1), None, Retry::Off).await;
    let wrong = Ticket { secret: Secret::from_bytes([9; 16]), ..ticket.clone() };
    assert_eq!(reason(sender(&network, &wrong, Some(1), Retry::Off).await), Some(Reason::NotAuthenticated));
    assert!(!listening.is_finished());
    assert!(sender(&network, &ticket, Some(1), Retry::Off).await.is_ok());
    assert!(listening.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_expires_is_replaced_and_its_holder_is_told() {
    let network = network();
    let (tell, mut tickets) = mpsc::unbounded_channel();
    let terms = terms(Role::Receive, &network.seen_by(LISTENER), None, Retry::Off);
    let listening = tokio::spawn(async move {
        let invitation = Invitation {
            address: ListenAddress::Any,
            allowed: Vec::new(),
            code_words: None,
            certified: None,
            expires: Some(Duration::from_secs(60)),
            wait: None,
            what: Vec::new(),
        };
        let (_never, mut stop) = watch::channel(None);
        listen(invitation, &terms, &Tickets(tell), &mut stop).await
    });
    let began = Instant::now();
    let [first, second] = [tickets.recv().await.unwrap(), tickets.recv().await.unwrap()];
    assert_eq!((began.elapsed().as_secs(), first == second), (60, false));
    assert_eq!(reason(sender(&network, &first, None, Retry::Off).await), Some(Reason::TicketExpired));
    assert!(sender(&network, &second, None, Retry::Off).await.is_ok());
    assert!(listening.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn attack_12_a_listener_that_says_nothing_is_left_after_ten_seconds() {
    let network = network();
    let silent = network.seen_by(LISTENER);
    let limits = terms(Role::Receive, &silent, None, Retry::Off).limits;
    let endpoint = silent.listen(&ListenAddress::Any, &limits).unwrap();
    let ticket = Ticket {
        addresses: endpoint.local_addresses().unwrap(),
        fingerprint: silent.fingerprint().head(),
        secret: Secret::from_bytes([9; 16]),
    };
    let accepting = tokio::spawn(async move { endpoint.accept().await.unwrap().handshake().await });
    let began = Instant::now();
    let (_never, mut stop) = watch::channel(None);
    let terms = terms(Role::Receive, &network, None, Retry::Off);
    let met = dial(&Destination::Ticket(ticket), &terms, &mut stop).await;
    assert_eq!(reason(met), Some(Reason::AckTimeout));
    assert_eq!(began.elapsed().as_secs(), 10, "{:?}", began.elapsed());
    let connection = accepting.await.unwrap().unwrap();
    let TransportError::Closed { code, .. } = connection.closed().await else { panic!("not told") };
    assert_eq!(code, u64::from(Reason::AckTimeout.code()));
}

#[tokio::test(start_paused = true)]
async fn a_dialler_that_says_nothing_has_to_go_and_holds_nobody_up() {
    let network = network();
    let (listening, ticket) = receiver(&network, Some(1), None, Retry::Off).await;
    let terms = terms(Role::Send, &network, None, Retry::Off);
    let expected = Expected::Head(ticket.fingerprint);
    let (silent, _endpoint) = network.dial(&ticket.addresses, expected, &terms.limits).await.unwrap();
    let began = Instant::now();
    let _dialled = sender(&network, &ticket, Some(1), Retry::Off).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    let listened = listening.await.unwrap().unwrap();
    let TransportError::Closed { code, .. } = silent.closed().await else { panic!("not told") };
    assert_eq!(code, u64::from(Reason::NotAuthenticated.code()));
    assert!(began.elapsed() < IDLE_TIMEOUT && !listened.link.connection.is_closed());
}

#[tokio::test(start_paused = true)]
async fn nobody_who_comes_in_time_is_unreachable() {
    let network = network();
    let began = Instant::now();
    let (listening, ticket) = receiver(&network, None, Some(Duration::from_secs(5)), Retry::Off).await;
    let failure = listening.await.unwrap().err().unwrap();
    assert_eq!((failure.reason, failure.reason.exit_code()), (Reason::Unreachable, 3));
    assert_eq!(failure.message, "nobody connected within 5s");
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(
        reason(sender(&network, &ticket, None, Retry::Off).await),
        Some(Reason::Unreachable),
        "it has closed"
    );
}

#[tokio::test(start_paused = true)]
async fn extra_connections_join_and_carry_a_part_of_the_transfer() {
    let network = network();
    let (listening, ticket) = receiver(&network, Some(3), None, Retry::Off).await;
    let dialled = sender(&network, &ticket, Some(5), Retry::Off).await.unwrap();
    let listened = listening.await.unwrap().unwrap();
    let ((dialled, _dialling), (mut listened, _listening)) = (dialled.split(), listened.split());
    let contents = vec![7; 48 << 20];
    let source = Arc::new(MemorySource::file("f", contents.clone()));
    let sending = send::driver::run(dialled, source, 20, [7; 16], context(lease(budget())));
    let target = MemoryTarget::new().with_write_pace(Duration::from_millis(50));
    let receiving = async {
        let context = context(lease(budget()));
        let offer = receive::offer::offer(&mut listened, &context).await?;
        let target = Arc::new(target.clone());
        receive::driver::run(listened, offer, target, "/memory".to_owned(), Exists::Refuse, context).await
    };
    let (sent, received) = tokio::join!(sending, receiving);
    assert!(sent.is_ok() && received.is_ok(), "{sent:?} {received:?}");
    assert!(target.files()[&b"f"[..]] == contents);
    let streams: Vec<u64> = network.links().iter().map(|link| link.opened_streams(0)).collect();
    assert!(streams.len() == 3 && streams.iter().all(|opened| *opened > 1), "{streams:?}");
}
