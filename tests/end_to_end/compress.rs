//! Compressed transfers of the program.

use std::fs;
use std::io::Write;

use crate::support::setting::Setting;

#[test]
fn text_is_compressed_and_both_sides_say_by_how_much() {
    let setting = Setting::new();
    let source = setting.path("log");
    let mut file = fs::File::create(&source).expect("a file");
    for n in 0..300_000_u64 {
        writeln!(file, "2026-11-26T07:23:41Z request {n} took {} ms", n * 7919 % 1000).expect("a line");
    }
    let size = fs::metadata(&source).expect("it is there").len();
    for (when, least) in [("6", 2.0), ("off", 1.0)] {
        let inbox = setting.scratch.dir(&format!("inbox-{when}"));
        let (receive, listening) = setting.receiver.listen_receive(&inbox, &[]);
        let path = source.to_str().expect("a plain path");
        let sent = setting.sender.send([path, "--compress", when, "--to", &listening.ticket]).expect(0);
        let received = receive.end().expect(0);
        assert!(fs::read(inbox.join("log")).expect("it came") == fs::read(&source).expect("a file"));
        let (sent, received) = (sent.event("finished"), received.event("finished"));
        assert_eq!((&sent["sent_bytes"], &sent["saved_bytes"]), (&size.into(), &received["saved_bytes"]));
        let ratio = sent["compression_ratio"].as_f64().expect("a number");
        assert!(ratio >= least && (when == "6" || ratio == 1.0), "{when}: {sent}");
    }
}
