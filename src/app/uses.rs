//! `--uses N`: a side that waits until one ticket has served several transfers, one after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::id;
use super::meet::{Connected, listen_address, terms};
use super::settings::{CommonSettings, KnownPeers, Right};
use super::transfer::{Transferred, conclude, memory_of_all};
use crate::auth::{Identity, Ticket};
use crate::connect::Staying;
use crate::event::{Event, Listening, Reporter};
use crate::node::memory::Memory;
use crate::node::places::{Guests, Places, TakenPlace, ticket_used};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::role::Role;
use crate::session::Lease;
use crate::transport::quic::endpoint::QuicNetwork;

/// The waiting side. While a transfer runs, further diallers are told to come back later.
pub(super) struct Uses {
    role: Role,
    what: Vec<PathBuf>,
    reporter: Arc<dyn Reporter>,
    staying: Staying<QuicNetwork>,
    places: Arc<Places>,
    memory: Memory,
    left: u32,
    wait: Option<Duration>,
    expires: Option<Duration>,
    expires_at: Option<Instant>,
    gravest: Option<Reason>,
    /// Of this side.
    pub(super) identity: Arc<Identity>,
}

/// One transfer to come: its connection, its memory, and its place.
pub(super) type Use = (Connected, Lease, TakenPlace);

impl Uses {
    /// Waits as `common` says, and tells `reporter` of the ticket.
    pub(super) fn open(
        role: Role,
        what: Vec<PathBuf>,
        common: &CommonSettings,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Self, Failure> {
        let identity = Arc::new(id::own(false)?);
        // Whoever has the ticket, and nobody else.
        let guests =
            Guests { known: KnownPeers::default(), only: Vec::new(), right: Right::Send, certified: None };
        let places = Arc::new(Places::new(1, guests, Some(common.uses)));
        let memory = memory_of_all(common);
        let terms = terms(role, &identity, common, *memory.lease(1)?);
        let address = listen_address(common);
        let uses = Self {
            role,
            what,
            reporter: Arc::clone(reporter),
            staying: Staying::new(&address, terms, &places)?,
            places,
            memory,
            left: common.uses,
            wait: common.wait,
            expires: common.expires,
            expires_at: common.expires.map(|expires| Instant::now() + expires),
            gravest: None,
            identity,
        };
        uses.announce()?;
        Ok(uses)
    }

    fn announce(&self) -> Result<(), Failure> {
        let (addresses, fingerprint) = (self.staying.addresses()?, self.staying.fingerprint());
        let ticket = self.places.secret().map(|secret| {
            Ticket { addresses: addresses.clone(), fingerprint: fingerprint.head(), secret }.to_string()
        });
        self.reporter.report(Event::Listening(Listening {
            role: self.role,
            what: self.what.clone(),
            ticket,
            code: None,
            addresses,
            fingerprint: fingerprint.to_string(),
        }));
        Ok(())
    }

    /// The next one that has come with the ticket; `None` when it has been used up.
    pub(super) async fn next(
        &mut self,
        stop: &mut watch::Receiver<Option<Failure>>,
    ) -> Result<Option<Use>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let until = self.wait.map(|wait| Instant::now() + wait);
        loop {
            tokio::select! {
                biased;
                stopped = stop.wait_for(Option::is_some) => {
                    let failure = stopped.ok().and_then(|failure| failure.clone());
                    return Err(failure.unwrap_or_else(|| Failure::new(Reason::Interrupted, "stopped")));
                }
                connected = self.staying.next() => {
                    let (connected, visitor) = connected?;
                    let place = self.places.taken();
                    self.left -= 1;
                    self.places.renew_after(visitor.channel.peer);
                    return Ok(Some((connected, self.memory.lease(1)?, place)));
                }
                () = at(self.expires_at) => {
                    self.expires_at = self.expires.map(|expires| Instant::now() + expires);
                    self.places.expire();
                    let message = "the ticket has expired; a new one follows".to_owned();
                    self.reporter.report(Event::Warning { path: None, reason: None, message });
                    self.announce()?;
                }
                () = at(until) => {
                    let wait = humantime::format_duration(self.wait.unwrap_or_default());
                    let message = format!("nobody connected within {wait}; the ticket is good for {} more", self.left);
                    return Err(Failure::new(Reason::Unreachable, message));
                }
            }
        }
    }

    /// A transfer has ended. Reports it, and keeps the gravest reason.
    pub(super) fn ended(&mut self, done: Result<Transferred, Failure>) {
        let reason = match done {
            Ok(done) => {
                let gravest = done.summary.gravest;
                conclude(done, self.reporter.as_ref());
                gravest
            }
            Err(failure) => {
                let reason = failure.reason;
                self.reporter.report(Event::Failed(failure));
                Some(reason)
            }
        };
        let graver = |reason| self.gravest.map_or(reason, |before| Failure::graver(before, reason));
        self.gravest = reason.map(graver).or(self.gravest);
    }

    /// Ends the waiting; returns the exit code for all transfers.
    pub(super) async fn end(self) -> u8 {
        self.staying.end(&ticket_used()).await;
        self.gravest.map_or(0, Reason::exit_code)
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
