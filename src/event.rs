//! Events that the library reports. Only `ui` prints them.

mod machine;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::program_end::ProgramEnd;
pub use crate::protocol::wire::entry::Outcome;
use crate::protocol::wire::role::Role;

pub use self::machine::{KnownMachine, Setting, SettingFrom};

/// An event for people and scripts.
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
    /// The connection is lost, and another one is tried for.
    Reconnecting {
        /// How long; without end if there is none.
        limit: Option<Duration>,
        /// Why it is lost, in one sentence.
        message: String,
    },
    /// Another connection has taken over.
    Reconnected {
        /// How long there was none.
        after: Duration,
    },
    /// This program is copied to a machine where ssh found none.
    Installing {
        /// The machine.
        host: String,
        /// Where to, there.
        place: String,
        /// How many bytes.
        bytes: u64,
    },
    /// The person at the other side is asked before the transfer begins.
    Asked,
    /// The transfer starts.
    Started {
        /// Which side this process is.
        side: Side,
        /// The transfer.
        transfer: TransferId,
    },
    /// An earlier transfer has left chunks of a file at the receiver, which are not sent again unless they differ. Told
    /// of the first such file.
    Resumed {
        /// Its path in the manifest.
        path: RelPath,
        /// Its size in bytes.
        size: u64,
        /// Bytes at the receiver.
        held_bytes: u64,
    },
    /// Progress, several times a second while data moves.
    Progress(Progress),
    /// One entry has been settled.
    File(FileSettled),
    /// A dry run: what would become of an entry.
    Change(Change),
    /// A problem that does not end the transfer.
    Warning {
        /// The entry it is about.
        path: Option<String>,
        /// A stable kind, where there is one.
        reason: Option<Reason>,
        /// One sentence.
        message: String,
    },
    /// Advice for the next transfer, shortly before the end.
    Advice(Advice),
    /// What the receiver's file system did not keep, for all entries together; shortly before the end.
    NotKept(NotKept),
    /// Sources that should have been removed and were not, for one cause; shortly before the end.
    SourcesRemain {
        /// One of them, safe to print.
        path: String,
        /// Why.
        cause: String,
        /// How many there are.
        count: u64,
    },
    /// The transfer is complete, except for the entries in `failed`.
    Finished(Summary),
    /// A transfer of a side that stays has failed. Others go on.
    Failed(Failure),
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
    /// A setting of this machine (`towline config`).
    Setting(Setting),
    /// A machine that this one knows (`towline peers`).
    Peer(KnownMachine),
    /// The peer of this transfer has been kept as a known one.
    Remembered(KnownMachine),
    /// What an interrupted transfer has left of a file (`--list-partial`, `--discard-partial`).
    Partial(PartialFile),
    /// A receipt has been checked (`towline receipt`).
    Receipt(CheckedReceipt),
}

/// A receipt whose signature is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedReceipt {
    /// All of it: lines `name: value`.
    pub text: String,
    /// The files were compared too.
    pub has_files: bool,
}

/// What an interrupted transfer has left of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialFile {
    /// Fingerprint of the sender.
    pub sender: String,
    /// Its path under the target.
    pub path: RelPath,
    /// Bytes that do not have to be sent again.
    pub safe_bytes: u64,
    /// Its size at the sender.
    pub size: u64,
    /// Since its last checkpoint.
    pub age: Duration,
    /// What became of it.
    pub state: PartialState,
}

/// What became of a partial file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartialState {
    /// The next transfer can go on with it.
    Kept,
    /// A receiver is using it.
    InUse,
    /// It has been removed.
    Removed,
}

impl PartialState {
    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::InUse => "in-use",
            Self::Removed => "removed",
        }
    }
}

/// Advice for the next transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The memory budget of this side limited the transfer.
    MoreMemory {
        /// For this share of the time, percent.
        percent: u8,
        /// This budget doubles the data in flight.
        memory_bytes: u64,
        /// More streams would help as well.
        or_streams: bool,
    },
    /// The receiver does not sync: a power failure there can lose what it wrote.
    ReceiverDoesNotSync,
}

/// How to reach a waiting side.
#[derive(Debug, Clone)]
pub struct Listening {
    /// What the waiting side will do.
    pub role: Role,
    /// Sources or target directory, as given; empty for a bench.
    pub what: Vec<PathBuf>,
    /// The ticket, with its secret, if there is one.
    pub ticket: Option<String>,
    /// The one-time code, if there is one.
    pub code: Option<String>,
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
    /// The totals are final: the manifest is complete, and no file of unknown size is under way.
    pub walked: bool,
    /// Files announced.
    pub total_files: u64,
    /// Bytes announced.
    pub total_bytes: u64,
    /// Bytes that QUIC accepted; on the receiver, bytes that arrived.
    pub sent_bytes: u64,
    /// Bytes that the receiver has written and acked, or had before.
    pub written_bytes: u64,
    /// Bytes in `written_bytes` that an earlier transfer left at the receiver. A chunk that turns out to differ no
    /// longer counts.
    pub resumed_bytes: u64,
    /// Files under their final name.
    pub done_files: u64,
    /// Large files in flight, at most a few.
    pub active: Vec<ActiveFile>,
    /// What the transfer waits for, when nothing moves.
    pub waiting_for: Option<&'static str>,
}

/// A large file in flight.
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

/// One settled entry (files and links; directories only when they fail or are skipped).
#[derive(Debug, Clone)]
pub struct FileSettled {
    /// Path in the manifest.
    pub path: RelPath,
    /// The other name that it got on the receiver.
    pub renamed: Option<RelPath>,
    /// A regular file (not a link or directory).
    pub is_file: bool,
    /// Size in bytes.
    pub size: u64,
    /// The BLAKE3 root, as b3sum prints it. Only for regular files that were not skipped and did not fail.
    pub blake3: Option<blake3::Hash>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    pub message: Option<String>,
    /// Whether its source was removed, where the sender was asked to.
    pub removed: Option<bool>,
}

/// What a dry run says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What would become of it.
    pub kind: ChangeKind,
    /// Path in the manifest.
    pub path: RelPath,
    /// The other name that it would get.
    pub renamed: Option<RelPath>,
    /// A directory.
    pub is_dir: bool,
    /// A regular file.
    pub is_file: bool,
    /// Size in bytes.
    pub size: u64,
}

/// What would become of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It would be new.
    Create,
    /// It would replace something.
    Replace,
    /// What is there would get its attributes.
    Update,
    /// It would get another name.
    Rename,
    /// What is there would stay.
    Skip,
    /// It would fail.
    Refuse,
    /// It was not announced, and would be removed.
    Delete,
}

impl ChangeKind {
    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Update => "update",
            Self::Rename => "rename",
            Self::Skip => "skip",
            Self::Refuse => "refuse",
            Self::Delete => "delete",
        }
    }
}

/// The end of a transfer.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Which side this process is.
    pub side: Side,
    /// Regular files that were transferred.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symbolic links.
    pub links: u64,
    /// Files and links that already existed.
    pub identical: u64,
    /// Files that already existed with the same size and time, and whose content was not compared; not counted in
    /// `identical`.
    pub unchanged: u64,
    /// Existing files and links that got a new mode or time; not counted in `identical`.
    pub updated: u64,
    /// Files and links that were skipped.
    pub skipped: u64,
    /// Entries that failed.
    pub failed: u64,
    /// The gravest reason among them, and for `not_kept`.
    pub gravest: Option<Reason>,
    /// Bytes of the files that were transferred.
    pub bytes: u64,
    /// Bytes of files that were sent; on the receiver, bytes that arrived. Holes and repeated chunks count.
    pub sent_bytes: u64,
    /// Bytes in `sent_bytes` that compression has kept off the network.
    pub saved_bytes: u64,
    /// Bytes that were not sent because an earlier transfer had left them at the receiver.
    pub resumed_bytes: u64,
    /// Bytes that were not sent because the receiver took them from the old files.
    pub copied_bytes: u64,
    /// From the start to the end.
    pub elapsed: Duration,
    /// The BLAKE3 root when there was exactly one file.
    pub blake3: Option<blake3::Hash>,
    /// The bottlenecks with their shares of the time in percent, the largest first; 100 in total.
    pub limited_by: Vec<(Bottleneck, u8)>,
    /// Everything is durable. False without syncs, and where a sync was not possible.
    pub synced: bool,
    /// The receiver has handed the bytes on, and keeps nothing.
    pub piped: bool,
    /// Files that were received and read back from the receiver's disk, if it does that.
    pub verified: Option<u64>,
    /// The text of the receiver's receipt, checked by the sender that wanted it, or why there is none.
    pub receipt: Option<Result<String, String>>,
    /// How the program ended that the receiver ran after the transfer.
    pub program: Option<ProgramEnd>,
    /// What the receiver's file system does not keep.
    pub not_kept: Vec<NotKept>,
    /// Sources that were removed (files, links, directories), where the sender was asked to.
    pub removed: Option<u64>,
    /// Entries of the sources that a filter has left out, at the sender; a directory counts as one.
    pub left_out: u64,
    /// Nothing was changed; the figures say what would have been.
    pub is_dry: bool,
    /// What was removed at the receiver because it was not announced, where that was asked for.
    pub deleted: Option<u64>,
}

impl Summary {
    /// How many times fewer bytes were on the network than without compression.
    pub fn compression_ratio(&self) -> f64 {
        let on_network = self.sent_bytes.saturating_sub(self.saved_bytes).max(1);
        if self.saved_bytes == 0 { 1.0 } else { self.sent_bytes as f64 / on_network as f64 }
    }

    /// Bytes that the receiver did not have before, in any file.
    pub fn new_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.resumed_bytes.saturating_add(self.copied_bytes))
    }
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
    /// How many of these were declared lost.
    pub lost_packets: u64,
    /// Maximum parcels in flight on this side.
    pub streams: usize,
    /// Processor time of this process during the transfer, user and system.
    pub cpu: Duration,
}

/// How long the end of a run waits for a reader that takes nothing, such as a stopped terminal or an unread pipe.
pub const READER_WAIT: Duration = Duration::from_secs(30);

/// The random name of a transfer, the same on both sides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TransferId([u8; 16]);

impl From<[u8; 16]> for TransferId {
    fn from(id: [u8; 16]) -> Self {
        Self(id)
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransferId({self})")
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
    /// The peer, at a side that serves several.
    pub peer: Option<Arc<str>>,
    /// What happened.
    pub event: Event,
}

/// Takes events from many tasks. It never waits for a reader.
pub trait Reporter: Send + Sync + 'static {
    /// Takes an event that names its transfer.
    fn take(&self, report: Report);

    /// Takes an event. [`OfTransfer`] adds the transfer; [`Event::Started`] names it itself.
    fn report(&self, event: Event) {
        let transfer = match &event {
            Event::Started { transfer, .. } => Some(*transfer),
            _ => None,
        };
        self.take(Report { transfer, peer: None, event });
    }
}

/// A question to the person at this terminal, with yes and no for answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether to receive.
    Receive {
        /// The sender, safe to print.
        peer: String,
        /// What it offers: names at the top, safe to print.
        offered_names: Vec<String>,
        /// How many more there are.
        more_names: u64,
        /// Files in all.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// The figures are those of the whole transfer.
        is_all: bool,
        /// Free space in the target directory.
        free_bytes: Option<u64>,
        /// The target directory.
        into: PathBuf,
    },
    /// Whether this program may be copied to a machine that ssh reaches.
    Install {
        /// The machine.
        host: String,
        /// What is there instead, safe to print.
        absent: String,
        /// Where it goes.
        place: String,
        /// Its size.
        bytes: u64,
    },
    /// Whether the other side shows the same words.
    Compare {
        /// The words.
        words: String,
    },
}

/// Asks the person at this terminal.
pub trait Asker: Send + Sync + 'static {
    /// Asks; the answer is no when it cannot be read. Whoever drops the answer takes the question back.
    fn ask(&self, question: Question) -> oneshot::Receiver<bool>;
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

/// Names the peer in every event of one session, and its transfer once that is known.
pub struct OfPeer {
    peer: Arc<str>,
    transfer: Mutex<Option<TransferId>>,
    inner: Arc<dyn Reporter>,
}

impl OfPeer {
    /// Passes events on to `inner`; people see the peer as `label`.
    pub fn new(label: String, inner: Arc<dyn Reporter>) -> Arc<Self> {
        Arc::new(Self { peer: label.into(), transfer: Mutex::default(), inner })
    }
}

impl Reporter for OfPeer {
    fn take(&self, report: Report) {
        let transfer = {
            let mut known = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
            *known = report.transfer.or(*known);
            *known
        };
        self.inner.take(Report { transfer, peer: Some(Arc::clone(&self.peer)), event: report.event });
    }
}
