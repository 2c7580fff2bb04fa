//! Whole sessions over a connection in memory and disks in memory, under a clock that jumps to the next timer.

mod after;
mod claims;
mod consent;
mod cuts;
mod delta;
mod disks;
mod dry;
mod ends;
mod greetings;
mod hand;
mod held_up;
mod lanes;
mod liars;
mod limits;
mod open_ended;
mod packed;
mod peers;
mod piped;
mod receipts;
mod replaced;
mod resume;
mod trees;
mod unchanged;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::{Budget, Compression, Context, Link, ProcessorUse, Throttle, receive, send, transport_failure};
use crate::auth::handshake::{Authorizer, Greeting, ListenerStep, Visitor};
use crate::auth::methods::ByKey;
use crate::auth::{Fingerprint, JoinKey};
use crate::event::{Event, Report, Reporter, Summary};
use crate::protocol::engine::patience::Patience;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::request::{Request, Rules};
use crate::protocol::wire::entry::{Kind, Meta};
use crate::protocol::wire::role::Role;
use crate::session::handshake::{Membership, Slot, admit, answer, dial, opening};
use crate::session::schedule::Schedule;
use crate::testing::connection::{MemoryConnection, MemoryLimits, MemoryLink, pair};
use crate::testing::disk::{MemorySource, MemoryTarget, Node};
use crate::testing::memory::lease;
use crate::testing::secrets::{assert_no_secret, watch_logs};
use crate::transport::TransportError;

/// Number of seeds per test, unless `TOWLINE_SEEDS` is set. `TOWLINE_SEEDS=1000 cargo test session` is a long run;
/// `TOWLINE_SEED=7` repeats a failed one.
const SEEDS: u64 = 8;

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse::<u64>().ok());
    match number("TOWLINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOWLINE_SEEDS").unwrap_or(SEEDS),
    }
}

const CHUNK_LOG2: u8 = 20;
const MIB: u64 = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);
const DISK_TIMEOUT: Duration = Duration::from_secs(600);

/// splitmix64, one number.
fn random(seed: u64) -> u64 {
    let z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bytes that differ at every place.
fn bytes(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A tree by names, in walk order.
type Tree = Vec<(&'static str, Node)>;

/// One entry of each kind, with sizes at the limits.
fn tree() -> Tree {
    let file = |seed, len| Node::File(bytes(seed, len));
    vec![
        ("big", file(1, 3 * MIB + 5)),
        ("d", Node::Dir),
        ("d/chunk", file(2, MIB)),
        ("d/e", Node::Dir),
        ("d/e/empty", file(3, 0)),
        ("d/e/one", file(4, 1)),
        ("d/nothing", Node::Dir),
        ("link", Node::Link(b"../nowhere".to_vec())),
        ("small", file(5, 256 * 1024)),
        ("tiny", file(6, 100)),
        ("two", file(7, 2 * MIB)),
    ]
}

fn source(tree: &Tree) -> MemorySource {
    let entries = tree.iter().map(|(path, node)| match node {
        Node::File(bytes) => (*path, Kind::File { size: 0 }, bytes.clone()),
        Node::Dir => (*path, Kind::Dir, Vec::new()),
        Node::Link(target) => (*path, Kind::Symlink { target: target.clone().into() }, Vec::new()),
    });
    MemorySource::new(entries.collect())
}

fn one_file(len: u64) -> Tree {
    vec![("f", Node::File(bytes(9, len)))]
}

/// The expected tree at the target.
fn arrived(tree: &Tree) -> BTreeMap<Vec<u8>, (Node, Meta)> {
    tree.iter().map(|(path, node)| (path.as_bytes().to_vec(), (node.clone(), node.default_meta()))).collect()
}

/// Asserts that files under their final names are whole.
fn assert_whole(tree: &Tree, target: &MemoryTarget) {
    for (path, contents) in target.files() {
        let node = tree.iter().find(|(name, _)| name.as_bytes() == path).map(|(_, node)| node);
        assert!(node == Some(&Node::File(contents)), "{} is not whole", String::from_utf8_lossy(&path));
    }
}

/// Records all events.
#[derive(Default)]
struct Told(Mutex<Vec<Event>>);

impl Reporter for Told {
    fn take(&self, report: Report) {
        assert_no_secret(&format!("{:?}", report.event));
        self.0.lock().unwrap().push(report.event);
    }
}

/// How one side is set up.
struct Setup {
    context: Context,
    told: Arc<Told>,
    stop: watch::Sender<Option<Failure>>,
}

impl Setup {
    fn new(budget: Budget, timeout: Duration) -> Self {
        watch_logs();
        let told = Arc::new(Told::default());
        let (stop, stopped) = watch::channel(None);
        let reporter = Arc::clone(&told) as Arc<dyn Reporter>;
        let throttle = Arc::new(Throttle::new(Schedule::default(), || Duration::ZERO));
        Self {
            context: Context {
                memory: lease(budget),
                patience: Patience { timeout, disk_timeout: DISK_TIMEOUT },
                throttle,
                // Tests run under a paused clock, so real processor time is meaningless.
                processor_use: Arc::new(ProcessorUse::default),
                delta: true,
                compression: Compression::Off,
                synced: true,
                atomic: false,
                piped: false,
                verify_disk: false,
                receipt: false,
                // All files in memory have one time.
                request: Request { compares: true, ..Request::default() },
                consent: None,
                program: None,
                identity: None,
                reporter,
                stop: stopped,
            },
            told,
            stop,
        }
    }
}

/// The text of a close, by either side.
fn told(error: TransportError) -> Failure {
    match error {
        TransportError::Closed { code, reason } if code > 0 => {
            Failure::new(Reason::from_code(code), String::from_utf8_lossy(&reason))
        }
        other => transport_failure(other),
    }
}

/// Lets everyone in.
struct Open;

impl Authorizer for Open {
    fn authorize(&self, _: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        Ok(ListenerStep::LetIn(None))
    }
}

impl Slot for Open {
    fn authorizer(&self) -> &dyn Authorizer {
        self
    }

    fn is_taken(&self) -> bool {
        false
    }

    fn take(&self, _: &Visitor) -> Result<(), Failure> {
        Ok(())
    }

    fn give_back(&self, _: &Visitor) {}

    fn ports(&self, _: Option<u32>) -> Vec<u16> {
        Vec::new()
    }
}

/// A dialler and a listener that know each other's keys.
const BY_KEY: ByKey = ByKey { listener: Fingerprint::from_bytes([2; 32]) };

/// The listener's part from the dialler's first message on.
async fn answer_all(
    connection: MemoryConnection,
    own: Role,
    slot: &dyn Slot,
) -> Result<Link<MemoryConnection>, Failure> {
    let opening = opening(&connection).await?;
    answer(connection, opening, own, slot).await
}

/// The same for a connection that is to belong to the session with `key` and the dialler `fingerprint`.
async fn admit_to(
    connection: &MemoryConnection,
    key: &JoinKey,
    fingerprint: Fingerprint,
    lane: u32,
) -> Result<(), Failure> {
    let session = Membership { key: *key, fingerprint };
    admit(connection, opening(connection).await?, &[session], lane).await.map(drop)
}

async fn greet(
    ends: (MemoryConnection, MemoryConnection),
) -> (Link<MemoryConnection>, Link<MemoryConnection>) {
    let (dialled, answered) =
        tokio::join!(dial(ends.0, Role::Send, &BY_KEY, None), answer_all(ends.1, Role::Receive, &Open));
    (dialled.unwrap(), answered.unwrap())
}

/// A session before its start.
struct Session {
    sender: Setup,
    receiver: Setup,
    exists: Exists,
    limits: MemoryLimits,
    seed: u64,
}

/// The results of both sides.
struct Ended {
    sent: Result<Summary, Failure>,
    received: Result<Summary, Failure>,
}

impl Session {
    fn new(seed: u64) -> Self {
        Self::with_budget(seed, Budget::new(8 * MIB, None), TIMEOUT)
    }

    fn with_budget(seed: u64, budget: Budget, timeout: Duration) -> Self {
        let limits = MemoryLimits { streams: budget.streams() + 1, ..MemoryLimits::default() };
        let setup = || Setup::new(budget, timeout);
        Self { sender: setup(), receiver: setup(), exists: Exists::Refuse, limits, seed }
    }

    fn connect(&self) -> ((MemoryConnection, MemoryConnection), MemoryLink) {
        let (sender, receiver, link) = pair(self.seed, self.limits);
        ((sender, receiver), link)
    }

    /// Runs both sides to their ends.
    async fn run(&self, source: &MemorySource, target: &MemoryTarget) -> Ended {
        self.run_over(self.connect().0, source, target).await
    }

    async fn run_over(
        &self,
        ends: (MemoryConnection, MemoryConnection),
        source: &MemorySource,
        target: &MemoryTarget,
    ) -> Ended {
        let (sending, receiving) = greet(ends).await;
        let (sent, received) = tokio::join!(
            send_on(sending, source, &self.sender.context),
            receive_on(receiving, target, self.exists, &self.receiver.context)
        );
        Ended { sent, received }
    }
}

async fn send_on(
    link: Link<MemoryConnection>,
    source: &MemorySource,
    context: &Context,
) -> Result<Summary, Failure> {
    send::driver::run(link, Arc::new(source.clone()), CHUNK_LOG2, [7; 16], context.clone()).await
}

async fn receive_on(
    mut link: Link<MemoryConnection>,
    target: &MemoryTarget,
    exists: Exists,
    context: &Context,
) -> Result<Summary, Failure> {
    let offer = receive::offer::offer(&mut link, context).await?;
    let target = Arc::new(target.clone());
    let treatment = Rules::of(exists).grant(&offer.request).unwrap();
    receive::driver::run(link, offer, target, "/memory".to_owned(), treatment, context.clone()).await
}
