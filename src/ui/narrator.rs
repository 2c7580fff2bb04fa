//! The sentences that people read.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::changes::change_line;
use super::complaint::{self, hint_line};
use super::options::Options;
use super::paint::Paint;
use super::peer_lines::{peer_line, remembered};
use super::setting::setting_line;
use super::summary::summary_line;
use super::{advice, bench, format, qr};
use crate::event::{Event, FileSettled, Listening, Outcome, PartialFile, PartialState, Progress, Summary};
use crate::protocol::failure::Reason;
use crate::protocol::path::{RelPath, printable};
use crate::protocol::wire::role::Role;

/// Without bars, a line tells of progress this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Characters of a fingerprint that tell senders apart in a list.
const SENDER_CHARS: usize = 8;

const ASKED: &str = "waiting for the answer of the person at the other side\n";

/// What the last line about progress said. The clock is that of the transfer.
#[derive(Debug, Default, Clone, Copy)]
struct LastLine {
    elapsed: Duration,
    /// Bytes written in this transfer.
    new_bytes: u64,
}

/// Turns events into lines, each ended by a newline.
pub(super) struct Narrator {
    quiet: bool,
    verbose: bool,
    known_dialler: bool,
    qr: bool,
    paint: Paint,
    /// When a line last told of progress, and how far it was.
    told: Mutex<LastLine>,
    /// The last file with a hash. A summary with a hash is about this file.
    last: Mutex<Option<RelPath>>,
}

impl Narrator {
    pub(super) fn new(options: Options, paint: Paint) -> Self {
        Self {
            quiet: options.quiet,
            verbose: options.verbose > 0,
            known_dialler: options.known_dialler,
            qr: options.qr.decide(),
            paint,
            told: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// The lines about `event` for standard error, possibly none.
    pub(super) fn tell(&self, event: &Event) -> String {
        match event {
            Event::Listening(listening) => self.listening(listening),
            Event::Connected { address, fingerprint, agent } if !self.quiet => {
                let agent = if self.verbose { format!(", {agent}") } else { String::new() };
                format!("connected to {address} ({fingerprint}{agent})\n")
            }
            Event::Reconnecting { limit, message } if !self.quiet => {
                let limit = limit.map(|limit| format!(" for {}", format::seconds(limit)));
                let message = if self.verbose { format!(" ({message})") } else { String::new() };
                format!("connection lost; trying again{}{message}\n", limit.unwrap_or_default())
            }
            Event::Reconnected { after } if !self.quiet => reconnected(*after),
            Event::Installing { host, place, bytes } if !self.quiet => installing(host, place, *bytes),
            Event::Asked if !self.quiet => ASKED.to_owned(),
            Event::Started { transfer, .. } if self.verbose && !self.quiet => {
                format!("transfer {transfer}\n")
            }
            Event::Resumed { path, size, held_bytes } if !self.quiet => {
                let percent = u128::from(*held_bytes) * 100 / u128::from(*size).max(1);
                format!("resumed at {percent} %: {path}\n")
            }
            Event::File(file) => self.file(file),
            Event::Progress(progress) if !self.quiet => self.progress(progress),
            // A warning with a reason decides the exit code, so it is always shown.
            Event::Warning { path, reason, message } if !self.quiet || reason.is_some() => {
                let message = about(path.as_deref().unwrap_or_default(), message);
                format!("towline: {} {message}\n", self.paint.warning("warning:"))
            }
            Event::Advice(advice) if !self.quiet => {
                format!("towline: {} {}\n", self.paint.warning("warning:"), advice::sentence(*advice))
            }
            Event::NotKept(not_kept) => {
                format!("towline: {} {not_kept}\n", self.paint.warning("warning:"))
            }
            Event::SourcesRemain { path, cause, count } => {
                let sentence = super::remaining::sentence(path, cause, *count);
                format!("towline: {} {sentence}\n", self.paint.warning("warning:"))
            }
            Event::Finished(summary) => self.summary(summary),
            Event::Failed(failure) => complaint::failure_line(failure, self.paint),
            Event::Preparing { dir, bytes, space_bytes } if !self.quiet => {
                let dir = printable(dir.as_os_str().as_encoded_bytes());
                let (bytes, space) = (format::bytes(*bytes), format::bytes(*space_bytes));
                format!("writing {bytes} of test files to {dir}; the bench needs {space} there\n")
            }
            Event::Identity { path, is_new: true, .. } if !self.quiet => {
                let path = printable(path.as_os_str().as_encoded_bytes());
                format!("made a new identity in {path}\n")
            }
            Event::Remembered(peer) if !self.quiet => remembered(peer),
            Event::Remembered(_)
            | Event::Peer(_)
            | Event::Setting(_)
            | Event::Asked
            | Event::Connected { .. }
            | Event::Installing { .. }
            | Event::Started { .. }
            | Event::Reconnecting { .. }
            | Event::Reconnected { .. }
            | Event::Warning { .. }
            | Event::Resumed { .. }
            | Event::Advice(_)
            | Event::Identity { .. }
            | Event::Partial(_)
            | Event::Receipt(_)
            | Event::Preparing { .. }
            | Event::Bench(_)
            | Event::Change(_)
            | Event::Progress(_) => String::new(),
        }
    }

    /// The same for an event of one of several transfers: each line begins with its peer, and there is no progress.
    pub(super) fn tell_of(&self, peer: &str, event: &Event) -> String {
        let text = match event {
            Event::Progress(_) => return String::new(),
            Event::Finished(summary) if summary.failed == 0 && self.quiet => return String::new(),
            // The hash is that of the last file of any transfer.
            Event::Finished(summary) => self.summary(&Summary { blake3: None, ..summary.clone() }),
            Event::Failed(failure) => complaint::failure_line(failure, self.paint),
            event => self.tell(event),
        };
        text.lines().map(|line| format!("{peer}: {line}\n")).collect()
    }

    /// The data in `event` for standard output.
    pub(super) fn data(&self, event: &Event) -> String {
        match event {
            Event::Identity { fingerprint, .. } => format!("{fingerprint}\n"),
            Event::Partial(partial) => partial_line(partial),
            Event::Receipt(receipt) => receipt.text.clone(),
            Event::Setting(setting) => setting_line(setting),
            Event::Peer(peer) => peer_line(peer),
            Event::Change(change) => change_line(change),
            Event::Bench(bench) => bench::table(bench),
            _ => String::new(),
        }
    }

    fn listening(&self, listening: &Listening) -> String {
        let (wait, dial) = match listening.role {
            Role::Send => ("waiting for a receiver, to send ", "towline receive --from"),
            Role::Receive => ("waiting for a sender, to receive into ", "towline send SOURCE... --to"),
            Role::BenchSend | Role::BenchReceive => ("waiting for a bench", "towline bench --to"),
        };
        let command = listening.ticket.as_ref().map(|ticket| self.paint.strong(&format!("{dial} {ticket}")));
        // Without this line nobody could connect.
        if self.quiet {
            return command.map(|command| command + "\n").unwrap_or_default();
        }
        let shown = |path: &PathBuf| match (path.as_os_str().as_encoded_bytes(), listening.role) {
            (b"-", Role::Send) => "standard input".to_owned(),
            (b"-", Role::Receive) => "standard output".to_owned(),
            (path, _) => printable(path),
        };
        let what: Vec<_> = listening.what.iter().map(shown).collect();
        let mut out = format!("{wait}{}\n", what.join(", "));
        if command.is_some() || listening.code.is_some() {
            out += "on the other machine, run\n\n";
        }
        if let Some(code) = &listening.code {
            let words = self.paint.strong(&format!("{dial} {code}"));
            out += &format!("  {words}\n\non another network, put ADDRESS/ before the code, or run\n\n");
        }
        if let Some(command) = command {
            out += &format!("  {command}\n\n");
        }
        if let Some(address) = listening.addresses.first().filter(|_| self.known_dialler) {
            let fingerprint = &listening.fingerprint;
            out += "or, on a machine that --fingerprint or --allow names,\n\n";
            out += &format!("  {dial} {address} --fingerprint {fingerprint}\n\n");
        }
        if let Some(secret) = listening.ticket.as_ref().or(listening.code.as_ref()).filter(|_| self.qr) {
            out += &qr::drawn(secret, self.paint);
        }
        let addresses: Vec<_> = listening.addresses.iter().map(ToString::to_string).collect();
        out += &format!("address      {}\n", addresses.join(" "));
        out + &format!("fingerprint  {}\n", listening.fingerprint)
    }

    fn file(&self, file: &FileSettled) -> String {
        if file.is_file && file.blake3.is_some() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.path.clone());
        }
        let outcome = match file.outcome {
            Outcome::Failed(reason) => {
                let message = file.message.as_deref().unwrap_or(reason.as_str());
                let failed = self.paint.error("failed:");
                return format!("towline: {failed} {}\n", about(&file.path.to_string(), message));
            }
            Outcome::Written => "written",
            Outcome::Staged => "staged",
            Outcome::Identical => "identical",
            Outcome::Unchanged => "unchanged",
            Outcome::Planned(_) => "planned",
            Outcome::Updated => "updated",
            Outcome::Skipped => "skipped",
            Outcome::NotKept => "not kept",
        };
        if self.quiet || !self.verbose {
            return String::new();
        }
        let size = if file.is_file { format::bytes(file.size) } else { "-".to_owned() };
        let renamed = file.renamed.as_ref().map(|to| format!(" as {to}")).unwrap_or_default();
        format!("{}  {size}  {outcome}{renamed}\n", file.path)
    }

    fn progress(&self, progress: &Progress) -> String {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let since = progress.elapsed.saturating_sub(told.elapsed);
        if since < PROGRESS_EVERY {
            return String::new();
        }
        let new_bytes = progress.written_bytes.saturating_sub(progress.resumed_bytes);
        let bytes = new_bytes.saturating_sub(told.new_bytes);
        *told = LastLine { elapsed: progress.elapsed, new_bytes };
        progress_line(progress, format::bytes_per_second(bytes, since))
    }

    fn summary(&self, summary: &Summary) -> String {
        let mut out = String::new();
        if !self.quiet {
            out += &summary_line(summary);
            if let Some(root) = summary.blake3 {
                let name = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
                let name = name.map(|n| n.to_string()).unwrap_or_default();
                out += &format!("blake3 {}  {name}\n", root.to_hex());
            }
        }
        if summary.failed > 0 {
            let entries = format::count(summary.failed, "entry", "entries");
            let failed = self.paint.error(&format!("{entries} failed"));
            out += &format!("towline: {failed}; see the lines above\n");
            if summary.gravest == Some(Reason::TargetExists) {
                out += &hint_line(Reason::TargetExists);
            }
        }
        out
    }
}

fn installing(host: &str, place: &str, bytes: u64) -> String {
    format!("copying towline to {host}, to {place} ({})\n", format::bytes(bytes))
}

fn reconnected(after: Duration) -> String {
    format!("connected again after {}\n", format::seconds(after))
}

fn partial_line(partial: &PartialFile) -> String {
    let PartialFile { sender, path, safe_bytes, size, age, state } = partial;
    let percent = (u128::from(*safe_bytes) * 100).checked_div(u128::from(*size)).unwrap_or(100);
    let [safe, size] = [*safe_bytes, *size].map(format::bytes);
    let sender = sender.get(..SENDER_CHARS).unwrap_or(sender);
    let state = match state {
        PartialState::Kept => "",
        PartialState::InUse => "  (in use)",
        PartialState::Removed => "  (removed)",
    };
    format!("{sender}  {safe} of {size} ({percent} %)  {}  {path}{state}\n", format::age(*age))
}

fn progress_line(progress: &Progress, rate: u64) -> String {
    let [written, total, rate] = [progress.written_bytes, progress.total_bytes, rate].map(format::bytes);
    let (done, files) = (progress.done_files, progress.total_files);
    let mut line = if progress.walked {
        let percent = (u128::from(progress.written_bytes) * 100)
            .checked_div(u128::from(progress.total_bytes))
            .unwrap_or(100);
        format!("{written} on disk, of {total} ({percent} %); {done} of {files} files")
    } else {
        format!("{written} on disk, of {total} found so far; {done} of {files} files")
    };
    line += &format!("; {rate}/s");
    if let Some(what) = progress.waiting_for {
        line += &format!("; waiting for {what}");
    }
    line + "\n"
}

/// `path: message`, or only the message if it already names the path.
fn about(path: &str, message: &str) -> String {
    let names_it = message.match_indices(path).any(|(at, _)| {
        let (before, behind) = (&message[..at], &message[at + path.len()..]);
        (before.is_empty() || before.ends_with('/'))
            && (behind.is_empty() || behind.starts_with([' ', ':', ',']))
            // Such as `cannot write sub/file: …` and `skipping FIFO sub/pipe`.
            || before.ends_with(' ') && (behind.is_empty() || behind.starts_with(':'))
    });
    if path.is_empty() || names_it { message.to_owned() } else { format!("{path}: {message}") }
}

#[cfg(test)]
mod tests {
    use super::super::options::{Color, Qr};
    use super::super::summary::tests::summary;
    use super::*;
    use crate::event::CheckedReceipt;
    use crate::protocol::failure::Side;

    fn options() -> Options {
        Options {
            json: false,
            quiet: false,
            verbose: 0,
            progress: true,
            color: Color::Never,
            qr: Qr::Never,
            known_dialler: false,
            data_on_stdout: false,
        }
    }

    fn narrator(options: Options) -> Narrator {
        Narrator::new(options, Paint::new(false))
    }

    fn listening(role: Role) -> Event {
        Event::Listening(Listening {
            role,
            what: vec!["a.bin".into(), "dir\u{1b}".into()],
            ticket: Some("tl1abc".into()),
            code: None,
            addresses: vec!["192.0.2.7:4750".parse().unwrap(), "[2001:db8::7]:4750".parse().unwrap()],
            fingerprint: "fp".into(),
        })
    }

    #[test]
    fn a_waiting_side_says_how_to_reach_it() {
        assert_eq!(
            narrator(options()).tell(&listening(Role::Send)),
            "waiting for a receiver, to send a.bin, dir\\u{1b}\n\
             on the other machine, run\n\n  \
             towline receive --from tl1abc\n\n\
             address      192.0.2.7:4750 [2001:db8::7]:4750\n\
             fingerprint  fp\n"
        );
        let known = narrator(Options { known_dialler: true, ..options() }).tell(&listening(Role::Receive));
        assert!(known.contains("\n  towline send SOURCE... --to tl1abc\n"));
        assert!(known.contains("\n  towline send SOURCE... --to 192.0.2.7:4750 --fingerprint fp\n"));
        let quiet = narrator(Options { quiet: true, ..options() }).tell(&listening(Role::Send));
        assert_eq!(quiet, "towline receive --from tl1abc\n");
        let Event::Listening(coded) = listening(Role::Send) else { panic!("not listening") };
        let coded = Event::Listening(Listening { code: Some("7-octopus-lantern".into()), ..coded });
        assert!(narrator(options()).tell(&coded).contains(
            "run\n\n  towline receive --from 7-octopus-lantern\n\n\
             on another network, put ADDRESS/ before the code, or run\n\n  towline receive --from tl1abc\n"
        ));
        let Event::Listening(bench) = listening(Role::BenchReceive) else { panic!("not listening") };
        let bench = Event::Listening(Listening { what: Vec::new(), ..bench });
        let text = narrator(options()).tell(&bench);
        assert!(
            text.starts_with(
                "waiting for a bench\non the other machine, run\n\n  towline bench --to tl1abc\n"
            )
        );
    }

    #[test]
    fn a_path_is_named_once() {
        assert_eq!(about("a/b", "skipping FIFO a/b"), "skipping FIFO a/b");
        assert_eq!(about("b", "/in/b exists"), "/in/b exists");
        assert_eq!(about("a/b", "cannot write a/b: no"), "cannot write a/b: no");
        assert_eq!(about("a", "it is a rule"), "a: it is a rule");
        assert_eq!(about("e", "storage"), "e: storage");
        assert_eq!(about("b", "/in/bc exists"), "b: /in/bc exists");
        assert_eq!(about("", "anything"), "anything");
    }

    #[test]
    fn progress_takes_one_line_in_ten_seconds() {
        let narrator = narrator(options());
        let mut said = String::new();
        // Five minutes, told of ten times a second.
        for tenth in 0..=3000_u64 {
            said += &narrator.tell(&Event::Progress(Progress {
                elapsed: Duration::from_millis(tenth * 100),
                walked: tenth > 150,
                total_files: 4,
                total_bytes: 3000 << 20,
                written_bytes: tenth << 20,
                done_files: tenth / 1000,
                waiting_for: (tenth == 3000).then_some("receiver's disk"),
                ..Progress::default()
            }));
        }
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 30, "{said}");
        assert_eq!(lines[0], "100.00 MiB on disk, of 2.93 GiB found so far; 0 of 4 files; 10.00 MiB/s");
        assert_eq!(lines[1], "200.00 MiB on disk, of 2.93 GiB (6 %); 0 of 4 files; 10.00 MiB/s");
        let last =
            "2.93 GiB on disk, of 2.93 GiB (100 %); 3 of 4 files; 10.00 MiB/s; waiting for receiver's disk";
        assert_eq!(lines[29], last);
    }

    #[test]
    fn summaries() {
        let say = |s: Summary| narrator(options()).tell(&Event::Finished(s));
        assert_eq!(
            say(summary()),
            "sent 3 files, 2.00 GiB in 6.1s (335.74 MiB/s), on disk and verified; \
             limited by network 78 %, receiver's disk 18 %\n"
        );
        let all = Summary {
            side: Side::Receiver,
            files: 1,
            links: 2,
            dirs: 1,
            identical: 4,
            unchanged: 5,
            updated: 3,
            skipped: 5,
            failed: 2,
            synced: false,
            limited_by: Vec::new(),
            ..summary()
        };
        assert_eq!(
            say(all),
            "received 1 file, 2 links, 1 directory, 2.00 GiB in 6.1s (335.74 MiB/s), written and verified, not \
             synced (--no-fsync); 4 already there; 5 unchanged by size and time, not compared; 3 updated in mode or \
             time; 5 skipped\n\
             towline: 2 entries failed; see the lines above\n"
        );
        let verified = Summary { verified: Some(3), limited_by: Vec::new(), ..summary() };
        assert_eq!(
            say(verified),
            "sent 3 files, 2.00 GiB in 6.1s (335.74 MiB/s), on disk and verified; 3 files read back from the disk\n"
        );
        let resumed = Summary { resumed_bytes: 1 << 30, limited_by: Vec::new(), ..summary() };
        assert_eq!(
            say(resumed),
            "sent 3 files, 2.00 GiB (1.00 GiB of them by an earlier attempt) in 6.1s (167.87 MiB/s), on disk and \
             verified\n"
        );
        let copied = Summary { copied_bytes: 1 << 30, limited_by: Vec::new(), files: 1, ..summary() };
        assert_eq!(
            say(copied),
            "sent 1 file, 2.00 GiB (1.00 GiB taken from the old file) in 6.1s (167.87 MiB/s), on disk and verified\n"
        );
        let failed = Summary { files: 0, bytes: 0, failed: 1, elapsed: Duration::ZERO, ..summary() };
        assert_eq!(say(failed), "sent nothing\ntowline: 1 entry failed; see the lines above\n");
        let none = Summary { files: 0, bytes: 0, elapsed: Duration::ZERO, ..summary() };
        assert_eq!(say(none), "sent nothing new, on disk and verified\n");
    }

    #[test]
    fn what_an_earlier_attempt_left_is_no_speed() {
        let narrator = narrator(options());
        let resumed = Event::Resumed { path: RelPath::new(b"a/b").unwrap(), size: 300, held_bytes: 184 };
        assert_eq!(narrator.tell(&resumed), "resumed at 61 %: a/b\n");
        let progress = Progress {
            elapsed: Duration::from_secs(10),
            total_bytes: 3000 << 20,
            written_bytes: 1100 << 20,
            resumed_bytes: 1000 << 20,
            ..Progress::default()
        };
        let said = narrator.tell(&Event::Progress(progress));
        assert!(said.ends_with("; 10.00 MiB/s\n"), "{said}");
        let quiet = self::narrator(Options { quiet: true, ..options() });
        assert_eq!(quiet.tell(&resumed), "");
    }

    #[test]
    fn one_file_shows_its_hash_and_name() {
        let narrator = narrator(Options { verbose: 1, ..options() });
        let root = blake3::hash(b"x");
        let file = FileSettled {
            path: RelPath::new(b"a/b\x1b").unwrap(),
            renamed: RelPath::new(b"a/b~1").ok(),
            is_file: true,
            size: 1,
            blake3: Some(root),
            outcome: Outcome::Written,
            message: None,
            removed: None,
        };
        assert_eq!(narrator.tell(&Event::File(file)), "a/b\\u{1b}  1 B  written as a/b~1\n");
        let text = narrator.tell(&Event::Finished(Summary { files: 1, blake3: Some(root), ..summary() }));
        assert!(text.ends_with(&format!("\nblake3 {root}  a/b\\u{{1b}}\n")), "{text}");
    }

    #[test]
    fn a_lost_connection_and_the_next_one_are_told() {
        let lost = |seconds: Option<u64>| Event::Reconnecting {
            limit: seconds.map(Duration::from_secs),
            message: "nothing was heard".into(),
        };
        let again = Event::Reconnected { after: Duration::from_millis(12_345) };
        let narrator = narrator(options());
        assert_eq!(narrator.tell(&lost(Some(60))), "connection lost; trying again for 60 s\n");
        assert_eq!(narrator.tell(&lost(None)), "connection lost; trying again\n");
        assert_eq!(narrator.tell(&again), "connected again after 12 s\n");
        let verbose = Narrator::new(Options { verbose: 1, ..options() }, Paint::new(false));
        assert_eq!(
            verbose.tell(&lost(Some(60))),
            "connection lost; trying again for 60 s (nothing was heard)\n"
        );
        let quiet = Narrator::new(Options { quiet: true, ..options() }, Paint::new(false));
        assert_eq!((quiet.tell(&lost(None)), quiet.tell(&again)), (String::new(), String::new()));
    }

    #[test]
    fn quiet_shows_what_changes_the_exit_code() {
        let quiet = narrator(Options { quiet: true, ..options() });
        let warning = |reason| Event::Warning { path: Some("p".into()), reason, message: "m".into() };
        assert_eq!(quiet.tell(&warning(None)), "");
        assert_eq!(quiet.tell(&warning(Some(Reason::SpecialFile))), "towline: warning: p: m\n");
        assert_eq!(quiet.tell(&Event::Finished(summary())), "");
        let failed = Summary { failed: 1, ..summary() };
        let text = quiet.tell(&Event::Finished(failed));
        assert_eq!(text, "towline: 1 entry failed; see the lines above\n");
    }

    #[test]
    fn only_the_result_of_a_bench_is_data() {
        let bench = Event::Bench(super::super::bench::tests::bench(Side::Sender));
        assert!(narrator(options()).data(&bench).starts_with("transfer    3.00 GiB in 1 file"));
        assert_eq!(narrator(options()).tell(&bench), "");
        let preparing = Event::Preparing { dir: "/d".into(), bytes: 1 << 20, space_bytes: 2 << 20 };
        assert_eq!(
            narrator(options()).tell(&preparing),
            "writing 1.00 MiB of test files to /d; the bench needs 2.00 MiB there\n"
        );
        assert_eq!(narrator(options()).data(&preparing), "");
        assert_eq!(narrator(Options { quiet: true, ..options() }).tell(&preparing), "");
    }

    #[test]
    fn a_partial_file_is_a_line_of_data() {
        let path = RelPath::new(b"d/a\x1b").unwrap();
        let age = Duration::from_secs(3 * 24 * 60 * 60 + 5);
        let (sender, state) = ("abcdefghij".to_owned(), PartialState::InUse);
        let partial = PartialFile { sender, path, safe_bytes: 3 << 20, size: 4 << 20, age, state };
        let want = "abcdefgh  3.00 MiB of 4.00 MiB (75 %)  3d  d/a\\u{1b}  (in use)\n";
        assert_eq!(narrator(options()).data(&Event::Partial(partial)), want);
        let receipt = CheckedReceipt { text: "towline receipt 1\nfiles: 1\n".into(), has_files: true };
        assert_eq!(narrator(options()).data(&Event::Receipt(receipt.clone())), receipt.text);
    }

    #[test]
    fn an_identity_is_data() {
        let identity = Event::Identity { fingerprint: "fp".into(), path: "/k".into(), is_new: true };
        assert_eq!(narrator(options()).data(&identity), "fp\n");
        assert_eq!(narrator(options()).tell(&identity), "made a new identity in /k\n");
    }
}
