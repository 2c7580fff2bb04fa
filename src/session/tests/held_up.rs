//! A side that was stopped or delayed does not blame its peer.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use tokio::time::advance;

use super::*;

/// Blocks its caller for longer than the time-out when the first file is settled.
#[derive(Default)]
struct HoldsUp(AtomicBool);

impl Reporter for HoldsUp {
    fn take(&self, report: Report) {
        if matches!(report.event, Event::File(_)) && !self.0.swap(true, Relaxed) {
            // The first poll moves the clock; a second one would only let other tasks run.
            let moved = pin!(advance(2 * TIMEOUT)).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(moved, Poll::Pending));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_2_a_side_that_was_held_up_reads_what_came_before_it_judges() {
    for seed in seeds() {
        for sides in [[true, false], [false, true], [true, true]] {
            let mut session = Session::new(seed);
            for (setup, is_held_up) in [&mut session.sender, &mut session.receiver].into_iter().zip(sides) {
                if is_held_up {
                    setup.context.reporter = Arc::new(HoldsUp::default());
                }
            }
            let (tree, target) = (tree(), MemoryTarget::new());
            let ended = session.run(&source(&tree), &target).await;
            assert_eq!(ended.sent.unwrap().failed, 0, "{seed} {sides:?}");
            assert_eq!(ended.received.unwrap().failed, 0, "{seed} {sides:?}");
        }
    }
}
