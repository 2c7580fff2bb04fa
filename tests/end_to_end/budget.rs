//! Many transfers at once within one budget of memory, and a receiver that is stopped in their middle.
//!
//! `TOWLINE_TEST_LONG=1` sends files of 64 MiB instead of 2 MiB.

#![allow(clippy::print_stderr, reason = "it says what it measures")]

use std::fs;
use std::path::PathBuf;

use crate::support::process::{Machine, Towline};
use crate::support::random::Random;
use crate::support::setting::Setting;
use rustix::process::{Pid, Signal};

const TRANSFERS: usize = 20;
const MEMORY_KIB: u64 = 64 << 10;

/// Bytes of each file.
fn size() -> usize {
    let is_long = std::env::var_os("TOWLINE_TEST_LONG").is_some_and(|value| value == "1");
    if is_long { 64 << 20 } else { 2 << 20 }
}

/// A line of /proc/PID/status, in KiB.
fn status(pid: Pid, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("it runs");
    let found = status.lines().find_map(|found| found.strip_prefix(line)).expect("the line is there");
    found.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A receiver for all transfers at once, and how a sender reaches it.
fn stay(setting: &Setting, listen: &str) -> (Towline, Vec<String>) {
    let args = ["--forever", "--transfers", "20", "--memory", "64M", "--grace", "0s"];
    let mut process = setting
        .receiver
        .start_receive([&args[..], &["--listen", listen, "--into", setting.inbox()]].concat());
    let event = process.wait_for("listening");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let (address, fingerprint) = (text(&event["addresses"][0]), text(&event["fingerprint"]));
    let to = ["--to", &address, "--fingerprint", &fingerprint, "--retry", "0"].map(str::to_owned);
    (process, to.into())
}

/// Starts all senders, each with its own file.
fn start(machines: &[Machine], sources: &[PathBuf], to: &[String], more: &[&str]) -> Vec<Towline> {
    let start = |(at, source): (usize, &PathBuf)| {
        let source = [source.to_str().expect("a plain path")];
        let args = to.iter().map(String::as_str).chain(more.iter().copied()).chain(source);
        machines[at % machines.len()].start_send(args)
    };
    sources.iter().enumerate().map(start).collect()
}

#[test]
fn twenty_transfers_of_three_peers_share_one_budget_and_continue_after_sigterm() {
    let setting = Setting::new();
    let machines = ["ann", "ben", "cay"].map(|name| Machine::new(setting.path(name)));
    let mut known = String::new();
    for (machine, name) in machines.iter().zip(["ann", "ben", "cay"]) {
        let ended = machine.start(["id", "--json"]).end().expect(0);
        let key = ended.event("identity")["fingerprint"].as_str().expect("text").to_owned();
        known += &format!("[{name}]\nfingerprint = \"{key}\"\nmay = [\"send\"]\ninto = \"{name}\"\n");
    }
    let config = setting.path("receiver/config/towline");
    fs::create_dir_all(&config).expect("a directory");
    fs::write(config.join("peers.toml"), known).expect("a file");
    let sources: Vec<_> = (0..TRANSFERS).map(|at| setting.path(&format!("file-{at}"))).collect();
    for (at, source) in sources.iter().enumerate() {
        fs::write(source, Random::new(at as u64).bytes(size())).expect("a file");
    }

    // All are under way, and none is done.
    let (mut receiver, to) = stay(&setting, "127.0.0.1:0");
    let senders = start(&machines, &sources, &to, &["--bwlimit", "64k"]);
    for _ in 0..TRANSFERS {
        receiver.wait_for("started");
    }
    receiver.signal(Signal::TERM);
    receiver.end().expect(143);
    for sender in senders {
        sender.end().expect(9);
    }

    // The same commands, but for the limit.
    let (receiver, to) = stay(&setting, &to[1]);
    for sender in start(&machines, &sources, &to, &[]) {
        sender.end().expect(0);
    }
    for (at, source) in sources.iter().enumerate() {
        let name = ["ann", "ben", "cay"][at % machines.len()];
        let arrived = setting.inbox.join(name).join(source.file_name().expect("a name"));
        assert!(fs::read(arrived).expect("it came") == fs::read(source).expect("it is there"), "{at}");
    }
    // Pages of the program itself, which is large without optimization, can be dropped at any time.
    let pid = receiver.pid();
    let (peak, of_files) = (status(pid, "VmHWM:"), status(pid, "RssFile:"));
    eprintln!("resident at most: {peak} KiB, of which the program has {of_files} KiB");
    assert!(peak - of_files <= MEMORY_KIB, "{peak} - {of_files} KiB");
    receiver.signal(Signal::TERM);
    let ended = receiver.end().expect(0);
    assert_eq!(ended.events("finished").count(), TRANSFERS);
}
