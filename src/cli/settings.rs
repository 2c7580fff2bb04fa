//! From what was given to what is meant: flag over variable (clap does that) over config file over default,
//! checked, and turned into the plain settings of `app` and `ui`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::args::{self, Cli, GeneralArgs, OutputArgs, ReceiveArgs, SendArgs, TransferArgs};
use super::config::Config;
use super::peer;
use super::size::{Wait, exact};
use crate::app::settings::{
    Command, CommonSettings, Exists, IdAction, IdSettings, Peer, ReceiveSettings, SendSettings,
};
use crate::auth::Fingerprint;
use crate::protocol::path::printable;
use crate::protocol::wire::limits::{CHUNK_LOG2_MAX, CHUNK_LOG2_MIN, CONNECTIONS_MAX, STREAMS_MAX};
use crate::transport::Congestion;
use crate::transport::address::HostPort;
use crate::ui;

mod bench;

/// `--chunk-size` by default.
pub const CHUNK_BYTES_DEFAULT: u64 = 1 << 20;
/// `--memory` by default.
pub const MEMORY_BYTES_DEFAULT: u64 = 64 << 20;
/// `--memory` at least.
pub const MEMORY_BYTES_MIN: u64 = 8 << 20;
/// `--memory` at most.
pub const MEMORY_BYTES_MAX: u64 = 1 << 40;
/// Chunks that the memory must hold.
pub const MEMORY_CHUNKS_MIN: u64 = 8;
/// `--timeout` by default.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// `--disk-timeout` by default.
pub const DISK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10 * 60);
/// `--timeout` and `--disk-timeout` at least.
pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// `--timeout` and `--disk-timeout` at most.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// `--wait` at least.
pub const WAIT_MIN: Duration = Duration::from_secs(1);
/// `--wait` at most.
pub const WAIT_MAX: Duration = Duration::from_secs(31_557_600);

/// What one run is asked to do and to show.
#[derive(Debug)]
pub struct Settings {
    /// For `app`.
    pub command: Command,
    /// For `ui`.
    pub output: ui::Options,
}

impl Cli {
    /// Where the config file is to be read from, when that was said.
    pub fn config_path(&self) -> Option<&std::path::Path> {
        let GeneralArgs { config } = match &self.command {
            args::Command::Send(a) => &a.general,
            args::Command::Receive(a) => &a.general,
            args::Command::Bench(a) => &a.general,
            args::Command::Id(a) => &a.general,
        };
        config.as_deref()
    }

    /// Resolves everything. `stdin` is read only for `--to -` and `--from -`.
    ///
    /// # Errors
    /// What was given cannot be meant; the error says why and how to mend it. All of them are usage errors.
    pub fn resolve(self, config: Config, stdin: &mut dyn Read) -> Result<Settings> {
        let (mut output, command) = match self.command {
            args::Command::Send(mut a) => {
                let output = resolve_output(std::mem::take(&mut a.output), &config);
                (output, Command::Send(resolve_send(a, config, stdin)?))
            }
            args::Command::Receive(mut a) => {
                let output = resolve_output(std::mem::take(&mut a.output), &config);
                (output, Command::Receive(resolve_receive(a, config, stdin)?))
            }
            args::Command::Bench(mut a) => {
                let output = resolve_output(std::mem::take(&mut a.output), &config);
                (output, Command::Bench(bench::resolve(a, config, stdin)?))
            }
            args::Command::Id(a) => {
                let action = match a.action {
                    args::IdAction::Show => IdAction::Show,
                    args::IdAction::New => IdAction::New,
                };
                (resolve_output(a.output, &config), Command::Id(IdSettings { action }))
            }
        };
        output.known_dialler = match &command {
            Command::Send(s) => s.common.fingerprint.is_some(),
            Command::Receive(s) => s.common.fingerprint.is_some(),
            Command::Bench(s) => s.common.fingerprint.is_some(),
            Command::Id(_) => false,
        };
        Ok(Settings { command, output })
    }
}

fn resolve_send(mut given: SendArgs, config: Config, stdin: &mut dyn Read) -> Result<SendSettings> {
    let ticket = take_ticket(&mut given.sources)?;
    ensure!(
        ticket.is_none() || given.to.is_none(),
        "a ticket stands behind the sources, and --to (or TOWLINE_TO) names a peer too: give one of them"
    );
    for source in &given.sources {
        ensure!(
            !source.as_os_str().is_empty(),
            "a SOURCE is empty: expected the path of a file or directory"
        );
        ensure!(
            source.as_os_str() != "-",
            "this version of towline does not send standard input; a file that is called `-` is `./-`"
        );
    }
    refuse_same_names(&given.sources)?;
    let to = ticket.or(given.to).or_else(|| config.to.as_deref().map(OsString::from));
    let manifest = given.manifest.or_else(|| config.manifest.clone());
    let mut common = resolve_common(given.transfer, given.wait, &config)?;
    if given.background.or(config.background).unwrap_or(false) {
        ensure!(
            common.congestion == Congestion::Auto,
            "--background goes with --congestion auto only: cubic and newreno make way for nobody"
        );
        common.congestion = Congestion::Background;
    }
    let peer = resolve_peer(to.as_deref(), "--to", &common, stdin)?;
    Ok(SendSettings { sources: given.sources, peer, manifest, common })
}

/// Takes a ticket from behind the sources, where people of other programs put it. A file of that name goes before.
fn take_ticket(sources: &mut Vec<PathBuf>) -> Result<Option<OsString>> {
    let is_ticket = |source: &PathBuf| {
        source.to_str().is_some_and(peer::may_be_ticket) && source.symlink_metadata().is_err()
    };
    let ticket = sources.pop_if(|source| is_ticket(source)).map(PathBuf::into_os_string);
    ensure!(
        !sources.iter().any(is_ticket),
        "a ticket stands among the sources: give it at the end, or with --to"
    );
    ensure!(
        ticket.is_none() || !sources.is_empty(),
        "there is a ticket, but nothing to send: name a SOURCE before it"
    );
    Ok(ticket)
}

/// Two sources of one name would be one at the receiver.
fn refuse_same_names(sources: &[PathBuf]) -> Result<()> {
    let shown = |path: &PathBuf| printable(path.as_os_str().as_encoded_bytes());
    let mut named: HashMap<OsString, &PathBuf> = HashMap::new();
    for source in sources {
        // A path that ends with `..` gets its name from the file system.
        let real = source.file_name().is_none().then(|| source.canonicalize().ok()).flatten();
        let Some(name) = real.as_deref().unwrap_or(source).file_name() else { continue };
        if let Some(other) = named.insert(name.to_owned(), source) {
            bail!(
                "{} and {} would both be sent as {}: send them one after the other, or from directories of other names",
                shown(other),
                shown(source),
                printable(name.as_encoded_bytes())
            );
        }
    }
    Ok(())
}

fn resolve_receive(given: ReceiveArgs, config: Config, stdin: &mut dyn Read) -> Result<ReceiveSettings> {
    let ticket = joined_ticket(&given.ticket)?;
    ensure!(
        ticket.is_none() || given.from.is_none(),
        "a ticket is given, and --from (or TOWLINE_FROM) names a peer too: give one of them"
    );
    let from = ticket.or(given.from).or_else(|| config.from.as_deref().map(OsString::from));
    let manifest = given.manifest.or_else(|| config.manifest.clone());
    let common = resolve_common(given.transfer, given.wait, &config)?;
    let peer = resolve_peer(from.as_deref(), "--from", &common, stdin)?;
    if let Some(Peer::Dir(path)) = &peer {
        let path = printable(path.as_os_str().as_encoded_bytes());
        bail!("--from takes no `dir:`; to copy from a directory use `towline send {path} --to dir:…`");
    }
    let into = given.into.or(config.into).unwrap_or_else(|| PathBuf::from("."));
    ensure!(!into.as_os_str().is_empty(), "--into is empty: expected the path of a directory");
    ensure!(
        into.as_os_str() != "-",
        "this version of towline does not write to standard output; a directory that is called `-` is `./-`"
    );
    let exists = match given.exists.or(config.exists) {
        None | Some(args::Exists::Refuse) => Exists::Refuse,
        Some(args::Exists::Skip) => Exists::Skip,
        Some(args::Exists::Replace) => Exists::Replace,
        Some(args::Exists::Rename) => Exists::Rename,
    };
    let yes = given.yes.or(config.yes).unwrap_or(false);
    Ok(ReceiveSettings { peer, into, exists, yes, manifest, common })
}

/// The ticket of `towline receive TICKET`; a shell takes one that is folded for several words.
fn joined_ticket(words: &[OsString]) -> Result<Option<OsString>> {
    let Some(first) = words.first() else { return Ok(None) };
    let shown = printable(first.as_encoded_bytes());
    let is_ticket = first.to_str().is_some_and(peer::may_be_ticket);
    ensure!(is_ticket, "`{shown}` is not a ticket (tl1…). --from PEER says where from, --into DIR where to");
    Ok(Some(words.join(OsStr::new(" "))))
}

fn resolve_peer(
    text: Option<&OsStr>,
    flag: &str,
    common: &CommonSettings,
    stdin: &mut dyn Read,
) -> Result<Option<Peer>> {
    let Some(text) = text else { return Ok(None) };
    let peer = peer::read(text, stdin).context(flag.to_owned())?;
    if let Peer::Host(HostPort { host, .. }) = &peer {
        ensure!(
            common.fingerprint.is_some(),
            "{flag}: who `{host}` must be is not known; add --fingerprint FP with the fingerprint that it \
             prints when it waits, or give the ticket (tl1…) that it prints instead of its name"
        );
    }
    Ok(Some(peer))
}

fn parse_fingerprint(text: &str) -> Result<Fingerprint> {
    let text = text.trim();
    ensure!(!text.is_empty(), "--fingerprint is empty: `towline id` prints a fingerprint");
    text.parse()
        .map_err(|error| anyhow!("--fingerprint: {error}; `towline id` on the other machine prints it"))
}

fn resolve_common(given: TransferArgs, wait: Option<Wait>, config: &Config) -> Result<CommonSettings> {
    let fingerprint = given.fingerprint.or_else(|| config.fingerprint.clone());
    let fingerprint = fingerprint.as_deref().map(parse_fingerprint).transpose()?;
    let streams = given.streams.or(config.streams);
    if let Some(streams) = streams {
        ensure!((1..=STREAMS_MAX).contains(&streams), "--streams {streams}: expected 1 to {STREAMS_MAX}");
    }
    let connections = given.connections.or(config.connections);
    if let Some(connections) = connections {
        ensure!(
            (1..=CONNECTIONS_MAX).contains(&connections),
            "--connections {connections}: expected 1 to {CONNECTIONS_MAX}"
        );
    }
    let chunk_size_bytes = given.chunk_size.or(config.chunk_size).unwrap_or(CHUNK_BYTES_DEFAULT);
    let (chunk_min, chunk_max) = (1 << CHUNK_LOG2_MIN, 1 << CHUNK_LOG2_MAX);
    ensure!(
        chunk_size_bytes.is_power_of_two() && (chunk_min..=chunk_max).contains(&chunk_size_bytes),
        "--chunk-size {}: expected a power of two from {} to {}",
        exact(chunk_size_bytes),
        exact(chunk_min),
        exact(chunk_max),
    );
    let memory_bytes = given.memory.or(config.memory).unwrap_or(MEMORY_BYTES_DEFAULT);
    check_memory(memory_bytes, chunk_size_bytes)?;
    let timeout = given.timeout.or(config.timeout).unwrap_or(TIMEOUT_DEFAULT);
    check_duration("--timeout", timeout, TIMEOUT_MIN..=TIMEOUT_MAX)?;
    let disk_timeout = given.disk_timeout.or(config.disk_timeout).unwrap_or(DISK_TIMEOUT_DEFAULT);
    check_duration("--disk-timeout", disk_timeout, TIMEOUT_MIN..=TIMEOUT_MAX)?;
    let wait = wait.or(config.wait).and_then(Wait::limit);
    if let Some(wait) = wait {
        check_duration("--wait", wait, WAIT_MIN..=WAIT_MAX)?;
    }
    let congestion = match given.congestion.or(config.congestion) {
        None | Some(args::Congestion::Auto) => Congestion::Auto,
        Some(args::Congestion::Cubic) => Congestion::Cubic,
        Some(args::Congestion::NewReno) => Congestion::NewReno,
    };
    Ok(CommonSettings {
        listen: given.listen.or(config.listen),
        wait,
        fingerprint,
        streams,
        connections,
        chunk_size_bytes,
        bwlimit: given.bwlimit.or_else(|| config.bwlimit.clone()).unwrap_or_default(),
        memory_bytes,
        congestion,
        timeout,
        disk_timeout,
        fsync: !given.no_fsync.or(config.no_fsync).unwrap_or(false),
    })
}

fn check_memory(memory_bytes: u64, chunk_size_bytes: u64) -> Result<()> {
    ensure!(
        (MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&memory_bytes),
        "--memory {}: expected {} to {}",
        exact(memory_bytes),
        exact(MEMORY_BYTES_MIN),
        exact(MEMORY_BYTES_MAX),
    );
    let needed = MEMORY_CHUNKS_MIN * chunk_size_bytes;
    ensure!(
        memory_bytes >= needed,
        "--memory {} does not hold {MEMORY_CHUNKS_MIN} chunks of {}: use --memory {} or more, or a smaller \
         --chunk-size",
        exact(memory_bytes),
        exact(chunk_size_bytes),
        exact(needed),
    );
    Ok(())
}

fn check_duration(flag: &str, given: Duration, allowed: RangeInclusive<Duration>) -> Result<()> {
    ensure!(
        allowed.contains(&given),
        "{flag} {}: expected {} to {}",
        humantime::format_duration(given),
        humantime::format_duration(*allowed.start()),
        humantime::format_duration(*allowed.end()),
    );
    Ok(())
}

fn resolve_output(given: OutputArgs, config: &Config) -> ui::Options {
    ui::Options {
        json: given.json.or(config.json).unwrap_or(false),
        quiet: given.quiet.or(config.quiet).unwrap_or(false),
        verbose: if given.verbose > 0 { given.verbose } else { config.verbose.unwrap_or(0) },
        progress: !given.no_progress.or(config.no_progress).unwrap_or(false),
        color: match given.color.or(config.color) {
            None | Some(args::Color::Auto) => ui::Color::Auto,
            Some(args::Color::Always) => ui::Color::Always,
            Some(args::Color::Never) => ui::Color::Never,
        },
        known_dialler: false,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use clap::Parser;

    use super::*;
    use crate::cli::TICKET;
    use crate::session::schedule::Schedule;

    /// TICKET stands for a ticket, and FP for a fingerprint.
    fn resolve(line: &str, config: &str) -> Result<Settings> {
        let line = &line.replace("TICKET", TICKET).replace("FP", &"a".repeat(52));
        let words = ["towline"].into_iter().chain(line.split_whitespace());
        Cli::try_parse_from(words)?.resolve(Config::parse(config)?, &mut std::io::empty())
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
        assert_eq!((settings.exists, settings.yes), (Exists::Refuse, false));
        let common = CommonSettings {
            listen: None,
            wait: None,
            fingerprint: None,
            streams: None,
            connections: None,
            chunk_size_bytes: 1 << 20,
            bwlimit: Schedule::default(),
            memory_bytes: 64 << 20,
            congestion: Congestion::Auto,
            timeout: Duration::from_secs(30),
            disk_timeout: Duration::from_secs(600),
            fsync: true,
        };
        assert_eq!(settings.common, common);
        assert_eq!(send("send a b", "").sources.len(), 2);
    }

    #[test]
    fn in_the_background_there_is_one_congestion_control() {
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
    fn a_flag_goes_before_the_file_and_that_before_the_default() {
        let file = "memory = \"32M\"\ntimeout = \"5s\"\ndisk-timeout = \"7s\"\nno-fsync = true\nexists = \"skip\"\ninto = \"inbox\"\n\
                    yes = true\nmanifest = \"m\"\nstreams = 3\nconnections = 2\nbwlimit = \"3M\"\n\
                    congestion = \"newreno\"\nlisten = \"[::]:7\"";
        let from_file = receive("receive", file);
        assert_eq!(from_file.common.memory_bytes, 32 << 20);
        assert_eq!(from_file.common.bwlimit.greatest_rate(), NonZeroU64::new(3 << 20));
        assert_eq!(from_file.common.timeout, Duration::from_secs(5));
        assert_eq!(from_file.common.disk_timeout, Duration::from_secs(7));
        assert!(!from_file.common.fsync && from_file.yes);
        assert_eq!((from_file.exists, from_file.into), (Exists::Skip, PathBuf::from("inbox")));
        assert_eq!(from_file.manifest, Some(PathBuf::from("m")));
        assert_eq!(from_file.common.listen, Some("[::]:7".parse().unwrap()));
        let flags = "receive --memory 16M --timeout 6s --disk-timeout 8s --no-fsync=false --exists rename --into . --yes=no \
                     --manifest n --streams 4 --connections 3 --bwlimit off --congestion auto --listen 127.0.0.1:8";
        let from_flags = receive(flags, file);
        assert_eq!(from_flags.common.memory_bytes, 16 << 20);
        assert_eq!(from_flags.common.timeout, Duration::from_secs(6));
        assert_eq!(from_flags.common.disk_timeout, Duration::from_secs(8));
        assert!(from_flags.common.fsync && !from_flags.yes);
        assert_eq!((from_flags.exists, from_flags.into), (Exists::Rename, PathBuf::from(".")));
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
        let host = Peer::Host(HostPort { host: "h".into(), port: 4750 });
        assert_eq!(receive("receive --from h --fingerprint FP", "").peer, Some(host));
    }

    #[test]
    fn t21_a_ticket_may_stand_where_people_of_other_programs_put_it() {
        let ticket = || Some(Peer::Ticket(TICKET.parse().unwrap()));
        let sent = send("send a b TICKET", "to = \"dir:/x\"");
        assert_eq!((sent.peer, sent.sources.len()), (ticket(), 2));
        assert_eq!(receive("receive TICKET", "from = \"tl1\"").peer, ticket());
        let (head, tail) = TICKET.split_at(60);
        assert_eq!(receive(&format!("receive --into d {head} {tail}"), "").peer, ticket());
        assert_eq!(send("send -r a", "").sources, [PathBuf::from("a")]);
    }

    #[test]
    fn a_file_that_is_called_like_a_ticket_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tl1abc");
        std::fs::write(&path, "").unwrap();
        let mut sources = vec![path.clone(), path];
        assert_eq!(take_ticket(&mut sources).unwrap(), None);
        assert_eq!(sources.len(), 2);
    }

    #[test]
    fn t19_what_cannot_be_meant_says_how_to_mend_it() {
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
            ("receive --wait 10ms", "--wait 10ms: expected 1s to 1year"),
            ("send a --wait 3years", "--wait 3years: expected 1s to 1year"),
            ("send TICKET", "nothing to send"),
            ("send TICKET a", "give it at the end, or with --to"),
            ("send a TICKET --to dir:x", "give one of them"),
            ("send a tl1abc", "the ticket is incomplete or mistyped"),
            ("receive TICKET --from TICKET", "give one of them"),
            ("receive inbox", "--into DIR"),
            ("receive --from tl2abc", "another version of towline"),
            ("send d d", "d and d would both be sent as d"),
            ("send a/n b/n/", "a/n and b/n/ would both be sent as n"),
            ("receive --fingerprint abc", "--fingerprint: a fingerprint has 52 characters"),
            ("send a -", "a file that is called `-` is `./-`"),
            ("send a --to host", "add --fingerprint FP"),
            ("send a --to -", "--to: cannot take the peer from standard input: it is empty"),
            ("receive --from dir:/x", "use `towline send /x --to dir:…`"),
            ("receive --from 1-a-b", "--from: this version of towline does not know one-time codes"),
            ("receive --into -", "does not write to standard output"),
        ] {
            let error = format!("{:#}", resolve(line, "").unwrap_err());
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn what_is_shown() {
        let output = resolve("id -vv --color never", "json = true\nno-progress = true").unwrap().output;
        assert!(output.json && !output.quiet && !output.progress);
        assert_eq!((output.verbose, output.color), (2, ui::Color::Never));
        let output = resolve("id new --json=no", "json = true\nverbose = 3\nquiet = true").unwrap().output;
        assert!(!output.json && output.quiet && output.progress);
        assert_eq!(output.verbose, 3);
        assert!(resolve("receive --fingerprint FP", "").unwrap().output.known_dialler);
    }
}
