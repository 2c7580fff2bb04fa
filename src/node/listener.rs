//! Answers diallers, and serves one session per slot at a time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, info};

use crate::auth::handshake::{Authorizer, Greeting, ListenerStep};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::role::Role;
use crate::session::handshake::{Slot, answer};
use crate::session::{Link, close_with};
use crate::transport::{Arrival, Connection, Endpoint};

/// Time from the end of a dialler's TLS handshake until it must be let in.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// A dialler that was let in, and its slot.
pub struct Guest<C: Connection> {
    /// The connection and its control stream.
    pub link: Link<C>,
    /// Index of its slot in the listener's list.
    pub slot: usize,
}

/// Diallers that were let in. Others are answered as long as this lives.
pub struct Listener<C: Connection> {
    guests: mpsc::Receiver<Guest<C>>,
    answering: Answering,
}

/// Answers diallers until dropped.
pub struct Answering(AbortHandle);

type SlotList = Arc<[Arc<dyn Slot>]>;

impl<C: Connection> Listener<C> {
    /// Starts to answer diallers that arrive at `at` and have the counterpart of `role`. Each dialler gets the first
    /// free slot of `slots` that is for it.
    pub fn new<E>(at: E, role: Role, slots: Vec<Arc<dyn Slot>>) -> Self
    where
        E: Endpoint<Arrival: Arrival<Connection = C>>,
    {
        let (sender, guests) = mpsc::channel(1);
        let answering = Answering(tokio::spawn(answer_all(at, role, slots.into(), sender)).abort_handle());
        Self { guests, answering }
    }

    /// The next dialler that was let in; `None` when no more can arrive.
    pub async fn next(&mut self) -> Option<Guest<C>> {
        self.guests.recv().await
    }

    /// Lets no more diallers in, but still tells them why.
    pub fn into_answering(self) -> Answering {
        self.answering
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers every dialler in its own task. When all slots are taken, diallers still learn why they are refused.
async fn answer_all<E: Endpoint>(
    at: E,
    role: Role,
    slots: SlotList,
    guests: mpsc::Sender<Guest<<E::Arrival as Arrival>::Connection>>,
) {
    while let Some(arrival) = at.accept().await {
        tokio::spawn(answer_one(arrival, role, Arc::clone(&slots), guests.clone()));
    }
}

async fn answer_one<A: Arrival>(
    arrival: A,
    role: Role,
    slots: SlotList,
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
    let visit = Visit { slots, chosen: OnceLock::new() };
    match unless_silent(&connection, answer(connection.clone(), role, &visit)).await {
        Ok(link) => {
            debug!(%from, "let in");
            let slot = visit.chosen.get().copied().unwrap_or_default();
            let _ = guests.send(Guest { link, slot }).await;
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

    fn take(&self) -> Result<(), Failure> {
        self.slot()?.take()
    }

    fn give_back(&self) {
        if let Ok(slot) = self.slot() {
            slot.give_back();
        }
    }

    fn ports(&self, connections: Option<u32>) -> Vec<u16> {
        self.slot().map_or_else(|_| Vec::new(), |slot| slot.ports(connections))
    }
}
