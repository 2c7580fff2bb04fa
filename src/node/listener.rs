//! Answers diallers, and serves one session per slot at a time.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, info};

use crate::auth::handshake::{Authorizer, Greeting, ListenerStep, Visitor};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::role::Role;
use crate::session::handshake::{Membership, Slot, admit, answer, opening};
use crate::session::{Joiner, Link, close_with};
use crate::transport::{Arrival, Connection, Endpoint};

/// Time from the end of a dialler's TLS handshake until it must be let in.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// A dialler that was let in, and its slot.
pub struct Guest<C: Connection> {
    /// The connection and its control stream.
    pub link: Link<C>,
    /// Index of its slot in the listener's list.
    pub slot: usize,
    /// How it has proved itself.
    pub visitor: Visitor,
}

/// Diallers that were let in. Others are answered as long as this lives.
pub struct Listener<C: Connection> {
    guests: mpsc::Receiver<Guest<C>>,
    answering: Answering<C>,
}

/// Answers diallers until dropped.
pub struct Answering<C> {
    task: AbortHandle,
    sessions: Sessions<C>,
}

/// Sessions that their diallers may come back to; `None` once nobody can arrive any more.
type Sessions<C> = Arc<Mutex<Option<Vec<(Membership, Joiner<C>)>>>>;

type SlotList = Arc<[Arc<dyn Slot>]>;

impl<C: Connection> Listener<C> {
    /// Starts to answer diallers that arrive at `at` and have the counterpart of `role`. Each dialler gets the first
    /// free slot of `slots` that is for it.
    pub fn new<E>(at: E, role: Role, slots: Vec<Arc<dyn Slot>>) -> Self
    where
        E: Endpoint<Arrival: Arrival<Connection = C>>,
    {
        let (sender, guests) = mpsc::channel(1);
        let sessions = Sessions::new(Mutex::new(Some(Vec::new())));
        let task = tokio::spawn(answer_all(at, role, slots.into(), Arc::clone(&sessions), sender));
        Self { guests, answering: Answering { task: task.abort_handle(), sessions } }
    }

    /// The next dialler that was let in; `None` when no more can arrive.
    pub async fn next(&mut self) -> Option<Guest<C>> {
        self.guests.recv().await
    }

    /// Lets the dialler of a session back in, as [`Answering::lets_back`].
    pub fn lets_back(&self, membership: Membership, joiner: Joiner<C>) {
        self.answering.lets_back(membership, joiner);
    }

    /// Lets no more diallers in, but still tells them why.
    pub fn into_answering(self) -> Answering<C> {
        self.answering
    }
}

impl<C> Answering<C> {
    /// Lets the dialler of a session back in with a connection that takes over, until the session has ended.
    pub fn lets_back(&self, membership: Membership, joiner: Joiner<C>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sessions) = sessions.as_mut() else { return };
        sessions.retain(|(_, joiner)| !joiner.is_closed());
        sessions.push((membership, joiner));
    }
}

impl<C> Drop for Answering<C> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers every dialler in its own task. When all slots are taken, diallers still learn why they are refused.
async fn answer_all<E: Endpoint>(
    at: E,
    role: Role,
    slots: SlotList,
    sessions: Sessions<<E::Arrival as Arrival>::Connection>,
    guests: mpsc::Sender<Guest<<E::Arrival as Arrival>::Connection>>,
) {
    while let Some(arrival) = at.accept().await {
        let (slots, sessions) = (Arc::clone(&slots), Arc::clone(&sessions));
        tokio::spawn(answer_one(arrival, role, slots, sessions, guests.clone()));
    }
    // The sessions need not wait for a dialler that cannot come back.
    *sessions.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// A dialler that may stay.
enum Greeted<C: Connection> {
    /// It begins a session.
    New(Link<C>),
    /// It goes on with a session, over this connection.
    Back(Option<Joiner<C>>),
}

async fn answer_one<A: Arrival>(
    arrival: A,
    role: Role,
    slots: SlotList,
    sessions: Sessions<A::Connection>,
    guests: mpsc::Sender<Guest<A::Connection>>,
) {
    let from = arrival.remote_address();
    let connection = match arrival.handshake().await {
        Ok(connection) => connection,
        Err(error) => {
            info!(%from, %error, "a dialler did not finish its handshake");
            return;
        }
    };
    let visit = Visit { slots, chosen: OnceLock::new(), visitor: OnceLock::new() };
    let greeting = async {
        let opening = opening(&connection).await?;
        if opening.is_join() {
            let sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (members, joiners): (Vec<_>, Vec<_>) = sessions.into_iter().flatten().unzip();
            let session = admit(&connection, opening, &members, 0).await?;
            return Ok(Greeted::Back(joiners.into_iter().nth(session)));
        }
        answer(connection.clone(), opening, role, &visit).await.map(Greeted::New)
    };
    match unless_silent(&connection, greeting).await {
        Ok(Greeted::New(link)) => {
            debug!(%from, "let in");
            let slot = visit.chosen.get().copied().unwrap_or_default();
            if let Some(visitor) = visit.visitor.into_inner() {
                let _ = guests.send(Guest { link, slot, visitor }).await;
            }
        }
        Ok(Greeted::Back(joiner)) => {
            debug!(%from, "let back in");
            if let Some(joiner) = joiner {
                joiner.join(0, connection).await;
            }
        }
        Err(failure) => {
            info!(%from, %failure, "a dialler was not let in");
            close_with(&connection, &failure);
        }
    }
}

/// Runs `greeting` with a dialler within a time limit, which is shorter when there are many.
///
/// # Errors
///
/// The greeting failed, or the time is over.
pub async fn unless_silent<T>(
    connection: &impl Connection,
    greeting: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let silent = |message| Err(Failure::new(Reason::NotAuthenticated, message));
    tokio::select! {
        biased;
        greeted = greeting => greeted,
        () = sleep(HANDSHAKE_TIME_MAX) => silent("nothing was said in time"),
        () = connection.has_to_leave() => silent("nothing was said in time, and others came"),
    }
}

/// One dialler, and the slot that it is for.
struct Visit {
    slots: SlotList,
    chosen: OnceLock<usize>,
    /// The dialler, once it has the slot.
    visitor: OnceLock<Visitor>,
}

impl Visit {
    fn slot(&self) -> Result<&dyn Slot, Failure> {
        let slot = self.chosen.get().and_then(|slot| self.slots.get(*slot));
        slot.map(|slot| &**slot).ok_or_else(|| Failure::new(Reason::Internal, "a dialler without a slot"))
    }
}

impl Authorizer for Visit {
    /// Among the slots for the dialler, a free one, else the first.
    fn authorize(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        let mut refused = Failure::new(Reason::TicketUsed, "this side takes nobody");
        let mut taken = None;
        for (number, slot) in self.slots.iter().enumerate() {
            match slot.authorizer().authorize(greeting) {
                Ok(step) if slot.is_taken() => {
                    taken.get_or_insert((number, step));
                }
                Ok(step) => {
                    let _ = self.chosen.set(number);
                    return Ok(step);
                }
                Err(failure) => refused = failure,
            }
        }
        let (number, step) = taken.ok_or(refused)?;
        let _ = self.chosen.set(number);
        Ok(step)
    }
}

impl Slot for Visit {
    fn authorizer(&self) -> &dyn Authorizer {
        self
    }

    fn is_taken(&self) -> bool {
        self.slot().is_ok_and(Slot::is_taken)
    }

    fn take(&self, visitor: &Visitor) -> Result<(), Failure> {
        self.slot()?.take(visitor)?;
        let _ = self.visitor.set(visitor.clone());
        Ok(())
    }

    fn give_back(&self, visitor: &Visitor) {
        if let Ok(slot) = self.slot() {
            slot.give_back(visitor);
        }
    }

    fn ports(&self, connections: Option<u32>) -> Vec<u16> {
        self.slot().map_or_else(|_| Vec::new(), |slot| slot.ports(connections))
    }
}
