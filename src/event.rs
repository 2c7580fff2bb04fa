//! What the library tells while it works. It prints nothing itself; `ui` does.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::failure::{Reason, Side};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
pub use crate::protocol::wire::entry::Outcome;
use crate::protocol::wire::role::Role;

/// Something that a person or a script may want to know.
#[derive(Debug, Clone)]
pub enum Event {
    /// This side waits for the other.
    Listening(Listening),
    /// A peer has been authenticated.
    Connected {
        /// Its address.
        address: SocketAddr,
        /// Its fingerprint.
        fingerprint: String,
        /// Its name and version, escaped.
        agent: String,
    },
    /// Entries begin to flow.
    Started {
        /// Which side this process is.
        side: Side,
        /// The transfer.
        transfer: TransferId,
    },
    /// Where the transfer stands; several times a second while anything moves.
    Progress(Progress),
    /// One entry has been settled.
    File(FileSettled),
    /// Something that does not end the transfer.
    Warning {
        /// The entry it is about.
        path: Option<String>,
        /// A stable kind, where there is one.
        reason: Option<Reason>,
        /// One sentence.
        message: String,
    },
    /// What would make the next transfer better; shortly before the end.
    Advice(Advice),
    /// Something that the receiver's file system does not keep, for all entries together; shortly before the end.
    NotKept(NotKept),
    /// The transfer has ended well, but for the entries in `failed`.
    Finished(Summary),
    /// A bench writes its files before it sends them.
    Preparing {
        /// Where to.
        dir: PathBuf,
        /// How many bytes.
        bytes: u64,
        /// Bytes that must be free there for the whole bench.
        space_bytes: u64,
    },
    /// A bench has ended, in place of [`Event::Finished`].
    Bench(Bench),
    /// Who this machine is (`towline id`).
    Identity {
        /// Its fingerprint.
        fingerprint: String,
        /// Where its key lies.
        path: PathBuf,
        /// It has just been made.
        is_new: bool,
    },
}

/// What would make the next transfer better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The memory budget of this side held the transfer back.
    MoreMemory {
        /// For this share of the time, percent.
        percent: u8,
        /// With this budget twice as much can be on the way.
        memory_bytes: u64,
        /// More parcels at once would help as well.
        or_streams: bool,
    },
    /// The receiver does not sync: a power failure there can lose what it wrote.
    ReceiverDoesNotSync,
}

/// How to reach a waiting side.
#[derive(Debug, Clone)]
pub struct Listening {
    /// What the side that waits is there to do.
    pub role: Role,
    /// Where from or where to, as given; empty for a bench.
    pub what: Vec<PathBuf>,
    /// The ticket, with its secret.
    pub ticket: String,
    /// Addresses that the ticket names.
    pub addresses: Vec<SocketAddr>,
    /// Fingerprint of this machine.
    pub fingerprint: String,
}

/// Totals so far. `total_*` grow while the walk goes on and are final when `walked`.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// The manifest is complete.
    pub walked: bool,
    /// Files announced.
    pub total_files: u64,
    /// Bytes announced.
    pub total_bytes: u64,
    /// Bytes that QUIC took (on the receiver: bytes that came).
    pub sent_bytes: u64,
    /// Bytes that are written at the receiver and acked, or were there before.
    pub written_bytes: u64,
    /// Files under their final name.
    pub done_files: u64,
    /// Files of several chunks that are on the way, at most a few.
    pub active: Vec<ActiveFile>,
    /// Why nothing moves just now, when nothing does.
    pub waiting_for: Option<&'static str>,
}

/// A large file on its way.
#[derive(Debug, Clone)]
pub struct ActiveFile {
    /// Number of its entry.
    pub id: u64,
    /// Its path.
    pub path: RelPath,
    /// Its size.
    pub size: u64,
    /// Bytes of it that are sent.
    pub sent_bytes: u64,
    /// Bytes of it that are written.
    pub written_bytes: u64,
}

/// One settled entry (files and links; directories only when they fail).
#[derive(Debug, Clone)]
pub struct FileSettled {
    /// Path in the manifest.
    pub path: RelPath,
    /// Another name that it got on the receiver (`--exists rename`).
    pub renamed: Option<RelPath>,
    /// A regular file (not a link or directory).
    pub is_file: bool,
    /// Size in bytes.
    pub size: u64,
    /// The BLAKE3 root, as b3sum prints it; absent for what is no file, was skipped or failed.
    pub blake3: Option<blake3::Hash>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    pub message: Option<String>,
}

/// The end of a transfer.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Which side this process is.
    pub side: Side,
    /// Regular files under their final names that travelled.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symbolic links.
    pub links: u64,
    /// Files and links that were there before.
    pub identical: u64,
    /// Those of them that got another mode or time (`--exists replace`); not counted in `identical`.
    pub updated: u64,
    /// Files and links that were left alone.
    pub skipped: u64,
    /// Entries that failed.
    pub failed: u64,
    /// The gravest reason among them, and for `not_kept`.
    pub gravest: Option<Reason>,
    /// Bytes that travelled.
    pub bytes: u64,
    /// From the start to the end.
    pub elapsed: Duration,
    /// The BLAKE3 root when there was exactly one file.
    pub blake3: Option<blake3::Hash>,
    /// What held the transfer, each with its percentage of the time, the greatest first; 100 together.
    pub limited_by: Vec<(Bottleneck, u8)>,
    /// Everything is durable. Not so with `--no-fsync`, and where a sync was not possible.
    pub synced: bool,
    /// What the receiver's file system does not keep.
    pub not_kept: Vec<NotKept>,
}

/// What a bench measured.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The transfer itself.
    pub summary: Summary,
    /// Both sides are this process.
    pub with_itself: bool,
    /// The files of this side are on a disk, not in memory.
    pub on_disk: bool,
    /// Smoothed round-trip time at the end.
    pub rtt: Duration,
    /// Largest UDP payload that this side sent, bytes.
    pub mtu_bytes: u16,
    /// Packets that this side sent.
    pub sent_packets: u64,
    /// Those of them that were called lost.
    pub lost_packets: u64,
    /// Parcels on the way at once, as far as this side allows.
    pub streams: usize,
    /// Processor time of this process, user and system, while the transfer went on.
    pub cpu: Duration,
}

/// At the end of a run, how long a reader that takes nothing is waited for: that of a stopped terminal, an unread pipe,
/// a FIFO that nobody opens.
pub const READER_WAIT: Duration = Duration::from_secs(30);

/// The random name of a transfer, the same on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferId([u8; 16]);

impl From<[u8; 16]> for TransferId {
    fn from(id: [u8; 16]) -> Self {
        Self(id)
    }
}

impl fmt::Display for TransferId {
    /// Lower-case hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// An event and the transfer that it belongs to.
#[derive(Debug, Clone)]
pub struct Report {
    /// `None` before a transfer is known, and for what belongs to none.
    pub transfer: Option<TransferId>,
    /// What happened.
    pub event: Event,
}

/// Takes events. Called from many tasks; never waits for whoever reads what comes of them.
pub trait Reporter: Send + Sync + 'static {
    /// Takes an event that names its transfer.
    fn take(&self, report: Report);

    /// Takes an event. [`OfTransfer`] adds the transfer; [`Event::Started`] names it itself.
    fn report(&self, event: Event) {
        let transfer = match &event {
            Event::Started { transfer, .. } => Some(*transfer),
            _ => None,
        };
        self.take(Report { transfer, event });
    }
}

/// Names the transfer in every event of one session.
pub struct OfTransfer {
    transfer: TransferId,
    inner: Arc<dyn Reporter>,
}

impl OfTransfer {
    /// Passes events on to `inner`.
    pub fn new(transfer: TransferId, inner: Arc<dyn Reporter>) -> Arc<Self> {
        Arc::new(Self { transfer, inner })
    }
}

impl Reporter for OfTransfer {
    fn take(&self, report: Report) {
        self.inner.take(Report { transfer: Some(self.transfer), ..report });
    }
}
