//! How connections join a running session: extra ones, and replacements of a lost one.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use super::retry::Retry;

/// A session's extra connections: the maximum, and those that have joined.
pub struct Joining<C> {
    max: u32,
    retry: Retry,
    automatic: bool,
    joined: mpsc::Receiver<(u32, C)>,
    wanted: Arc<Notify>,
    ports: watch::Sender<Option<Vec<u16>>>,
    replacers: Replacers,
}

/// Whether anything can still replace the connection that carries the control stream. Cheap to clone.
#[derive(Clone)]
pub(super) struct Replacers(watch::Receiver<()>);

/// The other end of [`Joining`], for the code that dials or listens.
#[derive(Clone)]
pub struct Joiner<C> {
    joined: mpsc::Sender<(u32, C)>,
    wanted: Arc<Notify>,
    ports: watch::Receiver<Option<Vec<u16>>>,
    /// Not for one that hands over extra connections only.
    _replaces: Option<Arc<watch::Sender<()>>>,
}

impl Replacers {
    fn are_gone(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits until there is none any more.
    pub(super) async fn gone(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl<C> Joining<C> {
    /// At most `max` extra connections. When `automatic`, they are requested and used only while they help.
    /// `retry` is how long to wait for the replacement of a lost connection.
    pub fn new(max: u32, automatic: bool, retry: Retry) -> (Self, Joiner<C>) {
        let (sender, joined) = mpsc::channel(1);
        let wanted = Arc::new(Notify::new());
        if !automatic {
            wanted.notify_one();
        }
        let (offer, ports) = watch::channel(None);
        let (replaces, replacers) = watch::channel(());
        let _replaces = Some(Arc::new(replaces));
        let joiner = Joiner { joined: sender, wanted: Arc::clone(&wanted), ports, _replaces };
        let replacers = Replacers(replacers);
        (Self { max, retry, automatic, joined, wanted, ports: offer, replacers }, joiner)
    }

    /// No extra connections.
    pub(super) fn none() -> Self {
        Self::new(0, true, Retry::Off).0
    }

    /// Whether extra connections are requested and used only while they help.
    pub(super) fn is_automatic(&self) -> bool {
        self.automatic
    }

    /// Maximum number of extra connections.
    pub(super) fn max(&self) -> u32 {
        self.max
    }

    /// How long to wait for a replacement of the connection that carries the control stream.
    pub(super) fn retry(&self) -> Retry {
        if self.joined.is_closed() || self.replacers.are_gone() { Retry::Off } else { self.retry }
    }

    /// Whether anything can still bring a replacement.
    pub(super) fn replacers(&self) -> Replacers {
        self.replacers.clone()
    }

    /// The next connection that joins, with its number; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<(u32, C)> {
        self.joined.recv().await
    }

    /// Sets the listener's ports for extra connections; at most the maximum is used.
    pub(super) fn offered(&mut self, mut ports: Vec<u16>) {
        ports.truncate(self.max as usize);
        self.max = u32::try_from(ports.len()).unwrap_or(self.max);
        self.ports.send_replace(Some(ports));
    }

    /// Extra connections would help now.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }
}

impl<C> Joiner<C> {
    /// The same for extra connections only: it does not keep a session waiting for a replacement.
    pub fn for_extra(&self) -> Self {
        let Self { joined, wanted, ports, .. } = self;
        Self { joined: joined.clone(), wanted: Arc::clone(wanted), ports: ports.clone(), _replaces: None }
    }

    /// Waits for the listener's ports; none if the session ends first.
    pub async fn ports(&mut self) -> Vec<u16> {
        let offered = self.ports.wait_for(Option::is_some).await;
        offered.ok().and_then(|ports| ports.clone()).unwrap_or_default()
    }

    /// Waits until extra connections would help.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether the session has ended.
    pub fn is_closed(&self) -> bool {
        self.joined.is_closed()
    }

    /// Hands over a connection that has proved to belong to the session, with its number. Number 0 replaces the
    /// connection that carries the control stream.
    pub async fn join(&self, lane: u32, connection: C) {
        // The session may have ended.
        let _ = self.joined.send((lane, connection)).await;
    }
}
