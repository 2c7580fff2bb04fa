//! Transfers whose link is cut, whose processes are stopped, and whose addresses change: two hosts with a cable
//! between them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use crate::support::Seed;
use crate::support::netns::Cable;
use crate::support::process::Towline;
use crate::support::setting::Setting;
use crate::support::tree;
use rustix::process::Signal;

/// With these, a connection is lost after two seconds.
const IMPATIENT: [&str; 4] = ["--timeout", "4s", "--retry", "30s"];

/// A transfer between two hosts.
struct Running {
    setting: Setting,
    cable: Cable,
    source: PathBuf,
    receiver: Towline,
    sender: Towline,
    /// Of the sender, as the receiver sees it.
    address: SocketAddr,
}

impl Running {
    /// A file of `mib` MiB, sent at 4 MiB a second; the sender dials. `None` without namespaces.
    fn start(mib: usize, args: &[&str]) -> Option<Self> {
        let cable = Cable::new()?;
        let seed = Seed::new(71);
        let setting = Setting::new();
        let source = setting.path("file");
        tree::random_file(&source, mib << 20, seed.value);
        let listen = format!("{}:4750", Cable::FIRST);
        let receive = ["receive", "--json", "--yes", "--listen", &listen, "--into", setting.inbox()];
        let receive = setting.receiver.command(receive.iter().chain(args));
        let mut receiver = Towline::of(cable.on(0, &receive));
        let ticket = receiver.wait_for("listening")["ticket"].as_str().expect("a ticket").to_owned();
        let file = source.to_str().expect("a plain path");
        let send = ["send", "--json", file, "--to", &ticket, "--bwlimit", "4M"];
        let send = setting.sender.command(send.iter().chain(args));
        let sender = Towline::of(cable.on(1, &send));
        let connected = receiver.wait_for("connected");
        let address = connected["address"].as_str().and_then(|a| a.parse().ok()).expect("an address");
        let mut running = Self { setting, cable, source, receiver, sender, address };
        running.sender.wait_until("some bytes on disk", |event| {
            event["event"] == "progress" && event["written_bytes"].as_u64() > Some(2 << 20)
        });
        Some(running)
    }

    /// Both sides end well, with everything there; returns how often the sender was connected again.
    fn end_well(self) -> usize {
        let sent = self.sender.end().expect(0);
        let received = self.receiver.end().expect(0);
        let arrived = fs::read(self.setting.inbox.join("file")).expect("it is there");
        assert!(arrived == fs::read(&self.source).expect("a source"), "it is another file");
        let again = sent.events("reconnected").count();
        assert_eq!(again, received.events("reconnected").count());
        again
    }
}

/// A cut of this time.
fn pull_for(running: &Running, time: Duration) {
    running.cable.pull();
    sleep(time);
    running.cable.plug_in();
}

#[test]
fn a_cable_that_is_pulled_for_five_seconds_costs_one_connection_at_most() {
    // The connection survives with the usual time-outs, and is made again with short ones.
    for (args, again) in [(&[][..], 0), (&IMPATIENT, 1)] {
        let Some(running) = Running::start(24, args) else { return };
        pull_for(&running, Duration::from_secs(5));
        assert_eq!(running.end_well(), again);
    }
}

#[test]
fn a_process_that_is_stopped_goes_on_by_itself() {
    for is_sender in [true, false] {
        let Some(running) = Running::start(24, &IMPATIENT) else { return };
        let stopped = if is_sender { &running.sender } else { &running.receiver };
        stopped.signal(Signal::STOP);
        sleep(Duration::from_secs(5));
        stopped.signal(Signal::CONT);
        assert_eq!(running.end_well(), 1);
    }
}

#[test]
fn a_cable_that_stays_out_ends_both_sides_with_9() {
    let Some(running) = Running::start(24, &["--timeout", "2s", "--retry", "3s"]) else { return };
    running.cable.pull();
    let Running { sender, receiver, .. } = running;
    for side in [sender, receiver] {
        let ended = side.end().expect(9);
        assert_eq!(ended.events("reconnecting").count(), 1);
        let error = ended.event("error");
        assert_eq!((&error["reason"], &error["retryable"]), (&"connection-lost".into(), &true.into()));
        assert!(ended.stderr.contains("start both sides again to continue"), "{}", ended.stderr);
    }
}

#[test]
fn a_stop_while_the_cable_is_out_ends_at_once() {
    let Some(mut running) = Running::start(24, &IMPATIENT) else { return };
    running.cable.pull();
    running.sender.wait_for("reconnecting");
    running.receiver.wait_for("reconnecting");
    // Without the signal it ends with 9, when the time for a new connection is over.
    let Running { sender, receiver, .. } = running;
    for side in [sender, receiver] {
        side.signal(Signal::INT);
        side.end().expect(130);
    }
}

/// A router between the hosts forgets the sender's port every 0.7 s and takes another.
#[test]
fn an_address_that_changes_all_the_time_costs_nothing() {
    let Some(mut running) = Running::start(24, &[]) else { return };
    for shown in 20_000..20_006 {
        running.cable.rewrite_port(running.address, shown);
        sleep(Duration::from_millis(700));
    }
    // The transfer has not waited for the port to stay.
    running.sender.wait_until("more bytes on disk", |event| {
        event["event"] == "progress" && event["written_bytes"].as_u64() > Some(10 << 20)
    });
    assert_eq!(running.end_well(), 0);
}

/// With the usual time-outs: `TOWLINE_TEST_LONG=1 cargo test --test end_to_end reconnect::`. It takes five minutes.
#[test]
fn long_cuts_and_stops_are_survived_with_the_usual_time_outs() {
    if std::env::var_os("TOWLINE_TEST_LONG").is_none() {
        return;
    }
    for case in 0..3 {
        let Some(running) = Running::start(64, &[]) else { return };
        match case {
            0 => pull_for(&running, Duration::from_secs(40)),
            _ => {
                let stopped = if case == 1 { &running.sender } else { &running.receiver };
                stopped.signal(Signal::STOP);
                sleep(Duration::from_secs(45));
                stopped.signal(Signal::CONT);
            }
        }
        assert_eq!(running.end_well(), 1, "case {case}");
    }
}
