//! Names and numbers of users and groups on this machine.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};

use crate::protocol::wire::attributes::Principal;

/// Answers of the system that are kept. Each may cost a request to a server.
const KNOWN_MAX: usize = 1024;

/// Users and groups, looked up once each.
#[derive(Default)]
pub(super) struct Ids {
    user_names: Known<u32, Option<String>>,
    group_names: Known<u32, Option<String>>,
    users: Known<String, Option<u32>>,
    groups: Known<String, Option<u32>>,
}

/// Answers, forgotten together when there are too many.
struct Known<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Known<K, Option<V>> {
    /// What the system knows of `key`. A failure is not kept: the next question may get an answer.
    fn get(&self, key: &K, ask: impl FnOnce(&K) -> nix::Result<Option<V>>) -> nix::Result<Option<V>> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = known().get(key) {
            return Ok(value.clone());
        }
        let value = match ask(key) {
            // Some systems say so of what they do not know.
            Err(Errno::ENOENT | Errno::ESRCH) => None,
            value => value?,
        };
        let mut known = known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key.clone(), value.clone());
        Ok(value)
    }
}

impl Ids {
    /// A user for the receiver; `None` for the number that stands for none.
    pub(super) fn user(&self, id: u32, is_named: bool) -> Option<Principal> {
        let ask = |id: &u32| Ok(User::from_uid(Uid::from_raw(*id))?.map(|user| user.name));
        Principal::new(id, if is_named { self.user_names.get(&id, ask).ok().flatten() } else { None })
    }

    /// The same for a group.
    pub(super) fn group(&self, id: u32, is_named: bool) -> Option<Principal> {
        let ask = |id: &u32| Ok(Group::from_gid(Gid::from_raw(*id))?.map(|group| group.name));
        Principal::new(id, if is_named { self.group_names.get(&id, ask).ok().flatten() } else { None })
    }

    /// The number of a user here: that of the name, or the same as at the sender if nobody has that name. `None` if the
    /// system cannot say: the number may be somebody else's.
    pub(super) fn local_user(&self, user: &Principal) -> Option<u32> {
        let ask = |name: &String| Ok(User::from_name(name)?.map(|user| user.uid.as_raw()));
        let known = user.name.as_ref().map_or(Ok(None), |name| self.users.get(name, ask));
        known.ok().map(|known| known.unwrap_or(user.id))
    }

    /// The same for a group.
    pub(super) fn local_group(&self, group: &Principal) -> Option<u32> {
        let ask = |name: &String| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()));
        let known = group.name.as_ref().map_or(Ok(None), |name| self.groups.get(name, ask));
        known.ok().map(|known| known.unwrap_or(group.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_before_a_number_where_it_is_known() {
        let ids = Ids::default();
        assert_eq!(ids.user(0, true), Principal::new(0, Some("root".into())));
        assert_eq!(ids.group(0, false), Principal::new(0, None));
        assert_eq!(ids.user(u32::MAX, true), None);
        let principal = |id, name: &str| Principal::new(id, Some(name.to_owned())).unwrap();
        assert_eq!(ids.local_user(&principal(77_777, "root")), Some(0));
        assert_eq!(ids.local_group(&principal(77_777, "root")), Some(0));
        assert_eq!(ids.local_user(&principal(77_777, "nobody-has-this-name")), Some(77_777));
        assert_eq!(ids.local_group(&Principal::new(77_778, None).unwrap()), Some(77_778));
        // A question that fails is asked again.
        let (known, key) = (Known::<u32, Option<u32>>::default(), 1);
        assert_eq!(known.get(&key, |_| Err(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(known.get(&key, |_| Ok(Some(5))), Ok(Some(5)));
        assert_eq!(known.get(&key, |_| Err(Errno::EIO)), Ok(Some(5)));
    }
}
