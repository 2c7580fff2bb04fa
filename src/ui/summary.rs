//! The last line of a transfer.

use std::time::Duration;

use super::format;
use crate::event::Summary;
use crate::protocol::failure::Side;
use crate::protocol::not_kept::Aspect;
use crate::protocol::program_end::ProgramEnd;

/// Shortest transfer whose summary says what limited it.
const LIMITED_MIN: Duration = Duration::from_secs(1);
/// Smallest share in percent that is shown.
const SHARE_MIN: u8 = 5;

/// What was transferred, how fast, how safe it is, and what limited it.
pub(super) fn summary_line(summary: &Summary) -> String {
    let verb = match (summary.side, summary.is_dry) {
        (Side::Sender, false) => "sent",
        (Side::Receiver, false) => "received",
        (Side::Sender, true) => "dry run, nothing was changed; would send",
        (Side::Receiver, true) => "dry run, nothing was changed; would receive",
    };
    let mut what: Vec<String> = [
        (summary.files, "file", "files"),
        (summary.links, "link", "links"),
        (summary.dirs, "directory", "directories"),
    ]
    .into_iter()
    .filter(|(number, ..)| *number > 0)
    .map(|(number, one, many)| format::count(number, one, many))
    .collect();
    let is_nothing = what.is_empty();
    // Nothing arrived, so nothing is safe.
    let has_nothing =
        is_nothing && summary.identical + summary.unchanged + summary.updated + summary.skipped == 0;
    if is_nothing {
        let nothing = if has_nothing && summary.failed > 0 { "nothing" } else { "nothing new" };
        what.push(nothing.to_owned());
    }
    let mut out = format!("{verb} {}", what.join(", "));
    if summary.bytes > 0 && summary.is_dry {
        out += &format!(", {}", format::bytes(summary.bytes));
    } else if summary.bytes > 0 {
        let rate = format::bytes(format::bytes_per_second(summary.new_bytes(), summary.elapsed));
        let (bytes, time) = (format::bytes(summary.bytes), format::duration(summary.elapsed));
        out += &format!(", {bytes}{} in {time} ({rate}/s)", not_sent(summary));
    }
    let says_nothing = summary.is_dry || has_nothing && summary.failed > 0;
    out += if says_nothing { "" } else { safety(summary, is_nothing) };
    if summary.saved_bytes > 0 {
        out += &format!("; compressed {:.1} ×", summary.compression_ratio());
    }
    if let Some(files) = summary.verified {
        out += &format!("; {} read back from the disk", format::count(files, "file", "files"));
    }
    if summary.identical > 0 {
        out += &format!("; {} already there", summary.identical);
    }
    if summary.unchanged > 0 {
        out += &format!("; {} unchanged by size and time, not compared", summary.unchanged);
    }
    if summary.updated > 0 {
        out += &format!("; {} updated in mode or time", summary.updated);
    }
    for (number, what) in [(summary.skipped, "skipped"), (summary.left_out, "left out")] {
        if number > 0 {
            out += &format!("; {number} {what}");
        }
    }
    out += &program(summary);
    out += &gone(summary);
    // A short transfer was limited by nothing that a person could change.
    if summary.elapsed >= LIMITED_MIN {
        match limits(summary) {
            limits if limits.is_empty() => {}
            limits => out += &format!("; limited by {limits}"),
        }
    }
    out + "\n"
}

/// How safe it is, where `is_nothing` is new.
fn safety(summary: &Summary, is_nothing: bool) -> &'static str {
    if is_nothing && summary.unchanged > 0 && summary.synced {
        ", on disk"
    } else if summary.piped {
        ", verified and handed to a pipe"
    } else if summary.synced {
        ", on disk and verified"
    } else if summary.not_kept.iter().any(|one| one.aspect == Aspect::Sync) {
        ", written and verified, not all of it synced"
    } else {
        ", written and verified, not synced (--no-fsync)"
    }
}

/// `; the program there failed with exit code 3`.
fn program(summary: &Summary) -> String {
    let Some(end) = summary.program else { return String::new() };
    let of = if summary.side == Side::Sender { "the program there" } else { "the program" };
    match end {
        ProgramEnd::Exited(0) => format!("; {of} has run"),
        ProgramEnd::Exited(code) => format!("; {of} failed with exit code {code}"),
        ProgramEnd::Killed(signal) => format!("; {of} was killed by signal {signal}"),
        ProgramEnd::TimedOut => format!("; {of} took too long and was killed"),
        ProgramEnd::NotStarted => format!("; {of} could not be started"),
    }
}

/// `; 3 deleted; 1 source removed`.
fn gone(summary: &Summary) -> String {
    let verb = if summary.is_dry { "would be deleted" } else { "deleted" };
    let deleted = summary.deleted.map(|deleted| format!("; {deleted} {verb}"));
    let removed = |removed| format!("; {} removed", format::count(removed, "source", "sources"));
    [deleted, summary.removed.map(removed)].into_iter().flatten().collect()
}

/// ` (1.00 GiB by an earlier attempt, 3.00 GiB taken from the old file)`.
fn not_sent(summary: &Summary) -> String {
    let from = if summary.files == 1 { "taken from the old file" } else { "taken from old files" };
    let parts = [(summary.resumed_bytes, "of them by an earlier attempt"), (summary.copied_bytes, from)];
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|(bytes, _)| *bytes > 0)
        .map(|(bytes, what)| format!("{} {what}", format::bytes(bytes)))
        .collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// `network 82 %, receiver's disk 18 %`.
pub(super) fn limits(summary: &Summary) -> String {
    let shares = summary.limited_by.iter().filter(|(_, percent)| *percent >= SHARE_MIN);
    let shares: Vec<_> =
        shares.map(|(bottleneck, percent)| format!("{} {percent} %", bottleneck.as_str())).collect();
    shares.join(", ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::engine::bottleneck::Bottleneck;

    /// Three files in 6.1 s.
    pub(in crate::ui) fn summary() -> Summary {
        Summary {
            side: Side::Sender,
            files: 3,
            dirs: 0,
            links: 0,
            identical: 0,
            unchanged: 0,
            updated: 0,
            skipped: 0,
            failed: 0,
            gravest: None,
            bytes: 2 << 30,
            sent_bytes: 2 << 30,
            saved_bytes: 0,
            resumed_bytes: 0,
            copied_bytes: 0,
            elapsed: Duration::from_millis(6_100),
            blake3: None,
            limited_by: vec![
                (Bottleneck::Network, 78),
                (Bottleneck::ReceiverDisk, 18),
                (Bottleneck::Memory, 4),
            ],
            synced: true,
            piped: false,
            verified: None,
            program: None,
            receipt: None,
            not_kept: Vec::new(),
            removed: None,
            left_out: 0,
            is_dry: false,
            deleted: None,
        }
    }
}
