//! Cut connections, crashed hosts, transfers stopped by users, silent peers.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::hand::HandOut;
use super::{
    MIB, Session, TIMEOUT, arrived, assert_whole, greet, one_file, random, receive_on, seeds, send_on,
    source, tree,
};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::Exists;
use crate::protocol::request::Request;
use crate::testing::disk::{MemoryTarget, Op};

/// A random moment in a transfer of about a second.
fn moment(seed: u64) -> Duration {
    Duration::from_millis(random(seed) % 1500)
}

#[tokio::test(start_paused = true)]
async fn a_cut_never_looks_like_success_and_leaves_no_part_of_a_file() {
    let tree = tree();
    let mut cuts = 0;
    for seed in seeds().chain(1000..1000 + seeds().end) {
        let session = Session::new(seed);
        let target = MemoryTarget::new().with_write_pace(Duration::from_millis(100));
        let (ends, link) = session.connect();
        let source = source(&tree);
        let cut = async {
            sleep(moment(seed)).await;
            link.cut();
        };
        let (sending, receiving) = greet(ends).await;
        let (sent, received, ()) = tokio::join!(
            send_on(sending, &source, &session.sender.context),
            receive_on(receiving, &target, Exists::Refuse, &session.receiver.context),
            cut
        );
        assert_whole(&tree, &target);
        if sent.is_ok() || received.is_ok() {
            assert!(target.tree() == arrived(&tree), "seed {seed}");
        }
        if sent.is_ok() {
            assert!(received.is_ok(), "seed {seed}");
        }
        if let Err(failure) = &received {
            assert_eq!(failure.reason, Reason::ConnectionLost, "seed {seed}: {failure}");
            assert!(target.staged().is_empty(), "seed {seed}");
            cuts += 1;
        }
        if let Err(failure) = &sent {
            assert_eq!(failure.reason, Reason::ConnectionLost, "seed {seed}: {failure}");
        }
        // Everything the receiver has confirmed survives the crash.
        target.crash();
        assert_whole(&tree, &target);
        if sent.is_ok() {
            assert!(target.tree() == arrived(&tree), "seed {seed}");
        }
    }
    assert!(cuts > 0, "no transfer was cut");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_the_sender_ended_well_loses_nothing() {
    let tree = tree();
    for seed in seeds() {
        let target = MemoryTarget::new();
        let session = Session::new(seed);
        let (sending, receiving) = greet(session.connect().0).await;
        let source = source(&tree);
        let sent = async {
            send_on(sending, &source, &session.sender.context).await.unwrap();
            target.crash();
        };
        tokio::join!(sent, receive_on(receiving, &target, Exists::Refuse, &session.receiver.context))
            .1
            .unwrap();
        assert!(target.tree() == arrived(&tree), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_leaves_whole_files_only() {
    let tree = tree();
    let mut failed = 0;
    for seed in seeds() {
        let target = MemoryTarget::new().with_write_pace(Duration::from_millis(100));
        let crash = async {
            sleep(moment(seed)).await;
            target.crash();
        };
        let session = Session::new(seed);
        let source = source(&tree);
        let (ended, ()) = tokio::join!(session.run(&source, &target), crash);
        assert_whole(&tree, &target);
        match ended.sent {
            Ok(summary) if summary.failed == 0 => {
                assert!(target.tree() == arrived(&tree), "seed {seed}");
            }
            // A write that fails may cost its file alone. The exit code tells.
            Ok(summary) => {
                assert_eq!(summary.gravest, Some(Reason::Storage), "seed {seed}");
                failed += 1;
            }
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 0, "no transfer crashed");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_side_tells_the_peer() {
    let tree = one_file(20 * MIB);
    for stops_sender in [true, false] {
        let session = Session::new(1);
        let target = MemoryTarget::new().with_write_pace(Duration::from_secs(1));
        let stop = async {
            sleep(Duration::from_secs(2)).await;
            let side = if stops_sender { &session.sender } else { &session.receiver };
            side.stop.send_replace(Some(Failure::new(Reason::Interrupted, "stopped by SIGINT")));
        };
        let (source, start) = (source(&tree), Instant::now());
        let (ended, ()) = tokio::join!(session.run(&source, &target), stop);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let side = if stops_sender { Side::Sender } else { Side::Receiver };
        for failure in [ended.sent.unwrap_err(), ended.received.unwrap_err()] {
            assert_eq!((failure.reason, failure.side), (Reason::Interrupted, Some(side)));
            assert_eq!(failure.message, "stopped by SIGINT");
        }
        assert_eq!(target.ops().last(), Some(&Op::Abort));
        assert!(target.files().is_empty() && target.staged().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_receiver_is_given_up_after_the_timeout() {
    let session = Session::new(1);
    let (sending, _silent) = greet(session.connect().0).await;
    let start = Instant::now();
    let failure = send_on(sending, &source(&tree()), &session.sender.context).await.unwrap_err();
    assert_eq!(failure.reason, Reason::AckTimeout);
    assert!(failure.message.ends_with("last waiting for: network"), "{failure}");
    let took = start.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_gives_no_manifest_stream_is_given_up_too() {
    use crate::transport::{Connection, SendStream};
    let session = Session::new(1);
    let ((sender, receiver), _) = session.connect();
    let mut taken = sender.open_uni().await.unwrap();
    taken.write_all(&mut [b"x".as_slice().into()]).await.unwrap();
    let (sending, _silent) = greet((sender, receiver)).await;
    let start = Instant::now();
    let failure = send_on(sending, &source(&tree()), &session.sender.context).await.unwrap_err();
    assert_eq!(failure.reason, Reason::AckTimeout);
    assert!(failure.message.ends_with("last waiting for: peer's credits"), "{failure}");
    assert!(start.elapsed() < TIMEOUT + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_sender_is_given_up_after_the_timeout() {
    use crate::protocol::wire::message::Message;
    let session = Session::new(1);
    let (silent, receiving) = greet(session.connect().0).await;
    let offer = Message::Offer {
        transfer: [1; 16],
        chunk_log2: 20,
        wants_receipt: false,
        request: Request::default(),
    };
    let mut control = HandOut::new(silent.control_out);
    control.say(&offer).await.unwrap();
    let (start, target) = (Instant::now(), MemoryTarget::new());
    let failure =
        receive_on(receiving, &target, Exists::Refuse, &session.receiver.context).await.unwrap_err();
    assert_eq!(failure.reason, Reason::AckTimeout);
    let took = start.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT + Duration::from_secs(1), "{took:?}");
    assert_eq!(target.ops(), [Op::Abort]);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_offers_nothing_is_given_up_and_can_be_interrupted() {
    let session = Session::new(1);
    let (_silent, receiving) = greet(session.connect().0).await;
    let target = MemoryTarget::new();
    let failure =
        receive_on(receiving, &target, Exists::Refuse, &session.receiver.context).await.unwrap_err();
    assert_eq!(failure.reason, Reason::AckTimeout);
    let (_silent, receiving) = greet(session.connect().0).await;
    session.receiver.stop.send_replace(Some(Failure::new(Reason::Interrupted, "stopped")));
    let start = Instant::now();
    let failure =
        receive_on(receiving, &target, Exists::Refuse, &session.receiver.context).await.unwrap_err();
    assert_eq!((failure.reason, failure.side), (Reason::Interrupted, Some(Side::Receiver)));
    assert_eq!(start.elapsed(), Duration::ZERO);
}
