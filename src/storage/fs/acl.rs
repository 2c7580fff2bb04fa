//! POSIX ACLs as Linux keeps them: the value of an extended attribute of its own, version 2.

use super::ids::Ids;
use crate::protocol::wire::attributes::{Acl, AclEntry, AclWho};

/// The attribute with the ACL of an entry.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a directory with the ACL that its entries get.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// The number of an entry that has none.
const NOBODY: u32 = u32::MAX;

/// The ACL of a value; with the names of users and groups if `is_named`. `None` if it is of another format.
pub(super) fn read(value: &[u8], ids: &Ids, is_named: bool) -> Option<Acl> {
    let entries = value.strip_prefix(&VERSION.to_le_bytes())?.chunks_exact(ENTRY_BYTES);
    if !entries.remainder().is_empty() {
        return None;
    }
    let read = |entry: &[u8]| {
        let number = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let who = match number(0) {
            OWNER => AclWho::Owner,
            USER => AclWho::User(ids.user(id, is_named)?),
            OWNING_GROUP => AclWho::OwningGroup,
            GROUP => AclWho::Group(ids.group(id, is_named)?),
            MASK => AclWho::Mask,
            OTHER => AclWho::Other,
            _ => return None,
        };
        let permissions = u8::try_from(number(2)).ok().filter(|permissions| *permissions <= 7)?;
        Some(AclEntry { who, permissions })
    };
    entries.map(read).collect::<Option<Vec<_>>>().map(Acl)
}

/// The value of an ACL here, in the order that the system has. `None` if a name cannot be looked up.
pub(super) fn value(acl: &Acl, ids: &Ids) -> Option<Vec<u8>> {
    let entry = |entry: &AclEntry| {
        let (tag, id) = match &entry.who {
            AclWho::Owner => (OWNER, NOBODY),
            AclWho::User(user) => (USER, ids.local_user(user)?),
            AclWho::OwningGroup => (OWNING_GROUP, NOBODY),
            AclWho::Group(group) => (GROUP, ids.local_group(group)?),
            AclWho::Mask => (MASK, NOBODY),
            AclWho::Other => (OTHER, NOBODY),
        };
        Some((tag, id, entry.permissions))
    };
    let mut entries: Vec<_> = acl.0.iter().map(entry).collect::<Option<_>>()?;
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(u16::from(permissions).to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    Some(value)
}

/// The permissions that the owning group has with an ACL. The mode of the entry shows those of the mask.
pub(super) fn of_group(acl: &Acl) -> u32 {
    let of = |who: AclWho| acl.0.iter().find(|entry| entry.who == who).map(|entry| entry.permissions);
    u32::from(of(AclWho::OwningGroup).unwrap_or(0) & of(AclWho::Mask).unwrap_or(7))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::attributes::Principal;

    #[test]
    fn an_acl_is_read_and_written_and_its_numbers_are_those_of_the_names_here() {
        let ids = Ids::default();
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let version = VERSION.to_le_bytes();
        let there = [
            &version[..],
            &entry(OWNER, 6, NOBODY),
            &entry(USER, 7, 0),
            &entry(USER, 4, 4711),
            &entry(OWNING_GROUP, 4, NOBODY),
            &entry(MASK, 7, NOBODY),
            &entry(OTHER, 0, NOBODY),
        ]
        .concat();
        let acl = read(&there, &ids, true).unwrap();
        assert_eq!(value(&acl, &ids), Some(there.clone()));
        assert_eq!(of_group(&acl), 4);
        let Acl(mut entries) = acl;
        assert_eq!(entries[1].who, AclWho::User(Principal::new(0, Some("root".into())).unwrap()));
        // Elsewhere root has another number, after that of the other user.
        entries[1].who = AclWho::User(Principal::new(9999, Some("root".into())).unwrap());
        entries.swap(1, 2);
        assert_eq!(value(&Acl(entries), &ids), Some(there.clone()));
        for (value, why) in [
            (&there[..there.len() - 1], "cut"),
            (&b"\x01\0\0\0"[..], "another version"),
            (&[&version[..], &entry(OWNER, 8, NOBODY)].concat(), "permissions"),
            (&[&version[..], &entry(0x40, 7, NOBODY)].concat(), "tag"),
        ] {
            assert_eq!(read(value, &ids, false), None, "{why}");
        }
    }
}
