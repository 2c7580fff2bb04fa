//! One-time codes: typed by the other person, found on the local network, burnt by a wrong guess.

#![allow(clippy::print_stderr, reason = "it says what it measures")]

use std::fs;

use crate::support::middle::{FalseListener, Middle, Said, auth, dials, hello_with, payload};
use crate::support::netns::Cable;
use crate::support::process::{Ended, Towline};
use crate::support::setting::Setting;
use rustix::process::Pid;

/// The address and the code that a waiting side tells of next.
fn waiting(side: &mut Towline) -> (String, String) {
    let event = side.wait_for("listening");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    (text(&event["addresses"][0]), text(&event["code"]))
}

/// A code with the same number and another second word.
fn wrong(code: &str) -> String {
    let (head, last) = code.rsplit_once('-').expect("a code");
    format!("{head}-{}", if last == "lantern" { "octopus" } else { "lantern" })
}

fn message(ended: &Ended) -> &str {
    ended.event("error")["message"].as_str().expect("text")
}

#[test]
fn a_code_with_an_address_works_in_both_directions_and_as_the_last_argument() {
    let setting = Setting::new();
    let source = setting.source();
    let listen = ["--listen", "127.0.0.1:0"];
    let mut receiver = setting
        .receiver
        .start_receive([&["--into", setting.inbox(), "--remember", "ann"], &listen[..]].concat());
    let (address, code) = waiting(&mut receiver);
    setting.sender.send(["--to", &format!("{address}/{code}"), &source, "--remember", "ben"]).expect(0);
    let received = receiver.end().expect(0);
    setting.assert_arrived();
    assert_eq!(received.event("remembered")["name"], "ann");

    let mut sender = setting.sender.start_send([&[&*source, "--words", "3"], &listen[..]].concat());
    let (address, code) = waiting(&mut sender);
    assert_eq!(code.matches('-').count(), 3, "{code}");
    // Three letters of a word are enough.
    let short: Vec<_> = code.split('-').map(|word| word.get(..3).unwrap_or(word)).collect();
    let typed = format!("{address}/{}", short.join("-").to_uppercase());
    setting.receiver.receive(["--into", setting.inbox(), &typed]).expect(0);
    sender.end().expect(0);
    setting.assert_arrived();
}

#[test]
fn attack_11_a_wrong_guess_uses_the_code_up_and_a_fresh_one_follows() {
    let setting = Setting::new();
    let source = setting.source();
    let mut receiver = setting.receiver.start_receive(["--listen", "127.0.0.1:0", "--into", setting.inbox()]);
    let (address, code) = waiting(&mut receiver);
    let dial = |code: &str| setting.sender.send(["--to", &format!("{address}/{code}"), &source]);
    let refused = dial(&wrong(&code)).expect(4);
    assert!(message(&refused).contains("the code is wrong"), "{}", refused.said());
    // The right one comes too late, whether the fresh one is there already or not.
    let refused = dial(&code).expect(4);
    assert!(!refused.said().contains(setting.inbox()), "{}", refused.said());
    let (same_address, fresh) = waiting(&mut receiver);
    assert_eq!(same_address, address);
    assert_ne!(fresh, code);
    assert_eq!(fresh.split('-').next(), code.split('-').next(), "it is found by the same number");
    // A guess of the code before may have used up the fresh one.
    let mut sent = dial(&fresh);
    while sent.code == Some(4) {
        let (_, fresh) = waiting(&mut receiver);
        sent = dial(&fresh);
    }
    sent.expect(0);
    let received = receiver.end().expect(0);
    setting.assert_arrived();
    let warned = received.events("warning").any(|event| {
        event["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("somebody has tried a wrong code"))
    });
    assert!(warned, "{}", received.said());
}

/// Bytes of the process `pid` in memory.
fn resident_bytes(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// A thousand guesses: `TOWLINE_TEST_LONG=1 cargo test --test end_to_end codes::`.
#[test]
fn attack_11_a_program_that_guesses_finds_nothing_and_costs_no_memory() {
    let guesses = if std::env::var_os("TOWLINE_TEST_LONG").is_some() { 1000 } else { 50 };
    let setting = Setting::new();
    let source = setting.source();
    let mut receiver = setting.receiver.start_receive(["--listen", "127.0.0.1:0", "--into", setting.inbox()]);
    let (address, first) = waiting(&mut receiver);
    let dial = |code: &str| setting.sender.send(["--to", &format!("{address}/{code}"), &source]);
    // The first guess has what every guess needs made.
    dial(&wrong(&first)).expect(4);
    let before = resident_bytes(receiver.pid());
    let mut open = 0;
    for _ in 1..guesses {
        let refused = dial(&wrong(&first));
        assert_eq!(refused.code, Some(4), "{}", refused.said());
        open += usize::from(message(&refused).contains("the code is wrong"));
    }
    let added = resident_bytes(receiver.pid()).saturating_sub(before);
    eprintln!("{open} of {guesses} guesses met a code; {} KiB added", added / 1024);
    assert!(added < 4 << 20, "{} KiB added", added / 1024);
    // Most meet a code that is burnt: the pause before the next one doubles.
    assert!(open < 12, "{open} of {guesses} met a code");
    assert!(!setting.inbox.join("file").exists());
}

#[test]
fn attack_10_a_man_in_the_middle_with_tls_on_both_sides_is_refused_by_both() {
    let setting = Setting::new();
    let source = setting.source();
    let mut receiver = setting.receiver.start_receive(["--listen", "127.0.0.1:0", "--into", setting.inbox()]);
    let (address, code) = waiting(&mut receiver);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let middle = Middle::before(address.parse().expect("an address"));
        let to = format!("{}/{code}", middle.address);
        let refused = tokio::task::block_in_place(|| setting.sender.send(["--to", &to, &source]).expect(4));
        assert!(message(&refused).contains("does not have this code"), "{}", refused.said());
        let (seen, closed) = middle.end().await;
        // He has seen Hello and the answer, and nothing about files.
        assert!(seen.starts_with(&[1]) && seen.len() > 100, "{seen:?}");
        let shown = String::from_utf8_lossy(&seen);
        assert!(!shown.contains("file") && !shown.contains("inbox"), "{shown}");
        assert_eq!(closed, Some(5), "the listener refuses him too");
    });
    // One wrong guess: the code is burnt, and the next one works.
    let (_, fresh) = waiting(&mut receiver);
    assert_ne!(fresh, code);
    setting.sender.send(["--to", &format!("{address}/{fresh}"), &source]).expect(0);
    receiver.end().expect(0);
    setting.assert_arrived();
}

/// A receiver, a man in the middle with a listener of his own, and what a sender says to that.
struct Attack {
    setting: Setting,
    source: String,
    runtime: tokio::runtime::Runtime,
    receiver: Towline,
    address: std::net::SocketAddr,
    code: String,
}

impl Attack {
    fn new() -> Self {
        let setting = Setting::new();
        let source = setting.source();
        let listen = ["--listen", "127.0.0.1:0", "--into", setting.inbox()];
        let mut receiver = setting.receiver.start_receive(listen);
        let (address, code) = waiting(&mut receiver);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let address = address.parse().expect("an address");
        Self { setting, source, runtime, receiver, address, code }
    }

    /// A sender with the right code comes to a false listener that gives these answers. What it says on the control stream.
    #[track_caller]
    fn fools_a_sender(&self, code: i32, why: &str, answer: impl Fn(&[Said]) -> Option<Said>) -> Vec<Said> {
        let (refused, said, more) = self.runtime.block_on(async {
            let listener = FalseListener::new();
            let to = format!("{}/{}", listener.address, self.code);
            let sender = self.setting.sender.start_send(["--to", &to, &self.source]);
            let (said, more) = listener.meet(answer).await;
            (tokio::task::block_in_place(|| sender.end()), said, more)
        });
        let refused = refused.expect(code);
        assert!(message(&refused).contains(why), "{}", refused.said());
        let all = [said.concat(), more].concat();
        assert!(!String::from_utf8_lossy(&all).contains("file"), "{all:?}");
        said
    }

    /// He dials the receiver, and is turned away.
    #[track_caller]
    fn fools_the_receiver(&self, says: &[Said]) -> Vec<Said> {
        let (heard, closed) = self.runtime.block_on(dials(self.address, says));
        assert_eq!(closed, Some(5));
        assert!(!self.setting.inbox.join("file").exists());
        heard
    }

    /// What the receiver answers to a `Hello`. Its code stays as it is.
    fn answer_of_the_receiver(&self, hello: &Said) -> Said {
        let (heard, _) = self.runtime.block_on(dials(self.address, std::slice::from_ref(hello)));
        heard.into_iter().next().expect("an answer")
    }
}

const NOT_A_LISTENER: &str = "is not a SPAKE2 message of a listener";
const DOES_NOT_HAVE_IT: &str = "does not have this code";

#[test]
fn attack_10_reflected_messages_are_refused() {
    let attack = Attack::new();
    let said = attack.fools_a_sender(1, NOT_A_LISTENER, |said| Some(auth(payload(&said[0]))));
    // With an element of the receiver, so that the sender's proof comes back as the listener's.
    let second = attack.answer_of_the_receiver(&said[0]);
    let said = attack.fools_a_sender(4, DOES_NOT_HAVE_IT, |said| match said {
        [_] => Some(second.clone()),
        said => said.last().cloned(),
    });
    assert_eq!((said.len(), payload(&said[1]).len()), (2, 32));
    // And the receiver's element as its dialler's proof.
    let own = payload(&second).to_vec();
    attack.fools_the_receiver(&[said[0].clone(), auth(&own[1..])]);
}

#[test]
fn attack_10_messages_of_an_earlier_transfer_are_refused() {
    let mut attack = Attack::new();
    let said = attack.fools_a_sender(4, DOES_NOT_HAVE_IT, |said| {
        (said.len() > 1).then(|| auth(&[7; 32])).or_else(|| {
            // An element of this run's sender, made into one of a listener: there is no proof that fits it.
            let mut element = payload(&said[0]).to_vec();
            element[0] = 0x42;
            Some(auth(&element))
        })
    });
    let [hello, third] = &said[..] else { panic!("{said:?}") };
    let second = attack.answer_of_the_receiver(hello);
    let replayed = attack.fools_a_sender(4, DOES_NOT_HAVE_IT, |said| match said {
        [_] => Some(second.clone()),
        _ => Some(third.clone()),
    });
    assert_ne!(replayed[0], *hello, "each transfer has an element of its own");
    attack.fools_the_receiver(&said);
    let (_, fresh) = waiting(&mut attack.receiver);
    assert_ne!(fresh, attack.code, "it was a guess");
}

#[test]
fn attack_10_messages_of_the_other_role_are_refused() {
    let attack = Attack::new();
    let said = attack.fools_a_sender(1, NOT_A_LISTENER, |_| Some(auth(&[0x41; 33])));
    // What another sender with the same code says first.
    let other = payload(&said[0]).to_vec();
    attack.fools_a_sender(1, NOT_A_LISTENER, |_| Some(auth(&other)));
    // What the receiver says as a listener, said to it by a dialler.
    let second = attack.answer_of_the_receiver(&said[0]);
    let swapped = hello_with(&said[0], payload(&second));
    attack.fools_the_receiver(&[swapped, auth(&[7; 32])]);
}

#[test]
fn attack_8_no_message_holds_a_code() {
    let setting = Setting::new();
    let code = "7-octopus-lantern";
    for args in [
        &["send", code][..],
        &["send", code, "file"],
        &["receive", "--exists", code],
        &["receive", "--form", code],
        &["send", "file", "--to", "a@b/7-octopus-lantern"],
        &["send", "file", "--timeout", code],
        &["peers", "remove", code],
        &["id", code],
    ] {
        let output = setting.sender.command(args).output().expect("it starts");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(!said.contains("octopus") && !said.contains("lantern"), "{args:?}: {said}");
    }
}

/// A receiver on the first host of `cable` whose number is none of `taken`, and its code. The number is random, so a few
/// attempts may be needed.
fn receiver_on(cable: &Cable, setting: &Setting, name: &str, taken: &[String]) -> (Towline, String) {
    loop {
        let receive = setting.receiver.command(["receive", "--json", "--wait", "1m", "--into"]);
        let mut receive = cable.on(0, &receive);
        receive.arg(setting.path(name));
        let mut receiver = Towline::of(receive);
        let event = receiver.wait_for("listening");
        let code = event["code"].as_str().expect("a code").to_owned();
        if !taken.iter().any(|other| number(other) == number(&code)) {
            return (receiver, code);
        }
    }
}

fn number(code: &str) -> &str {
    code.split('-').next().expect("a number")
}

/// Three sides wait on one host of `cable`, and the other host reaches each by its code alone, at the same time.
fn reach_all_three(cable: &Cable) {
    let setting = Setting::new();
    let source = setting.source();
    let (mut waits, mut codes) = (Vec::new(), Vec::new());
    for name in ["one", "two", "three"] {
        let (receiver, code) = receiver_on(cable, &setting, name, &codes);
        waits.push((receiver, name));
        codes.push(code);
    }
    let send = |code: &String| {
        Towline::of(cable.on(1, &setting.sender.command(["send", "--json", &source, "--to", code])))
    };
    let sends: Vec<_> = codes.iter().map(send).collect();
    sends.into_iter().for_each(|sender| drop(sender.end().expect(0)));
    for (receiver, name) in waits {
        receiver.end().expect(0);
        assert_eq!(fs::read(setting.path(name).join("file")).expect("it came"), b"bytes");
    }
}

#[test]
fn a_code_is_found_on_the_local_network_by_ipv4() {
    if let Some(cable) = Cable::new() {
        reach_all_three(&cable);
    }
}

#[test]
fn a_code_is_found_on_the_local_network_by_link_local_ipv6_alone() {
    if let Some(cable) = Cable::new() {
        cable.without_ipv4();
        reach_all_three(&cable);
    }
}

/// The search takes ten seconds: `TOWLINE_TEST_LONG=1 cargo test --test end_to_end codes::`.
#[test]
fn a_code_that_nobody_waits_with_is_not_found() {
    if std::env::var_os("TOWLINE_TEST_LONG").is_none() {
        return;
    }
    let Some(cable) = Cable::new() else { return };
    let setting = Setting::new();
    let send = setting.sender.command(["send", "--json", &setting.source(), "--to", "7-octopus-lantern"]);
    let sent = Towline::of(cable.on(1, &send)).end().expect(3);
    assert!(message(&sent).contains("no machine on this network waits with the number 7"), "{}", sent.said());
    assert!(!sent.said().contains("octopus"), "{}", sent.said());
}
