//! JSON Lines: one object per event. `docs/json.md` describes every field.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::format::bytes_per_second;
use crate::event::{
    Bench, Change, Event, FileSettled, KnownMachine, Listening, Outcome, PartialFile, Progress, Report,
    Setting, SettingFrom, Summary, TransferId,
};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::{RelPath, printable};
use crate::protocol::program_end::ProgramEnd;

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    fields: EventFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    transfer: Option<String>,
}

/// The fields of an event, in this order, `event` first. New fields are added at the end of their event.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum EventFields<'a> {
    Listening {
        side: &'static str,
        ticket: Option<&'a str>,
        code: Option<&'a str>,
        addresses: &'a [SocketAddr],
        fingerprint: &'a str,
    },
    Connected {
        address: SocketAddr,
        fingerprint: &'a str,
        agent: &'a str,
    },
    Asked {},
    Started {
        side: &'static str,
    },
    Reconnecting {
        limit_seconds: Option<f64>,
        message: &'a str,
    },
    Reconnected {
        seconds: f64,
    },
    Installing {
        host: String,
        place: String,
        bytes: u64,
    },
    Progress {
        elapsed_seconds: f64,
        walked: bool,
        total_files: u64,
        total_bytes: u64,
        sent_bytes: u64,
        written_bytes: u64,
        done_files: u64,
        waiting_for: Option<&'static str>,
        resumed_bytes: u64,
    },
    Resumed {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_bytes: Option<String>,
        size: u64,
        held_bytes: u64,
    },
    File {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_bytes: Option<String>,
        renamed: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        renamed_bytes: Option<String>,
        is_file: bool,
        size: u64,
        blake3: Option<String>,
        outcome: &'static str,
        reason: Option<&'static str>,
        message: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        removed: Option<bool>,
    },
    Change {
        change: &'static str,
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_bytes: Option<String>,
        renamed: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        renamed_bytes: Option<String>,
        is_file: bool,
        is_dir: bool,
        size: u64,
    },
    Warning {
        path: Option<&'a str>,
        reason: Option<&'static str>,
        message: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        not_kept: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
    },
    Finished {
        side: &'static str,
        files: u64,
        dirs: u64,
        links: u64,
        identical: u64,
        updated: u64,
        skipped: u64,
        failed: u64,
        gravest: Option<&'static str>,
        bytes: u64,
        seconds: f64,
        rate: u64,
        blake3: Option<String>,
        limited_by: &'static str,
        synced: bool,
        #[serde(skip_serializing_if = "is_false")]
        piped: bool,
        limited_by_shares: ShareMap<'a>,
        not_kept: CountMap<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        removed: Option<u64>,
        #[serde(skip_serializing_if = "is_zero")]
        left_out: u64,
        sent_bytes: u64,
        saved_bytes: u64,
        compression_ratio: f64,
        resumed_bytes: u64,
        copied_bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        verified_from_disk: Option<u64>,
        unchanged: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        exec: Option<ProgramFields>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        deleted: Option<u64>,
    },
    Setting {
        name: &'a str,
        value: Option<&'a str>,
        from: &'static str,
        place: Option<&'a str>,
    },
    Preparing {
        dir: String,
        bytes: u64,
        space_bytes: u64,
    },
    Bench {
        side: &'static str,
        with: &'static str,
        storage: &'static str,
        files: u64,
        failed: u64,
        bytes: u64,
        seconds: f64,
        rate: u64,
        rtt_seconds: f64,
        mtu_bytes: u16,
        sent_packets: u64,
        lost_packets: u64,
        streams: usize,
        cpu_seconds: f64,
        cpu_seconds_per_gib: f64,
        limited_by: &'static str,
        limited_by_shares: ShareMap<'a>,
    },
    Identity {
        fingerprint: &'a str,
        path: String,
        new: bool,
    },
    Peer(PeerFields<'a>),
    Remembered(PeerFields<'a>),
    Receipt {
        receipt: StatementMap<'a>,
        files_compared: bool,
    },
    Partial {
        sender: &'a str,
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_bytes: Option<String>,
        safe_bytes: u64,
        size: u64,
        age_seconds: f64,
        state: &'static str,
    },
    LeftOut {
        lines: u64,
    },
    Error {
        reason: &'static str,
        side: Option<&'static str>,
        message: &'a str,
        exit_code: u8,
        retryable: bool,
    },
}

/// A machine that this one knows.
#[derive(Serialize)]
struct PeerFields<'a> {
    name: &'a str,
    fingerprint: &'a str,
    may: &'a [&'static str],
    addresses: &'a [String],
    into: Option<&'a str>,
    exists: &'a [&'static str],
    quota_bytes: Option<u64>,
    limits: &'a [String],
}

impl<'a> PeerFields<'a> {
    fn of(peer: &'a KnownMachine) -> Self {
        let KnownMachine { name, fingerprint, may, addresses, into, exists, quota_bytes, limits } = peer;
        Self {
            name,
            fingerprint,
            may,
            addresses,
            into: into.as_deref(),
            exists,
            quota_bytes: *quota_bytes,
            limits,
        }
    }
}

/// How the program of `receive --exec` ended.
#[derive(Serialize)]
struct ProgramFields {
    end: &'static str,
    code: Option<u8>,
}

/// Bottlenecks as an object of percentages.
struct ShareMap<'a>(&'a [(Bottleneck, u8)]);

impl Serialize for ShareMap<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(bottleneck, percent)| (bottleneck.as_str(), percent)))
    }
}

/// How many entries each aspect was not kept of, as an object.
struct CountMap<'a>(&'a [NotKept]);

impl Serialize for CountMap<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|one| (one.aspect.as_str(), one.count)))
    }
}

/// The lines `name: value` of a receipt, as an object.
struct StatementMap<'a>(&'a str);

impl Serialize for StatementMap<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lines = self.0.lines().filter_map(|line| line.split_once(": "));
        serializer.collect_map(lines.map(|(name, value)| (name.replace(' ', "_"), value)))
    }
}

/// The line of an event.
pub(super) fn line(report: &Report) -> Vec<u8> {
    let fields = match &report.event {
        Event::Listening(listening) => self::listening(listening),
        Event::Connected { address, fingerprint, agent } => {
            EventFields::Connected { address: *address, fingerprint, agent }
        }
        Event::Asked => EventFields::Asked {},
        Event::Started { side, .. } => EventFields::Started { side: side.as_str() },
        Event::Reconnecting { limit, message } => {
            EventFields::Reconnecting { limit_seconds: limit.map(|limit| limit.as_secs_f64()), message }
        }
        Event::Reconnected { after } => EventFields::Reconnected { seconds: after.as_secs_f64() },
        Event::Installing { host, place, bytes } => {
            EventFields::Installing { host: host.clone(), place: place.clone(), bytes: *bytes }
        }
        Event::Progress(progress) => self::progress(progress),
        Event::Resumed { path, size, held_bytes } => {
            let (path, path_bytes) = self::path(path);
            EventFields::Resumed { path, path_bytes, size: *size, held_bytes: *held_bytes }
        }
        Event::File(file) => self::file(file),
        Event::Change(change) => self::change(change),
        Event::Warning { path, reason, message } => EventFields::Warning {
            path: path.as_deref(),
            reason: reason.map(Reason::as_str),
            message: message.into(),
            not_kept: None,
            count: None,
        },
        Event::Advice(advice) => EventFields::Warning {
            path: None,
            reason: None,
            message: super::advice::sentence(*advice).into(),
            not_kept: None,
            count: None,
        },
        Event::NotKept(one) => EventFields::Warning {
            path: Some(&one.path),
            reason: Some(Reason::NotKept.as_str()),
            message: one.to_string().into(),
            not_kept: Some(one.aspect.as_str()),
            count: Some(one.count),
        },
        Event::SourcesRemain { path, cause, count } => sources_remain(path, cause, *count),
        Event::Finished(summary) => self::finished(summary),
        Event::Failed(failure) => self::failed(failure, failure.reason.exit_code()),
        Event::Preparing { dir, bytes, space_bytes } => EventFields::Preparing {
            dir: printable(dir.as_os_str().as_encoded_bytes()),
            bytes: *bytes,
            space_bytes: *space_bytes,
        },
        Event::Bench(bench) => self::bench(bench),
        Event::Partial(partial) => self::partial(partial),
        Event::Receipt(receipt) => {
            EventFields::Receipt { receipt: StatementMap(&receipt.text), files_compared: receipt.has_files }
        }
        Event::Setting(setting) => shown_setting(setting),
        Event::Peer(peer) => EventFields::Peer(PeerFields::of(peer)),
        Event::Remembered(peer) => EventFields::Remembered(PeerFields::of(peer)),
        Event::Identity { fingerprint, path, is_new } => EventFields::Identity {
            fingerprint,
            path: printable(path.as_os_str().as_encoded_bytes()),
            new: *is_new,
        },
    };
    text(report.transfer, report.peer.as_deref(), fields)
}

fn sources_remain<'a>(path: &'a str, cause: &str, count: u64) -> EventFields<'a> {
    EventFields::Warning {
        path: Some(path),
        reason: Some(Reason::SourceRemains.as_str()),
        message: super::remaining::sentence(path, cause, count).into(),
        not_kept: None,
        count: Some(count),
    }
}

/// The last line of a failed run.
pub(super) fn error(transfer: Option<TransferId>, failure: &Failure, exit_code: u8) -> Vec<u8> {
    text(transfer, None, failed(failure, exit_code))
}

fn failed(failure: &Failure, exit_code: u8) -> EventFields<'_> {
    EventFields::Error {
        reason: failure.reason.as_str(),
        side: failure.side.map(|s| s.as_str()),
        message: &failure.message,
        exit_code,
        retryable: failure.reason.is_retryable(),
    }
}

/// Lines that are missing here, because their reader was too slow.
pub(super) fn left_out(lines: u64) -> Vec<u8> {
    text(None, None, EventFields::LeftOut { lines })
}

fn text(transfer: Option<TransferId>, peer: Option<&str>, fields: EventFields<'_>) -> Vec<u8> {
    let line = Line { fields, peer, transfer: transfer.map(|id| id.to_string()) };
    let mut text = Vec::with_capacity(256);
    match line.serialize(&mut Serializer::with_formatter(&mut text, TerminalSafe)) {
        Ok(()) => text.push(b'\n'),
        // Writing text and numbers to memory cannot fail. Half a line would be worse than none.
        Err(_) => text.clear(),
    }
    text
}

fn listening(listening: &Listening) -> EventFields<'_> {
    EventFields::Listening {
        side: listening.role.side().as_str(),
        ticket: listening.ticket.as_deref(),
        code: listening.code.as_deref(),
        addresses: &listening.addresses,
        fingerprint: &listening.fingerprint,
    }
}

fn progress(progress: &Progress) -> EventFields<'_> {
    EventFields::Progress {
        elapsed_seconds: progress.elapsed.as_secs_f64(),
        walked: progress.walked,
        total_files: progress.total_files,
        total_bytes: progress.total_bytes,
        sent_bytes: progress.sent_bytes,
        written_bytes: progress.written_bytes,
        done_files: progress.done_files,
        waiting_for: progress.waiting_for,
        resumed_bytes: progress.resumed_bytes,
    }
}

fn file(file: &FileSettled) -> EventFields<'_> {
    let (path, path_bytes) = path(&file.path);
    let (renamed, renamed_bytes) = file.renamed.as_ref().map(self::path).unzip();
    let (outcome, reason) = match file.outcome {
        Outcome::Written => ("written", None),
        Outcome::Staged => ("staged", None),
        Outcome::Identical => ("identical", None),
        Outcome::Unchanged => ("unchanged", None),
        Outcome::Planned(_) => ("planned", None),
        Outcome::Updated => ("updated", None),
        Outcome::Skipped => ("skipped", None),
        Outcome::NotKept => ("not-kept", None),
        Outcome::Failed(reason) => ("failed", Some(reason.as_str())),
    };
    EventFields::File {
        path,
        path_bytes,
        renamed,
        renamed_bytes: renamed_bytes.flatten(),
        is_file: file.is_file,
        size: file.size,
        blake3: file.blake3.map(|h| h.to_hex().to_string()),
        outcome,
        reason,
        message: file.message.as_deref(),
        removed: file.removed,
    }
}

fn change(change: &Change) -> EventFields<'_> {
    let (path, path_bytes) = path(&change.path);
    let (renamed, renamed_bytes) = change.renamed.as_ref().map(self::path).unzip();
    EventFields::Change {
        change: change.kind.as_str(),
        path,
        path_bytes,
        renamed,
        renamed_bytes: renamed_bytes.flatten(),
        is_file: change.is_file,
        is_dir: change.is_dir,
        size: change.size,
    }
}

fn partial(partial: &PartialFile) -> EventFields<'_> {
    let (path, path_bytes) = path(&partial.path);
    EventFields::Partial {
        sender: &partial.sender,
        path,
        path_bytes,
        safe_bytes: partial.safe_bytes,
        size: partial.size,
        age_seconds: partial.age.as_secs_f64(),
        state: partial.state.as_str(),
    }
}

/// The path, if it is UTF-8; otherwise a readable form, and the bytes in hexadecimal.
fn path(path: &RelPath) -> (String, Option<String>) {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (printable(path.as_bytes()), Some(data_encoding::HEXLOWER.encode(path.as_bytes()))),
    }
}

fn finished(summary: &Summary) -> EventFields<'_> {
    EventFields::Finished {
        side: summary.side.as_str(),
        files: summary.files,
        dirs: summary.dirs,
        links: summary.links,
        identical: summary.identical,
        updated: summary.updated,
        skipped: summary.skipped,
        failed: summary.failed,
        gravest: summary.gravest.map(Reason::as_str),
        bytes: summary.bytes,
        seconds: summary.elapsed.as_secs_f64(),
        rate: bytes_per_second(summary.new_bytes(), summary.elapsed),
        blake3: summary.blake3.map(|h| h.to_hex().to_string()),
        limited_by: greatest(summary),
        synced: summary.synced,
        piped: summary.piped,
        limited_by_shares: ShareMap(&summary.limited_by),
        not_kept: CountMap(&summary.not_kept),
        removed: summary.removed,
        left_out: summary.left_out,
        sent_bytes: summary.sent_bytes,
        saved_bytes: summary.saved_bytes,
        compression_ratio: (summary.compression_ratio() * 100.0).round() / 100.0,
        resumed_bytes: summary.resumed_bytes,
        copied_bytes: summary.copied_bytes,
        verified_from_disk: summary.verified,
        unchanged: summary.unchanged,
        exec: summary.program.map(program),
        dry_run: summary.is_dry,
        deleted: summary.deleted,
    }
}

fn shown_setting(setting: &Setting) -> EventFields<'_> {
    let (from, place) = match &setting.from {
        SettingFrom::Variable(name) => ("variable", Some(name.as_str())),
        SettingFrom::Profile(name) => ("profile", Some(name.as_str())),
        SettingFrom::File(path) => ("file", Some(path.as_str())),
        SettingFrom::Default => ("default", None),
    };
    EventFields::Setting { name: &setting.name, value: setting.value.as_deref(), from, place }
}

fn program(end: ProgramEnd) -> ProgramFields {
    let (end, code) = match end {
        ProgramEnd::Exited(code) => ("exited", Some(code)),
        ProgramEnd::Killed(signal) => ("killed", Some(signal)),
        ProgramEnd::TimedOut => ("timed-out", None),
        ProgramEnd::NotStarted => ("not-started", None),
    };
    ProgramFields { end, code }
}

fn bench(bench: &Bench) -> EventFields<'_> {
    let summary = &bench.summary;
    EventFields::Bench {
        side: summary.side.as_str(),
        with: if bench.with_itself { "itself" } else { "peer" },
        storage: if bench.on_disk { "disk" } else { "memory" },
        files: summary.files,
        failed: summary.failed,
        bytes: summary.bytes,
        seconds: summary.elapsed.as_secs_f64(),
        rate: bytes_per_second(summary.bytes, summary.elapsed),
        rtt_seconds: bench.rtt.as_secs_f64(),
        mtu_bytes: bench.mtu_bytes,
        sent_packets: bench.sent_packets,
        lost_packets: bench.lost_packets,
        streams: bench.streams,
        cpu_seconds: bench.cpu.as_secs_f64(),
        cpu_seconds_per_gib: super::bench::cpu_seconds_per_gib(bench),
        limited_by: greatest(summary),
        limited_by_shares: ShareMap(&summary.limited_by),
    }
}

/// The bottleneck with the largest share.
fn greatest(summary: &Summary) -> &'static str {
    summary.limited_by.first().map_or(Bottleneck::Network, |(bottleneck, _)| *bottleneck).as_str()
}

/// Compact JSON in which everything but printable ASCII is `\uXXXX`: the values stay exact, and a terminal that
/// shows them is not told what to do by a file name.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| !matches!(c, ' '..='~')) {
            writer.write_all(&fragment.as_bytes()[plain..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = at + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[plain..])
    }
}

#[cfg(test)]
mod tests;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
/// What is false is left out.
fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
