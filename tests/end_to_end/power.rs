//! The receiver loses power in the middle of a transfer, and the same command is run again.
//!
//! The target is a file system in an image. A clone of the image, taken in one step while the transfer runs, has what was
//! written back by then and nothing of what the kernel still cached: it is what a power cut leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::host::skip;
use crate::support::mount::{Mount, make_file_system};
use crate::support::process::{Machine, Towline};
use crate::support::random::Random;
use crate::support::{Scratch, Seed};

const MIB: u64 = 1 << 20;
/// A file of many chunks.
const LARGE: u64 = 24 * MIB;
const SMALL: usize = 200;
const SMALL_BYTES: u64 = 4096;
/// Four seconds for all of it, so that there are checkpoints on the way.
const RATE: &str = "6M";
/// The smallest xfs has 300 MiB.
const IMAGE_MIB: u64 = 320;
/// Power cuts in each file system; `TOWLINE_POWER_CUTS` overrides it.
const CUTS: u64 = 2;
/// Moments of one transfer at which the power may be cut.
const STEPS: u64 = 6;
/// After these steps the transfer pauses until the journal has more. So the last cut has something to lose, however slow
/// the disk is.
const PAUSES: [u64; 2] = [STEPS - 4, STEPS - 2];
/// Between two looks at the journal.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A sync takes its time on a disk that does more than this test.
const RECORD_TIME_MAX: Duration = Duration::from_secs(300);

/// An image, as it was while the transfer ran, and how many bytes of the large file were durable before.
struct Cut {
    image: PathBuf,
    durable: u64,
}

/// What the journal of a running transfer is known to have.
#[derive(Default)]
struct JournalSeen {
    recorded: u64,
    /// A record is durable at the latest when a later checkpoint records more.
    durable: u64,
}

impl JournalSeen {
    fn note(&mut self, recorded: u64) {
        if recorded > self.recorded {
            (self.durable, self.recorded) = (self.recorded, recorded);
        }
    }

    /// When this much is written of all files, some of the large one is not recorded.
    fn not_all(&self) -> u64 {
        self.recorded + SMALL as u64 * SMALL_BYTES + 2 * MIB
    }
}

fn cuts() -> u64 {
    std::env::var("TOWLINE_POWER_CUTS").map_or(CUTS, |text| text.parse().expect("a number of power cuts"))
}

fn tree(scratch: &Scratch, seed: &Seed) -> PathBuf {
    let tree = scratch.dir("tree");
    let mut random = Random::new(seed.value);
    let mut bytes =
        |len: u64| -> Vec<u8> { (0..len / 8).flat_map(|_| random.next().to_le_bytes()).collect() };
    fs::write(tree.join("large"), bytes(LARGE)).expect("a file");
    fs::create_dir(tree.join("small")).expect("a directory");
    for n in 0..SMALL {
        fs::write(tree.join("small").join(n.to_string()), bytes(SMALL_BYTES)).expect("a file");
    }
    tree
}

/// Starts the two commands. The receiver writes into `inbox`.
fn start(from: &Machine, to: &Machine, tree: &Path, inbox: &Path, rate: &str) -> (Towline, Towline) {
    let (receive, listening) = to.listen_receive(inbox, &[]);
    let tree = tree.to_str().expect("a plain path");
    (from.start_send([tree, "--to", &listening.ticket, "--bwlimit", rate]), receive)
}

/// Bytes of the large file that the journal has.
fn recorded(to: &Machine, inbox: &Path) -> u64 {
    let inbox = inbox.to_str().expect("a plain path");
    let listed = to.start(["receive", "--json", "--list-partial", "--into", inbox]).end().expect(0);
    listed.events("partial").filter_map(|partial| partial["safe_bytes"].as_u64()).sum()
}

/// Stops the sender until everything that has arrived may be recorded, and more than `before` is.
fn pause_for_a_record(send: &Towline, to: &Machine, inbox: &Path, before: u64) -> u64 {
    send.signal(Signal::STOP);
    let began = Instant::now();
    let recorded = loop {
        let recorded = recorded(to, inbox);
        if recorded > before {
            break recorded;
        }
        assert!(began.elapsed() < RECORD_TIME_MAX, "no checkpoint records more than {before} bytes");
        sleep(LOOK_EVERY);
    };
    send.signal(Signal::CONT);
    recorded
}

/// Every final name holds the whole file of the source; true if all names are there.
fn holds_whole_files(tree: &Path, inbox: &Path) -> bool {
    let mut names: Vec<_> = (0..SMALL).map(|n| Path::new("small").join(n.to_string())).collect();
    names.push("large".into());
    let top = inbox.join(tree.file_name().expect("a name"));
    let mut is_all = true;
    for name in names {
        match fs::read(top.join(&name)) {
            Ok(bytes) => assert!(
                bytes == fs::read(tree.join(&name)).expect("a file of the source"),
                "{} holds other bytes than its source",
                name.display()
            ),
            Err(_) => is_all = false,
        }
    }
    is_all
}

fn power_cuts(kind: &str) {
    let (scratch, seed) = (Scratch::new(), Seed::new(41));
    let (outer, target) = (scratch.dir("outer"), scratch.dir("target"));
    // Only a file system that clones files takes an image in one step.
    make_file_system("btrfs", &scratch.path().join("outer.image"), 16 * 1024);
    let Some(_outer) = Mount::image(&scratch.path().join("outer.image"), &outer) else {
        return skip("an image cannot be mounted here (it needs root and loop devices)");
    };
    let image = outer.join("image");
    make_file_system(kind, &image, IMAGE_MIB);
    let tree = tree(&scratch, &seed);
    let from = Machine::new(scratch.path().join("sender"));
    let to = Machine::new(scratch.path().join("receiver"));
    let inbox = target.join("inbox");

    let mut random = Random::new(seed.value);
    let (mut left, mut was_durable) = (cuts(), false);
    while left > 0 {
        let mut cuts = Vec::new();
        {
            let _mount = Mount::image(&image, &target).expect("the outer one could be mounted");
            let _ = fs::remove_dir_all(&inbox);
            let (mut send, receive) = start(&from, &to, &tree, &inbox, RATE);
            // At random moments, each within a step of its own: the last steps, which have something to lose.
            let steps = left.min(STEPS);
            let mut journal = JournalSeen::default();
            for step in 0..STEPS {
                let at = (step * LARGE + random.next() % LARGE) / STEPS;
                let is_there = |event: &Value| {
                    event["event"] == "progress"
                        && event["written_bytes"].as_u64() >= Some(at.max(journal.not_all()))
                };
                send.wait_until("the bytes to be written", is_there);
                if step >= STEPS - steps {
                    let clone = outer.join(format!("cut-{step}"));
                    let cloned = Command::new("cp").arg("--reflink=always").arg(&image).arg(&clone).status();
                    assert!(cloned.is_ok_and(|status| status.success()), "cp --reflink");
                    cuts.push(Cut { image: clone, durable: journal.durable });
                }
                if PAUSES.contains(&step) {
                    journal.note(pause_for_a_record(&send, &to, &inbox, journal.recorded));
                }
            }
            left -= steps;
            was_durable |= cuts.iter().any(|cut| cut.durable > 0);
            send.end().expect(0);
            receive.end().expect(0);
            assert!(holds_whole_files(&tree, &inbox));
        }
        for cut in cuts {
            let _mount = Mount::image(&cut.image, &target).expect("a file system after a power cut");
            holds_whole_files(&tree, &inbox);
            let (send, receive) = start(&from, &to, &tree, &inbox, "0");
            let (sent, received) = (send.end().expect(0), receive.end().expect(0));
            assert!(holds_whole_files(&tree, &inbox), "{kind}");
            let resumed = sent.event("finished")["resumed_bytes"].as_u64().expect("a number");
            let outcome = &received.file("tree/large")["outcome"];
            let is_done = outcome == "identical" || outcome == "unchanged";
            assert!(
                is_done || resumed >= cut.durable,
                "{kind}: {} bytes were acked as durable, and {resumed} are there",
                cut.durable
            );
            assert!(!inbox.join(".towline").exists());
            fs::remove_file(&cut.image).expect("a clone");
        }
    }
    assert!(was_durable, "{kind}: no cut had anything to lose");
}

#[test]
fn ext4_loses_power() {
    power_cuts("ext4");
}

#[test]
fn xfs_loses_power() {
    power_cuts("xfs");
}

#[test]
fn btrfs_loses_power() {
    power_cuts("btrfs");
}
