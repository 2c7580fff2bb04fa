//! What precedes an entry in the manifest, and entries that cannot be in it.

use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, Meta};
use crate::protocol::wire::limits::FILE_BYTES_MAX;
use crate::protocol::wire::message::Message;
use crate::session::outbox::Outbox;

/// Sends the attributes that do not fit into the message of their entry.
pub(super) fn send_attributes(manifest: &Outbox, meta: &Meta) {
    let pieces = meta.attributes.iter().flat_map(|attributes| attributes.pieces());
    pieces.for_each(|piece| manifest.send(&Message::Attributes(piece)));
}

/// Sends what the target directory itself gets.
pub(super) fn send_top(manifest: &Outbox, meta: Meta) {
    send_attributes(manifest, &meta);
    manifest.send(&Message::Top(meta));
}

/// Why an entry cannot be sent, if it is too large.
pub(super) fn too_large(entry: &Entry) -> Option<Failure> {
    let sentence = |path: &str| format!("{path} is larger than {FILE_BYTES_MAX} bytes");
    let failure =
        || Failure::about(Side::Sender, Reason::SourceUnreadable, &Place::from(&entry.path), sentence);
    (entry.size() > FILE_BYTES_MAX).then(failure)
}
