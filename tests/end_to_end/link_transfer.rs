//! Transfers over links that lose, reorder, duplicate, corrupt and break.

#![allow(clippy::print_stderr, reason = "seed and state of the link when a test fails")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::link::{Cut, Direction, LinkOptions, Statistics, UdpLink};
use crate::support::process::{Ended, Machine};
use crate::support::setting::assert_only_partials;
use crate::support::ticket::redirect;
use crate::support::{Scratch, Seed, tree};

const FILE_BYTES: usize = (4 << 20) + 3;

/// A small tree over a link with `options`: what both sides ended with, and what the link did.
struct Run {
    scratch: Scratch,
    source: PathBuf,
    sent: Ended,
    received: Ended,
    up: Statistics,
    down: Statistics,
}

impl Run {
    /// The sender dials; both sides get `args`.
    fn new(options: &LinkOptions, args: &[&str]) -> Self {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        tree::random_file(&source.join("large"), FILE_BYTES, options.seed);
        let small = source.join("small");
        fs::create_dir(&small).expect("a directory");
        for n in 0..100 {
            tree::random_file(&small.join(n.to_string()), n * 50, options.seed.wrapping_add(n as u64));
        }
        let inbox = scratch.dir("inbox");
        let receiver = Machine::new(scratch.path().join("receiver"));
        let sender = Machine::new(scratch.path().join("sender"));
        let (receiver, listening) = receiver.listen_receive(&inbox, args);
        let link = UdpLink::start(listening.address, options);
        let ticket = redirect(&listening.ticket, listening.address, link.addr);
        let sent = sender.send([&["--to", &ticket, source.to_str().expect("a plain path")], args].concat());
        let received = receiver.end();
        let [up, down] = [Direction::Up, Direction::Down].map(|d| link.statistics(d));
        Self { scratch, source, sent, received, up, down }
    }

    fn inbox(&self) -> PathBuf {
        self.scratch.path().join("inbox")
    }

    /// Both sides ended well and everything is there.
    #[track_caller]
    fn assert_well(self) {
        let inbox = self.inbox();
        self.sent.expect(0);
        self.received.expect(0);
        tree::assert_same(&self.source, &inbox.join("source"));
    }
}

#[test]
fn a_link_with_loss_both_ways() {
    let seed = Seed::new(51);
    let run = Run::new(&LinkOptions { seed: seed.value, loss: 0.15, ..Default::default() }, &[]);
    assert!(run.up.lost > 0 && run.down.lost > 0, "{:?} {:?}", run.up, run.down);
    run.assert_well();
}

#[test]
fn a_link_that_reorders() {
    let seed = Seed::new(52);
    let options = LinkOptions {
        seed: seed.value,
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(3),
        ..Default::default()
    };
    let run = Run::new(&options, &[]);
    assert!(run.up.reordered > 0 && run.down.reordered > 0, "{:?} {:?}", run.up, run.down);
    run.assert_well();
}

#[test]
fn a_link_that_duplicates() {
    let seed = Seed::new(53);
    let run = Run::new(&LinkOptions { seed: seed.value, duplicate: 0.2, ..Default::default() }, &[]);
    assert!(run.up.duplicated > 0 && run.down.duplicated > 0, "{:?} {:?}", run.up, run.down);
    run.assert_well();
}

#[test]
fn a_link_that_flips_bits() {
    let seed = Seed::new(54);
    let run = Run::new(&LinkOptions { seed: seed.value, corrupt: 0.15, ..Default::default() }, &[]);
    assert!(run.up.corrupted > 0 && run.down.corrupted > 0, "{:?} {:?}", run.up, run.down);
    run.assert_well();
}

#[test]
fn a_link_with_everything_at_once() {
    let seed = Seed::new(55);
    let options = LinkOptions {
        seed: seed.value,
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(2),
        rate_bytes_per_s: Some(20 << 20),
        mtu_bytes: None,
        queue: Duration::from_millis(50),
        loss: 0.005,
        duplicate: 0.01,
        corrupt: 0.005,
        cut: None,
    };
    Run::new(&options, &[]).assert_well();
}

#[test]
fn a_short_cut_is_ridden_out() {
    let seed = Seed::new(56);
    let cut = Cut { after_bytes: 2 << 20, lasts: Some(Duration::from_millis(300)) };
    let run = Run::new(&LinkOptions { seed: seed.value, cut: Some(cut), ..Default::default() }, &[]);
    assert!(run.up.cut > 0, "{:?}", run.up);
    run.assert_well();
}

#[test]
fn a_cut_that_stays_ends_both_sides_with_9() {
    let seed = Seed::new(57);
    let cut = Cut { after_bytes: 2 << 20, lasts: None };
    let options = LinkOptions { seed: seed.value, cut: Some(cut), ..Default::default() };
    let run = Run::new(&options, &["--timeout", "2s", "--retry", "2s"]);
    assert!(run.up.cut > 0, "{:?}", run.up);
    let inbox = run.inbox();
    run.sent.expect(9);
    run.received.expect(9);
    assert!(!inbox.join("source/large").exists(), "a part of a file is under its final name");
    assert_only_partials(&inbox);
}
