//! `towline bench` end to end: alone, with a peer, on a disk, and against other commands.

use std::fs;
use std::path::Path;

use crate::support::cgroup::Group;
use crate::support::host::skip;
use crate::support::setting::Setting;
use rustix::process::Signal;
use serde_json::Value;

#[track_caller]
fn assert_empty(dir: &Path) {
    let left: Vec<_> = fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The figures of a `bench` event can be true.
#[track_caller]
fn assert_measured(bench: &Value, bytes: u64) {
    assert_eq!(bench["bytes"], bytes, "{bench}");
    assert_eq!(bench["failed"], 0, "{bench}");
    for key in ["seconds", "rtt_seconds", "cpu_seconds", "cpu_seconds_per_gib"] {
        assert!(bench[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {bench}");
    }
    for key in ["files", "rate", "sent_packets", "streams"] {
        assert!(bench[key].as_u64().is_some_and(|figure| figure > 0), "{key}: {bench}");
    }
    assert!(bench["lost_packets"].is_u64(), "{bench}");
    assert!(bench["mtu_bytes"].as_u64().is_some_and(|mtu| (1200..=65_527).contains(&mtu)), "{bench}");
    assert!(!bench["limited_by"].is_null(), "{bench}");
}

#[test]
fn alone_from_memory_to_nothing() {
    let setting = Setting::new();
    let ended = setting.sender.bench(["--size", "20M", "--streams", "3", "--memory", "16M"]).expect(0);
    let bench = ended.event("bench");
    assert_measured(bench, 20 << 20);
    assert_eq!((&bench["side"], &bench["with"]), (&"sender".into(), &"itself".into()));
    assert_eq!((&bench["storage"], &bench["files"]), (&"memory".into(), &1.into()));
    assert_eq!(bench["streams"], 3);
    assert_eq!(ended.event("started")["side"], "sender");
    assert_eq!(ended.events.last(), Some(bench));
    assert_eq!(ended.events("finished").count() + ended.events("file").count(), 0);
    assert_eq!(ended.stderr, "");
}

#[test]
fn many_small_files() {
    let setting = Setting::new();
    let ended = setting.sender.bench(["--files", "3000"]).expect(0);
    assert_measured(ended.event("bench"), 3000 * 4096);
    assert_eq!(ended.event("bench")["files"], 3000);
    assert_eq!(ended.events("file").count(), 0);
}

#[test]
fn only_the_table_is_data() {
    let setting = Setting::new();
    let output = setting.sender.command(["bench", "--size", "2M"]).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).expect("text");
    let names: Vec<_> = table.lines().map(|line| line[..12].trim_end()).collect();
    assert_eq!(
        names,
        ["transfer", "time", "goodput", "round trip", "packets", "MTU", "streams", "processor", "limited by"]
    );
    assert!(table.starts_with("transfer    2.00 MiB in 1 file sent and received, from memory to nothing\n"));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("goodput"));
}

#[test]
fn both_sides_of_a_bench_report() {
    let setting = Setting::new();
    let (waiting, listening) = setting.receiver.listen_bench(&[]);
    let sent = setting.sender.bench(["--to", &listening.ticket, "--size", "10M"]).expect(0);
    let received = waiting.end().expect(0);
    for (ended, side) in [(&sent, "sender"), (&received, "receiver")] {
        let bench = ended.event("bench");
        assert_measured(bench, 10 << 20);
        assert_eq!((&bench["side"], &bench["with"]), (&side.into(), &"peer".into()));
        assert_eq!(ended.events.last(), Some(bench));
    }
    assert_eq!(sent.event("connected")["fingerprint"], listening.fingerprint.as_str());
}

#[test]
fn a_quota_on_the_processor_is_the_processor() {
    let Some(group) = Group::with_quota(5) else {
        return skip("a group of processes with a quota cannot be made (it needs root and cgroups)");
    };
    let setting = Setting::new();
    let (waiting, listening) = setting.receiver.listen_bench(&[]);
    group.take(waiting.pid());
    let here = setting.sender.bench(["--to", &listening.ticket, "--size", "48M"]).expect(0);
    let there = waiting.end().expect(0);
    for bench in [here.event("bench"), there.event("bench")] {
        assert_eq!(bench["limited_by"], "processor", "{bench}");
    }
}

#[test]
fn a_waiting_bench_refuses_other_commands() {
    let setting = Setting::new();
    let file = setting.scratch.path().join("file");
    fs::write(&file, b"for a receiver that keeps it").expect("a file");
    let inbox = setting.scratch.dir("into");
    let (waiting, listening) = setting.receiver.listen_bench(&[]);
    let (file, inbox) = (file.to_str().expect("a plain path"), inbox.to_str().expect("a plain path"));
    let sent = setting.sender.send([file, "--to", &listening.ticket]).expect(3);
    let fetched = setting.sender.receive(["--from", &listening.ticket, "--into", inbox]).expect(3);
    for (ended, command) in [(sent, "towline send"), (fetched, "towline receive")] {
        assert_eq!(ended.event("error")["reason"], "incompatible");
        let message = ended.event("error")["message"].as_str().expect("a sentence");
        assert!(message.contains("towline bench") && message.contains(command), "{message}");
    }
    // The ticket has not been used.
    setting.sender.bench(["--to", &listening.ticket, "--size", "1"]).expect(0);
    waiting.end().expect(0);
    assert_empty(Path::new(inbox));
}

#[test]
fn a_waiting_transfer_refuses_a_bench() {
    let setting = Setting::new();
    let file = setting.scratch.path().join("file");
    fs::write(&file, b"x").expect("a file");
    let inbox = setting.scratch.dir("into");
    let (receiver, to_receiver) = setting.receiver.listen_receive(&inbox, &[]);
    let (sender, to_sender) = setting.receiver.listen_send(&file, &[]);
    for ticket in [&to_receiver.ticket, &to_sender.ticket] {
        let refused = setting.sender.bench(["--to", ticket, "--size", "1M"]).expect(3);
        assert_eq!(refused.event("error")["reason"], "incompatible");
        assert_eq!(refused.events("bench").count(), 0);
    }
    assert_empty(&inbox);
    // Both go on waiting for their counterparts.
    setting.sender.send([file.to_str().expect("a plain path"), "--to", &to_receiver.ticket]).expect(0);
    let other = setting.scratch.dir("other");
    let other = other.to_str().expect("a plain path");
    setting.sender.receive(["--from", &to_sender.ticket, "--into", other]).expect(0);
    receiver.end().expect(0);
    sender.end().expect(0);
}

#[test]
fn disk_to_disk_leaves_nothing_behind() {
    let setting = Setting::new();
    let ended = setting.sender.bench(["--disk", setting.inbox(), "--size", "3M"]).expect(0);
    let preparing = ended.event("preparing");
    assert_eq!((&preparing["bytes"], &preparing["space_bytes"]), (&(3 << 20).into(), &(6 << 20).into()));
    assert_measured(ended.event("bench"), 3 << 20);
    assert_eq!(ended.event("bench")["storage"], "disk");
    assert_empty(&setting.inbox);
}

#[test]
fn each_side_of_two_has_a_disk_or_none() {
    let setting = Setting::new();
    for (here, there) in [(true, false), (false, true), (true, true)] {
        let args = ["--disk", setting.inbox()];
        let (waiting, listening) = setting.receiver.listen_bench(if there { &args } else { &[] });
        let mut sending = vec!["--to", &listening.ticket, "--files", "20"];
        sending.extend_from_slice(if here { &args } else { &[] });
        let sent = setting.sender.bench(sending).expect(0);
        let received = waiting.end().expect(0);
        for (ended, has_disk) in [(sent, here), (received, there)] {
            assert_measured(ended.event("bench"), 20 * 4096);
            let storage = if has_disk { "disk" } else { "memory" };
            assert_eq!(ended.event("bench")["storage"], storage);
        }
        assert_empty(&setting.inbox);
    }
}

#[test]
fn a_signal_leaves_nothing_behind() {
    for at in ["preparing", "started"] {
        let setting = Setting::new();
        let mut bench =
            setting.sender.start(["bench", "--json", "--disk", setting.inbox(), "--size", "128M"]);
        bench.wait_for(at);
        bench.signal(Signal::INT);
        let ended = bench.end().expect(130);
        assert_eq!(ended.event("error")["reason"], "interrupted");
        assert_eq!(ended.events("bench").count(), 0);
        assert_empty(&setting.inbox);
    }
}

#[test]
fn a_missing_or_small_disk_is_refused_before_writing() {
    let setting = Setting::new();
    let refused = setting.sender.bench(["--disk", setting.inbox(), "--size", "1048576T"]).expect(6);
    assert_eq!(refused.event("error")["reason"], "storage");
    let message = refused.event("error")["message"].as_str().expect("a sentence");
    let needed = (2u64 << 60).to_string();
    assert!(message.contains(&needed) && message.contains("are free"), "{message}");
    assert_eq!(refused.events("preparing").count(), 0);
    assert_empty(&setting.inbox);
    let absent = setting.inbox.join("absent");
    let refused = setting.sender.bench(["--disk", absent.to_str().expect("a plain path")]).expect(6);
    assert!(refused.said().contains("absent"), "{}", refused.said());
}
