//! Certificates of an organisation: `--ca`, `--cert`, `--key`, `--peer-name`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use crate::support::process::{DEADLINE, Ended, Towline};
use crate::support::setting::Setting;
use rustix::process::Signal;

/// A file in `certs/`.
fn cert(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs").join(name);
    path.to_str().expect("a plain path").to_owned()
}

impl Setting {
    /// A private copy of a key in `certs/`; git keeps no modes.
    fn key(&self, name: &str) -> String {
        let path = self.path(name);
        fs::copy(cert(name), &path).expect("a copy");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        path.to_str().expect("a plain path").to_owned()
    }

    /// The flags for a side that trusts `ca` and shows `own`.
    fn shows(&self, ca: &str, own: &str) -> Vec<String> {
        let key = self.key(&format!("{own}.key.pem"));
        ["--ca", &cert(&format!("{ca}.pem")), "--cert", &cert(&format!("{own}.pem")), "--key", &key]
            .map(str::to_owned)
            .into()
    }

    /// A receiver that stays, and its port.
    fn stay_by_ca(&self, args: &[String]) -> (Towline, String) {
        let all = ["--forever", "--listen", "127.0.0.1:0", "--into", self.inbox()].map(str::to_owned);
        let mut process = self.receiver.start_receive([&all[..], args].concat());
        let event = process.wait_for("listening");
        let address = event["addresses"][0].as_str().expect("an address").to_owned();
        (process, address)
    }

    fn send_by_ca(&self, to: &str, args: &[String]) -> Ended {
        let all = ["--to", to, "--retry", "0", &self.source()].map(str::to_owned);
        self.sender.send([&all[..], args].concat())
    }
}

fn with(mut args: Vec<String>, more: &[&str]) -> Vec<String> {
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    args
}

#[test]
fn whoever_the_authority_vouches_for_is_let_in_and_others_learn_why_not() {
    let setting = Setting::new();
    let (staying, address) = setting.stay_by_ca(&setting.shows("ca", "leaf"));
    let port = address.rsplit(':').next().expect("a port");
    let by_name = format!("localhost:{port}");
    setting.send_by_ca(&address, &setting.shows("ca", "client")).expect(0);
    assert_eq!(fs::read(setting.inbox.join("file")).expect("it came"), b"bytes");
    // SEC1, and a name that is not the address.
    let sec1 =
        ["--ca", &cert("ca.pem"), "--cert", &cert("client.pem"), "--key", &setting.key("client.sec1.pem")];
    let sec1 = sec1.map(str::to_owned).to_vec();
    setting.send_by_ca(&by_name, &sec1).expect(0);
    setting.send_by_ca(&address, &with(sec1, &["--peer-name", "localhost"])).expect(0);
    let no_certificate = vec!["--ca".to_owned(), cert("ca.pem")];
    let no_authority = vec!["--fingerprint".to_owned(), "a".repeat(52)];
    for (args, what) in [
        (setting.shows("ca", "expired"), "the certificate of the dialling side has expired, at 2021-01-01"),
        (setting.shows("ca", "other"), "the certificate of the dialling side is not of the authority"),
        (setting.shows("other-ca", "client"), "the certificate of the waiting side is not of the authority"),
        (
            with(setting.shows("ca", "client"), &["--peer-name", "example.org"]),
            "the certificate of the waiting side is for localhost, 127.0.0.1, not for example.org",
        ),
        (no_certificate, "the dialling side shows no certificate"),
        (no_authority, "not the expected"),
    ] {
        let refused = setting.send_by_ca(&address, &args).expect(4);
        let message = refused.event("error")["message"].as_str().expect("text");
        assert!(message.contains(what), "{what}: {message}");
        assert!(!message.contains(setting.inbox()), "{message}");
    }
    staying.signal(Signal::TERM);
    let ended = staying.end().expect(0);
    assert!(
        ended.events("finished").all(|event| event["peer"] == "cert:backup.client.test"),
        "{}",
        ended.said()
    );
}

#[test]
fn names_bound_whom_a_waiting_side_lets_in_and_entries_do_not() {
    let setting = Setting::new();
    let named = with(setting.shows("ca", "leaf"), &["--peer-name", "other.client.test,second.client.test"]);
    let (staying, address) = setting.stay_by_ca(&named);
    let refused = setting.send_by_ca(&address, &setting.shows("ca", "client")).expect(4);
    assert!(
        refused.said().contains("is for backup.client.test, not for a name that is expected"),
        "{}",
        refused.said()
    );
    assert!(!refused.said().contains("second.client.test"), "{}", refused.said());
    drop(staying);
    // Its key is known and may do nothing here. It could show another one.
    let key = setting.sender.start(["id", "--json"]).end().expect(0).event("identity")["fingerprint"].clone();
    let added = setting.receiver.command(["peers", "add", "ann", key.as_str().expect("text")]).output();
    assert!(added.expect("it starts").status.success());
    let (_staying, address) = setting.stay_by_ca(&setting.shows("ca", "leaf"));
    setting.send_by_ca(&address, &setting.shows("ca", "client")).expect(0);
}

#[test]
fn a_side_that_waits_for_one_peer_takes_certificates_and_others_still_need_the_ticket() {
    let setting = Setting::new();
    let args = setting.shows("ca", "leaf");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &args);
    setting.send_by_ca(&listening.address.to_string(), &setting.shows("ca", "other")).expect(4);
    setting.send_by_ca(&listening.address.to_string(), &setting.shows("ca", "client")).expect(0);
    receiver.end().expect(0);
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let refused =
        setting.send_by_ca(&listening.address.to_string(), &setting.shows("ca", "client")).expect(4);
    assert!(refused.said().contains("the waiting side takes no certificates"), "{}", refused.said());
    setting.send_by_ca(&listening.ticket, &[]).expect(0);
    receiver.end().expect(0);
}

#[test]
fn renewed_certificates_are_read_on_sighup_and_bad_ones_change_nothing() {
    let setting = Setting::new();
    let (own, key) = (setting.path("own.pem"), setting.path("own.key"));
    let install = |name: &str| {
        fs::copy(cert(&format!("{name}.pem")), &own).expect("a copy");
        fs::copy(setting.key(&format!("{name}.key.pem")), &key).expect("a copy");
    };
    install("expired");
    let [shown, secret] = [&own, &key].map(|path| path.to_str().expect("a plain path"));
    let args = ["--ca", &cert("ca.pem"), "--cert", shown, "--key", secret].map(str::to_owned);
    let (mut staying, address) = setting.stay_by_ca(&args);
    let client = setting.shows("ca", "client");
    let refused = setting.send_by_ca(&address, &client).expect(4);
    assert!(refused.said().contains("the certificate of the waiting side has expired"), "{}", refused.said());
    install("leaf");
    staying.signal(Signal::HUP);
    let end = Instant::now() + DEADLINE;
    while setting.send_by_ca(&address, &client).code != Some(0) {
        assert!(Instant::now() < end, "the new one is not used");
    }
    fs::write(&own, b"nonsense").expect("a file");
    staying.signal(Signal::HUP);
    let warning = staying.wait_for("warning");
    let message = warning["message"].as_str().expect("text");
    assert!(message.starts_with("the certificates of before still count: "), "{message}");
    setting.send_by_ca(&address, &client).expect(0);
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do() {
    let setting = Setting::new();
    let open = setting.key("client.key.pem");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("a mode");
    let good = setting.key("leaf.key.pem");
    let (ca, own) = (cert("ca.pem"), cert("client.pem"));
    for (args, code, what) in [
        (vec!["--ca", &ca, "--cert", &own, "--key", &open], 1, format!("chmod 600 {open}")),
        (
            vec!["--ca", &ca, "--cert", &own, "--key", &good],
            1,
            "it is not the key of the certificate in".to_owned(),
        ),
        (
            vec!["--ca", &good, "--cert", &own, "--key", &good],
            1,
            "there is no certificate in it (PEM)".to_owned(),
        ),
        (vec!["--ca", "/does/not/exist"], 1, "cannot read /does/not/exist: No such file".to_owned()),
        (vec!["--ca", &ca, "--cert", &own], 2, "--cert and --key belong together".to_owned()),
        (vec!["--cert", &own, "--fingerprint", &"a".repeat(52)], 2, "--cert works only with --ca".to_owned()),
        (vec!["--ca", &ca, "--peer-name", "a b"], 2, "expected a DNS name or an IP address".to_owned()),
        (vec!["--ca", &ca, "--peer-name", "a,b"], 2, "a side that dials expects one name".to_owned()),
    ] {
        let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
        let refused = setting.send_by_ca("127.0.0.1:9", &args).expect(code);
        assert!(refused.said().contains(&what), "{args:?}: {}", refused.said());
    }
    let receive = setting.receiver.receive(["--ca", &ca, "--into", setting.inbox()]).expect(2);
    assert!(receive.said().contains("--ca on a waiting side needs --cert and --key"), "{}", receive.said());
}
