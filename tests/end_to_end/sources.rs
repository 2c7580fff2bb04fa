//! Sources: files with a wrong size, links and missing files on the command line, growing files, and more files than
//! may be open.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::host::{has, skip};
use crate::support::process::{Ended, Machine};
use crate::support::random::Random;
use crate::support::setting::Setting;
use crate::support::tree;

impl Setting {
    /// Sends `sources` to the inbox through a receiver in the same process.
    fn send_all(&self, sources: &[&Path]) -> Ended {
        let to = format!("dir:{}", self.inbox.display());
        let sources = sources.iter().map(|source| source.to_str().expect("a plain path"));
        self.sender.send(sources.chain(["--to", &to]))
    }

    fn received(&self, name: &str) -> Vec<u8> {
        fs::read(self.inbox.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// T10: a file of /proc has size 0, one of /sys that of a page, and both have other content.
#[test]
fn t10_the_content_of_a_file_counts_and_not_its_size() {
    let known =
        ["/proc/sys/kernel/ostype", "/proc/version", "/sys/kernel/notes", "/sys/kernel/uevent_seqnum"];
    let there: Vec<_> = known.iter().map(Path::new).filter(|path| path.is_file()).collect();
    if there.len() < 2 {
        return skip("there are no files of /proc and /sys");
    }
    let setting = Setting::new();
    let ended = setting.send_all(&there).expect(0);
    assert_eq!(ended.event("finished")["files"], there.len());
    for path in there {
        let name = path.file_name().expect("a name").to_str().expect("a plain name");
        let content = fs::read(path).expect("it can be read");
        assert!(!content.is_empty());
        assert_eq!(setting.received(name), content, "{name}");
        assert_eq!(ended.file(name)["size"], content.len());
    }
}

/// A file of `/proc` says nothing of its size, which may be several chunks.
#[test]
fn an_entry_of_unknown_size_is_read_to_its_end() {
    let path = Path::new("/proc/kallsyms");
    let Ok(content) =
        fs::read(path).map(|content| if content.len() > 3 << 20 { content } else { Vec::new() })
    else {
        return skip("there is no /proc/kallsyms");
    };
    if content.is_empty() {
        return skip("/proc/kallsyms has less than three chunks");
    }
    let setting = Setting::new();
    let ended = setting.send_all(&[path]).expect(0);
    assert_eq!(setting.received("kallsyms"), content);
    assert_eq!(ended.file("kallsyms")["size"], content.len());
    assert_eq!(ended.event("finished")["bytes"], content.len());
    // The same once more is no conflict.
    setting.send_all(&[path]).expect(0);
}

/// T10: an empty file stays one.
#[test]
fn t10_an_empty_file_is_empty() {
    let setting = Setting::new();
    fs::write(setting.path("empty"), b"").expect("a file");
    setting.send_all(&[&setting.path("empty")]).expect(0);
    assert_eq!(setting.received("empty"), b"");
}

/// T11: a link that a person names is followed; inside a tree links travel as links.
#[test]
fn t11_links_on_the_command_line_are_followed() {
    let setting = Setting::new();
    let data = setting.scratch.dir("data");
    fs::write(data.join("file"), b"content").expect("a file");
    symlink("file", data.join("inner")).expect("a link");
    symlink(data.join("file"), setting.path("latest")).expect("a link");
    symlink("latest", setting.path("twice")).expect("a link");
    symlink("data", setting.path("current")).expect("a link");
    // Of the same name as the directory that the other link leads to.
    let elsewhere = setting.scratch.dir("elsewhere");
    fs::create_dir(elsewhere.join("data")).expect("a directory");
    fs::write(elsewhere.join("data/file"), b"other content").expect("a file");
    symlink("elsewhere/data", setting.path("other")).expect("a link");

    let sources = ["latest", "twice", "current", "other"].map(|name| setting.path(name));
    setting.send_all(&sources.each_ref().map(PathBuf::as_path)).expect(0);
    for name in ["latest", "twice"] {
        assert!(!setting.inbox.join(name).is_symlink());
        assert_eq!(setting.received(name), b"content");
    }
    tree::assert_same(&data, &setting.inbox.join("current"));
    assert!(setting.inbox.join("current/inner").is_symlink());
    assert_eq!(setting.received("other/file"), b"other content");
}

/// T11: pipes and links to pipes are skipped.
#[test]
fn t11_a_link_to_a_pipe_is_not_sent_as_a_link() {
    let setting = Setting::new();
    let pipe = setting.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).expect("a FIFO");
    symlink("pipe", setting.path("link")).expect("a link");
    fs::write(setting.path("file"), b"content").expect("a file");
    let ended = setting.send_all(&[&setting.path("link"), &setting.path("file")]).expect(10);
    assert_eq!(ended.event("warning")["reason"], "special-file");
    assert_eq!(setting.received("file"), b"content");
    assert!(fs::symlink_metadata(setting.inbox.join("link")).is_err());
}

/// T12: what is missing is named, and the rest arrives.
#[test]
fn t12_a_missing_source_does_not_stop_the_others() {
    let setting = Setting::new();
    fs::write(setting.path("real"), b"content").expect("a file");
    symlink("nowhere", setting.path("dangling")).expect("a link");
    let receiver = Machine::new(setting.path("receiver"));
    let (receiving, listening) = receiver.listen_receive(&setting.inbox, &[]);
    let paths = ["missing", "real", "dangling"].map(|name| setting.path(name));
    let paths = paths.each_ref().map(|path| path.to_str().expect("a plain path"));
    let sent = setting.sender.send([&["--to", &listening.ticket], &paths[..]].concat()).expect(7);
    let received = receiving.end().expect(7);
    for side in [&sent, &received] {
        let said = side.said();
        assert!(
            ["missing", "dangling"].iter().all(|name| said.contains(&format!("{name}: No such"))),
            "{said}"
        );
        assert_eq!(side.event("finished")["failed"], 2);
        assert_eq!(side.event("finished")["gravest"], "source-unreadable");
    }
    assert_eq!(setting.received("real"), b"content");
}

/// T12: a sender with nothing to send says so before it dials.
#[test]
fn t12_only_missing_sources_is_an_error() {
    let setting = Setting::new();
    let ended = setting.send_all(&[&setting.path("one"), &setting.path("two")]).expect(7);
    let message = ended.event("error")["message"].as_str().expect("a text").to_owned();
    assert!(message.contains("/one") && message.contains("/two"), "{message}");
}

/// Sends a large file, slowly, and does something to it while it travels.
fn send_while(change: impl FnOnce(&Path), code: i32) -> (Setting, Vec<u8>, [Ended; 2]) {
    let setting = Setting::new();
    let source = setting.path("log");
    let bytes = Random::new(53).bytes((6 << 20) + 5);
    fs::write(&source, &bytes).expect("a file");
    let receiver = Machine::new(setting.path("receiver"));
    let (receiving, listening) = receiver.listen_receive(&setting.inbox, &[]);
    let path = source.to_str().expect("a plain path");
    let mut sender = setting.sender.start_send(["--to", &listening.ticket, "--bwlimit", "6M", path]);
    sender.wait_until("bytes on the way", |event| {
        event["event"] == "progress" && event["sent_bytes"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    change(&source);
    let ended = [sender.end().expect(code), receiving.end().expect(code)];
    (setting, bytes, ended)
}

/// T13: of a log that grows while being sent, the part that existed at the start arrives.
#[test]
fn t13_a_log_that_grows_is_delivered_as_it_was() {
    let append = |log: &Path| {
        let mut log = fs::File::options().append(true).open(log).expect("the log");
        log.write_all(b"another line\n").expect("it grows");
    };
    let (setting, bytes, ended) = send_while(append, 10);
    assert!(setting.received("log") == bytes, "what was there at the start");
    for side in ended {
        assert_eq!(side.event("warning")["reason"], "source-grew");
        assert_eq!(side.file("log")["outcome"], "written");
        let summary = side.event("finished");
        assert_eq!((&summary["gravest"], &summary["failed"]), (&"source-grew".into(), &0.into()));
    }
}

/// T13: a file that is longer and has other bytes is another version, and nothing of it is kept.
#[test]
fn t13_a_file_that_is_written_anew_is_not_delivered() {
    let rewrite = |file: &Path| {
        let file = fs::File::options().write(true).open(file).expect("the file");
        file.write_all_at(b"other bytes", 0).expect("its first bytes change");
        file.set_len(7 << 20).expect("it grows");
    };
    let (setting, _, ended) = send_while(rewrite, 7);
    assert_eq!(fs::read_dir(&setting.inbox).expect("the inbox").count(), 0);
    for side in ended {
        assert_eq!(side.file("log")["reason"], "source-changed");
    }
}

/// Fault 1: the sender kept every large file open until it was settled.
#[test]
fn fault_1_few_descriptors_are_enough_for_many_large_files() {
    const FILES: usize = 150;
    if !has("strace") {
        return;
    }
    let setting = Setting::new();
    let source = setting.scratch.dir("source");
    let bytes = Random::new(51).bytes(257 * 1024);
    for number in 0..FILES {
        fs::write(source.join(number.to_string()), &bytes).expect("a file");
    }
    let receiver = Machine::new(setting.path("receiver")).with_descriptors(48);
    let receiver = receiver.injecting("inject=fsync,fdatasync,syncfs:delay_exit=30000");
    let sender = Machine::new(setting.path("limited")).with_descriptors(48);
    let (receiving, listening) = receiver.listen_receive(&setting.inbox, &[]);
    let sent = sender.send(["--to", &listening.ticket, source.to_str().expect("a plain path")]).expect(0);
    receiving.end().expect(0);
    assert_eq!(sent.event("finished")["files"], FILES);
    tree::assert_same(&source, &setting.inbox.join("source"));
}

/// Fault 1: each source has a directory of its own.
#[test]
fn fault_1_few_descriptors_are_enough_for_sources_from_many_directories() {
    let setting = Setting::new();
    let sources: Vec<_> = (0..100)
        .map(|number| {
            let source = setting.scratch.dir(&format!("d{number}")).join(format!("f{number}"));
            fs::write(&source, number.to_string()).expect("a file");
            source
        })
        .collect();
    let setting = Setting { sender: Machine::new(setting.path("limited")).with_descriptors(64), ..setting };
    let ended = setting.send_all(&sources.iter().map(PathBuf::as_path).collect::<Vec<_>>()).expect(0);
    assert_eq!(ended.event("finished")["files"], 100);
    assert_eq!(setting.received("f99"), b"99");
}
