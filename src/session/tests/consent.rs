//! A person decides first: whether to receive, or whether the peer is the right one.

use tokio::time::{Instant, sleep};

use super::*;
use crate::session::consent::{Answer, Consent, Offered};
use crate::session::{close_with, hold};

/// Longer than all time-outs of these sessions.
const LONG: Duration = Duration::from_secs(700);

/// Answers after a while.
struct Person {
    says: bool,
    after: Duration,
    asked: Mutex<Vec<Offered>>,
}

impl Person {
    fn at(session: &mut Session, says: bool, after: Duration) -> Arc<Self> {
        let person = Arc::new(Self { says, after, asked: Mutex::default() });
        session.receiver.context.consent = Some(Arc::clone(&person) as _);
        person
    }
}

impl Consent for Person {
    fn ask(&self, offered: Offered) -> Answer {
        self.asked.lock().unwrap().push(offered);
        let (says, after) = (self.says, self.after);
        Box::pin(async move {
            sleep(after).await;
            says
        })
    }
}

fn times_asked(setup: &Setup) -> usize {
    setup.told.0.lock().unwrap().iter().filter(|event| matches!(event, Event::Asked)).count()
}

/// [W-54]
#[tokio::test(start_paused = true)]
async fn a_person_has_time_and_is_asked_once_about_what_is_offered() {
    let mut session = Session::new(1);
    let person = Person::at(&mut session, true, LONG);
    let (tree, target) = (tree(), MemoryTarget::new());
    let began = Instant::now();
    let Ended { sent, received } = session.run(&source(&tree), &target).await;
    assert!(began.elapsed() >= LONG);
    for summary in [sent.unwrap(), received.unwrap()] {
        assert!(summary.elapsed < LONG / 2, "the answer took {:?} of it", summary.elapsed);
    }
    assert_whole(&tree, &target);
    let asked = person.asked.lock().unwrap();
    let bytes =
        tree.iter().map(|(_, node)| if let Node::File(bytes) = node { bytes.len() as u64 } else { 0 });
    let names = ["big", "d/", "link", "small", "tiny", "two"].map(str::to_owned).to_vec();
    assert_eq!(*asked, [Offered { names, more_names: 0, files: 7, bytes: bytes.sum(), is_all: true }]);
    assert_eq!((times_asked(&session.sender), times_asked(&session.receiver)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_no_ends_both_sides_and_leaves_the_disk_alone() {
    let mut session = Session::new(2);
    Person::at(&mut session, false, Duration::from_secs(5));
    let target = MemoryTarget::new();
    let Ended { sent, received } = session.run(&source(&tree()), &target).await;
    let (sent, received) = (sent.unwrap_err(), received.unwrap_err());
    assert_eq!((sent.reason, received.reason), (Reason::Refused, Reason::Refused));
    assert_eq!((sent.from_peer, received.from_peer), (true, false));
    assert!(sent.message.contains("declined") && received.message.contains("declined"));
    assert!(target.files().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_at_the_question_ends_both_sides() {
    for receiver_stops in [true, false] {
        let mut session = Session::new(3);
        Person::at(&mut session, true, LONG);
        let (tree, target) = (source(&tree()), MemoryTarget::new());
        let stopping = async {
            sleep(Duration::from_secs(5)).await;
            let side = if receiver_stops { &session.receiver } else { &session.sender };
            side.stop.send_replace(Some(Failure::new(Reason::Interrupted, "stopped by SIGINT")));
        };
        let (Ended { sent, received }, ()) = tokio::join!(session.run(&tree, &target), stopping);
        let (sent, received) = (sent.unwrap_err(), received.unwrap_err());
        assert_eq!((sent.reason, received.reason), (Reason::Interrupted, Reason::Interrupted));
        assert_eq!((sent.from_peer, received.from_peer), (receiver_stops, !receiver_stops));
        assert!(target.files().is_empty());
    }
}

/// [W-54]
#[tokio::test(start_paused = true)]
async fn a_sender_that_asks_before_its_offer_is_waited_for_and_may_refuse() {
    for says in [true, false] {
        let session = Session::new(5);
        let (tree, target) = (tree(), MemoryTarget::new());
        let (mut sending, receiving) = greet(session.connect().0).await;
        let sender = async {
            let answer = async {
                sleep(LONG).await;
                says
            };
            let stop = session.sender.context.stop.clone();
            if !hold(&mut sending, answer, stop).await.unwrap() {
                close_with(&sending.connection, &Failure::new(Reason::NotAuthenticated, "differs"));
                return None;
            }
            Some(send_on(sending, &source(&tree), &session.sender.context).await)
        };
        let receiver = receive_on(receiving, &target, session.exists, &session.receiver.context);
        let (sent, received) = tokio::join!(sender, receiver);
        assert_eq!(times_asked(&session.receiver), 1);
        match sent {
            Some(sent) => assert!(sent.is_ok() && received.is_ok()),
            None => assert_eq!(received.unwrap_err().reason, Reason::NotAuthenticated),
        }
        assert_eq!(target.files().is_empty(), !says);
    }
}
