//! Sessions to a receiver that has the files already.

use super::{MIB, Session, Tree, bytes, source};
use crate::event::Summary;
use crate::protocol::failure::Reason;
use crate::protocol::final_name::Exists;
use crate::protocol::request::Request;
use crate::testing::disk::{MemoryTarget, Node, Op};

const FILES: [&str; 3] = ["a", "b", "c"];

/// Files of which the receiver has others of the same sizes, with the same times.
fn trees() -> (Tree, MemoryTarget) {
    let file = |seed| Node::File(bytes(seed, 2 * MIB));
    let target = FILES.iter().fold(MemoryTarget::new(), |target, name| target.with(name, file(7)));
    (FILES.iter().map(|name| (*name, file(8))).collect(), target)
}

async fn run(exists: Exists, request: Request) -> (Summary, MemoryTarget) {
    let (tree, target) = trees();
    let mut session = Session::new(1);
    session.exists = exists;
    session.sender.context.request = request;
    let ended = session.run(&source(&tree), &target).await;
    let (sent, received) = (ended.sent.unwrap(), ended.received.unwrap());
    let counts = |summary: &Summary| (summary.files, summary.unchanged, summary.failed, summary.gravest);
    assert_eq!(counts(&sent), counts(&received));
    (sent, target)
}

#[tokio::test(start_paused = true)]
async fn a_file_of_the_same_size_and_time_is_not_read() {
    for exists in [Exists::Refuse, Exists::Rename, Exists::Replace] {
        let (summary, target) = run(exists, Request::default()).await;
        assert_eq!((summary.unchanged, summary.files, summary.failed), (3, 0, 0), "{exists:?}");
        assert_eq!((target.root_batches(), target.ops()), (0, vec![Op::Finish]), "{exists:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_can_have_contents_compared() {
    let request = Request { compares: true, ..Request::default() };
    let (summary, _) = run(Exists::Refuse, request.clone()).await;
    assert_eq!((summary.unchanged, summary.failed), (0, 3));
    assert_eq!(summary.gravest, Some(Reason::TargetExists));
    let (summary, target) = run(Exists::Replace, request).await;
    assert_eq!((summary.unchanged, summary.files), (0, 3));
    assert!(target.files().values().all(|content| *content == bytes(8, 2 * MIB)));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_about_contents() {
    let (tree, target) = trees();
    let mut session = Session::new(2);
    session.sender.context.receipt = true;
    let sent = session.run(&source(&tree), &target).await.sent.unwrap();
    assert_eq!((sent.unchanged, sent.failed), (0, 3));
}
