//! The removal of extras.

use std::time::Duration;

use super::tree::{CHUNK_LOG2, entry, path};
use super::world::PATIENCE;
use super::{FINISHED, reason, statuses};
use crate::protocol::engine::receiver::{Receiver, ReceiverAction};
use crate::protocol::engine::sender::{Sender, SenderAction};
use crate::protocol::failure::Reason;
use crate::protocol::final_name::{Exists, Lookup};
use crate::protocol::removal::{Extra, Removal, Removed};
use crate::protocol::request::Delete;
use crate::protocol::wire::entry::{EntryId, Kind};
use crate::protocol::wire::limits::EXTRAS_OPEN_MAX;
use crate::protocol::wire::message::Message;

const ZERO: Duration = Duration::ZERO;

fn extra(name: &str, is_dir: bool) -> Extra {
    Extra { path: path(name), is_dir, identity: (1, 1) }
}

/// A receiver that has been sent the directory `d`, and remembers so many names.
fn receiver(request: Delete, names_max: usize, before_end: Option<Message>) -> Receiver {
    let mut receiver = Receiver::new(CHUNK_LOG2, Exists::Refuse, "/t".into(), PATIENCE, ZERO).with_removal(
        Some(request),
        [7; 32],
        names_max,
    );
    for kind in [Kind::Dir, Kind::DirEnd] {
        receiver.on_manifest(Message::Entry(entry(&path("d"), kind))).unwrap();
    }
    before_end.into_iter().for_each(|message| receiver.on_manifest(message).unwrap());
    receiver.on_manifest(Message::End(2)).unwrap();
    receiver.admitted(EntryId(0), Lookup::Free);
    receiver.dir_finished(EntryId(1), Ok(()));
    receiver
}

fn actions(receiver: &mut Receiver) -> Vec<ReceiverAction> {
    std::iter::from_fn(|| receiver.poll()).collect()
}

fn removal(receiver: &mut Receiver) -> Option<Removal> {
    statuses(receiver).into_iter().find_map(|message| match message {
        Message::Removed(removal) => Some(removal),
        _ => None,
    })
}

#[test]
fn what_is_approved_is_removed_when_all_is_known() {
    let mut receiver = receiver(Delete::default(), 10, None);
    let asked = actions(&mut receiver);
    let Some(ReceiverAction::FindExtras(Some(announced))) = asked.last() else { panic!("{asked:?}") };
    assert!(announced.has_dir(&path("d")) && !announced.has(&path("e")));
    receiver.extras_found(vec![extra("d/a", false), extra("d/b", true)], 0);
    let asked = actions(&mut receiver);
    let names = vec![(path("d/a"), false), (path("d/b"), true)];
    assert!(asked.contains(&ReceiverAction::Control(Message::Extras(names))), "{asked:?}");
    receiver.on_control(Message::Verdict(0b10)).unwrap();
    assert_eq!(actions(&mut receiver), [ReceiverAction::NoteExtras(vec![extra("d/b", true)])]);
    receiver.extras_found(vec![], 0);
    assert_eq!(actions(&mut receiver), [], "they are being noted");
    receiver.extras_noted();
    assert_eq!(actions(&mut receiver), [ReceiverAction::RemoveExtras(None)]);
    receiver.extras_removed(Removed { count: 1, ..Removed::default() });
    let ended = actions(&mut receiver);
    assert!(matches!(ended.last(), Some(ReceiverAction::Finish)), "{ended:?}");
}

/// [W-78]
#[test]
fn nothing_is_removed_when_there_is_a_doubt() {
    let special = Message::Omitted(Reason::SpecialFile, String::new());
    let mut fine = receiver(Delete::default(), 10, Some(special));
    assert_eq!(removal(&mut fine), None);
    let unread = Message::Omitted(Reason::SourceUnreadable, String::new());
    let mut incomplete = receiver(Delete::default(), 10, Some(unread));
    assert_eq!(removal(&mut incomplete), Some(Removal::SourceIncomplete));
    let mut forgetful = receiver(Delete::default(), 1, None);
    assert_eq!(removal(&mut forgetful), Some(Removal::TooLittleMemory));
    let mut careful = receiver(Delete { names_max: Some(1), backup: None }, 10, None);
    careful.extras_found(vec![extra("d/a", false), extra("d/b", false)], 0);
    careful.on_control(Message::Verdict(0b11)).unwrap();
    careful.extras_noted();
    careful.extras_found(vec![], 0);
    assert_eq!(removal(&mut careful), Some(Removal::TooMany(2)));
}

#[test]
fn a_sender_judges_only_what_it_was_asked() {
    let mut receiver = receiver(Delete::default(), 10, None);
    assert_eq!(reason(receiver.on_control(Message::Verdict(0))), Reason::Protocol, "nothing was asked");
    receiver.extras_found(vec![extra("d/a", false)], 0);
    assert_eq!(reason(receiver.on_control(Message::Verdict(0b10))), Reason::Protocol, "there is one name");
}

fn sender(is_asked: bool) -> Sender {
    let mut sender = Sender::new(CHUNK_LOG2, PATIENCE, ZERO).removing(is_asked);
    sender.walk_ended(ZERO);
    sender
}

/// [S-10]
#[test]
fn a_receiver_asks_what_to_remove_only_when_it_may() {
    let extras = || Message::Extras(vec![(path("d/a"), false)]);
    let removed = || Message::Removed(Removal::TooLittleMemory);
    for message in [extras(), removed()] {
        assert_eq!(reason(sender(false).on_control(message, ZERO)), Reason::Protocol, "it was not asked to");
    }
    let mut walking = Sender::new(CHUNK_LOG2, PATIENCE, ZERO).removing(true);
    assert_eq!(reason(walking.on_control(extras(), ZERO)), Reason::Protocol, "the walk goes on");
    let mut many = sender(true);
    for _ in 0..EXTRAS_OPEN_MAX {
        many.on_control(extras(), ZERO).unwrap();
    }
    assert_eq!(reason(many.on_control(removed(), ZERO)), Reason::Protocol, "it has not been answered");
    assert_eq!(reason(many.on_control(extras(), ZERO)), Reason::Protocol, "too many");
    let mut silent = sender(true);
    assert_eq!(reason(silent.on_control(FINISHED, ZERO)), Reason::Protocol, "how did it end?");
    silent.on_control(removed(), ZERO).unwrap();
    assert_eq!(reason(silent.on_control(extras(), ZERO)), Reason::Protocol, "it has ended");
    silent.on_control(FINISHED, ZERO).unwrap();
    assert_eq!(silent.finished().unwrap().removal, Some(Removal::TooLittleMemory));
}

#[test]
fn a_directory_with_something_that_stays_has_to_stay() {
    let mut sender = sender(true);
    let names = [
        ("d/a/x", false, true),
        ("d/a/y", false, false),
        ("d/a", true, true),
        ("d/b/x", false, true),
        ("d/b", true, true),
        ("d", true, true),
        ("e", true, true),
    ];
    let extras = names.iter().map(|(name, is_dir, _)| (path(name), *is_dir)).collect();
    sender.on_control(Message::Extras(extras), ZERO).unwrap();
    assert!(matches!(sender.poll(), Some(SenderAction::Judge(_))));
    let lacking: Vec<_> = names.iter().map(|(_, _, lacks)| *lacks).collect();
    let removed = sender.judged(&lacking);
    let removed: Vec<_> = removed.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(removed, ["d/a/x", "d/b/x", "d/b", "e"]);
    assert_eq!(sender.poll(), Some(SenderAction::Control(Message::Verdict(0b101_1001))));
}
