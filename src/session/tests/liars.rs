//! Peers that are alive without progress, beside slow honest ones. Fault 14 of the trials.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::hand::HandOut;
use super::peers::{HandSender, entry, header};
use super::{CHUNK_LOG2, DISK_TIMEOUT, Session, TIMEOUT, greet, one_file, receive_on, send_on, source};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;
use crate::session::Throttle;
use crate::session::schedule::Schedule;
use crate::testing::disk::MemoryTarget;
use crate::transport::{Connection, SendStream};

/// Time limit for a liar: both time-outs, and a little more.
const PATIENCE: Duration = TIMEOUT.saturating_add(DISK_TIMEOUT);
const SLACK: Duration = Duration::from_secs(10);
/// How long a liar would go on.
const LIE: Duration = Duration::from_secs(24 * 60 * 60);

fn assert_ended(failure: &Failure, start: Instant, what: &str) {
    let took = start.elapsed();
    assert_eq!(failure.reason, Reason::AckTimeout, "{what}: {failure}");
    assert!(failure.message.contains("no progress"), "{what}: {failure}");
    assert!(took >= PATIENCE && took < PATIENCE + SLACK, "{what}: {took:?}");
}

/// Sends the same once a second until the peer stops receiving.
async fn beat(control: &mut HandOut, activity: Activity) {
    let end = Instant::now() + LIE;
    while Instant::now() < end && control.say(&Message::Heartbeat(activity)).await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn fault_14_a_receiver_that_only_says_it_is_busy() {
    for activity in [Activity::Disk, Activity::Processor, Activity::Limited, Activity::Receiving] {
        for wants in [false, true] {
            let session = Session::new(1);
            let (sending, link) = greet(session.connect().0).await;
            let start = Instant::now();
            let hand = async {
                let mut control = HandOut::new(link.control_out);
                if wants {
                    control.say(&Message::Status(EntryId(0), Status::Want)).await.unwrap();
                }
                beat(&mut control, activity).await;
            };
            let source = source(&one_file(3));
            let (sent, ()) = tokio::join!(send_on(sending, &source, &session.sender.context), hand);
            assert_ended(&sent.unwrap_err(), start, &format!("{activity:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_14_a_sender_that_only_says_it_is_busy() {
    for activity in [Activity::Waiting, Activity::Disk, Activity::Network, Activity::Limited] {
        for manifest in [vec![entry("f", 3), Message::End(1)], vec![entry("f", 1 << 40), Message::End(1)]] {
            let session = Session::new(1);
            let (sending, receiving) = greet(session.connect().0).await;
            let hand = async {
                let mut sender = HandSender::begin(sending, &manifest).await;
                beat(&mut sender.control_out, activity).await;
            };
            let (start, target) = (Instant::now(), MemoryTarget::new());
            let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
            let (received, ()) = tokio::join!(received, hand);
            assert_ended(&received.unwrap_err(), start, &format!("{activity:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_14_a_byte_a_second_in_a_record() {
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let hand = async {
        let mut sender = HandSender::begin(sending, &[entry("f", 200_000), Message::End(1)]).await;
        assert_eq!(sender.status().await, Status::Want);
        let (mut out, _answer) = sender.connection.open_bi().await.unwrap();
        out.write_all(&mut [header(0, 0, 200_000, vec![]).into()]).await.unwrap();
        while out.write_all(&mut [b"x".as_slice().into()]).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let (start, target) = (Instant::now(), MemoryTarget::new());
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let (received, ()) = tokio::join!(received, hand);
    assert_ended(&received.unwrap_err(), start, "a byte a second");
}

/// The slowest `--bwlimit`, with the shortest time-outs.
#[tokio::test(start_paused = true)]
async fn fault_14_the_lowest_bwlimit_is_honest() {
    for at_sender in [true, false] {
        let mut session = Session::new(1);
        for side in [&mut session.sender, &mut session.receiver] {
            side.context.patience.timeout = Duration::from_secs(4);
            side.context.patience.disk_timeout = Duration::from_secs(1);
        }
        let schedule = Schedule { windows: Vec::new(), otherwise: NonZeroU64::new(1024) };
        let side = if at_sender { &mut session.sender } else { &mut session.receiver };
        side.context.throttle = Arc::new(Throttle::new(schedule, || Duration::ZERO));
        let start = Instant::now();
        let ended = session.run(&source(&one_file(2 << CHUNK_LOG2)), &MemoryTarget::new()).await;
        ended.sent.unwrap_or_else(|e| panic!("at the sender: {at_sender}: {e} after {:?}", start.elapsed()));
        ended.received.unwrap();
        assert!(start.elapsed() > Duration::from_secs(2000));
    }
}

/// The demonstration of back pressure: the disk takes five seconds per MiB.
#[tokio::test(start_paused = true)]
async fn fault_14_a_slow_disk_is_honest() {
    let session = Session::new(1);
    let target = MemoryTarget::new().with_write_pace(Duration::from_secs(150));
    let start = Instant::now();
    let ended = session.run(&source(&one_file(16 << CHUNK_LOG2)), &target).await;
    ended.sent.unwrap();
    ended.received.unwrap();
    assert!(start.elapsed() > PATIENCE, "{:?}", start.elapsed());
}
