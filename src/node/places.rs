//! A side that stays: which diallers it lets in, and how many at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::peers::{KnownPeer, KnownPeers, PeerName, Right};
use crate::auth::handshake::{Authorizer, Channel, Greeting, ListenerStep, Visitor};
use crate::auth::methods::{Invited, by_certificate};
use crate::auth::{Certified, Fingerprint, Secret, TicketSecrets};
use crate::protocol::failure::{Failure, Reason};
use crate::session::handshake::Slot;

/// Which known peers are let in.
#[derive(Debug, Clone)]
pub struct Guests {
    /// All known peers.
    pub known: KnownPeers,
    /// Only these; empty for all that have the right.
    pub only: Vec<PeerName>,
    /// What they must be allowed to do here.
    pub right: Right,
    /// Whose certificates are enough, if any are. No entry counts for those.
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
    /// What was known of diallers when they took their place, by the connection. They have not arrived yet.
    entries: HashMap<[u8; 32], (PeerName, KnownPeer)>,
}

/// A ticket that serves some sessions.
struct OpenTicket {
    secrets: Arc<TicketSecrets>,
    /// Sessions that each ticket serves.
    uses: u32,
    /// Sessions that this one still serves.
    left: u32,
    /// Keys that have proved the secret.
    proved: HashSet<Fingerprint>,
    /// Those that have a place by it and have not arrived yet.
    taken_by: Vec<Fingerprint>,
}

impl OpenTicket {
    fn new(uses: u32) -> Self {
        let secrets = TicketSecrets::generate();
        Self { secrets, uses, left: uses, proved: HashSet::new(), taken_by: Vec::new() }
    }

    fn renew(&mut self, why: Reason) -> Secret {
        self.proved.clear();
        self.secrets.renew(why)
    }

    fn is_good_for(&self, peer: Fingerprint) -> bool {
        self.left as usize > self.taken_by.len() && self.proved.contains(&peer)
    }

    /// `peer` is no longer on its way. Returns whether it had a place by this ticket.
    fn release(&mut self, peer: Fingerprint) -> bool {
        let at = self.taken_by.iter().position(|other| *other == peer);
        at.map(|at| self.taken_by.swap_remove(at)).is_some()
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
    /// So many free places for `guests`, and for whoever has a ticket when there are some, each good for `uses`.
    pub fn new(places: usize, guests: Guests, uses: Option<u32>) -> Self {
        let ticket = uses.map(OpenTicket::new);
        let state = State {
            guests,
            free: places,
            ticket,
            is_closed: false,
            by_key: HashSet::new(),
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

    /// What was known of `visitor`, which has arrived, when it took its place, whatever is known now.
    pub fn entry(&self, visitor: &Visitor) -> Option<(PeerName, KnownPeer)> {
        self.state().entries.remove(&visitor.channel.exporter)
    }

    /// From now on these certificates count. Sessions go on.
    pub fn certify(&self, certified: Option<Arc<Certified>>) {
        self.state().guests.certified = certified;
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.state().is_closed = true;
    }

    /// The secret of the ticket, if there is one.
    pub fn secret(&self) -> Option<Secret> {
        self.state().ticket.as_ref().map(|ticket| ticket.secrets.secret())
    }

    /// Notes that `peer` has arrived, if it came by the ticket. Replaces a ticket that is used up by that; returns the new
    /// secret. Until a dialler has arrived, it may lose its place, and needs the ticket again.
    pub fn renew_after(&self, peer: Fingerprint) -> Option<Secret> {
        let mut state = self.state();
        let ticket = state.ticket.as_mut()?;
        if !ticket.release(peer) {
            return None;
        }
        ticket.left -= 1;
        if ticket.left > 0 {
            return None;
        }
        ticket.left = ticket.uses;
        Some(ticket.renew(Reason::TicketUsed))
    }

    /// The ticket has expired; returns the secret of the next one.
    pub fn expire(&self) -> Option<Secret> {
        Some(self.state().ticket.as_mut()?.renew(Reason::TicketExpired))
    }
}

impl Authorizer for Places {
    fn authorize(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        let mut state = self.state();
        // No entry counts here: whoever has a certificate may show any key with it.
        if let Some(step) = by_certificate(state.guests.certified.as_deref(), greeting) {
            return step;
        }
        let peer = greeting.channel.peer;
        let welcomes = state.guests.welcomes(peer);
        if welcomes == Some(true) {
            state.by_key.insert(peer);
            return Ok(ListenerStep::LetIn(None));
        }
        state.by_key.remove(&peer);
        let by_ticket = state.ticket.as_mut().map(|ticket| {
            let (keys, secrets) = (Vec::new(), Arc::clone(&ticket.secrets));
            let step = Invited { keys, ticket: secrets, code: None, certified: None }.authorize(greeting);
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

    fn take(&self, visitor: &Visitor) -> Result<(), Failure> {
        let state = &mut *self.state();
        let Channel { exporter, peer } = visitor.channel;
        let (is_by_key, is_certified) = (state.by_key.remove(&peer), visitor.certificate.is_some());
        if state.is_closed {
            return Err(Failure::new(Reason::Interrupted, "the waiting side is stopping"));
        }
        let is_welcome = state.guests.welcomes(peer) == Some(true) || is_certified;
        let ticket = state.ticket.as_mut().filter(|ticket| !is_welcome && ticket.is_good_for(peer));
        if !is_welcome && ticket.is_none() {
            // It may have had the right a moment ago.
            return Err(if is_by_key { no_right(state.guests.right) } else { ticket_used() });
        }
        if state.free == 0 {
            let message = "the waiting side is busy with other transfers; try again later";
            return Err(Failure::new(Reason::Busy, message));
        }
        if let Some(ticket) = ticket {
            ticket.taken_by.push(peer);
        }
        if let Some((name, known)) = state.guests.known.with_key(peer).filter(|_| !is_certified) {
            state.entries.insert(exporter, (name.clone(), known.clone()));
        }
        state.free -= 1;
        Ok(())
    }

    fn give_back(&self, visitor: &Visitor) {
        let mut state = self.state();
        self.free_one(&mut state);
        let Channel { exporter, peer } = visitor.channel;
        state.entries.remove(&exporter);
        if let Some(ticket) = state.ticket.as_mut() {
            ticket.release(peer);
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
    use crate::auth::handshake::{DiallerHandshake, DiallerMethod, ListenerHandshake};
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

    /// It came by its key or a ticket, and each on a connection of its own.
    fn visitor(number: u8) -> Visitor {
        Visitor { channel: Channel { exporter: [number; 32], peer: key(number) }, certificate: None }
    }

    /// A dialler with this key comes by `method`, and takes a place if it may.
    fn come(places: &Places, number: u8, method: &dyn DiallerMethod) -> Option<Reason> {
        let channel = Channel { exporter: [7; 32], peer: key(number) };
        let (message, _) = method.begin(&channel);
        let greeting = Greeting { method: method.number(), message: &message, channel: &channel };
        let let_in = places.authorize(&greeting).and_then(|_| places.take(&visitor(number)));
        let_in.err().map(|failure| failure.reason)
    }

    #[test]
    fn known_peers_with_the_right_are_let_in_while_there_are_places() {
        let dir = tempfile::tempdir().unwrap();
        let places = Arc::new(Places::new(2, guests(dir.path()), None));
        let by_key = ByKey { listener: LISTENER };
        assert_eq!(come(&places, 2, &by_key), Some(Reason::Refused));
        assert_eq!(come(&places, 9, &by_key), Some(Reason::NotAuthenticated));
        assert_eq!((come(&places, 1, &by_key), come(&places, 1, &by_key)), (None, None));
        assert_eq!(come(&places, 3, &by_key), Some(Reason::Busy));
        drop(places.taken());
        assert_eq!(come(&places, 3, &by_key), None);
        places.give_back(&visitor(3));
        let only = vec!["cay".parse().unwrap()];
        let places = Places::new(2, Guests { only, ..guests(dir.path().join("2").as_path()) }, None);
        assert_eq!((come(&places, 1, &by_key), come(&places, 3, &by_key)), (Some(Reason::Refused), None));
        places.close();
        assert_eq!(come(&places, 3, &by_key), Some(Reason::Interrupted));
    }

    #[test]
    fn the_entry_of_the_moment_when_a_place_was_taken_counts() {
        let dir = tempfile::tempdir().unwrap();
        for tickets in [false, true] {
            let guests = guests(&dir.path().join(tickets.to_string()));
            let places = Places::new(9, guests, tickets.then_some(1));
            let by_key = ByKey { listener: LISTENER };
            assert_eq!(come(&places, 1, &by_key), None);
            let channel = Channel { exporter: [7; 32], peer: key(3) };
            let (message, _) = by_key.begin(&channel);
            let greeting = Greeting { method: by_key.number(), message: &message, channel: &channel };
            places.authorize(&greeting).unwrap();
            places.know(KnownPeers::default());
            assert_eq!(places.entry(&visitor(1)).unwrap().0.as_str(), "ann");
            assert_eq!(places.take(&visitor(3)).unwrap_err().reason, Reason::Refused);
            assert_eq!(places.entry(&visitor(3)), None);
        }
    }

    #[test]
    fn a_certificate_is_proved_on_each_connection_and_no_entry_counts_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (listener, dialler) =
            (certified("ca", Some("leaf"), &[]), certified("ca", Some("client"), &["localhost"]));
        let guests = Guests { certified: Some(listener), ..guests(dir.path()) };
        let places = Places::new(3, guests, None);
        let greet = |number: u8, exporter: u8| {
            let channel = Channel { exporter: [exporter; 32], peer: key(number) };
            let method = ByCertificate(Arc::clone(&dialler));
            let (mut dialling, message) = DiallerHandshake::new(&method, &channel);
            let greeting = Greeting { method: method.number(), message: &message, channel: &channel };
            let (mut listening, said) = ListenerHandshake::new(places.authorize(&greeting).ok()?);
            let accepted = dialling.read(&said.unwrap()).unwrap().unwrap();
            listening.read(&accepted).unwrap();
            Some(Visitor { channel, certificate: listening.into_certificate() })
        };
        // Two at once with the same key, also one that is known and may not send.
        let (one, other) = (greet(2, 10).unwrap(), greet(2, 11).unwrap());
        assert_eq!(one.certificate.as_ref().unwrap().name.as_deref(), Some("backup.client.test"));
        assert!(places.take(&one).is_ok() && places.take(&other).is_ok());
        assert_eq!((places.entry(&one), places.entry(&other)), (None, None));
        // A certificate that the same key showed before is worth nothing to another method.
        let by_key = Visitor { certificate: None, ..greet(2, 12).unwrap() };
        assert!(places.take(&by_key).is_err());
        // An entry is for whoever comes by its key.
        assert_eq!(come(&places, 1, &ByKey { listener: LISTENER }), None);
        assert_eq!(places.entry(&visitor(1)).unwrap().0.as_str(), "ann");
        // What is refused, gone or has arrived leaves nothing behind.
        assert_eq!(places.take(&greet(3, 13).unwrap()).unwrap_err().reason, Reason::Busy);
        places.give_back(&one);
        assert_eq!(come(&places, 3, &ByKey { listener: LISTENER }), None);
        places.give_back(&visitor(3));
        assert!(places.state().entries.is_empty());
        places.certify(None);
        assert!(greet(9, 14).is_none());
    }

    #[test]
    fn a_ticket_serves_one_dialler_and_known_peers_leave_it() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(9, guests(dir.path()), Some(1));
        let secret = places.secret().unwrap();
        let ticket = ByTicket { listener: LISTENER.head(), secret: secret.clone() };
        assert_eq!(come(&places, 1, &ticket), None);
        assert_eq!(places.renew_after(key(1)), None, "a known peer needs none");
        assert_eq!(come(&places, 8, &ticket), None);
        places.give_back(&visitor(8));
        assert_eq!(places.renew_after(key(8)), None, "its dialler was gone before it was welcomed");
        assert_eq!(come(&places, 8, &ticket), None);
        assert_eq!(places.renew_after(key(1)), None, "another one arrives while its dialler is on the way");
        places.give_back(&visitor(8));
        assert_eq!(come(&places, 2, &ticket), None, "without the right, but with a ticket");
        assert_eq!(come(&places, 9, &ticket), Some(Reason::TicketUsed));
        let renewed = places.renew_after(key(2)).unwrap();
        assert_ne!(renewed, secret);
        assert_eq!(come(&places, 9, &ticket), Some(Reason::TicketUsed));
        assert_eq!(come(&places, 9, &ByTicket { listener: LISTENER.head(), secret: renewed }), None);
    }

    #[test]
    fn a_ticket_for_three_serves_three_and_expires_with_its_uses_left() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(2, guests(dir.path()), Some(3));
        let by = |secret: &Secret| ByTicket { listener: LISTENER.head(), secret: secret.clone() };
        let first = places.secret().unwrap();
        assert_eq!((come(&places, 11, &by(&first)), places.renew_after(key(11))), (None, None));
        let second = places.expire().unwrap();
        assert_eq!(come(&places, 12, &by(&first)), Some(Reason::TicketExpired));
        assert_eq!((come(&places, 12, &by(&second)), places.renew_after(key(12))), (None, None));
        assert_eq!(come(&places, 13, &by(&second)), Some(Reason::Busy));
        places.give_back(&visitor(11));
        assert_eq!(come(&places, 13, &by(&second)), None);
        // Its dialler is on the way, so the ticket may be needed again.
        places.give_back(&visitor(12));
        assert_eq!(come(&places, 14, &by(&second)), Some(Reason::TicketUsed));
        let third = places.renew_after(key(13)).unwrap();
        assert_eq!(come(&places, 14, &by(&second)), Some(Reason::TicketUsed));
        assert_eq!(come(&places, 14, &by(&third)), None);
    }
}
