//! What the program is asked to do, resolved: plain values, each checked, without a trace of where it came from.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{Fingerprint, Ticket};
use crate::protocol::failure::Failure;
pub use crate::protocol::final_name::Exists;
use crate::session::schedule::Schedule;
pub use crate::storage::void::Workload;
use crate::transport::Congestion;
use crate::transport::address::HostPort;

/// One run of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `towline send`.
    Send(SendSettings),
    /// `towline receive`.
    Receive(ReceiveSettings),
    /// `towline bench`.
    Bench(BenchSettings),
    /// `towline id`.
    Id(IdSettings),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What the process ends with.
    pub exit_code: u8,
    /// Why it failed as a whole; entries that failed have been told of one by one.
    pub failure: Option<Failure>,
}

impl Ending {
    /// It failed as a whole.
    pub fn failed(failure: Failure) -> Self {
        Self { exit_code: failure.reason.exit_code(), failure: Some(failure) }
    }
}

/// What `towline send` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendSettings {
    /// Files and directories, at least one, as given.
    pub sources: Vec<PathBuf>,
    /// Whom to dial; `None` waits for one receiver.
    pub peer: Option<Peer>,
    /// Where the lines for `b3sum --check` go.
    pub manifest: Option<PathBuf>,
    /// Settings of both sides.
    pub common: CommonSettings,
}

/// What `towline receive` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveSettings {
    /// Whom to dial, never [`Peer::Dir`]; `None` waits for one sender.
    pub peer: Option<Peer>,
    /// The target directory.
    pub into: PathBuf,
    /// What to do about names that are taken.
    pub exists: Exists,
    /// Take what is offered without asking.
    pub yes: bool,
    /// Where the lines for `b3sum --check` go.
    pub manifest: Option<PathBuf>,
    /// Settings of both sides.
    pub common: CommonSettings,
}

/// What `towline bench` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchSettings {
    /// With whom.
    pub with: BenchWith,
    /// Where this side has its files; without it they come from memory and go nowhere.
    pub disk: Option<PathBuf>,
    /// Settings of both sides.
    pub common: CommonSettings,
}

/// The other side of a bench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BenchWith {
    /// This process is both sides.
    Itself(Workload),
    /// Dials a side that waits, never [`Peer::Dir`], and sends.
    Peer(Peer, Workload),
    /// Waits for one that dials, and receives.
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

/// Settings that both sides of a transfer have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonSettings {
    /// Where to wait; `None` is port 4750 on every address, or a free port when that is taken.
    pub listen: Option<SocketAddr>,
    /// How long to wait for a peer that dials; `None` is for ever.
    pub wait: Option<Duration>,
    /// When dialling: what the listener must have. When listening: the only dialler let in without the ticket.
    pub fingerprint: Option<Fingerprint>,
    /// Parcels on the way at once, 1 to `STREAMS_MAX`; `None` leaves it to the session.
    pub streams: Option<u32>,
    /// Connections of a session, 1 to `CONNECTIONS_MAX`; `None` leaves it to the other side.
    pub connections: Option<u32>,
    /// A power of two, 1 MiB to 64 MiB.
    pub chunk_size_bytes: u64,
    /// What may travel, and when.
    pub bwlimit: Schedule,
    /// The budget, at least 8 MiB and at least eight chunks.
    pub memory_bytes: u64,
    /// Congestion control.
    pub congestion: Congestion,
    /// Without an ack for so long the transfer ends; 1 s to 1 day.
    pub timeout: Duration,
    /// A disk, of this side or the peer's, that gets nothing done for this long ends the transfer; 1 s to 1 day.
    pub disk_timeout: Duration,
    /// Sync to disk before a file is called done.
    pub fsync: bool,
}

/// Whom to dial.
#[derive(Clone, PartialEq, Eq)]
pub enum Peer {
    /// `tl1…`. It holds a secret.
    Ticket(Ticket),
    /// A machine by name or address.
    Host(HostPort),
    /// An embedded receiver that writes to this directory.
    Dir(PathBuf),
}

impl fmt::Debug for Peer {
    /// A ticket is a secret, and logs are read by others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(_) => f.write_str("Ticket(…)"),
            Self::Host(host) => write!(f, "Host({host})"),
            Self::Dir(path) => write!(f, "Dir({path:?})"),
        }
    }
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
