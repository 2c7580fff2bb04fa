//! Sessions that lose their connection, over a network in memory. The side that dialled dials again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{budget, receiver, sender, terms};
use crate::auth::{Expected, JoinKey};
use crate::connect::Keeper;
use crate::event::{Event, Report, Reporter, Summary};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::entry::Kind;
use crate::protocol::wire::role::Role;
use crate::session::handshake::join;
use crate::session::{Context, Link, Retry, receive, send};
use crate::testing::connection::{MemoryConnection, MemoryLimits};
use crate::testing::disk::{MemorySource, MemoryTarget};
use crate::testing::memory::lease;
use crate::testing::network::MemoryNetwork;
use crate::testing::session::context;
use crate::transport::{Connection, Network, TransportError};

const RETRY: Retry = Retry::For(Duration::from_secs(60));
/// A connection that nothing comes over is lost after this long.
const IDLE: Duration = Duration::from_secs(15);
/// Bytes of the large file, which takes about ten seconds to write.
const LARGE: usize = 40 << 20;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What one side is told, with the time since the start.
struct Notes {
    began: Instant,
    said: Mutex<Vec<(Duration, Event)>>,
    network: MemoryNetwork,
}

impl Notes {
    fn new(network: &MemoryNetwork) -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), said: Mutex::default(), network: network.clone() })
    }

    /// How often the connection was lost, and how often another one took over.
    fn lost_and_replaced(&self) -> (usize, usize) {
        let said = self.said.lock().unwrap();
        let lost = said.iter().filter(|(_, event)| matches!(event, Event::Reconnecting { .. })).count();
        (lost, said.iter().filter(|(_, event)| matches!(event, Event::Reconnected { .. })).count())
    }

    /// When the connection was lost first.
    fn lost_at(&self) -> Option<Duration> {
        let said = self.said.lock().unwrap();
        said.iter().find(|(_, event)| matches!(event, Event::Reconnecting { .. })).map(|(at, _)| *at)
    }
}

impl Reporter for Notes {
    fn take(&self, report: Report) {
        if let Event::Reconnected { .. } = report.event {
            assert!(self.network.links()[0].is_let_go(), "the memory of the first connection is still held");
        }
        self.said.lock().unwrap().push((self.began.elapsed(), report.event));
    }
}

/// Two sides that have met.
struct Pair {
    network: MemoryNetwork,
    ticket: crate::auth::Ticket,
    sending: (Link<MemoryConnection>, Keeper<MemoryNetwork>),
    receiving: (Link<MemoryConnection>, Keeper<MemoryNetwork>),
    notes: [Arc<Notes>; 2],
    stops: [watch::Sender<Option<Failure>>; 2],
    contexts: [Context; 2],
}

/// What both sides ended with.
struct Both {
    sent: Result<Summary, Failure>,
    received: Result<Summary, Failure>,
    notes: [Arc<Notes>; 2],
    network: MemoryNetwork,
    lasted: Duration,
}

impl Pair {
    async fn new(retry: Retry, connections: u32) -> Self {
        // Four chunks at a time.
        let limits = MemoryLimits { streams: 5, connection_window_bytes: 8 << 20, ..MemoryLimits::default() };
        let network = MemoryNetwork::new([1; 32], limits);
        let (listening, ticket) = receiver(&network, Some(connections), None, retry).await;
        let dialled = sender(&network, &ticket, Some(connections), retry).await.unwrap();
        let listened = listening.await.unwrap().unwrap();
        let notes = [Notes::new(&network), Notes::new(&network)];
        let channels = [(); 2].map(|()| watch::channel(None));
        let [(stop_sender, sender_stopped), (stop_receiver, receiver_stopped)] = channels;
        let with = |notes: &Arc<Notes>, stop| {
            let reporter = Arc::clone(notes) as Arc<dyn Reporter>;
            Context { reporter, stop, ..context(lease(budget())) }
        };
        let contexts = [with(&notes[0], sender_stopped), with(&notes[1], receiver_stopped)];
        Self {
            network,
            ticket,
            sending: dialled.split(),
            receiving: listened.split(),
            notes,
            stops: [stop_sender, stop_receiver],
            contexts,
        }
    }

    /// Runs both sides to their ends, and `meddle` beside them.
    async fn run(
        self,
        source: MemorySource,
        target: &MemoryTarget,
        meddle: impl AsyncFnOnce(&MemoryNetwork, &[watch::Sender<Option<Failure>>; 2]),
    ) -> Both {
        let Self { network, sending, receiving, notes, stops, contexts, .. } = self;
        let ((dialled, dialling), (mut listened, listening)) = (sending, receiving);
        let [at_sender, at_receiver] = contexts;
        let began = Instant::now();
        let sending = async {
            let told = Arc::clone(&at_sender.reporter);
            let sent = send::driver::run(dialled, Arc::new(source), 20, [7; 16], at_sender).await;
            dialling.goodbye(sent.as_ref().err(), told.as_ref()).await;
            sent
        };
        let receiving = async {
            let told = Arc::clone(&at_receiver.reporter);
            let offer = receive::offer::offer(&mut listened, &at_receiver).await?;
            let target = Arc::new(target.clone());
            let name = "/memory".to_owned();
            let received =
                receive::driver::run(listened, offer, target, name, Exists::Refuse, at_receiver).await;
            listening.goodbye(received.as_ref().err(), told.as_ref()).await;
            received
        };
        let all = async { tokio::join!(sending, receiving, meddle(&network, &stops)) };
        let (sent, received, ()) = timeout(secs(100_000), all).await.expect("it hangs");
        Both { sent, received, notes, network, lasted: began.elapsed() }
    }
}

fn large() -> (MemorySource, Vec<u8>) {
    let mut contents = vec![0; LARGE];
    blake3::Hasher::new().finalize_xof().fill(&mut contents);
    (MemorySource::file("f", contents.clone()), contents)
}

/// Writes the large file in about ten seconds.
fn slow_disk() -> MemoryTarget {
    MemoryTarget::new().with_write_pace(Duration::from_millis(500))
}

/// A transfer of the large file with a cut of this many seconds in its middle.
async fn cut_for(seconds: u64, retry: Retry) -> (Both, MemoryTarget, Vec<u8>) {
    let (source, contents) = large();
    let target = slow_disk();
    let pair = Pair::new(retry, 1).await;
    let meddle = async |network: &MemoryNetwork, _: &_| {
        sleep(secs(3)).await;
        network.cut_for(secs(seconds), IDLE).await;
    };
    let both = pair.run(source, &target, meddle).await;
    (both, target, contents)
}

#[tokio::test(start_paused = true)]
async fn a_cut_of_five_seconds_costs_no_connection() {
    let (both, target, contents) = cut_for(5, RETRY).await;
    assert!(both.sent.is_ok() && both.received.is_ok(), "{:?} {:?}", both.sent, both.received);
    assert!(target.files()[&b"f"[..]] == contents);
    assert!(both.notes.iter().all(|notes| notes.lost_and_replaced() == (0, 0)));
    assert_eq!(both.network.links().len(), 1);
    assert!(both.lasted < secs(20), "{:?}", both.lasted);
}

/// [W-44]
#[tokio::test(start_paused = true)]
async fn after_a_cut_of_forty_seconds_the_transfer_goes_on_over_another_connection() {
    let (both, target, contents) = cut_for(40, RETRY).await;
    assert!(both.sent.is_ok() && both.received.is_ok(), "{:?} {:?}", both.sent, both.received);
    assert!(target.files()[&b"f"[..]] == contents);
    for notes in &both.notes {
        assert_eq!(notes.lost_and_replaced(), (1, 1));
        assert_eq!(notes.lost_at().unwrap().as_secs(), 3 + IDLE.as_secs());
    }
    assert_eq!(both.network.links().len(), 2);
    assert!((secs(43)..secs(70)).contains(&both.lasted), "{:?}", both.lasted);
}

#[tokio::test(start_paused = true)]
async fn a_cut_of_ninety_seconds_ends_both_sides_in_time() {
    let (both, target, _) = cut_for(90, RETRY).await;
    for result in [&both.sent, &both.received] {
        let failure = result.as_ref().unwrap_err();
        assert_eq!((failure.reason, failure.reason.exit_code()), (Reason::ConnectionLost, 9));
        assert!(failure.message.ends_with("and no other was made within 1m"), "{}", failure.message);
    }
    assert!(target.files().is_empty());
    assert!(both.notes.iter().all(|notes| notes.lost_and_replaced() == (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_a_cut_of_half_an_hour_is_waited_out() {
    let (both, target, contents) = cut_for(2_000, Retry::Forever).await;
    assert!(both.sent.is_ok() && both.received.is_ok(), "{:?} {:?}", both.sent, both.received);
    assert!(target.files()[&b"f"[..]] == contents);
}

#[tokio::test(start_paused = true)]
async fn with_retry_off_the_loss_of_the_connection_ends_both_sides() {
    let (both, _, _) = cut_for(40, Retry::Off).await;
    for result in [&both.sent, &both.received] {
        assert_eq!(result.as_ref().unwrap_err().reason, Reason::ConnectionLost);
    }
    assert!(both.notes.iter().all(|notes| notes.lost_and_replaced() == (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_side_whose_listening_socket_is_dead_does_not_wait_for_its_dialler() {
    let (source, _) = large();
    let pair = Pair::new(RETRY, 3).await;
    let address = pair.ticket.addresses[0];
    let meddle = async |network: &MemoryNetwork, _: &_| {
        sleep(secs(3)).await;
        network.unplug(address);
        network.cut_for(secs(90), IDLE).await;
    };
    let both = pair.run(source, &slow_disk(), meddle).await;
    assert!(both.sent.unwrap_err().message.ends_with("and no other was made within 1m"));
    let failure = both.received.unwrap_err();
    assert!(!failure.message.contains("no other was made"), "{}", failure.message);
    assert_eq!(both.notes[1].lost_and_replaced(), (0, 0));
}

/// Many names, so that a cut falls into the manifest.
#[tokio::test(start_paused = true)]
async fn a_cut_during_the_manifest_loses_no_entry() {
    let names: Vec<_> = (0..3000).map(|n| &*Box::leak(format!("{n:0200}").into_boxed_str())).collect();
    let source =
        MemorySource::new(names.iter().map(|n| (*n, Kind::File { size: 0 }, b"x".to_vec())).collect());
    let target = MemoryTarget::new();
    let pair = Pair::new(RETRY, 1).await;
    let meddle = async |network: &MemoryNetwork, _: &_| {
        while target.files().len() < 20 {
            sleep(Duration::from_millis(1)).await;
        }
        network.cut_for(secs(40), IDLE).await;
    };
    let both = pair.run(source, &target, meddle).await;
    assert_eq!((both.sent.unwrap().files, both.received.unwrap().files), (3000, 3000));
    assert_eq!(target.files().len(), 3000);
    assert_eq!(both.notes[0].lost_and_replaced(), (1, 1));
}

/// The cut comes at each moment from the last write to after the end, for a time that another connection bridges, and
/// for a longer one. [W-24]
#[tokio::test(start_paused = true)]
async fn a_cut_during_the_last_words_makes_no_side_say_what_is_not_so() {
    let (mut replaced, mut given_up) = (0, 0);
    for seconds in [40, 90] {
        for moment in 0..40 {
            let (source, target) = (MemorySource::file("f", vec![1; 1000]), MemoryTarget::new());
            let pair = Pair::new(RETRY, 1).await;
            let meddle = async |network: &MemoryNetwork, _: &_| {
                sleep(Duration::from_millis(moment * 4)).await;
                network.cut_for(secs(seconds), IDLE).await;
            };
            let both = pair.run(source, &target, meddle).await;
            let is_there = target.files().contains_key(&b"f"[..]);
            let case = format!("{seconds} s, moment {moment}: {:?} {:?}", both.sent, both.received);
            for result in [&both.sent, &both.received] {
                match result {
                    Ok(summary) => assert!(is_there && summary.failed == 0, "{case}"),
                    Err(failure) => assert_eq!(failure.reason, Reason::ConnectionLost, "{case}"),
                }
            }
            if seconds == 40 {
                // Before the offer there is no session that could go on.
                assert_eq!(both.sent.is_ok(), both.received.is_ok(), "{case}");
            } else {
                assert!(both.received.is_ok() || both.sent.is_err(), "{case}");
            }
            replaced += both.notes[0].lost_and_replaced().1;
            given_up += usize::from(both.sent.is_err());
        }
    }
    assert!(replaced > 5 && given_up > 5, "{replaced} {given_up}");
}

/// [W-45]
#[tokio::test(start_paused = true)]
async fn attack_10_nobody_else_takes_over_a_session_and_the_ticket_stays_used() {
    let (source, contents) = large();
    let target = slow_disk();
    let pair = Pair::new(RETRY, 1).await;
    let ticket = pair.ticket.clone();
    let meddle = async |network: &MemoryNetwork, _: &_| {
        sleep(secs(2)).await;
        let limits = terms(Role::Send, network, None, RETRY).limits;
        // The same key, but not the secret of the session; and another key.
        for who in [network.clone(), network.seen_by([9; 32])] {
            let expected = Expected::Head(ticket.fingerprint);
            let (stranger, _endpoint) = who.dial(&ticket.addresses, expected, &limits).await.unwrap();
            join(&stranger, &JoinKey::new(&[9; 32]), 0).await.unwrap();
            let TransportError::Closed { code, .. } = stranger.closed().await else { panic!("not told") };
            assert_eq!(code, u64::from(Reason::NotAuthenticated.code()));
        }
        // Also while the connection is lost and the listener waits for another.
        let first = network.links()[0].clone();
        first.cut_at(1);
        let second = sender(network, &ticket, Some(1), RETRY).await;
        assert_eq!(second.err().map(|failure| failure.reason), Some(Reason::TicketUsed));
        first.cut();
    };
    let both = pair.run(source, &target, meddle).await;
    assert!(both.sent.is_ok() && both.received.is_ok(), "{:?} {:?}", both.sent, both.received);
    assert!(target.files()[&b"f"[..]] == contents);
}

/// The process of the listener is gone, without a word.
#[tokio::test(start_paused = true)]
async fn a_listener_that_is_gone_for_good_is_given_up() {
    let (source, _) = large();
    let target = slow_disk();
    let Pair { network, sending: (dialled, keeper), receiving, contexts: [context, _], notes, .. } =
        Pair::new(RETRY, 1).await;
    let meddle = async {
        sleep(secs(3)).await;
        let first = network.links()[0].clone();
        first.hold(true);
        drop(receiving);
        sleep(IDLE).await;
        first.cut();
        Instant::now()
    };
    let sending = send::driver::run(dialled, Arc::new(source), 20, [7; 16], context);
    let (sent, cut) = tokio::join!(sending, meddle);
    assert_eq!(sent.unwrap_err().reason, Reason::ConnectionLost);
    assert!((secs(60)..secs(61)).contains(&cut.elapsed()), "{:?}", cut.elapsed());
    assert_eq!(notes[0].lost_and_replaced(), (1, 0));
    keeper.goodbye(Some(&Failure::protocol("")), notes[0].as_ref()).await;
    assert!(cut.elapsed() < secs(61));
    assert!(target.files().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_for_another_connection_at_once() {
    for side in [0, 1] {
        let (source, _) = large();
        let target = slow_disk();
        let pair = Pair::new(RETRY, 1).await;
        let meddle = async |network: &MemoryNetwork, stops: &[watch::Sender<Option<Failure>>; 2]| {
            sleep(secs(3)).await;
            let stop = async {
                sleep(secs(30)).await;
                stops[side].send_replace(Some(Failure::new(Reason::Interrupted, "stopped")));
                Instant::now()
            };
            let began = Instant::now();
            let ((), stopped) = tokio::join!(network.cut_for(secs(90), IDLE), stop);
            assert_eq!(stopped.duration_since(began).as_secs(), 30);
        };
        let began = Instant::now();
        let both = pair.run(source, &target, meddle).await;
        let results = [&both.sent, &both.received];
        assert_eq!(results[side].as_ref().unwrap_err().reason, Reason::Interrupted, "side {side}");
        assert_eq!(results[1 - side].as_ref().unwrap_err().reason, Reason::ConnectionLost);
        assert!(began.elapsed() < secs(94));
    }
}

/// What a close means is not tried again.
#[tokio::test(start_paused = true)]
async fn a_peer_that_is_stopped_ends_the_session_at_once() {
    let (source, _) = large();
    let target = slow_disk();
    let pair = Pair::new(RETRY, 1).await;
    let meddle = async |_: &MemoryNetwork, stops: &[watch::Sender<Option<Failure>>; 2]| {
        sleep(secs(3)).await;
        stops[1].send_replace(Some(Failure::new(Reason::Interrupted, "stopped")));
    };
    let both = pair.run(source, &target, meddle).await;
    for result in [&both.sent, &both.received] {
        assert_eq!(result.as_ref().unwrap_err().reason, Reason::Interrupted);
    }
    assert_eq!(both.notes[0].lost_and_replaced(), (0, 0));
    assert!(both.lasted < secs(10), "{:?}", both.lasted);
}
