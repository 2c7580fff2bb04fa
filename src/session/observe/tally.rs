//! The result of a transfer.

use std::time::Duration;

use crate::event::{Event, FileSettled, Outcome, Summary};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::sender::ReceiverEnd;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::manifest_root::ManifestRoot;
use crate::protocol::wire::entry::{Entry, Kind, Settled};
use crate::session::after::Delivered;

/// Counts settled entries.
#[derive(Debug, Default)]
pub(in crate::session) struct Tally {
    files: u64,
    dirs: u64,
    links: u64,
    identical: u64,
    unchanged: u64,
    updated: u64,
    skipped: u64,
    failed: u64,
    gravest: Option<Reason>,
    bytes: u64,
    regular: u64,
    root: Option<blake3::Hash>,
    has_resumed: bool,
    /// Files that are at the receiver, and their bytes, if a receipt is wanted.
    listed: Option<(ManifestRoot, u64)>,
}

/// The bytes of a transfer, and its time.
pub(in crate::session) struct Moved {
    pub(in crate::session) elapsed: Duration,
    /// Bytes that travelled.
    pub(in crate::session) sent_bytes: u64,
    /// Bytes that an earlier transfer had left at the receiver.
    pub(in crate::session) resumed_bytes: u64,
    /// Bytes that the receiver took from old files.
    pub(in crate::session) copied_bytes: u64,
}

impl Tally {
    /// One that gathers what a receipt needs, if one is wanted.
    pub(in crate::session) fn for_receipt(is_wanted: bool) -> Self {
        Self { listed: is_wanted.then(Default::default), ..Self::default() }
    }

    /// What a receipt says of the files, if one is wanted.
    pub(in crate::session) fn listed(&self) -> Option<(&ManifestRoot, u64)> {
        self.listed.as_ref().map(|(manifest, bytes)| (manifest, *bytes))
    }

    /// What has arrived, if everything has.
    pub(in crate::session) fn delivered(&self) -> Option<Delivered> {
        // Such as special files that are not sent.
        let is_all = self.gravest.is_none_or(|reason| reason.exit_code() == Reason::NotKept.exit_code());
        let Self { files, bytes, identical, skipped, updated, unchanged, .. } = *self;
        is_all.then_some(Delivered { files, bytes, identical: identical + updated + unchanged, skipped })
    }

    /// Counts an entry. Returns its event, if the events of entries are wanted.
    pub(in crate::session) fn settled(&mut self, settled: Settled) -> Option<Event> {
        let Settled { entry, renamed, root, outcome, message, .. } = settled;
        let is_file = entry.is_file();
        let is_dir = matches!(entry.kind, Kind::Dir | Kind::DirEnd);
        if is_file {
            self.regular += 1;
            self.root = root;
            if let (Some((manifest, bytes)), Some(root), false) =
                (&mut self.listed, &root, matches!(outcome, Outcome::Failed(_)))
            {
                manifest.add(root, renamed.as_ref().unwrap_or(&entry.path));
                *bytes = bytes.saturating_add(entry.size());
            }
        }
        match (outcome, &entry.kind) {
            (Outcome::Failed(reason), kind) => {
                self.count_failure(reason);
                // The directory was made but not finished properly, so it does not count as safe.
                if matches!(kind, Kind::DirEnd) {
                    self.dirs = self.dirs.saturating_sub(1);
                }
            }
            (_, Kind::DirEnd) => {}
            (Outcome::NotKept, _) => {}
            (Outcome::Skipped, _) => self.skipped += 1,
            (_, Kind::Dir) => self.dirs += 1,
            (Outcome::Identical, _) => self.identical += 1,
            (Outcome::Unchanged, _) => self.unchanged += 1,
            (Outcome::Updated, _) => self.updated += 1,
            (Outcome::Written | Outcome::Staged, Kind::Symlink { .. }) => self.links += 1,
            (Outcome::Written | Outcome::Staged, Kind::File { .. } | Kind::OpenEnded) => {
                self.files += 1;
                self.bytes += entry.size();
            }
        }
        if is_dir && !matches!(outcome, Outcome::Failed(_) | Outcome::Skipped) {
            return None;
        }
        let size = entry.size();
        Some(Event::File(FileSettled {
            path: entry.path,
            renamed,
            is_file,
            size,
            blake3: root,
            outcome,
            message,
            removed: None,
        }))
    }

    /// An earlier transfer left `held_bytes` of a file. Returns the event, for the first file.
    pub(in crate::session) fn resumed(&mut self, entry: &Entry, held_bytes: u64) -> Option<Event> {
        let is_first = !std::mem::replace(&mut self.has_resumed, true);
        is_first.then(|| Event::Resumed { path: entry.path.clone(), size: entry.size(), held_bytes })
    }

    /// Counts an entry that the walk skipped.
    pub(in crate::session) fn count_failure(&mut self, reason: Reason) {
        self.failed += 1;
        self.note(reason);
    }

    /// A delivered file has grown since it was announced. Returns the warning.
    pub(in crate::session) fn grew(&mut self, entry: &Entry) -> Event {
        self.note(Reason::SourceGrew);
        let (path, bytes) = (entry.path.to_string(), entry.size());
        let message = format!("{path} grew while being sent; its first {bytes} bytes arrive");
        Event::Warning { path: Some(path), reason: Some(Reason::SourceGrew), message }
    }

    fn note(&mut self, reason: Reason) {
        self.gravest = Some(self.gravest.map_or(reason, |gravest| Failure::graver(gravest, reason)));
    }

    /// The summary.
    pub(in crate::session) fn summary(
        &self,
        side: Side,
        moved: Moved,
        limited_by: Vec<(Bottleneck, u8)>,
        end: ReceiverEnd,
    ) -> Summary {
        let ReceiverEnd { synced, verified, not_kept, program, .. } = end;
        let mut gravest = self.gravest;
        let mut note = |is_so: bool, reason| {
            if is_so {
                gravest = Some(gravest.map_or(reason, |gravest| Failure::graver(gravest, reason)));
            }
        };
        note(!not_kept.is_empty(), Reason::NotKept);
        note(program.is_some_and(|end| !end.is_success()), Reason::ProgramFailed);
        Summary {
            side,
            files: self.files,
            dirs: self.dirs,
            links: self.links,
            identical: self.identical,
            unchanged: self.unchanged,
            updated: self.updated,
            skipped: self.skipped,
            failed: self.failed,
            gravest,
            bytes: self.bytes,
            sent_bytes: moved.sent_bytes,
            resumed_bytes: moved.resumed_bytes,
            copied_bytes: moved.copied_bytes,
            elapsed: moved.elapsed,
            blake3: self.root.filter(|_| self.regular == 1),
            limited_by,
            synced,
            piped: false,
            verified,
            receipt: None,
            program,
            not_kept,
            removed: None,
            left_out: 0,
        }
    }
}
