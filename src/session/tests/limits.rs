//! Sessions with `--bwlimit`.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{CHUNK_LOG2, MIB, Session, Setup, arrived, one_file, source, tree};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::session::Throttle;
use crate::session::schedule::Schedule;
use crate::testing::disk::MemoryTarget;

const KIB: u64 = 1024;

fn limit(side: &mut Setup, rate: u64) {
    let schedule = Schedule { windows: Vec::new(), otherwise: NonZeroU64::new(rate) };
    side.context.throttle = Arc::new(Throttle::new(schedule, || Duration::ZERO));
}

/// A session with a rate limit at one side.
fn limited(at_sender: bool, rate: u64) -> Session {
    let mut session = Session::new(1);
    limit(if at_sender { &mut session.sender } else { &mut session.receiver }, rate);
    session
}

#[tokio::test(start_paused = true)]
async fn either_side_holds_the_rate() {
    for at_sender in [true, false] {
        for (rate, len) in [(100 * KIB, 1000 * KIB), (5 * MIB, 50 * MIB)] {
            let session = limited(at_sender, rate);
            let start = Instant::now();
            let ended = session.run(&source(&one_file(len)), &MemoryTarget::new()).await;
            let seconds = start.elapsed().as_secs_f64();
            for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
                let (bottleneck, percent) = summary.limited_by[0];
                assert!(bottleneck == Bottleneck::Bwlimit && percent >= 80, "{:?}", summary.limited_by);
            }
            assert!((9.7..=10.3).contains(&seconds), "{rate} B/s, at the sender: {at_sender}: {seconds} s");
        }
    }
}

/// Neither side is taken for dead, however late the first ack is.
#[tokio::test(start_paused = true)]
async fn a_chunk_may_take_longer_than_the_timeout() {
    for at_sender in [true, false] {
        let session = limited(at_sender, 10 * KIB);
        let chunk = 1 << CHUNK_LOG2;
        assert!(chunk / (10 * KIB) > 3 * super::TIMEOUT.as_secs());
        let start = Instant::now();
        let ended = session.run(&source(&one_file(3 * chunk)), &MemoryTarget::new()).await;
        ended.sent.unwrap();
        ended.received.unwrap();
        let seconds = start.elapsed().as_secs_f64();
        assert!((298.0..=317.0).contains(&seconds), "at the sender: {at_sender}: {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn small_files_and_all_else_arrive_too() {
    let tree = tree();
    for at_sender in [true, false] {
        let target = MemoryTarget::new();
        let ended = limited(at_sender, 200 * KIB).run(&source(&tree), &target).await;
        ended.sent.unwrap();
        ended.received.unwrap();
        assert!(target.tree() == arrived(&tree), "at the sender: {at_sender}");
    }
}
