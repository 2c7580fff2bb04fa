//! How two sides meet or fail to meet: no listener, no dialler, strangers, failing sockets, paths that carry less
//! than they seem to.

#![allow(clippy::print_stderr, reason = "figures of a run, for whoever wants to know")]

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::host::{cases, has};
use crate::support::link::{Direction, LinkOptions, UdpLink};
use crate::support::process::{Ended, Machine};
use crate::support::random::Random;
use crate::support::setting::Setting;
use crate::support::stranger::{Strangers, silent_listener};
use crate::support::ticket::redirect;
use nix::libc;
use quinn::ConnectionError;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Limit for what should take a second, on a machine that may be busy.
const AT_ONCE: Duration = Duration::from_secs(4);
/// Longer than anything here takes, shorter than the time-outs of the program.
const SOON: Duration = Duration::from_secs(20);

impl Setting {
    /// With identities, so that making them is neither measured nor fails.
    fn with_identities() -> Self {
        let setting = Self::new();
        for machine in [&setting.sender, &setting.receiver] {
            machine.start(["id", "--json"]).end().expect(0);
        }
        setting
    }

    fn random_file(&self, bytes: usize) -> String {
        let path = self.scratch.path().join("file");
        fs::write(&path, Random::new(71).bytes(bytes)).expect("a file");
        path.to_str().expect("a plain path").to_owned()
    }

    #[track_caller]
    fn assert_same_arrived(&self, source: &str) {
        let arrived = fs::read(self.inbox.join("file")).expect("it came");
        assert!(arrived == fs::read(source).expect("the source"), "it differs");
    }
}

#[track_caller]
fn assert_error(ended: &Ended, reason: &str, says: &[&str]) {
    let error = ended.event("error");
    assert_eq!(error["reason"], reason, "{error}");
    let message = error["message"].as_str().expect("text");
    for part in says {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn t22_dialling_a_used_ticket_fails_at_once() {
    let setting = Setting::with_identities();
    let source = setting.random_file(1000);
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    setting.sender.send(["--to", &listening.ticket, &source]).expect(0);
    receiver.end().expect(0);
    let begun = Instant::now();
    let late = setting.sender.send(["--to", &listening.ticket, &source]).expect(3);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_error(&late, "unreachable", &["nothing listens on UDP", "a ticket serves one transfer"]);
}

#[test]
fn t22_a_port_of_this_host_where_nothing_listens_ends_at_once() {
    let setting = Setting::with_identities();
    let source = setting.random_file(1000);
    for ip in ["127.0.0.1", "::1"] {
        // Taken and given back: nothing listens there now.
        let Ok(socket) = UdpSocket::bind((ip, 0)) else { continue };
        let address = socket.local_addr().expect("bound").to_string();
        drop(socket);
        let begun = Instant::now();
        let fingerprint = "a".repeat(52);
        let sent = setting.sender.send(["--to", &address, "--fingerprint", &fingerprint, &source]).expect(3);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        assert_error(&sent, "unreachable", &["nothing listens on UDP", &address]);
        assert!(!sent.said().contains("ticket serves"), "{}", sent.said());
    }
}

#[test]
fn t23_waiting_in_vain_ends_with_3() {
    let setting = Setting::with_identities();
    let source = setting.random_file(1);
    let into = setting.inbox.to_str().expect("a plain path");
    let listen = ["--listen", "127.0.0.1:0"];
    let waiting = [
        setting.receiver.start_receive([&["--wait", "1s", "--into", into], &listen[..]].concat()),
        setting.sender.start_send([&["--wait", "1s", &source], &listen[..]].concat()),
        setting.sender.start([&["bench", "--json", "--wait=1s"], &listen[..]].concat()),
    ];
    for side in waiting {
        let ended = side.end().expect(3);
        assert_error(&ended, "unreachable", &["nobody connected within 1s"]);
    }
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--wait", "1h"]);
    setting.sender.send(["--to", &listening.ticket, &source]).expect(0);
    receiver.end().expect(0);
}

#[test]
fn t24_a_socket_that_never_receives_ends_a_waiting_side() {
    let setting = Setting::with_identities();
    let receiver =
        Machine::new(setting.scratch.path().join("receiver")).denying(libc::SYS_recvmmsg, Errno::NOSYS);
    let (receiver, listening) = receiver.listen_receive(&setting.inbox, &[]);
    let begun = Instant::now();
    // Something comes, so that the socket is read.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.send_to(b"anything", listening.address).expect("sent");
    let ended = receiver.end().expect(1);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_error(&ended, "setup", &["UDP socket", "cannot receive", "os error 38"]);
}

/// Each case takes a time-out of the other side.
#[test]
fn t24_a_socket_that_fails_in_the_middle_ends_its_side() {
    if !has("strace") {
        return;
    }
    let setting = Setting::with_identities();
    let source = setting.random_file(64 << 20);
    let all = [
        ("receiver", "inject=recvmmsg:error=EBADF:when=100+"),
        ("sender", "inject=recvmmsg:error=ENOSYS:when=40+"),
        ("sender", "inject=sendmsg:error=EBADF:when=100+"),
    ];
    for (side, injected) in all.into_iter().take(cases(3)) {
        let failing = Machine::new(setting.scratch.path().join(side)).injecting(injected);
        let (sender, receiver) = match side {
            "sender" => (&failing, &setting.receiver),
            _ => (&setting.sender, &failing),
        };
        let args = ["--timeout", "8s", "--retry", "0", "--no-fsync"];
        let (receiving, listening) = receiver.listen_receive(&setting.inbox, &args);
        let slow = LinkOptions { rate_bytes_per_s: Some(8 << 20), ..Default::default() };
        let link = UdpLink::start(listening.address, &slow);
        let ticket = redirect(&listening.ticket, listening.address, link.addr);
        let begun = Instant::now();
        let sent = sender.send([&["--to", &ticket, &source], &args[..]].concat()).expect(9);
        let received = receiving.end().expect(9);
        assert!(begun.elapsed() < SOON, "{injected}: {:?}", begun.elapsed());
        let failed = if side == "sender" { sent } else { received };
        assert_error(&failed, "connection-lost", &["UDP socket", "os error"]);
    }
}

/// Fault 7: 127.0.0.1 may be a relay to a path that carries less.
#[test]
fn fault_7_a_relay_on_loopback_may_carry_less() {
    for mtu_bytes in [1472, 1200] {
        for sender_waits in [false, true] {
            let setting = Setting::with_identities();
            let source = setting.random_file(8 << 20);
            let into = setting.inbox.to_str().expect("a plain path");
            let (waiting, listening) = match sender_waits {
                true => setting.sender.listen_send(Path::new(&source), &[]),
                false => setting.receiver.listen_receive(&setting.inbox, &[]),
            };
            let options = LinkOptions { mtu_bytes: Some(mtu_bytes), ..Default::default() };
            let link = UdpLink::start(listening.address, &options);
            let ticket = redirect(&listening.ticket, listening.address, link.addr);
            let begun = Instant::now();
            match sender_waits {
                true => setting.receiver.receive(["--from", &ticket, "--into", into]).expect(0),
                false => setting.sender.send(["--to", &ticket, &source]).expect(0),
            };
            let took = begun.elapsed();
            waiting.end().expect(0);
            setting.assert_same_arrived(&source);
            assert!(took < SOON / 2, "{mtu_bytes}, sender waits {sender_waits}: {took:?}");
            for direction in [Direction::Up, Direction::Down] {
                let statistics = link.statistics(direction);
                assert!(statistics.too_long <= 6, "{mtu_bytes}: {statistics:?}");
            }
        }
    }
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

/// Resident memory of a process.
fn resident_bytes(pid: Pid) -> u64 {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = fs::read_to_string(path).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kib * 1024
}

/// The most that a process has while `work` goes on.
async fn most_resident<T>(pid: Pid, work: impl Future<Output = T>) -> (T, u64) {
    let mut most = 0;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, most.max(resident_bytes(pid))),
            () = tokio::time::sleep(Duration::from_millis(20)) => most = most.max(resident_bytes(pid)),
        }
    }
}

/// Two hundred strangers at once; those that were not refused stay for `stay`.
async fn two_hundred(strangers: &std::sync::Arc<Strangers>, fill: bool, stay: Duration) -> usize {
    let mut dialling = JoinSet::new();
    for _ in 0..200 {
        let strangers = strangers.clone();
        dialling.spawn(async move {
            let dialled = if fill { strangers.dial_and_fill().await } else { strangers.dial().await };
            if dialled.is_some() {
                tokio::time::sleep(stay).await;
            }
            dialled.is_some()
        });
    }
    dialling.join_all().await.into_iter().filter(|dialled| *dialled).count()
}

/// Fault 5: they cost a waiting side less than 16 MiB, and do not keep an honest dialler out.
#[test]
fn fault_5_two_hundred_strangers_cost_a_waiting_side_little() {
    for fill in [false, true] {
        let setting = Setting::with_identities();
        let source = setting.random_file(1 << 20);
        let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
        let pid = receiver.pid();
        let before = resident_bytes(pid);
        runtime().block_on(async {
            let strangers = std::sync::Arc::new(Strangers::of(listening.address));
            let stay = Duration::from_secs(1);
            let (came, most) = most_resident(pid, two_hundred(&strangers, fill, stay)).await;
            assert!(came > 10, "only {came} came");
            let added = most - before;
            eprintln!("{came} strangers, filling: {fill}: {} KiB added", added / 1024);
            assert!(added < 16 << 20, "{} KiB added, filling: {fill}", added / 1024);
            let staying = tokio::spawn(async move { two_hundred(&strangers, fill, SOON).await });
            tokio::task::block_in_place(|| {
                setting.sender.send(["--to", &listening.ticket, &source]).expect(0)
            });
            staying.abort();
        });
        receiver.end().expect(0);
        setting.assert_same_arrived(&source);
    }
}

/// Fault 5: while a transfer runs they are told that they come too late, and cost it nearly nothing.
#[test]
fn fault_5_strangers_cost_a_running_transfer_no_memory() {
    let setting = Setting::with_identities();
    let source = setting.random_file(24 << 20);
    let (mut receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let options = LinkOptions { rate_bytes_per_s: Some(6 << 20), ..Default::default() };
    let link = UdpLink::start(listening.address, &options);
    let ticket = redirect(&listening.ticket, listening.address, link.addr);
    let sender = setting.sender.start_send(["--to", &ticket, &source]);
    receiver.wait_until("bytes on disk", |event| event["event"] == "progress" && event["sent_bytes"] != 0);
    let pid = receiver.pid();
    runtime().block_on(async {
        let (_, before) = most_resident(pid, tokio::time::sleep(Duration::from_secs(1))).await;
        let strangers = std::sync::Arc::new(Strangers::of(listening.address));
        let (came, most) = most_resident(pid, two_hundred(&strangers, true, Duration::ZERO)).await;
        let added = most.saturating_sub(before);
        eprintln!("{came} strangers: {} KiB added", added / 1024);
        assert!(added < 4 << 20, "{} KiB added", added / 1024);
        assert!(came < 100, "{came} were heard");
    });
    link.set_rate(None);
    sender.end().expect(0);
    receiver.end().expect(0);
    setting.assert_same_arrived(&source);
}

/// The code with which `connection` was closed by its peer.
async fn closed_with(connection: &quinn::Connection) -> u64 {
    let closed = timeout(SOON, connection.closed()).await.expect("nothing was said");
    match closed {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other:?}"),
    }
}

/// Fault 9: a dialler that stops while it waits to be welcomed.
#[test]
fn fault_9_a_dialler_that_ends_in_the_greeting_says_so() {
    // Codes of `docs/protocol.md`: interrupted, nothing in time.
    for (signal, args, code, exit_code) in
        [(Some(Signal::INT), &[][..], 18, 130), (None, &["--timeout", "1s"][..], 16, 9)]
    {
        let setting = Setting::with_identities();
        let into = setting.inbox.to_str().expect("a plain path");
        runtime().block_on(async {
            let (listener, address, fingerprint) = silent_listener();
            let address = address.to_string();
            let from = ["--from", &address, "--fingerprint", &fingerprint, "--into", into];
            let dialler = setting.receiver.start_receive([&from, args].concat());
            let incoming = timeout(SOON, listener.accept()).await.expect("it dials").expect("it listens");
            let connection = incoming.await.expect("a handshake");
            let (_send, mut recv) =
                timeout(SOON, connection.accept_bi()).await.expect("Hello").expect("Hello");
            recv.read(&mut [0; 1]).await.expect("Hello");
            if let Some(signal) = signal {
                dialler.signal(signal);
            }
            assert_eq!(closed_with(&connection).await, code);
            tokio::task::block_in_place(|| dialler.end().expect(exit_code));
        });
    }
}

/// Fault 9: a waiting side that stops while somebody dials.
#[test]
fn fault_9_a_waiting_side_that_stops_tells_those_that_dial() {
    for (signal, code, exit_code) in [(Some(Signal::TERM), 18, 143), (None, 4, 3)] {
        let setting = Setting::with_identities();
        let wait = if signal.is_some() { "1h" } else { "2s" };
        let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--wait", wait]);
        runtime().block_on(async {
            let stranger = Strangers::of(listening.address).dial().await.expect("it is heard");
            if let Some(signal) = signal {
                receiver.signal(signal);
            }
            assert_eq!(closed_with(&stranger).await, code);
            tokio::task::block_in_place(|| receiver.end().expect(exit_code));
        });
    }
}
