//! Sessions whose control stream loses its connection and continues over another.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{
    MIB, Session, Setup, TIMEOUT, Tree, admit_to, arrived, assert_whole, bytes, greet, one_file, random,
    receive_on, seeds, send_on, source,
};
use crate::auth::{Fingerprint, JoinKey};
use crate::event::Event;
use crate::protocol::failure::Reason;
use crate::protocol::final_name::Exists;
use crate::protocol::wire::entry::Kind;
use crate::session::handshake::{join, join_key};
use crate::session::{Budget, Joiner, Joining, Link, Retry};
use crate::testing::connection::{MemoryConnection, MemoryLimits, MemoryLink, pair};
use crate::testing::disk::{MemorySource, MemoryTarget, Node, Op};
use crate::transport::Connection;

/// How long these sessions wait for a replacement.
const REPLACED_WITHIN: Duration = Duration::from_secs(60);

/// Two sides after the greeting, and a way to attach connections to both.
pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) sending: Link<MemoryConnection>,
    pub(super) receiving: Link<MemoryConnection>,
    pub(super) attacher: Attacher,
    pub(super) first: MemoryLink,
}

pub(super) struct Attacher {
    sender: Joiner<MemoryConnection>,
    receiver: Joiner<MemoryConnection>,
    key: JoinKey,
    fingerprint: Fingerprint,
    limits: MemoryLimits,
}

impl Attacher {
    /// Attaches a connection with this number to both sides, to one of them a little later.
    pub(super) async fn attach(&self, seed: u64, lane: u32) -> MemoryLink {
        let (dialler, listener, link) = pair(seed, self.limits);
        let (joined, admitted) = tokio::join!(
            join(&dialler, &self.key, lane),
            admit_to(&listener, &self.key, self.fingerprint, lane)
        );
        assert_eq!((joined, admitted), (Ok(()), Ok(())));
        let late = Duration::from_millis(random(seed) % 300);
        let (sender_late, receiver_late) =
            if seed.is_multiple_of(2) { (late, Duration::ZERO) } else { (Duration::ZERO, late) };
        tokio::join!(
            async {
                sleep(sender_late).await;
                self.sender.join(lane, dialler).await;
            },
            async {
                sleep(receiver_late).await;
                self.receiver.join(lane, listener).await;
            }
        );
        link
    }
}

impl Rig {
    pub(super) async fn new(seed: u64) -> Self {
        Self::with_streams(seed, 9).await
    }

    /// The first connection has so many streams; those that take over have nine.
    async fn with_streams(seed: u64, streams: usize) -> Self {
        let mut session = Session::with_budget(seed, Budget::new(64 * MIB, Some(8)), TIMEOUT);
        // Makes the manifest slow.
        session.limits.stream_window_bytes = 8 * 1024;
        session.limits.streams = streams;
        let (ends, first) = session.connect();
        let (mut sending, mut receiving) = greet(ends).await;
        // Before that, there is no session on either side.
        sending.welcome().await.unwrap();
        let (sender_joining, sender) = Joining::new(1, false, Retry::For(REPLACED_WITHIN));
        let (receiver_joining, receiver) = Joining::new(1, false, Retry::For(REPLACED_WITHIN));
        (sending.joining, receiving.joining) = (sender_joining, receiver_joining);
        let key = join_key(&sending.connection).unwrap();
        let fingerprint = receiving.connection.peer_fingerprint();
        let limits = MemoryLimits { streams: 9, ..session.limits };
        let attacher = Attacher { sender, receiver, key, fingerprint, limits };
        Self { session, sending, receiving, attacher, first }
    }
}

/// Enough of each kind to be cut anywhere.
fn large_tree() -> Tree {
    let names = (0..400).map(|n| &*Box::leak(format!("s{n:03}").into_boxed_str()));
    let mut tree: Tree =
        vec![("a", Node::Dir), ("a/big", Node::File(bytes(1, 2 * MIB + 7))), ("a/e", Node::File(vec![]))];
    tree.extend(names.zip(0..).map(|(name, n)| (name, Node::File(bytes(n, 3_000)))));
    tree.push(("x", Node::File(bytes(100, MIB + 1))));
    tree.push(("z", Node::Link(b"x".to_vec())));
    tree
}

/// How often each entry was reported as settled.
fn settled(side: &Setup) -> BTreeMap<String, u32> {
    let mut settled = BTreeMap::new();
    for event in side.told.0.lock().unwrap().iter() {
        if let Event::File(file) = event {
            *settled.entry(file.path.to_string()).or_default() += 1;
        }
    }
    settled
}

/// Waits for the moment of a cut: early in the manifest, anywhere, or during the last messages.
async fn moment(seed: u64, target: &MemoryTarget, files: usize) {
    match seed % 3 {
        0 => sleep(Duration::from_millis(random(seed) % 100)).await,
        1 => sleep(Duration::from_millis(random(seed) % 4000)).await,
        _ => {
            while target.files().len() < files {
                sleep(Duration::from_millis(2)).await;
            }
            sleep(Duration::from_millis(random(seed) % 60)).await;
        }
    }
}

/// [W-32]
#[tokio::test(start_paused = true)]
async fn a_session_goes_on_when_its_connection_is_cut_and_replaced() {
    let tree = large_tree();
    let files = tree.iter().filter(|(_, node)| matches!(node, Node::File(_))).count();
    let mut replaced = 0u64;
    for seed in seeds().start * 4..seeds().end * 4 {
        let target = MemoryTarget::new().with_write_pace(Duration::from_millis(100));
        let Rig { session, sending, receiving, attacher, first } = Rig::new(seed).await;
        let source = source(&tree);
        let sent = send_on(sending, &source, &session.sender.context);
        let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
        let meddling = async {
            while session.receiver.told.0.lock().unwrap().is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
            if seed.is_multiple_of(4) {
                attacher.attach(seed + 500, 1).await;
            }
            let mut link = first;
            for cut in 0..1 + random(seed) % 3 {
                let seed = seed * 10 + cut;
                moment(seed / 10 + cut, &target, files).await;
                // Both sides notice at once, or one of them first.
                link.cut_at(usize::try_from(seed % 2).unwrap());
                sleep(Duration::from_millis(random(seed + 1) % 2000 * (seed % 2))).await;
                if !seed.is_multiple_of(5) {
                    link.cut();
                }
                sleep(Duration::from_millis(random(seed + 2) % 2000)).await;
                link = attacher.attach(seed + 1000, 0).await;
                sleep(Duration::from_millis(100)).await;
                replaced += u64::from(link.opened_streams(0) > 0);
            }
        };
        let all = timeout(Duration::from_secs(600), async { tokio::join!(sent, received, meddling) });
        let (sent, received, ()) = all.await.unwrap_or_else(|_| panic!("seed {seed} hangs"));
        let sent = sent.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        let received = received.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert!(target.tree() == arrived(&tree), "seed {seed}");
        assert_eq!((sent.bytes, sent.failed), (received.bytes, received.failed), "seed {seed}");
        for side in [&session.sender, &session.receiver] {
            let settled = settled(side);
            assert!(
                settled.len() > files && settled.values().all(|times| *times == 1),
                "seed {seed}: {settled:?}"
            );
        }
        let ops = target.ops();
        let renames = ops.iter().filter(|op| matches!(op, Op::Rename(_))).count();
        assert_eq!((target.staged().len(), renames), (0, tree.len() - 1), "seed {seed}");
    }
    assert!(replaced >= seeds().end - seeds().start, "only {replaced} connections took over");
}

/// [W-32] The names fill the manifest's window many times, and the cut falls between two windows.
#[tokio::test(start_paused = true)]
async fn a_manifest_that_is_cut_goes_on_where_it_was() {
    let names = (0..300).map(|n| &*Box::leak(format!("{n:0200}").into_boxed_str()));
    let tree: Tree = names.map(|name| (name, Node::File(b"content".to_vec()))).collect();
    for seed in seeds() {
        let target = MemoryTarget::new();
        let Rig { session, sending, receiving, attacher, first } = Rig::new(seed).await;
        let source = source(&tree);
        let sent = send_on(sending, &source, &session.sender.context);
        let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
        let meddling = async {
            // Some files exist already, and most entries have not been announced.
            while target.files().len() < 20 {
                sleep(Duration::from_millis(1)).await;
            }
            first.cut();
            let arrived = target.files().len();
            let _replacement = attacher.attach(seed + 1000, 0).await;
            arrived
        };
        let all = timeout(Duration::from_secs(600), async { tokio::join!(sent, received, meddling) });
        let (sent, received, arrived_by_then) = all.await.unwrap_or_else(|_| panic!("seed {seed} hangs"));
        assert!(arrived_by_then < tree.len() / 2, "seed {seed}: cut too late");
        let (sent, received) = (sent.unwrap(), received.unwrap());
        assert_eq!((sent.files, received.files), (300, 300), "seed {seed}");
        assert!(target.tree() == arrived(&tree), "seed {seed}");
    }
}

/// [W-29] Its first chunk waits for a stream until the connection is cut: nothing of it has been read by then.
#[tokio::test(start_paused = true)]
async fn a_file_of_unknown_size_of_which_nothing_was_read_is_sent_over_the_next_connection() {
    let (target, data) = (MemoryTarget::new(), bytes(1, 2 * MIB));
    // The control stream is the only one.
    let Rig { session, sending, receiving, attacher, first } = Rig::with_streams(1, 1).await;
    let source = MemorySource::new(vec![("f", Kind::OpenEnded, data.clone())]);
    let sent = send_on(sending, &source, &session.sender.context);
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let meddling = async {
        sleep(Duration::from_secs(1)).await;
        first.cut();
        attacher.attach(1000, 0).await
    };
    let (sent, received, _replacement) = tokio::join!(sent, received, meddling);
    assert_eq!((sent.unwrap().failed, received.unwrap().failed), (0, 0));
    assert!(target.files() == [(b"f".to_vec(), data)].into());
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_that_nobody_replaces_is_given_up_in_time() {
    let tree = one_file(20 * MIB);
    let target = MemoryTarget::new().with_write_pace(Duration::from_millis(100));
    let Rig { session, sending, receiving, attacher, first } = Rig::new(1).await;
    let source = source(&tree);
    let sent = send_on(sending, &source, &session.sender.context);
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let cut = async {
        sleep(Duration::from_millis(500)).await;
        first.cut();
        Instant::now()
    };
    let (sent, received, cut) = tokio::join!(sent, received, cut);
    assert!((REPLACED_WITHIN..REPLACED_WITHIN + Duration::from_secs(1)).contains(&cut.elapsed()));
    for result in [sent, received] {
        assert_eq!(result.unwrap_err().reason, Reason::ConnectionLost);
    }
    assert_whole(&tree, &target);
    assert!(target.staged().is_empty());
    drop(attacher);
}
