//! Attributes of an entry beyond its permission bits and time. They travel only when the sender is asked to keep them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::wire::codec::{CodecError, Fields, put_bytes, put_varint};
use crate::protocol::wire::limits::{
    ACL_ENTRIES_MAX, ATTRIBUTE_BYTES_MAX, ATTRIBUTES_INLINE_BYTES_MAX, OWNER_NAME_BYTES_MAX,
    XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_MAX,
};

/// Bytes of attributes in one message of their own.
const PIECE_BYTES: usize = 12 * 1024;
/// Memory that an extended attribute or an entry of an ACL takes beside its bytes.
const OVERHEAD_BYTES: usize = 128;

const HAS_OWNER: u8 = 1;
const HAS_SPECIAL_BITS: u8 = 2;
const HAS_ACLS: u8 = 4;
const HAS_XATTRS: u8 = 8;
const ALL: u8 = HAS_OWNER | HAS_SPECIAL_BITS | HAS_ACLS | HAS_XATTRS;

/// The attributes that the sender was asked to keep; `None` for the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Who owns it.
    pub owner: Option<Owner>,
    /// Set-user-id (4), set-group-id (2) and sticky (1).
    pub special_bits: Option<u8>,
    /// POSIX ACLs.
    pub acls: Option<Acls>,
    /// All extended attributes, in the order of their names.
    pub xattrs: Option<Xattrs>,
}

/// User and group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Principal,
    /// The group.
    pub group: Principal,
}

/// A user or a group: the number at the sender, and the name if the receiver shall look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The number; never `u32::MAX`, which means "none" to the system.
    pub id: u32,
    /// The name, 1 to 255 bytes.
    pub name: Option<String>,
}

/// The POSIX ACLs of an entry, as far as it has any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acls {
    /// Who may access it.
    pub access: Option<Acl>,
    /// What entries get that are made in it.
    pub default: Option<Acl>,
}

/// One POSIX ACL, in the order of the system. Whether it makes sense is for the system to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl(pub Vec<AclEntry>);

/// One line of an ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclEntry {
    /// Whom it is about.
    pub who: AclWho,
    /// Read (4), write (2), execute (1).
    pub permissions: u8,
}

/// Whom a line of an ACL is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclWho {
    /// The owner.
    Owner,
    /// A user.
    User(Principal),
    /// The group of the owner.
    OwningGroup,
    /// A group.
    Group(Principal),
    /// The most that users and groups get.
    Mask,
    /// Everybody else.
    Other,
}

/// Extended attributes, in the order of their names, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Xattrs(Vec<Xattr>);

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Its name.
    pub name: XattrName,
    /// Its value.
    pub value: Bytes,
}

/// How the names begin under which XFS shows ACLs once more.
const ACLS_OF_XFS: &[u8] = b"trusted.SGI_ACL_";

/// The name of an extended attribute in the space `user.`, `security.` or `trusted.`, as Linux allows it. Those that
/// stand for an ACL are none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct XattrName(Bytes);

impl XattrName {
    /// `None` if it is none that travels: of another space, too long, or with a NUL.
    pub fn new(name: &[u8]) -> Option<Self> {
        let spaces: [&[u8]; 3] = [b"user.", b"security.", b"trusted."];
        let is_known =
            spaces.iter().any(|space| name.strip_prefix(*space).is_some_and(|rest| !rest.is_empty()));
        let is_own = is_known && !name.starts_with(ACLS_OF_XFS);
        let is_valid = is_own && name.len() <= XATTR_NAME_BYTES_MAX && !name.contains(&0);
        is_valid.then(|| Self(Bytes::copy_from_slice(name)))
    }

    /// The whole name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has a meaning for the system, so that not everybody may set it.
    pub fn is_privileged(&self) -> bool {
        !self.0.starts_with(b"user.")
    }
}

impl Xattrs {
    /// Puts them in order. `None` if there are too many, a value is too long, or a name comes twice.
    pub fn new(mut list: Vec<Xattr>) -> Option<Self> {
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let is_sound = list.len() <= XATTRS_MAX
            && list.windows(2).all(|two| two[0].name < two[1].name)
            && list.iter().all(|one| one.value.len() <= XATTR_VALUE_BYTES_MAX);
        is_sound.then_some(Self(list))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Xattr> {
        self.0.iter()
    }

    /// The value under `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Bytes> {
        let at = self.0.binary_search_by(|one| one.name.as_bytes().cmp(name)).ok()?;
        Some(&self.0[at].value)
    }
}

impl Principal {
    /// One with this number; `None` for the number that means "none". A name that is too long is left out.
    pub fn new(id: u32, name: Option<String>) -> Option<Self> {
        let name = name.filter(|name| is_name(name.as_bytes()));
        (id != u32::MAX).then_some(Self { id, name })
    }
}

fn is_name(name: &[u8]) -> bool {
    (1..=OWNER_NAME_BYTES_MAX).contains(&name.len()) && !name.contains(&0)
}

impl Attributes {
    /// Bytes of memory, about: their share of what open entries may take.
    pub fn memory_bytes(&self) -> usize {
        let acl = |acl: &Option<Acl>| acl.as_ref().map_or(0, |acl| acl.0.len() * OVERHEAD_BYTES);
        let acls = self.acls.as_ref().map_or(0, |acls| acl(&acls.access) + acl(&acls.default));
        let xattr = |one: &Xattr| one.name.0.len() + one.value.len() + OVERHEAD_BYTES;
        let xattrs: usize = self.xattrs.iter().flat_map(Xattrs::iter).map(xattr).sum();
        OVERHEAD_BYTES + acls + xattrs
    }

    /// The bytes on the wire.
    pub fn encoded(&self) -> Bytes {
        let mut out = BytesMut::new();
        let flag = |is_there: bool, flag| if is_there { flag } else { 0 };
        out.put_u8(
            flag(self.owner.is_some(), HAS_OWNER)
                | flag(self.special_bits.is_some(), HAS_SPECIAL_BITS)
                | flag(self.acls.is_some(), HAS_ACLS)
                | flag(self.xattrs.is_some(), HAS_XATTRS),
        );
        if let Some(Owner { user, group }) = &self.owner {
            put_principal(&mut out, user);
            put_principal(&mut out, group);
        }
        if let Some(bits) = self.special_bits {
            out.put_u8(bits);
        }
        if let Some(Acls { access, default }) = &self.acls {
            put_acl(&mut out, access.as_ref());
            put_acl(&mut out, default.as_ref());
        }
        if let Some(Xattrs(list)) = &self.xattrs {
            put_varint(&mut out, list.len() as u64);
            for Xattr { name, value } in list {
                put_bytes(&mut out, name.as_bytes());
                put_bytes(&mut out, value);
            }
        }
        out.freeze()
    }

    /// The attributes of these bytes. Extensions of a newer peer may follow.
    pub fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        if bytes.len() > ATTRIBUTE_BYTES_MAX {
            return Err(CodecError::TooLarge("attributes"));
        }
        let mut fields = Fields(bytes);
        let flags = fields.u8()?;
        if flags & !ALL != 0 {
            return Err(CodecError::BadValue("attributes"));
        }
        let mut attributes = Self::default();
        if flags & HAS_OWNER != 0 {
            let (user, group) = (principal(&mut fields)?, principal(&mut fields)?);
            attributes.owner = Some(Owner { user, group });
        }
        if flags & HAS_SPECIAL_BITS != 0 {
            let bits = fields.u8()?;
            attributes.special_bits = Some(bits);
            if bits > 7 {
                return Err(CodecError::BadValue("set-id bits"));
            }
        }
        if flags & HAS_ACLS != 0 {
            attributes.acls = Some(Acls { access: acl(&mut fields)?, default: acl(&mut fields)? });
        }
        if flags & HAS_XATTRS != 0 {
            attributes.xattrs = Some(xattrs(&mut fields)?);
        }
        fields.skip_extensions()?;
        Ok(attributes)
    }

    /// The bytes that go into the entry itself; `None` if they are too many, so that they precede it.
    pub(super) fn inline(&self) -> Option<Bytes> {
        Some(self.encoded()).filter(|bytes| bytes.len() <= ATTRIBUTES_INLINE_BYTES_MAX)
    }

    /// What precedes the entry, each in a message of its own, if the attributes do not fit into it.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> + use<> {
        let mut rest = Some(self.encoded()).filter(|bytes| bytes.len() > ATTRIBUTES_INLINE_BYTES_MAX);
        std::iter::from_fn(move || {
            let bytes = rest.as_mut().filter(|bytes| !bytes.is_empty())?;
            Some(bytes.split_to(bytes.len().min(PIECE_BYTES)))
        })
    }
}

fn put_principal(out: &mut BytesMut, principal: &Principal) {
    put_varint(out, u64::from(principal.id));
    put_bytes(out, principal.name.as_deref().unwrap_or_default().as_bytes());
}

fn principal(fields: &mut Fields<Bytes>) -> Result<Principal, CodecError> {
    let id = fields.varint_up_to(u64::from(u32::MAX) - 1, "owner")?;
    let id = u32::try_from(id).map_err(|_| CodecError::TooLarge("owner"))?;
    let name = fields.bytes(OWNER_NAME_BYTES_MAX, "name of an owner")?;
    let name = match String::from_utf8(name.into()) {
        Ok(name) if name.is_empty() => None,
        Ok(name) if is_name(name.as_bytes()) => Some(name),
        _ => return Err(CodecError::BadValue("name of an owner")),
    };
    Ok(Principal { id, name })
}

fn put_acl(out: &mut BytesMut, acl: Option<&Acl>) {
    let entries = acl.map(|acl| &acl.0[..]).unwrap_or_default();
    put_varint(out, entries.len() as u64);
    for AclEntry { who, permissions } in entries {
        out.put_u8(match who {
            AclWho::Owner => 0,
            AclWho::User(_) => 1,
            AclWho::OwningGroup => 2,
            AclWho::Group(_) => 3,
            AclWho::Mask => 4,
            AclWho::Other => 5,
        });
        out.put_u8(*permissions);
        if let AclWho::User(principal) | AclWho::Group(principal) = who {
            put_principal(out, principal);
        }
    }
}

fn acl(fields: &mut Fields<Bytes>) -> Result<Option<Acl>, CodecError> {
    let count = fields.varint_up_to(ACL_ENTRIES_MAX as u64, "entries of an ACL")?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (tag, permissions) = (fields.u8()?, fields.u8()?);
        let who = match tag {
            0 => AclWho::Owner,
            1 => AclWho::User(principal(fields)?),
            2 => AclWho::OwningGroup,
            3 => AclWho::Group(principal(fields)?),
            4 => AclWho::Mask,
            5 => AclWho::Other,
            _ => return Err(CodecError::BadValue("entry of an ACL")),
        };
        if permissions > 7 {
            return Err(CodecError::BadValue("entry of an ACL"));
        }
        entries.push(AclEntry { who, permissions });
    }
    Ok((!entries.is_empty()).then_some(Acl(entries)))
}

fn xattrs(fields: &mut Fields<Bytes>) -> Result<Xattrs, CodecError> {
    let count = fields.varint_up_to(XATTRS_MAX as u64, "extended attributes")?;
    let mut list: Vec<Xattr> = Vec::new();
    for _ in 0..count {
        let name = fields.bytes(XATTR_NAME_BYTES_MAX, "name of an extended attribute")?;
        let name = XattrName::new(&name).ok_or(CodecError::BadValue("name of an extended attribute"))?;
        if list.last().is_some_and(|last| last.name >= name) {
            return Err(CodecError::BadValue("order of extended attributes"));
        }
        list.push(Xattr { name, value: fields.bytes(XATTR_VALUE_BYTES_MAX, "extended attribute")? });
    }
    Ok(Xattrs(list))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_principal() -> impl Strategy<Value = Principal> {
        (0..u32::MAX, prop::option::of("[a-zü]{1,20}")).prop_map(|(id, name)| Principal { id, name })
    }

    fn any_acl() -> impl Strategy<Value = Option<Acl>> {
        let who = prop_oneof![
            Just(AclWho::Owner),
            any_principal().prop_map(AclWho::User),
            Just(AclWho::OwningGroup),
            any_principal().prop_map(AclWho::Group),
            Just(AclWho::Mask),
            Just(AclWho::Other),
        ];
        let entry = (who, 0u8..8).prop_map(|(who, permissions)| AclEntry { who, permissions });
        prop::option::of(prop::collection::vec(entry, 1..6).prop_map(Acl))
    }

    fn any_xattrs() -> impl Strategy<Value = Xattrs> {
        let name = "(user|security|trusted)\\.[a-z.]{1,30}";
        prop::collection::btree_map(name, prop::collection::vec(any::<u8>(), 0..3000), 0..8).prop_map(|map| {
            let one = |(name, value): (String, Vec<u8>)| Xattr {
                name: XattrName::new(name.as_bytes()).unwrap(),
                value: value.into(),
            };
            Xattrs::new(map.into_iter().map(one).collect()).unwrap()
        })
    }

    fn any_attributes() -> impl Strategy<Value = Attributes> {
        let owner = (any_principal(), any_principal()).prop_map(|(user, group)| Owner { user, group });
        let acls = (any_acl(), any_acl()).prop_map(|(access, default)| Acls { access, default });
        (
            prop::option::of(owner),
            prop::option::of(0u8..8),
            prop::option::of(acls),
            prop::option::of(any_xattrs()),
        )
            .prop_map(|(owner, special_bits, acls, xattrs)| Attributes {
                owner,
                special_bits,
                acls,
                xattrs,
            })
    }

    proptest! {
        #[test]
        fn attributes_come_back_in_one_message_or_several(attributes in any_attributes()) {
            prop_assert_eq!(Attributes::decode(attributes.encoded()), Ok(attributes.clone()));
            let pieces: Vec<Bytes> = attributes.pieces().collect();
            prop_assert_eq!(pieces.is_empty(), attributes.inline().is_some());
            if !pieces.is_empty() {
                prop_assert_eq!(Attributes::decode(pieces.concat().into()), Ok(attributes));
            }
        }

        #[test]
        fn any_bytes_are_attributes_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(attributes) = Attributes::decode(bytes.into()) {
                prop_assert_eq!(Attributes::decode(attributes.encoded()), Ok(attributes));
            }
        }
    }

    #[test]
    fn the_layout_of_attributes_is_pinned() {
        let principal = |id, name: &str| Principal::new(id, Some(name.to_owned())).unwrap();
        let name = XattrName::new(b"user.a").unwrap();
        let attributes = Attributes {
            owner: Some(Owner { user: principal(1000, "me"), group: principal(0, "") }),
            special_bits: Some(6),
            acls: Some(Acls {
                access: Some(Acl(vec![AclEntry { who: AclWho::User(principal(5, "u")), permissions: 7 }])),
                default: None,
            }),
            xattrs: Xattrs::new(vec![Xattr { name, value: Bytes::from_static(b"xy") }]),
        };
        let bytes: String = attributes.encoded().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            bytes,
            [
                "0f",
                "43e8026d65",
                "0000",
                "06",
                "01",
                "01",
                "07",
                "050175",
                "00",
                "01",
                "06757365722e61",
                "027879"
            ]
            .concat()
        );
    }

    ///
    #[test]
    fn attack_14_attributes_that_are_none() {
        let xattr = |name: &[u8]| {
            let mut out = BytesMut::from(&[HAS_XATTRS, 1][..]);
            put_bytes(&mut out, name);
            put_bytes(&mut out, b"");
            Attributes::decode(out.freeze())
        };
        assert!(xattr(b"user.a").is_ok() && xattr(&[b"user.", &[b'a'; 250][..]].concat()).is_ok());
        let long = [b"user.", &[b'a'; 295][..]].concat();
        assert_eq!(xattr(&long), Err(CodecError::TooLarge("name of an extended attribute")));
        for name in [
            &b""[..],
            b"user.",
            b"user",
            b"trusted.SGI_ACL_FILE",
            b"system.posix_acl_access",
            b"btrfs.compression",
            b"user.a\0b",
        ] {
            assert_eq!(xattr(name), Err(CodecError::BadValue("name of an extended attribute")), "{name:?}");
        }
        let twice = [&[HAS_XATTRS, 2][..], b"\x06user.a\0\x06user.a\0"].concat();
        let order = CodecError::BadValue("order of extended attributes");
        assert_eq!(Attributes::decode(twice.into()), Err(order));
        for (bytes, error) in [
            (&[HAS_SPECIAL_BITS, 8][..], CodecError::BadValue("set-id bits")),
            (&[16], CodecError::BadValue("attributes")),
            (&[HAS_OWNER, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], CodecError::TooLarge("owner")),
            (&[HAS_OWNER, 0, 1, 0, 0, 0], CodecError::BadValue("name of an owner")),
            (&[HAS_ACLS, 1, 6, 0], CodecError::BadValue("entry of an ACL")),
            (&[HAS_ACLS, 1, 0, 8], CodecError::BadValue("entry of an ACL")),
            (&[HAS_ACLS, 0x7f, 0xff, 0], CodecError::TooLarge("entries of an ACL")),
            (&[HAS_XATTRS, 0x7f, 0xff], CodecError::TooLarge("extended attributes")),
        ] {
            assert_eq!(Attributes::decode(Bytes::copy_from_slice(bytes)), Err(error), "{bytes:?}");
        }
    }
}
