//! Files that changed since they were sent: what the old one has does not travel.

use std::fs;
use std::path::Path;

use crate::support::setting::Setting;
use serde_json::Value;

const MIB: usize = 1 << 20;

/// Bytes that differ at every place.
fn bytes(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Sends `source` over a path of 20 MiB a second. Returns the sender's `finished`.
fn send(setting: &Setting, source: &Path, flags: &[&str]) -> Value {
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--exists", "replace"]);
    let source = source.to_str().expect("a plain path");
    let to = ["--to", &listening.ticket, "--bwlimit", "20M", source];
    let sender = setting.sender.start_send(to.into_iter().chain(flags.iter().copied()));
    let received = receiver.end().expect(0);
    let sent = sender.end().expect(0).event("finished").clone();
    assert_eq!(sent["copied_bytes"], received.event("finished")["copied_bytes"]);
    sent
}

/// Sends `new` where `old` is. It arrives, and at most 2.5 % of its bytes travel.
fn assert_cheap(name: &str, old: &[u8], new: &[u8]) {
    let setting = Setting::new();
    let source = setting.path("f");
    fs::write(setting.inbox.join("f"), old).expect("the old file");
    fs::write(&source, new).expect("the new file");
    let sent = send(&setting, &source, &[]);
    assert!(fs::read(setting.inbox.join("f")).expect("the file") == new, "{name}: another content");
    let number = |key: &str| sent[key].as_u64().unwrap_or_else(|| panic!("{key} in {sent}"));
    assert_eq!(number("sent_bytes") + number("copied_bytes"), new.len() as u64, "{name}: {sent}");
    assert!(number("sent_bytes") * 1000 <= new.len() as u64 * 25, "{name}: {sent}");
    assert_eq!(fs::read_dir(&setting.inbox).expect("the inbox").count(), 1, "{name}: something is left");
}

#[test]
fn a_disk_image_of_which_one_percent_changed() {
    let old = bytes(1, 256 * MIB);
    let mut new = old.clone();
    for chunk in [7, 100, 201] {
        new[chunk * MIB..(chunk + 1) * MIB]
            .copy_from_slice(&bytes(u8::try_from(chunk).expect("a byte"), MIB));
    }
    assert_cheap("changed chunks", &old, &new);
}

#[test]
fn a_file_with_ten_bytes_in_front() {
    let old = bytes(2, 256 * MIB);
    assert_cheap("bytes in front", &old, &[&bytes(3, 10)[..], &old].concat());
}

/// An archive of the files, with headers and padding as in a tar.
fn archive(files: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let mut header = format!("d/file-{number} {:011o}", file.len()).into_bytes();
        header.resize(512, 0);
        archive.extend(header);
        archive.extend(file);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive
}

#[test]
fn an_archive_in_which_one_file_grew() {
    let mut files: Vec<_> = (0..200).map(|n: u8| bytes(n, 20_000 + usize::from(n) * 3000)).collect();
    let old = archive(&files);
    files[50].extend(bytes(250, 100_000));
    assert_cheap("an archive", &old, &archive(&files));
}

#[test]
fn all_of_a_file_is_sent_without_delta() {
    let setting = Setting::new();
    let source = setting.path("f");
    let content = bytes(1, 16 * MIB);
    fs::write(setting.inbox.join("f"), &content).expect("the old file");
    fs::write(&source, [&content[..], b"more"].concat()).expect("the new file");
    let sent = send(&setting, &source, &["--delta", "off"]);
    assert_eq!((&sent["sent_bytes"], &sent["copied_bytes"]), (&(16 * MIB + 4).into(), &0.into()), "{sent}");
}
