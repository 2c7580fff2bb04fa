//! Known peers: met once, known by name from then on, and refused with another key.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::process::{Ended, Machine};
use crate::support::setting::Setting;

impl Setting {
    /// The receiver knows the sender as alice, and the sender knows the receiver as bob. The file came.
    fn introduce(&self) -> SocketAddr {
        let source = self.source();
        let (receiver, listening) = self.receiver.listen_receive(&self.inbox, &["--remember", "alice"]);
        let sent = self.sender.send(["--to", &listening.ticket, "--remember", "bob", &source]).expect(0);
        let received = receiver.end().expect(0);
        assert_eq!(sent.event("remembered")["name"], "bob");
        assert_eq!(sent.event("remembered")["fingerprint"], listening.fingerprint);
        assert_eq!(sent.event("remembered")["may"], serde_json::json!(["receive"]));
        assert_eq!(received.event("remembered")["may"], serde_json::json!(["send"]));
        fs::remove_file(self.inbox.join("file")).expect("it came");
        listening.address
    }

    fn peers_file(&self, machine: &str) -> PathBuf {
        self.path(machine).join("config/towline/peers.toml")
    }

    /// Changes the file of known peers as a person does.
    fn edit(&self, machine: &str, from: &str, to: &str) {
        let path = self.peers_file(machine);
        let text = fs::read_to_string(&path).expect("a file");
        assert!(text.contains(from), "no {from} in {text}");
        fs::write(path, text.replace(from, to)).expect("a file");
    }
}

/// The lines that `towline peers ARGS` prints.
fn peers(machine: &Machine, args: &[&str]) -> Vec<String> {
    let output = machine.command([&["peers"], args].concat()).output().expect("it starts");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(output.status.success(), "{args:?}: {text}");
    text.lines().map(str::to_owned).collect()
}

fn message(ended: &Ended) -> &str {
    ended.event("error")["message"].as_str().expect("text")
}

#[test]
fn a_peer_that_was_met_once_is_known_by_its_name_and_its_host() {
    let setting = Setting::new();
    let old = setting.introduce();
    let mode = fs::metadata(setting.peers_file("sender")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let [alice] = &peers(&setting.receiver, &[])[..] else { panic!("one peer") };
    assert!(alice.starts_with("alice  ") && alice.ends_with("  send  127.0.0.1:4750"), "{alice}");
    let [bob] = &peers(&setting.sender, &["list"])[..] else { panic!("one peer") };
    assert!(bob.starts_with("bob  ") && bob.ends_with(&format!("  receive  {old}")), "{bob}");

    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--allow", "alice"]);
    setting.edit("sender", &old.to_string(), &listening.address.to_string());
    setting.sender.send(["--to", "bob", &setting.source()]).expect(0);
    receiver.end().expect(0);

    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--allow", "alice"]);
    setting.sender.send(["--to", &listening.address.to_string(), &setting.source()]).expect(0);
    receiver.end().expect(0);

    // The other way round: the one that offers waits.
    let (sender, listening) = setting.sender.listen_send(setting.source().as_ref(), &["--allow", "bob"]);
    setting.edit("receiver", "127.0.0.1:4750", &listening.address.to_string());
    let into = setting.inbox.to_str().expect("a plain path");
    setting.receiver.receive(["--from", "alice", "--into", into]).expect(0);
    sender.end().expect(0);
}

#[test]
fn a_changed_key_is_refused_and_both_fingerprints_are_shown() {
    let setting = Setting::new();
    let old = setting.introduce();
    let known =
        setting.receiver.start(["id", "--json"]).end().expect(0).event("identity")["fingerprint"].clone();
    let new =
        setting.receiver.start(["id", "new", "--json"]).end().expect(0).event("identity")["fingerprint"]
            .clone();
    let [known, new] = [&known, &new].map(|f| f.as_str().expect("text"));
    assert_ne!(known, new);
    let (_receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--allow", "alice"]);
    setting.edit("sender", &old.to_string(), &listening.address.to_string());
    let sent = setting.sender.send(["--to", "bob", &setting.source()]).expect(4);
    assert!(message(&sent).contains(known) && message(&sent).contains(new), "{}", sent.said());

    // The name is taken by the old key, whatever the ticket is worth.
    let sent =
        setting.sender.send(["--to", &listening.ticket, "--remember", "bob", &setting.source()]).expect(4);
    assert!(message(&sent).contains(known) && message(&sent).contains(new), "{}", sent.said());
    assert!(!setting.inbox.join("file").exists());
}

#[test]
fn only_the_peer_that_is_allowed_needs_no_ticket() {
    let setting = Setting::new();
    setting.introduce();
    let stranger = Machine::new(setting.path("stranger"));
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--allow", "alice"]);
    let (at, key) = (listening.address.to_string(), listening.fingerprint.as_str());
    let refused = stranger.send(["--to", &at, "--fingerprint", key, &setting.source()]).expect(4);
    assert!(!refused.said().contains("alice"), "{}", refused.said());
    stranger.send(["--to", &listening.ticket, &setting.source()]).expect(0);
    receiver.end().expect(0);

    // She may send here, and not receive.
    let output = setting
        .receiver
        .command(["send", &setting.source(), "--allow", "alice"])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("alice has no right to receive here: add \"receive\" to its `may`"), "{said}");
}

#[test]
fn known_peers_are_kept_in_a_file_that_people_edit() {
    let setting = Setting::new();
    let fingerprint = "a".repeat(52);
    let machine = &setting.sender;
    assert!(peers(machine, &[]).is_empty());
    let added =
        peers(machine, &["add", "laptop", &fingerprint, "192.0.2.7", "[2001:db8::7]:9", "--may", "send"]);
    assert_eq!(added, [format!("laptop  {fingerprint}  send  192.0.2.7:4750 [2001:db8::7]:9")]);
    // A variable for another command is ignored.
    let mut list = machine.command(["peers", "list"]);
    assert!(list.env("TOWLINE_MAY", "send").output().expect("it starts").status.success());
    let mut receive = machine.command(["receive", "--from", "nobody"]);
    let output = receive.env("TOWLINE_TICKETS", "yes").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("nor a known peer"), "{said}");
    setting.edit("sender", "[laptop]", "# by phone\n[laptop]");
    peers(machine, &["rename", "laptop", "desk"]);
    let text = fs::read_to_string(setting.peers_file("sender")).expect("a file");
    assert!(text.contains("# by phone\n[desk]\n"), "{text}");
    for (args, why) in [
        (&["peers", "add", "desk", &"b".repeat(51)][..], "52 characters"),
        (
            &["peers", "add", "desk", &("b".repeat(51) + "a")],
            "desk is already known, with the fingerprint aaa",
        ),
        (&["peers", "add", "other", &fingerprint], "is already known as desk"),
        (&["peers", "remove", "disk"], "`disk` is not a known peer; did you mean `desk`?"),
        (
            &["send", "x", "--to", "dest"],
            "did you mean `desk`?; a host that is not known needs --fingerprint FP",
        ),
    ] {
        let output = machine.command(args).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{args:?}: {said}");
    }
    peers(machine, &["add", "attic", &("b".repeat(51) + "a"), "192.0.2.7:7"]);
    for at in ["192.0.2.7:99", "192.0.2.7:1"] {
        let output = machine.command(["send", "x", "--to", at]).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let why = format!("`{at}` is an address of several known peers: give the name of one of attic, desk");
        assert!(said.contains(&why), "{said}");
    }
    peers(machine, &["remove", "attic"]);
    setting.edit("sender", "addresses", "adresses");
    let output = machine.command(["send", "x", "--to", "desk"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("line 6: unknown field `adresses`, expected one of `fingerprint`"), "{said}");
    setting.edit("sender", "adresses", "addresses");
    let (file, kept) = (setting.peers_file("sender"), setting.path("kept"));
    fs::rename(&file, &kept).expect("a file");
    std::os::unix::fs::symlink("gone", &file).expect("a link");
    let output = machine.command(["send", "x", "--to", "desk"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    fs::rename(&kept, &file).expect("a file");
    peers(machine, &["remove", "desk"]);
    assert!(peers(machine, &[]).is_empty());
}

#[test]
fn what_a_peer_may_do_is_changed_by_command() {
    let setting = Setting::new();
    let (fingerprint, machine) = ("a".repeat(52), &setting.sender);
    peers(machine, &["add", "laptop", &fingerprint, "192.0.2.7", "[2001:db8::7]:9", "--may", "send"]);
    let set =
        ["set", "laptop", "--may", "none", "--dir", "lap", "--policies", "rename,skip", "--quota", "5G"];
    let line = format!(
        "laptop  {fingerprint}  -  192.0.2.7:4750 [2001:db8::7]:9  into=lap  exists=rename,skip  quota=5G"
    );
    assert_eq!(peers(machine, &set), [line]);
    let set = ["set", "laptop", "--may", "send", "--quota", "none"];
    assert!(peers(machine, &set)[0].ends_with("  into=lap  exists=rename,skip"));
    for (args, why) in [
        (&["peers", "set", "laptop", "--quota", "much"][..], "--quota much: expected a number of bytes"),
        (
            &["peers", "set", "laptop", "--may", "write"],
            "--may write: expected a list of send, receive, archive, delete, or none",
        ),
        (
            &["peers", "set", "laptop", "--dir", "none", "--quota", "1M"],
            "laptop has a `quota`, which needs `into`",
        ),
        (&["peers", "set", "laptop"], "say what to change"),
        (&["peers", "remove", "laptop", "--may", "send"], "--may is only for `towline peers add` and `set`"),
    ] {
        let output = machine.command(args).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{args:?}: {said}");
    }
}
