//! How connections come to a session that has begun: extra ones, and one that replaces a lost one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

/// What a session knows of connections beside the first: how many extra ones there may be, and those that have joined it.
pub struct Joining<C> {
    max: u32,
    replaced_within: Option<Duration>,
    automatic: bool,
    joined: mpsc::Receiver<(u32, C)>,
    wanted: Arc<Notify>,
    ports: watch::Sender<Option<Vec<u16>>>,
}

/// The other end of [`Joining`], for whoever dials or listens.
#[derive(Clone)]
pub struct Joiner<C> {
    joined: mpsc::Sender<(u32, C)>,
    wanted: Arc<Notify>,
    ports: watch::Receiver<Option<Vec<u16>>>,
}

impl<C> Joining<C> {
    /// At most `max` extra connections; when `automatic` they are asked for, and used, only as long as they may
    /// be of use. A lost connection is waited for as long as `replaced_within` says, if somebody will replace it.
    pub fn new(max: u32, automatic: bool, replaced_within: Option<Duration>) -> (Self, Joiner<C>) {
        let (sender, joined) = mpsc::channel(1);
        let wanted = Arc::new(Notify::new());
        if !automatic {
            wanted.notify_one();
        }
        let (offer, ports) = watch::channel(None);
        let joiner = Joiner { joined: sender, wanted: Arc::clone(&wanted), ports };
        (Self { max, replaced_within, automatic, joined, wanted, ports: offer }, joiner)
    }

    /// None at all.
    pub(super) fn none() -> Self {
        Self::new(0, true, None).0
    }

    /// They are asked for, and used, only as long as they may be of use.
    pub(super) fn is_automatic(&self) -> bool {
        self.automatic
    }

    /// How many there may be.
    pub(super) fn max(&self) -> u32 {
        self.max
    }

    /// How long to wait for somebody to replace the connection that carries the control stream; `None` when nobody will.
    pub(super) fn replaced_within(&self) -> Option<Duration> {
        self.replaced_within.filter(|_| !self.joined.is_closed())
    }

    /// The next one that joins, with its number; `None` when no more will.
    pub(super) async fn next(&mut self) -> Option<(u32, C)> {
        self.joined.recv().await
    }

    /// The listener takes extra connections at these ports, of which no more are used than there may be.
    pub(super) fn offered(&mut self, mut ports: Vec<u16>) {
        ports.truncate(self.max as usize);
        self.max = u32::try_from(ports.len()).unwrap_or(self.max);
        self.ports.send_replace(Some(ports));
    }

    /// They would be of use.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }
}

impl<C> Joiner<C> {
    /// Waits for the ports that a listener offers; none when the session is over before.
    pub async fn ports(&mut self) -> Vec<u16> {
        let offered = self.ports.wait_for(Option::is_some).await;
        offered.ok().and_then(|ports| ports.clone()).unwrap_or_default()
    }

    /// Waits until extra connections are of use.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Hands over one that has proved to belong to the session, and the number that it has there. Number 0 takes over from
    /// the connection that carries the control stream.
    pub async fn join(&self, lane: u32, connection: C) {
        // The session may be over.
        let _ = self.joined.send((lane, connection)).await;
    }
}
