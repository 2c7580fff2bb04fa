//! Whole trees, slow disks, bottlenecks.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{MIB, Session, TIMEOUT, Tree, arrived, bytes, one_file, seeds, source, tree};
use crate::event::{Event, Outcome};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::failure::Reason;
use crate::protocol::final_name::Exists;
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::session::Budget;
use crate::testing::connection::MemoryLimits;
use crate::testing::disk::{MemoryTarget, Node, Op};
use crate::testing::memory::lease;

#[tokio::test(start_paused = true)]
async fn everything_arrives_whatever_the_delays() {
    let tree = tree();
    for seed in seeds() {
        let mut session = Session::new(seed);
        session.limits.delay_max = Duration::from_millis(seed % 5 * 50);
        let target = MemoryTarget::new().with_short_writes(seed);
        let ended = session.run(&source(&tree), &target).await;
        let (sent, received) = (ended.sent.unwrap(), ended.received.unwrap());
        assert!(target.tree() == arrived(&tree), "seed {seed}");
        let bytes = 6 * MIB + 5 + 256 * 1024 + 101;
        for summary in [sent, received] {
            let counts = (summary.files, summary.dirs, summary.links, summary.failed, summary.bytes);
            assert_eq!(counts, (7, 3, 1, 0, bytes), "seed {seed}");
        }
        let told = session.sender.told.0.lock().unwrap();
        let last = told.iter().rev().find_map(|event| match event {
            Event::Progress(progress) => {
                Some((progress.sent_bytes, progress.written_bytes, progress.done_files))
            }
            _ => None,
        });
        assert_eq!(last, Some((bytes, bytes, 7)), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_sessions_send_one_source_at_once() {
    let tree = tree();
    for seed in seeds() {
        let source = source(&tree);
        let (mut slow, fast) = (Session::new(seed), Session::new(seed + 1));
        slow.limits.delay_max = Duration::from_millis(50);
        let targets = [MemoryTarget::new(), MemoryTarget::new()];
        let (one, other) = tokio::join!(slow.run(&source, &targets[0]), fast.run(&source, &targets[1]));
        for ended in [one, other] {
            assert_eq!((ended.sent.unwrap().files, ended.received.unwrap().files), (7, 7), "seed {seed}");
        }
        for target in targets {
            assert!(target.tree() == arrived(&tree), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_small_files_take_few_round_trips() {
    let names: Vec<&'static str> =
        (0..10_000).map(|n| &*Box::leak(format!("n{n}").into_boxed_str())).collect();
    let tree: Tree = names.iter().zip(0..).map(|(name, n)| (*name, Node::File(bytes(n, n % 50)))).collect();
    let mut session = Session::with_budget(1, Budget::new(64 * MIB, None), TIMEOUT);
    session.limits.delay_max = Duration::from_millis(100);
    let target = MemoryTarget::new();
    let start = Instant::now();
    let ended = session.run(&source(&tree), &target).await;
    ended.sent.unwrap();
    assert!(target.tree() == arrived(&tree));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_and_one_empty_file_are_transfers_too() {
    for tree in [Tree::new(), one_file(0), vec![("d", Node::Dir)]] {
        let target = MemoryTarget::new();
        let ended = Session::new(1).run(&source(&tree), &target).await;
        ended.sent.unwrap();
        ended.received.unwrap();
        assert!(target.tree() == arrived(&tree));
    }
}

#[tokio::test(start_paused = true)]
async fn holes_do_not_travel_and_read_as_zeros() {
    let mut contents = bytes(1, 3 * MIB);
    contents[300_000..2_500_000].fill(0);
    let tree = vec![("f", Node::File(contents))];
    let source = source(&tree).with_hole("f", 300_000..2_500_000);
    let target = MemoryTarget::new();
    let ended = Session::new(1).run(&source, &target).await;
    assert_eq!(ended.sent.unwrap().blake3, ended.received.unwrap().blake3);
    assert!(target.tree() == arrived(&tree));
    assert_eq!(source.bytes_read(), 3 * MIB - 2_200_000);
}

#[tokio::test(start_paused = true)]
async fn a_second_time_nothing_travels() {
    let tree = tree();
    let target = MemoryTarget::new();
    Session::new(1).run(&source(&tree), &target).await.sent.unwrap();
    for exists in [Exists::Refuse, Exists::Replace, Exists::Rename] {
        let again = target.beside();
        let mut session = Session::new(2);
        session.exists = exists;
        let ended = session.run(&source(&tree), &again).await;
        for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
            assert_eq!((summary.files, summary.bytes, summary.failed), (0, 0, 0), "{exists:?}");
            assert_eq!(summary.identical, 8, "{exists:?}");
        }
        assert!(!again.ops().iter().any(|op| matches!(op, Op::Write { .. } | Op::Rename(_))), "{exists:?}");
        assert!(again.tree() == arrived(&tree));
    }
}

/// Fault 11 of the trials: one thread switch per file took longer than sending the files.
#[tokio::test(start_paused = true)]
async fn fault_11_small_files_that_are_there_are_compared_in_batches() {
    let names: Vec<&'static str> =
        (0..10_000).map(|n| &*Box::leak(format!("n{n}").into_boxed_str())).collect();
    let tree: Tree =
        names.iter().zip(0..).map(|(name, n)| (*name, Node::File(bytes(n, 1 + n % 50)))).collect();
    let target = MemoryTarget::new();
    Session::new(1).run(&source(&tree), &target).await.sent.unwrap();

    let mut session = Session::with_budget(2, Budget::new(64 * MIB, None), TIMEOUT);
    session.limits.delay_max = Duration::from_millis(100);
    let (source, target) = (source(&tree), target.beside());
    let start = Instant::now();
    let ended = session.run(&source, &target).await;
    assert_eq!(ended.sent.unwrap().identical, 10_000);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(target.root_batches() < 200, "the receiver asked {} times", target.root_batches());
    assert!(source.small_batches() < 200, "the sender read {} times", source.small_batches());
}

/// T14 of the trials: two concurrent transfers of one tree do not conflict.
#[tokio::test(start_paused = true)]
async fn t14_two_equal_transfers_at_once_both_succeed() {
    for exists in [Exists::Refuse, Exists::Rename] {
        for seed in seeds() {
            let (tree, target) = (tree(), MemoryTarget::new());
            let sessions = [seed, seed + 1000].map(|seed| {
                let mut session = Session::new(seed);
                session.exists = exists;
                session.limits.delay_max = Duration::from_millis(20);
                session
            });
            let (source, beside) = (source(&tree), target.beside());
            let again = self::source(&tree);
            let (one, two) =
                tokio::join!(sessions[0].run(&source, &target), sessions[1].run(&again, &beside));
            let mut identical = 0;
            for ended in [one, two] {
                for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
                    assert_eq!((summary.failed, summary.files + summary.links + summary.identical), (0, 8));
                    identical += summary.identical;
                }
            }
            assert_eq!(identical, 2 * 8, "{exists:?}, seed {seed}");
            assert!(target.tree() == arrived(&tree), "{exists:?}, seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn existing_files_stay_or_go_as_the_receiver_says() {
    let tree = one_file(2 * MIB);
    let other = Node::File(bytes(77, 2 * MIB));
    for (exists, outcome, names) in [
        (Exists::Refuse, Outcome::Failed(Reason::TargetExists), 1),
        (Exists::Skip, Outcome::Skipped, 1),
        (Exists::Replace, Outcome::Written, 1),
        (Exists::Rename, Outcome::Written, 2),
    ] {
        let mut session = Session::new(3);
        session.exists = exists;
        let target = MemoryTarget::new().with("f", other.clone());
        let ended = session.run(&source(&tree), &target).await;
        assert_eq!(ended.sent.unwrap().gravest, ended.received.unwrap().gravest);
        for told in [&session.sender.told, &session.receiver.told] {
            let told = told.0.lock().unwrap();
            let settled: Vec<_> =
                told.iter().filter_map(|e| if let Event::File(f) = e { Some(f) } else { None }).collect();
            assert_eq!(settled.iter().map(|f| f.outcome).collect::<Vec<_>>(), [outcome]);
        }
        let now = target.tree();
        assert_eq!(now.len(), names);
        let is_new = Node::File(bytes(9, 2 * MIB)) == now[&b"f"[..]].0;
        assert_eq!(is_new, exists == Exists::Replace);
    }
}

/// The demonstration: the consumer sleeps 3 to 5 seconds per MiB.
#[tokio::test(start_paused = true)]
async fn the_sender_reads_no_further_than_the_credits_of_a_slow_disk() {
    let budget = Budget::new(2 * MIB, Some(2));
    let tree = one_file(24 * MIB);
    // No ack can arrive within this time-out: only heart-beats keep the transfer alive.
    let session = Session::with_budget(5, budget, Duration::from_secs(2));
    let (source, target) = (source(&tree), MemoryTarget::new().with_write_pace(Duration::from_secs(4)));
    let written = |target: &MemoryTarget| {
        let lens = target.ops().into_iter().map(|op| if let Op::Write { len, .. } = op { len } else { 0 });
        lens.sum::<usize>() as u64
    };
    let blocks = (budget.blocks() + budget.streams()) * BLOCK_BYTES;
    let credits = (session.limits.connection_window_bytes + blocks) as u64;
    let watch = async {
        let mut most = 0;
        loop {
            let ahead = source.bytes_read() - written(&target);
            assert!(ahead <= credits, "{ahead} bytes ahead, credits are {credits}");
            most = most.max(ahead);
            if source.bytes_read() == 24 * MIB {
                return most;
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    let start = Instant::now();
    let (ended, most) = tokio::join!(session.run(&source, &target), watch);
    ended.sent.unwrap();
    let summary = ended.received.unwrap();
    assert_eq!(summary.limited_by[0].0, Bottleneck::ReceiverDisk);
    assert!(target.tree() == arrived(&tree));
    assert!(start.elapsed() >= Duration::from_secs(24 * 4 / 2), "{:?}", start.elapsed());
    assert!(most > BLOCK_BYTES as u64, "nothing was ever ahead: {most}");
    let told = session.sender.told.0.lock().unwrap();
    let waited = told.iter().any(
        |event| matches!(event, Event::Progress(progress) if progress.waiting_for == Some("receiver's disk")),
    );
    assert!(waited, "nobody was told what the transfer waits for");
}

#[tokio::test(start_paused = true)]
async fn more_streams_than_the_receiver_has_memory_for_do_not_lock_up() {
    let tree = one_file(24 * MIB);
    for seed in seeds() {
        let mut session = Session::with_budget(seed, Budget::new(2 * MIB, Some(64)), TIMEOUT);
        session.sender.context.memory = lease(Budget::new(64 * MIB, Some(64)));
        session.limits.streams = session.receiver.context.memory.streams() + 1;
        let target = MemoryTarget::new();
        let run = async { session.run(&source(&tree), &target).await };
        let ended = tokio::time::timeout(Duration::from_secs(3600), run).await;
        ended.unwrap_or_else(|_| panic!("seed {seed}: no byte moves")).sent.unwrap();
        assert!(target.tree() == arrived(&tree));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_path_is_no_stall_while_bytes_arrive() {
    let mut session = Session::with_budget(7, Budget::new(8 * MIB, Some(4)), TIMEOUT);
    session.limits = MemoryLimits {
        connection_window_bytes: 64 * 1024,
        stream_window_bytes: 16 * 1024,
        delay_max: Duration::from_secs(4),
        ..session.limits
    };
    let tree = one_file(4 * MIB);
    let target = MemoryTarget::new();
    let start = Instant::now();
    session.run(&source(&tree), &target).await.sent.unwrap();
    assert!(start.elapsed() > 2 * TIMEOUT, "{:?} is not slow", start.elapsed());
    assert!(target.tree() == arrived(&tree));
}
