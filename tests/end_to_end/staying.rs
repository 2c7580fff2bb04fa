//! A receiver or sender that stays: known peers, several transfers at once, signals, the service manager.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::process::{DEADLINE, Machine, Towline};
use crate::support::random::Random;
use crate::support::setting::Setting;
use rustix::process::Signal;

const MIB: usize = 1 << 20;

/// A receiver that stays, as the senders know it.
struct Staying {
    process: Towline,
    address: String,
    fingerprint: String,
    ticket: Option<String>,
}

impl Setting {
    /// A machine with an identity, and its fingerprint.
    fn machine(&self, name: &str) -> (Machine, String) {
        let machine = Machine::new(self.path(name));
        let identity =
            machine.start(["id", "--json"]).end().expect(0).event("identity")["fingerprint"].clone();
        (machine, identity.as_str().expect("text").to_owned())
    }

    /// The receiver's file of known peers has this content.
    fn know(&self, text: &str) {
        let dir = self.path("receiver/config/towline");
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("peers.toml"), text).expect("a file");
    }

    fn stay(&self, args: &[&str]) -> Staying {
        let all = [&["--forever", "--listen", "127.0.0.1:0", "--into", self.inbox()], args].concat();
        self.staying(self.receiver.start_receive(all))
    }

    fn staying(&self, mut process: Towline) -> Staying {
        let event = process.wait_for("listening");
        let address = event["addresses"][0].as_str().expect("an address").to_owned();
        let fingerprint = event["fingerprint"].as_str().expect("text").to_owned();
        let ticket = event["ticket"].as_str().map(str::to_owned);
        Staying { process, address, fingerprint, ticket }
    }

    fn file_of(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, Random::new(bytes as u64).bytes(bytes)).expect("a file");
        path
    }
}

impl Staying {
    /// The arguments of a sender that knows it.
    fn args(&self, source: &str) -> Vec<String> {
        ["--to", &self.address, "--fingerprint", &self.fingerprint, "--retry", "0", source]
            .map(str::to_owned)
            .into()
    }

    /// The same, of one that sends at `rate`.
    fn slowly(&self, source: &str, rate: &str) -> Vec<String> {
        [self.args(source), vec!["--bwlimit".to_owned(), rate.to_owned()]].concat()
    }
}

fn entry(name: &str, fingerprint: &str, rest: &str) -> String {
    format!("[{name}]\nfingerprint = \"{fingerprint}\"\n{rest}\n")
}

#[test]
fn known_peers_send_at_once_each_into_its_own_directory() {
    let setting = Setting::new();
    let machines = ["ann", "ben", "cay"].map(|name| (name, setting.machine(name)));
    let peers = machines.iter().map(|(name, (_, fingerprint))| {
        entry(name, fingerprint, &format!("may = [\"send\"]\ninto = \"{name}\"\nexists = [\"replace\"]"))
    });
    setting.know(&peers.collect::<String>());
    let staying = setting.stay(&["--transfers", "7", "--memory", "28M"]);
    let sources = ["one", "two"].map(|name| setting.file_of(name, 3 * MIB + name.len()));
    let mut senders = Vec::new();
    for (_, (machine, _)) in &machines {
        for source in &sources {
            senders.push(machine.start_send(staying.args(source.to_str().expect("plain"))));
        }
    }
    for sender in senders {
        sender.end().expect(0);
    }
    for (name, _) in &machines {
        for source in &sources {
            let arrived = setting.inbox.join(name).join(source.file_name().expect("a name"));
            assert!(fs::read(&arrived).expect("it came") == fs::read(source).expect("it is there"), "{name}");
        }
    }
    // Each may do to existing files what its entry says.
    let changed = setting.file_of("one", 5);
    machines[0].1.0.send(staying.args(changed.to_str().expect("plain"))).expect(0);
    assert_eq!(fs::read(setting.inbox.join("ann/one")).expect("it came").len(), 5);

    staying.process.signal(Signal::TERM);
    let ended = staying.process.end().expect(0);
    let finished: Vec<_> = ended.events("finished").collect();
    assert_eq!(finished.len(), 7);
    for event in finished {
        let is_of_a_peer = machines.iter().any(|(name, _)| event["peer"] == *name);
        assert!(is_of_a_peer && event["transfer"].is_string(), "{event}");
    }
}

#[test]
fn strangers_learn_nothing_and_known_peers_why_they_are_refused() {
    let setting = Setting::new();
    let ((may, key), (may_not, other)) = (setting.machine("may"), setting.machine("maynot"));
    let (stranger, _) = setting.machine("stranger");
    setting.know(&[entry("ann", &key, "may = [\"send\"]"), entry("ben", &other, "")].concat());
    let staying = setting.stay(&[]);
    let source = setting.file_of("one", 10);
    let source = source.to_str().expect("plain");
    let refused = stranger.send(staying.args(source)).expect(4);
    for word in ["ann", "ben", setting.inbox()] {
        assert!(!refused.event("error").to_string().contains(word), "{}", refused.said());
    }
    let refused = may_not.send(staying.args(source)).expect(5);
    let message = refused.event("error")["message"].as_str().expect("text");
    assert_eq!(message, "this machine may not send there");
    may.send(staying.args(source)).expect(0);
    staying.process.signal(Signal::TERM);
    staying.process.end().expect(0);

    // A choice of the command line on top.
    setting
        .know(&[entry("ann", &key, "may = [\"send\"]"), entry("ben", &other, "may = [\"send\"]")].concat());
    let staying = setting.stay(&["--allow", "ben"]);
    may.send(staying.args(source)).expect(5);
    may_not.send(staying.args(source)).expect(0);
}

#[test]
fn bounds_of_a_peer_and_of_the_receiver_refuse_what_is_beyond_them() {
    let setting = Setting::new();
    let (ann, key) = setting.machine("ann");
    setting.know(&entry("ann", &key, "may = [\"send\"]\nlimits = [\"file-size=1M\"]"));
    let staying = setting.stay(&["--limit", "only=*.jpg"]);
    let tree = setting.scratch.dir("tree");
    for (name, bytes) in [("a.jpg", 5), ("b.txt", 5), ("c.jpg", 2 * MIB)] {
        fs::write(tree.join(name), Random::new(9).bytes(bytes)).expect("a file");
    }
    let ended = ann.send(staying.args(tree.to_str().expect("plain"))).expect(5);
    for (name, why) in [("tree/b.txt", "none of the patterns"), ("tree/c.jpg", "the limit here is 1048576")] {
        let message = ended.file(name)["message"].as_str().expect("text").to_owned();
        assert!(message.contains(why) && !message.contains(setting.inbox()), "{message}");
    }
    let arrived: Vec<_> = fs::read_dir(setting.inbox.join("tree")).expect("it came").flatten().collect();
    assert_eq!(arrived.iter().map(fs::DirEntry::file_name).collect::<Vec<_>>(), ["a.jpg"]);
    staying.process.signal(Signal::TERM);
    staying.process.end().expect(0);
}

#[test]
fn a_quota_refuses_what_does_not_fit_and_ends_what_was_not_announced() {
    let setting = Setting::new();
    let (ann, key) = setting.machine("ann");
    let may = "may = [\"send\"]\ninto = \"ann\"\nquota = \"3M\"";
    setting.know(&entry("ann", &key, may));
    let staying = setting.stay(&[]);
    let send = |path: PathBuf| ann.send(staying.args(path.to_str().expect("plain")));
    send(setting.file_of("one", 2 * MIB)).expect(0);
    // It surely does not fit, and is not sent.
    let refused = send(setting.file_of("two", 2 * MIB)).expect(5);
    let failed = refused.file("two");
    assert_eq!(failed["outcome"], "failed", "{failed}");
    assert!(
        failed["message"]
            .as_str()
            .is_some_and(|text| text.contains("of the quota of 3145728 bytes are left"))
    );
    assert!(!setting.inbox.join("ann/two").exists());
    // Each of them fits, and both do not.
    let tree = setting.scratch.dir("tree");
    for name in ["a", "b"] {
        fs::write(tree.join(name), Random::new(7).bytes(600 << 10)).expect("a file");
    }
    let refused = send(tree).expect(5);
    assert!(
        refused.said().contains("is used up") && !refused.said().contains(setting.inbox()),
        "{}",
        refused.said()
    );
    send(setting.file_of("three", MIB / 4)).expect(0);
    staying.process.signal(Signal::TERM);
    let ended = staying.process.end().expect(0);
    assert!(ended.events("error").all(|event| event["reason"] == "refused"), "{}", ended.said());
    assert_eq!(ended.events("finished").count(), 3);
}

#[test]
fn a_transfer_that_fails_leaves_the_others_alone() {
    let setting = Setting::new();
    let (ann, key) = setting.machine("ann");
    let (ben, other) = setting.machine("ben");
    setting.know(
        &[
            entry("ann", &key, "may = [\"send\"]"),
            entry("ben", &other, "may = [\"send\"]\ninto = \"a file\""),
        ]
        .concat(),
    );
    fs::write(setting.inbox.join("a file"), b"").expect("a file");
    let staying = setting.stay(&["--transfers", "3"]);
    let source = setting.file_of("big", 6 * MIB);
    let source = source.to_str().expect("plain");
    let slow = staying.slowly(source, "6M");
    let mut sending = ann.start_send(slow);
    sending.wait_for("progress");
    ben.send(staying.args(source)).expect(6);
    ben.send(staying.args(source)).expect(6);
    sending.end().expect(0);
    staying.process.signal(Signal::TERM);
    let ended = staying.process.end().expect(0);
    assert_eq!(ended.events("finished").count(), 1);
    let failed: Vec<_> = ended.events("error").collect();
    assert!(failed.len() == 2 && failed.iter().all(|event| event["peer"] == "ben"), "{}", ended.said());
}

#[test]
fn further_peers_are_told_to_try_later() {
    let setting = Setting::new();
    let (ann, key) = setting.machine("ann");
    setting.know(&entry("ann", &key, "may = [\"send\"]"));
    let staying = setting.stay(&["--transfers", "1"]);
    let source = setting.file_of("big", 4 * MIB);
    let source = source.to_str().expect("plain");
    let mut sending = ann.start_send(staying.slowly(source, "4M"));
    sending.wait_for("progress");
    let refused = ann.send(staying.args(source)).expect(3);
    let error = refused.event("error");
    assert!(error["reason"] == "busy" && error["retryable"] == true, "{error}");
    sending.end().expect(0);
    // The place is free shortly after that.
    let end = Instant::now() + DEADLINE;
    while ann.send(staying.args(source)).code == Some(3) {
        assert!(Instant::now() < end, "the place stays taken");
    }
}

#[test]
fn after_sigterm_running_transfers_end_within_the_grace_or_are_continued_by_the_same_command() {
    let setting = Setting::new();
    let (ann, key) = setting.machine("ann");
    setting.know(&entry("ann", &key, "may = [\"send\"]"));
    let source = setting.file_of("big", 8 * MIB);
    let source = source.to_str().expect("plain");
    let staying = setting.stay(&["--grace", "0s"]);
    let address = staying.address.clone();
    let sending = ann.start_send(staying.slowly(source, "2M"));
    let end = Instant::now() + DEADLINE;
    let is_safe = || {
        let listed = setting.receiver.receive(["--list-partial", "--into", setting.inbox()]).expect(0);
        listed.events("partial").any(|event| event["safe_bytes"].as_u64().is_some_and(|bytes| bytes > 0))
    };
    while !is_safe() {
        assert!(Instant::now() < end, "no checkpoint");
    }
    staying.process.signal(Signal::TERM);
    staying.process.end().expect(143);
    sending.end().expect(9);

    let again =
        setting.receiver.start_receive(["--forever", "--listen", &address, "--into", setting.inbox()]);
    let staying = setting.staying(again);
    let mut sending = ann.start_send(staying.slowly(source, "8M"));
    sending.wait_for("progress");
    // It stays under way for as long as the test needs.
    sending.signal(Signal::STOP);
    staying.process.signal(Signal::TERM);
    // Within the grace, nobody new is let in, and what runs ends well.
    let end = Instant::now() + DEADLINE;
    let refused = loop {
        // The first may come before the signal is noticed.
        let ended = ann.send(staying.args(setting.file_of("two", 10).to_str().expect("plain")));
        if ended.code != Some(0) {
            break ended.expect(9);
        }
        assert!(Instant::now() < end, "it still lets peers in");
    };
    assert!(refused.said().contains("the waiting side is stopping"), "{}", refused.said());
    sending.signal(Signal::CONT);
    let sent = sending.end().expect(0);
    assert!(
        sent.event("finished")["resumed_bytes"].as_u64().is_some_and(|bytes| bytes > 0),
        "{}",
        sent.said()
    );
    staying.process.end().expect(0);
    assert!(fs::read(setting.inbox.join("big")).expect("it came") == fs::read(source).expect("it is there"));
}

#[test]
fn the_service_manager_is_told_and_sighup_reads_the_peers_again() {
    let setting = Setting::new();
    let (ann, key) = setting.machine("ann");
    let socket = UnixDatagram::bind(setting.path("notify")).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let told = || {
        let mut state = [0; 64];
        let bytes = socket.recv(&mut state).expect("it tells");
        String::from_utf8_lossy(&state[..bytes]).into_owned()
    };
    let mut command = setting.receiver.command(["receive", "--json", "--forever", "--listen", "127.0.0.1:0"]);
    command.args(["--into", setting.inbox()]).env("NOTIFY_SOCKET", setting.path("notify"));
    // Variables are for all commands.
    command.env("TOWLINE_REMEMBER", "somebody");
    let staying = setting.staying(Towline::of(command));
    assert_eq!(told(), "READY=1");
    let source = setting.file_of("one", 10);
    let source = source.to_str().expect("plain");
    ann.send(staying.args(source)).expect(4);
    setting.know(&entry("ann", &key, "may = [\"send\"]"));
    staying.process.signal(Signal::HUP);
    assert_eq!([told(), told()], ["RELOADING=1", "READY=1"]);
    ann.send(staying.args(source)).expect(0);
    // A file that cannot be read changes nothing.
    setting.know("[ann]\nfingerprint = 1\n");
    staying.process.signal(Signal::HUP);
    assert_eq!([told(), told()], ["RELOADING=1", "READY=1"]);
    ann.send(staying.args(source)).expect(0);
    staying.process.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    let ended = staying.process.end().expect(0);
    assert!(ended.event("warning")["message"].as_str().is_some_and(|m| m.contains("of before still count")));
}

#[test]
fn a_ticket_serves_once_and_then_there_is_another_one() {
    let setting = Setting::new();
    let mut staying = setting.stay(&["--tickets"]);
    let source = setting.file_of("one", 10);
    let source = source.to_str().expect("plain");
    let first = staying.ticket.clone().expect("a ticket");
    setting.sender.send(["--to", &first, source]).expect(0);
    let event = staying.process.wait_for("listening");
    let second = event["ticket"].as_str().expect("a ticket");
    assert_ne!(first, second);
    setting.sender.send(["--to", &first, source]).expect(4);
    setting.sender.send(["--to", second, source]).expect(0);
}

#[test]
fn a_sender_that_stays_offers_its_sources_as_they_are_to_those_that_may_receive() {
    let setting = Setting::new();
    let machines = ["ann", "ben"].map(|name| (name, setting.machine(name)));
    let ((other, key), (stranger, _)) = (setting.machine("cay"), setting.machine("stranger"));
    let known = machines.iter().map(|(name, (_, key))| entry(name, key, "may = [\"receive\"]"));
    setting.know(&[known.collect::<String>(), entry("cay", &key, "may = [\"send\"]")].concat());
    let tree = setting.scratch.dir("tree");
    fs::write(tree.join("big"), Random::new(1).bytes(5 * MIB)).expect("a file");
    let source = tree.to_str().expect("plain");
    let staying =
        setting.staying(setting.receiver.start_send(["--forever", "--listen", "127.0.0.1:0", source]));
    let pull = |machine: &Machine, into: &str| {
        let from = ["--from", &staying.address, "--fingerprint", &staying.fingerprint, "--retry", "0"];
        machine.start_receive([&from[..], &["--into", into]].concat())
    };
    let inboxes = ["ann", "ben"].map(|name| setting.scratch.dir(&format!("{name}-inbox")));
    let pulling = [0, 1].map(|at| pull(&machines[at].1.0, inboxes[at].to_str().expect("plain")));
    for one in pulling {
        one.end().expect(0);
    }
    for inbox in &inboxes {
        let came = fs::read(inbox.join("tree/big")).expect("it came");
        assert!(came == fs::read(tree.join("big")).expect("it is there"), "{}", inbox.display());
    }
    let refused = pull(&other, setting.inbox()).end().expect(5);
    assert_eq!(refused.event("error")["message"], "this machine may not receive there");
    let refused = pull(&stranger, setting.inbox()).end().expect(4);
    assert!(!refused.said().contains("ann") && !refused.said().contains("tree"), "{}", refused.said());
    // The same peer later, with what has changed since.
    fs::write(tree.join("new"), b"later").expect("a file");
    pull(&machines[0].1.0, inboxes[0].to_str().expect("plain")).end().expect(0);
    assert_eq!(fs::read(inboxes[0].join("tree/new")).expect("it came"), b"later");
    fs::remove_dir_all(&tree).expect("it is there");
    pull(&machines[0].1.0, inboxes[0].to_str().expect("plain")).end().expect(7);
    staying.process.signal(Signal::TERM);
    let ended = staying.process.end().expect(0);
    assert_eq!(ended.events("finished").count(), 3);
    assert!(ended.events("finished").all(|event| event["side"] == "sender"), "{}", ended.said());
}

/// `towline ARGS` of the receiver, which inherits `socket` as the service manager passes it.
fn inheriting(setting: &Setting, socket: impl Into<OwnedFd>, args: &[&str]) -> Command {
    let program = setting.receiver.command(args);
    let mut command = Command::new("sh");
    // The shell's process becomes the program.
    let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null";
    command.args(["-c", script]).arg(program.get_program()).args(args);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::from(socket.into())).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_socket_of_the_service_manager_is_used() {
    let setting = Setting::new();
    let (ann, key) = setting.machine("ann");
    setting.know(&entry("ann", &key, "may = [\"send\"]"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("bound").to_string();
    let args = ["receive", "--json", "--forever", "--into", setting.inbox()];
    let staying = setting.staying(Towline::of(inheriting(&setting, socket, &args)));
    assert_eq!(staying.address, address);
    let source = setting.file_of("one", 10);
    ann.send(staying.args(source.to_str().expect("plain"))).expect(0);
    staying.process.signal(Signal::TERM);
    staying.process.end().expect(0);

    let listen = [&args[..], &["--listen", "127.0.0.1:0"]].concat();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    for (mut command, what) in [
        (inheriting(&setting, udp, &listen), "--listen does not go with a socket of the service manager"),
        (inheriting(&setting, tcp, &args), "not a valid udp socket"),
    ] {
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(what), "{said}");
    }
}
