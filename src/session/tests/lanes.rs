//! Sessions over several connections, some of which are lost.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::told;
use super::{
    MIB, Session, TIMEOUT, Tree, admit_to, arrived, assert_whole, bytes, greet, one_file, random, receive_on,
    seeds, send_on, source, tree,
};
use crate::auth::{Fingerprint, JoinKey};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::role::Role;
use crate::session::handshake::{join, join_key};
use crate::session::messages::write_message;
use crate::session::{Budget, Joining, Link, Retry};
use crate::testing::connection::{MemoryConnection, MemoryLimits, MemoryLink, pair};
use crate::testing::disk::{MemoryTarget, Node};
use crate::transport::{Connection, SendStream};

/// Number of extra connections.
const EXTRA: u32 = 2;

/// Two sides after the greeting, with extra connections that join as soon as the session runs.
struct Rig {
    session: Session,
    sending: Link<MemoryConnection>,
    receiving: Link<MemoryConnection>,
    first: MemoryLink,
    extra: Vec<MemoryLink>,
}

impl Rig {
    async fn new(seed: u64) -> Self {
        Self::with_delays(seed, Duration::from_millis(20)).await
    }

    /// Extra connections delay everything by a random time up to `delay_max`.
    async fn with_delays(seed: u64, delay_max: Duration) -> Self {
        let session = Session::with_budget(seed, Budget::new(64 * MIB, Some(8)), TIMEOUT);
        let (ends, first) = session.connect();
        let (mut sending, mut receiving) = greet(ends).await;
        let (sender_joining, sender) = Joining::new(EXTRA, false, Retry::Off);
        let (receiver_joining, receiver) = Joining::new(EXTRA, false, Retry::Off);
        (sending.joining, receiving.joining) = (sender_joining, receiver_joining);
        let key = join_key(&sending.connection).unwrap();
        let fingerprint = receiving.connection.peer_fingerprint();
        let mut extra = Vec::new();
        for lane in 1..=EXTRA {
            let limits = MemoryLimits { streams: 4, delay_max, ..session.limits };
            let (dialler, listener, link) = pair(random(seed) ^ u64::from(lane), limits);
            let (joined, admitted) =
                tokio::join!(join(&dialler, &key, lane), admit_to(&listener, &key, fingerprint, lane));
            assert_eq!((joined, admitted), (Ok(()), Ok(())));
            extra.push(link);
            let (sender, receiver) = (sender.clone(), receiver.clone());
            tokio::spawn(async move { receiver.join(lane, listener).await });
            tokio::spawn(async move { sender.join(lane, dialler).await });
        }
        Self { session, sending, receiving, first, extra }
    }

    /// Runs both sides to their ends, and `meddle` beside them.
    async fn run(
        self,
        tree: &Tree,
        target: &MemoryTarget,
        meddle: impl AsyncFnOnce(&MemoryLink, &[MemoryLink]),
    ) -> (Result<u64, Failure>, Result<u64, Failure>) {
        let source = source(tree);
        let sent = send_on(self.sending, &source, &self.session.sender.context);
        let received = receive_on(self.receiving, target, Exists::Refuse, &self.session.receiver.context);
        let both = timeout(Duration::from_secs(600), async { tokio::join!(sent, received) });
        let meddling = async {
            meddle(&self.first, &self.extra).await;
            pending().await
        };
        let (sent, received) = tokio::select! {
            both = both => both.expect("it hangs"),
            () = meddling => unreachable!("it does not end"),
        };
        (sent.map(|summary| summary.bytes), received.map(|summary| summary.bytes))
    }
}

/// Some of each kind, and enough for all connections.
fn large_tree() -> Tree {
    let names = (0..16).map(|n| &*Box::leak(format!("s{n}").into_boxed_str()));
    let mut tree: Tree = names.zip(0..).map(|(name, n)| (name, Node::File(bytes(n, 250_000)))).collect();
    tree.push(("x", Node::File(bytes(100, 8 * MIB + 7))));
    tree
}

/// Waits until this many parcels, and the control stream of the first connection, have begun on `link`.
async fn carries(link: &MemoryLink, streams: u64) {
    while link.opened_streams(0) < streams {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn parcels_go_over_all_connections() {
    let tree = large_tree();
    for seed in seeds() {
        let target = MemoryTarget::new();
        let rig = Rig::new(seed).await;
        let all: Vec<_> = [&rig.first].into_iter().chain(&rig.extra).cloned().collect();
        let (sent, received) = rig.run(&tree, &target, async |_, _| {}).await;
        assert_eq!(sent, received);
        assert!(target.tree() == arrived(&tree), "seed {seed}");
        let opened: Vec<_> = all.iter().map(|link| link.opened_streams(0)).collect();
        assert!(opened.iter().all(|opened| *opened > 1), "seed {seed}: {opened:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_takes_nothing_with_it() {
    let tree = large_tree();
    let mut busy = 0;
    for seed in seeds() {
        // Both sides notice at once, or the sender first, or the receiver first.
        for first_to_know in [[0, 1], [0, 0], [1, 1]] {
            let target = MemoryTarget::new().with_write_pace(Duration::from_millis(100));
            let rig = Rig::new(seed).await;
            let (sent, received) = rig
                .run(&tree, &target, async |_, extra| {
                    let link = &extra[usize::try_from(seed % 2).unwrap()];
                    carries(link, 1 + random(seed) % 3).await;
                    sleep(Duration::from_millis(random(seed) % 60)).await;
                    busy += link.open_streams(0);
                    link.cut_at(first_to_know[0]);
                    link.cut_at(first_to_know[1]);
                    sleep(Duration::from_secs(7)).await;
                    link.cut();
                })
                .await;
            assert_eq!(sent, Ok(12_388_615), "seed {seed}, {first_to_know:?}");
            assert!(target.tree() == arrived(&tree), "seed {seed}, {first_to_know:?}");
            assert_eq!(sent, received);
        }
    }
    assert!(busy > 0, "none of them carried anything");
}

#[tokio::test(start_paused = true)]
async fn files_that_are_done_need_no_ack_of_a_connection_that_died() {
    let mut tree = large_tree();
    tree.pop();
    let mut outstanding = 0;
    for seed in seeds() {
        let target = MemoryTarget::new();
        let rig = Rig::with_delays(seed, Duration::from_secs(2)).await;
        let cut = async |_: &_, extra: &[MemoryLink]| {
            while target.files().len() < tree.len() {
                sleep(Duration::from_millis(10)).await;
            }
            for link in extra {
                outstanding += link.unread_bytes(0);
                link.cut();
            }
        };
        let (sent, received) = rig.run(&tree, &target, cut).await;
        assert_eq!((sent, received), (Ok(4_000_000), Ok(4_000_000)), "seed {seed}");
        assert!(target.tree() == arrived(&tree), "seed {seed}");
    }
    assert!(outstanding > 0, "every ack had come");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_can_attach_another_connection_to_ends_with_its_control_stream() {
    let tree = one_file(20 * MIB);
    for seed in seeds() {
        let target = MemoryTarget::new().with_write_pace(Duration::from_millis(100));
        let cut = async |first: &MemoryLink, _: &[MemoryLink]| {
            carries(first, 4).await;
            first.cut();
        };
        let (sent, received) = Rig::new(seed).await.run(&tree, &target, cut).await;
        for result in [sent, received] {
            assert_eq!(result.unwrap_err().reason, Reason::ConnectionLost, "seed {seed}");
        }
        assert_whole(&tree, &target);
        assert!(target.staged().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_dials_is_not_waited_for() {
    let session = Session::with_budget(1, Budget::new(64 * MIB, None), TIMEOUT);
    let (mut sending, mut receiving) = greet(session.connect().0).await;
    let ((sender, _sender), (receiver, _receiver)) =
        (Joining::new(2, false, Retry::Off), Joining::new(2, true, Retry::Off));
    (sending.joining, receiving.joining) = (sender, receiver);
    let (tree, target) = (tree(), MemoryTarget::new());
    let source = source(&tree);
    let (sent, received) = tokio::join!(
        send_on(sending, &source, &session.sender.context),
        receive_on(receiving, &target, Exists::Refuse, &session.receiver.context)
    );
    assert_eq!(sent.unwrap().bytes, received.unwrap().bytes);
    assert!(target.tree() == arrived(&tree));
}

/// The listener's result for an extra connection that sends what `speak` sends, and the text for the dialler.
async fn refused(
    fingerprint: Fingerprint,
    key: JoinKey,
    speak: impl AsyncFnOnce(&MemoryConnection),
) -> (Option<Reason>, Reason) {
    let (dialler, listener, _) = pair(2, MemoryLimits::default());
    let dial = async {
        speak(&dialler).await;
        told(dialler.closed().await).reason
    };
    let (told, admitted) = tokio::join!(dial, admit_to(&listener, &key, fingerprint, 1));
    (admitted.err().map(|failure| failure.reason), told)
}

/// [W-26], [R-1]
#[tokio::test(start_paused = true)]
async fn attack_10_nobody_else_joins_a_session() {
    let (first, _, _) = pair(1, MemoryLimits::default());
    let key = join_key(&first).unwrap();
    let dialler = MemoryLimits::default().fingerprints[0];
    let not_authenticated = (Some(Reason::NotAuthenticated), Reason::NotAuthenticated);

    let other = JoinKey::new(&[9; 32]);
    let with_another_key = async |c: &MemoryConnection| join(c, &other, 1).await.unwrap();
    assert_eq!(refused(dialler, key, with_another_key).await, not_authenticated);

    let with_the_key = async |c: &MemoryConnection| join(c, &key, 1).await.unwrap();
    let somebody = Fingerprint::from_bytes([7; 32]);
    assert_eq!(refused(somebody, key, with_the_key).await, not_authenticated, "another machine");

    let exporter = first.export_keying_material(b"EXPORTER-towline-join").unwrap();
    let replayed = Message::Join { lane: 1, proof: key.proof(&exporter) };
    let says = async |c: &MemoryConnection, message: &Message| {
        let (mut stream, _) = c.open_bi().await.unwrap();
        write_message(&mut stream, message).await.unwrap();
        stream.finish().unwrap();
    };
    let of_another_connection = async |c: &MemoryConnection| says(c, &replayed).await;
    assert_eq!(refused(dialler, key, of_another_connection).await, not_authenticated);

    let hello = Message::Hello {
        role: Role::Send,
        agent: "x".into(),
        method: 0,
        auth: Bytes::new(),
        connections: None,
    };
    let a_greeting = async |c: &MemoryConnection| says(c, &hello).await;
    assert_eq!(refused(dialler, key, a_greeting).await, (Some(Reason::Protocol), Reason::Protocol));
}
