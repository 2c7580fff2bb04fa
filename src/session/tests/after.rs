//! A program that runs at the receiver after a transfer.

use tokio::time::{Instant, sleep};

use super::*;
use crate::protocol::program_end::ProgramEnd;
use crate::session::after::{AfterTransfer, Delivered, Running};

/// Longer than all time-outs of these sessions.
const LONG: Duration = Duration::from_secs(2000);

/// A program that ends after a while.
struct Script {
    end: ProgramEnd,
    after: Duration,
    /// What it was told, and the files that were there.
    ran: Mutex<Vec<(Delivered, usize)>>,
    target: MemoryTarget,
}

impl Script {
    fn at(session: &mut Session, target: &MemoryTarget, end: ProgramEnd, after: Duration) -> Arc<Self> {
        let script = Arc::new(Self { end, after, ran: Mutex::default(), target: target.clone() });
        session.receiver.context.program = Some(Arc::clone(&script) as _);
        script
    }
}

impl AfterTransfer for Script {
    fn run(self: Arc<Self>, delivered: Delivered) -> Running {
        self.ran.lock().unwrap().push((delivered, self.target.files().len()));
        Box::pin(async move {
            sleep(self.after).await;
            self.end
        })
    }
}

/// [W-80]
#[tokio::test(start_paused = true)]
async fn a_program_runs_once_when_everything_is_there_and_both_sides_hear_how_it_ended() {
    for (end, exit_code) in
        [(ProgramEnd::Exited(0), None), (ProgramEnd::Exited(3), Some(10)), (ProgramEnd::TimedOut, Some(10))]
    {
        let (mut session, target) = (Session::new(1), MemoryTarget::new());
        let script = Script::at(&mut session, &target, end, LONG);
        let (tree, began) = (tree(), Instant::now());
        let Ended { sent, received } = session.run(&source(&tree), &target).await;
        assert!(began.elapsed() >= LONG);
        for summary in [sent.unwrap(), received.unwrap()] {
            assert_eq!((summary.program, summary.gravest.map(Reason::exit_code)), (Some(end), exit_code));
            assert!(summary.elapsed < LONG / 2, "the program took {:?} of it", summary.elapsed);
        }
        assert_whole(&tree, &target);
        let ran = script.ran.lock().unwrap();
        let bytes = target.files().values().map(|bytes| bytes.len() as u64).sum();
        let delivered = Delivered { files: 7, bytes, identical: 0, skipped: 0 };
        assert_eq!(*ran, [(delivered, 7)], "everything has its name");
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_does_not_run_when_something_is_missing() {
    let (mut session, target) = (Session::new(2), MemoryTarget::new());
    let tree = tree();
    session.run(&source(&tree), &target).await.sent.unwrap();
    let mut other = tree.clone();
    other[0] = ("big", Node::File(bytes(99, MIB)));
    let script = Script::at(&mut session, &target, ProgramEnd::Exited(0), Duration::ZERO);
    let Ended { sent, received } = session.run(&source(&other), &target).await;
    for summary in [sent.unwrap(), received.unwrap()] {
        assert_eq!((summary.program, summary.gravest), (None, Some(Reason::TargetExists)));
    }
    assert!(script.ran.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_while_the_program_runs_ends_both_sides() {
    let (mut session, target) = (Session::new(3), MemoryTarget::new());
    Script::at(&mut session, &target, ProgramEnd::Exited(0), LONG);
    let tree = tree();
    let source = source(&tree);
    let stopping = async {
        sleep(Duration::from_secs(60)).await;
        session.receiver.stop.send_replace(Some(Failure::new(Reason::Interrupted, "stopped by SIGINT")));
    };
    let (Ended { sent, received }, ()) = tokio::join!(session.run(&source, &target), stopping);
    let reasons = [sent.unwrap_err().reason, received.unwrap_err().reason];
    assert_eq!(reasons, [Reason::Interrupted; 2]);
    assert_whole(&tree, &target);
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_be_lost_while_the_program_runs() {
    let (mut session, target) = (Session::new(4), MemoryTarget::new());
    Script::at(&mut session, &target, ProgramEnd::Exited(0), LONG);
    let (ends, link) = session.connect();
    let tree = tree();
    let source = source(&tree);
    let cutting = async {
        sleep(Duration::from_secs(60)).await;
        link.cut();
    };
    let (Ended { sent, received }, ()) = tokio::join!(session.run_over(ends, &source, &target), cutting);
    assert_eq!(sent.unwrap_err().reason, Reason::ConnectionLost);
    assert!(received.is_err());
    assert_whole(&tree, &target);
}
