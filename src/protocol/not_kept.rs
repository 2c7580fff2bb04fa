//! Attributes that a receiver's file system does not keep. The content is complete, only the attribute is missing.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::wire::codec::{CodecError, Fields, put_text, put_varint};
use crate::protocol::wire::limits::{NOT_KEPT_MAX, TEXT_BYTES_MAX};

/// An attribute that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Aspect {
    /// An attribute known only to a newer peer.
    Other = 0,
    /// Permission bits.
    Mode = 1,
    /// Modification times.
    Time = 2,
    /// Symbolic links, which are missing entirely.
    Link = 3,
    /// Syncs: a power failure may lose the content.
    Sync = 4,
    /// Names: they were taken while a set got its names, and the entries are beside them.
    Name = 5,
    /// Owners and groups.
    Owner = 6,
    /// Set-id and sticky bits.
    SpecialBits = 7,
    /// Extended attributes.
    Xattr = 8,
    /// POSIX ACLs.
    Acl = 9,
}

impl Aspect {
    /// All aspects.
    pub const ALL: [Self; 10] = [
        Self::Other,
        Self::Mode,
        Self::Time,
        Self::Link,
        Self::Sync,
        Self::Name,
        Self::Owner,
        Self::SpecialBits,
        Self::Xattr,
        Self::Acl,
    ];

    /// The number on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The aspect of a number.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|aspect| aspect.code() == code).unwrap_or(Self::Other)
    }

    /// A stable word for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Mode => "mode",
            Self::Time => "time",
            Self::Link => "link",
            Self::Sync => "sync",
            Self::Name => "name",
            Self::Owner => "owner",
            Self::SpecialBits => "special-bits",
            Self::Xattr => "xattr",
            Self::Acl => "acl",
        }
    }
}

/// One aspect that was not kept, for how many entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotKept {
    /// The aspect.
    pub aspect: Aspect,
    /// Number of entries concerned.
    pub count: u64,
    /// The path of one of them, under the target directory; safe to print.
    pub path: String,
    /// The system's error for that one; safe to print.
    pub cause: String,
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = if self.count == 1 { "entry" } else { "entries" };
        let Self { count, path, cause, .. } = self;
        match self.aspect {
            Aspect::Other => write!(f, "the receiver did not keep everything about {count} {entries}"),
            Aspect::Mode => write!(f, "the receiver could not set the permissions of {count} {entries}"),
            Aspect::Time => write!(f, "the receiver could not set the time of {count} {entries}"),
            Aspect::Link if self.count == 1 => write!(f, "the receiver could not make 1 symbolic link"),
            Aspect::Link => write!(f, "the receiver could not make {count} symbolic links"),
            Aspect::Sync => write!(
                f,
                "the receiver could not sync {count} {entries}; a power failure there can lose them"
            ),
            Aspect::Owner => write!(f, "the receiver could not set the owner of {count} {entries}"),
            Aspect::SpecialBits => {
                write!(f, "the receiver could not set the set-id or sticky bits of {count} {entries}")
            }
            Aspect::Xattr => {
                write!(f, "the receiver could not set all extended attributes of {count} {entries}")
            }
            Aspect::Acl => write!(f, "the receiver could not set the ACL of {count} {entries}"),
            Aspect::Name => write!(
                f,
                "the receiver found the names of {count} {entries} taken in the end, and saved them beside"
            ),
        }?;
        match self.count {
            1 => write!(f, ": {path}: {cause}"),
            _ => write!(f, ", such as {path}: {cause}"),
        }
    }
}

/// Counts one more entry; the first one of each aspect becomes the example.
pub fn note(list: &mut Vec<NotKept>, aspect: Aspect, path: &str, cause: impl fmt::Display) {
    if let Some(known) = list.iter_mut().find(|known| known.aspect == aspect) {
        known.count += 1;
        return;
    }
    list.push(NotKept { aspect, count: 1, path: shortened(path), cause: cause.to_string() });
    list.sort_by_key(|one| one.aspect);
}

/// Appends the list to a message.
pub(super) fn put(out: &mut BytesMut, not_kept: &[NotKept]) {
    let not_kept = &not_kept[..not_kept.len().min(NOT_KEPT_MAX)];
    put_varint(out, not_kept.len() as u64);
    for one in not_kept {
        out.put_u8(one.aspect.code());
        put_varint(out, one.count);
        put_text(out, &one.path);
        put_text(out, &one.cause);
    }
}

/// Takes the list out of a message.
pub(super) fn get(fields: &mut Fields<Bytes>) -> Result<Vec<NotKept>, CodecError> {
    let len = fields.varint_up_to(NOT_KEPT_MAX as u64, "aspects not kept")?;
    let one = |_| {
        let (aspect, count) = (Aspect::from_code(fields.u8()?), fields.varint()?);
        Ok(NotKept { aspect, count, path: fields.text()?, cause: fields.text()? })
    };
    (0..len).map(one).collect()
}

/// Limits a text in a message. The end of a path says more than its beginning, so the beginning is cut.
fn shortened(path: &str) -> String {
    let mut at = path.len().saturating_sub(TEXT_BYTES_MAX - 3);
    if at == 0 {
        return path.to_owned();
    }
    while !path.is_char_boundary(at) {
        at += 1;
    }
    format!("...{}", &path[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_for_each_aspect_with_a_count_and_an_example() {
        let mut list = Vec::new();
        note(&mut list, Aspect::Time, "a/b", "not permitted");
        for path in ["l", "m"] {
            note(&mut list, Aspect::Link, path, "not supported");
        }
        note(&mut list, Aspect::Mode, "c", "no");
        let said: Vec<_> = list.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "the receiver could not set the permissions of 1 entry: c: no",
                "the receiver could not set the time of 1 entry: a/b: not permitted",
                "the receiver could not make 2 symbolic links, such as l: not supported",
            ]
        );
    }

    #[test]
    fn codes_come_back_and_unknown_ones_are_other() {
        for aspect in Aspect::ALL {
            assert_eq!(Aspect::from_code(aspect.code()), aspect);
        }
        assert_eq!(Aspect::from_code(255), Aspect::Other);
    }

    #[test]
    fn a_long_path_is_cut_at_its_front() {
        let path = format!("{}/end", "ü".repeat(600));
        let short = shortened(&path);
        assert!(short.len() <= TEXT_BYTES_MAX && short.starts_with("...") && short.ends_with("/end"));
    }
}
