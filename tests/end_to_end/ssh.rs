//! Transfers that ssh introduces, with a real sshd. They need root, OpenSSH's server and, for one, network
//! namespaces and nft.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::netns::Cable;
use crate::support::process::{DEADLINE, Ended, Machine, Towline};
use crate::support::setting::Setting;
use crate::support::sshd::Sshd;

/// Puts a link to towline into a directory.
fn link(bin: &Path) {
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_towline"), bin.join("towline")).expect("a link");
}

/// A machine with an sshd whose users live in `home`.
struct There {
    setting: Setting,
    sshd: Sshd,
    home: PathBuf,
}

impl There {
    /// With towline in the PATH.
    fn new() -> Option<Self> {
        Self::with(link)
    }

    /// With a directory in the PATH that `fill` fills.
    fn with(fill: impl FnOnce(&Path)) -> Option<Self> {
        Self::at("127.0.0.1", fill, |program| Command::new(program))
    }

    /// The same at `address`, where `wrap` starts programs.
    fn at(address: &str, fill: impl FnOnce(&Path), wrap: impl Fn(&str) -> Command) -> Option<Self> {
        let setting = Setting::new();
        let (home, bin) = (setting.scratch.dir("home there"), setting.scratch.dir("bin"));
        fill(&bin);
        let sshd =
            Sshd::start(address, &setting.path("sshd"), &home, bin.to_str().expect("a plain path"), wrap)?;
        Some(Self { setting, sshd, home })
    }

    /// A tree with a name that a shell would take apart.
    fn tree(&self) -> String {
        let tree = self.setting.scratch.dir("tree");
        fs::create_dir(tree.join("sub")).expect("a directory");
        fs::write(tree.join("sub/it's $(a) file"), vec![7; 300_000]).expect("a file");
        fs::write(tree.join("large"), vec![8; 3 << 20]).expect("a file");
        tree.to_str().expect("a plain path").to_owned()
    }

    /// Runs `towline send SOURCE --to ssh:there:DIR` here.
    fn push(&self, source: &str, dir: &str, args: &[&str]) -> Ended {
        let (to, ssh) = (format!("ssh:there:{dir}"), self.sshd.client());
        self.setting.sender.send([&[source, "--to", &to, "--ssh", &ssh], args].concat())
    }
}

fn message(ended: &Ended) -> &str {
    ended.event("error")["message"].as_str().expect("text")
}

#[track_caller]
fn assert_same(here: &Path, there: &Path) {
    for name in ["large", "sub/it's $(a) file"] {
        assert_eq!(fs::read(here.join(name)).unwrap(), fs::read(there.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_tree_goes_there_and_comes_back() {
    let Some(there) = There::new() else { return };
    let tree = there.tree();
    there.push(&tree, "a dir/in it", &[]).expect(0);
    let arrived = there.home.join("a dir/in it/tree");
    assert_same(tree.as_ref(), &arrived);

    let from = "ssh:root@there:a dir/in it/tree/large";
    let client = there.sshd.client();
    let pulled = there.setting.receiver.receive([
        "--ssh",
        &client,
        "--from",
        from,
        "a dir/in it/tree/sub",
        "--into",
        there.setting.inbox(),
        "--port-range",
        "1-65535",
    ]);
    assert_eq!(pulled.expect(0).event("finished")["files"], 2);
    assert_same(tree.as_ref(), &there.setting.inbox);
}

#[test]
fn what_the_receiver_refuses_has_its_exit_code_here() {
    let Some(there) = There::new() else { return };
    let tree = there.tree();
    there.push(&tree, "", &[]).expect(0);
    fs::write(there.home.join("tree/large"), b"other").expect("a file");
    there.push(&tree, "", &[]).expect(5);
    there.push(&tree, "", &["--exists", "replace", "--retry", "0", "--timeout", "90s"]).expect(0);
    assert_same(tree.as_ref(), &there.home.join("tree"));
    let pushed = there.push(&tree, "tree/large", &[]).expect(6);
    assert!(message(&pushed).contains("there: towline: "), "{}", pushed.said());

    let client = there.sshd.client();
    let pull = |from: &str| {
        there.setting.receiver.receive(["--ssh", &client, "--from", from, "--into", there.setting.inbox()])
    };
    let absent = pull("ssh:there:-absent").expect(7);
    assert!(message(&absent).contains("-absent"), "{}", absent.said());
    assert!(message(&pull("ssh:nowhere.invalid:x").expect(3)).contains("ssh does not know the host"));
    let other = there.setting.sender.send([&tree, "--to", "ssh:there", "--ssh", "/does/not/exist"]).expect(1);
    assert!(message(&other).contains("no program `/does/not/exist`"), "{}", other.said());
}

#[test]
fn a_key_that_is_not_known_is_refused() {
    let Some(there) = There::new() else { return };
    let known_hosts = there.setting.path("sshd/known_hosts");
    let known = fs::read(&known_hosts).expect("a file");
    fs::write(&known_hosts, b"").expect("a file");
    let refused = there.push(&there.tree(), "", &[]).expect(4);
    assert!(message(&refused).contains("ssh does not accept the host key"), "{}", refused.said());
    fs::write(&known_hosts, known).expect("a file");
    fs::write(there.setting.path("sshd/authorized_keys"), b"").expect("a file");
    let refused = there.push(&there.setting.path("tree").display().to_string(), "", &[]).expect(4);
    assert!(message(&refused).contains("ssh is not let in"), "{}", refused.said());
    assert!(message(&refused).contains("Permission denied"), "{}", refused.said());
}

#[test]
fn a_transfer_goes_on_after_this_side_was_killed() {
    let Some(there) = There::new() else { return };
    let source = there.setting.path("large");
    let mut bytes = vec![0; 24 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    fs::write(&source, &bytes).expect("a file");
    let source = source.to_str().expect("a plain path");
    let ssh = there.sshd.client();
    let args = [source, "--to", "ssh:there:in", "--ssh", &ssh];
    let sender = there.setting.sender.start_send([&args[..], &["--bwlimit", "3M"]].concat());
    let inbox = there.home.join("in");
    let partial = || {
        let (inbox, list) = (inbox.to_str().expect("a plain path"), ["receive", "--json", "--list-partial"]);
        let listed = there.setting.receiver.start([&list[..], &["--into", inbox]].concat()).end();
        listed.events("partial").next().cloned()
    };
    let wait = |what: &str, condition: &dyn Fn(&serde_json::Value) -> bool| {
        let end = Instant::now() + DEADLINE;
        while !inbox.exists() || !partial().is_some_and(|partial| condition(&partial)) {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait("something is safe", &|partial| partial["safe_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    sender.signal(Signal::KILL);
    assert_eq!(sender.end().code, None);
    // Long before the time that it has to connect again.
    wait("the other side ends", &|partial| partial["state"] == "kept");
    let sent = there.setting.sender.send(args).expect(0);
    assert!(
        sent.event("finished")["resumed_bytes"].as_u64().is_some_and(|bytes| bytes > 0),
        "{}",
        sent.said()
    );
    assert!(fs::read(inbox.join("large")).expect("it came") == bytes);
}

#[test]
fn what_a_login_says_does_not_disturb() {
    let Some(there) = There::new() else { return };
    // bash reads this for commands of ssh, too.
    fs::write(there.home.join(".bashrc"), "echo Welcome; echo to towline-land >&2\n").expect("a file");
    there.push(&there.tree(), "", &[]).expect(0);
    fs::write(there.home.join(".bashrc"), "exit 0\n").expect("a file");
    let ended = there.push(&there.setting.path("tree").display().to_string(), "", &[]).expect(3);
    assert!(message(&ended).contains("without starting towline"), "{}", ended.said());
}

#[test]
fn a_machine_without_a_towline_that_fits_gets_a_copy_when_that_is_allowed() {
    let old = |bin: &Path| {
        let program = bin.join("towline");
        fs::write(&program, "#!/bin/sh\necho towline 0.0.1\n").expect("a file");
        let made = Command::new("chmod").arg("755").arg(&program).status();
        assert!(made.is_ok_and(|status| status.success()));
    };
    let Some(there) = There::with(old) else { return };
    let tree = there.tree();
    let ended = there.push(&tree, "", &["--no-install"]).expect(3);
    assert!(message(&ended).contains("towline 0.0.1 is installed there"), "{}", ended.said());
    let ended = there.push(&tree, "", &[]).expect(3);
    assert!(message(&ended).contains("run the same command with --yes"), "{}", ended.said());
    let cache = there.home.join(".cache");
    assert!(!cache.exists());
    let sent = there.push(&tree, "", &["--yes"]).expect(0);
    assert_same(tree.as_ref(), &there.home.join("tree"));
    let place = sent.event("installing")["place"].as_str().expect("text").replace('~', "");
    let copy = there.home.join(place.trim_start_matches('/'));
    assert!(fs::read(copy).unwrap() == fs::read(env!("CARGO_BIN_EXE_towline")).unwrap(), "a copy");
    let again = there.push(&tree, "", &["--no-install"]).expect(0);
    assert_eq!(again.events("installing").count(), 0, "it is there already");
}

#[test]
fn a_machine_without_room_for_a_copy_says_so() {
    let Some(there) = There::with(|_| {}) else { return };
    // A file where the directory would be: root may write everywhere.
    fs::write(there.home.join(".cache"), b"").expect("a file");
    let ended = there.push(&there.tree(), "", &["--yes"]).expect(6);
    assert!(message(&ended).contains("cannot be written there"), "{}", ended.said());
    assert!(message(&ended).contains("mkdir: "), "{}", ended.said());
}

#[test]
fn without_udp_the_data_goes_through_ssh() {
    let Some(cable) = Cable::new() else { return };
    let on_second = |program: &str| cable.on(1, &Command::new(program));
    let Some(there) = There::at(Cable::SECOND, link, on_second) else { return };
    let (tree, ssh) = (there.tree(), there.sshd.client());
    let run = |machine: &Machine, args: &[&str]| {
        let command = machine.command([args, &["--ssh", &ssh, "--json", "--connections", "2"]].concat());
        let ended = Towline::of(cable.on(0, &command)).end().expect(0);
        let told = |event: &serde_json::Value| {
            event["message"].as_str().is_some_and(|message| message.contains("the data goes through ssh"))
        };
        assert!(ended.events("warning").any(told), "{}", ended.said());
    };
    cable.refuse_udp("drop");
    run(&there.setting.sender, &["send", &tree, "--to", "ssh:there:"]);
    assert_same(tree.as_ref(), &there.home.join("tree"));
    cable.refuse_udp("reject");
    run(&there.setting.receiver, &["receive", "--from", "ssh:there:tree", "--into", there.setting.inbox()]);
    assert_same(tree.as_ref(), &there.setting.inbox.join("tree"));
}
