//! Who is let in, and what is said to those who are not.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::timeout;

use super::told;
use super::{Open, Session, one_file, send_on, source};
use crate::auth::Secret;
use crate::event::Event;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::role::Role;
use crate::protocol::wire::status::Status;
use crate::session::handshake::{Claim, Door, answer, dial};
use crate::session::messages::{MessageReader, write_message};
use crate::session::{Joining, Link, close_with};
use crate::testing::connection::{Link as MemoryLink, MemoryConnection, MemoryLimits, pair};
use crate::transport::{Connection, SendStream};

const SECRET: Secret = Secret::from_bytes([1; 16]);

/// One seat for whoever holds the ticket.
#[derive(Default)]
struct OneSeat(AtomicBool);

impl Door for OneSeat {
    fn check(&self, claim: &Claim) -> Result<(), Failure> {
        if claim.proves(&SECRET) {
            return Ok(());
        }
        let what = if claim.has_proof() { "the wrong secret" } else { "no secret" };
        Err(Failure::new(Reason::NotAuthenticated, what))
    }

    fn take_seat(&self) -> Result<(), Failure> {
        match self.0.swap(true, Relaxed) {
            false => Ok(()),
            true => Err(Failure::new(Reason::TicketUsed, "the ticket has been used")),
        }
    }

    fn leave_seat(&self) {
        self.0.store(false, Relaxed);
    }

    fn ports(&self, _: Option<u32>) -> Vec<u16> {
        Vec::new()
    }
}

fn ends(seed: u64) -> (MemoryConnection, MemoryConnection) {
    let (dialler, listener, _) = pair(seed, MemoryLimits::default());
    (dialler, listener)
}

async fn dialled(
    connection: MemoryConnection,
    role: Role,
    secret: Option<&Secret>,
) -> Result<Link<MemoryConnection>, Failure> {
    let mut link = dial(connection, role, secret, None).await?;
    link.welcome().await?;
    Ok(link)
}

async fn meet(
    ends: (MemoryConnection, MemoryConnection),
    secret: Option<Secret>,
    roles: (Role, Role),
    door: &dyn Door,
) -> (Option<Reason>, Option<Reason>) {
    // The caller may take its time to close the connection: why must have been said before.
    let _kept = ends.1.clone();
    let (dialled, answered) =
        tokio::join!(dialled(ends.0, roles.0, secret.as_ref()), answer(ends.1, roles.1, door));
    (dialled.err().map(|failure| failure.reason), answered.err().map(|failure| failure.reason))
}

const SEND: (Role, Role) = (Role::Send, Role::Receive);

#[tokio::test(start_paused = true)]
async fn the_ticket_lets_in_once() {
    let door = OneSeat::default();
    let wrong = Secret::from_bytes([2; 16]);
    let refused = (Some(Reason::NotAuthenticated), Some(Reason::NotAuthenticated));
    assert_eq!(meet(ends(1), Some(wrong), SEND, &door).await, refused, "the wrong secret");
    assert_eq!(meet(ends(2), None, SEND, &door).await, refused, "no secret");
    assert!(!door.0.load(Relaxed), "whoever is not let in takes no seat");
    assert_eq!(meet(ends(3), Some(SECRET), SEND, &door).await, (None, None));
    let used = (Some(Reason::TicketUsed), Some(Reason::TicketUsed));
    assert_eq!(meet(ends(4), Some(SECRET), SEND, &door).await, used);
}

/// Loses the dialler just before it would be welcomed.
struct Cut {
    seat: OneSeat,
    link: MemoryLink,
}

impl Door for Cut {
    fn check(&self, claim: &Claim) -> Result<(), Failure> {
        self.seat.check(claim)
    }

    fn take_seat(&self) -> Result<(), Failure> {
        self.seat.take_seat()?;
        self.link.cut();
        Ok(())
    }

    fn leave_seat(&self) {
        self.seat.leave_seat();
    }

    fn ports(&self, connections: Option<u32>) -> Vec<u16> {
        self.seat.ports(connections)
    }
}

/// Fault 6 of the trials: the listener waited for ever behind a seat that nobody had.
/// [W-5]
#[tokio::test(start_paused = true)]
async fn fault_6_the_seat_of_a_dialler_that_cannot_be_welcomed_is_free_again() {
    let (dialler, listener, link) = pair(1, MemoryLimits::default());
    let door = Cut { seat: OneSeat::default(), link };
    let (told, answered) = meet((dialler, listener), Some(SECRET), SEND, &door).await;
    assert_eq!((told, answered), (Some(Reason::ConnectionLost), Some(Reason::ConnectionLost)));
    assert_eq!(meet(ends(2), Some(SECRET), SEND, &door.seat).await, (None, None));
    let used = (Some(Reason::TicketUsed), Some(Reason::TicketUsed));
    assert_eq!(meet(ends(3), Some(SECRET), SEND, &door.seat).await, used);
}

#[tokio::test(start_paused = true)]
async fn attack_10_a_proof_of_another_connection_is_worth_nothing() {
    let label = b"EXPORTER-towline-ticket";
    let (old, _old_peer) = ends(1);
    let proof = SECRET.proof(&old.export_keying_material(label).unwrap());
    let (dialler, listener) = ends(2);
    let door = OneSeat::default();
    let replay = async {
        let (mut control, _answer) = dialler.open_bi().await.unwrap();
        let hello =
            Message::Hello { role: Role::Send, agent: String::new(), proof: Some(proof), connections: None };
        write_message(&mut control, &hello).await.unwrap();
        told(dialler.closed().await)
    };
    let (told, answered) = tokio::join!(replay, answer(listener, Role::Receive, &door));
    assert_eq!(answered.err().map(|failure| failure.reason), Some(Reason::NotAuthenticated));
    assert_eq!((told.reason, told.message.as_str()), (Reason::NotAuthenticated, "the wrong secret"));
}

/// [W-14], [S-1]
#[tokio::test(start_paused = true)]
async fn only_counterparts_are_let_in_and_others_keep_the_ticket() {
    const ALL: [Role; 4] = [Role::Send, Role::Receive, Role::BenchSend, Role::BenchReceive];
    for listener in ALL {
        let door = OneSeat::default();
        let incompatible = (Some(Reason::Incompatible), Some(Reason::Incompatible));
        for dialler in ALL.into_iter().filter(|role| *role != listener.counterpart()) {
            let roles = (dialler, listener);
            assert_eq!(meet(ends(1), Some(SECRET), roles, &door).await, incompatible, "{roles:?}");
        }
        let roles = (listener.counterpart(), listener);
        assert_eq!(meet(ends(2), Some(SECRET), roles, &door).await, (None, None), "{roles:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_greeting_is_refused() {
    let mut too_long = vec![1, 0xbf, 0xff, 0xff, 0xff];
    too_long.resize(100, 0);
    let hello_cut_short = vec![1, 10, 0, 1];
    for first in [too_long, hello_cut_short, b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![2, 1, 0], Vec::new()] {
        let (dialler, listener) = ends(1);
        let speak = async {
            let (mut control, _answer) = dialler.open_bi().await.unwrap();
            control.write_all(&mut [first.clone().into()]).await.unwrap();
            control.finish().unwrap();
            told(dialler.closed().await).reason
        };
        let (told, answered) = tokio::join!(speak, answer(listener, Role::Receive, &Open));
        let reason = answered.err().map(|failure| failure.reason);
        assert_eq!((told, reason), (Reason::Protocol, Some(Reason::Protocol)), "{first:?}");
    }
    let (dialler, listener) = ends(1);
    let speak = async {
        let (mut control, heard) = listener.accept_bi().await.unwrap();
        MessageReader::new(heard).expect().await.unwrap();
        write_message(&mut control, &Message::Heartbeat(crate::protocol::wire::activity::Activity::Disk))
            .await
            .unwrap();
    };
    let (dialled, ()) = tokio::join!(dialled(dialler, Role::Send, None), speak);
    assert_eq!(dialled.err().map(|failure| failure.reason), Some(Reason::Protocol));
}

/// Saves a round trip. The listener here says nothing until it has seen the manifest.
#[tokio::test(start_paused = true)]
async fn a_sender_offers_before_it_is_welcomed() {
    let session = Session::new(1);
    let ((dialler, listener), _) = session.connect();
    let link = dial(dialler, Role::Send, None, None).await.unwrap();
    let speak = async {
        let (mut control, heard) = listener.accept_bi().await.unwrap();
        let mut heard = MessageReader::new(heard);
        assert!(matches!(heard.expect().await.unwrap(), Message::Hello { .. }));
        assert!(matches!(heard.expect().await.unwrap(), Message::Offer { .. }));
        let mut manifest = MessageReader::new(listener.accept_uni().await.unwrap());
        assert!(matches!(manifest.expect().await.unwrap(), Message::Entry(_)));
        let is_begun = |event: &Event| matches!(event, Event::Connected { .. } | Event::Started { .. });
        assert!(!session.sender.told.0.lock().unwrap().iter().any(is_begun));
        write_message(&mut control, &Message::Welcome { agent: "peer".into(), ports: vec![] }).await.unwrap();
        close_with(&listener, &Failure::new(Reason::Storage, "enough"));
    };
    let source = source(&one_file(1));
    let (sent, ()) = tokio::join!(send_on(link, &source, &session.sender.context), speak);
    assert_eq!(sent.err().map(|failure| failure.reason), Some(Reason::Storage));
}

/// A listener that begins with anything else is no listener.
#[tokio::test(start_paused = true)]
async fn a_sender_wants_to_be_welcomed_first() {
    let session = Session::new(1);
    let ((dialler, listener), _) = session.connect();
    let link = dial(dialler, Role::Send, None, None).await.unwrap();
    let speak = async {
        let (mut control, _heard) = listener.accept_bi().await.unwrap();
        let want = Message::Status(EntryId(0), Status::Want);
        write_message(&mut control, &want).await.unwrap();
        told(listener.closed().await).reason
    };
    let source = source(&one_file(1));
    let (sent, told) = tokio::join!(send_on(link, &source, &session.sender.context), speak);
    assert_eq!((sent.err().map(|failure| failure.reason), told), (Some(Reason::Protocol), Reason::Protocol));
}

/// A listener of an earlier make skips what it is asked for, and offers no ports.
#[tokio::test(start_paused = true)]
async fn ports_are_told_to_a_dialler_and_may_be_missing() {
    for (ports, used) in [(vec![], 0), (vec![1, 2], 2), (vec![1, 2, 3], 2)] {
        let (dialler, listener) = ends(1);
        let speak = async {
            let (mut control, heard) = listener.accept_bi().await.unwrap();
            let hello = MessageReader::new(heard).expect().await.unwrap();
            write_message(&mut control, &Message::Welcome { agent: "x".into(), ports: ports.clone() })
                .await
                .unwrap();
            (hello, control)
        };
        let listen = async {
            let mut link = dial(dialler, Role::Send, None, Some(3)).await.unwrap();
            let (joining, mut joiner) = Joining::new(2, false);
            link.joining = joining;
            link.welcome().await.unwrap();
            assert_eq!(joiner.ports().await, ports[..used]);
            link.joining.max()
        };
        let (max, (hello, _control)) = tokio::join!(listen, speak);
        assert!(matches!(hello, Message::Hello { connections: Some(3), .. }), "{hello:?}");
        assert_eq!(max as usize, used);
    }
}

/// The caller bounds the greeting; being dropped, it leaves nothing that holds the connection.
#[tokio::test(start_paused = true)]
async fn attack_12_a_greeting_that_never_comes_can_be_given_up() {
    let (dialler, listener) = ends(1);
    let waiting = timeout(Duration::from_secs(10), answer(listener, Role::Receive, &Open));
    assert!(waiting.await.is_err());
    assert_eq!(told(dialler.closed().await).reason, Reason::ConnectionLost);
}

#[tokio::test(start_paused = true)]
async fn attack_4_the_name_of_the_peers_program_is_escaped() {
    let (dialler, listener) = ends(1);
    let speak = async {
        let (mut control, answer) = dialler.open_bi().await.unwrap();
        let hello =
            Message::Hello { role: Role::Send, agent: "\x1b]0;x\x07".into(), proof: None, connections: None };
        write_message(&mut control, &hello).await.unwrap();
        (control, answer)
    };
    let (_control, answered) = tokio::join!(speak, answer(listener, Role::Receive, &Open));
    assert_eq!(answered.unwrap().agent.as_deref(), Some("\\u{1b}]0;x\\u{7}"));
}
