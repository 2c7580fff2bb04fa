//! Which diallers are let in, and what refused ones are told.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::hand::hear;
use super::told;
use super::{BY_KEY, Open, Session, answer_all, one_file, send_on, source};
use crate::auth::handshake::{Authorizer, Channel, DiallerMethod, Visitor};
use crate::auth::methods::{AnyOf, ByTicket};
use crate::auth::{Expected, Secret};
use crate::event::Event;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::request::Request;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::role::Role;
use crate::protocol::wire::status::Status;
use crate::session::handshake::{Slot, dial};
use crate::session::messages::{MessageReader, write_message};
use crate::session::{Joining, Link, Retry, close_with};
use crate::testing::auth::{FOUR_MESSAGES, FourMessages};
use crate::testing::connection::{MemoryConnection, MemoryLimits, MemoryLink, pair};
use crate::testing::slot::TestSlot;
use crate::transport::{Connection, SendStream};

const SECRET: Secret = Secret::from_bytes([1; 16]);

/// Diallers with and without the ticket.
const BY_TICKET: ByTicket = ByTicket { listener: BY_KEY.listener.head(), secret: SECRET };

/// A slot for holders of the ticket.
fn ticket_slot() -> TestSlot<AnyOf> {
    TestSlot::new(AnyOf(vec![Expected::Secret(SECRET)]))
}

fn ends(seed: u64) -> (MemoryConnection, MemoryConnection) {
    let (dialler, listener, _) = pair(seed, MemoryLimits::default());
    (dialler, listener)
}

async fn dialled(
    connection: MemoryConnection,
    role: Role,
    method: &dyn DiallerMethod,
) -> Result<Link<MemoryConnection>, Failure> {
    let mut link = dial(connection, role, method, None).await?;
    link.welcome().await?;
    Ok(link)
}

async fn meet(
    ends: (MemoryConnection, MemoryConnection),
    method: &dyn DiallerMethod,
    roles: (Role, Role),
    slot: &dyn Slot,
) -> (Option<Reason>, Option<Reason>) {
    // The caller may be slow to close the connection, so the reason must have been sent before.
    let _kept = ends.1.clone();
    let (dialled, answered) =
        tokio::join!(dialled(ends.0, roles.0, method), answer_all(ends.1, roles.1, slot));
    (dialled.err().map(|failure| failure.reason), answered.err().map(|failure| failure.reason))
}

/// A dialler's greeting.
fn hello(agent: &str, method: u8, auth: &[u8]) -> Message {
    let (agent, auth) = (agent.to_owned(), Bytes::copy_from_slice(auth));
    Message::Hello { role: Role::Send, agent, method, auth, connections: None }
}

const SEND: (Role, Role) = (Role::Send, Role::Receive);

#[tokio::test(start_paused = true)]
async fn the_ticket_lets_in_once() {
    let slot = ticket_slot();
    let wrong = ByTicket { secret: Secret::from_bytes([2; 16]), ..BY_TICKET };
    let refused = (Some(Reason::NotAuthenticated), Some(Reason::NotAuthenticated));
    assert_eq!(meet(ends(1), &wrong, SEND, &slot).await, refused, "the wrong secret");
    assert_eq!(meet(ends(2), &BY_KEY, SEND, &slot).await, refused, "no secret");
    assert!(!slot.is_taken(), "a refused dialler takes no slot");
    assert_eq!(meet(ends(3), &BY_TICKET, SEND, &slot).await, (None, None));
    let used = (Some(Reason::TicketUsed), Some(Reason::TicketUsed));
    assert_eq!(meet(ends(4), &BY_TICKET, SEND, &slot).await, used);
}

/// Loses the dialler just before it would be welcomed.
struct Cut {
    slot: TestSlot<AnyOf>,
    link: MemoryLink,
}

impl Slot for Cut {
    fn authorizer(&self) -> &dyn Authorizer {
        self.slot.authorizer()
    }

    fn is_taken(&self) -> bool {
        self.slot.is_taken()
    }

    fn take(&self, visitor: &Visitor) -> Result<(), Failure> {
        self.slot.take(visitor)?;
        self.link.cut();
        Ok(())
    }

    fn give_back(&self, visitor: &Visitor) {
        self.slot.give_back(visitor);
    }

    fn ports(&self, connections: Option<u32>) -> Vec<u16> {
        self.slot.ports(connections)
    }
}

/// Fault 6 of the trials: the listener waited forever for a slot that no dialler had. [W-5]
#[tokio::test(start_paused = true)]
async fn fault_6_the_slot_of_a_dialler_that_cannot_be_welcomed_is_free_again() {
    let (dialler, listener, link) = pair(1, MemoryLimits::default());
    let slot = Cut { slot: ticket_slot(), link };
    let (told, answered) = meet((dialler, listener), &BY_TICKET, SEND, &slot).await;
    assert_eq!((told, answered), (Some(Reason::ConnectionLost), Some(Reason::ConnectionLost)));
    assert_eq!(meet(ends(2), &BY_TICKET, SEND, &slot.slot).await, (None, None));
    let used = (Some(Reason::TicketUsed), Some(Reason::TicketUsed));
    assert_eq!(meet(ends(3), &BY_TICKET, SEND, &slot.slot).await, used);
}

#[tokio::test(start_paused = true)]
async fn attack_10_a_proof_of_another_connection_is_worth_nothing() {
    let label = b"EXPORTER-towline-auth";
    let (old, _old_peer) = ends(1);
    let proof = SECRET.proof(&old.export_keying_material(label).unwrap());
    let (dialler, listener) = ends(2);
    let slot = ticket_slot();
    let replay = async {
        let (mut control, _answer) = dialler.open_bi().await.unwrap();
        write_message(&mut control, &hello("", 1, &proof)).await.unwrap();
        told(dialler.closed().await)
    };
    let (told, answered) = tokio::join!(replay, answer_all(listener, Role::Receive, &slot));
    assert_eq!(answered.err().map(|failure| failure.reason), Some(Reason::NotAuthenticated));
    assert_eq!(told.reason, Reason::NotAuthenticated);
    assert!(told.message.starts_with("the ticket's secret is wrong"), "{}", told.message);
}

/// [W-14], [S-1]
#[tokio::test(start_paused = true)]
async fn only_counterparts_are_let_in_and_others_keep_the_ticket() {
    const ALL: [Role; 4] = [Role::Send, Role::Receive, Role::BenchSend, Role::BenchReceive];
    for listener in ALL {
        let slot = ticket_slot();
        let incompatible = (Some(Reason::Incompatible), Some(Reason::Incompatible));
        for dialler in ALL.into_iter().filter(|role| *role != listener.counterpart()) {
            let roles = (dialler, listener);
            assert_eq!(meet(ends(1), &BY_TICKET, roles, &slot).await, incompatible, "{roles:?}");
        }
        let roles = (listener.counterpart(), listener);
        assert_eq!(meet(ends(2), &BY_TICKET, roles, &slot).await, (None, None), "{roles:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn invalid_greetings_are_refused() {
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
        let (told, answered) = tokio::join!(speak, answer_all(listener, Role::Receive, &Open));
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
    let (dialled, ()) = tokio::join!(dialled(dialler, Role::Send, &BY_KEY), speak);
    assert_eq!(dialled.err().map(|failure| failure.reason), Some(Reason::Protocol));
}

/// Saves a round trip. The listener here sends nothing until it has seen the manifest.
#[tokio::test(start_paused = true)]
async fn a_sender_offers_before_it_is_welcomed() {
    let session = Session::new(1);
    let ((dialler, listener), _) = session.connect();
    let link = dial(dialler, Role::Send, &BY_KEY, None).await.unwrap();
    let speak = async {
        let (mut control, heard) = listener.accept_bi().await.unwrap();
        let mut heard = MessageReader::new(heard);
        assert!(matches!(heard.expect().await.unwrap(), Message::Hello { .. }));
        assert!(matches!(hear(&mut heard).await.unwrap(), Message::Offer { .. }));
        let mut manifest = MessageReader::new(listener.accept_uni().await.unwrap());
        assert!(matches!(hear(&mut manifest).await.unwrap(), Message::Entry(_)));
        let is_begun = |event: &Event| matches!(event, Event::Connected { .. } | Event::Started { .. });
        assert!(!session.sender.told.0.lock().unwrap().iter().any(is_begun));
        write_message(&mut control, &Message::Welcome { agent: "peer".into(), ports: vec![] }).await.unwrap();
        close_with(&listener, &Failure::new(Reason::Storage, "enough"));
    };
    let source = source(&one_file(1));
    let (sent, ()) = tokio::join!(send_on(link, &source, &session.sender.context), speak);
    assert_eq!(sent.err().map(|failure| failure.reason), Some(Reason::Storage));
}

/// A listener must begin with `Welcome`.
#[tokio::test(start_paused = true)]
async fn a_sender_wants_to_be_welcomed_first() {
    let session = Session::new(1);
    let ((dialler, listener), _) = session.connect();
    let link = dial(dialler, Role::Send, &BY_KEY, None).await.unwrap();
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

/// An older listener ignores the number of connections and offers no ports.
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
            let mut link = dial(dialler, Role::Send, &BY_KEY, Some(3)).await.unwrap();
            let (joining, mut joiner) = Joining::new(2, false, Retry::Off);
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

/// The caller limits the time of the greeting. When dropped, it leaves nothing that holds the connection.
#[tokio::test(start_paused = true)]
async fn attack_12_a_greeting_that_never_comes_can_be_given_up() {
    let (dialler, listener) = ends(1);
    let waiting = timeout(Duration::from_secs(10), answer_all(listener, Role::Receive, &Open));
    assert!(waiting.await.is_err());
    assert_eq!(told(dialler.closed().await).reason, Reason::ConnectionLost);
}

#[tokio::test(start_paused = true)]
async fn attack_4_the_name_of_the_peers_program_is_escaped() {
    let (dialler, listener) = ends(1);
    let speak = async {
        let (mut control, answer) = dialler.open_bi().await.unwrap();
        let hello = hello("\x1b]0;x\x07", 0, b"");
        write_message(&mut control, &hello).await.unwrap();
        (control, answer)
    };
    let (_control, answered) = tokio::join!(speak, answer_all(listener, Role::Receive, &Open));
    assert_eq!(answered.unwrap().agent.as_deref(), Some("\\u{1b}]0;x\\u{7}"));
}

/// The secret of [`FourMessages`], known to both sides of these tests.
const CODE: FourMessages = FourMessages(SECRET);

#[tokio::test(start_paused = true)]
async fn a_method_of_four_messages_lets_both_sides_in() {
    let slot = TestSlot::new(CODE);
    assert_eq!(meet(ends(1), &CODE, SEND, &slot).await, (None, None));
    let wrong = FourMessages(Secret::from_bytes([2; 16]));
    let refused = (Some(Reason::NotAuthenticated), Some(Reason::NotAuthenticated));
    assert_eq!(meet(ends(2), &wrong, SEND, &TestSlot::new(CODE)).await, refused);
}

/// The listener here is slow to prove itself. [W-41]
#[tokio::test(start_paused = true)]
async fn a_sender_holds_its_offer_back_until_the_listener_has_proved_itself() {
    let session = Session::new(1);
    let ((dialler, listener), _) = session.connect();
    let channel = Channel {
        exporter: listener.export_keying_material(b"EXPORTER-towline-auth").unwrap(),
        peer: listener.peer_fingerprint(),
    };
    let speak = async {
        let (mut control, heard) = listener.accept_bi().await.unwrap();
        let mut heard = MessageReader::new(heard);
        assert!(matches!(heard.expect().await.unwrap(), Message::Hello { .. }));
        write_message(&mut control, &Message::Auth(Bytes::from_static(b"second"))).await.unwrap();
        let third = Bytes::copy_from_slice(&CODE.dialler_proof(&channel));
        assert_eq!(heard.expect().await.unwrap(), Message::Auth(third));
        let more = timeout(Duration::from_secs(5), heard.expect()).await;
        assert!(more.is_err(), "{more:?}");
        assert!(timeout(Duration::from_secs(5), listener.accept_uni()).await.is_err(), "a manifest");
        let fourth = Bytes::copy_from_slice(&CODE.listener_proof(&channel));
        write_message(&mut control, &Message::Auth(fourth)).await.unwrap();
        assert!(matches!(hear(&mut heard).await.unwrap(), Message::Offer { .. }));
        close_with(&listener, &Failure::new(Reason::Storage, "enough"));
    };
    let send = async {
        let code = CODE;
        let link = dial(dialler, Role::Send, &code, None).await?;
        send_on(link, &source(&one_file(1)), &session.sender.context).await
    };
    let both = async { tokio::join!(send, speak) };
    let (sent, ()) = timeout(Duration::from_secs(60), both).await.expect("it hangs");
    assert_eq!(sent.err().map(|failure| failure.reason), Some(Reason::Storage));
}

/// Sends `Hello` and then these messages; returns the answer.
async fn offers_early(said: impl Fn(&Channel) -> Vec<Message>) -> (Failure, Option<Reason>) {
    let (dialler, listener) = ends(1);
    let channel = Channel {
        exporter: dialler.export_keying_material(b"EXPORTER-towline-auth").unwrap(),
        peer: dialler.peer_fingerprint(),
    };
    let speak = async {
        let (mut control, _heard) = dialler.open_bi().await.unwrap();
        let mut bytes = BytesMut::new();
        hello("", FOUR_MESSAGES, b"first").encode(&mut bytes);
        said(&channel).iter().for_each(|message| message.encode(&mut bytes));
        control.write_all(&mut [bytes.freeze()]).await.unwrap();
        told(dialler.closed().await)
    };
    let slot = TestSlot::new(CODE);
    let both = async { tokio::join!(speak, answer_all(listener, Role::Receive, &slot)) };
    let (told, answered) = timeout(Duration::from_secs(60), both).await.expect("it is not refused");
    assert!(!slot.is_taken());
    (told, answered.err().map(|failure| failure.reason))
}

/// [W-42]
#[tokio::test(start_paused = true)]
async fn a_dialler_that_offers_before_the_listener_has_proved_itself_is_refused() {
    let offer = Message::Offer {
        transfer: [1; 16],
        chunk_log2: 20,
        wants_receipt: false,
        request: Request::default(),
    };
    let third = |channel: &Channel| Message::Auth(Bytes::copy_from_slice(&CODE.dialler_proof(channel)));
    let (told, answered) = offers_early(|_| vec![offer.clone()]).await;
    assert_eq!((told.reason, answered), (Reason::Protocol, Some(Reason::Protocol)));
    assert_eq!(told.message, "the dialler said Offer before the listener proved itself");
    let (told, answered) = offers_early(|channel| vec![third(channel), offer.clone()]).await;
    assert_eq!((told.reason, answered), (Reason::Protocol, Some(Reason::Protocol)));
}

/// A man in the middle has no proof, so it leaves it out. [W-43]
#[tokio::test(start_paused = true)]
async fn a_listener_that_welcomes_without_a_proof_is_refused() {
    let (dialler, listener) = ends(1);
    let speak = async {
        let (mut control, heard) = listener.accept_bi().await.unwrap();
        MessageReader::new(heard).expect().await.unwrap();
        write_message(&mut control, &Message::Welcome { agent: "x".into(), ports: vec![] }).await.unwrap();
        told(listener.closed().await).reason
    };
    let code = CODE;
    let both = async { tokio::join!(dial(dialler, Role::Send, &code, None), speak) };
    let (dialled, told) = timeout(Duration::from_secs(60), both).await.expect("it is not refused");
    assert_eq!(
        (dialled.err().map(|failure| failure.reason), told),
        (Some(Reason::Protocol), Reason::Protocol)
    );
}
