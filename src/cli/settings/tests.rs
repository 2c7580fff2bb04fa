//! From words on a command line and in a config file to settings.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::*;
use crate::app::settings::{
    CommonSettings, Compression, Delta, Exists, Machine, PartialAction, Peer, ReceiveSettings, SendSettings,
};
use crate::auth::Fingerprint;
use crate::session::Retry;
use crate::session::schedule::Schedule;
use crate::storage::fs::Selection;
use crate::testing::ticket::TICKET;
use crate::transport::Congestion;
use crate::transport::address::HostPort;

/// TICKET stands for a ticket, and FP for a fingerprint.
fn resolve(line: &str, config: &str) -> Result<Settings> {
    let line = &line.replace("TICKET", TICKET).replace("FP", &"a".repeat(52));
    let words = ["towline"].into_iter().chain(line.split_whitespace());
    Cli::try_parse_from(words)?.resolve(
        &ConfigFile::parse(config)?.0,
        &PeersFile::at(None),
        &mut std::io::empty(),
    )
}

fn send(line: &str, config: &str) -> SendSettings {
    match resolve(line, config).unwrap().command {
        Command::Send(settings) => settings,
        other => panic!("{other:?}"),
    }
}

fn receive(line: &str, config: &str) -> ReceiveSettings {
    match resolve(line, config).unwrap().command {
        Command::Receive(settings) => settings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults() {
    let settings = receive("receive", "");
    assert_eq!(settings.peer, None);
    assert_eq!(settings.into, PathBuf::from("."));
    assert_eq!((settings.rules.exists, settings.yes), (Exists::Refuse, false));
    let common = CommonSettings {
        listen: None,
        inherited: None,
        pki: None,
        port_range: None,
        wait: None,
        fingerprint: None,
        allowed: Vec::new(),
        remember: None,
        code_words: 2,
        uses: 1,
        expires: None,
        verify: false,
        streams: None,
        connections: None,
        chunk_size_bytes: 1 << 20,
        bwlimit: Schedule::default(),
        memory_bytes: 64 << 20,
        congestion: Congestion::Auto,
        timeout: Duration::from_secs(30),
        retry: Retry::For(Duration::from_secs(60)),
        disk_timeout: Duration::from_secs(600),
        path_memory: true,
        fsync: true,
    };
    assert_eq!(settings.common, common);
    assert_eq!(send("send a b", "").sources.len(), 2);
}

#[test]
fn old_files_are_used_unless_that_is_off() {
    assert_eq!(send("send a", "").delta, Delta::Auto);
    assert_eq!(send("send a", "delta = \"off\"").delta, Delta::Off);
    assert_eq!(send("send a --delta auto", "delta = \"off\"").delta, Delta::Auto);
    assert!(resolve("send a --delta always", "").is_err());
}

#[test]
fn background_needs_congestion_auto() {
    assert_eq!(send("send a --background", "").common.congestion, Congestion::Background);
    assert_eq!(send("send a", "background = true").common.congestion, Congestion::Background);
    let off = send("send a --background=no", "background = true\ncongestion = \"cubic\"");
    assert_eq!(off.common.congestion, Congestion::Cubic);
    for name in ["cubic", "newreno"] {
        let error = resolve(&format!("send a --background --congestion {name}"), "").unwrap_err();
        assert!(error.to_string().contains("--congestion auto"), "{error}");
    }
    assert!(resolve("receive --background", "").is_err());
}

#[test]
fn flags_override_the_file_which_overrides_defaults() {
    let file = "memory = \"32M\"\ntimeout = \"5s\"\ndisk-timeout = \"7s\"\nretry = \"forever\"\nno-fsync = true\nno-path-memory = true\nexists = \"skip\"\ninto = \"inbox\"\n\
                yes = true\nmanifest = \"m\"\nstreams = 3\nconnections = 2\nbwlimit = \"3M\"\n\
                congestion = \"newreno\"\nlisten = \"[::]:7\"";
    let from_file = receive("receive", file);
    assert_eq!(from_file.common.memory_bytes, 32 << 20);
    assert_eq!(from_file.common.bwlimit.greatest_rate(), NonZeroU64::new(3 << 20));
    assert_eq!(from_file.common.timeout, Duration::from_secs(5));
    assert_eq!(from_file.common.disk_timeout, Duration::from_secs(7));
    assert_eq!(from_file.common.retry, Retry::Forever);
    assert!(!from_file.common.fsync && !from_file.common.path_memory && from_file.yes);
    assert_eq!((from_file.rules.exists, from_file.into), (Exists::Skip, PathBuf::from("inbox")));
    assert_eq!(from_file.manifest, Some(PathBuf::from("m")));
    assert_eq!(from_file.common.listen, Some("[::]:7".parse().unwrap()));
    let flags = "receive --memory 16M --timeout 6s --disk-timeout 8s --retry 0 --no-fsync=false --no-path-memory=no --exists rename --into . --yes=no \
                 --manifest n --streams 4 --connections 3 --bwlimit off --congestion auto --listen 127.0.0.1:8";
    let from_flags = receive(flags, file);
    assert_eq!(from_flags.common.memory_bytes, 16 << 20);
    assert_eq!(from_flags.common.timeout, Duration::from_secs(6));
    assert_eq!(from_flags.common.disk_timeout, Duration::from_secs(8));
    assert_eq!(from_flags.common.retry, Retry::Off);
    assert!(from_flags.common.fsync && from_flags.common.path_memory && !from_flags.yes);
    assert_eq!((from_flags.rules.exists, from_flags.into), (Exists::Rename, PathBuf::from(".")));
    assert_eq!(from_flags.manifest, Some(PathBuf::from("n")));
    assert_eq!(from_flags.common.streams, Some(4));
    assert_eq!((from_file.common.connections, from_flags.common.connections), (Some(2), Some(3)));
    assert_eq!(from_flags.common.bwlimit, Schedule::default());
    assert_eq!(from_flags.common.congestion, Congestion::Auto);
    assert_eq!(from_flags.common.listen, Some("127.0.0.1:8".parse().unwrap()));
}

#[test]
fn t23_waiting_has_a_limit_when_one_is_given() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(receive("receive --wait 5m", "wait = \"7s\"").common.wait, seconds(300));
    assert_eq!(send("send a", "wait = \"7s\"").common.wait, seconds(7));
    assert_eq!(send("send a --wait off", "wait = \"7s\"").common.wait, None);
    assert_eq!(receive("receive", "wait = true").common.wait, None);
}

#[test]
fn peers_of_both_commands() {
    assert_eq!(send("send a", "to = \"dir:/x\"").peer, Some(Peer::Dir("/x".into())));
    let ticket = || Some(Peer::Ticket(TICKET.parse().unwrap()));
    assert_eq!(send("send a --to TICKET", "to = \"dir:/x\"").peer, ticket());
    let addresses = vec![HostPort { host: "h".into(), port: 4750 }];
    let host = Peer::Machine(Machine { addresses, fingerprint: Fingerprint::from_bytes([0; 32]) });
    assert_eq!(receive("receive --from h --fingerprint FP", "").peer, Some(host));
}

#[test]
fn t21_a_ticket_may_follow_the_sources() {
    let ticket = || Some(Peer::Ticket(TICKET.parse().unwrap()));
    let sent = send("send a b TICKET", "to = \"dir:/x\"");
    assert_eq!((sent.peer, sent.sources.len()), (ticket(), 2));
    assert_eq!(receive("receive TICKET", "from = \"tl1\"").peer, ticket());
    let (head, tail) = TICKET.split_at(60);
    assert_eq!(receive(&format!("receive --into d {head} {tail}"), "").peer, ticket());
    assert_eq!(send("send -r a", "").sources, [PathBuf::from("a")]);
}

#[test]
fn t19_invalid_settings_say_how_to_fix_them() {
    for (line, why) in [
        ("send a --chunk-size 3M", "--chunk-size 3M: expected a power of two from 1M to 64M"),
        ("send a --chunk-size 512k", "--chunk-size 512k: expected a power of two from 1M to 64M"),
        ("send a --chunk-size 128M", "--chunk-size 128M: expected a power of two from 1M to 64M"),
        ("send a --memory 4M", "--memory 4M: expected 8M to 1T"),
        (
            "send a --chunk-size 16M",
            "--memory 64M does not hold 8 chunks of 16M: use --memory 128M or more, or a smaller --chunk-size",
        ),
        ("send a --streams 0", "--streams 0: expected 1 to 1024"),
        ("send a --connections 17", "--connections 17: expected 1 to 16"),
        ("send a --timeout 10ms", "--timeout 10ms: expected 1s to 1day"),
        ("send a --timeout 2days", "--timeout 2days: expected 1s to 1day"),
        ("send a --disk-timeout 10ms", "--disk-timeout 10ms: expected 1s to 1day"),
        ("send a --retry 10ms", "--retry 10ms: expected 1s to 1day"),
        ("send a --retry 60", "expected a duration such as 60s or 5m, 0 or forever"),
        ("receive --wait 10ms", "--wait 10ms: expected 1s to 1year"),
        ("send a --wait 3years", "--wait 3years: expected 1s to 1year"),
        ("send TICKET", "nothing to send"),
        ("send TICKET a", "put it last, or use --to"),
        ("send a TICKET --to dir:x", "give one of them"),
        ("send a tl1abc", "the ticket is incomplete or mistyped"),
        ("receive TICKET --from TICKET", "give one of them"),
        ("receive inbox", "--into DIR"),
        ("receive --from tl2abc", "another version of towline"),
        ("send d d", "d and d would both be sent as d"),
        ("send a/n b/n/", "a/n and b/n/ would both be sent as n"),
        ("receive --fingerprint abc", "--fingerprint: a fingerprint has 52 characters"),
        ("send a -", "a file named `-` as `./-`"),
        ("send a --to host", "needs --fingerprint FP"),
        ("send a --to -", "--to: cannot read the peer from standard input: it is empty"),
        ("receive --from dir:/x", "use `towline send /x --to dir:…`"),
        ("receive --from 1-a-b", "--from: word 1 of the code is mistyped"),
        ("receive --into - --forever", "standard output (`-`) takes one file"),
        ("receive --into - --exists skip", "--exists does not go with standard output"),
        ("receive --into - --limit size=1G", "--limit does not go with standard output"),
        ("receive --into - --atomic", "--atomic does not go with standard output"),
        ("receive --into - --verify-disk", "--verify-disk does not go with standard output"),
        ("receive --into - --connections 2", "--connections does not go with standard output"),
        ("receive --into - --uses 2", "--uses 2 does not go with standard output"),
        ("receive --into - --from stdio:", "standard output leads to the other side"),
        ("receive --into - --list-partial", "standard output (`-`) takes one file"),
        ("receive --forever --words 3", "--forever does not go with --words: a side that stays has no code"),
    ] {
        let error = format!("{:#}", resolve(line, "").unwrap_err());
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn standard_input_is_a_source_of_its_own() {
    let name = |line: &str| send(line, "").stdin.map(|name| name.to_string());
    assert_eq!(name("send a"), None);
    assert_eq!(name("send -").unwrap(), "stdin");
    assert_eq!(name("send - TICKET --name db.sql").unwrap(), "db.sql");
    // The config file is about files as well.
    let config = "remove-source = true\nexclude = [\"*.o\"]\nfiles-from = \"list\"";
    let settings = send("send -", config);
    assert!(!settings.remove_source && *settings.selection == Selection::default());
    for (line, why) in [
        ("send - --to -", "so the peer cannot be read from it: use --to @FILE"),
        ("send - --to stdio:", "standard input leads to the other side"),
        ("send - --remove-source", "--remove-source is for files"),
        ("send - --files-from -", "--files-from is for files"),
        ("send - --exclude a", "--exclude is for files"),
        ("send - --uses 2", "which is read only once"),
        ("send - --forever", "--forever does not go with standard input"),
        ("send - --name a/b", "--name has a `/`"),
        ("send - --name ..", "--name: the path has a component `.` or `..`"),
        ("send - -", "standard input (`-`) is sent alone"),
        ("send a --name b", "--name names standard input"),
    ] {
        let error = format!("{:#}", resolve(line, "").unwrap_err());
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn a_move_deletes_nothing() {
    let refused = "--delete does not go with --remove-source";
    for (line, config) in
        [("send a --delete --remove-source", ""), ("send a --delete", "remove-source = true")]
    {
        let error = resolve(line, config).unwrap_err().to_string();
        assert!(error.contains(refused), "{error}");
    }
}

#[test]
fn compression_is_a_word_or_a_level() {
    let compression = |line: &str, config: &str| send(line, config).compression;
    assert_eq!(compression("send a", ""), Compression::Off);
    assert_eq!(compression("send a", "compress = \"auto\""), Compression::Auto);
    assert_eq!(compression("send a", "compress = \"off\""), Compression::Off);
    assert_eq!(compression("send a", "compress = 9"), Compression::Level(9));
    assert_eq!(compression("send a --compress 1", "compress = 9"), Compression::Level(1));
    for (line, config) in
        [("send a --compress 0", ""), ("send a --compress fast", ""), ("send a", "compress = 13")]
    {
        let error = format!("{:#}", resolve(line, config).unwrap_err());
        assert!(error.contains("expected auto, off, or a level from 1 to 12"), "{error}");
    }
}

#[test]
fn standard_output_is_for_the_data() {
    let settings =
        resolve("receive --into - --json", "atomic = true\nverify-disk = true\nconnections = 4").unwrap();
    assert!(settings.output.data_on_stdout && settings.command.writes_stdout());
    let Command::Receive(receive) = settings.command else { panic!("it receives") };
    assert!(receive.stdout && !receive.atomic && !receive.verify_disk);
    assert_eq!(receive.common.connections, Some(1));
    assert!(!resolve("receive --into ./-", "").unwrap().output.data_on_stdout);
    let bounded = resolve("receive --into -", "limit = [\"size=1G\"]").unwrap_err().to_string();
    assert!(bounded.contains("does not hold for standard output"), "{bounded}");
}

#[test]
fn the_config_file_lets_in_only_where_this_side_waits() {
    let allow = "allow = [\"laptop\"]";
    assert!(send("send a --to TICKET", allow).common.allowed.is_empty());
    for line in ["send a", "receive", "receive --forever"] {
        let error = resolve(line, allow).unwrap_err().to_string();
        assert!(error.starts_with("`allow` in the config file: `laptop` is not a known peer"), "{error}");
    }
}

#[test]
fn output_settings() {
    let output = resolve("id -vv --color never", "json = true\nno-progress = true").unwrap().output;
    assert!(output.json && !output.quiet && !output.progress);
    assert_eq!((output.verbose, output.color), (2, ui::Color::Never));
    let output = resolve("id new --json=no", "json = true\nverbose = 3\nquiet = true").unwrap().output;
    assert!(!output.json && output.quiet && output.progress);
    assert_eq!(output.verbose, 3);
    assert!(resolve("receive --fingerprint FP", "").unwrap().output.known_dialler);
}

#[test]
fn partial_files_are_listed_or_discarded() {
    let partial = |line: &str| match resolve(line, "into = \"inbox\"").unwrap().command {
        Command::Partial(settings) => settings,
        other => panic!("{other:?}"),
    };
    let settings = partial("receive --list-partial");
    assert_eq!((settings.into, settings.action), (PathBuf::from("inbox"), PartialAction::List));
    let settings = partial("receive --discard-partial --into d");
    assert_eq!(
        (settings.into, settings.action),
        (PathBuf::from("d"), PartialAction::Discard(Duration::ZERO))
    );
    let week = PartialAction::Discard(Duration::from_secs(7 * 24 * 60 * 60));
    assert_eq!(partial("receive --discard-partial 7d").action, week);
    let message = |line| resolve(line, "").unwrap_err().to_string();
    assert!(message("receive --list-partial --discard-partial").contains("give one of them"));
    assert!(message("receive TICKET --list-partial").contains("leave out the ticket"));
    assert!(resolve("receive --discard-partial old", "").is_err());
}

#[test]
fn a_profile_has_what_one_job_needs_and_flags_come_first() {
    let config = "memory = \"32M\"\n[profile.nightly]\nsources = [\"/etc\", \"/tmp\"]\nto = \"dir:/backup\"\nmemory = \"48M\"\n\
                  exclude = [\"*.tmp\"]\n[profile.empty]\n";
    let settings = send("send --profile nightly", config);
    assert_eq!(settings.sources, [PathBuf::from("/etc"), "/tmp".into()]);
    assert_eq!((settings.peer, settings.common.memory_bytes), (Some(Peer::Dir("/backup".into())), 48 << 20));
    let settings = send("send --profile nightly --memory 64M /dev", config);
    assert_eq!((settings.sources, settings.common.memory_bytes), (vec![PathBuf::from("/dev")], 64 << 20));
    assert_eq!(send("send /dev", config).common.memory_bytes, 32 << 20);
    let refused = |line| resolve(line, config).unwrap_err().to_string();
    assert!(refused("send --profile empty").contains("write `sources` into the profile"));
    assert!(refused("send --profile other /dev").contains("--profile other: there is no config file"));
    assert!(resolve("send", config).is_err());
}
