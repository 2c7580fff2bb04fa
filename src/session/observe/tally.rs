//! The result of a transfer.

use std::time::Duration;

use crate::event::{Change, ChangeKind, Event, FileSettled, Outcome, Summary};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::sender::ReceiverEnd;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::manifest_root::ManifestRoot;
use crate::protocol::planned::Planned;
use crate::protocol::removal::Removal;
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
    is_dry: bool,
    deleted: Option<u64>,
    /// Files that are at the receiver, and their bytes, if a receipt is wanted.
    listed: Option<(ManifestRoot, u64)>,
}

/// The bytes of a transfer, and its time.
pub(in crate::session) struct Moved {
    pub(in crate::session) elapsed: Duration,
    /// Bytes that travelled.
    pub(in crate::session) sent_bytes: u64,
    /// Those that compression has kept off the network.
    pub(in crate::session) saved_bytes: u64,
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

    /// One of a dry run, or of a transfer.
    pub(in crate::session) fn of_run(self, is_dry: bool) -> Self {
        Self { is_dry, ..self }
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
        let is_done = is_all && !self.is_dry;
        is_done.then_some(Delivered { files, bytes, identical: identical + updated + unchanged, skipped })
    }

    /// Counts an entry. Returns its events.
    pub(in crate::session) fn settled(&mut self, settled: Settled) -> impl Iterator<Item = Event> + use<> {
        let change = if self.is_dry { change(&settled) } else { None };
        let is_told = !self.is_dry || matches!(settled.outcome, Outcome::Failed(_));
        let file = self.count(settled).filter(|_| is_told);
        change.map(Event::Change).into_iter().chain(file.map(Event::File))
    }

    fn count(&mut self, settled: Settled) -> Option<FileSettled> {
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
            (Outcome::Planned(Planned::Update), _) => self.updated += 1,
            (_, Kind::Dir) => self.dirs += 1,
            (Outcome::Identical, _) => self.identical += 1,
            (Outcome::Unchanged, _) => self.unchanged += 1,
            (Outcome::Updated, _) => self.updated += 1,
            (Outcome::Written | Outcome::Staged | Outcome::Planned(_), Kind::Symlink { .. }) => {
                self.links += 1
            }
            (
                Outcome::Written | Outcome::Staged | Outcome::Planned(_),
                Kind::File { .. } | Kind::OpenEnded,
            ) => {
                self.files += 1;
                self.bytes += entry.size();
            }
        }
        if is_dir && !matches!(outcome, Outcome::Failed(_) | Outcome::Skipped) {
            return None;
        }
        let size = entry.size();
        Some(FileSettled {
            path: entry.path,
            renamed,
            is_file,
            size,
            blake3: root,
            outcome,
            message,
            removed: None,
        })
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

    /// Extras were removed, or not. Returns the warning, if any stays that should not.
    pub(in crate::session) fn removed(&mut self, removal: &Removal) -> Option<Event> {
        let message = match removal {
            Removal::Done { removed, remaining, example } => {
                self.deleted = Some(*removed);
                if *remaining == 0 {
                    return None;
                }
                format!("{remaining} of what was to be deleted could not be: {example}")
            }
            Removal::TooMany(count) => {
                format!("nothing was deleted: {count} were to be, and fewer are allowed (--max-delete)")
            }
            Removal::TooLittleMemory => {
                "nothing was deleted: the names of all files do not fit the memory of the receiver (--memory)"
                    .to_owned()
            }
            Removal::SourceIncomplete => {
                "nothing was deleted, because not all of the source could be read".to_owned()
            }
        };
        self.deleted = self.deleted.or(Some(0));
        self.note(Reason::ExtrasRemain);
        Some(Event::Warning { path: None, reason: Some(Reason::ExtrasRemain), message })
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
            saved_bytes: moved.saved_bytes,
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
            is_dry: self.is_dry,
            deleted: self.deleted,
        }
    }
}

/// What a dry run tells of an entry, if anything would change or stay although it differs.
fn change(settled: &Settled) -> Option<Change> {
    let kind = match settled.outcome {
        Outcome::Planned(Planned::Create) => ChangeKind::Create,
        Outcome::Planned(Planned::Replace) => ChangeKind::Replace,
        Outcome::Planned(Planned::Update) => ChangeKind::Update,
        Outcome::Planned(Planned::Rename) => ChangeKind::Rename,
        Outcome::Skipped => ChangeKind::Skip,
        Outcome::Failed(_) => ChangeKind::Refuse,
        Outcome::Written
        | Outcome::Staged
        | Outcome::Identical
        | Outcome::Unchanged
        | Outcome::Updated
        | Outcome::NotKept => return None,
    };
    let Settled { entry, renamed, .. } = settled;
    let (path, renamed) = (entry.path.clone(), renamed.clone());
    let is_dir = matches!(entry.kind, Kind::Dir | Kind::DirEnd);
    Some(Change { kind, path, renamed, is_dir, is_file: entry.is_file(), size: entry.size() })
}
