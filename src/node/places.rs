//! A side that stays: which diallers it lets in, and how many at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::peers::{KnownPeer, KnownPeers, PeerName, Right};
use crate::auth::handshake::{Authorizer, Greeting, ListenerStep};
use crate::auth::methods::{AnyOf, by_certificate};
use crate::auth::{Certified, Expected, Fingerprint, Secret};
use crate::protocol::failure::{Failure, Reason};
use crate::session::handshake::Slot;

/// Maximum keys whose certificates are remembered. More are forgotten together.
const CERTIFIED_MAX: usize = 1024;

/// Which known peers are let in.
#[derive(Debug, Clone)]
pub struct Guests {
    /// All known peers.
    pub known: KnownPeers,
    /// Only these; empty for all that have the right.
    pub only: Vec<PeerName>,
    /// What they must be allowed to do here.
    pub right: Right,
    /// Whose certificates are enough, if any are.
    pub certified: Option<Arc<Certified>>,
}

impl Guests {
    /// Whether the machine with this key is let in; `None` if it is not known.
    fn welcomes(&self, key: Fingerprint) -> Option<bool> {
        let (name, peer) = self.known.with_key(key)?;
        Some(peer.may.contains(&self.right) && (self.only.is_empty() || self.only.contains(name)))
    }
}

/// The places of a side that stays. Each is for one session at a time.
pub struct Places {
    all: usize,
    state: Mutex<State>,
    freed: Notify,
}

struct State {
    guests: Guests,
    free: usize,
    ticket: Option<OpenTicket>,
    is_closed: bool,
    /// Keys that were enough, of diallers without a place yet.
    by_key: HashSet<Fingerprint>,
    /// How often diallers without a place yet have shown a certificate that was enough.
    certified: HashMap<Fingerprint, usize>,
    /// Names in certificates that were enough, of late.
    names: HashMap<Fingerprint, String>,
    /// What was known of diallers when they took their last place.
    entries: HashMap<Fingerprint, (PeerName, KnownPeer)>,
}

impl State {
    /// `peer` has shown a certificate with `name` that is enough.
    fn note_certificate(&mut self, peer: Fingerprint, name: Option<String>) {
        // Many keys with certificates of the authority must not fill the memory.
        if self.certified.len().max(self.names.len()) >= CERTIFIED_MAX {
            self.certified.clear();
            self.names.clear();
        }
        *self.certified.entry(peer).or_default() += 1;
        self.names.extend(name.map(|name| (peer, name)));
    }

    /// Whether `peer` has shown a certificate, which counts once.
    fn use_certificate(&mut self, peer: Fingerprint) -> bool {
        let Some(left) = self.certified.get_mut(&peer) else { return false };
        *left -= 1;
        if *left == 0 {
            self.certified.remove(&peer);
        }
        true
    }
}

/// A ticket that serves one session.
struct OpenTicket {
    secret: Secret,
    /// Keys that have proved the secret.
    proved: HashSet<Fingerprint>,
    used_by: Option<Fingerprint>,
}

impl OpenTicket {
    fn new() -> Self {
        Self { secret: Secret::generate(), proved: HashSet::new(), used_by: None }
    }
}

/// A place that is taken, free again when dropped.
pub struct TakenPlace(Arc<Places>);

impl Drop for TakenPlace {
    fn drop(&mut self) {
        self.0.free_one(&mut self.0.state());
    }
}

impl Places {
    /// So many free places for `guests`, and for whoever has a ticket when there are `tickets`.
    pub fn new(places: usize, guests: Guests, tickets: bool) -> Self {
        let ticket = tickets.then(OpenTicket::new);
        let state = State {
            guests,
            free: places,
            ticket,
            is_closed: false,
            by_key: HashSet::new(),
            certified: HashMap::new(),
            names: HashMap::new(),
            entries: HashMap::new(),
        };
        Self { all: places, state: Mutex::new(state), freed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free_one(&self, state: &mut State) {
        state.free += 1;
        self.freed.notify_one();
    }

    /// Waits until no place is taken. For one caller at a time.
    pub async fn all_free(&self) {
        while self.state().free < self.all {
            self.freed.notified().await;
        }
    }

    /// The place of a dialler that was let in.
    pub fn taken(self: &Arc<Self>) -> TakenPlace {
        TakenPlace(Arc::clone(self))
    }

    /// From now on these are the known peers. Sessions go on.
    pub fn know(&self, known: KnownPeers) {
        self.state().guests.known = known;
    }

    /// What was known of `peer` when it took its place, whatever is known now.
    pub fn entry(&self, peer: Fingerprint) -> Option<(PeerName, KnownPeer)> {
        self.state().entries.get(&peer).cloned()
    }

    /// From now on these certificates count. Sessions go on.
    pub fn certify(&self, certified: Option<Arc<Certified>>) {
        self.state().guests.certified = certified;
    }

    /// A name in the last certificate of `peer`.
    pub fn certified_name(&self, peer: Fingerprint) -> Option<String> {
        self.state().names.get(&peer).cloned()
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.state().is_closed = true;
    }

    /// The secret of the ticket, if there is one.
    pub fn secret(&self) -> Option<Secret> {
        self.state().ticket.as_ref().map(|ticket| ticket.secret)
    }

    /// Replaces the ticket if it has served `peer`, which has arrived; returns the new secret. Until a dialler has
    /// arrived, it may lose its place, and needs the ticket again.
    pub fn renew_after(&self, peer: Fingerprint) -> Option<Secret> {
        let mut state = self.state();
        let ticket = state.ticket.as_mut().filter(|ticket| ticket.used_by == Some(peer))?;
        *ticket = OpenTicket::new();
        Some(ticket.secret)
    }
}

impl Authorizer for Places {
    fn authorize(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        let mut state = self.state();
        let peer = greeting.channel.peer;
        let welcomes = state.guests.welcomes(peer);
        if let Some(step) = by_certificate(state.guests.certified.as_deref(), greeting) {
            let (step, name) = step?;
            // An entry says what its machine may do, also when it has a certificate.
            if welcomes == Some(false) {
                return Err(no_right(state.guests.right));
            }
            state.note_certificate(peer, name);
            return Ok(step);
        }
        if welcomes == Some(true) {
            state.by_key.insert(peer);
            return Ok(ListenerStep::LetIn(None));
        }
        state.by_key.remove(&peer);
        let by_ticket = state.ticket.as_mut().map(|ticket| {
            let step = AnyOf(vec![Expected::Secret(ticket.secret)]).authorize(greeting);
            if step.is_ok() {
                ticket.proved.insert(peer);
            }
            step
        });
        match (by_ticket, welcomes) {
            (Some(Ok(step)), _) => Ok(step),
            (_, Some(_)) => Err(no_right(state.guests.right)),
            (Some(Err(failure)), None) => Err(failure),
            (None, None) => {
                let message =
                    format!("the waiting side does not know the fingerprint of the dialling one ({peer})");
                Err(Failure::new(Reason::NotAuthenticated, message))
            }
        }
    }
}

impl Slot for Places {
    fn authorizer(&self) -> &dyn Authorizer {
        self
    }

    fn is_taken(&self) -> bool {
        self.state().free == 0
    }

    fn take(&self, peer: Fingerprint) -> Result<(), Failure> {
        let state = &mut *self.state();
        let (is_by_key, is_certified) = (state.by_key.remove(&peer), state.use_certificate(peer));
        if state.is_closed {
            return Err(Failure::new(Reason::Interrupted, "the waiting side is stopping"));
        }
        if state.free == 0 {
            let message = "the waiting side is busy with other transfers; try again later";
            return Err(Failure::new(Reason::Busy, message));
        }
        if state.guests.welcomes(peer) != Some(true) && !is_certified {
            let ticket = state.ticket.as_mut();
            match ticket.filter(|ticket| ticket.used_by.is_none() && ticket.proved.contains(&peer)) {
                Some(ticket) => ticket.used_by = Some(peer),
                // It had the right a moment ago.
                None if is_by_key => return Err(no_right(state.guests.right)),
                None => return Err(ticket_used()),
            }
        }
        match state.guests.known.with_key(peer) {
            Some((name, known)) => state.entries.insert(peer, (name.clone(), known.clone())),
            None => state.entries.remove(&peer),
        };
        state.free -= 1;
        Ok(())
    }

    fn give_back(&self, peer: Fingerprint) {
        let mut state = self.state();
        self.free_one(&mut state);
        if let Some(ticket) = state.ticket.as_mut().filter(|ticket| ticket.used_by == Some(peer)) {
            ticket.used_by = None;
        }
    }

    /// Sessions of a side that stays have one connection each.
    fn ports(&self, _: Option<u32>) -> Vec<u16> {
        Vec::new()
    }
}

/// It is known, so it may know why.
fn no_right(right: Right) -> Failure {
    Failure::told(Reason::Refused, format!("this machine may not {} there", right.as_str()))
}

/// The failure for a second dialler with the same ticket.
pub fn ticket_used() -> Failure {
    let message = "this ticket has been used; a ticket is good for one transfer, so ask for a new one";
    Failure::new(Reason::TicketUsed, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ByCertificate;
    use crate::auth::handshake::{Channel, DiallerMethod};
    use crate::auth::methods::{ByKey, ByTicket};
    use crate::node::peers::PeersFile;
    use crate::testing::certificates::certified;

    const LISTENER: Fingerprint = Fingerprint::from_bytes([0; 32]);

    fn key(number: u8) -> Fingerprint {
        Fingerprint::from_bytes([number; 32])
    }

    /// Ann (1) may send, Ben (2) may receive, and Cay (3) may do both.
    fn guests(dir: &std::path::Path) -> Guests {
        let file = PeersFile::at(Some(dir.join("peers.toml")));
        for (number, name, may) in [
            (1, "ann", vec![Right::Send]),
            (2, "ben", vec![Right::Receive]),
            (3, "cay", vec![Right::Send, Right::Receive]),
        ] {
            let peer = KnownPeer { may, ..KnownPeer::new(key(number), Vec::new()) };
            file.add(&name.parse().unwrap(), &peer).unwrap();
        }
        Guests { known: file.load().unwrap(), only: Vec::new(), right: Right::Send, certified: None }
    }

    /// A dialler with this key comes by `method`, and takes a place if it may.
    fn come(places: &Places, number: u8, method: &dyn DiallerMethod) -> Option<Reason> {
        let channel = Channel { exporter: [7; 32], peer: key(number) };
        let (message, _) = method.begin(&channel);
        let greeting = Greeting { method: method.number(), message: &message, channel: &channel };
        let let_in = places.authorize(&greeting).and_then(|_| places.take(key(number)));
        let_in.err().map(|failure| failure.reason)
    }

    #[test]
    fn known_peers_with_the_right_are_let_in_while_there_are_places() {
        let dir = tempfile::tempdir().unwrap();
        let places = Arc::new(Places::new(2, guests(dir.path()), false));
        let by_key = ByKey { listener: LISTENER };
        assert_eq!(come(&places, 2, &by_key), Some(Reason::Refused));
        assert_eq!(come(&places, 9, &by_key), Some(Reason::NotAuthenticated));
        assert_eq!((come(&places, 1, &by_key), come(&places, 1, &by_key)), (None, None));
        assert_eq!(come(&places, 3, &by_key), Some(Reason::Busy));
        drop(places.taken());
        assert_eq!(come(&places, 3, &by_key), None);
        places.give_back(key(3));
        let only = vec!["cay".parse().unwrap()];
        let places = Places::new(2, Guests { only, ..guests(dir.path().join("2").as_path()) }, false);
        assert_eq!((come(&places, 1, &by_key), come(&places, 3, &by_key)), (Some(Reason::Refused), None));
        places.close();
        assert_eq!(come(&places, 3, &by_key), Some(Reason::Interrupted));
    }

    #[test]
    fn the_entry_of_the_moment_when_a_place_was_taken_counts() {
        let dir = tempfile::tempdir().unwrap();
        for tickets in [false, true] {
            let guests = guests(&dir.path().join(tickets.to_string()));
            let places = Places::new(9, guests, tickets);
            let by_key = ByKey { listener: LISTENER };
            assert_eq!(come(&places, 1, &by_key), None);
            let channel = Channel { exporter: [7; 32], peer: key(3) };
            let (message, _) = by_key.begin(&channel);
            let greeting = Greeting { method: by_key.number(), message: &message, channel: &channel };
            places.authorize(&greeting).unwrap();
            places.know(KnownPeers::default());
            assert_eq!(places.entry(key(1)).unwrap().0.as_str(), "ann");
            assert_eq!(places.take(key(3)).unwrap_err().reason, Reason::Refused);
            assert_eq!(places.entry(key(3)), None);
        }
    }

    #[test]
    fn a_certificate_is_enough_for_each_session_unless_an_entry_says_no() {
        let dir = tempfile::tempdir().unwrap();
        let shown = Some(certified("ca", Some("leaf"), &[]));
        let places = Places::new(9, Guests { certified: shown, ..guests(dir.path()) }, false);
        let by_certificate = ByCertificate(certified("ca", Some("client"), &["localhost"]));
        let greet = |number| {
            let channel = Channel { exporter: [7; 32], peer: key(number) };
            let (message, _) = by_certificate.begin(&channel);
            let greeting = Greeting { method: by_certificate.number(), message: &message, channel: &channel };
            places.authorize(&greeting).map(drop).map_err(|failure| failure.reason)
        };
        // Two at once, with the same key.
        assert_eq!((greet(9), greet(9)), (Ok(()), Ok(())));
        assert!(places.take(key(9)).is_ok());
        assert_eq!(places.certified_name(key(9)).as_deref(), Some("backup.client.test"));
        assert!(places.take(key(9)).is_ok() && places.take(key(9)).is_err());
        assert_eq!((greet(2), greet(1)), (Err(Reason::Refused), Ok(())));
        assert!(places.take(key(1)).is_ok());
        for number in 0..2 * CERTIFIED_MAX {
            let key = *blake3::hash(&number.to_be_bytes()).as_bytes();
            places.state().note_certificate(Fingerprint::from_bytes(key), Some("name".to_owned()));
        }
        assert!(places.state().names.len() <= CERTIFIED_MAX);
        places.certify(None);
        assert_eq!(greet(9), Err(Reason::NotAuthenticated));
    }

    #[test]
    fn a_ticket_serves_one_dialler_and_known_peers_leave_it() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(9, guests(dir.path()), true);
        let secret = places.secret().unwrap();
        let ticket = ByTicket { listener: LISTENER.head(), secret };
        assert_eq!(come(&places, 1, &ticket), None);
        assert_eq!(places.renew_after(key(1)), None, "a known peer needs none");
        assert_eq!(come(&places, 8, &ticket), None);
        places.give_back(key(8));
        assert_eq!(places.renew_after(key(8)), None, "its dialler was gone before it was welcomed");
        assert_eq!(come(&places, 8, &ticket), None);
        assert_eq!(places.renew_after(key(1)), None, "another one arrives while its dialler is on the way");
        places.give_back(key(8));
        assert_eq!(come(&places, 2, &ticket), None, "without the right, but with a ticket");
        assert_eq!(come(&places, 9, &ticket), Some(Reason::TicketUsed));
        let renewed = places.renew_after(key(2)).unwrap();
        assert_ne!(renewed, secret);
        assert_eq!(come(&places, 9, &ticket), Some(Reason::NotAuthenticated));
        assert_eq!(come(&places, 9, &ByTicket { listener: LISTENER.head(), secret: renewed }), None);
    }
}
