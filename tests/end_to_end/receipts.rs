//! `send --receipt` and `towline receipt`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::process::Ended;
use crate::support::setting::Setting;
use crate::support::tree::random_file;

impl Setting {
    /// A few files, of which one is there already, and one has a name with escapes.
    fn files(&self) -> PathBuf {
        let dir = self.scratch.dir("from").join("set");
        fs::create_dir_all(dir.join("d")).expect("a directory");
        for (name, content) in [("a", "1"), ("d/b\nc\\", "2"), ("there", "3"), ("empty", "")] {
            fs::write(dir.join(name), content).expect("a file");
        }
        random_file(&dir.join("large"), 3 << 20, 5);
        fs::create_dir_all(self.inbox.join("set")).expect("a directory");
        fs::write(self.inbox.join("set/there"), "3").expect("a file");
        dir
    }

    fn send_with_receipt(&self, receiver: &[&str], sender: &[&str]) -> [Ended; 2] {
        let source = self.files();
        let (receiving, listening) = self.receiver.listen_receive(&self.inbox, receiver);
        let source = source.to_str().expect("a plain path");
        let sent = self.sender.send([&["--to", &listening.ticket, source], sender].concat());
        [sent, receiving.end()]
    }

    /// Runs `towline receipt` for the receipt, anywhere.
    fn check(&self, args: &[&str]) -> Ended {
        let receipt = self.path("receipt");
        let first = ["receipt", "--json", receipt.to_str().expect("a plain path")];
        self.sender.start([&first[..], args].concat()).end()
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("a text")
}

#[test]
fn a_receipt_is_kept_and_checked_offline() {
    let setting = Setting::new();
    let (receipt, sums) = (setting.path("receipt"), setting.path("sums"));
    let [receipt_arg, sums_arg] = [&receipt, &sums].map(|path| path.to_str().expect("a plain path"));
    let sides = setting.send_with_receipt(
        &["--verify-disk", "--atomic"],
        &["--receipt", receipt_arg, "--manifest", sums_arg],
    );
    let [sent, received] = sides.map(|side| side.expect(0));
    let identity = |ended: &Ended| ended.event("connected")["fingerprint"].as_str().expect("text").to_owned();
    let (receiver, sender) = (identity(&sent), identity(&received));

    let checked = setting.check(&["--manifest", sums_arg, "--fingerprint", &receiver]).expect(0);
    let told = checked.event("receipt");
    assert_eq!(told["files_compared"], true);
    let said = &told["receipt"];
    for (name, value) in [
        ("transfer", sent.event("started")["transfer"].as_str().expect("text")),
        ("sender", &sender),
        ("receiver", &receiver),
        ("lasting_key", "yes"),
        ("files", "5"),
        ("bytes", "3145731"),
        ("synced", "yes"),
        ("read_back", "4"),
    ] {
        assert_eq!(said[name], value, "{said}");
    }
    // The order of the lines does not count.
    let mut lines: Vec<_> = text(&sums).lines().map(str::to_owned).collect();
    lines.sort();
    fs::write(&sums, lines.join("\n")).expect("a file");
    setting.check(&["--manifest", sums_arg]).expect(0);

    // Other files, another signer, another text.
    fs::write(&sums, lines[1..].join("\n")).expect("a file");
    let differs = setting.check(&["--manifest", sums_arg]).expect(8);
    assert!(differs.said().contains("5 files"), "{}", differs.said());
    let other = lines[0].replacen(&lines[0][..1], if lines[0].starts_with('0') { "1" } else { "0" }, 1);
    fs::write(&sums, [&[other], &lines[1..]].concat().join("\n")).expect("a file");
    if !lines[0].starts_with('\\') {
        setting.check(&["--manifest", sums_arg]).expect(8);
    }
    setting.check(&["--fingerprint", &sender]).expect(8);
    let whole = text(&receipt);
    fs::write(&receipt, whole.replace("files: 5", "files: 6")).expect("a file");
    setting.check(&[]).expect(8);
    fs::write(&receipt, "text").expect("a file");
    setting.check(&[]).expect(8);
}

/// A receiver in this process has a key for one run, and the sender says so.
#[test]
fn a_receipt_of_a_directory_is_signed_with_a_key_for_one_run() {
    let setting = Setting::new();
    let receipt = setting.path("receipt");
    let source = setting.files();
    let to = format!("dir:{}", setting.inbox());
    let (source, receipt) = (source.to_str().expect("text"), receipt.to_str().expect("text"));
    let sent = setting.sender.send([source, "--to", &to, "--receipt", receipt]).expect(0);
    assert!(sent.said().contains("this run only"), "{}", sent.said());
    let checked = setting.check(&[]).expect(0);
    let said = &checked.event("receipt")["receipt"];
    assert_eq!((&said["lasting_key"], &said["read_back"]), (&"no".into(), &"no".into()), "{said}");
}

#[test]
fn a_receipt_that_cannot_be_written_stops_the_transfer_before_it_begins() {
    let setting = Setting::new();
    let source = setting.files();
    let to = format!("dir:{}", setting.inbox());
    let receipt = setting.path("missing").join("receipt");
    let args = [source.as_os_str(), "--to".as_ref(), to.as_ref(), "--receipt".as_ref(), receipt.as_os_str()];
    let sent = setting.sender.send(args).expect(1);
    assert!(sent.said().contains("cannot create the receipt"), "{}", sent.said());
    assert!(!setting.inbox.join("set/a").exists());
}
