//! Files that are here with the same size and time.

use std::time::Duration;

use super::tree::{CHUNK_LOG2, entry, path};
use super::world::PATIENCE;
use super::{reason, settled, statuses};
use crate::protocol::engine::receiver::{Receiver, ReceiverAction};
use crate::protocol::engine::sender::Sender;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Exists, Lookup};
use crate::protocol::request::Treatment;
use crate::protocol::wire::entry::{EntryId, Kind, Outcome};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;

const ZERO: Duration = Duration::ZERO;
const FILE: Kind = Kind::File { size: 3 };
const EMPTY: Kind = Kind::File { size: 0 };

fn link() -> Kind {
    Kind::Symlink { target: b"x".as_slice().into() }
}

fn receiver(treatment: Treatment) -> Receiver {
    Receiver::new(CHUNK_LOG2, treatment, "/t".into(), PATIENCE, ZERO)
}

/// A sender that has announced entries of these kinds.
fn sender(compares: bool, kinds: &[Kind]) -> Sender {
    let mut sender = Sender::new(CHUNK_LOG2, PATIENCE, ZERO).comparing(compares);
    for (number, kind) in kinds.iter().enumerate() {
        sender.announce(entry(&path(&format!("e{number}")), kind.clone()), ZERO);
    }
    sender
}

fn found(is_current: bool) -> Lookup {
    Lookup::SameSize { numbers: [0].into(), is_current, is_unchanged: true }
}

#[test]
fn consecutive_unchanged_entries_are_told_in_one_message() {
    for exists in [Exists::Refuse, Exists::Rename, Exists::Replace] {
        let mut receiver = receiver(exists.into());
        let kinds = [FILE, EMPTY, link(), FILE, Kind::Dir, FILE, FILE];
        let mut sender = sender(false, &[]);
        for (number, kind) in kinds.iter().enumerate() {
            let message = sender.announce(entry(&path(&format!("e{number}")), kind.clone()), ZERO);
            receiver.on_manifest(message).unwrap();
        }
        for (number, kind) in kinds.iter().enumerate() {
            let same = Lookup::Same { number: 0, is_current: true };
            let found = if matches!(kind, Kind::File { .. }) { found(true) } else { same };
            receiver.admitted(EntryId(number as u64), found);
        }
        let said = statuses(&mut receiver);
        let expected = [
            Message::Unchanged(EntryId(0), 4),
            Message::Status(EntryId(4), Status::Identical(None)),
            Message::Unchanged(EntryId(5), 2),
        ];
        assert_eq!(said, expected, "{exists:?}");
        said.into_iter().for_each(|message| sender.on_control(message, ZERO).unwrap());
        use Outcome::{Identical, Unchanged};
        let outcomes = [Unchanged, Identical, Identical, Unchanged, Identical, Unchanged, Unchanged];
        assert_eq!(settled(&mut sender), outcomes, "{exists:?}");
        assert_eq!(sender.totals(), receiver.totals());
    }
}

///
#[test]
fn contents_are_compared_where_that_is_wanted() {
    let mut compares = receiver(Treatment { compares: true, ..Exists::Refuse.into() });
    compares.on_manifest(Message::Entry(entry(&path("a"), FILE))).unwrap();
    compares.admitted(EntryId(0), found(true));
    assert_eq!(statuses(&mut compares), [Message::Status(EntryId(0), Status::Check)]);
    let mut skips = receiver(Exists::Skip.into());
    skips.on_manifest(Message::Entry(entry(&path("a"), FILE))).unwrap();
    skips.admitted(EntryId(0), found(true));
    assert_eq!(statuses(&mut skips), [Message::Status(EntryId(0), Status::Skipped)]);
}

#[test]
fn the_mode_of_an_unchanged_file_follows() {
    for (is_changed, said) in
        [(true, Message::Status(EntryId(0), Status::Updated)), (false, Message::Unchanged(EntryId(0), 1))]
    {
        let mut receiver = receiver(Exists::Replace.into());
        receiver.on_manifest(Message::Entry(entry(&path("a"), FILE))).unwrap();
        receiver.admitted(EntryId(0), found(false));
        let actions: Vec<_> = std::iter::from_fn(|| receiver.poll()).collect();
        assert!(matches!(actions[..], [.., ReceiverAction::Update(..)]), "{actions:?}");
        receiver.updated(EntryId(0), Ok(is_changed));
        assert_eq!(statuses(&mut receiver), std::slice::from_ref(&said));
        let mut sender = sender(false, &[FILE]);
        sender.on_control(said, ZERO).unwrap();
        assert_eq!(settled(&mut sender), [if is_changed { Outcome::Updated } else { Outcome::Unchanged }]);
    }
}

/// [S-9]
#[test]
fn a_receiver_cannot_say_of_other_entries_that_they_are_unchanged() {
    let say = |sender: &mut Sender, first, count| {
        sender.on_control(Message::Unchanged(EntryId(first), count), ZERO)
    };
    assert_eq!(reason(say(&mut sender(false, &[FILE]), 0, 2)), Reason::UnknownTransfer, "one was announced");
    assert_eq!(reason(say(&mut sender(false, &[FILE]), u64::MAX >> 2, 16)), Reason::UnknownTransfer);
    assert_eq!(reason(say(&mut sender(true, &[FILE]), 0, 1)), Reason::Protocol, "it was to be compared");
    for kind in [Kind::Dir, Kind::DirEnd, Kind::OpenEnded] {
        assert_eq!(reason(say(&mut sender(false, &[kind]), 0, 1)), Reason::Protocol);
    }
    let mut twice = sender(false, &[FILE, FILE]);
    say(&mut twice, 0, 1).unwrap();
    assert_eq!(reason(say(&mut twice, 0, 2)), Reason::TransferEnded);
    for status in [Status::Want, Status::Check] {
        let mut open = sender(false, &[FILE]);
        open.on_control(Message::Status(EntryId(0), status), ZERO).unwrap();
        assert_eq!(reason(say(&mut open, 0, 1)), Reason::Protocol, "it has a status");
    }
    let mut updated = sender(true, &[FILE]);
    let status = Message::Status(EntryId(0), Status::Updated);
    assert_eq!(reason(updated.on_control(status, ZERO)), Reason::Protocol, "it was to be compared");
}

#[test]
fn an_entry_that_was_given_up_has_failed_although_it_is_unchanged() {
    let mut sender = sender(false, &[FILE]);
    sender.abandon(EntryId(0), Failure::on(Side::Sender, Reason::SourceChanged, "changed"));
    sender.on_control(Message::Unchanged(EntryId(0), 1), ZERO).unwrap();
    assert_eq!(settled(&mut sender), [Outcome::Failed(Reason::SourceChanged)]);
}
