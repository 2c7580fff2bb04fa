//! The resolved settings: plain, checked values that no longer say where they came from.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{Code, Fingerprint, Ticket};
pub use crate::connect::{Install, Remote};
pub use crate::event::{Setting, SettingFrom};
pub use crate::node::peers::{KnownPeer, KnownPeers, PeerChange, PeerName, PeersFile, Right};
use crate::protocol::failure::Failure;
pub use crate::protocol::final_name::Exists;
use crate::protocol::path::RelPath;
pub use crate::protocol::request::{Delete, Request, Rules};
pub use crate::session::Compression;
use crate::session::Retry;
use crate::session::schedule::Schedule;
pub use crate::storage::fs::Bounds;
use crate::storage::fs::Selection;
pub use crate::storage::void::Workload;
use crate::transport::address::{HostPort, PortRange};
use crate::transport::{Congestion, InheritedSocket};

/// One run of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `towline send`.
    Send(SendSettings),
    /// `towline receive`.
    Receive(ReceiveSettings),
    /// `towline receive --forever` and `towline send --forever`.
    Stay(StaySettings),
    /// `towline receive --list-partial` and `--discard-partial`.
    Partial(PartialSettings),
    /// `towline receipt`.
    Receipt(ReceiptSettings),
    /// `towline bench`.
    Bench(BenchSettings),
    /// `towline id`.
    Id(IdSettings),
    /// `towline peers`.
    Peers(PeersSettings),
    /// `towline config`.
    Config(ConfigSettings),
}

impl Command {
    /// The settings of a side that waits for peers.
    pub fn waiting(&mut self) -> Option<&mut CommonSettings> {
        match self {
            Self::Send(settings) => settings.peer.is_none().then_some(&mut settings.common),
            Self::Receive(settings) => settings.peer.is_none().then_some(&mut settings.common),
            Self::Stay(settings) => Some(&mut settings.common),
            Self::Bench(settings) => (settings.with == BenchWith::Anyone).then_some(&mut settings.common),
            Self::Partial(_) | Self::Receipt(_) | Self::Id(_) | Self::Peers(_) | Self::Config(_) => None,
        }
    }

    /// Whether it sends standard input.
    pub fn sends_stdin(&self) -> bool {
        matches!(self, Self::Send(SendSettings { stdin: Some(_), .. }))
    }

    /// Whether it writes what it receives to standard output.
    pub fn writes_stdout(&self) -> bool {
        matches!(self, Self::Receive(ReceiveSettings { stdout: true, .. }))
    }

    /// Whether it cannot do without somebody to ask.
    pub fn has_to_ask(&self) -> bool {
        match self {
            Self::Send(settings) => settings.common.verify,
            Self::Receive(settings) => settings.common.verify,
            _ => false,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The exit code of the process.
    pub exit_code: u8,
    /// Why the run failed. Failed entries have been reported one by one.
    pub failure: Option<Failure>,
}

impl Ending {
    /// The run failed.
    pub fn failed(failure: Failure) -> Self {
        Self { exit_code: failure.reason.exit_code(), failure: Some(failure) }
    }
}

/// What `towline send` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendSettings {
    /// Files and directories, at least one, as given.
    pub sources: Vec<PathBuf>,
    /// The only source is standard input, and the receiver gets it under this name.
    pub stdin: Option<RelPath>,
    /// What of them is sent.
    pub selection: Box<Selection>,
    /// The peer to dial; `None` waits for one receiver.
    pub peer: Option<Peer>,
    /// Whether the receiver takes from old files what they have.
    pub delta: Delta,
    /// What is compressed.
    pub compression: Compression,
    /// Where the lines for `b3sum --check` go.
    pub manifest: Option<PathBuf>,
    /// Remove each source that has arrived.
    pub remove_source: bool,
    /// Where the receiver's receipt goes.
    pub receipt: Option<PathBuf>,
    /// The receiver in this process reads each file back from its disk.
    pub verify_disk: bool,
    /// What is asked of the receiver.
    pub request: Request,
    /// What the receiver in this process does by itself.
    pub rules: Rules,
    /// In the receiver of this process, all files get their names together at the end, or none does.
    pub atomic: bool,
    /// Settings of both sides.
    pub common: CommonSettings,
}

/// When to send only what an old file at the receiver does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delta {
    /// Where that saves time.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What `towline receive` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveSettings {
    /// The peer to dial, never [`Peer::Dir`]; `None` waits for one sender.
    pub peer: Option<Peer>,
    /// The file of known peers: who has the right to send is received without a question.
    pub peers: PeersFile,
    /// The target directory, or `-` for standard output.
    pub into: PathBuf,
    /// The target is standard output.
    pub stdout: bool,
    /// What to do with existing files.
    pub rules: Rules,
    /// All files get their names together at the end, or none does.
    pub atomic: bool,
    /// Each file is read back from the disk before it gets its name.
    pub verify_disk: bool,
    /// Bounds of the transfer.
    pub bounds: Bounds,
    /// Receive without asking.
    pub yes: bool,
    /// Where the lines for `b3sum --check` go.
    pub manifest: Option<PathBuf>,
    /// Runs after each transfer that is complete.
    pub exec: Option<ExecSettings>,
    /// Settings of both sides.
    pub common: CommonSettings,
}

/// A program that runs after each transfer that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSettings {
    /// Its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// It is killed after this long.
    pub limit: Duration,
}

/// What a side that stays needs (`--forever`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaySettings {
    /// The file of known peers.
    pub peers: PeersFile,
    /// Let in only these known peers; empty for all with the right.
    pub only: Vec<PeerName>,
    /// Let in whoever has a ticket, too.
    pub tickets: bool,
    /// Maximum transfers at once.
    pub transfers: u32,
    /// How long running transfers may go on after a signal.
    pub grace: Duration,
    /// What peers come for.
    pub service: ServiceSettings,
    /// Settings of both sides.
    pub common: CommonSettings,
}

/// What peers come for at a side that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceSettings {
    /// To send.
    Inbox(InboxSettings),
    /// To receive.
    Offer(OfferSettings),
}

/// What a receiver that stays needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxSettings {
    /// The target directory, of peers that have none of their own.
    pub into: PathBuf,
    /// What to do with existing files, if that was given.
    pub exists: Option<Exists>,
    /// Contents are compared although size and time agree.
    pub compares: bool,
    /// Senders may have removed what they do not send.
    pub allow_delete: bool,
    /// All files of a transfer get their names together at the end, or none does.
    pub atomic: bool,
    /// Each file is read back from the disk before it gets its name.
    pub verify_disk: bool,
    /// Bounds of each transfer.
    pub bounds: Bounds,
    /// Runs after each transfer that is complete.
    pub exec: Option<ExecSettings>,
}

/// What a sender that stays needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferSettings {
    /// What of the sources is sent.
    pub selection: Box<Selection>,
    /// Files and directories, at least one, as given.
    pub sources: Vec<PathBuf>,
    /// Whether receivers take from old files what they have.
    pub delta: Delta,
    /// What is asked of receivers.
    pub request: Request,
    /// What is compressed.
    pub compression: Compression,
}

/// What a look at partial files needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialSettings {
    /// The target directory.
    pub into: PathBuf,
    /// What to do.
    pub action: PartialAction,
}

/// What to do with partial files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartialAction {
    /// List them.
    List,
    /// Remove those that are at least this old.
    Discard(Duration),
}

/// What `towline receipt` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptSettings {
    /// The receipt.
    pub file: PathBuf,
    /// Lines of `b3sum` to compare with it.
    pub manifest: Option<PathBuf>,
    /// Who must have signed it.
    pub fingerprint: Option<Fingerprint>,
}

/// What `towline bench` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchSettings {
    /// The other side.
    pub with: BenchWith,
    /// The directory of this side's files. Without it, data comes from memory and is dropped.
    pub disk: Option<PathBuf>,
    /// Settings of both sides.
    pub common: CommonSettings,
}

/// The other side of a bench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BenchWith {
    /// This process is both sides.
    Itself(Workload),
    /// Dials a waiting peer, never [`Peer::Dir`], and sends.
    Peer(Peer, Workload),
    /// Waits for a peer to dial, and receives.
    Anyone,
}

/// What `towline id` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdSettings {
    /// What to do with the identity.
    pub action: IdAction,
}

/// What `towline id` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdAction {
    /// Shows it, making it at first use.
    #[default]
    Show,
    /// Makes a new one.
    New,
}

/// What `towline config` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSettings {
    /// All settings, by name.
    pub settings: Vec<Setting>,
}

/// What `towline peers` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeersSettings {
    /// The file of known peers.
    pub file: PeersFile,
    /// What to do with it.
    pub action: PeersAction,
}

/// What `towline peers` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeersAction {
    /// Lists all.
    List,
    /// Adds one.
    Add(PeerName, KnownPeer),
    /// Changes what one may do.
    Set(PeerName, PeerChange),
    /// Removes one.
    Remove(PeerName),
    /// Gives one another name.
    Rename(PeerName, PeerName),
}

/// Settings that both sides of a transfer have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonSettings {
    /// Address to listen on; `None` is port 4750 on every address, or a free port when 4750 is in use.
    pub listen: Option<SocketAddr>,
    /// Listen on this socket of the service manager instead.
    pub inherited: Option<InheritedSocket>,
    /// The ports to listen on instead.
    pub port_range: Option<PortRange>,
    /// Words of the one-time code of a waiting side.
    pub code_words: usize,
    /// Transfers that a ticket serves, at least one.
    pub uses: u32,
    /// How long a ticket and a code are good for; `None` is as long as this side waits.
    pub expires: Option<Duration>,
    /// How long to wait for a peer to dial; `None` is forever.
    pub wait: Option<Duration>,
    /// The fingerprint of a peer by ticket must be this one.
    pub fingerprint: Option<Fingerprint>,
    /// When listening: the keys that are admitted without the ticket.
    pub allowed: Vec<Fingerprint>,
    /// Certificates of an organisation.
    pub pki: Option<PkiSettings>,
    /// Ask whether both sides show the same words before the transfer.
    pub verify: bool,
    /// Keep the peer under this name.
    pub remember: Option<Remember>,
    /// Maximum parcels in flight, 1 to `STREAMS_MAX`; `None` lets the session decide.
    pub streams: Option<u32>,
    /// Connections of a session, 1 to `CONNECTIONS_MAX`; `None` lets the other side decide.
    pub connections: Option<u32>,
    /// A power of two, 1 MiB to 64 MiB.
    pub chunk_size_bytes: u64,
    /// The rate limit, by time of day.
    pub bwlimit: Schedule,
    /// The budget: at least 8 MiB, and at least eight times the chunk size.
    pub memory_bytes: u64,
    /// Congestion control.
    pub congestion: Congestion,
    /// The transfer ends after this long without progress; 1 s to 1 day.
    pub timeout: Duration,
    /// The transfer ends when a disk of either side makes no progress for this long; 1 s to 1 day.
    pub disk_timeout: Duration,
    /// Start from what earlier transfers found about the path, and keep what this one finds.
    pub path_memory: bool,
    /// How long a lost connection is tried for again.
    pub retry: Retry,
    /// Sync to disk before a file is reported as done.
    pub fsync: bool,
}

/// The peer to dial.
#[derive(Clone, PartialEq, Eq)]
pub enum Peer {
    /// `tl1…`. It holds a secret.
    Ticket(Ticket),
    /// `N-word-word`, on the local network or at a host. It is a secret.
    Code(Code, Option<HostPort>),
    /// A machine whose key is known.
    Machine(Machine),
    /// A machine with a certificate for its host, or for the name in the settings.
    Certified(HostPort),
    /// A machine where ssh starts the other side.
    Ssh(Remote),
    /// The side that has started this one, through standard input and output.
    Stdio,
    /// An embedded receiver that writes to this directory.
    Dir(PathBuf),
}

impl fmt::Debug for Peer {
    /// A ticket is a secret, and others read logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(_) => f.write_str("Ticket(…)"),
            Self::Code(code, host) => write!(f, "{code:?} at {host:?}"),
            Self::Machine(machine) => write!(f, "{machine:?}"),
            Self::Certified(host) => write!(f, "Certified({host})"),
            Self::Ssh(remote) => write!(f, "{remote:?}"),
            Self::Stdio => f.write_str("Stdio"),
            Self::Dir(path) => write!(f, "Dir({path:?})"),
        }
    }
}

/// A machine whose key is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Where it may be, at least one, best first.
    pub addresses: Vec<HostPort>,
    /// Its key.
    pub fingerprint: Fingerprint,
}

/// Files with the certificates of an organisation, and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiSettings {
    /// Those of the authorities.
    pub ca: PathBuf,
    /// The one of this side, and its key. A waiting side has them.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The certificate of the peer is for one of these. Checked to be names or addresses.
    pub peer_names: Vec<String>,
}

/// A name for the peer of this transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remember {
    /// The name.
    pub name: PeerName,
    /// The file that keeps it.
    pub file: PeersFile,
    /// The key that the name stands for already; the peer must have it.
    pub known: Option<Fingerprint>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ticket::TICKET;

    #[test]
    fn attack_8_a_ticket_does_not_reach_a_log() {
        assert_eq!(format!("{:?}", Peer::Ticket(TICKET.parse().unwrap())), "Ticket(…)");
    }
}
